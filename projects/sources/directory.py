"""Render directories of YAML, JSON and Jsonnet files."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.conf import settings

from hub.engine.errors import ManifestError
from hub.engine.globs import GlobError, compiled
from hub.engine.kubernetes_yaml import TooMany, Volume, parse_json, parse_yaml
from hub.engine.resource import Manifest, manifests_from
from projects.sources import jsonnet
from projects.sources.files import Recorder

_EXTENSIONS = (".yaml", ".yml", ".json", ".jsonnet")
_MANIFEST_WORDS = ("apiVersion:", "kind:", "metadata:")
_SKIP = "+argocd:skip-file-rendering"


def render(
    files: Recorder, path: str, block: Mapping[str, Any], environment: Mapping[str, str]
) -> list[Manifest]:
    """Return the manifests of the files in a folder.

    Shapes: `block` is the `directory` block of a source.
    Raises: ManifestError naming the file and line; Stalled if a limit is exceeded.
    Source: as Argo CD 3.6: globs match across "/", and exclude wins.
    """
    manifests: list[Manifest] = []
    volume = Volume()
    for name, data in _chosen(files, path, block):
        if name.endswith(".jsonnet"):
            manifests += jsonnet.render(
                files, path, name, block.get("jsonnet") or {}, environment, volume
            )
        else:
            manifests += _parse(name, data, volume)
    return manifests


def ignored(files: Recorder, path: str, block: Mapping[str, Any]) -> list[str]:
    """Return the files without a manifest in a folder that renders without errors, and why."""
    volume = Volume()
    texts = (
        (name, data.decode())
        for name, data in _chosen(files, path, block)
        if not name.endswith(".jsonnet")
    )
    return [
        f"{name}: {reason}"
        for name, text in texts
        if _SKIP not in text and (reason := _why_ignored(name, text, volume))
    ]


def _chosen(files: Recorder, path: str, block: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    total, is_chosen = 0, _chooser(block)
    everything = bool(block.get("disableExtensionFilter"))
    for name in files.walk(path, recurse=bool(block.get("recurse"))):
        relative = name[len(path) :].lstrip("/") if path else name
        if not everything and not name.endswith(_EXTENSIONS):
            continue
        if not is_chosen(relative):
            continue
        data = files.read(name) or b""
        total += len(data)
        if total > settings.MAX_MANIFEST_BYTES:
            raise ManifestError(
                "exceeded max combined manifest file size: "
                f"the files of {path or '.'} are larger than "
                f"{settings.MAX_MANIFEST_BYTES // 1024} KiB together"
            )
        yield name, data


def _chooser(block: Mapping[str, Any]) -> Callable[[str], bool]:
    found = {}
    for field in ("include", "exclude"):
        try:
            found[field] = compiled(str(block[field])) if block.get(field) else None
        except GlobError as error:
            raise ManifestError(f"spec.source.directory.{field} is invalid: {error}") from error
    include, exclude = found["include"], found["exclude"]
    return lambda name: not (exclude and exclude(name)) and (include is None or include(name))


def _documents(name: str, text: str, volume: Volume) -> list[Any]:
    if not name.endswith(".json"):
        return parse_yaml(text, volume)
    volume.add(text)
    return [parse_json(text)]


def _parse(name: str, data: bytes, volume: Volume) -> list[Manifest]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{name}: the file is not UTF-8 text") from error
    if _SKIP in text:
        return []
    objects, problem = _objects(name, text, volume)
    is_meant = any(map(_is_manifest, objects)) or all(word in text for word in _MANIFEST_WORDS)
    if problem and (is_meant or name.endswith(".json")):
        raise ManifestError(f"{name}: {problem}")
    if problem:
        return []
    kept = objects if name.endswith(".json") else [o for o in objects if _is_manifest(o)]
    return manifests_from(kept, name)


def _objects(name: str, text: str, volume: Volume) -> tuple[list[dict[str, Any]], str]:
    """Return the objects in a file, and why it cannot be used, empty if it can.

    Raises: TooMany.
    """
    try:
        documents = _documents(name, text, volume)
    except TooMany:
        raise
    except ManifestError as error:
        return [], str(error)
    objects = [d for d in documents if isinstance(d, dict)]
    for number, document in enumerate(documents, 1):
        if not isinstance(document, dict):
            kind = "a list" if isinstance(document, list) else "a plain value"
            return objects, (
                f"document {number} is {kind}, not a manifest: separate manifests with '---', or "
                "use kind: List"
            )
    return objects, ""


def _is_manifest(document: Mapping[str, Any]) -> bool:
    return "kind" in document or "apiVersion" in document


def _why_ignored(name: str, text: str, volume: Volume) -> str:
    """Return why a valid file has no manifest; empty if it has one, or if the file is empty."""
    objects, problem = _objects(name, text, volume)
    if problem or not objects or any(map(_is_manifest, objects)):
        return problem
    return "it has neither apiVersion nor kind"
