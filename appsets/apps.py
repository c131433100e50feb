"""Django configuration of application sets."""

from django.apps import AppConfig


class AppsetsConfig(AppConfig):
    """Many applications from one."""

    name = "appsets"
