"""What all generators share: their inputs, the state of one run, and the entry of the registry.

Source: as Argo CD 3.6, except that matrix and merge take any number of children at any depth.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from appsets.generators.errors import GeneratorError
from appsets.generators.field_types import Check
from appsets.generators.selectors import fits
from appsets.template import fast
from hub.engine.kubernetes_yaml import Volume

MAX_PARAMETER_SETS = 10_000
"""The maximum number of parameter sets of one application set."""
MAX_VALUES = 5_000_000
"""The maximum number of fields in all parameters of one set: each uses memory, copies too."""
MAX_FILE_VALUES = 2_000_000
"""The maximum number of values in all files of one set."""

Params = dict[str, Any]


class ClusterFacts(NamedTuple):
    """A cluster as generators see it."""

    name: str
    server: str
    project: str = ""
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class Inputs(Protocol):
    """Reads clusters, repositories and hosts for generators.

    An input that cannot be read raises: a failure is never an empty set of parameters.
    """

    def clusters(self) -> Sequence[ClusterFacts]:
        """Return every registered cluster, the hub itself included."""

    def paths(self, url: str, revision: str) -> Sequence[str]:
        """Return the paths of all files of a revision."""

    def read(self, url: str, revision: str, path: str) -> bytes:
        """Return a file of a revision."""

    def fetch_parameters(self, kind: str, spec: Mapping[str, Any]) -> Sequence[Params]:
        """Return the parameters that a host returns for a generator."""


class Input(StrEnum):
    """The kinds of inputs of generators."""

    CLUSTERS = "clusters"
    REPOSITORY = "repository"
    HOST = "host"


class FieldCount:
    """Counts the fields of all parameters of a run."""

    def __init__(self) -> None:
        self._found = 0

    def add(self, params: Params) -> Params:
        """Count the fields of parameters and return these; raises GeneratorError for too many."""
        self._found += len(params)
        if self._found > MAX_VALUES:
            raise GeneratorError(f"the parameters have more than {MAX_VALUES:,} fields together")
        return params


@dataclass(frozen=True, slots=True)
class Run:
    """The state of one evaluation of the generators of a set."""

    inputs: Inputs
    generators: "Mapping[str, Generator]"
    go: bool
    missing: str
    maximum: int
    size: FieldCount = field(default_factory=FieldCount)
    read: Volume = field(default_factory=lambda: Volume(MAX_FILE_VALUES))
    outer: Params = field(default_factory=dict)
    """The parameters of the generators before this one in a matrix."""


Block = Mapping[str, Any]
Labels = Mapping[str, str]
Make = Callable[[Run, Block, str], list[Params]]


def _never(_block: Block, _before: Labels | None, _after: Labels | None) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Generator:
    """A generator of application sets: an entry of the registry."""

    name: str
    make: Make
    """Returns the sets of parameters of a block; the text is the block's place in the spec."""
    fields: Mapping[str, Check]
    """The types of the fields of a block."""
    inputs: frozenset[Input] = frozenset()
    interval_seconds: int = 0
    """The default interval in which the inputs are polled, 0 for never."""
    has_children: bool = False
    """Whether a block's `generators` contains further generators."""
    depends_on_cluster: Callable[[Block, Labels | None, Labels | None], bool] = _never
    """Returns whether a change of the labels of a cluster may change what a block generates."""


def entries_of(value: Any, where: str) -> list[Mapping[str, Any]]:
    """Return a list of objects; raises GeneratorError for anything else."""
    if not isinstance(value, list) or not all(isinstance(e, Mapping) for e in value):
        raise GeneratorError(f"{where} must be a list of objects")
    return value


def kinds_of(run: Run, entry: Mapping[str, Any], where: str) -> list[str]:
    """Return the names of the generators of an entry; raises GeneratorError if there are none."""
    found = [kind for kind in run.generators if entry.get(kind) is not None]
    if not found:
        known = ", ".join(run.generators)
        raise GeneratorError(f"{where} has no generator that is known: {known}")
    return found


def check_count(count: int, maximum: int, where: str) -> None:
    """Raise GeneratorError if there are more than `maximum` sets of parameters."""
    if count > maximum:
        raise GeneratorError(f"{where} makes {count} sets of parameters, more than {maximum}")


def chosen(run: Run, kind: str, entry: Mapping[str, Any], where: str) -> Iterator[Params]:
    """Yield the parameters of a generator that match its selector."""
    block = entry[kind]
    if not isinstance(block, Mapping):
        raise GeneratorError(f"{where} must be an object")
    found = run.generators[kind].make(run, block, where)
    selector = entry.get("selector")
    if selector is None:
        return iter(found)
    if not isinstance(selector, Mapping):
        raise GeneratorError(f"{where}: selector must be an object")
    return (p for p in found if fits(selector, fast.flatten(p)))
