"""Django configuration of projects."""

from django.apps import AppConfig


class ProjectsConfig(AppConfig):
    """What runs, and what may."""

    name = "projects"
