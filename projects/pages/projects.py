"""Pages of projects: their limits, roles, permissions and sync windows."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
import yaml
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from hub.access.decisions import (
    Caller,
    broken_rules,
    decide,
    enforcer,
    hide,
    is_allowed,
    reach,
    require,
    where_of,
)
from hub.access.explain import who_can
from hub.access.object_names import normal_object
from hub.base.yaml_json import load_yaml
from hub.engine.errors import EngineError, Invalid, NotFound, RuleError
from hub.engine.parsing import parse_digits
from hub.engine.rbac import ACTIONS, RESOURCES, Problem
from hub.engine.rbac_rules import Rule
from hub.engine.secret_masking import digest_of
from hub.engine.sync_windows import active_windows, spans
from hub.models import ApiToken, current_version
from hub.web.page import Shown, posted, signed_in
from projects.access.listing import HEALTH, bars
from projects.access.project_limits import require_change
from projects.access.visibility import visible
from projects.models import Project
from projects.objects import applications
from projects.objects.manifests import project_json
from projects.objects.specs import (
    check_name,
    check_project,
    global_projects,
    project_of_or_none,
    shape_problem,
)
from projects.pages.diff_view import Line, diff_lines
from projects.pages.project_form import (
    TABLES,
    blank,
    role_from,
    rules_of,
    spec_from,
    tables,
    window_from,
)

DAYS, HOUR = 7, 12.0
PROJECT_RESOURCES = ("applications", "applicationsets", "logs", "exec", "repositories", "clusters")
_ASKED = ("get", "create", "update", "delete", "sync", "override", "action/apps/Deployment/restart")
TEMPLATE = """apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata:
  name: ""
spec:
  sourceRepos: []
  destinations: []
"""


@require_GET
@signed_in
def index(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the projects that the caller may see, with the health of their applications."""
    version = current_version()
    query = Project.objects.order_by("name")
    rows = [p for p in query if is_allowed(caller, "projects", "get", p.name)]
    counts: dict[str, dict[str, int]] = {}
    found = visible(caller).order_by().values("project", "health_status").annotate(n=Count("pk"))
    for entry in found:
        counts.setdefault(entry["project"], {})[entry["health_status"]] = entry["n"]
    now = timezone.now()
    items = [_item(p, counts.get(p.name, {}), now) for p in rows]
    return render(
        request,
        "projects/index.html",
        {
            "section": "projects",
            "caller": Shown(caller),
            "version": version,
            "items": items,
            "may_create": bool(reach(caller, "projects", "create").allow),
        },
    )


def _item(project: Project, counts: dict[str, int], now: datetime) -> dict[str, Any]:
    windows = active_windows(project.spec.get("syncWindows") or [], now)
    return {
        "p": project,
        "total": sum(counts.values()),
        "bar": bars(counts, HEALTH, 160.0),
        "counts": [(word, counts[word]) for word in HEALTH if counts.get(word)],
        "denied": any(window.get("kind") == "deny" for window in windows),
    }


def found(caller: Caller, name: str, action: str = "get") -> Project:
    """Return a project that the caller may see, and for which `action` is permitted.

    Raises: AccessDenied or NotFound, also if it does not exist.
    """
    row = Project.objects.filter(name=name).first()
    if row is None or not is_allowed(caller, "projects", "get", name):
        raise hide(caller, "projects", action, name)
    if action != "get":
        require(caller, "projects", action, name, name)
    return row


@require_GET
@signed_in
def page(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Show a project: limits, roles, windows, and who may do what."""
    version = current_version()
    row = found(caller, name)
    now = timezone.now()
    effective = project_of_or_none(name) or row
    roles = [
        {
            **role,
            "rules": rules_of(role),
            "tokens": ApiToken.objects.filter(
                project=name, role=role.get("name"), revoked_at=None
            ).order_by("-issued_at"),
        }
        for role in row.spec.get("roles") or []
    ]
    counts = dict(
        visible(caller)
        .order_by()
        .filter(project=name)
        .values_list("health_status")
        .annotate(n=Count("pk"))
    )
    return render(
        request,
        "projects/page.html",
        {
            "section": "projects",
            "caller": Shown(caller),
            "version": version,
            "p": row,
            "spec": row.spec,
            "roles": roles,
            "tables": [(t, row.spec.get(t.name) or []) for t in TABLES],
            "calendar": calendar(effective.spec.get("syncWindows") or [], now),
            "own_windows": len(row.spec.get("syncWindows") or []),
            "broken": [*broken_rules(name), *_misshapen(row)],
            "globals": [p.name for p in global_projects(row)],
            "total": sum(counts.values()),
            "bar": bars(counts, HEALTH, 400.0),
            "counts": [(w, counts[w]) for w in HEALTH if counts.get(w)],
            "may": {a: is_allowed(caller, "projects", a, name) for a in ("update", "delete")},
            "may_ask": is_allowed(caller, "roles", "get", "*"),
            "resources": PROJECT_RESOURCES,
            "actions": _ASKED,
            "own": row.spec.get("flotilla") or {},
            "orphans": row.spec.get("orphanedResources"),
            **_answered_question(request, caller, name),
        },
    )


def _misshapen(row: Project) -> list[Problem]:
    problem = shape_problem(row.spec)
    return (
        [Problem(f"project {row.name}", f"it permits nothing, save it again: {problem}")]
        if problem
        else []
    )


def calendar(windows: list[Any], now: datetime) -> dict[str, Any]:
    """Return the windows of the coming week as bars: x and width, 12 units per hour."""
    start = now.astimezone(timezone.get_default_timezone()).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    end = start + timedelta(days=DAYS)
    active = active_windows(windows, now)
    rows = []
    for number, window in enumerate(windows):
        problem, parts = "", []
        try:
            parts = [
                (
                    _x(a, start),
                    round(_x(b, start) - _x(a, start), 1),
                    f"{a:%a %H:%M} to {b:%a %H:%M} UTC",
                )
                for a, b in spans(window, start, end)
            ]
        except RuleError as error:
            problem = str(error)
        rows.append(
            {
                "number": number,
                "w": window,
                "parts": parts,
                "active": window in active,
                "problem": problem,
            }
        )
    days = [(day * 24 * HOUR, f"{start + timedelta(days=day):%a %d}") for day in range(DAYS)]
    return {"rows": rows, "days": days, "now": _x(now, start), "width": DAYS * 24 * HOUR}


def _x(at: datetime, start: datetime) -> float:
    return round((at - start).total_seconds() / 3600 * HOUR, 1)


def _answered_question(request: HttpRequest, caller: Caller, project: str) -> dict[str, Any]:
    """Return the answer to a question asked on the page: who may do something, and why."""
    ask = {
        n: request.GET.get(n, "").strip()[:300] for n in ("action", "resource", "object", "subject")
    }
    if not ask["action"] or ask["resource"] not in RESOURCES:
        return {"ask": {**ask, "object": ask["object"] or f"{project}/*"}}
    about = normal_object(ask["resource"], ask["object"] or f"{project}/*")
    if not about.startswith(f"{project}/"):
        about = f"{project}/{about}"
    answer: dict[str, Any] = {"ask": {**ask, "object": about}}
    if not is_allowed(caller, "roles", "get", "*"):
        said = decide(caller, ask["resource"], ask["action"], about)
        return answer | {"said": said, "whom": "You"}
    where = where_of(ask["resource"], about)
    if ask["subject"]:
        answer |= {
            "said": enforcer().decide(
                [ask["subject"]], ask["resource"], ask["action"], about, where
            ),
            "whom": ask["subject"],
        }
    return answer | {"who": who_can(enforcer(), ask["resource"], ask["action"], about)}


@signed_in
def edit(request: HttpRequest, caller: Caller, name: str = "") -> HttpResponse:
    """Show the editor of a project: form and manifest; saving uses the REST API."""
    row = found(caller, name) if name else None
    text = TEMPLATE
    if row is not None:
        metadata = {
            k: v
            for k, v in (
                ("name", row.name),
                ("resourceVersion", str(row.resource_version)),
                ("labels", row.labels),
                ("annotations", row.annotations),
            )
            if v
        }
        text = _text(
            {
                "apiVersion": "argoproj.io/v1alpha1",
                "kind": "AppProject",
                "metadata": metadata,
                "spec": row.spec,
            }
        )
    spec = row.spec if row is not None else {}
    return render(
        request,
        "projects/edit.html",
        {
            "section": "projects",
            "caller": Shown(caller),
            "p": row,
            "text": text,
            "spec": spec,
            "tables": [(t, rows, blank(t)) for t, rows in tables(spec)],
            "orphaned": _orphaned(spec),
            "own": spec.get("flotilla") or {},
        },
    )


def _orphaned(spec: Mapping[str, Any]) -> str:
    watched = spec.get("orphanedResources")
    if watched is None:
        return ""
    return "warn" if watched.get("warn", True) else "watch"


def _text(body: Any) -> str:
    return str(
        yaml.dump(body, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=2**20)
    )


@require_POST
@signed_in
def compose(request: HttpRequest, _caller: Caller) -> HttpResponse:
    """Return the manifest with the values of the form; other fields do not change."""
    fields = {k: [str(v)[:2000] for v in request.POST.getlist(k)[:500]] for k in request.POST}
    text = request.POST.get("text", "")[:500_000]
    try:
        body = load_yaml(text, "The manifest")
    except Invalid:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("spec") or {}, dict):
        # The user has to fix invalid text: the fields must not overwrite it.
        return render(request, "projects/manifest.html", {"text": text})
    spec = spec_from(body.get("spec") or {}, fields)
    metadata = body.get("metadata") if isinstance(body.get("metadata"), dict) else {}
    if fields.get("name"):
        metadata = {**(metadata or {}), "name": fields["name"][0].strip()}
    return render(
        request,
        "projects/manifest.html",
        {"text": _text({**body, "metadata": metadata, "spec": spec})},
    )


@require_POST
@signed_in
def check(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Report whether the caller may save the project."""
    try:
        body = load_yaml(request.POST.get("text", "")[:500_000], "The manifest")
        name, spec, existing = _wanted(caller, body)
    except (Invalid, EngineError, NotFound) as error:
        return render(request, "projects/checked.html", {"error": str(error)})
    uses = visible(caller).filter(project=name).count()
    changes = diff_of(project_json(existing)["spec"] if existing else {}, spec)
    return render(
        request,
        "projects/checked.html",
        {
            "name": name,
            "exists": existing is not None,
            "uses": uses,
            "changes": changes,
            "json": orjson.dumps({"project": body}).decode(),
        },
    )


def _wanted(caller: Caller, body: Any) -> tuple[str, dict[str, Any], Project | None]:
    """Return the name, the spec and the existing project, if the caller may write it.

    Raises: Invalid, AccessDenied.
    """
    if not isinstance(body, dict) or not isinstance(body.get("metadata"), dict):
        raise Invalid("metadata.name is required")
    name = check_name(body["metadata"].get("name"))
    spec = check_project(body.get("spec") or {}, name)
    existing = Project.objects.filter(name=name).first()
    if existing is not None and not is_allowed(caller, "projects", "get", name):
        existing = None
    right = "update" if existing else "create"
    if not is_allowed(caller, "projects", right, name):
        raise Invalid(f"You may not {right} project {name}. Ask for projects, {right} on {name}.")
    return name, spec, existing


def diff_of(before: Any, after: Any) -> list[Line]:
    """Return the lines that a change to a spec removes and adds."""
    return diff_lines(before, after, 2)[:300] if before != after else []


def _index(text: str, items: list[Any]) -> int | None:
    """Return the index of an entry, or None for a new one.

    Raises: Invalid if it was changed since the page was loaded.
    """
    if text == "":
        return None
    place = parse_digits(text)
    if place is None or place >= len(items):
        raise Invalid(
            "It no longer exists: the project was changed in the meantime. Open it again."
        )
    return place


@require_GET
@signed_in
def role_dialog(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Show the form of a role: its rules and groups."""
    row = found(caller, name, "update")
    wanted = request.GET.get("role", "")
    role = next((r for r in row.spec.get("roles") or [] if r.get("name") == wanted), None)
    if wanted and role is None:
        raise Http404
    empty = [("applications", "get", "*", "allow", "")]
    lines = [_rule_cells(name, r) for r in rules_of(role)] if role else empty
    return render(
        request,
        "projects/role.html",
        {
            "p": row,
            "role": role or {},
            "rules": lines,
            "resources": PROJECT_RESOURCES,
            "actions": ACTIONS,
            "unread": len((role or {}).get("policies") or []) - len(lines) if role else 0,
            "groups": "\n".join((role or {}).get("groups") or []),
        },
    )


def _rule_cells(project: str, rule: Rule) -> tuple[str, str, str, str, str]:
    about = rule.object.removeprefix(f"{project}/")
    return rule.resource, rule.action, about, rule.effect, rule.where.text if rule.where else ""


@posted
def save_role(request: HttpRequest, caller: Caller, name: str) -> str:
    """Add, update or remove a role of a project."""
    row = found(caller, name, "update")
    roles = list(row.spec.get("roles") or [])
    wanted = request.POST.get("was", "")
    at = next((n for n, r in enumerate(roles) if r.get("name") == wanted), None)
    if wanted and at is None:
        raise Invalid(
            f"Role {wanted} no longer exists: the project was changed in the meantime. Open it "
            "again."
        )
    if "remove" in request.POST and at is not None:
        del roles[at]
    else:
        role = role_from(name, roles[at] if at is not None else {}, _fields(request))
        if at is None:
            roles.append(role)
        else:
            roles[at] = role
    _change(caller, row, {"roles": roles})
    return f"/projects/{name}#roles"


@require_GET
@signed_in
def window_dialog(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Show the form of a sync window."""
    row = found(caller, name, "update")
    windows = row.spec.get("syncWindows") or []
    try:
        at = _index(request.GET.get("number", ""), windows)
    except Invalid as error:
        raise Http404 from error
    window = (
        windows[at]
        if at is not None
        else {"kind": "deny", "schedule": "0 22 * * *", "duration": "8h", "applications": ["*"]}
    )
    return render(
        request,
        "projects/window.html",
        {"p": row, "w": window, "number": "" if at is None else at, "digest": _digest(windows)},
    )


def _digest(value: Any) -> str:
    return digest_of(value)[:16]


@posted
def save_window(request: HttpRequest, caller: Caller, name: str) -> str:
    """Add, update or remove a sync window of a project."""
    row = found(caller, name, "update")
    windows = list(row.spec.get("syncWindows") or [])
    if request.POST.get("digest") != _digest(windows):
        raise Invalid("The windows were changed in the meantime. Open them again.")
    at = _index(request.POST.get("number", ""), windows)
    if "remove" in request.POST and at is not None:
        del windows[at]
    elif at is not None:
        windows[at] = window_from(windows[at], _fields(request))
    else:
        windows.append(window_from({}, _fields(request)))
    _change(caller, row, {"syncWindows": windows})
    return f"/projects/{name}#windows"


def _fields(request: HttpRequest) -> dict[str, list[str]]:
    return {k: [str(v)[:4000] for v in request.POST.getlist(k)[:200]] for k in request.POST}


def _change(caller: Caller, row: Project, changes: Mapping[str, Any]) -> None:
    spec = {**row.spec, **changes}
    spec = {k: v for k, v in spec.items() if v not in ([], None)}
    require_change(caller, row, spec)
    metadata = {
        "name": row.name,
        "resourceVersion": row.resource_version,
        "labels": row.labels,
        "annotations": row.annotations,
    }
    manifest = {"metadata": metadata, "spec": spec}
    applications.save_project(manifest, caller.name, must_exist=True)


@require_GET
@signed_in
def delete_dialog(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Show the deletion dialog of a project, and what prevents its deletion."""
    row = found(caller, name, "delete")
    return render(
        request,
        "projects/delete.html",
        {"p": row, "uses": visible(caller).filter(project=name).count()},
    )


@require_GET
@signed_in
def token_dialog(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Show the form for a new token of a role."""
    row = found(caller, name, "update")
    role = request.GET.get("role", "")
    if role not in [r.get("name") for r in row.spec.get("roles") or []]:
        raise Http404
    return render(request, "projects/token.html", {"p": row, "role": role})
