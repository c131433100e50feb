"""Import of projects, applications and sets, and removal of those that an export has not."""

from collections.abc import Mapping
from typing import Any

from hub.cli.client import path
from hub.cli.installation.report import API, Document, Report, identity, metadata_of
from hub.cli.problem import Problem


def take_project(report: Report, document: Document, name: str) -> None:
    """Import a project without the tokens of its roles."""
    spec = dict(document.get("spec") or {})
    tokens = [r.get("name") for r in spec.get("roles") or [] if r.get("jwtTokens")]
    spec["roles"] = [
        {k: v for k, v in r.items() if k != "jwtTokens"} for r in spec.get("roles") or []
    ]
    if not spec["roles"]:
        del spec["roles"]
    body = {"metadata": metadata_of(document), "spec": spec}
    found = report.read(path("projects", name))
    before = {"metadata": metadata_of(found), "spec": found["spec"]} if found else None
    report.write(
        f"AppProject {name}",
        before,
        body,
        lambda: report.hub.post(path("projects"), {"project": body, "upsert": True}),
    )
    if tokens:
        report.line(
            f"AppProject {name} tokens of {', '.join(map(str, tokens))}",
            "kept back",
            (
                "they were signed by another server: "
                "create new ones with flotilla proj role create-token"
            ),
        )


def take_application(report: Report, document: Document, name: str) -> None:
    """Import an application, unless a set of the export makes it."""
    metadata = document["metadata"]
    owner = next(
        (o for o in metadata.get("ownerReferences") or [] if o.get("kind") == "ApplicationSet"),
        None,
    )
    if owner and str(owner.get("name")) in report.generated:
        report.line(f"Application {name}", "unchanged", f"set {owner['name']} makes it")
        return
    where = str(metadata.get("namespace") or "")
    found = report.read(path("applications", name, appNamespace=where))
    body = _written("Application", document)
    before = _written("Application", found) if found else None
    call = (
        (
            lambda: report.hub.put(
                path("applications", name, appNamespace=where, validate="false"), body
            )
        )
        if found
        else (lambda: report.hub.post(path("applications", validate="false"), body))
    )
    if before is not None and before != body:
        _stop(report, found, path("applications", name, "operation", appNamespace=where))
    report.write(f"Application {name}", before, body, call)
    _not_served(report, f"Application {name}", document.get("spec") or {})


def _written(kind: str, document: Document) -> Document:
    return {
        "apiVersion": API,
        "kind": kind,
        "metadata": metadata_of(document),
        "spec": document.get("spec") or {},
    }


def _not_served(report: Report, what: str, spec: Mapping[str, Any]) -> None:
    """Report unsupported fields of an application, which is stored and reports them itself."""
    sources = [spec.get("source"), *(spec.get("sources") or [])]
    if any(isinstance(s, Mapping) and s.get("plugin") is not None for s in sources):
        report.line(
            f"{what} source.plugin",
            "kept back",
            "the hub runs no config management plugins: it is stored and cannot be rendered",
        )
    if spec.get("sourceHydrator") is not None:
        report.line(
            f"{what} sourceHydrator",
            "kept back",
            (
                "the hub hydrates no branches: it is stored and cannot be synced; "
                "name the hydrated branch in spec.source"
            ),
        )


def _stop(report: Report, found: Document, operation: str) -> None:
    state = ((found.get("status") or {}).get("operationState") or {}).get("phase")
    if report.stop_operation and not report.dry_run and state == "Running":
        report.hub.delete(operation)
        report.line(f"operation of Application {found['metadata']['name']}", "ended")


def take_set(report: Report, document: Document, name: str) -> None:
    """Import an application set."""
    where = str(document["metadata"].get("namespace") or "")
    body = _written("ApplicationSet", document)
    found = report.read(path("applicationsets", name, appsetNamespace=where))
    before = _written("ApplicationSet", found) if found else None
    report.write(
        f"ApplicationSet {name}",
        before,
        body,
        lambda: report.hub.post(path("applicationsets", upsert=True), body),
    )
    report.generated.add(name)
    _not_served(
        report,
        f"ApplicationSet {name}",
        ((document.get("spec") or {}).get("template") or {}).get("spec") or {},
    )


def prune(report: Report, documents: list[Document]) -> None:
    """Delete from the hub what is not in the documents; deployed resources keep running."""
    for kind, where in (
        ("ApplicationSet", "applicationsets"),
        ("Application", "applications"),
        ("AppProject", "projects"),
    ):
        named = {identity(d) for d in documents if d.get("kind") == kind}
        for item in report.hub.get(path(where)).get("items") or []:
            metadata = item["metadata"]
            if (
                identity(item) in named
                or metadata.get("ownerReferences")
                or (kind, metadata["name"]) == ("AppProject", "default")
            ):
                continue
            _remove(report, kind, where, metadata)


def _remove(report: Report, kind: str, where: str, metadata: Mapping[str, Any]) -> None:
    what = f"{kind} {metadata['name']}"
    space = {"applications": "appNamespace", "applicationsets": "appsetNamespace"}.get(where)
    query = {space: metadata.get("namespace")} if space else {}
    try:
        if not report.dry_run:
            report.hub.delete(
                path(where, metadata["name"], **query, **({"cascade": "false"} if space else {}))
            )
    except Problem as problem:
        report.line(what, "failed", str(problem))
    else:
        report.line(what, "pruned")
