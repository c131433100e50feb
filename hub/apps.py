"""Django configuration of the hub's ground."""

import functools

from django.apps import AppConfig


class HubConfig(AppConfig):
    """Accounts, audit, streams and the REST ground."""

    name = "hub"
    label = "hub"

    def ready(self) -> None:
        """Have the OpenAPI extension registered."""
        from allauth.mfa import signals

        from hub import schema  # noqa: F401
        from hub.session import record_factor

        for verb, signal in (
            ("add-factor", signals.authenticator_added),
            ("remove-factor", signals.authenticator_removed),
            ("reset-factor", signals.authenticator_reset),
        ):
            signal.connect(functools.partial(record_factor, verb), weak=False, dispatch_uid=verb)
