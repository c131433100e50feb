"""From the generators of an application set to sets of parameters: values in, values out.

What generators need of the world (clusters, trees of repositories, answers of hosts) comes through
`Inputs`; nothing here fetches. An input that failed raises, so a failure is never an empty set.
Source: as Argo CD 3.6, except that matrix and merge take any number of children at any depth.
"""

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from appsets.template import fast
from appsets.template.functions.argocd import normalize
from appsets.template.limits import require_time
from appsets.template.render import missing_of, render_value
from appsets.template.syntax import TemplateError
from hub.engine.errors import ManifestError, RuleError
from hub.engine.globs import fits_path, matches
from hub.engine.kubernetes_yaml import Volume, parse_yaml

MOST = 10_000
MOST_VALUES = 5_000_000
"""How many fields the parameters of one set may have together: each costs memory, also where it is copied."""
MOST_READ = 2_000_000
"""How many values the files of one set may hold together."""
HOME_NAME = "in-cluster"
HOME_SERVER = "https://kubernetes.default.svc"
HOSTED = ("scmProvider", "pullRequest", "plugin", "clusterDecisionResource")
KINDS = ("list", "clusters", "git", "oci", "matrix", "merge", *HOSTED)

Params = dict[str, Any]


class GeneratorError(RuleError):
    """Generators that cannot be used, or an input that cannot be read."""


class ClusterFacts(NamedTuple):
    """A cluster as generators see it."""

    name: str
    server: str
    project: str = ""
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class Inputs(Protocol):
    """What generators read."""

    def clusters(self) -> Sequence[ClusterFacts]:
        """Return every registered cluster, the hub itself included."""

    def paths(self, url: str, revision: str) -> Sequence[str]:
        """Return the paths of all files of a revision."""

    def read(self, url: str, revision: str, path: str) -> bytes:
        """Return a file of a revision."""

    def ask(self, kind: str, spec: Mapping[str, Any]) -> Sequence[Params]:
        """Return the parameters of a generator that a host answers."""


class Generated(NamedTuple):
    """One set of parameters, and the template of the generator that made it."""

    params: Params
    template: Mapping[str, Any]


class _Size:
    """How many fields parameters were given."""

    def __init__(self) -> None:
        self._found = 0

    def add(self, params: Params) -> Params:
        self._found += len(params)
        if self._found > MOST_VALUES:
            raise GeneratorError(f"the parameters have more than {MOST_VALUES:,} fields together")
        return params


@dataclass(frozen=True, slots=True)
class _Run:
    inputs: Inputs
    go: bool
    missing: str
    most: int
    size: _Size = field(default_factory=_Size)
    read: Volume = field(default_factory=lambda: Volume(MOST_READ))
    outer: Params = field(default_factory=dict)
    """The parameters of the generators before this one in a matrix."""


def generate(spec: Mapping[str, Any], inputs: Inputs, *, most: int = MOST) -> list[Generated]:
    """Return every set of parameters of a set's generators, in order.

    Raises: GeneratorError naming the generator; what `inputs` raises.
    """
    try:
        missing = missing_of(list(spec.get("goTemplateOptions") or []))
    except TemplateError as error:
        raise GeneratorError(str(error)) from error
    run = _Run(inputs, bool(spec.get("goTemplate")), missing, most)
    found: list[Generated] = []
    for number, entry in enumerate(_entries(spec.get("generators"), "generators")):
        where = f"generators[{number}]"
        for kind in _kinds(entry, where):
            for params in _chosen(run, kind, entry, f"{where}.{kind}"):
                found.append(Generated(params, _template_of(entry, kind)))
            _check_count(len(found), most, where)
    return found


def _template_of(entry: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    block = entry.get(kind)
    own = block.get("template") if isinstance(block, Mapping) else None
    return own if isinstance(own, Mapping) else {}


def _entries(value: Any, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(e, Mapping) for e in value):
        raise GeneratorError(f"{where} must be a list of objects")
    return value


def _kinds(entry: Mapping[str, Any], where: str) -> list[str]:
    found = [kind for kind in KINDS if entry.get(kind) is not None]
    if not found:
        known = ", ".join(KINDS)
        raise GeneratorError(f"{where} has no generator that is known: {known}")
    return found


def _check_count(count: int, most: int, where: str) -> None:
    if count > most:
        raise GeneratorError(f"{where} makes {count} sets of parameters, more than {most}")


def _chosen(run: _Run, kind: str, entry: Mapping[str, Any], where: str) -> Iterator[Params]:
    """Yield the parameters of a generator that its selector lets through."""
    block = entry[kind]
    if not isinstance(block, Mapping):
        raise GeneratorError(f"{where} must be an object")
    found = _MAKERS[kind](run, block, where)
    selector = entry.get("selector")
    if selector is None:
        return iter(found)
    if not isinstance(selector, Mapping):
        raise GeneratorError(f"{where}: selector must be an object")
    return (p for p in found if _fits(selector, fast.flatten(p)))


def _fits(selector: Mapping[str, Any], flat: Mapping[str, str]) -> bool:
    """Return whether labels, or flat parameters, fit a label selector; raises GeneratorError for one that is none."""
    require_time()
    labels, expressions = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    if not isinstance(labels, Mapping):
        raise GeneratorError("selector.matchLabels must be an object")
    if not isinstance(expressions, list) or not all(isinstance(e, Mapping) for e in expressions):
        raise GeneratorError("selector.matchExpressions must be a list of objects")
    if any(flat.get(k) != v for k, v in labels.items()):
        return False
    return all(_holds(entry, flat) for entry in expressions)


def _holds(entry: Mapping[str, Any], flat: Mapping[str, str]) -> bool:
    key, operator, values = entry.get("key"), entry.get("operator"), entry.get("values") or []
    if not isinstance(key, str) or not isinstance(values, list):
        raise GeneratorError(
            "selector.matchExpressions: each needs a key that is text, and values that are a list"
        )
    value = flat.get(key)
    holds = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }.get(str(operator))
    if holds is None:
        raise GeneratorError(
            f"selector: operator {operator!r} is none of In, NotIn, Exists, DoesNotExist"
        )
    return holds


def _with_values(run: _Run, block: Mapping[str, Any], params: Params, where: str) -> Params:
    """Return parameters with the generator's own `values`, each a template over them.

    In a matrix a name that the element does not have is one of the elements before it.
    """
    values = block.get("values") or {}
    if not values:
        return params
    if not isinstance(values, Mapping):
        raise GeneratorError(f"{where}.values must be an object")
    known = _over(run, run.outer, params)
    try:
        made = {
            str(k): render_value(fast.plain(v), known, go=run.go, missing=run.missing)
            for k, v in values.items()
        }
    except TemplateError as error:
        raise GeneratorError(f"{where}.values: {error}") from error
    if run.go:
        return run.size.add({**params, "values": made})
    return run.size.add({**params, **{f"values.{k}": v for k, v in made.items()}})


def _list(run: _Run, block: Mapping[str, Any], where: str) -> list[Params]:
    elements = list(block.get("elements") or [])
    if block.get("elementsYaml"):
        try:
            documents = parse_yaml(str(block["elementsYaml"]), run.read)
        except ManifestError as error:
            raise GeneratorError(f"{where}.elementsYaml: {error}") from error
        more = documents[0] if documents else []
        if not isinstance(more, list):
            raise GeneratorError(f"{where}.elementsYaml must be a YAML list")
        elements += more
    return [_element(run, e, f"{where}.elements[{n}]") for n, e in enumerate(elements)]


def _element(run: _Run, element: Any, where: str) -> Params:
    if not isinstance(element, Mapping):
        raise GeneratorError(f"{where} must be an object")
    if run.go:
        return dict(element)
    found: Params = {}
    for key, value in element.items():
        if key == "values" and isinstance(value, Mapping):
            found |= {f"values.{k}": fast.plain(v) for k, v in value.items()}
        elif isinstance(value, str):
            found[key] = value
        else:
            raise GeneratorError(
                f"{where}.{key}: error parsing value as string; put it in quotes, or use goTemplate"
            )
    return found


def _clusters(run: _Run, block: Mapping[str, Any], where: str) -> list[Params]:
    selector = block.get("selector") or {}
    chosen = []
    for cluster in sorted(run.inputs.clusters(), key=lambda c: (c.name, c.server)):
        is_home = cluster.server == HOME_SERVER and not cluster.labels
        # The hub itself has no labels: a selector never means it.
        if (is_home and not selector) or (not is_home and _labels_fit(selector, cluster.labels)):
            chosen.append(_with_values(run, block, _cluster_params(run, cluster), where))
    if block.get("flatList"):
        return [{"clusters": chosen}]
    return chosen


def _labels_fit(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return _fits(selector, labels)


def _cluster_params(run: _Run, cluster: ClusterFacts) -> Params:
    found: Params = {
        "name": cluster.name,
        "nameNormalized": normalize(cluster.name),
        "server": cluster.server,
        "project": cluster.project,
    }
    if run.go:
        return {
            **found,
            "metadata": {"labels": dict(cluster.labels), "annotations": dict(cluster.annotations)},
        }
    for name, entries in (("labels", cluster.labels), ("annotations", cluster.annotations)):
        found |= {f"metadata.{name}.{k}": v for k, v in entries.items()}
    return found


def _git(run: _Run, block: Mapping[str, Any], where: str) -> list[Params]:
    url, revision = block.get("repoURL"), str(block.get("revision") or "")
    if not isinstance(url, str) or not url:
        raise GeneratorError(f"{where}.repoURL is required")
    if block.get("directories"):
        found = _directories(run, block, url, revision)
    elif block.get("files"):
        found = _files(run, block, url, revision, where)
    else:
        raise GeneratorError(f"{where} needs directories or files")
    return [_with_values(run, block, p, where) for p in found]


def _oci(run: _Run, block: Mapping[str, Any], where: str) -> list[Params]:
    url = block.get("repoURL")
    if not isinstance(url, str) or not url.startswith("oci://"):
        raise GeneratorError(f"{where}.repoURL must begin with oci://")
    return _git(run, block, where)


def _directories(run: _Run, block: Mapping[str, Any], url: str, revision: str) -> list[Params]:
    folders: set[str] = set()
    for path in run.inputs.paths(url, revision):
        parts = path.split("/")[:-1]
        if not any(part.startswith(".") for part in parts):
            folders |= {"/".join(parts[: n + 1]) for n in range(len(parts))}
    wanted = [e for e in block["directories"] if isinstance(e, Mapping)]
    chosen = [
        f
        for f in sorted(folders, key=lambda f: f.split("/"))
        if _is_wanted(f, wanted, _shell_match)
    ]
    return [_path_params(run, block, folder) for folder in chosen]


def _is_wanted(path: str, entries: Sequence[Mapping[str, Any]], match: Callable[..., bool]) -> bool:
    require_time()
    hit = False
    for entry in entries:
        exclude = bool(entry.get("exclude"))
        if match(str(entry.get("path") or ""), path, exclude=exclude):
            if exclude:
                return False
            hit = True
    return hit


def _shell_match(pattern: str, path: str, *, exclude: bool) -> bool:
    """Return whether a pattern whose `*` stops at "/" fits."""
    del exclude
    one, other = pattern.strip("/").split("/"), path.split("/")
    return len(one) == len(other) and all(
        matches(p, part) for p, part in zip(one, other, strict=True)
    )


def _path_match(pattern: str, path: str, *, exclude: bool) -> bool:
    """Return whether a glob of files fits: `*` stops at "/", `**` as a whole segment is any number of folders.

    A glob that names a folder means all files below it; one that excludes does so only without wildcards.
    """
    text = posixpath.normpath(f"/{pattern}").lstrip("/")
    if fits_path(text, path):
        return True
    if exclude and any(c in text for c in "*?[{"):
        return False
    folders = path.split("/")[:-1]
    return any(fits_path(text, "/".join(folders[: n + 1])) for n in range(len(folders)))


def _path_params(run: _Run, block: Mapping[str, Any], folder: str, file: str = "") -> Params:
    base, prefix = folder.rsplit("/", 1)[-1], str(block.get("pathParamPrefix") or "")
    segments = folder.split("/") if folder else []
    if run.go:
        path: Params = {
            "path": folder,
            "basename": base,
            "basenameNormalized": normalize(base),
            "segments": segments,
        }
        if file:
            path |= {"filename": file, "filenameNormalized": normalize(file)}
        return {prefix: {"path": path}} if prefix else {"path": path}
    name = f"{prefix}.path" if prefix else "path"
    found: Params = {
        name: folder,
        f"{name}.basename": base,
        f"{name}.basenameNormalized": normalize(base),
    }
    if file:
        found |= {f"{name}.filename": file, f"{name}.filenameNormalized": normalize(file)}
    return found | {f"{name}[{n}]": part for n, part in enumerate(segments)}


def _files(
    run: _Run, block: Mapping[str, Any], url: str, revision: str, where: str
) -> list[Params]:
    wanted = [e for e in block["files"] if isinstance(e, Mapping)]
    found: list[Params] = []
    for path in sorted(run.inputs.paths(url, revision)):
        if _is_wanted(path, wanted, _path_match):
            found += _file_params(run, block, path, run.inputs.read(url, revision, path), where)
    return found


def _file_params(
    run: _Run, block: Mapping[str, Any], path: str, content: bytes, where: str
) -> list[Params]:
    folder, _, file = path.rpartition("/")
    own = _path_params(run, block, folder, file)
    try:
        documents = parse_yaml(content.decode(), run.read)
    except (ManifestError, UnicodeDecodeError) as error:
        raise GeneratorError(f"{where}: unable to process file '{path}': {error}") from error
    value = documents[0] if documents else {}
    items = value if isinstance(value, list) else [value if value is not None else {}]
    if len(documents) > 1 or not all(isinstance(item, Mapping) for item in items):
        raise GeneratorError(
            f"{where}: unable to process file '{path}': it must be an object or a list of objects"
        )
    return [{**(dict(i) if run.go else fast.flatten(i)), **own} if i else dict(own) for i in items]


def _hosted(kind: str) -> Callable[[_Run, Mapping[str, Any], str], list[Params]]:
    def make(run: _Run, block: Mapping[str, Any], where: str) -> list[Params]:
        found = run.inputs.ask(kind, block)
        if kind == "pullRequest" and not run.go:
            found = [{k: v for k, v in p.items() if k != "labels"} for p in found]
        return [_with_values(run, block, p if run.go else fast.flatten(p), where) for p in found]

    return make


def _children(
    block: Mapping[str, Any], kind: str, where: str
) -> list[tuple[str, Mapping[str, Any], str]]:
    entries = _entries(block.get("generators"), f"{where}.generators")
    if len(entries) < 2:
        raise GeneratorError(f"{where}: found less than two generators, {kind} needs at least two")
    found = []
    for number, entry in enumerate(entries):
        place = f"{where}.generators[{number}]"
        kinds = _kinds(entry, place)
        if len(kinds) > 1:
            raise GeneratorError(f"{place}: found more than one generator in {kind}.Generators")
        found.append((kinds[0], entry, place))
    return found


def _matrix(run: _Run, block: Mapping[str, Any], where: str) -> list[Params]:
    found: list[Params] = [{}]
    for kind, entry, place in _children(block, "Matrix", where):
        grown: list[Params] = []
        for params in found:
            own = _filled(run, entry, kind, params, place) if params else entry
            for inner in _chosen(_after(run, params), kind, own, f"{place}.{kind}"):
                grown.append(_joined(run, params, inner, place))
                _check_count(len(grown), run.most, f"{where}: the product with {place}.{kind}")
        found = grown
    return found


def _after(run: _Run, params: Params) -> _Run:
    return replace(run, outer=_over(run, run.outer, params)) if params else run


def _over(run: _Run, base: Params, own: Params) -> Params:
    if not base:
        return own
    return dict(_deep(run, base, own)) if run.go else {**base, **own}


def _filled(
    run: _Run, entry: Mapping[str, Any], kind: str, params: Params, place: str
) -> Mapping[str, Any]:
    """Return a child with the parameters of those before it put in."""
    try:
        return _rendered_entry(run, entry, params)
    except TemplateError as error:
        raise GeneratorError(f"{place}.{kind}: {error}") from error


_LATER = ("template", "values")
"""What is no part of what a generator asks for: `values` are templates over its own parameters first."""


def _rendered(run: _Run, block: Any, params: Params) -> Any:
    if not isinstance(block, Mapping):
        return block
    made: dict[str, Any] = {}
    for key, value in block.items():
        if key in _LATER:
            made[key] = value
        elif key == "generators" and isinstance(value, list):
            made[key] = [
                _rendered_entry(run, e, params) if isinstance(e, Mapping) else e for e in value
            ]
        else:
            made[key] = render_value(value, params, go=run.go, missing=run.missing)
    return made


def _rendered_entry(run: _Run, entry: Mapping[str, Any], params: Params) -> Mapping[str, Any]:
    """Return a generator with its selector."""
    return {
        key: _rendered(run, value, params)
        if key in KINDS
        else render_value(value, params, go=run.go, missing=run.missing)
        for key, value in entry.items()
    }


def _joined(run: _Run, one: Params, other: Params, place: str) -> Params:
    require_time()
    if run.go:
        return dict(_deep(run, other, one))
    for key in one.keys() & other.keys():
        if one[key] != other[key]:
            raise GeneratorError(
                f"{place}: found duplicate key {key} with different value, a: {one[key]} ,b: {other[key]}"
            )
    return run.size.add({**one, **other})


def _deep(run: _Run, base: Any, over: Any) -> Any:
    """Return one value over another: what is stated wins, also false, 0 and ""; maps are merged, null states nothing."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return run.size.add(
            {
                k: _deep(run, base[k], over[k])
                if k in base and k in over
                else over[k]
                if k in over
                else base[k]
                for k in {**base, **over}
            }
        )
    return base if over is None else over


def _merge(run: _Run, block: Mapping[str, Any], where: str) -> list[Params]:
    keys = block.get("mergeKeys")
    if not isinstance(keys, list) or not keys:
        raise GeneratorError(f"{where}: no merge keys were specified, Merge requires at least one")
    result: dict[str, Params] = {}
    for number, (kind, entry, place) in enumerate(_children(block, "Merge", where)):
        own = _keyed(list(_chosen(run, kind, entry, f"{place}.{kind}")), keys, place)
        if number == 0:
            result = own
            continue
        for key, params in own.items():
            if key in result:
                require_time()
                base = result[key]
                result[key] = (
                    _deep(run, base, params) if run.go else run.size.add({**base, **params})
                )
    return list(result.values())


def _keyed(found: Sequence[Params], keys: Sequence[Any], place: str) -> dict[str, Params]:
    result: dict[str, Params] = {}
    for params in found:
        key = repr([params.get(k) for k in keys])
        if key in result:
            shown = {k: params.get(k) for k in keys}
            raise GeneratorError(
                f"{place}: the parameters from a generator were not unique by the given mergeKeys, Merge requires all param sets to be unique. Duplicate key was {shown}"
            )
        result[key] = params
    return result


_MAKERS: dict[str, Callable[[_Run, Mapping[str, Any], str], list[Params]]] = {
    "list": _list,
    "clusters": _clusters,
    "git": _git,
    "oci": _oci,
    "matrix": _matrix,
    "merge": _merge,
    **{k: _hosted(k) for k in HOSTED},
}


def uses(spec: Mapping[str, Any], kind: str) -> bool:
    """Return whether a set's generators, also inside matrix and merge, are of a kind."""
    return any(True for _ in blocks(spec, kind))


def blocks(spec: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    """Yield the generators of a kind, also inside matrix and merge."""
    for entry in spec.get("generators") or []:
        if not isinstance(entry, Mapping):
            continue
        if isinstance(entry.get(kind), Mapping):
            yield entry[kind]
        for outer in ("matrix", "merge"):
            if isinstance(entry.get(outer), Mapping):
                yield from blocks(entry[outer], kind)


def concerns(
    spec: Mapping[str, Any], before: Mapping[str, str] | None, after: Mapping[str, str] | None
) -> bool:
    """Return whether a set may give something else once a cluster has changed.

    Shapes: the labels of the cluster, None where it is not registered.
    """
    if (before is None or after is None) and uses(spec, "clusterDecisionResource"):
        return True
    return any(
        _may_select(block.get("selector"), labels)
        for block in blocks(spec, "clusters")
        for labels in (before, after)
        if labels is not None
    )


def _may_select(selector: Any, labels: Mapping[str, str]) -> bool:
    if not isinstance(selector, Mapping) or not selector or "{{" in str(selector):
        return True
    try:
        return _labels_fit(selector, labels)
    except GeneratorError:
        return True


_DEFAULT_SECONDS = {
    "git": 180,
    "oci": 180,
    "scmProvider": 1800,
    "pullRequest": 1800,
    "plugin": 1800,
    "clusterDecisionResource": 180,
}


def interval(kind: str, block: Mapping[str, Any]) -> int:
    """Return after how many seconds a generator wants to be asked again, 0 for never."""
    own = block.get("requeueAfterSeconds")
    return own if isinstance(own, int) and own > 0 else _DEFAULT_SECONDS.get(kind, 0)


def requeue_seconds(spec: Mapping[str, Any]) -> int:
    """Return after how many seconds a set's generators want to be asked again, 0 for never."""
    return min(
        (interval(kind, b) for kind in _DEFAULT_SECONDS for b in blocks(spec, kind)), default=0
    )


def merged_template(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a set's template with a generator's own over it: what is set there wins, maps are merged."""
    result = dict(base)
    for key, value in own.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged_template(result[key], value)
        elif value not in (None, "", [], {}):
            result[key] = value
    return result


def has_templated_project(spec: Mapping[str, Any]) -> bool:
    """Return whether the project of a set's applications is a template."""
    project = ((spec.get("template") or {}).get("spec") or {}).get("project") or ""
    return "{{" in str(project)
