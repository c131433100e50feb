"""Import of a whole installation, object by object."""

from collections.abc import Callable

from hub.cli.installation import argocd_maps, credentials, objects
from hub.cli.installation.report import Document, Report
from hub.cli.problem import Problem

_ORDER = {"ConfigMap": 0, "AppProject": 1, "Secret": 2, "ApplicationSet": 3, "Application": 4}


def take_all(report: Report, documents: list[Document]) -> None:
    """Import a whole installation, in the order of dependencies."""
    for document in sorted(documents, key=lambda d: _ORDER.get(str(d.get("kind")), 9)):
        take(report, document)


def take(report: Report, document: Document) -> None:
    """Import one object; an error is one line of the report."""
    kind = str(document.get("kind") or "")
    metadata = document.get("metadata") if isinstance(document.get("metadata"), dict) else {}
    name = str((metadata or {}).get("name") or "")
    takers: dict[str, Callable[[Report, Document, str], None]] = {
        "AppProject": objects.take_project,
        "Application": objects.take_application,
        "ApplicationSet": objects.take_set,
        "ConfigMap": argocd_maps.take_config_map,
        "Secret": credentials.take_secret,
    }
    if kind not in takers or not name:
        report.line(f"{kind or 'object'} {name}", "kept back", "the hub does not keep such objects")
        return
    try:
        takers[kind](report, document, name)
    except Problem as problem:
        report.line(f"{kind} {name}", "failed", str(problem))


def without_label(documents: list[Document], label: str) -> list[Document]:
    """Return the documents without a label, key=value.

    Raises: Problem for an invalid label.
    """
    key, equals, value = label.partition("=")
    if not equals or not key:
        raise Problem(f"--skip-resources-with-label {label}: write key=value")
    return [
        d for d in documents if ((d.get("metadata") or {}).get("labels") or {}).get(key) != value
    ]
