"""Render directories of YAML, JSON and Jsonnet files."""

from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings

from hub.engine.errors import ManifestError
from hub.engine.globs import GlobError, compiled
from hub.engine.kubernetes_yaml import TooMany, Volume, parse_json, parse_yaml
from hub.engine.resource import Manifest, manifests_from
from projects.sources import jsonnet
from projects.sources.files import Recorder

_EXTENSIONS = (".yaml", ".yml", ".json", ".jsonnet")
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
    total, volume = 0, Volume()
    is_chosen = _chooser(block)
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
        if name.endswith(".jsonnet"):
            manifests += jsonnet.render(
                files, path, name, block.get("jsonnet") or {}, environment, volume
            )
        else:
            manifests += _parse(name, data, volume)
    return manifests


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
    try:
        documents = _documents(name, text, volume)
    except TooMany:
        raise
    except ManifestError as error:
        if name.endswith(".json") or all(
            word in text for word in ("apiVersion:", "kind:", "metadata:")
        ):
            raise ManifestError(f"{name}: {error}") from error
        return []
    kept = (
        [d for d in documents if not isinstance(d, dict) or "kind" in d or "apiVersion" in d]
        if not name.endswith(".json")
        else documents
    )
    return manifests_from([d for d in kept if isinstance(d, dict)], name)
