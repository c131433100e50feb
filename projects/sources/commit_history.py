"""The metadata and history of commits."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from dulwich.errors import FileFormatException, NotGitRepository
from dulwich.objects import Commit

from hub.base.redaction import redact_text
from hub.engine.errors import Stalled
from projects.sources.local_repositories import ReadBudget, read_commit

_MAX_AUTHOR = 1000


class TooMany(Exception):
    """The history has more commits than the limit."""


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """The author, date and message of a commit."""

    author: str
    date: datetime
    message: str


def commits(url: str, commit: str, maximum: int) -> Iterator[Commit]:
    """Yield a commit and its ancestors, nearest first, with only one in memory at a time.

    Raises: TooMany; Stalled if one is missing or unreadable.
    """
    work = ReadBudget(url)
    seen, waiting = {commit}, deque([commit])
    while waiting:
        name = waiting.popleft()
        try:
            found = read_commit(url, name, work)
        except KeyError as error:
            # A server that omits commits could hide unsigned ones.
            raise Stalled(
                "HistoryIncomplete",
                f"{redact_text(url)} does not provide commit {name}, an ancestor of {commit}",
            ) from error
        yield found
        for parent in found.parents:
            before = parent.decode()
            if before not in seen:
                seen.add(before)
                waiting.append(before)
        if len(seen) > maximum:
            raise TooMany


def _text(data: bytes) -> str:
    # Git allows zero bytes, which PostgreSQL cannot store.
    return data.decode(errors="replace").replace("\0", "\ufffd")


def commit_info(url: str, commit: str) -> CommitInfo:
    """Return the author, date and message of a commit in the local repository.

    Raises: Stalled if it is not a readable commit.
    """
    try:
        found = read_commit(url, commit, ReadBudget(url))
        zone = timezone(timedelta(seconds=found.author_timezone))
        return CommitInfo(
            _text(found.author)[:_MAX_AUTHOR],
            datetime.fromtimestamp(found.author_time, zone).astimezone(UTC),
            _text(found.message),
        )
    except (NotGitRepository, KeyError) as error:
        raise Stalled(
            "RevisionNotFound", f"{redact_text(url)}: commit {commit} not found"
        ) from error
    except (FileFormatException, ValueError, TypeError, AttributeError, OverflowError) as error:
        # Git stores any date that the author sets, even an invalid one.
        raise Stalled(
            "CommitUnreadable",
            f"{redact_text(url)}: commit {commit} has no readable author or date",
        ) from error
