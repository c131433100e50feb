"""Render Jsonnet in the rendering process, with imports limited to the repository."""

import base64
import contextlib
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from hub.engine.errors import ManifestError
from hub.engine.kubernetes_yaml import Volume, parse_json
from hub.engine.resource import Manifest, manifests_from
from projects.sources.environment import substitute
from projects.sources.files import Recorder, path_inside_root
from projects.sources.process import WorkerError, renderer


def render(
    files: Recorder,
    path: str,
    name: str,
    block: Mapping[str, Any],
    environment: Mapping[str, str],
    volume: Volume,
) -> list[Manifest]:
    """Return the manifests of one Jsonnet file.

    Shapes: `block` is `directory.jsonnet` with extVars, tlas and libs; `volume` counts the values
        of the entire render.
    Raises: ManifestError with Jsonnet's message.
    """
    folders = [path, *(path_inside_root(str(lib)) for lib in block.get("libs") or [])]

    def load(question: list[str]) -> dict[str, str]:
        base, wanted = map(str, question)
        try:
            for candidate in _candidates(base, wanted, folders):
                data = files.read(candidate)
                if data is not None:
                    return {"path": candidate, "data": base64.b64encode(data).decode()}
        except ManifestError as error:
            return {"error": str(error)}
        return {"error": f"import of {wanted}: not found in the repository"}

    try:
        text = renderer.call(
            {
                "op": "jsonnet",
                "name": name,
                "code": (files.read(name) or b"").decode(),
                "variables": _variables(block, environment),
            },
            timeout=settings.EXEC_TIMEOUT.total_seconds(),
            answer=load,
            owner=files.owner,
        )
    except (WorkerError, UnicodeDecodeError) as error:
        raise ManifestError(f"{name}: {str(error)[:600]}") from error
    try:
        volume.add(str(text))
        result = parse_json(str(text))
    except ManifestError as error:
        raise ManifestError(f"{name}: {error}") from error
    documents = result if isinstance(result, list) else [result]
    return manifests_from([d for d in documents if d is not None], name)


def _candidates(base: str, wanted: str, folders: list[str]) -> list[str]:
    if wanted.startswith("/"):
        raise ManifestError(f"import of {wanted} leads outside the repository")
    # The importing file's folder, then the application's, then the libraries in reverse order.
    found = [path_inside_root(wanted, base.rstrip("/"))]
    for folder in [folders[0], *reversed(folders[1:])]:
        with contextlib.suppress(ManifestError):
            found.append(path_inside_root(wanted, folder))
    return found


def _variables(
    block: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    result: dict[str, dict[str, str]] = {
        "ext_vars": {},
        "ext_codes": {},
        "tla_vars": {},
        "tla_codes": {},
    }
    for field, text, code in (
        ("extVars", "ext_vars", "ext_codes"),
        ("tlas", "tla_vars", "tla_codes"),
    ):
        for entry in block.get(field) or []:
            place = code if entry.get("code") else text
            result[place][str(entry["name"])] = substitute(str(entry.get("value", "")), environment)
    return result
