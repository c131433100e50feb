"""Commits: who made one, when and why, and those before it."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from dulwich.errors import FileFormatException, NotGitRepository
from dulwich.objects import Commit

from hub.base.redaction import redact_text
from hub.engine.errors import Stalled
from projects.sources.local_repositories import ReadBudget, read_commit

_MOST_AUTHOR = 1000


class TooMany(Exception):
    """There are more commits than whoever asks looks at."""


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """Who made a commit, when and why."""

    author: str
    date: datetime
    message: str


def commits(url: str, commit: str, most: int) -> Iterator[Commit]:
    """Yield a commit and all before it, nearest first; one is held at a time.

    Raises: TooMany, Stalled when one of them is not here or cannot be read.
    """
    work = ReadBudget(url)
    seen, waiting = {commit}, deque([commit])
    while waiting:
        name = waiting.popleft()
        try:
            found = read_commit(url, name, work)
        except KeyError as error:
            # Who may leave commits out could hide those that are not signed.
            raise Stalled(
                "HistoryIncomplete",
                f"{redact_text(url)} gives no commit {name}, which is before {commit}",
            ) from error
        yield found
        for parent in found.parents:
            before = parent.decode()
            if before not in seen:
                seen.add(before)
                waiting.append(before)
        if len(seen) > most:
            raise TooMany


def _text(data: bytes) -> str:
    # No database of ours keeps a zero byte, which Git does.
    return data.decode(errors="replace").replace("\0", "\ufffd")


def commit_info(url: str, commit: str) -> CommitInfo:
    """Return author, date and message of a commit that the local repository has.

    Raises: Stalled when it is not a commit.
    """
    try:
        found = read_commit(url, commit, ReadBudget(url))
        zone = timezone(timedelta(seconds=found.author_timezone))
        return CommitInfo(
            _text(found.author)[:_MOST_AUTHOR],
            datetime.fromtimestamp(found.author_time, zone).astimezone(UTC),
            _text(found.message),
        )
    except (NotGitRepository, KeyError) as error:
        raise Stalled(
            "RevisionNotFound", f"{redact_text(url)}: {commit} is not known here"
        ) from error
    except (FileFormatException, ValueError, TypeError, AttributeError, OverflowError) as error:
        # Git keeps what its author wrote, also times that no calendar has.
        raise Stalled(
            "CommitUnreadable",
            f"{redact_text(url)}: commit {commit} has no readable author or date",
        ) from error
