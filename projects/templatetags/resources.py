"""Template tags for resource URLs and text alternatives of drawings."""

from collections.abc import Iterable
from datetime import datetime

from django import template

from hub.engine.resource import ResourceKey
from hub.templatetags.ui import address
from projects.models import Application

register = template.Library()


@register.simple_tag
def resource_address(row: Application, where: ResourceKey, what: str = "resource") -> str:
    """Return the REST URL of a resource of an application, or of its logs."""
    return address(
        "/api/v1/applications",
        row.name,
        what,
        appNamespace=row.namespace,
        group=where.group,
        kind=where.kind,
        namespace=where.namespace,
        resourceName=where.name,
    )


@register.filter
def bands_in_words(bands: Iterable[tuple[str, float, float, datetime, datetime]]) -> str:
    """Return a timeline as text for screen readers."""
    return " ".join(
        f"{state} from {start:%d %b %H:%M} to {end:%d %b %H:%M};"
        for state, _, _, start, end in bands
    )
