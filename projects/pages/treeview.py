"""Where the resources of an application stand in a drawing, and in a list with the same order. Values in, values out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT, GAP_X, GAP_Y = 210, 40, 46, 10
MOST_ALIKE = 12
_RANK = {"Degraded": 0, "Missing": 1, "Unknown": 2, "Progressing": 3, "Suspended": 4}


@dataclass(frozen=True, slots=True)
class Box:
    """A resource, or several alike that are folded into one."""

    key: str
    """group/kind/namespace/name, empty for the application and for folded ones."""
    title: str
    kind: str
    health: str
    sync: str
    depth: int
    x: int
    y: int
    wave: int
    notes: str
    count: int = 1
    is_root: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    """A tree with its edges; sizes in pixels."""

    boxes: list[Box]
    edges: list[tuple[str, bool]]
    width: int
    height: int


def key_of(node: Mapping[str, Any]) -> str:
    """Return what a page calls a node."""
    return "/".join(
        [node.get("group") or "", node["kind"], node.get("namespace") or "", node["name"]]
    )


def draw(application: Mapping[str, str], nodes: Sequence[Mapping[str, Any]], states: Mapping[str, Mapping[str, Any]]) -> Drawing:  # fmt: skip
    """Return the drawing of a tree.

    Shapes: `application` has name, health and sync; `nodes` are Argo CD's; `states` are the resources of the
        status by the key of their node.
    """
    known = {n.get("uid"): n for n in nodes if n.get("uid")}
    below: dict[str, list[Mapping[str, Any]]] = {}
    top = []
    for node in nodes:
        parents = [p["uid"] for p in node.get("parentRefs") or [] if p.get("uid") in known]
        if parents:
            below.setdefault(parents[0], []).append(node)
        else:
            top.append(node)
    pen = _Pen(below, states)
    own = pen.place(top, 1)
    root_y = (own[0].y + own[-1].y) // 2 if own else 0
    root = Box("", application["name"], "Application", application["health"], application["sync"], 0, 0, root_y, 0, "", is_root=True)  # fmt: skip
    edges = [*((_edge(root, box), box.health == "Degraded") for box in own), *pen.edges]
    deepest = max((b.depth for b in pen.boxes), default=0)
    height = max([HEIGHT, *(b.y + HEIGHT for b in pen.boxes)])
    return Drawing(
        [root, *pen.boxes], edges, (deepest + 1) * WIDTH + deepest * GAP_X + 2, height + 2
    )


class _Pen:
    """Places boxes from top to bottom: every leaf takes the next line, a parent stands in the middle of its children."""

    def __init__(
        self, below: Mapping[str, list[Mapping[str, Any]]], states: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._below, self._states = below, states
        self._line, self._seen = 0, set[str]()
        self.boxes: list[Box] = []
        self.edges: list[tuple[str, bool]] = []

    def place(self, nodes: Sequence[Mapping[str, Any]], depth: int) -> list[Box]:
        """Place nodes and all below them; return the boxes of the nodes themselves."""
        own: list[Box] = []
        for node, count in _folded(nodes, self._below):
            uid = str(node.get("uid") or "")
            if uid in self._seen and uid:
                continue
            self._seen.add(uid)
            at = len(self.boxes)
            self.boxes.append(_box(node, self._states, depth, 0, count))
            children = self.place(self._below.get(uid, []), depth + 1) if uid and count == 1 else []
            if children:
                y = (children[0].y + children[-1].y) // 2
            else:
                y = self._line * (HEIGHT + GAP_Y)
                self._line += 1
            box = _box(node, self._states, depth, y, count)
            self.boxes[at] = box
            self.edges += [(_edge(box, child), child.health == "Degraded") for child in children]
            own.append(box)
        return own


def _edge(parent: Box, child: Box) -> str:
    x1, y1, x2, y2 = parent.x + WIDTH, parent.y + HEIGHT // 2, child.x, child.y + HEIGHT // 2
    mid = (x1 + x2) // 2
    return f"M{x1} {y1}H{mid}V{y2}H{x2}" if y1 != y2 else f"M{x1} {y1}H{x2}"


def _box(node: Mapping[str, Any], states: Mapping[str, Mapping[str, Any]], depth: int, y: int, count: int) -> Box:  # fmt: skip
    key = key_of(node)
    state = states.get(key, {})
    health = str((node.get("health") or {}).get("status") or "")
    notes = " · ".join(str(i["value"]) for i in node.get("info") or [] if i.get("name") in ("Status Reason", "Containers", "Revision"))  # fmt: skip
    title = str(node["name"]) if count == 1 else f"{count} {node['kind']}s"
    return Box("" if count > 1 else key, title, str(node["kind"]), health, str(state.get("status") or ""), depth, depth * (WIDTH + GAP_X), y, int(state.get("syncWave") or 0), notes, count)  # fmt: skip


def _folded(nodes: Sequence[Mapping[str, Any]], below: Mapping[str, list[Mapping[str, Any]]]) -> Iterator[tuple[Mapping[str, Any], int]]:  # fmt: skip
    """Yield nodes, the worst of each kind first; many alike without anything below them become one."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for node in nodes:
        kinds.setdefault(str(node["kind"]), []).append(node)
    for alike in kinds.values():
        ordered = sorted(alike, key=lambda n: (_RANK.get(str((n.get("health") or {}).get("status")), 9), n["name"]))  # fmt: skip
        leaves = [n for n in ordered if not below.get(str(n.get("uid")))]
        if len(leaves) <= MOST_ALIKE:
            yield from ((n, 1) for n in ordered)
            continue
        shown = [n for n in ordered if n not in leaves[4:]]
        yield from ((n, 1) for n in shown)
        yield leaves[4], len(leaves) - 4
