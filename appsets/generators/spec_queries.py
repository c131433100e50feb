"""Questions about the generators of a spec, without evaluating them."""

from collections.abc import Iterator, Mapping
from typing import Any

from appsets.generators.base import Input
from appsets.generators.registry import GENERATORS

_PARENTS = tuple(name for name, generator in GENERATORS.items() if generator.has_children)


def uses(spec: Mapping[str, Any], kind: str) -> bool:
    """Return whether a set uses a kind of generator, also inside matrix and merge."""
    return any(True for _ in blocks(spec, kind))


def blocks(spec: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    """Yield the generators of a kind, also inside matrix and merge."""
    for entry in spec.get("generators") or []:
        if not isinstance(entry, Mapping):
            continue
        if isinstance(entry.get(kind), Mapping):
            yield entry[kind]
        for parent in _PARENTS:
            if isinstance(entry.get(parent), Mapping):
                yield from blocks(entry[parent], kind)


def may_change_with_cluster(
    spec: Mapping[str, Any], before: Mapping[str, str] | None, after: Mapping[str, str] | None
) -> bool:
    """Return whether a change of a cluster may change what a set generates.

    Shapes: the labels of the cluster, None where it is not registered.
    """
    return any(
        generator.depends_on_cluster(block, before, after)
        for generator in GENERATORS.values()
        if Input.CLUSTERS in generator.inputs
        for block in blocks(spec, generator.name)
    )


def interval(kind: str, block: Mapping[str, Any]) -> int:
    """Return the interval in seconds in which the inputs of a generator are polled, 0 for never."""
    own = block.get("requeueAfterSeconds")
    return own if isinstance(own, int) and own > 0 else GENERATORS[kind].interval_seconds


def requeue_seconds(spec: Mapping[str, Any]) -> int:
    """Return the interval in seconds in which the inputs of a set are polled, 0 for never."""
    return min(
        (
            interval(generator.name, block)
            for generator in GENERATORS.values()
            if generator.interval_seconds
            for block in blocks(spec, generator.name)
        ),
        default=0,
    )
