"""`/api/webhook`: pushes and pull request events, which trigger refreshes at once."""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.utils.datastructures import CaseInsensitiveMapping
from django.views.decorators.csrf import csrf_exempt

from hub.base.request_heads import error_body
from hub.engine.errors import Invalid
from hub.engine.parsing import parse_digits
from hub.engine.strict_json import read_json
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.http.body_sizes import UNSIGNED_WEBHOOK, too_large
from projects import webhook_events
from projects.refreshing.triggers import push_received, registry_pushed
from projects.webhook_events import Event, Image, Pulls, Push

MAX_EVENTS = 1000
"""The maximum number of moved branches read from one body."""


def _refused(message: str, status: int = 400) -> JsonResponse:
    return JsonResponse(error_body(3, message), status=status)


def most_event_bytes(headers: Mapping[str, str]) -> int:
    """Return the maximum length of an event's body, by its headers with lower-case names.

    Long bodies need a secret: a sender with a secret header is authenticated here, one that signs
    bodies must at least send a signature.
    """
    found = CaseInsensitiveMapping(headers)
    try:
        is_proved = _check_headers(_sender_of(found), found)
    except Invalid:
        is_proved = False
    return int(
        settings.MAX_WEBHOOK_BYTES
        if is_proved
        else min(UNSIGNED_WEBHOOK, settings.MAX_WEBHOOK_BYTES)
    )


@csrf_exempt
def webhook(request: HttpRequest) -> JsonResponse:
    """Receive events of git hosts; repositories are polled, and payloads are never trusted."""
    if request.method != "POST":
        return _refused("only POST is taken", 405)
    most = most_event_bytes(request.headers)
    length = parse_digits(request.META.get("CONTENT_LENGTH") or "0")
    if length is None or length > most:
        return _refused(too_large(most, signed_in=True), 413)
    sender = _sender_of(request.headers)
    try:
        _check_headers(sender, request.headers)
        data = request.read(most + 1)
        if len(data) > most:
            return _refused(too_large(most, signed_in=True), 413)
        # The body is read only after the sender is authenticated.
        _check_signature(sender, request.headers, data)
        body = _object(data)
        host = sender or _registry_of(body, request.headers)
        _take(list(islice(_events(host, request.headers, body), MAX_EVENTS + 1)))
    except Invalid as error:
        # GitHub's registry expects 401 for a wrong signature.
        return _refused(str(error), 401 if sender == "ghcr" and isinstance(error, _Forged) else 400)
    return JsonResponse({})


class _Forged(Invalid):
    """The signature is wrong."""


def _object(data: bytes) -> dict[str, Any]:
    body = read_json(data)
    if not isinstance(body, dict):
        raise Invalid("the body must be an object")
    return body


def _take(found: list[Event]) -> None:
    """Wake what the events name.

    Raises: Invalid if they name nothing.
    """
    if not found:
        raise Invalid("Unknown webhook event")
    if any(isinstance(e, Push) and not e.urls for e in found):
        raise Invalid("repository.html_url or repository.clone_url is required")
    pushes = [event for event in found if isinstance(event, Push)]
    if pushes:
        # One query for all, however many branches have moved.
        moved = dict.fromkeys((push.ref, push.commit) for push in pushes)
        others = [("", "")] if len(found) > MAX_EVENTS else []
        push_received({url for push in pushes for url in push.urls}, [*moved, *others])
    for event in dict.fromkeys(found[:MAX_EVENTS]):
        if isinstance(event, Pulls):
            wake(TaskName.APPSETS_PULLS_CHANGED, (event.place,), priority=2)
        elif isinstance(event, Image):
            registry_pushed(event.place, event.tag)


def _sender_of(headers: Mapping[str, str]) -> str:
    """Return the sending host, empty for a registry.

    Gitea and Gogs also set GitHub's header, so they are checked first.
    """
    if headers.get("X-GitHub-Event") in ("package", "registry_package"):
        return "ghcr"
    for header, host in (
        ("X-Vss-Activityid", "azure"),
        ("X-Gitea-Event", "gitea"),
        ("X-Gogs-Event", "gogs"),
        ("X-GitHub-Event", "github"),
        ("X-Gitlab-Event", "gitlab"),
        ("X-Hook-UUID", "bitbucket"),
        ("X-Event-Key", "bitbucket-server"),
    ):
        if headers.get(header):
            return host
    return ""


def _registry_of(body: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """Return the sending registry, by its payload, as registries have no header.

    Raises: Invalid, also if the request has the secret of another one.
    """
    if isinstance(body.get("event_data"), dict) or str(body.get("type", "")).startswith("harbor."):
        found = "harbor"
    elif isinstance(body.get("events"), list) or isinstance(body.get("target"), dict):
        found = "registry"
    else:
        raise Invalid("Unknown webhook event")
    if not _must_equal(_registry_secrets()[found], headers.get("Authorization", "")):
        raise Invalid(f"events of {found} need the setting HUB_WEBHOOK_{found.upper()}_SECRET")
    return found


def _events(host: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> Iterator[Event]:
    if host in ("azure", "harbor", "registry", "ghcr"):
        read = {
            "azure": webhook_events.azure,
            "harbor": webhook_events.harbor,
            "registry": webhook_events.registry,
            "ghcr": webhook_events.github_package,
        }
        return read[host](body)
    if host == "gitlab":
        return webhook_events.gitlab(headers["X-Gitlab-Event"], body)
    if host == "bitbucket":
        return webhook_events.bitbucket(headers.get("X-Event-Key", ""), body)
    if host == "bitbucket-server":
        return webhook_events.bitbucket_server(headers["X-Event-Key"], body)
    name = {"gitea": "X-Gitea-Event", "gogs": "X-Gogs-Event", "github": "X-GitHub-Event"}[host]
    return webhook_events.github(headers[name], body)


def _registry_secrets() -> dict[str, str]:
    """Return the secrets of registries.

    Raises: Invalid if there is none: as in Argo CD, registry events are refused without a secret.
    """
    found = {"harbor": settings.WEBHOOK_HARBOR_SECRET, "registry": settings.WEBHOOK_REGISTRY_SECRET}
    if not any(found.values()):
        names = " or ".join(f"HUB_WEBHOOK_{name.upper()}_SECRET" for name in found)
        raise Invalid(f"events of registries need the setting {names}")
    return found


_SIGNED_BY = {
    "github": ("WEBHOOK_GITHUB_SECRET", "X-Hub-Signature-256", "sha256="),
    "ghcr": ("WEBHOOK_GITHUB_SECRET", "X-Hub-Signature-256", "sha256="),
    "gitea": ("WEBHOOK_GITEA_SECRET", "X-Gitea-Signature", ""),
    "gogs": ("WEBHOOK_GITEA_SECRET", "X-Gogs-Signature", ""),
    "bitbucket-server": ("WEBHOOK_BITBUCKET_SERVER_SECRET", "X-Hub-Signature", "sha256="),
}
"""The setting, the header and its prefix, of hosts that sign the body."""


def _check_headers(sender: str, headers: Mapping[str, str]) -> bool:
    """Authenticate a sender before its body is read; return whether it has a secret.

    Raises: Invalid.
    """
    given = headers.get("Authorization", "")
    if sender in _SIGNED_BY:
        setting, header, prefix = _SIGNED_BY[sender]
        signature = headers.get(header, "").removeprefix(prefix)
        if getattr(settings, setting) and len(signature) != hashlib.sha256().digest_size * 2:
            raise _Forged(_DOES_NOT_FIT)
        return bool(getattr(settings, setting))
    if sender == "azure":
        name, password = settings.WEBHOOK_AZURE_USERNAME, settings.WEBHOOK_AZURE_PASSWORD
        pair = base64.b64encode(f"{name}:{password}".encode()).decode()
        return _must_equal(f"Basic {pair}" if name or password else "", given)
    if sender == "gitlab":
        return _must_equal(settings.WEBHOOK_GITLAB_SECRET, headers.get("X-Gitlab-Token", ""))
    if sender == "bitbucket":
        return _must_equal(settings.WEBHOOK_BITBUCKET_UUID, headers.get("X-Hook-UUID", ""))
    # All are compared, so that the time does not disclose which one matches.
    fits = [_is_equal(secret, given) for secret in _registry_secrets().values() if secret]
    if not any(fits):
        raise _Forged(_DOES_NOT_FIT)
    return True


def _check_signature(sender: str, headers: Mapping[str, str], data: bytes) -> None:
    """Check the signature of a body; without a secret for the host, any body is accepted.

    An event only triggers a poll, so a forged one does no harm.
    Raises: Invalid.
    """
    if sender in _SIGNED_BY:
        setting, header, prefix = _SIGNED_BY[sender]
        secret = getattr(settings, setting)
        digest = hmac.new(secret.encode(), data, hashlib.sha256).hexdigest() if secret else ""
        _must_equal(f"{prefix}{digest}" if secret else "", headers.get(header, ""))


_DOES_NOT_FIT = "Webhook processing failed: the signature does not match"


def _must_equal(wanted: str, given: str) -> bool:
    """Return whether there is a secret to compare with.

    Raises: Invalid if the value is wrong.
    """
    if wanted and not _is_equal(wanted, given):
        raise _Forged(_DOES_NOT_FIT)
    return bool(wanted)


def _is_equal(wanted: str, given: str) -> bool:
    return hmac.compare_digest(wanted.encode(), given.encode())
