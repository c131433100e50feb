"""The worker process, which renders charts and Jsonnet and runs jq, separately from the hub.

A chart is an untrusted program: an endless loop, a crash of the library or a huge result only
affects this process. `confined.py` starts it after giving up all privileges. It first reports the
active layers, then reads one JSON request per line and writes one line in response; for a Jsonnet
import, it sends a request itself. It does not import Django.
"""

import base64
import contextlib
import json
import os
import re
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SETS = runpy.run_path(str(Path(__file__).with_name("set_parameters.py")))


def main(layers: Sequence[str] = ()) -> None:
    """Report the active layers, and serve requests until the input ends."""
    source = sys.stdin.buffer
    # Libraries print warnings to standard output, so responses use a separate descriptor.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def write(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message).encode() + b"\n")
        answers.flush()

    def ask(question: dict[str, Any]) -> dict[str, Any]:
        write(question)
        return dict(json.loads(source.readline()))

    write({"layers": list(layers)})
    for line in source:
        request = json.loads(line)
        try:
            reply = {"result": _OPERATIONS[request["op"]](request, ask)}
        except Exception as error:
            reply = {"error": str(error)[:4000] or type(error).__name__}
        write(reply)


def _helm(request: dict[str, Any], _ask: Any) -> Any:
    import helm_python
    from helm_python import _native

    folder = request["chart"]
    with contextlib.closing(helm_python.Chart.load(folder)) as chart:
        metadata = chart.metadata
        values = _values(helm_python, request)
        crds = (
            []
            if request.get("skipCrds")
            else [{"name": c["filename"], "data": c["data"]} for c in chart.crds]
        )
        loaded = [d.get("name") for d in chart.dependencies]
    missing = [
        d.get("alias") or d.get("name")
        for d in metadata.get("dependencies") or []
        if d.get("name") not in loaded
    ]
    options = {
        "name": request["release"],
        "namespace": request["namespace"],
        "is_install": True,
        "kube_version": request.get("kubeVersion") or "",
        "api_versions": request.get("apiVersions") or [],
        "enable_dns": False,
    }

    def rendered(chart: Any, given: Any) -> dict[str, str]:
        # Rendering modifies the chart (it drops disabled dependencies), so load it for each render.
        with contextlib.closing(chart) as own:
            arguments = (json.dumps(given), json.dumps(options))
            return dict(json.loads(_native.call_string("helm_render", own._raw(), *arguments)))

    if request.get("check"):
        rendered(helm_python.Chart.load_archive(base64.b64decode(request["check"])), values)
    mark = request.get("mark") or ""
    files = rendered(helm_python.Chart.load(folder), _marked(values, mark) if mark else values)
    found = {name: text for name, text in files.items() if not mark or mark not in name}
    return {"files": found, "crds": crds, "metadata": metadata, "missing": missing}


def _values(helm: Any, request: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for given in request.get("values") or []:
        one = helm.values_from_yaml(given) or {} if isinstance(given, str) else given
        result = _merge(result, one)
    texts = [p for p in request.get("parameters") or [] if p["forceString"]]
    others = [p for p in request.get("parameters") or [] if not p["forceString"]]
    # In Helm's order: --set, --set-string, --set-file.
    for entry in others:
        _put(result, f"{entry['name']}={_escaped(entry['value'])}", _SETS["typed"], "--set")
    for entry in texts:
        _put(result, f"{entry['name']}={_escaped(entry['value'])}", str, "--set-string")
    for entry in request.get("fileParameters") or []:
        content = entry["content"]
        _put(result, f"{entry['name']}=file", lambda _, content=content: content, "--set-file")
    return result


def _put(values: dict[str, Any], text: str, convert: Any, option: str) -> None:
    try:
        _SETS["put"](values, text, convert)
    except _SETS["SetError"] as error:
        raise ValueError(f"failed parsing {option} data: {error}") from error


def _escaped(value: str) -> str:
    # As in Argo CD, a comma in a value does not start another parameter, except in braces.
    if value.startswith("{") and value.endswith("}"):
        return value
    return re.sub(r"(?<!\\),", r"\\,", value)


def _marked(value: Any, mark: str) -> Any:
    """Encode integer parameters as text with a prefix; a template of the chart restores them.

    Values are passed to the library as JSON, in which all numbers become floats.
    """
    if isinstance(value, dict):
        return {k: _marked(v, mark) for k, v in value.items()}
    if isinstance(value, list):
        return [_marked(v, mark) for v in value]
    return f"{mark}{value}" if isinstance(value, _SETS["Int64"]) else value


def _merge(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{k: _merge(base.get(k), v) for k, v in over.items()}}
    return over


def _jsonnet(request: dict[str, Any], ask: Any) -> Any:
    import _gojsonnet

    def load(base: str, wanted: str) -> tuple[str, bytes]:
        answer = ask({"import": [base, wanted]})
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["path"], base64.b64decode(answer["data"])

    return _gojsonnet.evaluate_snippet(
        request["name"], request["code"], import_callback=load, **request["variables"]
    )


def _jq(request: dict[str, Any], _ask: Any) -> Any:
    return _ran("del(", request["path"], ")", request["value"])


def _jq_paths(request: dict[str, Any], _ask: Any) -> Any:
    return _ran("[path(", request["path"], ")]", request["value"])


# The hub refuses these functions; they are also disabled here, in case jq parses differently.
_NOTHING = (
    "".join(
        f"def {name}: error;"
        for name in (
            "env",
            "input",
            "inputs",
            "debug",
            "debug(f)",
            "stderr",
            "input_filename",
            "halt",
            "halt_error",
            "halt_error(f)",
            "modulemeta",
            "get_search_list",
            "get_prog_origin",
            "get_jq_origin",
        )
    )
    + "{} as $ENV|"
)


def _compiled(before: str, path: str, after: str) -> Any:
    import jq

    # Compile the path alone first: unbalanced brackets could escape the surrounding program.
    jq.compile(path)
    return jq.compile(f"{_NOTHING}{before}{path}\n{after}")


def _ran(before: str, path: str, after: str, value: Any) -> Any:
    compiled = _compiled(before, path, after)
    try:
        return compiled.input_value(value).first()
    except ValueError:
        # The message of `error(.data)` comes from the value and must not be shown.
        raise ValueError("the path does not apply") from None


def _jq_compile(request: dict[str, Any], _ask: Any) -> Any:
    _compiled("[path(", request["path"], ")]")


def _ready(_request: dict[str, Any], _ask: Any) -> Any:
    import _gojsonnet
    import helm_python
    import jq

    return [module.__name__ for module in (_gojsonnet, helm_python, jq)]


_OPERATIONS = {
    "ready": _ready,
    "helm": _helm,
    "jsonnet": _jsonnet,
    "jq": _jq,
    "jq_paths": _jq_paths,
    "jq_compile": _jq_compile,
}
