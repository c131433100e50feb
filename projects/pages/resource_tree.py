"""The resource tree of an application as a drawing and as a list; pure functions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.engine.parsing import parse_integer

_RANK = {"Degraded": 0, "Missing": 1, "Unknown": 2, "Progressing": 3, "Suspended": 4}
_NOTES = ("Status Reason", "Containers", "Revision", "Restart Count")


@dataclass(frozen=True, slots=True)
class Box:
    """A resource in the list."""

    key: str
    """The key group/kind/namespace/name, empty for the application."""
    title: str
    kind: str
    health: str
    sync: str
    depth: int
    wave: int
    notes: str


def key_of(node: Mapping[str, Any]) -> str:
    """Return the key of a node on the page."""
    return "/".join(
        [node.get("group") or "", node["kind"], node.get("namespace") or "", node["name"]]
    )


def listed(
    application: Mapping[str, str],
    nodes: Sequence[Mapping[str, Any]],
    states: Mapping[str, Mapping[str, Any]],
) -> list[Box]:
    """Return the tree as a list: each resource below its owner, the unhealthiest first.

    Shapes: `application` has name, health and sync; `nodes` are Argo CD's; `states` are the
        resources of the status by the key of their node.
    """
    below, top = _families(nodes)
    root = Box(
        "", application["name"], "Application", application["health"], application["sync"], 0, 0, ""
    )
    return [root, *_walk(top, below, states)]


def _families(
    nodes: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, list[Mapping[str, Any]]], list[Mapping[str, Any]]]:
    known = {n.get("uid") for n in nodes if n.get("uid")}
    below: dict[str, list[Mapping[str, Any]]] = {}
    top = []
    for node in nodes:
        parents = [p["uid"] for p in node.get("parentRefs") or [] if p.get("uid") in known]
        if parents:
            below.setdefault(parents[0], []).append(node)
        else:
            top.append(node)
    return below, top


def _walk(
    nodes: Sequence[Mapping[str, Any]],
    below: Mapping[str, Sequence[Mapping[str, Any]]],
    states: Mapping[str, Mapping[str, Any]],
) -> Iterator[Box]:
    """Yield the resources, each below its owner; owner chains may have any length."""
    seen: set[str] = set()
    waiting = [(node, 1) for node in reversed(_worst_first(nodes))]
    while waiting:
        node, depth = waiting.pop()
        uid = str(node.get("uid") or "")
        if uid and uid in seen:
            continue
        seen.add(uid)
        yield _box(node, states, depth)
        children = below.get(uid, ()) if uid else ()
        waiting += [(child, depth + 1) for child in reversed(_worst_first(children))]


def _worst_first(nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return nodes grouped by kind, the unhealthiest of each kind first."""
    kinds: dict[str, int] = {}
    for node in nodes:
        kinds.setdefault(str(node["kind"]), len(kinds))
    return sorted(nodes, key=lambda n: (kinds[n["kind"]], _RANK.get(_health(n), 9), n["name"]))


def _health(node: Mapping[str, Any]) -> str:
    return str((node.get("health") or {}).get("status") or "")


def _box(node: Mapping[str, Any], states: Mapping[str, Mapping[str, Any]], depth: int) -> Box:
    state = states.get(key_of(node), {})
    return Box(
        key_of(node),
        str(node["name"]),
        str(node["kind"]),
        _health(node),
        str(state.get("status") or ""),
        depth,
        parse_integer(state.get("syncWave")) or 0,
        _notes(node),
    )


def _notes(node: Mapping[str, Any]) -> str:
    return " · ".join(str(i["value"]) for i in node.get("info") or [] if i.get("name") in _NOTES)


def graph(tree: Mapping[str, Any], states: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the data to draw a resource tree.

    Shapes: `tree` is Argo CD's resource tree. The result has `nodes` in the order of the list, each
        with key `k`, `kind`, namespace `ns`, `name`, health `h`, sync `s`, wave `w`, notes `n`, the
        key of its owner `p`, the node of a pod `on`, and orphan `o`; and `links`, the pairs of
        keys between which traffic flows.
    """
    nodes = tree["nodes"]
    below, top = _families(nodes)
    keys = {n["uid"]: key_of(n) for n in nodes if n.get("uid")}
    order = [b.key for b in _walk(top, below, states)]
    owner = {key_of(c): keys[uid] for uid, children in below.items() for c in children}
    by_key = {key_of(n): n for n in nodes}
    drawn = [_drawn(by_key[k], states.get(k, {}), owner.get(k, "")) for k in dict.fromkeys(order)]
    orphans = [{**_drawn(n, {}, ""), "o": True} for n in tree.get("orphanedNodes") or []]
    return {"nodes": [*drawn, *orphans], "links": traffic(nodes)}


def _drawn(node: Mapping[str, Any], state: Mapping[str, Any], owner: str) -> dict[str, Any]:
    on = next((i["value"] for i in node.get("info") or [] if i.get("name") == "Node"), "")
    found = {
        "k": key_of(node),
        "kind": node["kind"],
        "ns": node.get("namespace") or "",
        "name": node["name"],
        "h": _health(node),
        "s": str(state.get("status") or ""),
        "w": parse_integer(state.get("syncWave")) or 0,
        "n": _notes(node),
        "p": owner,
        "on": on,
    }
    return {k: v for k, v in found.items() if v or k in ("k", "kind", "name")}


def traffic(nodes: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the traffic between keys: from an ingress to services, from a service to pods."""
    known = {key_of(n) for n in nodes}
    pods = [
        (key_of(n), n.get("namespace") or "", (n.get("networkingInfo") or {}).get("labels") or {})
        for n in nodes
        if n["kind"] == "Pod"
    ]
    found: list[tuple[str, str]] = []
    for node in nodes:
        info, key = node.get("networkingInfo") or {}, key_of(node)
        targets = [key_of(t) for t in info.get("targetRefs") or []]
        found += [(key, t) for t in targets if t in known]
        wanted = info.get("targetLabels") or {}
        if wanted:
            place = node.get("namespace") or ""
            found += [
                (key, pod)
                for pod, where, labels in pods
                if where == place and all(labels.get(k) == v for k, v in wanted.items())
            ]
    return found


def worst_below(nodes: Sequence[Mapping[str, Any]], key: str) -> Mapping[str, Any] | None:
    """Return the deepest degraded or failing resource below a resource, or the resource itself."""
    below, _top = _families(nodes)
    found = next((n for n in nodes if key_of(n) == key), None)
    seen: set[str] = set()
    while found is not None and str(found.get("uid") or "") not in seen:
        seen.add(str(found.get("uid") or ""))
        bad = [
            n
            for n in below.get(str(found.get("uid") or ""), [])
            if _health(n) in ("Degraded", "Progressing", "Missing")
        ]
        if not bad:
            return found
        found = min(_worst_first(bad), key=lambda n: _RANK.get(_health(n), 9))
    return found


def count_below(nodes: Sequence[Mapping[str, Any]], key: str) -> int:
    """Return the number of resources that a resource owns, directly or through others."""
    owned: dict[str, list[str]] = {}
    for node in nodes:
        for parent in node.get("parentRefs") or []:
            owned.setdefault(key_of(parent), []).append(key_of(node))
    found, rest = {key}, [key]
    while rest:
        new = [child for child in owned.get(rest.pop(), []) if child not in found]
        found.update(new)
        rest += new
    return len(found) - 1
