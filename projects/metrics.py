"""Prometheus metrics of applications, counted on each scrape."""

from collections.abc import Iterator

from django.db.models import Count
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from projects.models import Application, Operation


class ApplicationCollector(Collector):
    """Applications by sync status and health, and running operations."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metric families."""
        labels = ["project", "sync_status", "health_status"]
        family = GaugeMetricFamily("flotilla_applications", "Applications.", labels=labels)
        columns = ("project", "sync_status", "health_status")
        for row in Application.objects.values(*columns).annotate(count=Count("pk")).order_by():
            family.add_metric([row[c] for c in columns], row["count"])
        yield family
        running = Operation.objects.filter(phase__in=["Running", "Terminating"]).count()
        yield GaugeMetricFamily(
            "flotilla_operations_running", "Operations that run or wait.", value=running
        )

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing, so that the registration queries no database."""
        return []


def register() -> None:
    """Register the metrics."""
    REGISTRY.register(ApplicationCollector())
