"""Render Helm charts: collect values and parameters, and call the rendering process.

Paths of value files are checked by `files.path_inside_root` and followed by `files.Recorder`.
"""

import hashlib
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from hub.engine.errors import ManifestError
from hub.engine.globs import GlobError, check_path, fits_path, path_steps
from hub.engine.kubernetes_yaml import Volume, parse_yaml
from hub.engine.resource import Manifest, annotations_of, manifests_from
from projects.sources import chart_files, integer_parameters
from projects.sources.confinement import working_folder
from projects.sources.constraints import parse_version, satisfies
from projects.sources.environment import substitute
from projects.sources.files import MAX_WALKED_FILES, Budget, Recorder, path_inside_root
from projects.sources.process import WorkerError, renderer
from projects.sources.remote_inputs import RemoteInputs
from projects.sources.safe_write import write_beneath
from projects.sources.tool_errors import without_file_contents
from projects.sources.versions import is_constraint

_RANK = {"test-success", "test-failure", "test"}
_SEPARATOR = re.compile(r"(?:\A|\n)---")
_RELEASE = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class Release:
    """The release that a chart is rendered for."""

    name: str
    namespace: str
    kube_version: str
    api_versions: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The digest of the destination's capabilities."""
        return capabilities_digest(self.kube_version, self.api_versions)


def capabilities_digest(kube_version: str, api_versions: Sequence[str]) -> str:
    """Return the digest of a cluster's version and API versions."""
    return hashlib.sha256("\n".join([kube_version, *sorted(api_versions)]).encode()).hexdigest()[
        :32
    ]


def _asks_capabilities(content: Mapping[str, bytes]) -> bool:
    return any(
        b"Capabilities" in data
        or (posixpath.basename(path) == "Chart.yaml" and b"kubeVersion" in data)
        for path, data in content.items()
    )


def render(
    files: Recorder,
    path: str,
    block: Mapping[str, Any],
    release: Release,
    environment: Mapping[str, str],
    remote: RemoteInputs,
) -> list[Manifest]:
    """Return the manifests of a chart.

    Shapes: `block` is the `helm` block of a source; value files may refer to a `ref` source as
        `$name/`.
    Raises: ManifestError with Helm's message; Stalled after a timeout.
    Source: as Argo CD 3.6: chart values < valueFiles < values or valuesObject < parameters.
    """
    name = str(block.get("releaseName") or release.name)
    if len(name) > 53 or not _RELEASE.match(name):
        raise ManifestError(
            f"helm.releaseName: {name!r} is not a valid release name "
            "(at most 53 of a-z, 0-9, - and .)"
        )
    budget = Budget("the files of values", settings.MAX_MANIFEST_BYTES * 4)
    request: dict[str, Any] = {
        "op": "helm",
        "release": name,
        "namespace": str(block.get("namespace") or release.namespace),
        "kubeVersion": str(block.get("kubeVersion") or release.kube_version),
        "apiVersions": [str(v) for v in block.get("apiVersions") or release.api_versions],
        "values": _values(files, path, block, environment, remote, budget),
        "parameters": _parameters(block, environment),
        "fileParameters": _file_parameters(files, path, block, environment, remote, budget),
        "skipCrds": bool(block.get("skipCrds")),
    }
    content = chart_files.assemble(
        files, path, remote, schemas=not block.get("skipSchemaValidation")
    )
    if _asks_capabilities(content):
        files.note_capabilities(release.digest)
    chart = integer_parameters.prepare(content, request["parameters"])
    with working_folder() as folder:
        write_beneath(folder, chart.content, path)
        asked = {**request, **chart.request, "chart": str(folder / path)}
        rendered = _call(asked, folder, files.owner)
    _check_kind(rendered["metadata"])
    _check_kube_version(rendered["metadata"], request["kubeVersion"])
    if rendered["missing"]:
        raise ManifestError(
            "found in Chart.yaml, but missing in charts/ directory: "
            f"{', '.join(rendered['missing'])}"
        )
    return _manifests(rendered, skip_tests=bool(block.get("skipTests")))


def _call(request: dict[str, Any], folder: Path, owner: str) -> dict[str, Any]:
    timeout = settings.EXEC_TIMEOUT.total_seconds()
    try:
        return dict(renderer.call(request, timeout=timeout, owner=owner, folder=folder))
    except WorkerError as error:
        message = without_file_contents(str(error).replace(f"{folder}/", ""))[:800]
        raise ManifestError(f"helm template failed: {message}") from error


def _check_kind(metadata: Mapping[str, Any]) -> None:
    if metadata.get("type") not in (None, "", "application"):
        raise ManifestError(f"{metadata['type']} charts are not installable")


def _check_kube_version(metadata: Mapping[str, Any], version: str) -> None:
    wanted = str(metadata.get("kubeVersion") or "")
    found = parse_version(re.split(r"[-+]", version, maxsplit=1)[0]) if version else None
    if not wanted or found is None:
        return
    try:
        fits = satisfies(found, wanted) if is_constraint(wanted) else found == parse_version(wanted)
    except ValueError:
        return
    if not fits:
        raise ManifestError(
            f"chart requires kubeVersion: {wanted} which is incompatible with Kubernetes {version}"
        )


def _values(
    files: Recorder,
    path: str,
    block: Mapping[str, Any],
    environment: Mapping[str, str],
    remote: RemoteInputs,
    budget: Budget,
) -> list[Any]:
    texts: list[Any] = [
        _value_file(files, origin, place, shown, remote, budget)
        for origin, place, shown in _value_files(files, path, block, environment)
    ]
    if block.get("valuesObject") is not None:
        # Pass an object, since Go's YAML parser might change the types of values in text.
        texts.append(block["valuesObject"])
    elif block.get("values"):
        texts.append(str(block["values"]))
    return [text for text in texts if text]


def _value_file(
    files: Recorder,
    origin: str,
    place: str,
    shown: str,
    remote: RemoteInputs,
    budget: Budget,
    field: str = "helm.valueFiles",
) -> str:
    # Count each use, since the same file may be listed under many paths.
    budget.count()
    data = remote.read(files, shown) if origin == "url" else files.read(place, origin)
    if data is None:
        raise ManifestError(f"{field}: {shown}: no such file")
    budget.spend(len(data))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{field}: {shown} is not UTF-8 text") from error


def _value_files(
    files: Recorder, path: str, block: Mapping[str, Any], environment: Mapping[str, str]
) -> list[tuple[str, str, str]]:
    listed = [
        substitute_ref(str(name), environment, files) for name in block.get("valueFiles") or []
    ]
    found: list[tuple[str, str, str]] = []
    walked = Budget("the globs of helm.valueFiles", 0, MAX_WALKED_FILES)
    explicit = {
        locate(files, path, name)[:2] for name in listed if not _is_glob(name) and not _is_url(name)
    }
    for name in listed:
        if _is_url(name):
            _check_scheme(name)
            found.append(("url", "", name))
            continue
        origin, place = locate(files, path, name)
        if _is_glob(name):
            chosen = [
                p for p in _expand(files, origin, place, walked) if (origin, p) not in explicit
            ]
            if not chosen and not block.get("ignoreMissingValueFiles"):
                raise ManifestError(f'values file glob "{name}" matched no files')
            found += [(origin, p, p) for p in chosen]
        elif files.exists(place, origin) or not block.get("ignoreMissingValueFiles"):
            found.append((origin, place, name))
    return list(dict.fromkeys(found))


def substitute_ref(text: str, environment: Mapping[str, str], files: Recorder) -> str:
    """Replace build variables in a path, but keep a leading `$ref/`."""
    head, separator, rest = text.partition("/")
    if head.startswith("$") and separator and files.has_origin(head[1:]):
        return f"{head}/{substitute(rest, environment)}"
    if head.startswith("$") and separator and head[1:] not in environment:
        raise ManifestError(
            f"source referenced \"{head}\", but no source has a 'ref' field with that name"
        )
    return substitute(text, environment)


def locate(files: Recorder, path: str, name: str) -> tuple[str, str]:
    """Return the origin and path of a file that a source refers to.

    Raises: ManifestError if it is outside its repository.
    """
    head, _, rest = name.partition("/")
    if head.startswith("$") and files.has_origin(head[1:]):
        return head[1:], path_inside_root(rest)
    if name.startswith("/"):
        return "", path_inside_root(name.lstrip("/"))
    return "", path_inside_root(name, path)


def _is_glob(name: str) -> bool:
    return any(c in name for c in "*?[")


def _is_url(name: str) -> bool:
    return "://" in name


def _check_scheme(url: str) -> None:
    if url.partition("://")[0].lower() not in settings.HELM_VALUES_SCHEMES:
        raise ManifestError(
            f"helm.valueFiles: the scheme of {url} is not allowed; "
            f"allowed are {', '.join(settings.HELM_VALUES_SCHEMES)}"
        )


def _expand(files: Recorder, origin: str, pattern: str, budget: Budget) -> list[str]:
    fixed = pattern[: min(pattern.index(c) for c in "*?[" if c in pattern)]
    root = posixpath.dirname(fixed)
    try:
        check_path(pattern)
    except GlobError as error:
        raise ManifestError(f'values file glob "{pattern[:200]}" is invalid: {error}') from error
    found = []
    for path in files.walk(root, origin, budget=budget):
        budget.count_steps(path_steps(pattern, path))
        if fits_path(pattern, path):
            found.append(path)
    return sorted(found)


def _parameters(block: Mapping[str, Any], environment: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": str(p["name"]),
            "value": substitute(str(p.get("value", "")), environment),
            "forceString": bool(p.get("forceString")),
        }
        for p in block.get("parameters") or []
        if p.get("name")
    ]


def _file_parameters(
    files: Recorder,
    path: str,
    block: Mapping[str, Any],
    environment: Mapping[str, str],
    remote: RemoteInputs,
    budget: Budget,
) -> list[dict[str, str]]:
    result = []
    for number, entry in enumerate(block.get("fileParameters") or []):
        field = f"helm.fileParameters[{number}].path"
        shown = substitute_ref(str(entry.get("path") or ""), environment, files)
        origin, place = locate(files, path, shown)
        content = _value_file(files, origin, place, shown, remote, budget, field)
        result.append({"name": str(entry["name"]), "content": content})
    return result


def _manifests(rendered: Mapping[str, Any], *, skip_tests: bool) -> list[Manifest]:
    texts: Sequence[tuple[str, str]] = [(c["name"], f"{c['data']}\n") for c in rendered["crds"]]
    texts = [
        *texts,
        *((name, _as_helm_prints(text)) for name, text in sorted(rendered["files"].items())),
    ]
    manifests: list[Manifest] = []
    volume = Volume()
    for name, text in texts:
        if (
            posixpath.basename(name).startswith("_")
            or name.endswith("NOTES.txt")
            or not text.strip()
        ):
            continue
        try:
            documents = parse_yaml(text, volume)
        except ManifestError as error:
            raise ManifestError(f"{name}: the template renders invalid YAML: {error}") from error
        manifests += manifests_from([d for d in documents if isinstance(d, dict)], name)
    if skip_tests:
        manifests = [
            m
            for m in manifests
            if not set(str(annotations_of(m).get("helm.sh/hook", "")).split(",")) & _RANK
        ]
    return manifests


def _as_helm_prints(text: str) -> str:
    """Format a template's documents as Helm prints them: trimmed, with a final newline.

    A block scalar at the end of a document includes the newline that Helm adds.
    """
    documents = (document.strip() for document in _SEPARATOR.split(text.strip()))
    return "".join(f"---\n{document}\n" for document in documents if document)
