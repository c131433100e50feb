"""Validate the sources of an application's spec, without network access."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hub.engine.errors import Invalid, ManifestError
from projects.sources.files import path_inside_root
from projects.sources.source_types import source_type
from projects.sources.tools import configured_tools, several_tools_message

MAX_SOURCES = 100
_REF = re.compile(r"^[a-zA-Z0-9_-]+\Z")
_REQUIRED = "spec.source.repoURL and either spec.source.path or spec.source.chart are required"
_REQUIRED_OF_SEVERAL = (
    "spec.source.repoURL and either source.path, source.chart, or source.ref are required"
)


def check_sources(sources: Sequence[Mapping[str, Any]], *, multi: bool) -> list[str]:
    """Return a message for each problem of the sources of a spec."""
    if not sources:
        return [_REQUIRED]
    if len(sources) > MAX_SOURCES:
        return [f"spec.sources has {len(sources)} entries: at most {MAX_SOURCES} are allowed"]
    found: list[str] = []
    refs: set[str] = set()
    for number, source in enumerate(sources):
        where = f"spec.sources[{number}]" if multi else "spec.source"
        found += _source_problems(source, where, multi=multi)
        ref = source.get("ref")
        if ref:
            if not _REF.match(str(ref)):
                found.append(f"{where}.ref: ref key must match {_REF.pattern}")
            if ref in refs:
                found.append(f"{where}.ref: '{ref}' is used by another source")
            refs.add(str(ref))
    return found


def _source_problems(source: Mapping[str, Any], where: str, *, multi: bool) -> list[str]:
    url = str(source.get("repoURL") or "")
    if not url or not (source.get("path") or source.get("chart") or (multi and source.get("ref"))):
        if multi:
            return [f"{_REQUIRED_OF_SEVERAL} for source {where}"]
        return [_REQUIRED]
    found = []
    if message := several_tools_message(configured_tools(source)):
        found.append(f"{where}: {message}")
    if source.get("chart") and not source.get("targetRevision"):
        found.append(
            "spec.source.targetRevision is required if the manifest source is a helm chart"
        )
    if source.get("chart") and source.get("ref"):
        found.append(f"{where}: ref cannot be combined with chart")
    return [*found, *_path_problems(source, where), *_url_problems(source, url, where)]


def _path_problems(source: Mapping[str, Any], where: str) -> list[str]:
    path = str(source.get("path") or "")
    if path.startswith("/"):
        return [f"{where}.path: {path}: app path is absolute"]
    try:
        path_inside_root(path)
    except ManifestError as error:
        return [f"{where}.path: {error}"]
    return []


def _url_problems(source: Mapping[str, Any], url: str, where: str) -> list[str]:
    try:
        source_type(source).check_url(url, f"{where}.repoURL")
    except Invalid as error:
        return [str(error)]
    return []
