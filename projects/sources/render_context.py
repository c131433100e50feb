"""What rendering depends on besides a source: the application, its project and its destination."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clusters.models import Cluster
from projects.models import Application
from projects.sources import helm
from projects.sources.remote_inputs import RemoteInputs


@dataclass(frozen=True, slots=True)
class Context:
    """The properties of an application and its destination that rendering depends on."""

    name: str
    instance: str
    namespace: str
    project: str
    project_spec: Mapping[str, Any]
    kube_version: str = ""
    api_versions: tuple[str, ...] = ()
    no_cache: bool = False
    since: datetime | None = None
    """When a refresh was requested; responses of servers must be newer."""
    asker: str = ""
    """The user whose request needs the render, empty for the hub's own refreshes and syncs."""

    def remote_inputs(self) -> RemoteInputs:
        """Return the remote inputs that a render of this application may read."""
        return RemoteInputs(self.project, self.project_spec, self.since)

    @property
    def capabilities(self) -> str:
        """The digest of the destination's capabilities, which charts can query."""
        return helm.capabilities_digest(self.kube_version, self.api_versions)

    @property
    def requires_signatures(self) -> bool:
        """Whether the project requires signed commits for any repository."""
        spec = self.project_spec
        return bool(spec.get("signatureKeys") or spec.get("sourceIntegrity"))


def context_of(
    application: Application,
    project_spec: Mapping[str, Any],
    cluster: Cluster | None,
    *,
    no_cache: bool = False,
    since: datetime | None = None,
    asker: str = "",
) -> Context:
    """Return the context of an application; `asker` is the user whose request needs the render."""
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
    """Return a cluster's Kubernetes version, and all API versions and kinds that it serves."""
    names: set[str] = set()
    for group, version, kind, *_ in cluster.api_kinds:
        api = f"{group}/{version}" if group else version
        names |= {api, f"{api}/{kind}"}
    return re.split(r"[-+]", cluster.server_version, maxsplit=1)[0], tuple(sorted(names))
