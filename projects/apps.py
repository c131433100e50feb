"""Django configuration of projects."""

from django.apps import AppConfig


class ProjectsConfig(AppConfig):
    """Applications, projects and repositories."""

    name = "projects"

    def ready(self) -> None:
        """Register metrics and the cluster lookup of access decisions."""
        from hub.access.decisions import find_where_by
        from projects.metrics import register
        from projects.models import Application

        register()
        find_where_by(Application.where_of)
