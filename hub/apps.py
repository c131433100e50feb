"""Django configuration of the app `hub`."""

import functools
import resource

from django.apps import AppConfig


class HubConfig(AppConfig):
    """Accounts, audit, streams and the base of the REST surface."""

    name = "hub"
    label = "hub"

    def ready(self) -> None:
        """Register the OpenAPI extension and the Celery application."""
        # A core dump of this process, or of a program that it starts, would contain every secret.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        from allauth.mfa import signals

        # Tasks are queued through this application, in the web process and in the watcher too.
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
