"""The maximum size of a request's body, by path and by whether the sender is signed in."""

from django.conf import settings

BEFORE_SIGN_IN = 64 * 1024
# A SAML answer lists all groups, and comes from a browser that is not signed in yet.
SAML_ANSWER = 256 * 1024
UNSIGNED_WEBHOOK = 1024 * 1024
_FRAME = 1024 * 1024


def max_bytes(path: str, *, signed_in: bool) -> int:
    """Return the maximum size of a request's body in bytes.

    Webhooks have their own limit, see `projects.api.webhooks`.
    """
    if not signed_in:
        is_answer = path.startswith("/sso/saml/") and "/acs/" in path
        return SAML_ANSWER if is_answer else BEFORE_SIGN_IN
    if path == "/api/v1/applications/manifestsWithFiles":
        # Base64, in lines, within JSON.
        return settings.MAX_LOCAL_BYTES // 3 * 4 + _FRAME
    if path.startswith("/api/v1/applications/") and path.endswith("/sync"):
        # Manifests as JSON strings: each quote and line end takes two characters.
        return max(settings.DATA_UPLOAD_MAX_MEMORY_SIZE, settings.MAX_MANIFEST_BYTES * 2 + _FRAME)
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def too_large(maximum: int, *, signed_in: bool) -> str:
    """Return the error message about a body that is too large."""
    size = f"{maximum // 2**20} MiB" if maximum >= 2**20 else f"{maximum // 2**10} KiB"
    return f"the body is larger than {size}" + ("" if signed_in else ", the most before sign-in")
