"""The program that renders charts and Jsonnet and runs jq, apart from the hub.

A chart is somebody else's program: an endless loop, a crash of the library or a huge result ends
this process and nothing more. `confined.py` starts it when it has nothing to lose. It says first
which layers shut it in, then reads one JSON request a line and answers with one line; for a
Jsonnet import it asks back. It imports no Django.
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
    """Say which layers hold, and serve requests until the input ends."""
    source = sys.stdin.buffer
    # Libraries print warnings to standard output; answers keep a descriptor of their own.
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
        # Rendering changes the chart (disabled dependencies are dropped), so each render loads its own.
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
    # In the order of Helm, which reads --set before --set-string before --set-file.
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
    # As Argo CD: a comma in a value is part of it, not the next parameter; a list in braces keeps its commas.
    if value.startswith("{") and value.endswith("}"):
        return value
    return re.sub(r"(?<!\\),", r"\\,", value)


def _marked(value: Any, mark: str) -> Any:
    """Return values with the whole numbers of parameters as text, which a template of the chart makes whole again.

    Values reach the library as JSON, where each number becomes a float.
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


# The hub refuses these by reading the program; here they are nothing even if it read it otherwise than jq does.
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

    # By itself first: what closes a bracket that it has not opened is no path, but a program around ours.
    jq.compile(path)
    return jq.compile(f"{_NOTHING}{before}{path}\n{after}")


def _ran(before: str, path: str, after: str, value: Any) -> Any:
    compiled = _compiled(before, path, after)
    try:
        return compiled.input_value(value).first()
    except ValueError:
        # The words of `error(.data)` are the value's: they must not reach a message.
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
