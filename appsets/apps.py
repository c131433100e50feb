"""Django configuration of application sets."""

from django.apps import AppConfig


class AppsetsConfig(AppConfig):
    """Application sets, which generate applications."""

    name = "appsets"

    def ready(self) -> None:
        """Let an app of apps apply application sets to the hub."""
        from appsets.in_cluster import SERVED
        from appsets.metrics import register
        from appsets.models import ApplicationSet
        from projects.destinations.in_cluster import serve
        from projects.live_pages.change_topics import TOPICS, Topic

        serve("ApplicationSet", SERVED)
        TOPICS["sets"] = Topic(
            ApplicationSet,
            "applicationsets",
            "ApplicationSet",
            lambda s: (s.rbac_object, None),
            lambda s: ApplicationSet(namespace=s.namespace, name=s.name, project=s.project),
        )
        register()
