"""Check that the sources of a new or changed application can be rendered, before it is stored."""

import contextvars
import logging
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from hub.base.read_once import cached_reads
from hub.base.thread_connections import end_of_call
from hub.engine.errors import EngineError, Invalid, RetryLater, Stalled
from projects import sources
from projects.models import Application
from projects.objects.manifests import stamp
from projects.objects.specs import project_of
from projects.refreshing.refresh import ignored_files
from projects.sources.git_remotes import JUST_NOW
from projects.sources.render_queue import REFUSALS

log = logging.getLogger(__name__)

_MAX_THREADS = 8
_UNREADABLE = (
    "RepositoryUnreachable",
    "TokenUnavailable",
    "AuthenticationFailed",
    "AuthenticationRequired",
    "RepositoryNotFound",
    "InvalidCredentials",
)
_threads = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="validation")


def is_same(before: Application, after: Application) -> bool:
    """Return whether two versions of an application render the same manifests."""
    fields = ("source", "sources", "destination", "project")
    return all(before.spec.get(field) == after.spec.get(field) for field in fields)


def require_manifests(application: Application) -> None:
    """Check that the sources of an application can be read and rendered.

    Sets the application's conditions to the warnings about its sources.
    Check the project's limits first. The rendered manifests are cached for the first refresh.
    Units: it takes at most `HUB_VALIDATION_TIMEOUT`; after that, a slow server is read in the
        background, so that a second attempt can use the response.
    Raises: Invalid with the reason.
    """
    seconds = settings.VALIDATION_TIMEOUT.total_seconds()
    context = contextvars.copy_context()
    try:
        problem = _threads.submit(context.run, _problem, application).result(seconds)
    except TookTooLong as error:
        raise Invalid(
            f"application spec for {application.name} is invalid: its sources could not be read "
            f"within {seconds:.0f} s: {_places(application)}. Try again, or save it with "
            "validate=false"
        ) from error
    if problem:
        text = f"InvalidSpecError: {problem}"
        raise Invalid(f"application spec for {application.name} is invalid: {text}")


def _problem(application: Application) -> str:
    try:
        with cached_reads():
            _render(application, timezone.now())
    except RetryLater as error:
        if error.reason in REFUSALS:
            # The project must wait for a renderer, which is not an error of the application.
            log.info("not validated: %s", error, extra={"application": application.name})
            return ""
        return _problem_text(application, error.reason, error.message)
    except Stalled as error:
        return _problem_text(application, error.reason, error.message)
    except (EngineError, Invalid) as error:
        return _problem_text(application, "", str(error))
    finally:
        end_of_call()
    return ""


def _problem_text(application: Application, reason: str, message: str) -> str:
    if reason in _UNREADABLE:
        return f"repository not accessible: {message}"
    return f"Unable to generate manifests in {_places(application)}: {message}"


def _places(application: Application) -> str:
    found = (str(s.get("path") or s.get("chart") or s.get("ref")) for s in application.sources)
    return ", ".join(dict.fromkeys(found))


def _render(application: Application, asked_at: datetime) -> None:
    project = project_of(application.project)
    context = sources.context_of(application, _unsigned(project.spec), application.cluster)

    def at(*, fresh: bool) -> list[str]:
        return [
            sources.resolve(
                s,
                application.project,
                force=fresh,
                since=asked_at if fresh else asked_at - JUST_NOW,
            )
            for s in application.sources
        ]

    revisions: list[str] = []
    try:
        revisions = at(fresh=False)
        desired = sources.load(application.sources, revisions, context)
    except (Stalled, EngineError):
        # The commit may be newer than the last poll of its repository.
        newer = at(fresh=True)
        if newer == revisions:
            raise
        desired = sources.load(application.sources, newer, replace(context, since=asked_at))
    application.conditions = [
        {"type": kind, "message": text, "lastTransitionTime": stamp(asked_at) or ""}
        for kind, text in ignored_files(application, desired, context)
    ]


def _unsigned(spec: dict[str, Any]) -> dict[str, Any]:
    # Signatures are verified at the next refresh: the commit may be signed by then.
    return {k: v for k, v in spec.items() if k not in ("signatureKeys", "sourceIntegrity")}
