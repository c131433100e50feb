"""The largest body of a request, by its path and by whether the sender is signed in."""

from django.conf import settings

BEFORE_SIGN_IN = 64 * 1024
# A SAML answer lists all groups, and comes from a browser that is not signed in yet.
SAML_ANSWER = 256 * 1024
UNSIGNED_WEBHOOK = 1024 * 1024
_FRAME = 1024 * 1024


def most_bytes(path: str, *, signed_in: bool) -> int:
    """Return the largest body of a request in bytes.

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


def too_large(most: int, *, signed_in: bool) -> str:
    """Return the error message about a body that is too large."""
    size = f"{most // 2**20} MiB" if most >= 2**20 else f"{most // 2**10} KiB"
    return f"the body is larger than {size}" + ("" if signed_in else ", the most before sign-in")
