"""Django configuration of clusters."""

from django.apps import AppConfig


class ClustersConfig(AppConfig):
    """Where things run."""

    name = "clusters"
