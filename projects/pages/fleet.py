"""The page of clusters: contact, versions, what runs there."""

from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from clusters.models import Cluster
from hub.access import Caller, is_allowed
from hub.pages import Shown, signed_in
from projects.pages.listing import HEALTH, bars
from projects.visible import visible


@require_GET
@signed_in
def index(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the clusters that the caller may see, the silent ones first."""
    now = timezone.now()
    rows = [c for c in Cluster.objects.order_by("name") if is_allowed(caller, "clusters", "get", c.rbac_object, c.where)]  # fmt: skip
    counts: dict[int, dict[str, int]] = {}
    found = (
        visible(caller).order_by().values("cluster_id", "health_status").annotate(count=Count("pk"))
    )
    for entry in found:
        counts.setdefault(entry["cluster_id"], {})[entry["health_status"]] = entry["count"]
    drifted = dict(visible(caller).order_by().filter(sync_status="OutOfSync").values_list("cluster_id").annotate(count=Count("pk")))  # fmt: skip
    shown = [
        {"c": c, "counts": [(w, counts.get(c.pk, {}).get(w, 0)) for w in HEALTH if counts.get(c.pk, {}).get(w, 0)], "bar": bars(counts.get(c.pk, {}), HEALTH, 160.0),
         "total": sum(counts.get(c.pk, {}).values()), "drifted": drifted.get(c.pk, 0), "is_watched": c.is_home or bool(c.lease_until and c.lease_until > now and c.is_synced)}
        for c in rows
    ]  # fmt: skip
    shown.sort(key=lambda e: (e["c"].connection == "Successful" and e["is_watched"], e["c"].name))
    silent = sum(not (e["c"].connection == "Successful" and e["is_watched"]) for e in shown)
    return render(request, "fleet/index.html", {"section": "fleet", "caller": Shown(caller), "clusters": shown, "silent": silent, "total": sum(e["total"] for e in shown)})  # fmt: skip
