"""Django configuration of the hub's ground."""

from django.apps import AppConfig


class HubConfig(AppConfig):
    """Accounts, audit, streams and the REST ground."""

    name = "hub"
    label = "hub"

    def ready(self) -> None:
        """Have the OpenAPI extension registered."""
        from hub import schema  # noqa: F401
