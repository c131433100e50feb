"""GitLab. Source: https://docs.gitlab.com/api/ (v4)."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from appsets.scm.filters import Branch, Pull, Repository
from appsets.scm.provider import Provider, names, needed, number, text

API = "https://gitlab.com"


class GitLab(Provider):
    """Projects of a group, merge requests of a project."""

    def repositories(self) -> Iterator[Repository]:
        """Yield the projects of a group."""
        group = quote(str(self.spec.get("group") or ""), safe="")
        shared = self.spec.get("includeSharedProjects")
        query = {
            "per_page": 100,
            "include_subgroups": _word(bool(self.spec.get("includeSubgroups"))),
            "with_shared": _word(shared is not False),
            "archived": None if self.spec.get("includeArchivedRepos") else "false",
            "topic": self.spec.get("topic") or None,
        }
        yield from map(_repository, self.host.linked(f"/api/v4/groups/{group}/projects", **query))

    def branches(self, one: Repository) -> Iterator[Branch]:
        """Yield all branches."""
        yield from map(_branch, self.host.linked(f"{one.key}/repository/branches", per_page=100))

    def branch(self, one: Repository, name: str) -> Branch | None:
        """Return one branch."""
        found = self.host.find(f"{one.key}/repository/branches/{quote(name, safe='')}")
        return _branch(found) if found is not None else None

    def has_path(self, one: Repository, branch: Branch, path: str) -> bool:
        """Return whether a path is in a branch.

        Its directory is listed, because files and directories have different endpoints.
        """
        folder, _, name = path.strip("/").rpartition("/")
        where = f"{one.key}/repository/tree"
        if not self.host.has(where, ref=branch.name, path=folder or None, per_page=100):
            return False
        listed = self.host.linked(where, ref=branch.name, path=folder or None, per_page=100)
        return any(text(item, "name") == name for item in listed)

    def pulls(self) -> Iterator[Pull]:
        """Yield the merge requests with the requested state."""
        labels = self.spec.get("labels") or []
        query = {
            "per_page": 100,
            "state": self._state(),
            "labels": ",".join(map(str, labels)) or None,
        }
        yield from map(_pull, self.host.linked(f"{self._project()}/merge_requests", **query))

    def pull(self, number: int) -> Pull | None:
        """Return a merge request if it has the requested state."""
        found = self.host.find(f"{self._project()}/merge_requests/{number}")
        if found is None or self._state() not in (None, found.get("state")):
            return None
        return _pull(found)

    def _state(self) -> str | None:
        return str(self.spec.get("pullRequestState") or "") or None

    def _project(self) -> str:
        return f"/api/v4/projects/{quote(str(self.spec.get('project') or ''), safe='')}"


def _word(value: bool) -> str:
    return "true" if value else "false"


def _repository(item: Any) -> Repository:
    return Repository(
        needed(item, "namespace", "full_path"),
        needed(item, "path"),
        needed(item, "id"),
        text(item, "ssh_url_to_repo"),
        text(item, "http_url_to_repo"),
        text(item, "default_branch"),
        names(item, "topics"),
        f"/api/v4/projects/{needed(item, 'id')}",
    )


def _branch(item: Any) -> Branch:
    return Branch(needed(item, "name"), needed(item, "commit", "id"))


def _pull(item: Any) -> Pull:
    return Pull(
        number(item, "iid"),
        text(item, "title"),
        needed(item, "source_branch"),
        needed(item, "target_branch"),
        needed(item, "sha"),
        text(item, "author", "username"),
        names(item, "labels"),
    )
