"""Earlier steps of a plan that may resolve a dry run's refusal of a later step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hub.engine.hooks import SyncPhase
from hub.engine.plan import HOOK, PRUNE, Step
from hub.engine.resource import is_builtin

_NAMESPACED_RULES = frozenset({"ResourceQuota", "LimitRange"})
_CLUSTER_RULES = frozenset(
    {
        "ServiceAccount",
        "Secret",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "PriorityClass",
        "RuntimeClass",
        "StorageClass",
        "IngressClass",
        "Service",
        "APIService",
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "CustomResourceDefinition",
    }
)
"""Kinds that affect what an API server accepts: RBAC, admission, references."""

_SERVERS = frozenset(
    {
        "Service",
        "Endpoints",
        "EndpointSlice",
        "Pod",
        "Deployment",
        "StatefulSet",
        "DaemonSet",
        "ReplicaSet",
    }
)
"""Kinds that may serve a webhook or an API."""

_MALFORMED = (
    "strict decoding error",
    "field not declared in schema",
    "unknown field",
    "cannot unmarshal",
    "failed to create typed patch object",
    "expected map",
    "expected list",
)
_BY_OTHERS = ("denied request", "denied the request", "admission webhook", "already allocated")
"""Parts of messages that depend on more than the manifest, despite an "invalid" status."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An API server's refusal of a resource."""

    status: int
    message: str

    @property
    def is_answer(self) -> bool:
        """Whether it is about the resource; some webhooks do not support dry runs."""
        return "does not support dry run" not in self.message

    @property
    def is_malformed(self) -> bool:
        """Whether the manifest violates the schema of its kind."""
        return any(words in self.message for words in _MALFORMED)

    @property
    def is_invalid(self) -> bool:
        """Whether values of the manifest, or changes to them, are refused."""
        by_others = any(words in self.message for words in _BY_OTHERS)
        return self.status in (400, 422) and not by_others

    @property
    def is_outage(self) -> bool:
        """Whether a server or webhook that must decide did not respond."""
        is_silent = self.status >= 500 or "failed calling webhook" in self.message
        return is_silent and not self.is_malformed  # some servers report these with status 500


def prerequisite_of(steps: Sequence[Step], number: int, refusal: Refusal) -> Step | None:
    """Return an earlier step that may resolve why a step is refused, None if there is none.

    A malformed or invalid manifest of a built-in kind stays refused, unless a hook removes the
    cause. The schema of a custom kind may change with its definition. Anything else (RBAC, quotas,
    admission, references, unavailable webhooks) depends on the state at that time.
    """
    later = steps[number]
    for earlier in _before(steps, number):
        if _can_change(earlier, later, refusal):
            return earlier
    return None


def _before(steps: Sequence[Step], number: int) -> Iterator[Step]:
    later = steps[number]
    for index, step in enumerate(steps):
        if step.phase is SyncPhase.SYNC_FAIL or index == number or step.group > later.group:
            continue
        # Prunes run first in their group.
        if step.group < later.group or index < number or step.action == PRUNE:
            yield step


def _can_change(earlier: Step, later: Step, refusal: Refusal) -> bool:
    if earlier.defines == (later.key.group, later.key.kind) and _changes(earlier):
        return True
    is_own = is_builtin(later.key.group)
    if is_own and refusal.is_malformed:
        return False
    if earlier.action == HOOK:
        return True
    if refusal.is_outage and _may_answer(earlier, later):
        return True
    if not _changes(earlier) or (is_own and refusal.is_invalid):
        return False
    return earlier.group < later.group or _enables(earlier, later)


def _may_answer(earlier: Step, later: Step) -> bool:
    """Return whether a step may start the missing server; earlier groups are always awaited."""
    return earlier.group < later.group or (earlier.key.kind in _SERVERS and _changes(earlier))


def _changes(step: Step) -> bool:
    if step.action == PRUNE:
        return step.result != "PruneSkipped"
    return not step.synced


def _enables(earlier: Step, later: Step) -> bool:
    if earlier.action == PRUNE:
        return True
    if earlier.key[:2] == ("", "Namespace"):
        return later.key.namespace == earlier.key.name
    if earlier.key.kind in _NAMESPACED_RULES:
        return later.key.namespace == earlier.key.namespace
    return earlier.key.kind in _CLUSTER_RULES or not is_builtin(earlier.key.group)
