"""Assemble a kustomization with everything it refers to, rewritten before the tool reads it.

All fields through which kustomize reads a file, a folder or a URL are listed here. Their targets
are copied from the same tree or fetched by the hub, and the field is changed to refer to the copy.
Unknown fields of this kind are refused, so that the tool opens nothing else.
"""

import posixpath
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from django.conf import settings

from hub.engine.errors import ManifestError
from hub.engine.kubernetes_yaml import parse_yaml
from projects.sources import chart_files
from projects.sources.files import Budget, Recorder, path_inside_root
from projects.sources.kustomize_fields import (
    Place,
    for_items,
    for_list,
    inline,
    located_path,
    objects,
    parsed,
    require_object,
    require_spelling,
    require_text,
    texts,
    with_patches_by_kind,
)
from projects.sources.remote_inputs import FAILURES, RemoteInputs
from projects.sources.remote_urls import GitFolder, is_page, parse

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
ROOT = "repository"
_MAX_BASES = 200
_MAX_PLUGINS = 1_000
_LISTS = ("resources", "bases", "components")
_FILES = ("crds", "configurations")
_ITEMS = ("patches", "patchesJson6902", "replacements")
_GENERATORS = ("configMapGenerator", "secretGenerator")
_PLUGINS = ("generators", "transformers", "validators")
_HELM = ("helmCharts", "helmGlobals", "helmChartInflationGenerator")
_KNOWN = (
    *_LISTS,
    *_FILES,
    *_ITEMS,
    *_GENERATORS,
    *_PLUGINS,
    *_HELM,
    "openapi",
    "patchesStrategicMerge",
)
_CHART_FIELDS = (
    "name",
    "version",
    "repo",
    "chartHome",
    "configHome",
    "valuesFile",
    "additionalValuesFiles",
)
_OF_THE_HUB = ("repo", "chartHome", "configHome", "apiVersion", "kind")
_FOLDER_OF_PLUGINS = {"apiVersion", "kind", "metadata", "resources"}
_PLAIN_PLUGINS = {
    "AnnotationsTransformer",
    "HashTransformer",
    "IAMPolicyGenerator",
    "ImageTagTransformer",
    "LabelTransformer",
    "LegacyOrderTransformer",
    "NamespaceTransformer",
    "PrefixSuffixTransformer",
    "PrefixTransformer",
    "ReplicaCountTransformer",
    "SortOrderTransformer",
    "SuffixTransformer",
    "ValueAddTransformer",
}


def kustomization(files: Recorder, path: str, origin: str = "") -> str | None:
    """Return the path of the kustomization file in a folder, None if there is none.

    Raises: ManifestError if there are several.
    """
    paths = [posixpath.join(path, name) for name in NAMES]
    found = [p for p in paths if files.exists(p, origin)]
    if len(found) > 1:
        raise ManifestError(f"{path or '.'}: several kustomization files: {', '.join(found)}")
    return found[0] if found else None


class Assembly:
    """The files of one build, by path in the tool's working folder."""

    def __init__(self, files: Recorder, remote_inputs: RemoteInputs) -> None:
        self.content: dict[str, bytes] = {}
        self.files, self.remote_inputs = files, remote_inputs
        self.budget = Budget("the kustomization and what it refers to", settings.MAX_CHART_BYTES)
        self._roots = {"": ROOT}
        self._places: dict[tuple[str, str], Place] = {}
        self._todo: list[Place] = []
        self._plugins = 0
        self.has_charts = False

    def assemble(self, path: str, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
        """Assemble a kustomization with everything it refers to; return its folder.

        Shapes: `edit` applies the application's parameters to the first kustomization.
        Raises: ManifestError naming the field; Stalled, RetryLater or Invalid if a fetch fails.
        """
        first = self._place("", self.files.resolve(path))
        while self._todo:
            place = self._todo.pop()
            document = self._document(place)
            if place is first:
                document = edit(document)
            self._put(f"{place.disk}/{NAMES[0]}", orjson.dumps(self._rewritten(place, document)))
        return first.disk

    def _place(self, origin: str, folder: str) -> Place:
        key = (origin, folder)
        if key not in self._places:
            if len(self._places) >= _MAX_BASES:
                raise ManifestError(f"more than {_MAX_BASES} bases; is there a cycle?")
            root = self._roots.setdefault(origin, f"remote-{len(self._roots)}")
            self._places[key] = Place(origin, folder, f"{root}/{folder}" if folder else root)
            self._todo.append(self._places[key])
        return self._places[key]

    def _document(self, place: Place) -> dict[str, Any]:
        name = kustomization(self.files, place.folder, place.origin)
        if name is None:
            raise ManifestError(f"{place.shown}: no kustomization file found")
        documents = parsed(self.files.read(name, place.origin) or b"", name)
        document = documents[0] if documents else {}
        if not isinstance(document, dict):
            raise ManifestError(f"{name} must contain exactly one object")
        return document

    def _put(self, path: str, data: bytes) -> None:
        if self.content.setdefault(path, data) is not data:
            if self.content[path] != data:
                raise ManifestError(f"{path}: two files would have this path")
            return
        self.budget.count()
        self.budget.spend(len(data))

    def _rewritten(self, place: Place, document: Mapping[str, Any]) -> dict[str, Any]:
        require_spelling(document, _KNOWN, place.shown)
        result = with_patches_by_kind({k: v for k, v in document.items() if v is not None})
        for field in _LISTS:
            for_list(result, field, place, lambda e, f: self._base(place, e, f))
        for field in _FILES:
            for_list(result, field, place, lambda e, f: self.file(place, e, f))
        for field in _ITEMS:
            for_items(result, field, place, lambda i, f: self._item(place, i, f))
        for field in _GENERATORS:
            for_items(result, field, place, lambda i, f: self._generator(place, i, f))
        for_list(result, "patchesStrategicMerge", place, lambda e, f: self._patch(place, e, f))
        if "openapi" in result:
            result["openapi"] = self._item(
                place, require_object(result, "openapi", place), "openapi"
            )
        charts = self._charts(place, result)
        for field in _PLUGINS:
            for_list(result, field, place, lambda e, f: self._plugin(place, e, f))
            result[field] = [entry for entry in result.get(field, []) if entry]
        result["generators"] = [*charts, *result["generators"]]
        return {k: v for k, v in result.items() if k not in _PLUGINS or v}

    def _base(self, place: Place, entry: str, field: str) -> str:
        remote = None if self._is_file(place, entry) else parse(entry)
        if remote is None:
            return self._local(place, entry, field)
        if field == "components" and remote.folder is None:
            raise ManifestError(f"{place.shown}: {field}: {entry[:200]} is not a folder")
        if remote.page and field != "components":
            try:
                return self._page(place, entry, check=remote.folder is not None)
            except FAILURES:
                if remote.folder is None:
                    raise
        return self._relative(place, self._remote(remote.folder, entry))

    def _is_file(self, place: Place, entry: str) -> bool:
        if "://" in entry or entry.startswith("/"):
            return False
        try:
            path = path_inside_root(entry, place.folder)
        except ManifestError:
            return False
        return self.files.exists(path, place.origin) and not self.files.is_folder(
            path, place.origin
        )

    def _local(self, place: Place, entry: str, field: str) -> str:
        path = located_path(place, entry, field)
        if not self.files.is_folder(path, place.origin):
            return self.file(place, entry, field)
        return self._relative(
            place, self._place(place.origin, self.files.resolve(path, place.origin))
        )

    @staticmethod
    def _relative(place: Place, other: Place) -> str:
        return _explicitly_local(posixpath.relpath(other.disk, place.disk))

    def _remote(self, folder: GitFolder | None, entry: str) -> Place:
        if folder is None:
            raise ManifestError(f"{entry[:200]} is not a repository")
        origin = self.remote_inputs.origin(folder)
        self.files.add_origin(origin, self.remote_inputs.tree(origin))
        path = self.files.resolve(path_inside_root(folder.path), origin)
        if not self.files.is_folder(path, origin):
            raise ManifestError(f"{folder.url} has no folder {folder.path or '.'}")
        return self._place(origin, path)

    def file(self, place: Place, entry: str, field: str) -> str:
        """Copy a file that a kustomization refers to; return its path relative to it.

        Raises: ManifestError if it does not exist or is outside the kustomization's folder.
        """
        if is_page(entry):
            return self._page(place, entry)
        path = located_path(place, entry, field)
        data = self.files.read(path, place.origin)
        if data is None:
            raise ManifestError(f"{place.shown}: {field}: {entry[:200]}: no such file")
        is_below = not place.folder or path.startswith(f"{place.folder}/")
        if not is_below and not _reads_everywhere():
            raise ManifestError(
                f"{place.shown}: {field}: security; file {entry[:200]} "
                "is not in or below the kustomization's folder"
            )
        inner = posixpath.relpath(path, place.folder or ".") if is_below else ""
        if not inner or posixpath.basename(path) in NAMES:
            return self.copy(place, data, posixpath.basename(path))
        self._put(f"{place.disk}/{inner}", data)
        return _explicitly_local(inner)

    def copy(self, place: Place, data: bytes, name: str) -> str:
        """Create a file with this content; return its path relative to the kustomization."""
        path = f"hub-files/{len(self.content)}-{name}"
        while f"{place.disk}/{path}" in self.content:
            path = f"hub-files/x{path.partition('/')[2]}"
        self._put(f"{place.disk}/{path}", data)
        return _explicitly_local(path)

    def _page(self, place: Place, url: str, *, check: bool = False) -> str:
        data = self.remote_inputs.read(self.files, url)
        if check and not _is_manifests(data):
            raise ManifestError(f"{url[:200]} is not a file of manifests")
        return self.copy(place, data, "file.yaml")

    def _item(self, place: Place, item: Mapping[str, Any], field: str) -> dict[str, Any]:
        require_spelling(item, ("path",), f"{place.shown}: {field}")
        path = item.get("path")
        if path in (None, ""):
            return dict(item)
        return {
            **item,
            "path": self.file(place, require_text(path, f"{place.shown}: {field}.path"), field),
        }

    def _generator(self, place: Place, item: Mapping[str, Any], field: str) -> dict[str, Any]:
        require_spelling(item, ("files", "envs", "env"), f"{place.shown}: {field}")
        result = {k: v for k, v in item.items() if v is not None}
        for_list(result, "files", place, lambda e, _: self._keyed(place, e, field))
        for_list(result, "envs", place, lambda e, _: self.file(place, e, field))
        if result.get("env"):
            result["env"] = self.file(place, require_text(result["env"], f"{field}.env"), field)
        return result

    def _keyed(self, place: Place, entry: str, field: str) -> str:
        if entry.count("=") > 1:
            raise ManifestError(f"{place.shown}: {field}: {entry[:200]} has more than one '='")
        key, sign, path = entry.rpartition("=")
        return f"{key if sign else posixpath.basename(path)}={self.file(place, path, field)}"

    def _patch(self, place: Place, entry: str, field: str) -> str:
        return entry if inline(entry) else self.file(place, entry, field)

    def _plugin(self, place: Place, entry: str, field: str) -> str:
        documents = inline(entry) or self._plugin_documents(place, place, entry, field)
        return "\n---\n".join(
            orjson.dumps(self._configured(place, d, field)).decode() for d in documents
        )

    def _plugin_documents(
        self, place: Place, at: Place, entry: str, field: str, depth: int = 0
    ) -> list[dict[str, Any]]:
        self._plugins += 1
        if self._plugins > _MAX_PLUGINS:
            raise ManifestError(f"{place.shown}: {field}: more than {_MAX_PLUGINS:,} plugins")
        if depth > 10:
            raise ManifestError(
                f"{place.shown}: {field}: folders are nested more than 10 levels deep"
            )
        remote = None if self._is_file(at, entry) else parse(entry)
        if is_page(entry) and remote is not None and remote.folder is None:
            return objects(self._copied(at, self._page(at, entry)), entry)
        path = located_path(at, entry, field) if remote is None else ""
        if remote is None and not self.files.is_folder(path, at.origin):
            return objects(self._copied(at, self.file(at, entry, field)), entry)
        origin, folder = at.origin, path
        if remote is not None and remote.folder is not None:
            origin = self.remote_inputs.origin(remote.folder)
            self.files.add_origin(origin, self.remote_inputs.tree(origin))
            folder = path_inside_root(remote.folder.path)
        inner = Place(
            origin, self.files.resolve(folder, origin), f"{at.disk}/hub-plugins/{len(self.content)}"
        )
        document = self._document(inner)
        require_spelling(document, ("resources",), inner.shown)
        if set(document) - _FOLDER_OF_PLUGINS:
            raise ManifestError(
                f"{inner.shown}: a folder in {field} may only have resources, not "
                f"{', '.join(sorted(set(document) - _FOLDER_OF_PLUGINS))[:200]}"
            )
        names = texts(document, "resources", inner)
        return [
            d
            for name in names
            for d in self._plugin_documents(place, inner, name, field, depth + 1)
        ]

    def _copied(self, place: Place, path: str) -> bytes:
        return self.content[posixpath.normpath(f"{place.disk}/{path}")]

    def _configured(self, place: Place, document: Mapping[str, Any], field: str) -> dict[str, Any]:
        """Return the configuration of a plugin, with paths relative to its kustomization."""
        require_spelling(document, ("apiVersion", "kind"), f"{place.shown}: {field}")
        kind, result = document.get("kind"), {k: v for k, v in document.items() if v is not None}
        where = f"{place.shown}: {field}: {kind}"
        if document.get("apiVersion") != "builtin" or kind in _PLAIN_PLUGINS:
            return result
        if kind in ("ConfigMapGenerator", "SecretGenerator"):
            return self._generator(place, result, where)
        if kind in ("PatchTransformer", "PatchJson6902Transformer"):
            return self._item(place, result, where)
        if kind == "PatchStrategicMergeTransformer":
            require_spelling(result, ("paths",), where)
            for_list(result, "paths", place, lambda e, _: self._patch(place, e, where))
            return result
        if kind == "ReplacementTransformer":
            require_spelling(result, ("replacements",), where)
            for_items(result, "replacements", place, lambda i, _: self._item(place, i, where))
            return result
        if kind == "HelmChartInflationGenerator":
            return self._chart(place, result, {})
        raise ManifestError(f"{where} is not a supported kustomize plugin")

    def _charts(self, place: Place, document: dict[str, Any]) -> list[str]:
        """Remove the charts from a kustomization; return the plugins that inflate them."""
        if "helmChartInflationGenerator" in document:
            raise ManifestError(
                f"{place.shown}: helmChartInflationGenerator is not supported; use helmCharts"
            )
        shared = document.pop("helmGlobals", {})
        found = document.pop("helmCharts", [])
        if (
            not isinstance(shared, dict)
            or not isinstance(found, list)
            or not all(isinstance(c, dict) for c in found)
        ):
            raise ManifestError(f"{place.shown}: helmCharts must be a list of objects")
        require_spelling(shared, ("chartHome", "configHome"), f"{place.shown}: helmGlobals")
        return [orjson.dumps(self._chart(place, entry, shared)).decode() for entry in found]

    def _chart(
        self, place: Place, entry: Mapping[str, Any], shared: Mapping[str, Any]
    ) -> dict[str, Any]:
        where = f"{place.shown}: helmCharts"
        if "--enable-helm" not in settings.KUSTOMIZE_OPTIONS:
            raise ManifestError(
                f"{where}: charts are not inflated on this hub; "
                "HUB_KUSTOMIZE_BUILD_OPTIONS=--enable-helm allows it"
            )
        require_spelling(entry, _CHART_FIELDS, where)
        self.has_charts = True
        result = {k: v for k, v in entry.items() if v is not None and k not in _OF_THE_HUB}
        name, home = (
            require_text(entry.get("name"), f"{where}.name"),
            f"hub-charts/{len(self.content)}",
        )
        for path, data in self._chart_files(place, entry, shared, where).items():
            self._put(f"{place.disk}/{home}/{name}/{path}", data)
        if result.get("valuesFile"):
            result["valuesFile"] = self.file(
                place, require_text(result["valuesFile"], where), where
            )
        for_list(result, "additionalValuesFiles", place, lambda e, _: self.file(place, e, where))
        about = {
            "apiVersion": "builtin",
            "kind": "HelmChartInflationGenerator",
            "metadata": {"name": name},
        }
        return {**about, **result, "chartHome": home}

    def _chart_files(
        self, place: Place, entry: Mapping[str, Any], shared: Mapping[str, Any], where: str
    ) -> dict[str, bytes]:
        name, version, repository = (
            require_text(entry.get(field) or "", f"{where}.{field}")
            for field in ("name", "version", "repo")
        )
        if not chart_files.NAME.fullmatch(name):
            raise ManifestError(f"{where}: {name[:60]!r} is not a valid chart name")
        home = require_text(
            entry.get("chartHome") or shared.get("chartHome") or "charts", f"{where}: chartHome"
        )
        beside = f"{home}/{name}-{version}/{name}" if version and repository else f"{home}/{name}"
        local = located_path(place, beside, where)
        if self.files.is_folder(local, place.origin):
            return chart_files.assemble(self.files, local, self.remote_inputs, origin=place.origin)
        self.files.note(local, place.origin)
        if not repository:
            raise ManifestError(f"{where}: {name} is not in {home}, and has no repo")
        fetched = self.remote_inputs.chart(self.files, repository, name, version or "*")
        return chart_files.assemble(
            Recorder({"": fetched}), "", self.remote_inputs, recorder=self.files
        )


def _explicitly_local(path: str) -> str:
    # Without "./", kustomize would treat a folder named github.com/org/repo as a repository.
    return path if path.startswith("../") else f"./{path}"


def _reads_everywhere() -> bool:
    return any("LoadRestrictionsNone" in option for option in settings.KUSTOMIZE_OPTIONS)


def _is_manifests(data: bytes) -> bool:
    try:
        found = parse_yaml(data.decode())
    except (ManifestError, UnicodeDecodeError):
        return False
    return bool(found) and all(isinstance(d, dict) and "kind" in d for d in found)
