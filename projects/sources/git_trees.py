"""The files of a commit, read directly from the hub's local repository."""

import functools
import stat
import threading
from collections import OrderedDict
from collections.abc import Mapping

from dulwich.objects import Tree

from hub.base.redaction import redact_text
from hub.engine.errors import ManifestError
from projects.sources.files import MAX_FOLDERS, MAX_WALKED_FILES
from projects.sources.local_repositories import ReadBudget, read_commit, read_object

Entries = Mapping[str, tuple[int, str]]
_LFS = b"version https://git-lfs.github.com/spec/"
_READ = (".yaml", ".yml", ".json", ".jsonnet", ".libsonnet", ".tpl")
_MAX_NAME = 4096
_MAX_PATH = 4096
_CACHE_BYTES = 128 * 1024**2
_MAX_NAME_CHARACTERS = 16 * 1024**2
_ENTRY_BYTES = 320
"""The memory use of an entry, excluding its name."""
_PARSED = 20
"""The cost of parsing a byte of a tree, relative to unpacking it."""


class _TreeCache:
    """A cache of recently read trees."""

    def __init__(self, max_bytes: int) -> None:
        self._maximum, self._size = max_bytes, 0
        self._trees: OrderedDict[tuple[str, str], tuple[int, Entries]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str]) -> Entries | None:
        with self._lock:
            found = self._trees.get(key)
            if found is None:
                return None
            self._trees.move_to_end(key)
            return found[1]

    def put(self, key: tuple[str, str], entries: Entries) -> None:
        size = sum(_ENTRY_BYTES + 4 * len(name) for name in entries) + _ENTRY_BYTES
        if size > self._maximum:
            return
        with self._lock:
            before = self._trees.pop(key, None)
            self._trees[key] = (size, entries)
            self._size += size - (before[0] if before else 0)
            while self._size > self._maximum:
                self._size -= self._trees.popitem(last=False)[1][0]

    @property
    def held_bytes(self) -> int:
        return self._size


kept = _TreeCache(_CACHE_BYTES)


class GitFiles:
    """The files of one commit."""

    def __init__(self, url: str, commit: str) -> None:
        self._url, self.commit = url, commit
        self._work = ReadBudget(url)
        self._root = _tree_of(url, commit)
        self._folders: dict[str, str] = {}
        self._characters = 0

    def entry(self, path: str) -> tuple[int, str] | None:
        """Return (mode, hash) of a path.

        Raises: ManifestError for a path that is too long or too deep.
        """
        if not path:
            return stat.S_IFDIR, self._root
        if len(path) > _MAX_PATH or path.count("/") > 2 * MAX_FOLDERS:
            raise ManifestError(
                f"{path[:100]}…: longer than {_MAX_PATH} characters or {2 * MAX_FOLDERS} folders"
            )
        folder, _, name = path.rpartition("/")
        tree = self._tree(folder)
        return tree.get(name) if tree else None

    def children(self, path: str) -> list[str]:
        """Return the names in a folder."""
        return sorted(self._tree(path) or ())

    def blob(self, path: str) -> bytes:
        """Return the content of a file."""
        found = self.entry(path)
        if found is None:
            raise KeyError(path)
        data = bytes(read_object(self._url, found[1], self._work, path).as_raw_string())
        if data.startswith(_LFS) and path.endswith(_READ):
            raise ManifestError(
                f"{path} is stored in Git LFS, which is not supported: store it in Git itself"
            )
        return data

    def _tree(self, path: str) -> Entries | None:
        tree = self._hash(path)
        return _entries(self._url, tree, self._work) if tree else None

    def _hash(self, path: str) -> str:
        """Return the tree of a folder, empty if it does not exist."""
        asked, known = [], path
        while known and known not in self._folders:
            asked.append(known)
            known = known.rpartition("/")[0]
        tree = self._folders[known] if known else self._root
        for folder in reversed(asked):
            entries = _entries(self._url, tree, self._work) if tree else {}
            mode, tree = entries.get(folder.rpartition("/")[2], (0, ""))
            tree = tree if stat.S_ISDIR(mode) else ""
            self._remember(folder, tree)
        return tree

    def _remember(self, folder: str, tree: str) -> None:
        self._characters += len(folder)
        if self._characters > _MAX_NAME_CHARACTERS:
            self._folders, self._characters = {}, len(folder)
        self._folders[folder] = tree


@functools.lru_cache(maxsize=2048)
def _tree_of(url: str, commit: str) -> str:
    return str(read_commit(url, commit, ReadBudget(url)).tree.decode())


def _entries(url: str, tree: str, work: ReadBudget) -> Entries:
    found = kept.get((url, tree))
    if found is None:
        read_tree = read_object(url, tree, work)
        if not isinstance(read_tree, Tree):
            return {}
        data = read_tree.as_raw_string()
        work.spend(len(data) * _PARSED)
        found = entries_of(data, f"{redact_text(url)}: the tree {tree}")
        kept.put((url, tree), found)
    return found


def entries_of(data: bytes, what: str) -> dict[str, tuple[int, str]]:
    """Parse a tree into (mode, hash) by name, up to a limit of entries.

    Shapes: `what` names the tree in errors.
    Raises: ManifestError for an invalid tree, or too many entries.
    Source: gitformat-pack; an entry is its mode in octal, a space, its name, a zero byte, and
        20 bytes of the hash.
    """
    entries: dict[str, tuple[int, str]] = {}
    at = count = 0
    while at < len(data):
        count += 1
        if count > MAX_WALKED_FILES:
            raise ManifestError(f"{what} has more than {MAX_WALKED_FILES:,} entries, the limit")
        space = data.find(b" ", at, at + 8)
        end = data.find(b"\0", space, space + _MAX_NAME + 2) if space > at else -1
        if end < 0 or end + 21 > len(data) or data[at:space].strip(b"01234567"):
            raise ManifestError(f"{what} is damaged, or has a name of more than {_MAX_NAME} bytes")
        name = data[space + 1 : end].decode(errors="replace")
        if name in ("", ".", "..") or "/" in name:
            # Git never creates such a tree; a server that sends one attempts path traversal.
            raise ManifestError(f"{what} has an entry named {name!r}")
        entries[name] = (int(data[at:space], 8), data[end + 1 : end + 21].hex())
        at = end + 21
    return entries
