"""Objects as policies name them."""

from django.conf import settings


def normal_object(resource: str, name: str) -> str:
    """Return an object as policies name it: without the hub's own namespace between project and name.

    `*` asks for all of them: that is every project's.
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
