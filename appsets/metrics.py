"""Prometheus metrics of application sets, counted at each scrape."""

from collections.abc import Iterator

from django.db.models import Count
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from appsets.models import ApplicationSet, HostBudget
from projects.models import Application


class SetCollector(Collector):
    """Collects sets by state, their applications, and the remaining requests to hosts."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metric families."""
        labels = ["namespace", "name"]
        info = GaugeMetricFamily(
            "argocd_appset_info",
            "Application sets, 1 for each.",
            labels=[*labels, "resource_update_status"],
        )
        owned = GaugeMetricFamily(
            "argocd_appset_owned_applications", "Applications of each set.", labels=labels
        )
        waiting = GaugeMetricFamily(
            "flotilla_appset_deletions_waiting",
            "Deletions that wait for a confirmation.",
            labels=labels,
        )
        counts = {
            (r["namespace"], r["owner"]): r["count"]
            for r in Application.objects.exclude(owner="")
            .values("namespace", "owner")
            .annotate(count=Count("pk"))
            .order_by()
        }
        for row in ApplicationSet.objects.only("namespace", "name", "conditions", "awaits"):
            place = [row.namespace, row.name]
            is_fine = any(
                c["type"] == "ResourcesUpToDate" and c["status"] == "True" for c in row.conditions
            )
            info.add_metric([*place, "ApplicationSetUpToDate" if is_fine else "ErrorOccurred"], 1)
            owned.add_metric(place, counts.get((row.namespace, row.name), 0))
            waiting.add_metric(place, len(row.awaits))
        yield from (info, owned, waiting)
        budget = GaugeMetricFamily(
            "flotilla_host_budget", "Requests that a host may still get now.", labels=["server"]
        )
        servers = HostBudget.objects.exclude(server__contains=" ")
        for server, tokens in servers.values_list("server", "tokens"):
            budget.add_metric([server], tokens)
        yield budget

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing, so that registering does not query the database."""
        return []


def register() -> None:
    """Register the collector for `/metrics`."""
    REGISTRY.register(SetCollector())
