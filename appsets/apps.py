"""Django configuration of application sets."""

from django.apps import AppConfig


class AppsetsConfig(AppConfig):
    """Many applications from one."""

    name = "appsets"

    def ready(self) -> None:
        """Have application sets applied to the hub by an app of apps."""
        from appsets.home import SERVED
        from appsets.metrics import register
        from projects.home import serve

        serve("ApplicationSet", SERVED)
        register()
