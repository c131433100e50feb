"""Decide which applications a set creates, updates and deletes: values in, values out."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from appsets.template.limits import require_time
from hub.engine.errors import RuleError

POLICIES = ("sync", "create-only", "create-update", "create-delete")
KEPT_ANNOTATIONS = (
    "notified.notifications.argoproj.io",
    "argocd.argoproj.io/refresh",
    "argocd.argoproj.io/hydrate",
    "argocd.argoproj.io/deletion-approved",
)
_HOOK_FINALIZERS = (
    "pre-delete-finalizer.argocd.argoproj.io",
    "post-delete-finalizer.argocd.argoproj.io",
)


Path = Sequence[str | int]
Paths = Callable[[str, Any], Sequence[Path]]


class App(NamedTuple):
    """An application, as generated or as stored."""

    name: str
    spec: Mapping[str, Any]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    finalizers: Sequence[str]


class Existing(NamedTuple):
    """An existing application and its owner."""

    app: App
    owner: str
    deleting: bool = False
    project: str = ""


class Wish(NamedTuple):
    """The applications that a set generates.

    Shapes: `blocked` are names of invalid applications, which are neither updated nor deleted;
        without `is_complete` further names are unknown, and nothing is deleted; with
        `may_be_empty` an empty list is a normal result, as for pull requests.
    """

    apps: Sequence[App]
    blocked: Collection[str] = ()
    is_complete: bool = True
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """The number of applications that a set may delete at once without a confirmation."""

    maximum: int = 10
    percent: int = 50
    from_count: int = 5

    def allows(self, gone: int, total: int) -> bool:
        """Return whether `gone` of `total` may be deleted."""
        if gone > self.maximum:
            return False
        return total < self.from_count or gone * 100 <= self.percent * total


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes that a set makes."""

    create: tuple[App, ...] = ()
    update: tuple[tuple[App, App], ...] = ()
    """Pairs of (before, after)."""
    delete: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    """Deletions that need a confirmation first."""
    kept: tuple[str, ...] = ()
    """Applications that are no longer generated, and stay because of the set's policy."""
    problems: tuple[tuple[str, str], ...] = ()
    unchanged: int = 0


def budget_of(spec: Mapping[str, Any]) -> Budget:
    """Return a set's budget: `spec.flotilla.deletion {maxApplications, maxPercent}`.

    Raises: RuleError naming the field.
    """
    block = (spec.get("flotilla") or {}).get("deletion") or {}
    if not isinstance(block, Mapping):
        raise RuleError("spec.flotilla.deletion must be an object")
    found = {}
    for field, name, ceiling in (
        ("maxApplications", "maximum", 1_000_000),
        ("maxPercent", "percent", 100),
    ):
        value = block.get(field)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= ceiling:
            raise RuleError(
                f"spec.flotilla.deletion.{field} must be a whole number from 0 to {ceiling}"
            )
        found[name] = value
    return Budget(**found)


def decide(
    owner: str,
    spec: Mapping[str, Any],
    wish: Wish,
    existing: Mapping[str, Existing],
    approved: Collection[str] = (),
    paths: Paths = lambda _expression, _value: [],
) -> Plan:
    """Return the changes that a set makes to its existing applications.

    Shapes: `existing` holds every application with a generated name and every one that the set
        owns; `paths` returns the paths that a jq expression selects.
    Raises: RuleError for an invalid budget.
    """
    policy = policy_of(spec)
    wanted, problems = _unique(wish.apps)
    create: list[App] = []
    update: list[tuple[App, App]] = []
    unchanged = 0
    for name, app in sorted(wanted.items()):
        found = existing.get(name)
        if found is None:
            create.append(app)
        elif refusal := _refusal(owner, app, found):
            problems.append((name, refusal))
        elif found.deleting or (policy in ("create-only", "create-delete") and found.owner):
            unchanged += 1
        else:
            after = merged(found.app, app, spec, paths)
            if after == found.app and found.owner:
                unchanged += 1
            else:
                update.append((found.app, after))
    delete, waiting, kept = _deletions(owner, spec, wish, existing, approved)
    return Plan(tuple(create), tuple(update), delete, waiting, kept, tuple(problems), unchanged)


def policy_of(spec: Mapping[str, Any]) -> str:
    """Return the policy of a set: sync, create-only, create-update or create-delete."""
    return str((spec.get("syncPolicy") or {}).get("applicationsSync") or "sync")


def _refusal(owner: str, app: App, found: Existing) -> str:
    """Return why a set may not update an existing application, empty if it may."""
    if found.owner == owner:
        return ""
    if found.project != app.spec.get("project"):
        return f"the name {app.name} is taken by an application of another project"
    if found.owner:
        return f"application {app.name} is already owned by ApplicationSet {found.owner}"
    return ""


def _deletions(
    owner: str,
    spec: Mapping[str, Any],
    wish: Wish,
    existing: Mapping[str, Existing],
    approved: Collection[str],
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the names to delete, those that wait for a confirmation, and those that are kept."""
    names = {app.name for app in wish.apps} | set(wish.blocked)
    own = [e for e in existing.values() if e.owner == owner]
    gone = tuple(sorted(e.app.name for e in own if not e.deleting and e.app.name not in names))
    if policy_of(spec) in ("create-only", "create-update") or not wish.is_complete:
        return (), (), gone
    asked = tuple(name for name in gone if name not in approved)
    # Deletions in progress count too: a reconciliation does not start a new budget.
    leaving = len(asked) + sum(e.deleting and e.app.name not in names for e in own)
    if not asked or ((names or wish.may_be_empty) and budget_of(spec).allows(leaving, len(own))):
        return gone, (), ()
    return tuple(name for name in gone if name in approved), asked, ()


def _unique(desired: Sequence[App]) -> tuple[dict[str, App], list[tuple[str, str]]]:
    wanted: dict[str, App] = {}
    twice: set[str] = set()
    for app in desired:
        if app.name in wanted:
            twice.add(app.name)
        wanted[app.name] = app
    for name in twice:
        del wanted[name]
    return wanted, [
        (name, f"contains applications with duplicate name: {name}") for name in sorted(twice)
    ]


def merged(
    live: App, wanted: App, spec: Mapping[str, Any], paths: Paths = lambda _expression, _value: []
) -> App:
    """Return the updated application: the generated one with the fields that the set preserves."""
    preserved = spec.get("preservedFields") or {}
    keep = {*KEPT_ANNOTATIONS, *(preserved.get("annotations") or [])}
    annotations = {
        **{
            k: v
            for k, v in live.annotations.items()
            if k in keep or k.startswith("notified.notifications.argoproj.io")
        },
        **wanted.annotations,
    }
    labels = {
        **{k: v for k, v in live.labels.items() if k in (preserved.get("labels") or [])},
        **wanted.labels,
    }
    finalizers = [
        *wanted.finalizers,
        *(
            f
            for f in live.finalizers
            if f.startswith(_HOOK_FINALIZERS) and f not in wanted.finalizers
        ),
    ]
    made = {"spec": dict(wanted.spec), "metadata": {"labels": labels, "annotations": annotations}}
    before = {
        "spec": dict(live.spec),
        "metadata": {"labels": dict(live.labels), "annotations": dict(live.annotations)},
    }
    for rule in spec.get("ignoreApplicationDifferences") or []:
        if rule.get("name") in (None, "", wanted.name):
            for pointer in rule.get("jsonPointers") or []:
                require_time()
                made = _taken(
                    made,
                    before,
                    [p.replace("~1", "/").replace("~0", "~") for p in str(pointer).split("/")[1:]],
                )
            for expression in rule.get("jqPathExpressions") or []:
                made = _paired(made, before, paths(expression, made), paths(expression, before))
    return App(
        wanted.name,
        made["spec"],
        made["metadata"]["labels"],
        made["metadata"]["annotations"],
        finalizers,
    )


def _taken(made: Any, live: Any, path: Sequence[str]) -> Any:
    """Return a value with the live field at a path, so that a manual change stays."""
    if not path:
        return live
    if not isinstance(made, Mapping) or not isinstance(live, Mapping):
        return made
    key = path[0]
    if len(path) == 1 and key not in live:
        return {k: v for k, v in made.items() if k != key}
    if key not in live:
        return made
    return {**made, key: _taken(made.get(key, {}), live[key], path[1:])}


def _paired(made: Any, live: Any, ours: Sequence[Path], theirs: Sequence[Path]) -> Any:
    """Return a value with the live values of the selected fields, paired in order.

    If the two sides select different numbers of fields, only those outside lists are taken, because
    elements of the lists cannot be paired.
    """
    if len(ours) != len(theirs):
        for path in [*ours, *theirs]:
            require_time()
            if all(isinstance(key, str) for key in path):
                made = _taken(made, live, [str(key) for key in path])
        return made
    for our, their in zip(ours, theirs, strict=True):
        # Each field copies its parents, and an expression may select a hundred thousand.
        require_time()
        found = _at(live, their)
        made = _put(made, our, found)
    return made


def _at(value: Any, path: Path) -> list[Any]:
    """Return the value at a path in a list, empty if there is none."""
    for key in path:
        found = _inside(value, key)
        if not found:
            return []
        value = found[0]
    return [value]


def _inside(value: Any, key: str | int) -> list[Any]:
    if isinstance(value, Mapping):
        return [value[key]] if key in value else []
    if isinstance(value, list) and isinstance(key, int):
        return value[key : key + 1] if key >= 0 else []
    return []


def _put(value: Any, path: Path, found: Sequence[Any]) -> Any:
    """Return a value with `found` at a path, or without that path if nothing was found."""
    if not path:
        return found[0] if found else value
    key = path[0]
    if isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value):
        if len(path) == 1 and not found:
            return value
        return [_put(v, path[1:], found) if n == key else v for n, v in enumerate(value)]
    if value is None or isinstance(value, Mapping):
        there = value or {}
        if not _at(there, [key]) and not found:
            return value
        if len(path) == 1 and not found:
            return {k: v for k, v in there.items() if k != key}
        return {**there, key: _put(there.get(key), path[1:], found)}
    return value
