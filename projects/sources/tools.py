"""The tools that render a source, and how the tool of a source is detected.

A new tool needs an entry in `TOOLS` and a module of its own.
"""

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from hub.engine.errors import ManifestError
from hub.engine.resource import Manifest
from projects.sources import directory, helm, kustomize
from projects.sources.files import Recorder
from projects.sources.kustomization import kustomization
from projects.sources.remote_inputs import RemoteInputs
from projects.sources.render_context import Context


@dataclass(frozen=True, slots=True)
class RenderJob:
    """One source to render."""

    files: Recorder
    path: str
    block: Mapping[str, Any]
    """The tool's block in the source, such as `helm`."""
    environment: Mapping[str, str]
    context: Context
    remote: RemoteInputs


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that renders manifests."""

    name: str
    """The name in an application's status."""
    render: Callable[[RenderJob], list[Manifest]]
    is_optional: bool = False
    """Whether HUB_ENABLED_TOOLS can disable it."""

    @property
    def field(self) -> str:
        """The field of a source with the tool's parameters."""
        return self.name.lower()


def _render_helm(job: RenderJob) -> list[Manifest]:
    context = job.context
    release = helm.Release(
        context.name, context.namespace, context.kube_version, context.api_versions
    )
    return helm.render(job.files, job.path, job.block, release, job.environment, job.remote)


def _render_kustomize(job: RenderJob) -> list[Manifest]:
    kube = (job.context.kube_version, list(job.context.api_versions))
    return kustomize.render(job.files, job.path, job.block, job.environment, kube, job.remote)


def _render_directory(job: RenderJob) -> list[Manifest]:
    return directory.render(job.files, job.path, job.block, job.environment)


def _render_plugin(_job: RenderJob) -> list[Manifest]:
    raise ManifestError("source.plugin: config management plugins are not available on this hub")


HELM = Tool("Helm", _render_helm, is_optional=True)
KUSTOMIZE = Tool("Kustomize", _render_kustomize, is_optional=True)
DIRECTORY = Tool("Directory", _render_directory)
PLUGIN = Tool("Plugin", _render_plugin)
TOOLS = (HELM, KUSTOMIZE, DIRECTORY, PLUGIN)
TOOL_FIELDS = tuple(tool.field for tool in TOOLS)


def configured_tools(source: Mapping[str, Any]) -> list[Tool]:
    """Return the tools whose parameters a source has."""
    return [tool for tool in TOOLS if source.get(tool.field)]


def several_tools_message(found: list[Tool]) -> str:
    """Return the error for a source with parameters of several tools, empty if there is none."""
    names = ",".join(tool.name for tool in found)
    return f"multiple application sources defined: {names}" if len(found) > 1 else ""


def detect(files: Recorder, path: str, source: Mapping[str, Any]) -> str:
    """Return Helm, Kustomize, Directory or Plugin: the name of the tool that renders a source."""
    return tool_for(files, path, source).name


def tool_for(files: Recorder, path: str, source: Mapping[str, Any]) -> Tool:
    """Return the tool that renders a source.

    Source: as Argo CD 3.6: the tool configured in the source, else the one that matches the files
        in the folder; a disabled tool is replaced by a plain directory.
    """
    configured = configured_tools(source)
    if message := several_tools_message(configured):
        raise ManifestError(message)
    tool = configured[0] if configured else _detected(files, path, source)
    is_enabled = not tool.is_optional or tool.name in settings.ENABLED_TOOLS
    return tool if is_enabled else DIRECTORY


def _detected(files: Recorder, path: str, source: Mapping[str, Any]) -> Tool:
    if source.get("chart"):
        return HELM
    if kustomization(files, path):
        return KUSTOMIZE
    return HELM if files.exists(posixpath.join(path, "Chart.yaml")) else DIRECTORY
