"""Gitea and Forgejo, whose API follows GitHub's. Source: the hosts' own /api/swagger (v1)."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from appsets.scm.filters import Repository
from appsets.scm.github import GitHub
from appsets.scm.provider import text


class Gitea(GitHub):
    """Repositories of an organization, pull requests of a repository."""

    prefix = "/api/v1"
    page: Mapping[str, int] = {"limit": 50}
    commit = "id"

    def repositories(self) -> Iterator[Repository]:
        """Yield the repositories of an organization."""
        owner = quote(str(self.spec.get("owner") or ""), safe="")
        yield from map(self._repository, self._listed(f"/orgs/{owner}/repos"))

    def _labels(self, item: Any, key: str) -> tuple[str, ...]:
        """Return the labels of the repository's issues, as Argo CD does."""
        del item
        return tuple(
            text(label, "name") for label in self.host.linked(f"{key}/labels", **self.page)
        )
