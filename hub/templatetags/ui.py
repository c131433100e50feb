"""How pages show states, ages and icons: shape, word, colour, in that order."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from django import template
from django.http import QueryDict
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from hub.web.state_icons import tone, tone_and_icon

register = template.Library()
register.filter("tone", tone)


# A long list shows the same few states thousands of times.
@register.simple_tag
@lru_cache(512)
def icon(name: str, css: str = "") -> SafeString:
    """Return an icon of the sprite."""
    return format_html(
        '<svg class="i {}" aria-hidden="true"><use href="{}#i-{}"/></svg>',
        css,
        static("icons.svg"),
        name,
    )


@register.simple_tag
@lru_cache(512)
def status(word: str, css: str = "", *, sync: bool = False) -> SafeString:
    """Return a state as shape and word."""
    tone_name, name = tone_and_icon(word or "Unknown", sync=sync)
    spin = " spin" if tone_name == "busy" else ""
    drawn = icon(name, spin.strip())
    return format_html(
        '<span class="status st-{} {}">{}{}</span>', tone_name, css, drawn, word or "Unknown"
    )


@register.filter
def span(seconds: float) -> str:
    """Return a duration in words that fit a table: 40 s, 12 min, 3 h, 11 d."""
    left = max(0, int(seconds))
    for size, word in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if left >= size:
            return f"{left // size} {word}"
    return f"{left} s"


def _time(at: datetime, text: str, kind: str) -> SafeString:
    at = at.astimezone(UTC)
    exact = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    return format_html(
        '<time datetime="{}" title="{}" data-{}>{}</time>',
        at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        exact,
        kind,
        text,
    )


@register.filter
def ago(at: datetime | None) -> SafeString | str:
    """Return how long ago something was; the page keeps it current."""
    return _time(at, f"{span((timezone.now() - at).total_seconds())} ago", "ago") if at else "never"


@register.filter
def since(at: datetime | None) -> SafeString | str:
    """Return how long a state has lasted; the page keeps it current."""
    return _time(at, span((timezone.now() - at).total_seconds()), "since") if at else ""


@register.filter
def until(at: datetime) -> str:
    """Return the time until a moment."""
    return span((at - timezone.now()).total_seconds())


@register.filter
def short(revision: str) -> str:
    """Return a short revision: seven digits of a commit, or a whole version."""
    text = str(revision or "")
    is_hash = len(text) in (40, 64) and all(c in "0123456789abcdef" for c in text)
    return text[:7] if is_hash else text.removeprefix("sha256:")[:20]


@register.simple_tag(takes_context=True)
def with_query(context: Any, **changes: Any) -> str:
    """Return the current URL with other parameters, on the first page; None removes one."""
    query: QueryDict = context["request"].GET.copy()
    query.pop("page", None)
    for name, value in changes.items():
        key = name.rstrip("_")
        query.pop(key, None)
        if value is not None:
            query[key] = value
    text = query.urlencode()
    return f"?{text}" if text else "?"


@register.simple_tag
def address(*segments: str, **parameters: str) -> str:
    """Return a URL of the REST surface: a fixed path, quoted segments below it, and a query.

    An empty segment is left out, so that one call serves a new object and an existing one.
    """
    path = "/".join([segments[0], *(quote(part, safe="") for part in segments[1:] if part)])
    return f"{path}?{urlencode(parameters)}" if parameters else path


@register.filter
def thousands(number: int) -> str:
    """Return a number with separators."""
    return f"{number:,}"


@register.filter
def plain(value: Any) -> str:
    """Return a value of JSON as text: lists without brackets, `true`, empty for none."""
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        return ", ".join(plain(item) for item in value)
    return value if isinstance(value, str) else orjson.dumps(value).decode()


_MAX_END = 12


@register.simple_tag
def middle(name: str) -> SafeString:
    """Return a name that loses its middle where it does not fit, as its end tells pods apart."""
    cut = name.rfind("-", len(name) - _MAX_END, len(name) - 5)
    at = max(cut if cut > 0 else len(name) - 6, 0)
    return format_html(
        '<span class="middle" title="{}"><span>{}</span><span>{}</span></span>',
        name,
        name[:at],
        name[at:],
    )


@register.filter
def as_query(values: dict[str, Any]) -> str:
    """Return a saved query as a query string."""
    return urlencode(values, doseq=True)


@register.filter
def at(values: Any, key: Any) -> Any:
    """Return the value of a mapping for a key."""
    return values.get(key, "") if hasattr(values, "get") else ""


@register.filter
def words(text: str) -> list[str]:
    """Return the words of a text."""
    return text.split()
