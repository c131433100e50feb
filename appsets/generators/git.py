"""The generators `git` and `oci`: directories and files of repositories and artifacts."""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from appsets.generators.base import Generator, Input, Params, Run
from appsets.generators.errors import GeneratorError
from appsets.generators.field_types import FLAG, TEXT, each, of
from appsets.generators.parameters import COMMON_FIELDS, with_values
from appsets.template import fast
from appsets.template.functions.argocd import normalize
from appsets.template.limits import require_time
from hub.engine.errors import ManifestError
from hub.engine.globs import fits_path, matches
from hub.engine.kubernetes_yaml import parse_yaml


def _git(run: Run, block: Mapping[str, Any], where: str) -> list[Params]:
    url, revision = block.get("repoURL"), str(block.get("revision") or "")
    if not isinstance(url, str) or not url:
        raise GeneratorError(f"{where}.repoURL is required")
    if block.get("directories"):
        found = _directories(run, block, url, revision)
    elif block.get("files"):
        found = _files(run, block, url, revision, where)
    else:
        raise GeneratorError(f"{where} needs directories or files")
    return [with_values(run, block, p, where) for p in found]


def _oci(run: Run, block: Mapping[str, Any], where: str) -> list[Params]:
    url = block.get("repoURL")
    if not isinstance(url, str) or not url.startswith("oci://"):
        raise GeneratorError(f"{where}.repoURL must begin with oci://")
    return _git(run, block, where)


def _directories(run: Run, block: Mapping[str, Any], url: str, revision: str) -> list[Params]:
    folders: set[str] = set()
    for path in run.inputs.paths(url, revision):
        parts = path.split("/")[:-1]
        if not any(part.startswith(".") for part in parts):
            folders |= {"/".join(parts[: n + 1]) for n in range(len(parts))}
    wanted = [e for e in block["directories"] if isinstance(e, Mapping)]
    chosen = [
        f
        for f in sorted(folders, key=lambda f: f.split("/"))
        if _is_wanted(f, wanted, _shell_match)
    ]
    return [_path_params(run, block, folder) for folder in chosen]


def _is_wanted(path: str, entries: Sequence[Mapping[str, Any]], match: Callable[..., bool]) -> bool:
    require_time()
    hit = False
    for entry in entries:
        exclude = bool(entry.get("exclude"))
        if match(str(entry.get("path") or ""), path, exclude=exclude):
            if exclude:
                return False
            hit = True
    return hit


def _shell_match(pattern: str, path: str, *, exclude: bool) -> bool:
    """Return whether a path matches a pattern in which `*` does not match "/"."""
    del exclude
    one, other = pattern.strip("/").split("/"), path.split("/")
    return len(one) == len(other) and all(
        matches(p, part) for p, part in zip(one, other, strict=True)
    )


def _path_match(pattern: str, path: str, *, exclude: bool) -> bool:
    """Return whether a path matches a glob of files.

    `*` does not match "/", `**` as a whole segment matches any number of directories. A glob that
    names a directory matches all files below it; one that excludes does so only without wildcards.
    """
    text = posixpath.normpath(f"/{pattern}").lstrip("/")
    if fits_path(text, path):
        return True
    if exclude and any(c in text for c in "*?[{"):
        return False
    folders = path.split("/")[:-1]
    return any(fits_path(text, "/".join(folders[: n + 1])) for n in range(len(folders)))


def _path_params(run: Run, block: Mapping[str, Any], folder: str, file: str = "") -> Params:
    base, prefix = folder.rsplit("/", 1)[-1], str(block.get("pathParamPrefix") or "")
    segments = folder.split("/") if folder else []
    if run.go:
        path: Params = {
            "path": folder,
            "basename": base,
            "basenameNormalized": normalize(base),
            "segments": segments,
        }
        if file:
            path |= {"filename": file, "filenameNormalized": normalize(file)}
        return {prefix: {"path": path}} if prefix else {"path": path}
    name = f"{prefix}.path" if prefix else "path"
    found: Params = {
        name: folder,
        f"{name}.basename": base,
        f"{name}.basenameNormalized": normalize(base),
    }
    if file:
        found |= {f"{name}.filename": file, f"{name}.filenameNormalized": normalize(file)}
    return found | {f"{name}[{n}]": part for n, part in enumerate(segments)}


def _files(run: Run, block: Mapping[str, Any], url: str, revision: str, where: str) -> list[Params]:
    wanted = [e for e in block["files"] if isinstance(e, Mapping)]
    found: list[Params] = []
    for path in sorted(run.inputs.paths(url, revision)):
        if _is_wanted(path, wanted, _path_match):
            found += _file_params(run, block, path, run.inputs.read(url, revision, path), where)
    return found


def _file_params(
    run: Run, block: Mapping[str, Any], path: str, content: bytes, where: str
) -> list[Params]:
    folder, _, file = path.rpartition("/")
    own = _path_params(run, block, folder, file)
    try:
        documents = parse_yaml(content.decode(), run.read)
    except (ManifestError, UnicodeDecodeError) as error:
        raise GeneratorError(f"{where}: unable to process file '{path}': {error}") from error
    value = documents[0] if documents else {}
    items = value if isinstance(value, list) else [value if value is not None else {}]
    if len(documents) > 1 or not all(isinstance(item, Mapping) for item in items):
        raise GeneratorError(
            f"{where}: unable to process file '{path}': it must be an object or a list of objects"
        )
    return [{**(dict(i) if run.go else fast.flatten(i)), **own} if i else dict(own) for i in items]


_PATHS = each(of(path=TEXT, exclude=FLAG))
_FIELDS = {
    "repoURL": TEXT,
    "revision": TEXT,
    "directories": _PATHS,
    "files": _PATHS,
    "pathParamPrefix": TEXT,
    **COMMON_FIELDS,
}
_INPUTS = frozenset({Input.REPOSITORY})
GIT = Generator("git", _git, _FIELDS, inputs=_INPUTS, interval_seconds=180)
OCI = Generator("oci", _oci, _FIELDS, inputs=_INPUTS, interval_seconds=180)
