"""Filter repositories, branches and pull requests, and turn them into parameters.

Filters of repositories alone select repositories; filters of branches or paths select branches of
those. All conditions of one filter must hold, and one of several filters.
Source: as Argo CD 3.6.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from appsets.generators.errors import GeneratorError
from appsets.template.functions.argocd import normalize, slugify
from hub.engine.regex import PatternError, compiled

_REPOSITORY = ("repositoryMatch", "labelMatch")
_BRANCH = ("branchMatch", "pathsExist", "pathsDoNotExist")
_PULL = ("branchMatch", "targetBranchMatch", "titleMatch")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of a host; `key` is what the host's API calls it."""

    organization: str
    name: str
    id: str
    ssh_url: str
    https_url: str
    default_branch: str
    labels: tuple[str, ...] = ()
    key: str = ""

    def url(self, protocol: str) -> str:
        """Return the URL to clone from; raises GeneratorError for an unknown protocol."""
        if protocol in ("", "ssh"):
            return self.ssh_url
        if protocol == "https":
            return self.https_url
        raise GeneratorError(f"cloneProtocol must be ssh or https, not {protocol!r}")


class Branch(NamedTuple):
    """A branch and its newest commit."""

    name: str
    sha: str


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull request, or merge request."""

    number: int
    title: str
    branch: str
    target: str
    sha: str
    author: str = ""
    labels: tuple[str, ...] = field(default=())


def filters_of(
    block: Mapping[str, Any], known: Sequence[str] = (*_REPOSITORY, *_BRANCH)
) -> list[Mapping[str, Any]]:
    """Return the filters of a generator.

    Raises: GeneratorError naming an invalid filter.
    """
    found = block.get("filters") or []
    if not isinstance(found, list) or not all(isinstance(f, Mapping) for f in found):
        raise GeneratorError("filters must be a list of objects")
    for number, entry in enumerate(found):
        for name, value in entry.items():
            if name not in known:
                raise GeneratorError(
                    f"filters[{number}].{name} is not known; there are {', '.join(known)}"
                )
            if name.startswith("paths"):
                if not isinstance(value, list) or not all(isinstance(p, str) for p in value):
                    raise GeneratorError(f"filters[{number}].{name} must be a list of paths")
                continue
            if not (isinstance(value, str) and "{{" in value):
                # Inside a matrix the pattern may be a template, which is rendered later.
                _pattern(value, f"filters[{number}].{name}")
    return found


def pull_filters_of(block: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the filters of a pull request generator; raises GeneratorError."""
    return filters_of(block, _PULL)


def _pattern(value: Any, where: str) -> Any:
    if not isinstance(value, str):
        raise GeneratorError(f"{where} must be text")
    try:
        return compiled(value)
    except PatternError as error:
        raise GeneratorError(f"{where}: {error}") from error


def _hits(entry: Mapping[str, Any], name: str, text: str) -> bool:
    pattern = entry.get(name)
    return pattern is None or bool(_pattern(pattern, name).search(text))


def is_of_branches(entry: Mapping[str, Any]) -> bool:
    """Return whether a filter selects branches."""
    return any(entry.get(name) for name in _BRANCH)


def chosen_repositories(
    found: Iterator[Repository], filters: Sequence[Mapping[str, Any]]
) -> Iterator[Repository]:
    """Yield the repositories that match the filters of repositories."""
    own = [f for f in filters if not is_of_branches(f)]
    for one in found:
        if not own or any(_fits_repository(f, one) for f in own):
            yield one


def _fits_repository(entry: Mapping[str, Any], one: Repository) -> bool:
    if not _hits(entry, "repositoryMatch", one.name):
        return False
    pattern = entry.get("labelMatch")
    return pattern is None or any(
        _pattern(pattern, "labelMatch").search(label) for label in one.labels
    )


def is_chosen_branch(
    one: Repository,
    branch: Branch,
    filters: Sequence[Mapping[str, Any]],
    has_path: Callable[[str], bool],
) -> bool:
    """Return whether a branch matches the filters of branches; paths are requested last."""
    own = [f for f in filters if is_of_branches(f)]
    return not own or any(
        _fits_repository(f, one)
        and _hits(f, "branchMatch", branch.name)
        and all(has_path(p) for p in f.get("pathsExist") or [])
        and not any(has_path(p) for p in f.get("pathsDoNotExist") or [])
        for f in own
    )


def is_chosen_pull(one: Pull, filters: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> bool:
    """Return whether a pull request has all labels and matches one of the filters."""
    if not set(labels) <= set(one.labels):
        return False
    return not filters or any(
        _hits(f, "branchMatch", one.branch)
        and _hits(f, "targetBranchMatch", one.target)
        and _hits(f, "titleMatch", one.title)
        for f in filters
    )


def repository_params(one: Repository, branch: Branch, protocol: str) -> dict[str, Any]:
    """Return the parameters of a branch."""
    return {
        "organization": one.organization,
        "repository": one.name,
        "repository_id": one.id,
        "url": one.url(protocol),
        "branch": branch.name,
        "branchNormalized": normalize(branch.name),
        "sha": branch.sha,
        "short_sha": branch.sha[:8],
        "short_sha_7": branch.sha[:7],
        "labels": ",".join(one.labels),
    }


def pull_params(one: Pull) -> dict[str, Any]:
    """Return the parameters of a pull request; `labels` is a list."""
    return {
        "number": str(one.number),
        "title": one.title,
        "author": one.author,
        "branch": one.branch,
        "branch_slug": _slug(one.branch),
        "target_branch": one.target,
        "target_branch_slug": _slug(one.target),
        "head_sha": one.sha,
        "head_short_sha": one.sha[:8],
        "head_short_sha_7": one.sha[:7],
        "labels": list(one.labels),
    }


def _slug(branch: str) -> str:
    return slugify(50, False, branch.replace("_", "-"))
