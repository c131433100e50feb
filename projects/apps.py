"""Django configuration of projects."""

from django.apps import AppConfig


class ProjectsConfig(AppConfig):
    """What runs, and what may."""

    name = "projects"

    def ready(self) -> None:
        """Have the counts of applications among the metrics."""
        from hub.access.decisions import find_where_by
        from projects.metrics import register
        from projects.models import Application

        register()
        find_where_by(Application.where_of)
