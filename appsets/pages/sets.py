"""Pages of application sets, and the command palette."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
import yaml
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from appsets.api.sets import FRESH, readable, shown_children, weighed
from appsets.manifests import set_json
from appsets.models import ApplicationSet, SetEvent
from appsets.operations import sets
from appsets.operations.plan import App
from appsets.operations.reconcile import SetError, evaluate
from clusters.models import Cluster
from hub.access.decisions import Caller, is_allowed, reach
from hub.base.yaml_json import load_yaml
from hub.engine.errors import EngineError, Invalid, NotFound
from hub.engine.line_diff import STEPS, Budget
from hub.models import current_version
from hub.web.page import Shown, signed_in
from projects.access.listing import HEALTH, bars
from projects.access.visibility import visible
from projects.models import Project
from projects.objects.specs import project_of
from projects.pages.diff_view import Line, diff_lines

MAX_RESULTS = 8
TEMPLATE = """apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata:
  name: ""
spec:
  goTemplate: true
  goTemplateOptions: [missingkey=error]
  generators:
  - clusters: {}
  template:
    metadata:
      name: 'app-{{.nameNormalized}}'
    spec:
      project: default
      source: {repoURL: 'https://', path: ., targetRevision: HEAD}
      destination: {server: '{{.server}}', namespace: default}
"""


@require_GET
@signed_in
def index(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the sets that the caller may see."""
    version = current_version()
    rows = [
        r
        for r in ApplicationSet.objects.order_by("name")
        if is_allowed(caller, "applicationsets", "get", r.rbac_object)
    ]
    items = []
    for row in rows:
        children = shown_children(caller, row)
        counts: dict[str, int] = {}
        for child in children:
            counts[child.health_status] = counts.get(child.health_status, 0) + 1
        health = set_json(row, [])["status"]["health"]
        items.append(
            {
                "row": row,
                "health": health,
                "count": len(children),
                "bar": bars(counts, HEALTH, 160.0),
                "counts": [(w, counts[w]) for w in HEALTH if w in counts],
                "rollout": row.rollout_state,
            }
        )
    items.sort(key=lambda i: (i["health"]["status"] != "Degraded", i["row"].name))
    may_create = is_allowed(caller, "applicationsets", "create", "*/*")
    return render(
        request,
        "sets/index.html",
        {
            "section": "sets",
            "caller": Shown(caller),
            "version": version,
            "items": items,
            "may_create": may_create,
        },
    )


def _require_set(caller: Caller, namespace: str, name: str) -> ApplicationSet:
    row = ApplicationSet.objects.filter(namespace=namespace, name=name).first()
    if row is None or not is_allowed(caller, "applicationsets", "get", row.rbac_object):
        raise Http404
    return row


@require_GET
@signed_in
def page(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Show a set: its conditions, pending confirmations, rollout and applications."""
    version = current_version()
    row = _require_set(caller, namespace, name)
    children = shown_children(caller, row)
    names = {c.name for c in children}
    waiting = [n for n in row.awaits if n in names]
    status = {e["application"]: e for e in row.application_status}
    steps: dict[str, list[str]] = {}
    for entry in row.application_status:
        steps.setdefault(entry["step"], []).append(entry["status"])
    shown_steps = [
        (n, _tally(found), len(found))
        for n, found in sorted(steps.items(), key=lambda e: (int(e[0]) < 0, int(e[0])))
    ]
    return render(
        request,
        "sets/page.html",
        {
            "section": "sets",
            "caller": Shown(caller),
            "version": version,
            "row": row,
            "health": set_json(row, [])["status"]["health"],
            "conditions": row.conditions,
            "children": [(c, status.get(c.name)) for c in children],
            "waiting": waiting,
            "steps": shown_steps,
            "state": row.rollout_state,
            "requested": row.rollout,
            "events": SetEvent.objects.filter(uid=row.uid).order_by("-pk")[:12],
            "generators": ", ".join(
                k for g in row.spec["generators"] for k in g if k not in ("selector", "template")
            ),
            "may": {
                a: is_allowed(caller, "applicationsets", a, row.rbac_object)
                for a in ("update", "delete")
            },
            "waiting_json": orjson.dumps({"applications": waiting}).decode(),
        },
    )


def _tally(statuses: list[str]) -> list[tuple[str, float, float]]:
    words = {
        "Healthy": "Healthy",
        "Progressing": "Progressing",
        "Pending": "Progressing",
        "Waiting": "Suspended",
    }
    counts: dict[str, int] = {}
    for status in statuses:
        word = words.get(status, "Unknown")
        counts[word] = counts.get(word, 0) + 1
    return bars(counts, ("Healthy", "Progressing", "Suspended", "Unknown"), 400.0)


@signed_in
def edit(request: HttpRequest, caller: Caller, namespace: str = "", name: str = "") -> HttpResponse:
    """Show the editor of a set, with a preview of the changes that saving it would make."""
    row, text = None, TEMPLATE
    if name:
        row = _require_set(caller, namespace, name)
        metadata = {
            k: v
            for k, v in (
                ("name", row.name),
                ("namespace", row.namespace),
                ("labels", row.labels),
                ("annotations", row.annotations),
            )
            if v
        }
        body = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "ApplicationSet",
            "metadata": metadata,
            "spec": row.spec,
        }
        text = str(yaml.dump(body, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True))
    return render(
        request,
        "sets/edit.html",
        {"section": "sets", "caller": Shown(caller), "row": row, "text": text},
    )


@require_POST
@signed_in
def preview(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show what saving a set would create, update and delete."""
    try:
        body = load_yaml(request.POST.get("text", "")[:500_000], "The manifest")
        wanted = sets.wanted_from(body)
        draft = wanted.draft()
        existing = ApplicationSet.objects.filter(namespace=draft.namespace, name=draft.name).first()
        _require_writer(caller, draft, existing)
        project_of(draft.project)
        found = evaluate(draft, timezone.now() - FRESH)
    except (Invalid, EngineError, NotFound, SetError) as error:
        return render(request, "sets/preview.html", {"error": str(error)})
    plan = found.plan
    going = [found.rows[n] for n in plan.delete]
    held = [found.rows[n] for n in plan.waiting]
    may = readable(caller, [*(found.rows[b.name] for b, _ in plan.update), *going, *held])
    changes = _changes(plan.update[:60], may)
    deleted, waiting = weighed(going, may), weighed(held, may)
    return render(
        request,
        "sets/preview.html",
        {
            "wanted": wanted,
            "added": [(a, _target(a.spec.get("destination") or {})) for a in plan.create[:100]],
            "added_count": len(plan.create),
            "changes": changes,
            "changed_count": len(plan.update),
            "deleted": deleted,
            "waiting": waiting,
            "kept": plan.kept,
            "unchanged": plan.unchanged,
            "problems": found.problems[:50],
            "live": sum(d["resources"] for d in deleted),
            "json": orjson.dumps(body).decode(),
            "exists": existing is not None,
        },
    )


def _changes(
    updates: Sequence[tuple[App, App]], may: Collection[str]
) -> list[tuple[str, list[Line] | None]]:
    """Return the diff of each application, or None if the caller may not read it."""
    result: list[tuple[str, list[Line] | None]] = []
    for before, after in updates:
        lines = None
        if before.name in may:
            # Each application has a share of the time, so that a slow one cannot use it up.
            budget = Budget(STEPS // len(updates))
            lines = diff_lines(_shown(before), _shown(after), 2, budget)[:200]
        result.append((after.name, lines))
    return result


def _require_writer(caller: Caller, draft: ApplicationSet, existing: ApplicationSet | None) -> None:
    """Check that a caller may create or update a set.

    Raises: Invalid with the missing permission.
    """
    is_seen = existing is None or is_allowed(caller, "applicationsets", "get", existing.rbac_object)
    if not is_seen or not is_allowed(caller, "applicationsets", "create", draft.rbac_object):
        raise Invalid(
            f"You may not write {draft.rbac_object}. "
            f"Ask for applicationsets, create in project {draft.project}."
        )


def _target(to: Mapping[str, Any]) -> str:
    return f"{to.get('name') or to.get('server')} / {to.get('namespace') or 'no namespace'}"


def _shown(app: object) -> dict[str, object]:
    labels, annotations, spec = (getattr(app, f) for f in ("labels", "annotations", "spec"))
    return {
        "metadata": {
            k: v for k, v in (("labels", dict(labels)), ("annotations", dict(annotations))) if v
        },
        "spec": dict(spec),
    }


@require_GET
@signed_in
def palette(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Find the applications, sets, clusters and pages that the caller may see, by name."""
    typed = request.GET.get("q", "").strip()[:100]
    only = typed[:1] if typed[:1] in (">", "@", "#") else ""
    words = typed[1:].strip() if only else typed
    groups: list[tuple[str, list[dict[str, Any]]]] = []
    apps = _applications(caller, words) if only in ("", ">") else []
    if not only:
        groups += [
            ("Applications" if words else "Favourites", apps),
            ("Sets", _sets(caller, words) if words else []),
        ]
    if only in ("", "@") and (words or only):
        groups.append(("Clusters", _clusters(caller, words)))
    if only in ("", "#") and (words or only):
        groups.append(("Projects", _projects(caller, words)))
    if only in ("", ">"):
        groups.append(("Do", _actions(caller, words, apps[:3] if words else [])))
    if not only:
        groups.append(
            (
                "Pages",
                [
                    {"url": u, "title": t, "note": "", "icon": i}
                    for t, u, i in _PAGES
                    if words.lower() in t.lower()
                ],
            )
        )
    return render(
        request,
        "palette.html",
        {
            "groups": groups,
            "empty": not any(items for _, items in groups),
            "q": typed,
            "namespace": settings.NAMESPACE,
        },
    )


_PAGES = (
    ("Applications", "/applications", "apps"),
    ("Needs attention", "/applications?health=Degraded&health=Missing&health=Unknown", "warn"),
    ("Sets", "/sets", "sets"),
    ("Fleet", "/fleet", "fleet"),
    ("Projects", "/projects", "projects"),
    ("Repositories", "/repositories", "link"),
    ("Audit", "/audit", "audit"),
    ("Reports", "/audit/reports", "audit"),
    ("Account", "/account", "person"),
    ("System", "/settings/system", "robot"),
    ("API", "/api", "link"),
)


def _applications(caller: Caller, words: str) -> list[dict[str, Any]]:
    found = visible(caller).select_related("cluster").defer("resources", "summary", "inputs")
    found = (
        found.filter(name__icontains=words)
        if words
        else found.filter(favourites__account=caller.account)
    )
    return [
        {
            "url": f"/applications/{a.namespace}/{a.name}",
            "title": a.name,
            "note": f"{a.project} · {a.cluster.name if a.cluster else 'no cluster'}",
            "icon": "apps",
            "health": a.health_status,
            "may_sync": is_allowed(caller, "applications", "sync", a.rbac_object, a.where),
        }
        for a in found.order_by("name")[:MAX_RESULTS]
    ]


def _sets(caller: Caller, words: str) -> list[dict[str, Any]]:
    rows = (
        ApplicationSet.objects.filter(name__icontains=words)
        .only("namespace", "name", "project")
        .order_by("name")[:50]
    )
    return [
        {"url": f"/sets/{s.namespace}/{s.name}", "title": s.name, "note": s.project, "icon": "sets"}
        for s in rows
        if is_allowed(caller, "applicationsets", "get", s.rbac_object)
    ][:MAX_RESULTS]


def _clusters(caller: Caller, words: str) -> list[dict[str, Any]]:
    rows = Cluster.objects.filter(name__icontains=words).order_by("name")[:50]
    return [
        {"url": f"/fleet/{c.pk}", "title": c.name, "note": c.server, "icon": "fleet"}
        for c in rows
        if is_allowed(caller, "clusters", "get", c.rbac_object, c.where)
    ][:MAX_RESULTS]


def _projects(caller: Caller, words: str) -> list[dict[str, Any]]:
    rows = Project.objects.filter(name__icontains=words).only("name").order_by("name")[:50]
    return [
        {"url": f"/projects/{p.name}", "title": p.name, "note": "", "icon": "projects"}
        for p in rows
        if is_allowed(caller, "projects", "get", p.name)
    ][:MAX_RESULTS]


def _actions(caller: Caller, words: str, apps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the actions of the palette; each opens the same dialog as its button."""
    own = [
        {
            "url": f"{a['url']}?do=sync",
            "title": f"Sync {a['title']}…",
            "note": a["note"],
            "icon": "sync",
        }
        for a in apps
        if a["may_sync"]
    ]
    offers = (
        ("New application", "/applications/new", "applications"),
        ("New set", "/sets/new", "applicationsets"),
        ("New project", "/projects/new", "projects"),
        ("Register cluster", "/fleet/register", "clusters"),
    )
    begun = [
        {"url": u, "title": t, "note": "", "icon": "plus"}
        for t, u, r in offers
        if words.lower() in t.lower() and reach(caller, r, "create").allow
    ]
    return [*own, *begun]
