"""What an import does with each object, and the writes that it makes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.cli.client import Client
from hub.cli.output import print_line
from hub.cli.problem import Problem

Document = dict[str, Any]
API = "argoproj.io/v1alpha1"
SECRET_TYPE = "argocd.argoproj.io/secret-type"
OMITTED = "flotilla.io/credentials"
"""Marks a Secret whose credentials are not exported: an import keeps the hub's own."""
_OWN = (
    "argocd.argoproj.io/refresh",
    "kubectl.kubernetes.io/last-applied-configuration",
    "argocd.argoproj.io/deletion-approved",
)


@dataclass(frozen=True, slots=True)
class Line:
    """The result for an object, or a part of it."""

    what: str
    result: str
    """created, updated, unchanged, kept back, or failed."""
    note: str = ""


class Report:
    """Writes objects of an import, and records the results."""

    def __init__(self, hub: Client, *, dry_run: bool, stop_operation: bool = False) -> None:
        self.hub, self.dry_run, self.stop_operation = hub, dry_run, stop_operation
        self.lines: list[Line] = []
        self.generated: set[str] = set()

    def show(self, *, verbose: bool = True) -> None:
        """Print the results; without `verbose` unchanged objects are left out.

        Raises: Problem when something failed.
        """
        for line in self.lines:
            if line.result == "unchanged" and not verbose and not line.note:
                continue
            changes = ("created", "updated", "pruned")
            dry = " (dry run)" if self.dry_run and line.result in changes else ""
            print_line(f"{line.what} {line.result}{dry}{f': {line.note}' if line.note else ''}")
        same = sum(line.result == "unchanged" for line in self.lines)
        if same and not verbose:
            print_line(f"{same} unchanged")
        failed = sum(line.result == "failed" for line in self.lines)
        if failed:
            raise Problem(f"{failed} of {len(self.lines)} could not be imported; the others were")

    def line(self, what: str, result: str, note: str = "") -> None:
        """Record a result."""
        self.lines.append(Line(what, result, note))

    def read(self, where: str) -> Any:
        """Return an object of the hub, None when it is absent."""
        try:
            return self.hub.get(where)
        except Problem as problem:
            # The hub reports a missing object as forbidden.
            if problem.status in (403, 404):
                return None
            raise

    def attempt(self, what: str, take: Callable[[], None]) -> None:
        """Import a part of an object; one that fails leaves the other parts to be imported."""
        try:
            take()
        except Problem as problem:
            self.line(what, "failed", str(problem))

    def write(self, what: str, before: Any, wanted: Any, call: Callable[[], Any]) -> None:
        """Write when something differs, and record the result."""
        if before is not None and before == wanted:
            self.line(what, "unchanged")
            return
        if not self.dry_run:
            call()
        self.line(what, "created" if before is None else "updated")


def identity(document: Mapping[str, Any]) -> tuple[str, str]:
    """Return (namespace, name) of an object."""
    metadata = document.get("metadata") or {}
    return str(metadata.get("namespace") or "argocd"), str(metadata.get("name"))


def metadata_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of an object without fields that a server sets."""
    metadata = document.get("metadata") or {}
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k not in _OWN}
    found = {
        "name": metadata.get("name"),
        "namespace": metadata.get("namespace") or "argocd",
        "labels": metadata.get("labels") or {},
        "annotations": annotations,
        "finalizers": metadata.get("finalizers") or [],
    }
    return {k: v for k, v in found.items() if v}
