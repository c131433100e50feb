"""Bitbucket Cloud and Bitbucket Server: two different APIs.

Source: https://developer.atlassian.com/cloud/bitbucket/rest/,
https://developer.atlassian.com/server/bitbucket/rest/.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from appsets.scm.filters import Branch, Pull, Repository
from appsets.scm.host import Answer, HostError
from appsets.scm.provider import Provider, needed, number, text, values

CLOUD_API = "https://api.bitbucket.org/2.0"


class BitbucketCloud(Provider):
    """Repositories of a workspace, pull requests of a repository."""

    def repositories(self) -> Iterator[Repository]:
        """Yield the repositories that the account is a member of."""
        owner = quote(str(self.spec.get("owner") or ""), safe="")
        for item in self._listed(f"/repositories/{owner}", role="member", pagelen=100):
            clone = _clone_urls(item)
            slug = needed(item, "slug")
            yield Repository(
                str(self.spec.get("owner")),
                slug,
                text(item, "uuid"),
                clone.get("ssh", ""),
                clone.get("https", ""),
                text(item, "mainbranch", "name"),
                (),
                f"/repositories/{owner}/{quote(slug, safe='')}",
            )

    def _listed(self, path: str, **query: Any) -> Iterator[Any]:
        def following(answer: Answer, _items: list[Any]) -> str:
            return text(answer.body, "next")

        yield from self.host.paged(path, query, values, following)

    def branches(self, one: Repository) -> Iterator[Branch]:
        """Yield all branches."""
        yield from map(_cloud_branch, self._listed(f"{one.key}/refs/branches", pagelen=100))

    def branch(self, one: Repository, name: str) -> Branch | None:
        """Return one branch."""
        found = self.host.find(f"{one.key}/refs/branches/{quote(name, safe='')}")
        return _cloud_branch(found) if found is not None else None

    def has_path(self, one: Repository, branch: Branch, path: str) -> bool:
        """Return whether a path is in a branch."""
        return self.host.has(f"{one.key}/src/{branch.sha}/{quote(path.strip('/'))}", format="meta")

    def pulls(self) -> Iterator[Pull]:
        """Yield the open pull requests."""
        yield from map(
            _cloud_pull, self._listed(f"{self._project()}/pullrequests", state="OPEN", pagelen=50)
        )

    def pull(self, number: int) -> Pull | None:
        """Return an open pull request."""
        found = self.host.find(f"{self._project()}/pullrequests/{number}")
        return _cloud_pull(found) if found is not None and found.get("state") == "OPEN" else None

    def _project(self) -> str:
        owner, repo = (quote(str(self.spec.get(f) or ""), safe="") for f in ("owner", "repo"))
        return f"/repositories/{owner}/{repo}"


def _clone_urls(item: Any) -> dict[str, str]:
    links = item.get("links") if isinstance(item, Mapping) else None
    found = links.get("clone") if isinstance(links, Mapping) else None
    if not isinstance(found, list):
        raise HostError("the answer has no links.clone")
    return {text(e, "name"): text(e, "href") for e in found}


def _cloud_branch(item: Any) -> Branch:
    return Branch(needed(item, "name"), needed(item, "target", "hash"))


def _cloud_pull(item: Any) -> Pull:
    return Pull(
        number(item, "id"),
        text(item, "title"),
        needed(item, "source", "branch", "name"),
        needed(item, "destination", "branch", "name"),
        needed(item, "source", "commit", "hash"),
        text(item, "author", "nickname"),
    )


def server_base(api: str) -> str:
    """Return the base URL of a server's API, given with or without /rest."""
    return f"{api.rstrip('/').removesuffix('/rest')}/rest/api/1.0"


class BitbucketServer(Provider):
    """Repositories of a project, pull requests of a repository."""

    def repositories(self) -> Iterator[Repository]:
        """Yield the repositories; the default branch has a request of its own."""
        project = quote(str(self.spec.get("project") or ""), safe="~")
        for item in self._listed(f"/projects/{project}/repos"):
            clone, slug = _clone_urls(item), needed(item, "slug")
            key = f"/projects/{project}/repos/{quote(slug, safe='')}"
            default = self.host.find(f"{key}/branches/default")
            yield Repository(
                needed(item, "project", "key"),
                slug,
                text(item, "id"),
                clone.get("ssh", ""),
                clone.get("http", ""),
                text(default, "displayId") if default else "",
                (),
                key,
            )

    def _listed(self, path: str, **query: Any) -> Iterator[Any]:
        def following(answer: Answer, _items: list[Any]) -> str:
            if answer.body.get("isLastPage") is not False:
                return ""
            start = number(answer.body, "nextPageStart")
            page = urlencode({**query, "limit": 100, "start": start})
            return f"{urlsplit(self.host.base).path}{path}?{page}"

        yield from self.host.paged(path, {**query, "limit": 100}, values, following)

    def branches(self, one: Repository) -> Iterator[Branch]:
        """Yield all branches."""
        yield from map(_server_branch, self._listed(f"{one.key}/branches"))

    def branch(self, one: Repository, name: str) -> Branch | None:
        """Return one branch."""
        found = (_server_branch(i) for i in self._listed(f"{one.key}/branches", filterText=name))
        return next((b for b in found if b.name == name), None)

    def has_path(self, one: Repository, branch: Branch, path: str) -> bool:
        """Return whether a path is in a branch."""
        return self.host.has(
            f"{one.key}/browse/{quote(path.strip('/'))}", at=branch.sha, type="true"
        )

    def pulls(self) -> Iterator[Pull]:
        """Yield the open pull requests."""
        yield from map(_server_pull, self._listed(f"{self._project()}/pull-requests", state="OPEN"))

    def pull(self, number: int) -> Pull | None:
        """Return an open pull request."""
        found = self.host.find(f"{self._project()}/pull-requests/{number}")
        return _server_pull(found) if found is not None and found.get("state") == "OPEN" else None

    def _project(self) -> str:
        project, repo = (quote(str(self.spec.get(f) or ""), safe="~") for f in ("project", "repo"))
        return f"/projects/{project}/repos/{repo}"


def _server_branch(item: Any) -> Branch:
    return Branch(needed(item, "displayId"), needed(item, "latestCommit"))


def _server_pull(item: Any) -> Pull:
    return Pull(
        number(item, "id"),
        text(item, "title"),
        needed(item, "fromRef", "displayId"),
        needed(item, "toRef", "displayId"),
        needed(item, "fromRef", "latestCommit"),
        text(item, "author", "user", "name"),
    )
