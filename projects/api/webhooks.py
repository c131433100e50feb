"""`/api/webhook`: pushes and pull requests, so that a commit or a preview is seen at once."""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from hub.engine.errors import Invalid
from hub.rest import error_body
from hub.stream import wake
from projects import payloads
from projects.follow import push_received, registry_pushed
from projects.payloads import Event, Image, Pulls, Push


def _refused(message: str, status: int = 400) -> JsonResponse:
    return JsonResponse(error_body(3, message), status=status)


@csrf_exempt
def webhook(request: HttpRequest) -> JsonResponse:
    """Take the events of Git hosts; what they name is asked at once, their content is never believed."""
    if request.method != "POST":
        return _refused("only POST is taken", 405)
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > settings.MAX_WEBHOOK_BYTES:
        return _refused(f"the body is larger than {settings.MAX_WEBHOOK_BYTES // 1024**2} MiB", 413)
    host = _host_of(request.headers)
    data = request.read(settings.MAX_WEBHOOK_BYTES + 1)
    if len(data) > settings.MAX_WEBHOOK_BYTES:
        return _refused("the body is too large", 413)
    try:
        host = host or _registry_of(_object(data))
        _check_signature(host, request.headers, data)
        _take(list(_events(host, request.headers, _object(data))))
    except Invalid as error:
        # GitHub's registry wants to hear of a wrong signature by the status.
        return _refused(str(error), 401 if host == "ghcr" and isinstance(error, _Forged) else 400)
    return JsonResponse({})


class _Forged(Invalid):
    """A signature that is not ours."""


def _object(data: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Invalid("the body is not valid JSON") from error
    if not isinstance(body, dict):
        raise Invalid("the body must be an object")
    return body


def _take(found: list[Event]) -> None:
    """Wake what the events name; raises Invalid when they name nothing."""
    if not found:
        raise Invalid("Unknown webhook event")
    if any(isinstance(e, Push) and not e.urls for e in found):
        raise Invalid("repository.html_url or repository.clone_url is required")
    for event in found:
        if isinstance(event, Push):
            push_received(list(event.urls), event.ref, event.commit)
        elif isinstance(event, Pulls):
            wake("appsets.pulls_changed", (event.place,), priority=2)
        elif isinstance(event, Image):
            registry_pushed(event.place, event.tag)


def _host_of(headers: Mapping[str, str]) -> str:
    """Return which host sends: Gitea and Gogs name GitHub's header too, so they come first."""
    if headers.get("X-GitHub-Event") in ("package", "registry_package"):
        return "ghcr"
    for header, host in (
        ("X-Vss-Activityid", "azure"), ("X-Gitea-Event", "gitea"), ("X-Gogs-Event", "gogs"), ("X-GitHub-Event", "github"),
        ("X-Gitlab-Event", "gitlab"), ("X-Hook-UUID", "bitbucket"), ("X-Event-Key", "bitbucket-server"),
    ):  # fmt: skip
        if headers.get(header):
            return host
    return ""


def _registry_of(body: Mapping[str, Any]) -> str:
    """Return which registry sends: these have no header of their own.

    Raises: Invalid.
    """
    if isinstance(body.get("event_data"), dict) or str(body.get("type", "")).startswith("harbor."):
        return "harbor"
    if isinstance(body.get("events"), list) or isinstance(body.get("target"), dict):
        return "registry"
    raise Invalid("Unknown webhook event")


def _events(host: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> Iterator[Event]:
    if host in ("azure", "harbor", "registry", "ghcr"):
        read = {"azure": payloads.azure, "harbor": payloads.harbor, "registry": payloads.registry, "ghcr": payloads.github_package}  # fmt: skip
        return read[host](body)
    if host == "gitlab":
        return payloads.gitlab(headers["X-Gitlab-Event"], body)
    if host == "bitbucket":
        return payloads.bitbucket(headers.get("X-Event-Key", ""), body)
    if host == "bitbucket-server":
        return payloads.bitbucket_server(headers["X-Event-Key"], body)
    name = {"gitea": "X-Gitea-Event", "gogs": "X-Gogs-Event", "github": "X-GitHub-Event"}[host]
    return payloads.github(headers[name], body)


def _check_signature(host: str, headers: Mapping[str, str], data: bytes) -> None:
    """Return if what a host signs with is ours; without a secret of that host anything is taken, as hints do no harm.

    Raises: Invalid.
    """
    if host == "azure":
        name, password = settings.WEBHOOK_AZURE_USERNAME, settings.WEBHOOK_AZURE_PASSWORD
        wanted = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode() if name or password else ""  # fmt: skip
        _must_equal(wanted, headers.get("Authorization", ""))
    elif host == "gitlab":
        _must_equal(settings.WEBHOOK_GITLAB_SECRET, headers.get("X-Gitlab-Token", ""))
    elif host in ("harbor", "registry"):
        secret = settings.WEBHOOK_HARBOR_SECRET if host == "harbor" else settings.WEBHOOK_REGISTRY_SECRET  # fmt: skip
        if not secret:
            # Nothing but this secret tells their events from anybody's: as Argo CD, none are taken without it.
            raise Invalid(f"events of this registry are taken once HUB_WEBHOOK_{host.upper()}_SECRET is set")  # fmt: skip
        _must_equal(secret, headers.get("Authorization", ""))
    elif host == "bitbucket":
        _must_equal(settings.WEBHOOK_BITBUCKET_UUID, headers.get("X-Hook-UUID", ""))
    else:
        secret, header, prefix = {
            "github": (settings.WEBHOOK_GITHUB_SECRET, "X-Hub-Signature-256", "sha256="),
            "ghcr": (settings.WEBHOOK_GITHUB_SECRET, "X-Hub-Signature-256", "sha256="),
            "gitea": (settings.WEBHOOK_GITEA_SECRET, "X-Gitea-Signature", ""),
            "gogs": (settings.WEBHOOK_GITEA_SECRET, "X-Gogs-Signature", ""),
            "bitbucket-server": (settings.WEBHOOK_BITBUCKET_SERVER_SECRET, "X-Hub-Signature", "sha256="),
        }[host]  # fmt: skip
        digest = hmac.new(secret.encode(), data, hashlib.sha256).hexdigest()
        _must_equal(f"{prefix}{digest}" if secret else "", headers.get(header, ""))


def _must_equal(wanted: str, given: str) -> None:
    if wanted and not hmac.compare_digest(wanted.encode(), given.encode()):
        raise _Forged("Webhook processing failed: the signature does not fit")
