"""Pages of clusters: list, register, edit, rotate the credentials, remove."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from appsets.generators.spec_queries import may_change_with_cluster
from appsets.models import ApplicationSet
from clusters.api.clusters import register, require_move, require_register, save, test, wanted
from clusters.kubeconfig import config_of
from clusters.models import Cluster
from hub.access.decisions import Caller, is_allowed, reach, require
from hub.base.yaml_json import load_yaml
from hub.engine.counted import counted
from hub.engine.errors import AccessDenied, Invalid, Precondition
from hub.engine.parsing import parse_digits
from hub.models import current_version
from hub.web.page import Shown, posted, signed_in
from hub.web.state_icons import tone
from projects.access.listing import HEALTH, bars, stale
from projects.access.visibility import visible
from projects.models import Application, Repository


@require_GET
@signed_in
def index(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the clusters that the caller may see, unreachable ones first."""
    version = current_version()
    rows = [
        c
        for c in Cluster.objects.order_by("name")
        if is_allowed(caller, "clusters", "get", c.rbac_object, c.where)
    ]
    words, label = request.GET.get("q", "").strip()[:200], request.GET.get("by", "").strip()[:63]
    counts = _health(caller)
    drifted = dict(
        visible(caller)
        .order_by()
        .filter(sync_status="OutOfSync")
        .values_list("cluster_id")
        .annotate(count=Count("pk"))
    )
    shown = [_entry(c, counts.get(c.pk, {}), drifted.get(c.pk, 0)) for c in rows]
    shown.sort(key=lambda e: (_CONTACT_ORDER[e["contact"]], e["c"].name))
    contact = {w: sum(e["contact"] == w for e in shown) for w in _CONTACT_ORDER}
    listed = [e for e in shown if _fits(e["c"], words)]
    old = visible(caller).filter(stale(timezone.now())).count()
    keys = sorted({k for c in rows for k in c.labels})
    return render(
        request,
        "fleet/index.html",
        {
            "section": "fleet",
            "caller": Shown(caller),
            "version": version,
            "clusters": listed,
            "all": len(shown),
            "total": sum(e["total"] for e in shown),
            "contact": contact,
            "contact_bar": [
                (_TONES[w], x, width) for w, x, width in bars(contact, tuple(_CONTACT_ORDER))
            ],
            "versions": _versions(rows),
            "stale": old,
            "objects": sum(c.resource_count for c in rows),
            "q": words,
            "needs": _needs(caller, shown),
            "groups": _groups(shown, label if label in keys else ""),
            "keys": keys,
            "by": label,
            "may_register": bool(reach(caller, "clusters", "create").allow),
        },
    )


_CONTACT_ORDER = {"Unreachable": 0, "Not watched": 1, "Reading": 2, "Connected": 3}
_TONES = {"Unreachable": "bad", "Not watched": "none", "Reading": "busy", "Connected": "ok"}


def _health(caller: Caller) -> dict[int, dict[str, int]]:
    counts: dict[int, dict[str, int]] = {}
    for entry in (
        visible(caller).order_by().values("cluster_id", "health_status").annotate(count=Count("pk"))
    ):
        counts.setdefault(entry["cluster_id"], {})[entry["health_status"]] = entry["count"]
    return counts


def contact_of(cluster: Cluster) -> str:
    """Return the connection of a cluster: Connected, Reading, Not watched or Unreachable.

    Reading means that its resources are being listed.
    """
    now = timezone.now()
    if cluster.connection == "Failed":
        return "Unreachable"
    if cluster.is_home:
        return "Connected"
    if not (cluster.lease_until and cluster.lease_until > now):
        return "Not watched"
    return "Connected" if cluster.is_synced else "Reading"


def _entry(c: Cluster, counts: Mapping[str, int], drifted: int) -> dict[str, Any]:
    worst = next(
        (w for w in ("Degraded", "Missing", "Unknown", "Progressing") if counts.get(w)), "Healthy"
    )
    contact = contact_of(c)
    is_seen = contact in ("Connected", "Reading")
    shown = [(w, counts[w]) for w in HEALTH if counts.get(w)]
    return {
        "c": c,
        "contact": contact,
        "tone": tone(worst if contact == "Connected" else "") if is_seen else _TONES[contact],
        "summary": ", ".join([f"{c.name}: {contact}", *(f"{n} {w}" for w, n in shown)]),
        "counts": shown,
        "bar": bars(counts, HEALTH, 160.0),
        "total": sum(counts.values()),
        "drifted": drifted,
        "worst": worst if contact == "Connected" else "",
    }


def _fits(cluster: Cluster, words: str) -> bool:
    text = f"{cluster.name} {cluster.server} {cluster.server_version} " + " ".join(
        f"{k}={v}" for k, v in cluster.labels.items()
    )
    return all(w.lower() in text.lower() for w in words.split())


def _versions(rows: Iterable[Cluster]) -> list[tuple[str, int, float, float]]:
    """Return (minor version, clusters, left, width) of each part of a bar, oldest version first."""
    counts: dict[str, int] = {}
    for row in rows:
        if row.server_version:
            minor = ".".join(row.server_version.lstrip("v").split(".")[:2])
            counts[minor] = counts.get(minor, 0) + 1
    order = tuple(sorted(counts, key=lambda v: [parse_digits(p) or 0 for p in v.split(".")]))
    return [(v, counts[v], left, width) for v, left, width in bars(counts, order)]


def _groups(shown: list[dict[str, Any]], label: str) -> list[tuple[str, list[dict[str, Any]]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in sorted(shown, key=lambda e: str(e["c"].name)):
        groups.setdefault(
            str(entry["c"].labels.get(label, f"no {label}")) if label else "All", []
        ).append(entry)
    return sorted(groups.items())


def _needs(caller: Caller, shown: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return what needs attention, each with an action."""
    return [
        *(_cluster_need(e) for e in shown if e["contact"] in ("Unreachable", "Not watched")),
        *_set_needs(caller),
        *_repository_needs(caller),
        *_deletion_needs(caller),
    ]


def _cluster_need(entry: dict[str, Any]) -> dict[str, str]:
    c, is_unreachable = entry["c"], entry["contact"] == "Unreachable"
    old = f"{counted(entry['total'], 'application')} as of the last contact"
    return {
        "icon": "disconnected",
        "tone": "bad",
        "text": f"{c.name} is {'unreachable' if is_unreachable else 'not watched by any worker'}",
        "sub": c.message[:160] or old,
        "url": f"/fleet/{c.pk}",
        "act": "Open",
    }


def _set_needs(caller: Caller) -> Iterator[dict[str, str]]:
    for row in ApplicationSet.objects.exclude(awaits=[]).order_by("name")[:50]:
        if is_allowed(caller, "applicationsets", "get", row.rbac_object):
            yield {
                "icon": "waiting",
                "tone": "held",
                "text": f"Set {row.name} waits for a confirmation",
                "sub": f"it would delete {counted(len(row.awaits), 'application')}",
                "url": f"/sets/{row.namespace}/{row.name}",
                "act": "Review",
            }


def _repository_needs(caller: Caller) -> Iterator[dict[str, str]]:
    for repository in Repository.objects.filter(connection="Failed").order_by("url")[:50]:
        if is_allowed(caller, "repositories", "get", repository.rbac_object):
            yield {
                "icon": "key",
                "tone": "drift",
                "text": f"The connection to {repository.url} failed",
                "sub": repository.message[:160],
                "url": "/repositories",
                "act": "Open",
            }


def _deletion_needs(caller: Caller) -> Iterator[dict[str, str]]:
    deleting = visible(caller).filter(deletion_requested_at__isnull=False)
    for app in deleting.exclude(conditions=[]).order_by("name")[:20]:
        text = next((c["message"] for c in app.conditions if c["type"] == "DeletionError"), "")
        if text:
            yield {
                "icon": "trash",
                "tone": "bad",
                "text": f"The deletion of {app.name} is blocked",
                "sub": text[:160],
                "url": f"/applications/{app.namespace}/{app.name}",
                "act": "Open",
            }


def found(caller: Caller, pk: int, action: str = "get") -> Cluster:
    """Return a cluster that the caller may see, and for which `action` is permitted.

    Raises: Http404 if it is unknown or not visible; AccessDenied.
    """
    row = Cluster.objects.filter(pk=pk).first()
    if row is None or not is_allowed(caller, "clusters", "get", row.rbac_object, row.where):
        raise Http404
    if action != "get":
        require(caller, "clusters", action, row.rbac_object, row.project, row.where)
    return row


def _sets(
    caller: Caller, was: Mapping[str, str] | None, now: Mapping[str, str] | None
) -> list[str]:
    """Return the visible sets that a change of a cluster's labels may affect."""
    rows = ApplicationSet.objects.only("namespace", "name", "project", "spec").order_by("name")
    return [
        r.name
        for r in rows
        if may_change_with_cluster(r.spec, was, now)
        and is_allowed(caller, "applicationsets", "get", r.rbac_object)
    ]


@require_GET
@signed_in
def page(request: HttpRequest, caller: Caller, pk: int) -> HttpResponse:
    """Show one cluster."""
    version = current_version()
    row = found(caller, pk)
    counts = _health(caller).get(row.pk, {})
    return render(
        request,
        "fleet/cluster.html",
        {
            "section": "fleet",
            "caller": Shown(caller),
            "version": version,
            "c": row,
            "e": _entry(
                row, counts, visible(caller).filter(cluster=row, sync_status="OutOfSync").count()
            ),
            "bar": bars(counts, HEALTH),
            "may": {
                a: is_allowed(caller, "clusters", a, row.rbac_object, row.where)
                for a in ("update", "delete")
            },
            "sets": _sets(caller, None, row.labels),
            "kinds": len(row.kinds),
            "how": _how(row.config),
        },
    )


def _how(config: Mapping[str, Any]) -> str:
    if config.get("bearerToken"):
        return "a service-account token"
    if (config.get("tlsClientConfig") or {}).get("certData"):
        return "a client certificate"
    return "a user name and a password" if config.get("username") else "nothing"


@require_GET
@signed_in
def register_page(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the form that registers a cluster."""
    if not reach(caller, "clusters", "create").allow:
        raise Http404
    return render(request, "fleet/register.html", {"section": "fleet", "caller": Shown(caller)})


def _body(fields: Mapping[str, str], labels: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the body of the REST request for a form."""
    given = {k: v.strip() for k, v in fields.items()}
    body: dict[str, Any] = {
        "name": given.get("name", ""),
        "server": given.get("server", ""),
        "config": {},
    }
    if given.get("kubeconfig"):
        pasted = config_of(
            load_yaml(given["kubeconfig"][:200_000], "The kubeconfig"), given.get("context", "")
        )
        body |= {
            "server": pasted["server"],
            "config": pasted["config"],
            "name": given.get("name") or pasted["name"],
        }
    else:
        tls = {"insecure": True} if given.get("insecure") else {"caData": given.get("caData", "")}
        body["config"] = {
            "bearerToken": given.get("bearerToken", ""),
            "tlsClientConfig": {k: v for k, v in tls.items() if v},
        }
    namespaces = [
        n.strip() for n in given.get("namespaces", "").replace(",", "\n").splitlines() if n.strip()
    ]
    body |= {
        "namespaces": namespaces,
        "project": given.get("project", ""),
        "labels": {k: v for k, v in labels if k},
        "clusterResources": bool(given.get("clusterResources")),
    }
    return body


def _labels(request: HttpRequest) -> list[tuple[str, str]]:
    keys, values = (
        request.POST.getlist("label.key")[:100],
        request.POST.getlist("label.value")[:100],
    )
    return [(k.strip(), v.strip()) for k, v in zip(keys, values, strict=False)]


@require_POST
@signed_in
def probe(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Test a connection and show the effect of registering the cluster, without storing it."""
    try:
        body = _body(request.POST.dict(), _labels(request))
        require_register(caller, body)
        draft = wanted(body)
        known = Cluster.objects.filter(server=draft.server).first()
        version = "" if draft.is_home else test(draft)
    except (Invalid, Precondition, AccessDenied) as error:
        return render(request, "fleet/probed.html", {"error": str(error)})
    seen = known is not None and is_allowed(
        caller, "clusters", "get", known.rbac_object, known.where
    )
    return render(
        request,
        "fleet/probed.html",
        {
            "version": version,
            "draft": draft,
            "sets": _sets(caller, None, draft.labels),
            "known": known if seen else None,
        },
    )


@posted
def register_cluster(request: HttpRequest, caller: Caller) -> str:
    """Register the cluster of the form."""
    body = _body(request.POST.dict(), _labels(request))
    require_register(caller, body)
    row = register(caller, wanted(body), upsert="replace" in request.POST)
    return f"/fleet/{row.pk}"


@require_GET
@signed_in
def edit_dialog(request: HttpRequest, caller: Caller, pk: int) -> HttpResponse:
    """Show the form for the name, labels, namespaces and project of a cluster."""
    return render(request, "fleet/edit.html", {"c": found(caller, pk, "update")})


@posted
def change(request: HttpRequest, caller: Caller, pk: int) -> str:
    """Update a cluster; its credentials do not change unless the form has new ones."""
    row = found(caller, pk, "update")
    body = _body({**request.POST.dict(), "server": row.server}, _labels(request))
    has_new = bool(request.POST.get("bearerToken") or request.POST.get("kubeconfig"))
    if body["server"].rstrip("/") != row.server:
        raise Invalid(
            f"The kubeconfig is for {body['server']}, but this cluster is {row.server}. "
            "Register the other cluster separately."
        )
    require_move(caller, row, body)
    draft = wanted(
        {
            **body,
            "name": body["name"] or row.name,
            "config": body["config"] if has_new else {},
            "annotations": row.annotations,
        }
    )
    if not has_new:
        draft.config = row.config
    if not row.is_home:
        draft.server_version = test(draft)
    save(row, draft, caller.name)
    return f"/fleet/{row.pk}"


@require_GET
@signed_in
def rotate_dialog(request: HttpRequest, caller: Caller, pk: int) -> HttpResponse:
    """Show the effect of rotating the credentials of a cluster."""
    return render(request, "fleet/rotate.html", {"c": found(caller, pk, "update")})


@require_GET
@signed_in
def remove_dialog(request: HttpRequest, caller: Caller, pk: int) -> HttpResponse:
    """Show the effect of removing a cluster."""
    row = found(caller, pk, "delete")
    apps = Application.objects.filter(cluster=row)
    seen = visible(caller).filter(cluster=row)
    return render(
        request,
        "fleet/remove.html",
        {
            "c": row,
            "total": apps.count(),
            "shown": list(seen.order_by("name")[:12]),
            "sets": _sets(caller, row.labels, None),
        },
    )
