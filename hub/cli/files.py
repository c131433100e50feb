"""Manifests from files, URLs or standard input, and texts edited by the user."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hub.cli.output import as_yaml
from hub.cli.problem import Problem


def text_of(file: str) -> str:
    """Return the text of a file, a URL, or standard input for `-`.

    Raises: Problem naming the file.
    """
    try:
        if file == "-":
            return sys.stdin.read()
        if file.startswith(("http://", "https://")):
            return _fetched(file)
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{file} cannot be read: {error}") from error


def _fetched(url: str) -> str:
    import httpx

    try:
        return httpx.get(url, timeout=30, follow_redirects=True).raise_for_status().text
    except httpx.HTTPError as error:
        raise Problem(f"{url} cannot be read: {error}") from error


def manifests(files: Sequence[str]) -> list[dict[str, Any]]:
    """Return the objects in files; a folder stands for its YAML files, a List for its items.

    Raises: Problem naming the file.
    """
    import yaml

    found: list[dict[str, Any]] = []
    for file in files:
        inner = (
            sorted(str(p) for p in Path(file).iterdir() if p.suffix in (".yaml", ".yml", ".json"))
            if file != "-" and Path(file).is_dir()
            else [file]
        )
        for one in inner:
            try:
                documents = list(yaml.safe_load_all(text_of(one)))
            except yaml.YAMLError as error:
                raise Problem(f"{one} is no YAML: {error}") from error
            for document in documents:
                if document is None:
                    continue
                if not isinstance(document, dict):
                    raise Problem(f"{one} has a document that is not an object")
                found += (
                    document["items"]
                    if document.get("kind") == "List" and isinstance(document.get("items"), list)
                    else [document]
                )
    if not found:
        raise Problem("there are no manifests")
    return found


def edited(value: Any) -> Any:
    """Let the user edit a value as YAML in $EDITOR; return it, the same object if unchanged.

    Raises: Problem when the editor fails or the result cannot be read.
    """
    import yaml

    editor = os.environ.get("EDITOR") or os.environ.get("VISUAL") or "vi"
    before = as_yaml(value)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "edit.yaml"
        file.write_text(before, encoding="utf-8")
        try:
            code = subprocess.run([*shlex.split(editor), str(file)], check=False).returncode
        except OSError as error:
            raise Problem(f"{editor} cannot be started: set EDITOR") from error
        if code:
            raise Problem(f"{editor} ended with {code}: nothing was changed")
        after = file.read_text(encoding="utf-8")
    if after == before:
        return value
    try:
        return yaml.safe_load(after)
    except yaml.YAMLError as error:
        raise Problem(f"what was written is no YAML, nothing was changed: {error}") from error
