"""Gitea and Forgejo. Source: the hosts' own /api/swagger (v1)."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from appsets.scm.choice import Branch, Pull, Repository
from appsets.scm.provider import Provider, names, needed, number, text


class Gitea(Provider):
    """Repositories of an organization, pull requests of a repository."""

    def repositories(self) -> Iterator[Repository]:
        """Yield the repositories; their labels are those that issues there may carry."""
        owner = quote(str(self.spec.get("owner") or ""), safe="")
        for item in self.host.linked(f"/api/v1/orgs/{owner}/repos", limit=50):
            if item.get("archived") and self.spec.get("excludeArchivedRepos"):
                continue
            key = f"/api/v1/repos/{owner}/{quote(needed(item, 'name'), safe='')}"
            labels = tuple(text(label, "name") for label in self.host.linked(f"{key}/labels", limit=50))  # fmt: skip
            yield Repository(
                text(item, "owner", "login") or owner, needed(item, "name"), text(item, "id"), text(item, "ssh_url"), text(item, "clone_url"),
                text(item, "default_branch"), labels, key,
            )  # fmt: skip

    def branches(self, one: Repository) -> Iterator[Branch]:
        """Yield all branches."""
        yield from map(_branch, self.host.linked(f"{one.key}/branches", limit=50))

    def branch(self, one: Repository, name: str) -> Branch | None:
        """Return one branch."""
        found = self.host.find(f"{one.key}/branches/{quote(name, safe='')}")
        return _branch(found) if found is not None else None

    def has_path(self, one: Repository, branch: Branch, path: str) -> bool:
        """Return whether a path is in a branch."""
        return self.host.has(f"{one.key}/contents/{quote(path.strip('/'))}", ref=branch.name)

    def pulls(self) -> Iterator[Pull]:
        """Yield the open pull requests."""
        yield from map(_pull, self.host.linked(f"{self._project()}/pulls", state="open", limit=50))

    def pull(self, number: int) -> Pull | None:
        """Return an open pull request."""
        found = self.host.find(f"{self._project()}/pulls/{number}")
        return _pull(found) if found is not None and found.get("state") == "open" else None

    def _project(self) -> str:
        owner, repo = (quote(str(self.spec.get(f) or ""), safe="") for f in ("owner", "repo"))
        return f"/api/v1/repos/{owner}/{repo}"


def _branch(item: Any) -> Branch:
    return Branch(needed(item, "name"), needed(item, "commit", "id"))


def _pull(item: Any) -> Pull:
    return Pull(
        number(item, "number"), text(item, "title"), needed(item, "head", "ref"), needed(item, "base", "ref"),
        needed(item, "head", "sha"), text(item, "user", "login"), names(item, "labels"),
    )  # fmt: skip
