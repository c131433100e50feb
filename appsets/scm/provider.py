"""The interface of SCM providers: repositories, branches, paths, pull requests."""

from collections.abc import Iterator, Mapping
from typing import Any

from appsets.scm.filters import Branch, Pull, Repository
from appsets.scm.host import Host, HostError


class Provider:
    """An SCM provider, as the block of a generator describes it."""

    def __init__(self, host: Host, spec: Mapping[str, Any]) -> None:
        self.host, self.spec = host, spec

    def close(self) -> None:
        """Close the connections."""
        self.host.close()

    def repositories(self) -> Iterator[Repository]:
        """Yield the repositories."""
        raise NotImplementedError

    def branches(self, one: Repository) -> Iterator[Branch]:
        """Yield all branches."""
        raise NotImplementedError

    def branch(self, one: Repository, name: str) -> Branch | None:
        """Return one branch, None if it does not exist."""
        raise NotImplementedError

    def has_path(self, one: Repository, branch: Branch, path: str) -> bool:
        """Return whether a file or directory is in a branch."""
        raise NotImplementedError

    def pulls(self) -> Iterator[Pull]:
        """Yield the open pull requests."""
        raise NotImplementedError

    def pull(self, number: int) -> Pull | None:
        """Return a pull request if `pulls` yields it."""
        raise NotImplementedError


def text(item: Any, *path: str) -> str:
    """Return a text field of an answer, empty if it is absent.

    Raises: HostError if it is not text.
    """
    for name in path:
        if item is None:
            return ""
        if not isinstance(item, Mapping):
            raise HostError(f"the answer has no {'.'.join(path)}")
        item = item.get(name)
    if item is None:
        return ""
    if isinstance(item, bool | Mapping | list):
        raise HostError(f"{'.'.join(path)} of the answer must be text")
    return str(item)


def needed(item: Any, *path: str) -> str:
    """Return a required text of an answer; raises HostError."""
    found = text(item, *path)
    if not found:
        raise HostError(f"the answer has no {'.'.join(path)}")
    return found


def number(item: Any, name: str) -> int:
    """Return a whole number of an answer; raises HostError."""
    found = item.get(name) if isinstance(item, Mapping) else None
    if not isinstance(found, int) or isinstance(found, bool):
        raise HostError(f"the answer has no number {name}")
    return found


def names(item: Any, name: str, inner: str = "name") -> tuple[str, ...]:
    """Return the names in a list of an answer, empty if it is absent."""
    found = item.get(name) if isinstance(item, Mapping) else None
    if found is None:
        return ()
    if not isinstance(found, list):
        raise HostError(f"{name} of the answer must be a list")
    return tuple(e if isinstance(e, str) else text(e, inner) for e in found)


def values(body: Any, name: str = "values") -> Any:
    """Return the list that an answer wraps; raises HostError."""
    if not isinstance(body, Mapping) or not isinstance(body.get(name), list):
        raise HostError(f"the answer has no list {name}")
    return body[name]
