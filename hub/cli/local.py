"""Local folders in place of Git's: the hub receives, renders and compares them."""

import base64
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hub.cli.client import Client, path
from hub.cli.names import qualified
from hub.cli.problem import Problem
from hub.engine.globs import matches

_CHUNK_BYTES = 256 * 1024
_MAX_BYTES = 200 * 1024 * 1024
_LEFT_OUT = {".git", ".hg", ".svn", "node_modules", "__pycache__"}
_MASK = "++++++++"


def render(
    hub: Client,
    name: str,
    namespace: str,
    folder: str,
    *,
    root: str = "",
    include: Sequence[str] = (),
    position: int = 0,
    compare: bool = False,
) -> dict[str, Any]:
    """Return a folder's manifests as rendered by the hub, with `compare` also the difference.

    Shapes: `root` is the folder to send, when the manifests need files beside their own folder.
    Raises: Problem when the folder cannot be read, or the hub refuses.
    """
    base = Path(root or folder).resolve()
    own = Path(folder).resolve()
    if not own.is_dir():
        raise Problem(f"--local {folder} is not a folder")
    if not own.is_relative_to(base):
        raise Problem(f"--local {folder} is not within --local-repo-root {root}")
    archive = _archive(base, include)
    where, only = qualified(name, namespace)
    query = {
        "name": only,
        "appNamespace": where,
        "checksum": hashlib.sha256(archive).hexdigest(),
        "path": own.relative_to(base).as_posix(),
        "sourcePosition": position,
    }
    lines = _lines(query, archive)
    found: dict[str, Any] = hub.post_lines(
        path("applications", "manifestsWithFiles", compare=compare), lines
    )
    return found


def manifests(found: dict[str, Any]) -> list[str]:
    """Return the manifests in a response, to be applied.

    Raises: Problem when one is a Secret, whose values the hub never returns.
    """
    texts: list[str] = found.get("manifests") or []
    for text in texts:
        manifest = json.loads(text)
        if manifest.get("kind") == "Secret" and _MASK in text:
            raise Problem(
                f"Secret {manifest['metadata'].get('name')} comes back masked from the hub "
                "and is not applied from a folder: commit it, or leave it out"
            )
    if not texts:
        raise Problem("the folder holds no manifests")
    return texts


def _lines(query: dict[str, Any], archive: bytes) -> Iterator[bytes]:
    yield (
        json.dumps({"query": {k: v for k, v in query.items() if v not in ("", 0)}}).encode() + b"\n"
    )
    for start in range(0, len(archive), _CHUNK_BYTES):
        chunk = base64.b64encode(archive[start : start + _CHUNK_BYTES]).decode()
        yield json.dumps({"chunk": {"chunk": chunk}}).encode() + b"\n"


def _archive(root: Path, include: Sequence[str]) -> bytes:
    buffer, size = io.BytesIO(), 0
    try:
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as archive:
            for file in _files(root):
                name = file.relative_to(root).as_posix()
                if include and not any(matches(p, file.name) or matches(p, name) for p in include):
                    continue
                size += file.stat().st_size
                if size > _MAX_BYTES:
                    raise Problem(
                        f"{root} is larger than {_MAX_BYTES // 1024**2} MiB: give a smaller folder"
                    )
                # A link is sent as its target: the hub accepts only plain files.
                archive.add(file.resolve(), arcname=name, recursive=False, filter=_plain)
    except OSError as error:
        raise Problem(f"{root} cannot be read: {error}") from error
    return buffer.getvalue()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    # Only names and contents: no owners, times or modes of this machine.
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in _LEFT_OUT)
        for name in sorted(names):
            file = Path(folder, name)
            target = file.resolve()
            if target.is_file() and target.is_relative_to(root):
                yield file
