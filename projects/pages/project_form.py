"""Convert between form fields and the spec of a project; pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.engine.parsing import parse_digits
from hub.engine.rbac import parse
from hub.engine.rbac_rules import Rule, quoted

Fields = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Table:
    """A list of objects or strings as rows of a form."""

    name: str
    title: str
    hint: str
    columns: tuple[tuple[str, str], ...]
    """(field, placeholder); a single column without a field name is a list of strings."""


_KINDS = (("group", "group, empty for core"), ("kind", "kind"))
TABLES = (
    Table(
        "sourceRepos",
        "Source repositories",
        "URL patterns; ! excludes.",
        (("", "https://git.example/team/*"),),
    ),
    Table(
        "destinations",
        "Destinations",
        "A cluster by server or name, and its namespaces; ! excludes.",
        (("server", "server"), ("name", "or name"), ("namespace", "namespace")),
    ),
    Table(
        "clusterResourceWhitelist",
        "Cluster-scoped kinds that are allowed",
        "Leave empty for none.",
        _KINDS,
    ),
    Table("clusterResourceBlacklist", "Cluster-scoped kinds that are refused", "", _KINDS),
    Table(
        "namespaceResourceWhitelist",
        "Namespaced kinds that are allowed",
        "Leave empty for all.",
        _KINDS,
    ),
    Table("namespaceResourceBlacklist", "Namespaced kinds that are refused", "", _KINDS),
    Table(
        "sourceNamespaces",
        "Namespaces of its applications",
        "In addition to the hub's own.",
        (("", "team-*"),),
    ),
    Table(
        "signatureKeys",
        "Keys that must have signed its commits",
        "GnuPG key ids; leave empty to allow any commit.",
        (("keyID", "4AEE18F83AFDEB23"),),
    ),
    Table(
        "destinationServiceAccounts",
        "Service accounts that syncs act as",
        "If impersonation is enabled.",
        (
            ("server", "server"),
            ("namespace", "namespace"),
            ("defaultServiceAccount", "namespace:name"),
        ),
    ),
)
_ORPHANS = Table(
    "orphans",
    "Orphaned resources to ignore",
    "",
    (("group", "group"), ("kind", "kind"), ("name", "name")),
)


def tables(spec: Mapping[str, Any]) -> list[tuple[Table, list[list[tuple[str, str, str]]]]]:
    """Return the tables with their rows of (form field, placeholder, value)."""
    ignored = (spec.get("orphanedResources") or {}).get("ignore") or []
    sources = [(t, spec.get(t.name) or []) for t in TABLES] + [(_ORPHANS, ignored)]
    return [(table, [_cells(table, entry) for entry in entries]) for table, entries in sources]


def _cells(table: Table, entry: Any) -> list[tuple[str, str, str]]:
    return [
        (f"{table.name}.{field}", hint, str((entry.get(field) or "") if field else entry))
        for field, hint in table.columns
    ]


def blank(table: Table) -> list[tuple[str, str, str]]:
    """Return the cells of a new row."""
    return [(f"{table.name}.{field}", hint, "") for field, hint in table.columns]


def spec_from(spec: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Return a spec with the values of a form; other fields do not change.

    Shapes: `fields` has a list of values, one for each row, for every column of a table.
    """
    result = dict(spec)
    _put(result, "description", _one(fields, "description"))
    for table in TABLES:
        _put(result, table.name, _rows(table, fields))
    _put(result, "permitOnlyProjectScopedClusters", bool(_one(fields, "onlyScoped")))
    orphans = _one(fields, "orphaned")
    watched: dict[str, Any] = {"warn": orphans == "warn"}
    _put(watched, "ignore", _rows(_ORPHANS, fields))
    result.pop("orphanedResources", None)
    if orphans:
        result["orphanedResources"] = watched
    _put(result, "flotilla", _own(dict(result.get("flotilla") or {}), fields))
    return result


def _own(block: dict[str, Any], fields: Fields) -> dict[str, Any]:
    audit = dict(block.get("audit") or {})
    for name in ("requireReason", "requireTicket"):
        _put(audit, name, bool(_one(fields, f"audit.{name}")))
    _put(audit, "ticketPattern", _one(fields, "audit.ticketPattern"))
    deletion = dict(block.get("deletion") or {})
    for name in ("maxResources", "maxPercent"):
        value = _one(fields, f"deletion.{name}")
        deletion.pop(name, None)
        if value:
            number = parse_digits(value)
            deletion[name] = value if number is None else number
    _put(block, "audit", audit)
    _put(block, "deletion", deletion)
    return block


def _put(target: dict[str, Any], name: str, value: Any) -> None:
    target.pop(name, None)
    if value:
        target[name] = value


def _one(fields: Fields, name: str) -> str:
    values = fields.get(name) or [""]
    return values[0].strip()


def _rows(table: Table, fields: Fields) -> list[Any]:
    columns = [[v.strip() for v in fields.get(f"{table.name}.{f}") or []] for f, _ in table.columns]
    rows = [
        dict(zip([f for f, _ in table.columns], row, strict=True))
        for row in zip(*columns, strict=False)
    ]
    if table.columns[0][0] == "":
        return [row[""] for row in rows if row[""]]
    kept = [
        {k: v for k, v in row.items() if v or k == "group"} for row in rows if any(row.values())
    ]
    return [{k: v for k, v in row.items() if v or ("kind" in row and k == "group")} for row in kept]


def rules_of(role: Mapping[str, Any]) -> list[Rule]:
    """Return the valid rules of a project's role."""
    return list(parse("\n".join(str(p) for p in role.get("policies") or [])).rules)


def role_from(project: str, before: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Return a role of a project with the values of a form, its rules in Argo CD's format."""
    name = _one(fields, "name")
    columns = [
        [v.strip() for v in fields.get(f"policy.{f}") or []]
        for f in ("resource", "action", "object", "effect", "clusters")
    ]
    policies = []
    for resource, action, named, effect, clusters in zip(*columns, strict=False):
        if not action:
            continue
        about = named if named.startswith(f"{project}/") else f"{project}/{named or '*'}"
        words = ["p", f"proj:{project}:{name}", resource, action, about, effect or "allow"]
        policies.append(", ".join(quoted(w) for w in [*words, *([clusters] if clusters else [])]))
    groups = [g.strip() for g in _one(fields, "groups").splitlines() if g.strip()]
    role = {
        k: v for k, v in before.items() if k not in ("name", "description", "policies", "groups")
    }
    role = {
        "name": name,
        "description": _one(fields, "description"),
        "policies": policies,
        "groups": groups,
        **role,
    }
    return {k: v for k, v in role.items() if v or k in ("name", "policies")}


def window_from(before: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Return a sync window with the values of a form."""
    window = {k: v for k, v in before.items() if k not in _WINDOW}
    for name in ("kind", "schedule", "duration", "timeZone", "description"):
        _put(window, name, _one(fields, name))
    for name in ("applications", "namespaces", "clusters"):
        _put(
            window,
            name,
            [w.strip() for w in _one(fields, name).replace(",", "\n").splitlines() if w.strip()],
        )
    for name in ("manualSync", "andOperator", "syncOverrun"):
        _put(window, name, bool(_one(fields, name)))
    return window


_WINDOW = (
    "kind",
    "schedule",
    "duration",
    "timeZone",
    "description",
    "applications",
    "namespaces",
    "clusters",
    "manualSync",
    "andOperator",
    "syncOverrun",
)
