"""Resolve abbreviated commit ids in the history of a repository.

They are looked up in a separate repository without files, since the one for rendering must only
contain complete commits.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from hub.engine.errors import Stalled
from hub.engine.project_restrictions import normal_url
from projects.sources import git

_MAX_CACHED = 2_000
_REFS = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
_SILENT = ("-q", "--prune", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
_answers: OrderedDict[tuple[str, str], tuple[str, str]] = OrderedDict()
_lock = Lock()


def resolve_abbreviation(
    url: str, abbreviated: str, refs: Mapping[str, str], credentials: Mapping[str, Any]
) -> str:
    """Return the commit for an abbreviated id, empty if none or several match.

    Shapes: `refs` are the server's current refs; nothing is fetched while they are unchanged.
    Raises: RetryLater or Stalled with the server's message.
    """
    place = f"{normal_url(git.repository_key(url, credentials))} commits"
    state = sha256(repr(sorted(refs.items())).encode()).hexdigest()
    with _lock:
        found, seen = _answers.get((place, abbreviated), ("", ""))
    if not found and seen != state:
        found = _looked_up(place, url, abbreviated, state, credentials)
        with _lock:
            _answers[place, abbreviated] = (found, state)
            if len(_answers) > _MAX_CACHED:
                _answers.popitem(last=False)
    return found


def _looked_up(
    place: str, url: str, abbreviated: str, state: str, credentials: Mapping[str, Any]
) -> str:
    with git.exclusive(place) as folder:
        seen = folder / "seen-refs"
        if not seen.exists() or seen.read_text() != state:
            # Files are not needed; servers without filter support send them anyway.
            fetch = ["--git-dir", str(folder), "fetch", *_SILENT, "--filter=tree:0", "--", url]
            git.fetch_into(folder, url, credentials, [*git.KEEP_PACKS, *fetch, *_REFS])
            git.require_few_refs(folder, url)
            seen.write_text(state)
        return _parsed(folder, abbreviated)


def _parsed(folder: Path, abbreviated: str) -> str:
    asked = ("rev-parse", "--quiet", "--verify", "--end-of-options", f"{abbreviated}^{{commit}}")
    try:
        found = git.run_local("--git-dir", str(folder), *asked)
    except Stalled:
        return ""  # none, or ambiguous
    return found if re.fullmatch(r"[0-9a-f]{40}", found) and found.startswith(abbreviated) else ""
