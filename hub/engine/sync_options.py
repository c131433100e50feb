"""Sync options of an application and of its resources."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hub.engine.errors import RuleError
from hub.engine.resource import Manifest, annotations_of, csv_annotation

SYNC_OPTIONS = "argocd.argoproj.io/sync-options"
COMPARE_OPTIONS = "argocd.argoproj.io/compare-options"

_KNOWN = {
    "Validate": {"true", "false"},
    "Prune": {"true", "false", "confirm"},
    "Delete": {"true", "false", "confirm"},
    "PruneLast": {"true", "false"},
    "PrunePropagationPolicy": {"foreground", "background", "orphan"},
    "Replace": {"true", "false"},
    "Force": {"true", "false"},
    "ServerSideApply": {"true", "false"},
    "ClientSideApplyMigration": {"true", "false"},
    "ApplyOutOfSyncOnly": {"true", "false"},
    "CreateNamespace": {"true", "false"},
    "SkipDryRunOnMissingResource": {"true", "false"},
    "RespectIgnoreDifferences": {"true", "false"},
    "FailOnSharedResource": {"true", "false"},
}


def parse_options(items: Iterable[str], field: str = "syncOptions") -> dict[str, str]:
    """Return options as a mapping; the first of a name wins, as in Argo CD.

    Raises: RuleError for text without "=", or a known option with a value it does not take.
    """
    options: dict[str, str] = {}
    for item in items:
        name, separator, value = str(item).strip().partition("=")
        if not separator:
            raise RuleError(f"{field}: {item!r} must be written Name=value")
        if name in _KNOWN and value not in _KNOWN[name]:
            raise RuleError(
                f"{field}: {name} takes {' or '.join(sorted(_KNOWN[name]))}, not {value!r}"
            )
        options.setdefault(name, value)
    return options


@dataclass(frozen=True, slots=True)
class ResourceOptions:
    """What applies to one resource: its annotation over the application's options."""

    app: Mapping[str, str]
    own: Mapping[str, str]

    def value(self, name: str) -> str:
        """Return the value that counts, empty when unset."""
        return self.own.get(name) or self.app.get(name, "")

    def has(self, name: str) -> bool:
        """Return whether the option is switched on at either place."""
        return self.own.get(name) == "true" or self.app.get(name) == "true"

    @property
    def validate(self) -> bool:
        """Whether the API server must refuse unknown fields."""
        return self.own.get("Validate") != "false" and self.app.get("Validate") != "false"


def resource_options(manifest: Manifest, app: Mapping[str, str]) -> ResourceOptions:
    """Return the options of one resource; words that are no option are left out."""
    own: dict[str, str] = {}
    for word in csv_annotation(manifest, SYNC_OPTIONS):
        name, _, value = word.partition("=")
        own.setdefault(name.strip(), value.strip())
    if annotations_of(manifest).get("helm.sh/resource-policy") == "keep":
        own.setdefault("Prune", "false")
        own.setdefault("Delete", "false")
    return ResourceOptions(app, own)


def compare_options(manifest: Manifest) -> set[str]:
    """Return the words of the compare-options annotation, with =true understood."""
    return {word.removesuffix("=true") for word in csv_annotation(manifest, COMPARE_OPTIONS)}
