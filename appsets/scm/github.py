"""GitHub, and GitHub Enterprise.

Source: https://docs.github.com/en/rest (version 2022-11-28).
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from appsets.scm.filters import Branch, Pull, Repository
from appsets.scm.host import HostError
from appsets.scm.provider import Provider, names, needed, number, text

API = "https://api.github.com"
HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}


def base_of(api: str) -> str:
    """Return the base URL of the API: below /api/v3 unless the host is called api."""
    if not api:
        return API
    host, base = urlsplit(api).hostname or "", api.rstrip("/")
    if base.endswith("/api/v3") or host.startswith("api.") or ".api." in host:
        return base
    return f"{base}/api/v3"


class GitHub(Provider):
    """Repositories of an organization or user, pull requests of a repository."""

    prefix = ""
    page: Mapping[str, int] = {"per_page": 100}
    commit = "sha"
    """The name of the field with the commit of a branch."""

    def repositories(self) -> Iterator[Repository]:
        """Yield the repositories; the owner may be an organization or a user."""
        owner = quote(str(self.spec.get("organization") or ""), safe="")
        try:
            yield from map(self._repository, self._listed(f"/orgs/{owner}/repos"))
        except HostError as error:
            if error.status != 404:
                raise
            yield from map(self._repository, self._listed(f"/users/{owner}/repos"))

    def _listed(self, path: str) -> Iterator[Any]:
        for item in self.host.linked(self.prefix + path, **self.page):
            if not (item.get("archived") and self.spec.get("excludeArchivedRepos")):
                yield item

    def _repository(self, item: Any) -> Repository:
        owner, name = needed(item, "owner", "login"), needed(item, "name")
        key = f"{self.prefix}/repos/{quote(owner, safe='')}/{quote(name, safe='')}"
        return Repository(
            owner,
            name,
            text(item, "id"),
            text(item, "ssh_url"),
            text(item, "clone_url"),
            text(item, "default_branch"),
            self._labels(item, key),
            key,
        )

    def _labels(self, item: Any, key: str) -> tuple[str, ...]:
        del key
        return names(item, "topics")

    def branches(self, one: Repository) -> Iterator[Branch]:
        """Yield all branches."""
        yield from map(self._branch, self.host.linked(f"{one.key}/branches", **self.page))

    def branch(self, one: Repository, name: str) -> Branch | None:
        """Return one branch."""
        found = self.host.find(f"{one.key}/branches/{quote(name, safe='')}")
        return self._branch(found) if found is not None else None

    def _branch(self, item: Any) -> Branch:
        return Branch(needed(item, "name"), needed(item, "commit", self.commit))

    def has_path(self, one: Repository, branch: Branch, path: str) -> bool:
        """Return whether a path is in a branch."""
        return self.host.has(f"{one.key}/contents/{quote(path.strip('/'))}", ref=branch.name)

    def pulls(self) -> Iterator[Pull]:
        """Yield the open pull requests."""
        yield from map(
            _pull, self.host.linked(f"{self._project()}/pulls", state="open", **self.page)
        )

    def pull(self, number: int) -> Pull | None:
        """Return an open pull request."""
        found = self.host.find(f"{self._project()}/pulls/{number}")
        return _pull(found) if found is not None and found.get("state") == "open" else None

    def _project(self) -> str:
        owner, repo = (quote(str(self.spec.get(f) or ""), safe="") for f in ("owner", "repo"))
        return f"{self.prefix}/repos/{owner}/{repo}"


def _pull(item: Any) -> Pull:
    return Pull(
        number(item, "number"),
        text(item, "title"),
        needed(item, "head", "ref"),
        needed(item, "base", "ref"),
        needed(item, "head", "sha"),
        text(item, "user", "login"),
        names(item, "labels"),
    )
