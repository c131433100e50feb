"""Object names in policies."""

from django.conf import settings


def normal_object(resource: str, name: str) -> str:
    """Return an object as policies name it, without the hub's own namespace in the middle.

    `*` means all objects of every project.
    """
    parts = name.split("/")
    if name == "*" and resource in ("applications", "applicationsets", "logs", "exec"):
        return "*/*"
    if (
        resource in ("applications", "applicationsets", "logs", "exec")
        and len(parts) == 3
        and parts[1] == settings.NAMESPACE
    ):
        return f"{parts[0]}/{parts[2]}"
    return name
