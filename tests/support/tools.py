"""The real helm and kustomize beside the hub's rendering, on the same files."""

import itertools
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hub.engine.errors import EngineError
from hub.engine.kubernetes_yaml import parse_yaml
from hub.engine.resource import manifests_from
from projects.sources import helm, kustomize
from projects.sources.files import MemoryFiles, Recorder
from projects.sources.remote_inputs import RemoteInputs

KUBE = "v1.36.3"
APIS = (
    "v1",
    "apps/v1",
    "apps/v1/Deployment",
    "example.com/v1alpha1",
    "example.com/v1alpha1/Thing",
    "policy/v1beta1",
)


@dataclass(frozen=True)
class Tools:
    """The folder that the programs are in."""

    folder: Path

    def run(self, name, arguments, folder):
        """Return what a program prints; None when it fails."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GOMAXPROCS": "2"}
        finished = subprocess.run(
            [self.folder / name, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return finished.stdout if finished.returncode == 0 else None

    def template(self, name, folder, block, path="chart"):
        """Return what `helm template` makes of a chart and a `helm` block, called as Argo CD calls
        it.
        """
        if "file://" in (folder / path / "Chart.yaml").read_text():
            assert self.run(name, ["dependency", "build", "."], folder / path) is not None
        arguments = [
            "template",
            ".",
            "--name-template",
            "app",
            "--namespace",
            "ns",
            "--kube-version",
            KUBE,
            "--include-crds",
        ]
        arguments += [word for api in APIS for word in ("--api-versions", api)]
        arguments += [word for file in block.get("valueFiles", []) for word in ("--values", file)]
        if "valuesObject" in block or "values" in block:
            inline = folder / "inline-values.yaml"
            given = block.get("valuesObject")
            inline.write_text(block["values"] if given is None else _as_yaml(given))
            arguments += ["--values", str(inline)]
        for entry in block.get("parameters", []):
            option = "--set-string" if entry.get("forceString") else "--set"
            arguments += [option, f"{entry['name']}={without_commas(entry['value'])}"]
        for entry in block.get("fileParameters", []):
            arguments += ["--set-file", f"{entry['name']}={entry['path']}"]
        printed = self.run(name, arguments, folder / path)
        return None if printed is None else documents(printed)


def _as_yaml(value):
    # JSON is YAML, but for a line end of Unicode that Go's reader would fold.
    return json.dumps(value, ensure_ascii=False).replace("\u2028", "\\u2028")


def without_commas(value):
    """Return a value with its commas escaped, but for a list in braces and commas that are escaped
    already.
    """
    if value[:1] == "{" and value[-1:] == "}":
        return value
    parts = [value[:1].replace(",", "\\,")]
    parts += [
        "\\," if one == "," and before != "\\" else one for before, one in itertools.pairwise(value)
    ]
    return "".join(parts)


def documents(text):
    """Return the manifests of a text in an order of their own."""
    found = [d for d in parse_yaml(text) if isinstance(d, dict)]
    return in_order(manifests_from(found, "output"))


def in_order(manifests):
    return sorted(manifests, key=repr)


def written(folder, files):
    """Write files into a folder."""
    for path, text in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def recorder(files):
    """Return files as the hub reads those of a commit."""
    content = {
        path: text.encode() if isinstance(text, str) else text for path, text in files.items()
    }
    return Recorder({"": MemoryFiles(content)}, "default")


def of_hub(files, block, path="chart"):
    """Return what the hub makes of a chart and a `helm` block; None when it refuses."""
    release = helm.Release("app", "ns", KUBE, APIS)
    reach = RemoteInputs("default", {"sourceRepos": ["*"]}, None)
    try:
        return in_order(helm.render(recorder(files), path, block, release, {}, reach))
    except EngineError:
        return None


def built_by_hub(files, block, path="over"):
    """Return what the hub makes of an overlay and a `kustomize` block; None when it refuses."""
    reach = RemoteInputs("default", {"sourceRepos": ["*"]}, None)
    try:
        return in_order(kustomize.render(recorder(files), path, block, {}, (KUBE, []), reach))
    except EngineError:
        return None
