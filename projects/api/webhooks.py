"""`/api/webhook`: pushes and pull request events, which trigger refreshes at once."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.utils.datastructures import CaseInsensitiveMapping
from django.views.decorators.csrf import csrf_exempt

from hub.auth.requests import client_address
from hub.base.concurrency import Rate, Rates
from hub.base.metrics import clock
from hub.base.request_heads import error_body
from hub.engine.errors import Invalid
from hub.engine.parsing import parse_digits
from hub.engine.strict_json import read_json
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.http.body_sizes import UNSIGNED_WEBHOOK, too_large
from projects.refreshing.triggers import UNPROVED_PRIORITY, push_received, registry_pushed
from projects.webhooks.base import (
    Body,
    Forged,
    Headers,
    ImageRegistry,
    Sender,
    is_equal,
    must_equal,
)
from projects.webhooks.events import Event, Image, Pulls, Push
from projects.webhooks.senders import IMAGE_REGISTRIES, SENDERS

MAX_EVENTS = 1000
"""The maximum number of moved branches read from one body."""
# Unsigned events, in one process: burst, and sustained per second. Anyone can send them.
_UNPROVED = Rate(300, 5.0)
_UNPROVED_OF_ADDRESS = Rates(60, 1.0)


def _refused(message: str, status: int = 400) -> JsonResponse:
    return JsonResponse(error_body(3, message), status=status)


def max_event_bytes(headers: Headers) -> int:
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
    maximum = max_event_bytes(request.headers)
    length = parse_digits(request.META.get("CONTENT_LENGTH") or "0")
    if length is None or length > maximum:
        return _refused(too_large(maximum, signed_in=True), 413)
    sender = _sender_of(request.headers)
    try:
        is_proved = _check_headers(sender, request.headers)
        data = request.read(maximum + 1)
        if len(data) > maximum:
            return _refused(too_large(maximum, signed_in=True), 413)
        # The body is read only after the sender is authenticated.
        if sender is not None:
            sender.proof.check_body(request.headers, data)
        body = _object(data)
        found = list(islice(_events(sender, request.headers, body), MAX_EVENTS + 1))
        _check_events(found)
        if not is_proved and not _may_be_taken(request):
            return _refused(
                "too many events without a signature: set the secret of their host", 429
            )
        _take(found, is_proved=is_proved)
    except Forged as error:
        return _refused(str(error), sender.forged_status if sender else 400)
    except Invalid as error:
        return _refused(str(error))
    return JsonResponse({})


def _object(data: bytes) -> dict[str, Any]:
    body = read_json(data)
    if not isinstance(body, dict):
        raise Invalid("the body must be an object")
    return body


def _may_be_taken(request: HttpRequest) -> bool:
    """Return whether an unsigned event may be handled now."""
    now = clock()
    return _UNPROVED_OF_ADDRESS.take(hash(client_address(request)), now) and _UNPROVED.take(now)


def _check_events(found: list[Event]) -> None:
    """Check that events name something.

    Raises: Invalid.
    """
    if not found:
        raise Invalid("Unknown webhook event")
    if any(isinstance(e, Push) and not e.urls for e in found):
        raise Invalid("repository.html_url or repository.clone_url is required")


def _take(found: list[Event], *, is_proved: bool) -> None:
    """Wake what the events name."""
    pushes = [event for event in found if isinstance(event, Push)]
    if pushes:
        # One query for all, however many branches have moved.
        moved = dict.fromkeys((push.ref, push.commit) for push in pushes)
        others = [("", "")] if len(found) > MAX_EVENTS else []
        urls = {url for push in pushes for url in push.urls}
        push_received(urls, [*moved, *others], is_proved=is_proved)
    for event in dict.fromkeys(found[:MAX_EVENTS]):
        if isinstance(event, Pulls):
            priority = 2 if is_proved else UNPROVED_PRIORITY
            wake(TaskName.APPSETS_PULLS_CHANGED, (event.place,), priority=priority)
        elif isinstance(event, Image):
            registry_pushed(event.place, event.tag)


def _sender_of(headers: Headers) -> Sender | None:
    """Return the sending host, None for a registry."""
    return next((sender for sender in SENDERS if sender.is_sender(headers)), None)


def _registry_of(body: Body, headers: Headers) -> ImageRegistry:
    """Return the sending registry, by its payload.

    Raises: Invalid, also if the request has the secret of another one.
    """
    found = next((registry for registry in IMAGE_REGISTRIES if registry.is_sender(body)), None)
    if found is None:
        raise Invalid("Unknown webhook event")
    _registry_secrets()
    if not must_equal(getattr(settings, found.setting), headers.get("Authorization", "")):
        raise Invalid(f"events of {found.name} need the setting HUB_{found.setting}")
    return found


def _events(sender: Sender | None, headers: Headers, body: Body) -> Iterator[Event]:
    if sender is None:
        return _registry_of(body, headers).read(body)
    return sender.read(headers, body)


def _registry_secrets() -> list[str]:
    """Return the secrets of registries.

    Raises: Invalid if there is none: as in Argo CD, registry events are refused without a secret.
    """
    found = [getattr(settings, registry.setting) for registry in IMAGE_REGISTRIES]
    if not any(found):
        names = " or ".join(f"HUB_{registry.setting}" for registry in IMAGE_REGISTRIES)
        raise Invalid(f"events of registries need the setting {names}")
    return found


def _check_headers(sender: Sender | None, headers: Headers) -> bool:
    """Authenticate a sender before its body is read; return whether it has a secret.

    Raises: Invalid.
    """
    if sender is not None:
        return sender.proof.check_headers(headers)
    given = headers.get("Authorization", "")
    # All are compared, so that the time does not disclose which one matches.
    fits = [is_equal(secret, given) for secret in _registry_secrets() if secret]
    if not any(fits):
        raise Forged
    return True
