"""Manifests and resource keys."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from hub.engine.errors import ManifestError

Manifest = dict[str, Any]


class ResourceKey(NamedTuple):
    """The identity of a resource, independent of its API version."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """Return `group/Kind/namespace/name` without the empty parts."""
        return "/".join(part for part in self if part)

    @property
    def text(self) -> str:
        """All four parts joined by slashes, including empty ones: a stable column value."""
        return "/".join(self)


def split_api_version(api_version: str) -> tuple[str, str]:
    """Return (group, version); the core group is empty."""
    group, _, version = api_version.rpartition("/")
    return group, version


def resource_key(manifest: Manifest) -> ResourceKey:
    """Return the key of a manifest.

    Raises: ManifestError naming the missing field.
    """
    api_version, kind = manifest.get("apiVersion"), manifest.get("kind")
    metadata = manifest.get("metadata")
    if not isinstance(api_version, str) or not api_version:
        raise ManifestError(f"a manifest has no apiVersion (kind {kind!r})")
    if not isinstance(kind, str) or not kind:
        raise ManifestError(f"a manifest of {api_version} has no kind")
    if not isinstance(metadata, dict):
        raise ManifestError(f"{api_version} {kind} has no metadata")
    for field in ("name", "generateName"):
        if metadata.get(field) is not None and not isinstance(metadata[field], str):
            raise ManifestError(
                f"{api_version} {kind}: metadata.{field} must be text, "
                f"not {metadata[field]!r}: put it in quotes"
            )
    name = metadata.get("name") or metadata.get("generateName") or ""
    if not name:
        raise ManifestError(
            f"{api_version} {kind} has neither metadata.name nor metadata.generateName"
        )
    namespace = metadata.get("namespace") or ""
    if not isinstance(namespace, str):
        raise ManifestError(f"{api_version} {kind} {name}: metadata.namespace must be text")
    return ResourceKey(split_api_version(api_version)[0], kind, namespace, name)


def is_segment(text: str) -> bool:
    """Return whether a text is a valid path segment in an API server's URL.

    Source: Kubernetes' path segment names: not `.` or `..`, no `/`, no `%`.
    """
    is_name = bool(text) and text not in (".", "..") and text.isprintable()
    return is_name and "/" not in text and "%" not in text


def annotations_of(manifest: Manifest) -> dict[str, str]:
    """Return the annotations, empty if there are none."""
    return (manifest.get("metadata") or {}).get("annotations") or {}


def labels_of(manifest: Manifest) -> dict[str, str]:
    """Return the labels, empty if there are none."""
    return (manifest.get("metadata") or {}).get("labels") or {}


def csv_annotation(manifest: Manifest, name: str) -> list[str]:
    """Return the comma-separated values of an annotation."""
    value = annotations_of(manifest).get(name)
    return [word.strip() for word in str(value).split(",") if word.strip()] if value else []


def with_metadata(manifest: Manifest, **changes: Any) -> Manifest:
    """Return a copy with changed metadata fields; None removes a field."""
    metadata = {**(manifest.get("metadata") or {}), **changes}
    return {**manifest, "metadata": {k: v for k, v in metadata.items() if v is not None}}


def manifests_from(documents: Iterable[Any], source: str) -> list[Manifest]:
    """Return the checked manifests of parsed documents, with lists expanded.

    Raises: ManifestError naming the source and the problem.
    """
    manifests = []
    for document in documents:
        for manifest in _expand(document, source):
            try:
                resource_key(manifest)
            except ManifestError as error:
                raise ManifestError(f"{source}: {error}") from error
            _check_names(manifest, source)
            _check_annotations(manifest, source)
            manifests.append(manifest)
    return manifests


def _expand(document: Any, source: str) -> Iterator[Manifest]:
    if not isinstance(document, dict):
        raise ManifestError(
            f"{source}: a document must be an object, not {type(document).__name__}"
        )
    if not document:
        return
    kind = document.get("kind")
    if isinstance(kind, str) and kind.endswith("List") and "items" in document:
        items = document["items"]
        if items is not None and not isinstance(items, list):
            raise ManifestError(f"{source}: items of {kind} must be a list")
        for item in items or []:
            yield from _expand(item, source)
        return
    yield document


def _check_names(manifest: Manifest, source: str) -> None:
    """Refuse names that would change the path of a request to the API server."""
    metadata = manifest["metadata"]
    named = {f"metadata.{f}": metadata.get(f) for f in ("name", "generateName", "namespace")}
    named |= {"kind": manifest["kind"]}
    for field, value in named.items():
        if value and not is_segment(value):
            raise ManifestError(
                f"{source}: {_title(manifest)}: {field} must not contain / or %, "
                f"or be . or ..: {value!r}"
            )
    if not all(map(is_segment, manifest["apiVersion"].split("/", 1))):
        raise ManifestError(
            f"{source}: {_title(manifest)}: apiVersion must be group/version: "
            f"{manifest['apiVersion']!r}"
        )


def _check_annotations(manifest: Manifest, source: str) -> None:
    for field in ("annotations", "labels"):
        values = manifest["metadata"].get(field)
        if values is None:
            continue
        if not isinstance(values, dict):
            raise ManifestError(f"{source}: {_title(manifest)}: metadata.{field} must be an object")
        for key, value in values.items():
            if value is not None and not isinstance(value, str):
                raise ManifestError(
                    f"{source}: {_title(manifest)}: metadata.{field}[{key}] must be text, "
                    f"not {value!r}: put it in quotes"
                )


def _title(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata'].get('name', '')}"


def unique(manifests: Iterable[Manifest]) -> tuple[list[Manifest], dict[ResourceKey, int]]:
    """Remove duplicates, keeping the last of each key; also return how often each occurred.

    Manifests with only `generateName` are all kept, since each creates its own resource.
    """
    kept: dict[object, Manifest] = {}
    counts: dict[ResourceKey, int] = {}
    for index, manifest in enumerate(manifests):
        if not manifest["metadata"].get("name"):
            kept[index] = manifest
            continue
        key = resource_key(manifest)
        counts[key] = counts.get(key, 0) + 1
        kept[key] = manifest
    return list(kept.values()), {key: n for key, n in counts.items() if n > 1}


_DNS_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z")


def is_dns_name(name: str) -> bool:
    """Return whether a name is a valid RFC 1123 subdomain."""
    return len(name) <= 253 and bool(_DNS_NAME.match(name))


BUILTIN_GROUPS = frozenset({"", "apps", "batch", "autoscaling", "policy", "extensions"})


def is_builtin(group: str) -> bool:
    """Return whether a group is built into Kubernetes, with typed defaults and merge keys."""
    return group in BUILTIN_GROUPS or (group.endswith(".k8s.io") and group not in _FOREIGN_K8S_IO)


_FOREIGN_K8S_IO = frozenset(
    {"gateway.networking.k8s.io", "snapshot.storage.k8s.io", "cluster.x-k8s.io", "metrics.k8s.io"}
)
