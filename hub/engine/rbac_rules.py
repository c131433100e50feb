"""RBAC rules, indexed so that a decision evaluates only a few.

Shapes: an object is `project/application`, `project/namespace/application`, or another name.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from hub.engine.cluster_scopes import Scope, Where
from hub.engine.globs import Union, is_plain, matches
from hub.engine.regex import PatternError, compiled_any, finds, readable

_EVERYTHING = frozenset(("*", "*/*", "**"))


class Rule(NamedTuple):
    """One `p` line of a policy."""

    subject: str
    resource: str
    action: str
    object: str
    effect: str
    origin: str
    """The document and line, to explain a decision."""
    where: Scope | None = None
    """The clusters to which the rule is limited, None for all."""
    project: str = ""
    """The project that defines the rule and to which it is limited."""

    def __str__(self) -> str:
        """Return the policy line."""
        scope = (self.where.text,) if self.where else ()
        return f"p, {', '.join(quoted(word) for word in (*self[:5], *scope))}"

    def is_about(self, name: str) -> bool:
        """Return whether the object is in the rule's own project, if it has one."""
        return not self.project or name == self.project or name.startswith(f"{self.project}/")


def quoted(word: str) -> str:
    """Quote a word for a policy line if necessary."""
    if any(c in word for c in ',"') or word != word.strip():
        return '"' + word.replace('"', '""') + '"'
    return word


def fits(pattern: str, text: str, mode: str) -> bool:
    """Return whether a pattern of a rule matches a text; an invalid pattern matches nothing."""
    return finds(pattern, text) if mode == "regex" else matches(pattern, text)


def holds(rule: Rule, name: str, where: Where | None, mode: str) -> bool:
    """Return whether a rule applies to an object and its cluster."""
    return (
        rule.is_about(name)
        and (rule.where is None or rule.where.covers(where))
        and fits(rule.object, name, mode)
    )


class RuleIndex:
    """Rules with one effect, grouped by the project that defines them.

    The rules of one project must not slow down decisions about others.
    """

    __slots__ = ("_groups", "_mode", "_rules")

    def __init__(self, rules: Iterable[Rule], mode: str) -> None:
        """Group the rules; those of a project are compiled when first needed."""
        self._mode = mode
        self._rules = dict[str, list[Rule]]()
        self._groups = dict[str, _Group]()
        for rule in rules:
            self._rules.setdefault(_project_of(rule.project), []).append(rule)

    def first(self, name: str, where: Where | None) -> Rule | None:
        """Return a rule that applies to an object, None if there is none."""
        for project in (_project_of(name), ""):
            found = self._group(project).first(name, where) if project in self._rules else None
            if found is not None:
                return found
        return None

    def _group(self, project: str) -> "_Group":
        if project not in self._groups:
            self._groups[project] = _Group(self._rules[project], self._mode)
        return self._groups[project]


def _project_of(name: str) -> str:
    return name.partition("/")[0]


class _Group:
    """The rules of one project, or of none; unscoped rules are matched together."""

    __slots__ = ("_by_name", "_mode", "_others", "_scoped", "_scoped_by_name", "_union")

    def __init__(self, rules: list[Rule], mode: str) -> None:
        self._mode = mode
        self._by_name, self._others = dict[str, Rule](), list[Rule]()
        self._scoped_by_name, self._scoped = dict[str, list[Rule]](), list[Rule]()
        for rule in rules:
            is_name = mode != "regex" and is_plain(rule.object)
            # A valid project name has no "/"; rules stored unchecked are matched one by one.
            if rule.where is None and "/" not in rule.project:
                if is_name:
                    self._by_name.setdefault(rule.object, rule)
                else:
                    self._others.append(rule)
            elif is_name:
                self._scoped_by_name.setdefault(rule.object, []).append(rule)
            else:
                self._scoped.append(rule)
        self._union = _union([rule.object for rule in self._others], mode)

    def first(self, name: str, where: Where | None) -> Rule | None:
        found = self._by_name.get(name)
        if found is None and self._union is not None and self._union(name):
            found = next(r for r in self._others if fits(r.object, name, self._mode))
        if found is not None:
            return found
        for rules in (self._scoped_by_name.get(name, ()), self._scoped):
            for rule in rules:
                if holds(rule, name, where, self._mode):
                    return rule
        return None


def _union(objects: Iterable[str], mode: str) -> Callable[[str], bool] | None:
    patterns = tuple(dict.fromkeys(objects))
    if not patterns:
        return None
    return _any_regex(patterns) if mode == "regex" else Union(patterns)


def _any_regex(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    try:
        search = compiled_any(patterns).search
    except PatternError:
        return lambda text: any(finds(pattern, text) for pattern in patterns)
    return lambda text: search(readable(text)) is not None


class ObjectSet(NamedTuple):
    """A set of objects to select in one query: the union of its lists."""

    project: str = ""
    """The project of all objects, empty for any."""
    where: Scope | None = None
    everything: bool = False
    projects: tuple[str, ...] = ()
    """Projects whose objects are all included."""
    names: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()


def object_sets(rules: Iterable[Rule]) -> tuple[ObjectSet, ...]:
    """Return the objects that rules select, in as few sets as possible."""
    found: dict[tuple[str, Scope | None], dict[str, dict[str, None]]] = {}

    def put(project: str, where: Scope | None, kind: str, text: str) -> None:
        found.setdefault((project, where), {}).setdefault(kind, {})[text] = None

    for rule in rules:
        kind, text = _kind_of(rule.object)
        is_stored_unchecked = "/" in rule.project
        if is_stored_unchecked:
            put(rule.project, rule.where, "globs", rule.object)
        elif kind in ("projects", "names"):
            # The object names a project; a rule of another project never applies to it.
            if not rule.project or _project_of(text) == rule.project:
                put("", rule.where, kind, text)
        elif kind == "everything" and rule.project:
            put("", rule.where, "projects", rule.project)
        else:
            put(rule.project, rule.where, kind, text)
    return tuple(
        ObjectSet(
            project,
            where,
            "everything" in kinds,
            *(tuple(kinds.get(kind, ())) for kind in ("projects", "names", "globs")),
        )
        for (project, where), kinds in found.items()
    )


def _kind_of(text: str) -> tuple[str, str]:
    if text in _EVERYTHING:
        return "everything", text
    if text.endswith("/*") and "/" not in text[:-2] and is_plain(text[:-2]):
        return "projects", text[:-2]
    return ("names" if is_plain(text) else "globs"), text


@dataclass(frozen=True, eq=False)
class Reach:
    """The objects that some subjects may access: those of an allow rule and of no deny rule."""

    allow: tuple[Rule, ...]
    deny: tuple[Rule, ...]

    @cached_property
    def allowed(self) -> tuple[ObjectSet, ...]:
        """The objects of allow rules."""
        return object_sets(self.allow)

    @cached_property
    def denied(self) -> tuple[ObjectSet, ...]:
        """The objects of deny rules."""
        return object_sets(self.deny)


class Candidates:
    """The rules that apply to some subjects, a resource and an action."""

    __slots__ = ("allow", "deny", "reach")

    def __init__(self, rules: Iterable[Rule], mode: str) -> None:
        """Split the rules by effect."""
        kept = tuple(rules)
        allow = tuple(r for r in kept if r.effect == "allow")
        deny = tuple(r for r in kept if r.effect == "deny")
        self.reach = Reach(allow, deny)
        self.allow, self.deny = RuleIndex(allow, mode), RuleIndex(deny, mode)
