"""The desired manifests of an application, from all its sources."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from hub.engine.errors import EngineError, Invalid
from hub.engine.resource import Manifest
from projects.sources import rendering, signatures
from projects.sources.files import Files, same_inputs
from projects.sources.manifest_size import ManifestBudget, digest_of
from projects.sources.render_context import Context
from projects.sources.rendering import render, render_files
from projects.sources.source_types import Source, files_of, kind_of, resolve
from projects.sources.tools import DIRECTORY, TOOL_FIELDS


@dataclass(frozen=True, slots=True)
class Desired:
    """The manifests of all sources of an application, and their inputs."""

    manifests: list[Manifest] = field(default_factory=list)
    revisions: list[str] = field(default_factory=list)
    source_types: list[str] = field(default_factory=list)
    inputs: list[list[Any]] = field(default_factory=list)
    """[source number, origin, path, hash]."""
    digest: str = ""


def load(
    sources: Sequence[Mapping[str, Any]], revisions: Sequence[str], context: Context
) -> Desired:
    """Return the manifests of all sources at exact revisions.

    Raises: Stalled if a user must act, RetryLater for a transient failure.
    """
    _check_signatures(sources, revisions, context)
    refs = _ref_files(zip(sources, revisions, strict=True), context)
    manifests: list[Manifest] = []
    types: list[str] = []
    inputs: list[list[Any]] = []
    digest, budget = hashlib.sha256(), ManifestBudget()
    for number, (source, revision) in enumerate(zip(sources, revisions, strict=True)):
        if source.get("ref") and not _has_manifests(source):
            types.append("")
            continue
        found = render(source, revision, refs, context)
        budget.spend(found.size)
        manifests += found.manifests
        types.append(found.tool)
        inputs += [[number, *entry] for entry in found.inputs]
        digest.update(found.digest.encode())
    return Desired(manifests, list(revisions), types, inputs, digest.hexdigest())


def ignored_files(
    sources: Sequence[Mapping[str, Any]], desired: Desired, context: Context
) -> list[str]:
    """Return the files of directory sources that contain no manifest, each with the reason.

    Raises: Stalled or RetryLater if the files can no longer be read.
    """
    found: list[str] = []
    rendered = zip(sources, desired.revisions, desired.source_types, strict=True)
    for source, revision, tool in rendered:
        if tool == DIRECTORY.name:
            files = files_of(source, revision, context.project, context.project_spec)
            found += rendering.ignored_files(source, {"": files}, context)
    return found


def load_local(
    local: Mapping[str, Any],
    files: Files,
    others: Sequence[Mapping[str, Any]],
    number: int,
    context: Context,
) -> Desired:
    """Return the manifests with local files in place of source `number`; nothing is cached.

    Raises: Invalid for an error in the local files; Stalled, RetryLater for the other sources.
    """
    rest = {n: s for n, s in enumerate(others) if n != number}
    revisions = {n: resolve(s, context.project) for n, s in rest.items()}
    refs = _ref_files(((s, revisions[n]) for n, s in rest.items()), context)
    manifests: list[Manifest] = []
    types: list[str] = []
    budget = ManifestBudget()
    for position in range(max([number, *rest]) + 1):
        source = rest.get(position)
        if position == number:
            origins, remote = {"": files, **refs}, context.remote_inputs()
            try:
                found = render_files(local, "", origins, context, remote, keep=False)
            except EngineError as error:
                raise Invalid(str(error)) from error
        elif source and _has_manifests(source):
            found = render(source, revisions[position], refs, context)
        else:
            continue
        budget.spend(found.size)
        manifests += found.manifests
        types.append(found.tool)
    return Desired(manifests, [""], types, [], digest_of(manifests))


def _ref_files(sources: Iterable[tuple[Source, str]], context: Context) -> dict[str, Files]:
    """Return the files of the sources with a `ref`, by the name of the ref."""
    return {
        str(source["ref"]): files_of(source, revision, context.project, context.project_spec)
        for source, revision in sources
        if source.get("ref")
    }


def _has_manifests(source: Source) -> bool:
    return bool(source.get("path") or source.get("chart"))


def _check_signatures(
    sources: Sequence[Mapping[str, Any]], revisions: Sequence[str], context: Context
) -> None:
    if not context.requires_signatures:
        return
    for source, revision in zip(sources, revisions, strict=True):
        if kind_of(source) == "git":
            files_of(source, revision, context.project)
    signatures.check_sources(sources, revisions, context.project, context.project_spec)


def unchanged(
    inputs: Sequence[Sequence[Any]],
    sources: Sequence[Mapping[str, Any]],
    old: Sequence[str],
    new: Sequence[str],
    context: Context,
) -> bool:
    """Return whether all inputs of the manifests are the same at other revisions."""
    if not inputs or len(old) != len(new):
        return False
    if context.requires_signatures:
        # The signature of another commit must be verified even if no file changed.
        return False
    refs = _ref_files(zip(sources, new, strict=True), context)
    return all(
        _is_unchanged(
            [list(entry[1:]) for entry in inputs if entry[0] == number],
            source,
            revision,
            refs,
            context,
        )
        for number, (source, revision) in enumerate(zip(sources, new, strict=True))
    )


def _is_unchanged(
    inputs: list[list[Any]],
    source: Source,
    revision: str,
    refs: Mapping[str, Files],
    context: Context,
) -> bool:
    if not inputs:
        return not _has_manifests(source)
    blocks = orjson.dumps([source.get(name) for name in TOOL_FIELDS], default=str).decode()
    if "ARGOCD_APP_REVISION" in blocks:
        return False
    files = files_of(source, revision, context.project, context.project_spec)
    origins = {"": files, **refs}
    return same_inputs(inputs, origins, context.capabilities, context.remote_inputs().tree)
