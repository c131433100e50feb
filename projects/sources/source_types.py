"""Source types: where the files of an application's source come from.

A new type is a module of its own and an entry in `SOURCE_TYPES`. Sources other than Git are
polled for each application.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hub.engine.errors import Invalid, Stalled
from projects.sources import abbreviated_commits, charts, git
from projects.sources.credentials import credentials_for, has_own_credentials
from projects.sources.files import Files
from projects.sources.git_remotes import current_refs
from projects.sources.remote_inputs import git_files
from projects.sources.versions import is_abbreviated, resolve_git

Source = Mapping[str, Any]
"""An entry of `spec.sources`, or `spec.source`."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How new a server's response must be.

    Shapes: with `force`, it must be newer than `since`, by default now.
    """

    force: bool = False
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class SourceType:
    """How to recognize a source, check its URL, resolve its target revision and fetch its files."""

    name: str
    is_type_of: Callable[[Source], bool]
    check_url: Callable[[str, str], None]
    """Takes the URL and the field to name in an error. Raises: Invalid."""
    resolve: Callable[[Source, str, Freshness], str]
    """Takes the source, the project and the freshness; returns an exact revision."""
    fetch: Callable[[Source, str, str, Source | None], Files]
    """Takes the source, the revision, the project and the project's spec."""


def source_type(source: Source) -> SourceType:
    """Return the type of a source."""
    return next(entry for entry in SOURCE_TYPES.values() if entry.is_type_of(source))


def kind_of(source: Source) -> str:
    """Return the name of a source's type, such as `git`, `helm` or `oci`."""
    return source_type(source).name


def resolve(
    source: Source, project: str, *, force: bool = False, since: datetime | None = None
) -> str:
    """Return the exact revision of a source: a commit, chart version or digest.

    Raises: Stalled if nothing matches, RetryLater if the server does not respond.
    """
    return source_type(source).resolve(source, project, Freshness(force, since))


def files_of(source: Source, revision: str, project: str, spec: Source | None = None) -> Files:
    """Return the files of a source at a revision, fetched if needed.

    Shapes: with the project's `spec`, submodules are read if it permits their repositories.
    """
    return source_type(source).fetch(source, revision, project, spec)


def _check_chart_url(url: str, field: str) -> None:
    if "://" in url and not url.startswith(("https://", "http://", "oci://")):
        raise Invalid(f"{field}: {url} must start with https://, http:// or oci://")


def _credentials(source: Source, project: str) -> dict[str, Any]:
    url = str(source["repoURL"])
    credentials = credentials_for(url, project)
    if (source.get("helm") or {}).get("passCredentials") and has_own_credentials(url, project):
        # A template's credentials must not be sent to servers that an application's author chooses.
        credentials["passCredentials"] = True
    return credentials


def _resolve_chart(source: Source, project: str, freshness: Freshness) -> str:
    url, target = str(source["repoURL"]), str(source.get("targetRevision") or "")
    credentials = credentials_for(url, project)
    return charts.resolve(url, str(source["chart"]), target, credentials, fresh=freshness.force)


def _fetch_chart(source: Source, revision: str, project: str, _spec: Source | None) -> Files:
    url, credentials = str(source["repoURL"]), _credentials(source, project)
    return charts.fetch(url, str(source["chart"]), revision, credentials)


def _resolve_artifact(source: Source, project: str, freshness: Freshness) -> str:
    url, target = str(source["repoURL"]), str(source.get("targetRevision") or "latest")
    return charts.oci_digest(url, "", target, credentials_for(url, project), fresh=freshness.force)


def _fetch_artifact(source: Source, revision: str, project: str, _spec: Source | None) -> Files:
    return charts.fetch_artifact(str(source["repoURL"]), revision, _credentials(source, project))


def _resolve_commit(source: Source, project: str, freshness: Freshness) -> str:
    url, target = str(source["repoURL"]), str(source.get("targetRevision") or "")
    if git.is_commit(target):
        return target
    remote = current_refs(url, project, force=freshness.force, since=freshness.since)
    try:
        return resolve_git(target, remote.refs, remote.head, str(source.get("tagPrefix") or ""))
    except Stalled:
        found = is_abbreviated(target) and abbreviated_commits.resolve_abbreviation(
            url, target, remote.refs, credentials_for(url, project)
        )
        if not found:
            raise
        return found


def _fetch_commit(source: Source, revision: str, project: str, spec: Source | None) -> Files:
    return git_files(str(source["repoURL"]), revision, project, spec)


def _is_artifact(source: Source) -> bool:
    return str(source.get("repoURL", "")).startswith("oci://")


HELM = SourceType(
    "helm", lambda source: bool(source.get("chart")), _check_chart_url, _resolve_chart, _fetch_chart
)
OCI = SourceType("oci", _is_artifact, _check_chart_url, _resolve_artifact, _fetch_artifact)
GIT = SourceType("git", lambda _source: True, git.check_git_url, _resolve_commit, _fetch_commit)

# The first type that recognizes a source is used. Git is last, since its URLs vary in form.
SOURCE_TYPES: dict[str, SourceType] = {entry.name: entry for entry in (HELM, OCI, GIT)}
