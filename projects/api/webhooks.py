"""`/api/webhook`: pushes, so that a commit is seen at once."""

import hashlib
import hmac
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from hub.rest import error_body
from projects.follow import push_received


def _refused(message: str, status: int = 400) -> JsonResponse:
    return JsonResponse(error_body(3, message), status=status)


@csrf_exempt
def webhook(request: HttpRequest) -> JsonResponse:
    """Take a push of GitHub; ask the repositories that it names at once."""
    if request.method != "POST":
        return _refused("only POST is taken", 405)
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > settings.MAX_WEBHOOK_BYTES:
        return _refused(f"the body is larger than {settings.MAX_WEBHOOK_BYTES // 1024**2} MiB", 413)
    event = request.headers.get("X-GitHub-Event", "")
    if not event:
        return _refused("Unknown webhook event")
    body = request.read(settings.MAX_WEBHOOK_BYTES + 1)
    if len(body) > settings.MAX_WEBHOOK_BYTES:
        return _refused("the body is too large", 413)
    if settings.WEBHOOK_GITHUB_SECRET and not _is_signed(
        body, request.headers.get("X-Hub-Signature-256", "")
    ):
        return _refused("Webhook processing failed: the signature does not fit")
    if event == "ping":
        return JsonResponse({})
    if event != "push":
        return _refused("Unknown webhook event")
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _refused("the body is not valid JSON")
    urls, ref, after = _push(payload)
    if not urls:
        return _refused("repository.html_url or repository.clone_url is required")
    push_received(urls, ref, after)
    return JsonResponse({})


def _is_signed(body: bytes, signature: str) -> bool:
    wanted = (
        "sha256="
        + hmac.new(settings.WEBHOOK_GITHUB_SECRET.encode(), body, hashlib.sha256).hexdigest()
    )
    return hmac.compare_digest(wanted, signature)


def _push(payload: Any) -> tuple[list[str], str, str]:
    if not isinstance(payload, dict):
        return [], "", ""
    repository = payload.get("repository")
    if not isinstance(repository, dict):
        return [], "", ""
    urls = [
        repository.get(field)
        for field in ("html_url", "clone_url", "ssh_url", "git_url", "svn_url")
    ]
    ref, after = payload.get("ref"), payload.get("after")
    return (
        [u for u in urls if isinstance(u, str) and u],
        ref if isinstance(ref, str) else "",
        after if isinstance(after, str) else "",
    )
