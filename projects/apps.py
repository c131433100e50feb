"""Django configuration of projects."""

from django.apps import AppConfig


class ProjectsConfig(AppConfig):
    """What runs, and what may."""

    name = "projects"

    def ready(self) -> None:
        """Have the counts of applications among the metrics."""
        from projects.metrics import register

        register()
