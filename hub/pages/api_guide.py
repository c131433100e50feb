"""`/api`: a guide to the REST API, from our OpenAPI description, with tested examples."""

import functools
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_GET
from drf_spectacular.generators import SchemaGenerator

from hub.access.decisions import Caller
from hub.web.page import Shown, signed_in

EXAMPLES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "examples.json").read_text())
_TOKEN = "eyJhbGciOi…"
_GROUPS: dict[str, tuple[str, str]] = {
    "Applications": (
        r"/api/v1/(applications|stream/applications|flotilla/applications)(/|$)",
        "Deployed sources: their status, resources and operations.",
    ),
    "Application sets": (
        (
            r"/api/v1/(applicationsets|stream/applicationsets"
            r"|flotilla/(applicationsets|secrets|configmaps))(/|$)"
        ),
        "Many applications from one template.",
    ),
    "Projects": (
        r"/api/v1/projects(/|$)",
        "Which sources may be deployed to which destinations, and by whom.",
    ),
    "Clusters": (
        r"/api/v1/clusters(/|$)",
        "Destinations. A path names one by its percent-encoded server, or with id.type=name.",
    ),
    "Repositories": (
        r"/api/v1/(repositories|repocreds|write-)",
        "Sources and the credentials to read them; credentials are never returned.",
    ),
    "Certificates and keys": (
        r"/api/v1/(certificates|gpgkeys|flotilla/known-hosts)(/|$)",
        "Trusted hosts and signing keys.",
    ),
    "Session": (r"/api/v1/(session|flotilla/session)(/|$)", "Sign in and out."),
    "Accounts": (
        r"/api/v1/(account|flotilla/(accounts|sessions|tokens|sso))(/|$)",
        "People and machines, their sessions and tokens.",
    ),
    "Roles": (
        r"/api/v1/flotilla/(roles|roles-csv|rbac|grants|explain|who-can)(/|$)",
        "Who may do what, and why.",
    ),
    "Audit": (r"/api/v1/flotilla/audit", "The audit trail and its verification."),
    "Watch": (r"/api/v1/flotilla/watch", "One stream of all changes."),
    "Settings": (r"/api/(v1/(flotilla/)?settings|version|v1/notifications)", "The hub itself."),
    "Everything else": (r"", ""),
}
_METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a path."""

    method: str
    path: str
    text: str
    parameters: list[Mapping[str, Any]]

    @property
    def is_ours(self) -> bool:
        """Whether Argo CD lacks this operation."""
        return "/flotilla/" in self.path


@dataclass(frozen=True, slots=True)
class Example:
    """A request and its response, as text."""

    title: str
    command: str
    answer: str


@dataclass(frozen=True, slots=True)
class Group:
    """The operations of one kind of resource."""

    title: str
    text: str
    operations: list[Operation] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """The anchor of the group on the page."""
        return self.title.lower().replace(" ", "-")


def groups(paths: Mapping[str, Mapping[str, Any]]) -> list[Group]:
    """Return the operations of an OpenAPI description, grouped by kind of resource."""
    found = {name: Group(name, text) for name, (_pattern, text) in _GROUPS.items()}
    for path, operations in paths.items():
        name = next(n for n, (pattern, _) in _GROUPS.items() if re.match(pattern, path))
        for method in _METHODS:
            if method in operations:
                found[name].operations.append(_operation(method, path, operations[method]))
    for example in EXAMPLES:
        found[example["group"]].examples.append(_example(example))
    return [group for group in found.values() if group.operations]


def _operation(method: str, path: str, described: Mapping[str, Any]) -> Operation:
    text = re.sub(r"\s+", " ", str(described.get("description", ""))).replace("`", "")
    parameters = [p for p in described.get("parameters", []) if p["in"] == "query"]
    return Operation(method, path, text, parameters)


def _example(given: Mapping[str, Any]) -> Example:
    words = ["curl", *(["-X", given["method"]] if given["method"] != "GET" else [])]
    url = shlex.quote(f"{settings.EXTERNAL_URL or 'https://hub.example'}{given['path']}")
    lines = [f"{' '.join(words)} {url}", f"  -H 'Authorization: Bearer {_TOKEN}'"]
    if given["path"] == "/api/v1/session":
        lines.pop()
    if "body" in given:
        lines += [
            "  -H 'Content-Type: application/json'",
            f"  -d {shlex.quote(json.dumps(given['body'], ensure_ascii=False))}",
        ]
    return Example(
        given["title"],
        " \\\n".join(lines),
        json.dumps(given.get("answer"), indent=2, ensure_ascii=False),
    )


@functools.cache
def _described() -> list[Group]:
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return groups(schema["paths"])


@require_GET
@signed_in
def page(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the guide."""
    return render(
        request, "hub/api.html", {"section": "api", "caller": Shown(caller), "groups": _described()}
    )


@require_GET
def swagger(request: HttpRequest) -> HttpResponse:
    """Redirect from the path of Argo CD's API page."""
    del request
    return HttpResponseRedirect("/api")
