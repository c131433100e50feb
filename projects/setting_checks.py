"""Validate the settings that administrators change at run time, by name."""

from collections.abc import Callable
from typing import Any

from django.utils.dateparse import parse_datetime

from hub.engine import lua
from hub.engine.errors import Invalid, RuleError
from hub.engine.ignore_rules import ignore_rules
from hub.engine.regex import PatternError, compiled
from projects.comparison.jq import check_path


def _scripts(value: Any) -> None:
    if not isinstance(value, dict) or not all(isinstance(code, str) for code in value.values()):
        raise Invalid("health must be an object: group/Kind → Lua")
    for name, code in value.items():
        _compiles(code, f"health[{name}]")


def _compiles(code: str, field: str) -> None:
    # In a function that is never called, the script is compiled but not run.
    try:
        lua.run(f"local function unused()\n{code}\nend", {})
    except RuleError as error:
        raise Invalid(f"{field}: {error}") from error


def _actions(value: Any) -> None:
    if not isinstance(value, dict):
        raise Invalid("actions must be an object: group/Kind → {discovery.lua, definitions}")
    for name, entry in value.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("definitions", []), list):
            raise Invalid(
                f"actions[{name}] must be an object with discovery.lua and a list of definitions"
            )
        _compiles(str(entry.get("discovery.lua") or ""), f"actions[{name}].discovery.lua")
        for number, definition in enumerate(entry.get("definitions") or []):
            if not isinstance(definition, dict) or not definition.get("name"):
                raise Invalid(f"actions[{name}].definitions[{number}].name is required")
            _compiles(
                str(definition.get("action.lua") or ""),
                f"actions[{name}].definitions[{number}].action.lua",
            )


def _ignored(value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise Invalid("ignore_differences must be a list of objects")
    for rule in ignore_rules(value, "ignore_differences"):
        for expression in rule.jq_paths:
            check_path(expression)


def _compare(value: Any) -> None:
    if not isinstance(value, dict) or value.get("ignoreResourceStatusField", "all") not in (
        "all",
        "crd",
        "none",
    ):
        raise Invalid(
            "compare_options must be an object; ignoreResourceStatusField is all, crd or none"
        )


def _filters(value: Any) -> None:
    if not isinstance(value, dict):
        raise Invalid("resource_filters must be an object with exclusions and inclusions")
    for field in ("exclusions", "inclusions"):
        for number, entry in enumerate(value.get(field) or []):
            lists = entry.values() if isinstance(entry, dict) else [None]
            if not all(isinstance(words, list) for words in lists):
                raise Invalid(
                    f"resource_filters.{field}[{number}] must have the lists apiGroups, kinds, "
                    "clusters"
                )


def _switch(value: Any) -> None:
    if not isinstance(value, bool):
        raise Invalid("the value must be true or false")


def _globals(value: Any) -> None:
    if not isinstance(value, list):
        raise Invalid("global_projects must be a list of {labelSelector, projectName}")
    for number, entry in enumerate(value):
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("projectName"), str)
            or not isinstance(entry.get("labelSelector"), dict)
        ):
            raise Invalid(f"global_projects[{number}] must have labelSelector and projectName")


def _pattern(value: Any) -> None:
    if not isinstance(value, str):
        raise Invalid("password_pattern must be text")
    try:
        compiled(value)
    except PatternError as error:
        raise Invalid(f"password_pattern is not a valid regular expression: {error}") from error


TONES = ("info", "busy", "drift", "bad", "ok")
MAX_NOTICES = 10


def _notices(value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise Invalid("notices must be a list of {id, text, tone, url, until}")
    if len(value) > MAX_NOTICES:
        raise Invalid(f"notices: at most {MAX_NOTICES} are allowed; remove an old one first")
    for number, entry in enumerate(value):
        text, url, until = (entry.get(f) or "" for f in ("text", "url", "until"))
        if not isinstance(text, str) or not text.strip() or len(text) > 500:
            raise Invalid(f"notices[{number}].text must have 1 to 500 characters")
        if entry.get("tone", "info") not in TONES:
            raise Invalid(f"notices[{number}].tone must be one of {', '.join(TONES)}")
        if url and not (
            isinstance(url, str)
            and url.startswith(("https://", "http://", "/"))
            and not url.startswith("//")
        ):
            raise Invalid(f"notices[{number}].url must begin with https:// or /")
        if until and parse_datetime(str(until)) is None:
            raise Invalid(f"notices[{number}].until must be a time such as 2026-03-01T12:00:00Z")


CHECKS: dict[str, tuple[Callable[[Any], None], Any]] = {
    "health": (_scripts, {}),
    "actions": (_actions, {}),
    "ignore_differences": (_ignored, []),
    "compare_options": (_compare, {}),
    "resource_filters": (_filters, {}),
    "global_projects": (_globals, []),
    "anonymous": (_switch, False),
    "enforce_rollback": (_switch, False),
    "require_override_for_revision": (_switch, False),
    "impersonation": (_switch, False),
    "notices": (_notices, []),
    "password_pattern": (_pattern, "^.{8,256}$"),
}


def wrong_settings(values: dict[str, Any]) -> list[str]:
    """Return a sentence for each stored setting that would be refused today."""
    found = []
    for name, (check, _default) in CHECKS.items():
        if name in values:
            try:
                check(values[name])
            except (Invalid, RuleError) as error:
                found.append(f"setting {name}: {error}")
    return found
