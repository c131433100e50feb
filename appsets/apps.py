"""Django configuration of application sets."""

from django.apps import AppConfig


class AppsetsConfig(AppConfig):
    """Many applications from one."""

    name = "appsets"

    def ready(self) -> None:
        """Have application sets applied to the hub by an app of apps."""
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
