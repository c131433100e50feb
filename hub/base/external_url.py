"""URLs of this hub as browsers see them."""

from django.conf import settings
from django.http import HttpRequest


def absolute(request: HttpRequest, path: str) -> str:
    """Return the URL of a page as browsers see it."""
    return (
        settings.EXTERNAL_URL.rstrip("/") + path
        if settings.EXTERNAL_URL
        else request.build_absolute_uri(path)
    )
