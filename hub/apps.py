"""Django configuration of the hub's ground."""

import functools
import resource

from django.apps import AppConfig


class HubConfig(AppConfig):
    """Accounts, audit, streams and the REST ground."""

    name = "hub"
    label = "hub"

    def ready(self) -> None:
        """Have the OpenAPI extension registered, and the Celery application."""
        # A dump of this memory, or of a program's that it starts, would be a file with every secret.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        from allauth.mfa import signals

        # Who asks workers for something finds the broker by this application, in the web process and the watcher too.
        from hub import celery  # noqa: F401
        from hub.auth.sign_in import record_factor, refuse_factor
        from hub.rest import openapi  # noqa: F401

        for verb, signal in (
            ("add-factor", signals.authenticator_added),
            ("remove-factor", signals.authenticator_removed),
            ("reset-factor", signals.authenticator_reset),
        ):
            signal.connect(functools.partial(record_factor, verb), weak=False, dispatch_uid=verb)
        signals.authentication_failed.connect(refuse_factor, dispatch_uid="wrong-factor")
