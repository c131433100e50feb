"""Azure DevOps. Source: https://learn.microsoft.com/rest/api/azure/devops/git/ (7.0)."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from appsets.scm.filters import Branch, Pull, Repository
from appsets.scm.host import Answer
from appsets.scm.provider import Provider, names, needed, number, text, values

API = "https://dev.azure.com"
_VERSION = {"api-version": "7.0"}
_PAGE = 100


class AzureDevOps(Provider):
    """Repositories of a team project, pull requests of a repository."""

    def repositories(self) -> Iterator[Repository]:
        """Yield the repositories that are not disabled."""
        for item in values(self.host.get(f"{self._project()}/repositories", **_VERSION), "value"):
            if item.get("isDisabled"):
                continue
            yield Repository(
                str(self.spec.get("organization")),
                needed(item, "name"),
                needed(item, "id"),
                text(item, "sshUrl"),
                text(item, "remoteUrl"),
                _short(text(item, "defaultBranch")),
                (),
                f"{self._project()}/repositories/{needed(item, 'id')}",
            )

    def branches(self, one: Repository) -> Iterator[Branch]:
        """Yield all branches; a token in a header names the next page."""
        yield from self._refs(one, "heads/")

    def branch(self, one: Repository, name: str) -> Branch | None:
        """Return one branch."""
        return next((b for b in self._refs(one, f"heads/{name}") if b.name == name), None)

    def _refs(self, one: Repository, start: str) -> Iterator[Branch]:
        query = {"filter": start, **_VERSION}

        def following(answer: Answer, _items: list[Any]) -> str:
            token = answer.headers.get("x-ms-continuationtoken", "")
            path = f"{urlsplit(self.host.base).path}{one.key}/refs"
            return f"{path}?{urlencode({**query, 'continuationToken': token})}" if token else ""

        for item in self.host.paged(
            f"{one.key}/refs", query, lambda b: values(b, "value"), following
        ):
            yield Branch(_short(needed(item, "name")), needed(item, "objectId"))

    def has_path(self, one: Repository, branch: Branch, path: str) -> bool:
        """Return whether a path is in a branch."""
        query = {
            "path": f"/{path.strip('/')}",
            "versionDescriptor.version": branch.name,
            "versionDescriptor.versionType": "branch",
            "$format": "json",
            **_VERSION,
        }
        return self.host.has(f"{one.key}/items", **query)

    def pulls(self) -> Iterator[Pull]:
        """Yield the active pull requests; pages are full but for the last."""
        path = f"{self._project()}/repositories/{self._repo()}/pullrequests"
        query = {"searchCriteria.status": "active", "$top": _PAGE, **_VERSION}
        skip = 0

        def following(_answer: Answer, items: list[Any]) -> str:
            nonlocal skip
            if len(items) < _PAGE:
                return ""
            skip += len(items)
            return f"{urlsplit(self.host.base).path}{path}?{urlencode({**query, '$skip': skip})}"

        for item in self.host.paged(path, query, lambda b: values(b, "value"), following):
            yield _pull(item)

    def pull(self, number: int) -> Pull | None:
        """Return an active pull request."""
        found = self.host.find(
            f"{self._project()}/repositories/{self._repo()}/pullrequests/{number}", **_VERSION
        )
        return _pull(found) if found is not None and found.get("status") == "active" else None

    def _project(self) -> str:
        organization = quote(str(self.spec.get("organization") or ""), safe="")
        project = quote(
            str(self.spec.get("teamProject") or self.spec.get("project") or ""), safe=""
        )
        return f"/{organization}/{project}/_apis/git"

    def _repo(self) -> str:
        return quote(str(self.spec.get("repo") or ""), safe="")


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/")


def _pull(item: Any) -> Pull:
    return Pull(
        number(item, "pullRequestId"),
        text(item, "title"),
        _short(needed(item, "sourceRefName")),
        _short(needed(item, "targetRefName")),
        needed(item, "lastMergeSourceCommit", "commitId"),
        text(item, "createdBy", "uniqueName").partition("@")[0],
        names(item, "labels"),
    )
