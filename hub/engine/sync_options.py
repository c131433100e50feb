"""Sync options of applications and resources."""

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
    """Parse options; the first one of a name wins, as in Argo CD.

    Raises: RuleError for text without "=", or an invalid value of a known option.
    """
    options: dict[str, str] = {}
    for item in items:
        name, separator, value = str(item).strip().partition("=")
        if not separator:
            raise RuleError(f"{field}: {item!r} must have the form Name=value")
        if name in _KNOWN and value not in _KNOWN[name]:
            raise RuleError(
                f"{field}: {name} takes {' or '.join(sorted(_KNOWN[name]))}, not {value!r}"
            )
        options.setdefault(name, value)
    return options


@dataclass(frozen=True, slots=True)
class ResourceOptions:
    """The options of one resource: its own annotation and the application's options."""

    app: Mapping[str, str]
    own: Mapping[str, str]

    def value(self, name: str) -> str:
        """Return the effective value, empty if unset."""
        return self.own.get(name) or self.app.get(name, "")

    def has(self, name: str) -> bool:
        """Return whether the option is enabled by the resource or the application."""
        return self.own.get(name) == "true" or self.app.get(name) == "true"

    @property
    def validate(self) -> bool:
        """Whether the API server must reject unknown fields."""
        return self.own.get("Validate") != "false" and self.app.get("Validate") != "false"


def resource_options(manifest: Manifest, app: Mapping[str, str]) -> ResourceOptions:
    """Return the options of one resource."""
    own: dict[str, str] = {}
    for word in csv_annotation(manifest, SYNC_OPTIONS):
        name, _, value = word.partition("=")
        own.setdefault(name.strip(), value.strip())
    if annotations_of(manifest).get("helm.sh/resource-policy") == "keep":
        own.setdefault("Prune", "false")
        own.setdefault("Delete", "false")
    return ResourceOptions(app, own)


def compare_options(manifest: Manifest) -> set[str]:
    """Return the words of the compare-options annotation, without `=true`."""
    return {word.removesuffix("=true") for word in csv_annotation(manifest, COMPARE_OPTIONS)}
