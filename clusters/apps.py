"""Django configuration of clusters."""

from django.apps import AppConfig


class ClustersConfig(AppConfig):
    """The destinations of applications."""

    name = "clusters"

    def ready(self) -> None:
        """Register how rules with a scope find clusters."""
        from clusters.models import Cluster
        from hub.access.decisions import find_where_by

        find_where_by(Cluster.where_of)
