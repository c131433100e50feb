"""The form and YAML editor of an application, with a check and a preview before saving."""

from typing import Any
from urllib.parse import quote, urlencode

import orjson
import yaml
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST

from clusters.models import Cluster
from hub.access.decisions import Caller, is_allowed
from hub.base.yaml_json import load_yaml
from hub.engine.errors import AccessDenied, EngineError, Invalid, NotFound, RetryLater, Stalled
from hub.engine.line_diff import Budget
from hub.engine.node_info import redact
from hub.engine.parsing import parse_digits
from hub.web.page import Shown, signed_in
from projects import sources
from projects.api.repositories import require_details
from projects.comparison.compare import Pair
from projects.models import Application, Project, Repository
from projects.objects import applications
from projects.objects.manifests import application_json
from projects.objects.specs import bind, find_cluster
from projects.pages.application import compare_at, found
from projects.pages.application_form import manifest_from, source_at
from projects.pages.diff_view import Line, diff_lines
from projects.sources import git_remotes
from projects.sources.files import Recorder, path_inside_root

TEMPLATE = """apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: ""
spec:
  project: default
  source:
    repoURL: https://
    path: .
    targetRevision: HEAD
  destination:
    name: ""
    namespace: ""
  syncPolicy:
    syncOptions: [CreateNamespace=true]
"""
MAX_TEXT_CHARS = 500_000
MAX_RESOURCES = 60
_WRONG = (Invalid, Stalled, RetryLater, EngineError, NotFound, AccessDenied)


@require_GET
@signed_in
def edit(request: HttpRequest, caller: Caller, namespace: str = "", name: str = "") -> HttpResponse:
    """Show the editor of a new or existing application; saving uses the REST API."""
    row = found(caller, namespace, name) if name else None
    text, spec = TEMPLATE, {}
    if row is not None:
        whole, spec = application_json(row), row.spec
        metadata = {
            k: v
            for k, v in whole["metadata"].items()
            if k in ("name", "namespace", "resourceVersion", "labels", "annotations", "finalizers")
            and v
        }
        text = _text(
            {
                "apiVersion": whole["apiVersion"],
                "kind": "Application",
                "metadata": metadata,
                "spec": row.spec,
            }
        )
    policy = spec.get("syncPolicy") or {}
    return render(
        request,
        "applications/edit.html",
        {
            "section": "applications",
            "caller": Shown(caller),
            "a": row,
            "text": text,
            "spec": spec,
            "source": source_at(spec, 0),
            "automated": policy.get("automated"),
            "many": range(len(spec.get("sources") or [])),
            "creates": row is None or "CreateNamespace=true" in (policy.get("syncOptions") or []),
            **_choices(caller),
        },
    )


def _choices(caller: Caller) -> dict[str, Any]:
    """Return the projects, clusters and repositories that the caller may select in the form."""
    projects = [
        p.name
        for p in Project.objects.order_by("name")
        if is_allowed(caller, "applications", "create", f"{p.name}/*")
    ]
    clusters = [
        c.name
        for c in Cluster.objects.order_by("name")
        if is_allowed(caller, "clusters", "get", c.rbac_object, c.where)
    ]
    repositories = [
        r.url
        for r in Repository.objects.order_by("url")
        if is_allowed(caller, "repositories", "get", r.rbac_object)
    ]
    return {"projects": projects, "clusters": clusters, "repositories": repositories}


def _text(body: Any) -> str:
    return str(
        yaml.dump(body, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=2**20)
    )


@require_POST
@signed_in
def compose(request: HttpRequest, _caller: Caller) -> HttpResponse:
    """Return the manifest with the values of the form; other fields do not change."""
    text = request.POST.get("text", "")[:MAX_TEXT_CHARS]
    fields = {k: [str(v)[:50_000] for v in request.POST.getlist(k)[:500]] for k in request.POST}
    try:
        body = load_yaml(text, "The manifest")
    except Invalid:
        body = None
    if isinstance(body, dict) and all(
        isinstance(body.get(f) or {}, dict) for f in ("metadata", "spec")
    ):
        text = _text(manifest_from(body, fields))
    return render(request, "applications/manifest.html", {"text": text})


def _draft(body: Any) -> tuple[applications.Wanted, Application | None]:
    """Return the edited application, and the existing one that it would replace."""
    wanted = applications.wanted_from(body)
    row = (
        Application.objects.filter(namespace=wanted.namespace, name=wanted.name)
        .select_related("cluster", "operation")
        .first()
    )
    return wanted, row


@require_POST
@signed_in
def check(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Report whether the caller may save the manifest, and what it changes in the spec."""
    try:
        body = load_yaml(request.POST.get("text", "")[:MAX_TEXT_CHARS], "The manifest")
        wanted, row = _draft(body)
        _require_writer(caller, wanted, row)
        find_cluster(wanted.spec)
    except _WRONG as error:
        return render(request, "applications/checked.html", {"error": str(error)})
    source, to = wanted.spec.get("source") or {}, wanted.spec.get("destination") or {}
    origin = (
        f"{source.get('repoURL')}" + (f" at {source['path']}" if source.get("path") else "")
        if source
        else "several sources"
    )
    target = f"{to.get('name') or to.get('server')} / {to.get('namespace') or 'no namespace'}"
    lines = (
        diff_lines(_parts(row), _parts(wanted), 2)
        if row is not None and _parts(row) != _parts(wanted)
        else []
    )
    call = "POST /api/v1/applications?upsert=true&validate=true"
    if row is not None:
        # The manifest has the version that was loaded, so changes by others are not overwritten.
        query = urlencode({"appNamespace": row.namespace, "validate": "true"})
        call = f"PUT /api/v1/applications/{quote(row.name)}?{query}"
    return render(
        request,
        "applications/checked.html",
        {
            "wanted": wanted,
            "json": orjson.dumps(body).decode(),
            "origin": origin,
            "target": target,
            "exists": row is not None,
            "lines": lines,
            "call": call,
        },
    )


def _parts(side: Application | applications.Wanted) -> dict[str, Any]:
    """Return the fields of an application that a person edits."""
    metadata = {
        "labels": side.labels,
        "annotations": side.annotations,
        "finalizers": side.finalizers,
    }
    return {"metadata": {k: v for k, v in metadata.items() if v}, "spec": side.spec}


def _require_writer(caller: Caller, wanted: applications.Wanted, row: Application | None) -> None:
    """Check that a caller may write an application; one that they may not see is absent to them.

    Raises: Invalid with the missing permission.
    """
    draft = Application(namespace=wanted.namespace, name=wanted.name, spec=wanted.spec)
    bind(draft)
    if row is not None and is_allowed(caller, "applications", "get", row.rbac_object, row.where):
        if not is_allowed(caller, "applications", "update", row.rbac_object, row.where):
            raise Invalid(
                f"You may not update {row.rbac_object}. Ask for applications, update on it."
            )
        if (row.project, row.cluster) == (draft.project, draft.cluster):
            return
        if not is_allowed(caller, "applications", "update", draft.rbac_object, draft.where):
            raise Invalid(
                f"You may not update {draft.rbac_object} there. Ask for applications, update on it."
            )
        if row.project == draft.project:
            return
    hidden = row is not None and not is_allowed(
        caller, "applications", "get", row.rbac_object, row.where
    )
    name = draft.rbac_object
    if hidden or not is_allowed(caller, "applications", "create", name, draft.where):
        raise Invalid(f"You may not create {name}. Ask for applications, create on it.")


@require_POST
@signed_in
def effect(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show what the next sync would do after saving; nothing is stored."""
    try:
        body = load_yaml(request.POST.get("text", "")[:MAX_TEXT_CHARS], "The manifest")
        wanted, row = _draft(body)
        _require_writer(caller, wanted, row)
        draft = _drafted(wanted, row)
        for source in draft.sources:
            require_details(caller, draft.project, wanted.name, str(source.get("repoURL") or ""))
        compared, _revisions = compare_at(draft, "")
    except _WRONG as error:
        return render(request, "applications/effect.html", {"error": str(error)})
    shown: list[tuple[str, Any, list[Line]]] = []
    budget = Budget()
    counts = {"create": 0, "change": 0, "prune": 0, "same": 0}
    for pair in compared.pairs:
        what = _effect_on(pair)
        counts[what] += 1
        if what != "same" and len(shown) < MAX_RESOURCES:
            shown.append((what, pair.key, _lines(pair, budget) if what == "change" else []))
    return render(
        request,
        "applications/effect.html",
        {
            "shown": shown,
            "counts": counts,
            "errors": compared.errors,
            "warnings": compared.warnings[:5],
            "more": counts["create"] + counts["change"] + counts["prune"] - len(shown),
        },
    )


def _drafted(wanted: applications.Wanted, row: Application | None) -> Application:
    """Return the application as it would be after saving."""
    draft = Application(namespace=wanted.namespace, name=wanted.name)
    if row is not None:
        draft = Application.objects.get(pk=row.pk)
    draft.spec, draft.project = wanted.spec, str(wanted.spec.get("project") or "default")
    draft.labels, draft.annotations = wanted.labels, wanted.annotations
    draft.cluster = find_cluster(wanted.spec)
    draft.dest_namespace = str((wanted.spec.get("destination") or {}).get("namespace") or "")
    draft.revisions = []
    return draft


def _lines(pair: Any, budget: Budget) -> list[Line]:
    found_ = pair.comparison
    before, after = redact(
        found_.live if found_ else pair.live, found_.predicted if found_ else pair.desired
    )[:2]
    return diff_lines(before, after, 2, budget)[:120]


@require_POST
@signed_in
def detect(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the type of a source, the fields of its tool, and branches and folders to select."""
    try:
        body = load_yaml(request.POST.get("text", "")[:MAX_TEXT_CHARS], "The manifest")
        index = parse_digits(request.POST.get("index", "")) or 0
        spec = body.get("spec") if isinstance(body, dict) else None
        source = source_at(spec or {}, index)
        if not source.get("repoURL") or source["repoURL"] in ("https://", "ssh://"):
            return HttpResponse("")
        project = str((spec or {}).get("project") or "default")
        name = str((body.get("metadata") or {}).get("name") or "")
        return render(
            request, "applications/source.html", _source_details(caller, project, name, source)
        )
    except _WRONG as error:
        return render(request, "applications/source.html", {"error": str(error)})


def _effect_on(pair: Pair) -> str:
    if pair.live is None:
        return "create"
    if pair.state.requires_pruning:
        return "prune"
    return "change" if pair.state.status == "OutOfSync" else "same"


def _source_details(
    caller: Caller, project: str, name: str, source: dict[str, Any]
) -> dict[str, Any]:
    url = str(source["repoURL"])
    require_details(caller, project, name, url)
    problems = sources.check_sources([source], multi=False)
    if problems:
        raise Invalid("; ".join(problems))
    remote = git_remotes.current_refs(url, project) if sources.kind_of(source) == "git" else None
    prefixes = ("refs/heads/", "refs/tags/")
    found = [n for n in remote.refs if n.startswith(prefixes)] if remote else []
    refs = [n.removeprefix(prefixes[0]).removeprefix(prefixes[1]) for n in found]
    revision = sources.resolve(source, project)
    recorder = Recorder({"": sources.files_of(source, revision, project)})
    path = "" if source.get("chart") else path_inside_root(str(source.get("path") or ""))
    tool = sources.detect(recorder, path, source)
    context: dict[str, Any] = {
        "tool": tool,
        "revision": revision,
        "source": source,
        "refs": sorted(refs)[:500],
        "folders": _folders(recorder) if not source.get("chart") else [],
    }
    if tool == "Helm":
        files = [
            n[len(path) :].lstrip("/")
            for n in recorder.walk(path)
            if n.endswith((".yaml", ".yml")) and "values" in n.rpartition("/")[2]
        ]
        values = recorder.read(f"{path}/values.yaml" if path else "values.yaml") or b""
        helm = source.get("helm") or {}
        own = helm.get("values") or (
            _text(helm["valuesObject"]) if helm.get("valuesObject") else ""
        )
        chosen = [str(f) for f in helm.get("valueFiles") or []]
        context |= {
            "files": [(f, f in chosen) for f in sorted({*files, *chosen})[:50]],
            "defaults": values.decode(errors="replace")[:50_000],
            "own": own,
        }
    return context


def _folders(recorder: Recorder) -> list[str]:
    """Return the folders that contain an application."""
    found_ = {
        n.rpartition("/")[0]
        for n in recorder.walk("")
        if n.rpartition("/")[2]
        in ("Chart.yaml", "kustomization.yaml", "kustomization.yml", "Kustomization")
    }
    plain = {
        n.rpartition("/")[0]
        for n in recorder.walk("")
        if n.endswith((".yaml", ".yml", ".json", ".jsonnet"))
    }
    return sorted(
        {f or "." for f in found_}
        | {f or "." for f in plain if not any(f.startswith(x) for x in found_ if x)}
    )[:200]
