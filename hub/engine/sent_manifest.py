"""What exactly is sent to a cluster: the manifest from Git, prepared for an API server.

A comparison prepares a manifest as a sync does, so that both ask the API server about the same
one. Namespaces and tracking marks are set before (`projects.comparison.compare.prepared`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hub.engine.duplicate_elements import Duplicate, without_duplicates
from hub.engine.effort import Effort
from hub.engine.ignore_rules import IgnoreRule, PathsByJq, rules_for
from hub.engine.normalize import normalize_desired
from hub.engine.preserve_ignored import preserve_ignored
from hub.engine.resource import Manifest, resource_key
from hub.engine.schema import OBJECT, Type


@dataclass(frozen=True, slots=True)
class Preserved:
    """The fields that keep their live values, by the option `RespectIgnoreDifferences`."""

    rules: Sequence[IgnoreRule]
    paths_by_jq: PathsByJq
    effort: Effort = field(default_factory=Effort)
    """The work that the rules may cause, for all manifests of a comparison or a sync together."""

    def concerns(self, manifest: Manifest) -> bool:
        """Return whether a rule ignores fields of the resource."""
        return bool(rules_for(resource_key(manifest), self.rules))


def manifest_to_send(
    manifest: Manifest,
    live: Manifest | None,
    type_: Type | None,
    preserved: Preserved | None = None,
) -> tuple[Manifest, list[Duplicate]]:
    """Return a manifest as it is sent, and the repeated list elements that are left out.

    Shapes: `type_` is the type from the cluster's schema, None if it is not known; `preserved` is
        None unless ignored fields keep their live values.
    Raises: ManifestError for a repeated element that API servers reject, RuleError for a rule that
        fails.
    """
    wanted, repeated = normalize_desired(manifest, type_), list[Duplicate]()
    if type_ is not None:
        wanted, repeated = without_duplicates(wanted, type_)
    if live is None or preserved is None:
        return wanted, repeated
    kept = preserve_ignored(
        wanted, live, preserved.rules, preserved.paths_by_jq, type_ or OBJECT, preserved.effort
    )
    return kept, repeated
