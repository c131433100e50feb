"""Assemble a chart with all its dependencies before anything is written to disk.

A dependency's path is resolved once, in the tree of the chart that declares it, and its files are
copied; the copy is never resolved again.
"""

import functools
import io
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.conf import settings

from hub.engine.errors import ManifestError
from hub.engine.kubernetes_yaml import parse_yaml
from projects.sources import archives
from projects.sources.constraints import is_valid, parse_version, satisfies
from projects.sources.files import Budget, Files, Recorder, path_inside_root
from projects.sources.remote_inputs import RemoteInputs
from projects.sources.values_schemas import SchemaBudget, inline_references

_MAX_CHARTS = 100
_MAX_NESTED = 10
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,250}")
_ARCHIVE = re.compile(r"(?:charts/[^/]+/)*charts/[^/._][^/]*\.tgz")
_SCHEMA = re.compile(r"(?:charts/[^/]+/)*values\.schema\.json")
_TEMPLATES = re.compile(r"(?:charts/[^/]+/)*(?:templates|crds)/")


def assemble(
    files: Recorder,
    path: str,
    remote: RemoteInputs,
    *,
    origin: str = "",
    recorder: Recorder | None = None,
    schemas: bool = True,
) -> dict[str, bytes]:
    """Return the files of a chart and its dependencies (in `charts/`), by path.

    Shapes: `recorder` records remote inputs, if it is not `files`. Without `schemas`, the values
        are not validated, and schemas are omitted.
    Raises: ManifestError naming a dependency that is missing, part of a cycle, or too large.
    """
    page = functools.partial(remote.read, recorder or files)
    chart = functools.partial(remote.chart, recorder or files)
    assembly = _Assembly(chart, origin, page if schemas else None)
    return assembly.sealed(assembly.chart(files, path, ()), 0)


class _Assembly:
    def __init__(
        self,
        published: Callable[[str, str, str], Files],
        origin: str,
        page: Callable[[str], bytes] | None,
    ) -> None:
        self._published, self._origin = published, origin
        self._page, self._count = page, 0
        # All archives share one budget; together, many archives of padding would exceed it.
        self._room, self._schemas = archives.ArchiveBudget(), SchemaBudget()
        self._budget = Budget("the chart and its dependencies", settings.MAX_CHART_BYTES)

    def chart(self, tree: Recorder, named: str, above: tuple[str, ...]) -> dict[str, bytes]:
        self._count += 1
        path = tree.resolve(named, self._origin)
        if path in above:
            circle = " → ".join(place or "." for place in (*above, path))
            raise ManifestError(f"the dependencies of {above[0] or '.'} form a cycle: {circle}")
        if self._count > _MAX_CHARTS or len(above) > _MAX_NESTED:
            raise ManifestError(
                f"{path or '.'}: more than {_MAX_CHARTS} dependencies, "
                f"or nested more than {_MAX_NESTED} levels deep"
            )
        content = tree.contents(path, self._budget, self._origin)
        if "Chart.yaml" not in content:
            raise ManifestError(f"{path or '.'}: Chart.yaml file is missing")
        self._add_dependencies(content, tree, (*above, path), named)
        return content

    def _add_dependencies(
        self, content: dict[str, bytes], tree: Recorder, places: tuple[str, ...], named: str
    ) -> None:
        vendored = {name.split("/")[1] for name in content if name.startswith("charts/")}
        added: set[tuple[str, ...]] = set()
        lock = _Lock(content)
        for dependency in dependencies(content):
            name, version, repository = (
                str(dependency.get(field) or "") for field in ("name", "version", "repository")
            )
            if not NAME.fullmatch(name):
                raise ManifestError(f"Chart.yaml: {name!r} is not a valid dependency name")
            if _is_vendored(name, vendored) or not repository:
                continue
            version = lock.version(name, version, repository) or version or "*"
            if (name, version, repository) in added:
                continue
            if repository.startswith("file://"):
                found = self._beside(tree, (*places, named), repository, version)
            else:
                # Published charts include their own dependencies.
                fetched = self._published(repository, name, version)
                found = Recorder({"": fetched}).contents("", self._budget)
            folder = f"charts/{name}" if (name,) not in added else f"charts/{name}-{len(added)}"
            added |= {(name,), (name, version, repository)}
            content |= {f"{folder}/{inner}": data for inner, data in found.items()}

    def _beside(
        self, tree: Recorder, places: tuple[str, ...], repository: str, version: str
    ) -> dict[str, bytes]:
        """Return a chart in the same tree.

        Shapes: `places` are the resolved paths of the parent charts, then the unresolved path of
            the last one. For a link, `repository` may be relative to either.
        """
        *above, place, named = places
        for base in (place, named):
            target = path_inside_root(repository.removeprefix("file://"), base)
            if tree.is_folder(target, self._origin):
                break
        else:
            raise ManifestError(
                f"{place or '.'}: the dependency {repository} is not in the repository"
            )
        content = self.chart(tree, target, (*above, place))
        found = str(_object(content, "Chart.yaml").get("version") or "")
        if not _is_of(found, version):
            raise ManifestError(
                f"{place or '.'}: the dependency {repository} has version {found}, not {version}"
            )
        return content

    def sealed(self, content: Mapping[str, bytes], depth: int) -> dict[str, bytes]:
        """Return the files with nested archives and schema references resolved.

        Helm would otherwise follow them outside the chart.
        """
        result = {}
        for path, data in content.items():
            if _ARCHIVE.fullmatch(path):
                result[path] = self._repacked(path, data, depth)
            elif not _SCHEMA.fullmatch(path):
                result[path] = data
            elif self._page is not None:
                result[path] = inline_references(data, path, self._page, self._schemas)
        return result

    def _repacked(self, path: str, data: bytes, depth: int) -> bytes:
        # Helm's parser may read the original differently, so give it exactly what was checked.
        if depth >= _MAX_NESTED:
            raise ManifestError(f"{path}: archives are nested more than {_MAX_NESTED} levels deep")
        try:
            tree = Recorder({"": archives.unpack(data, strip=True, room=self._room)})
        except ManifestError as error:
            raise ManifestError(f"{path}: {error}") from error
        return packed(self.sealed(tree.contents("", self._budget), depth + 1))


def without_schemas(content: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a chart without values schemas, including those of its dependencies."""
    return _only(content, lambda path: not _SCHEMA.fullmatch(path))


def without_templates(content: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a chart without templates and CRDs, to validate values only."""
    return _only(content, lambda path: not _TEMPLATES.match(path))


def _only(content: Mapping[str, bytes], keep: Callable[[str], bool]) -> dict[str, bytes]:
    found = {}
    for path, data in content.items():
        if _ARCHIVE.fullmatch(path):
            inside = _inside(data)
            left = _only(inside, keep)
            found[path] = data if left == inside else packed(left)
        elif keep(path):
            found[path] = data
    return found


def deepest(content: Mapping[str, bytes]) -> int:
    """Return the depth of the deepest file in a chart, with nested archives unpacked."""
    found = 0
    for path, data in content.items():
        inner = deepest(_inside(data)) + 1 if _ARCHIVE.fullmatch(path) else 0
        found = max(found, path.count("/") + inner)
    return found


def _inside(archive: bytes) -> dict[str, bytes]:
    # The archive was packed by the hub, within the limits.
    files = Recorder({"": archives.unpack(archive, strip=True)})
    return files.contents("", Budget("an archive of a chart", settings.MAX_CHART_BYTES))


def packed(content: Mapping[str, bytes]) -> bytes:
    """Pack a chart into an archive."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz", compresslevel=1) as archive:
        for path, data in content.items():
            member = tarfile.TarInfo(f"chart/{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return body.getvalue()


def _is_vendored(name: str, present: set[str]) -> bool:
    archives = (p.removeprefix(f"{name}-") for p in present if p.startswith(f"{name}-"))
    return name in present or any(re.match(r"v?\d.*\.tgz\Z", rest) for rest in archives)


def dependencies(content: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
    """Yield the dependencies declared by a chart."""
    for name in ("Chart.yaml", "requirements.yaml"):
        if listed := _dependencies(content, name):
            yield from (d for d in listed if isinstance(d, dict))
            return


class _Lock:
    """The dependency versions in a chart's lock file."""

    def __init__(self, content: Mapping[str, bytes]) -> None:
        name = "Chart.lock" if "Chart.lock" in content else "requirements.lock"
        self._entries = [e for e in _dependencies(content, name) if isinstance(e, dict)]

    def version(self, name: str, asked: str, repository: str) -> str:
        """Return the locked version of a dependency, empty if there is none.

        If a chart is listed twice under aliases, the requested version selects the entry.
        """
        found = [e for e in self._entries if e.get("name") == name]
        if len(found) > 1:
            found = [e for e in found if _is_of(str(e.get("version") or ""), asked)]
            found.sort(key=lambda entry: entry.get("repository") != repository)
        return str(found[0].get("version") or "") if found else ""


def _is_of(version: str, asked: str) -> bool:
    """Return whether a version satisfies the request; invalid versions are not checked."""
    known = parse_version(version)
    if known is None or not is_valid(asked or "*"):
        return True
    return version == asked or satisfies(known, asked or "*")


def _dependencies(content: Mapping[str, bytes], name: str) -> list[Any]:
    listed = _object(content, name).get("dependencies") or []
    if not isinstance(listed, list):
        raise ManifestError(f"{name}: dependencies must be a list")
    return listed


def _object(content: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        documents = parse_yaml(content.get(name, b"").decode())
    except UnicodeDecodeError as error:
        raise ManifestError(f"{name} is not UTF-8 text") from error
    except ManifestError as error:
        raise ManifestError(f"{name}: {error}") from error
    return documents[0] if documents and isinstance(documents[0], dict) else {}
