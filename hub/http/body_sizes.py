"""How long a request may be: decided by its path and by whether somebody is signed in."""

from django.conf import settings

BEFORE_SIGN_IN = 64 * 1024
# The answer of a SAML provider comes by the browser of somebody who is not signed in yet, and lists all groups.
SAML_ANSWER = 256 * 1024
UNSIGNED_WEBHOOK = 1024 * 1024
_FRAME = 1024 * 1024


def most_bytes(path: str, *, signed_in: bool) -> int:
    """Return the most bytes that the body of a request may have.

    Webhooks decide by themselves, see `projects.api.webhooks`.
    """
    if not signed_in:
        is_answer = path.startswith("/sso/saml/") and "/acs/" in path
        return SAML_ANSWER if is_answer else BEFORE_SIGN_IN
    if path == "/api/v1/applications/manifestsWithFiles":
        # Base64 in lines of JSON.
        return settings.MAX_LOCAL_BYTES // 3 * 4 + _FRAME
    if path.startswith("/api/v1/applications/") and path.endswith("/sync"):
        # Manifests as texts: each quote and line end takes two characters.
        return max(settings.DATA_UPLOAD_MAX_MEMORY_SIZE, settings.MAX_MANIFEST_BYTES * 2 + _FRAME)
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def too_large(most: int, *, signed_in: bool) -> str:
    """Return what to say of a body that is larger."""
    size = f"{most // 2**20} MiB" if most >= 2**20 else f"{most // 2**10} KiB"
    return f"the body is larger than {size}" + ("" if signed_in else ", the most before sign-in")
