"""Read the files of a source at one revision, and record what was read.

The record makes the render cache exact: if the hashes are unchanged at another revision, so are the
manifests, even if other files changed.
"""

import hashlib
import posixpath
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from hub.engine.errors import ManifestError

MAX_LINKS = 16
MAX_LINK = 4096
"""The maximum length of a link's target, as on Linux."""
MAX_FOLDERS = 100
_LONG_PATH = 256
_STEPS = 100
"""The number of glob matching steps that cost as much as finding a file."""
MAX_WALKED_FILES = 300_000
"""The limit on files and folders per walk, since a tree may contain the same subtree many times."""
CLUSTER = "#cluster"
"""The origin of inputs that come from the destination cluster instead of a file."""


class Files(Protocol):
    """A tree of files, from a Git commit or an unpacked chart."""

    def entry(self, path: str) -> tuple[int, str] | None:
        """Return (mode, hash) of a path, None if it does not exist; links are not followed."""

    def children(self, path: str) -> list[str]:
        """Return the names in a folder."""

    def blob(self, path: str) -> bytes:
        """Return the content of a file or link."""


class MemoryFiles:
    """Files of an unpacked archive."""

    def __init__(self, content: Mapping[str, bytes]) -> None:
        self._content = dict(content)
        self._folders: dict[str, set[str]] = {"": set()}
        self._hashes: dict[str, str] = {}
        for path in self._content:
            parts = path.split("/")
            for depth in range(len(parts)):
                self._folders.setdefault("/".join(parts[:depth]), set()).add(parts[depth])

    def entry(self, path: str) -> tuple[int, str] | None:
        """Return (mode, hash) of a path."""
        if path in self._content:
            return stat.S_IFREG, self._hash(path)
        return (stat.S_IFDIR, self._hash(path)) if path in self._folders else None

    def _hash(self, path: str) -> str:
        if path not in self._hashes:
            digest = hashlib.sha256(self._content.get(path, b""))
            for name in [] if path in self._content else self.children(path):
                inner = self._hash(f"{path}/{name}" if path else name)
                digest.update(f"{name}\0{inner}\0".encode(errors="surrogatepass"))
            self._hashes[path] = digest.hexdigest()
        return self._hashes[path]

    def children(self, path: str) -> list[str]:
        """Return the names in a folder."""
        return sorted(self._folders.get(path, ()))

    def blob(self, path: str) -> bytes:
        """Return the content of a file."""
        return self._content[path]


def path_inside_root(path: str, base: str = "") -> str:
    """Normalize a path relative to the root.

    Raises: ManifestError if it leads outside the root.
    """
    joined = posixpath.normpath(
        posixpath.join("/", base, path) if not path.startswith("/") else path
    )
    text = posixpath.join(base, path) if not path.startswith("/") else path.lstrip("/")
    depth = 0
    if text.count("/") > MAX_FOLDERS * 2:
        raise ManifestError(f"{path[:100]}…: more than {MAX_FOLDERS} folders deep")
    for part in text.split("/"):
        depth += -1 if part == ".." else 0 if part in ("", ".") else 1
        if depth < 0:
            raise ManifestError(f"{path}: the path leads outside the repository")
    return joined.lstrip("/")


def require_shallow(path: str) -> None:
    """Check the depth of a path.

    Raises: ManifestError.
    """
    if path.count("/") > MAX_FOLDERS:
        raise ManifestError(f"{path[:100]}…: more than {MAX_FOLDERS} folders deep")


class Recorder:
    """Reads files of several origins and records the hash of each.

    Shapes: an origin is "" for the source itself, or the name of a `ref` source; `owner` is the
        project (and user) charged for rendering.
    """

    def __init__(self, origins: Mapping[str, Files], owner: str = "") -> None:
        self._origins = dict(origins)
        self.owner = owner
        self._inputs: dict[tuple[str, str], str] = {}

    @property
    def inputs(self) -> list[list[str]]:
        """The [origin, path, hash] of each input; the hash is empty if it does not exist."""
        return [[origin, path, found] for (origin, path), found in sorted(self._inputs.items())]

    def note_capabilities(self, digest: str) -> None:
        """Record that the destination's capabilities are an input."""
        self._inputs[CLUSTER, "capabilities"] = digest

    def note_input(self, origin: str, path: str) -> None:
        """Record the current hash of a path as an input."""
        self._inputs[origin, path] = hash_of(self._origins[origin], path)

    def add_origin(self, origin: str, files: Files) -> None:
        """Add another tree by its origin."""
        self._origins[origin] = files

    def has_origin(self, origin: str) -> bool:
        """Return whether there is a tree with this origin."""
        return origin in self._origins

    def resolve(self, path: str, origin: str = "") -> str:
        """Return the path with links resolved inside the tree.

        Raises: ManifestError for a link outside the tree, or more than 16 links.
        """
        files = self._origins[origin]
        for _ in range(MAX_LINKS):
            target = self._first_link(files, path, origin)
            if target is None:
                return path
            path = target
        raise ManifestError(f"{path}: too many links")

    def _first_link(self, files: Files, path: str, origin: str) -> str | None:
        parts = path.split("/") if path else []
        for depth in range(1, len(parts) + 1):
            prefix = "/".join(parts[:depth])
            found = files.entry(prefix)
            if found is None:
                return None
            if stat.S_ISLNK(found[0]):
                self._inputs[origin, prefix] = found[1]
                target = files.blob(prefix).decode(errors="replace")
                if len(target) > MAX_LINK:
                    raise ManifestError(f"{prefix}: a link of more than {MAX_LINK} characters")
                if target.startswith("/"):
                    raise ManifestError(
                        f"repository contains out-of-bounds symlinks. file: {prefix}"
                    )
                try:
                    base = path_inside_root(target, posixpath.dirname(prefix))
                except ManifestError as error:
                    raise ManifestError(
                        f"repository contains out-of-bounds symlinks. file: {prefix}"
                    ) from error
                return "/".join([*([base] if base else []), *parts[depth:]])
        return None

    def note(self, path: str, origin: str = "") -> str:
        """Record a path without reading it; return its hash, empty if it does not exist."""
        real = self.resolve(path, origin)
        found = self._origins[origin].entry(real)
        value = found[1] if found else ""
        self._inputs[origin, real] = value
        return value

    def is_folder(self, path: str, origin: str = "") -> bool:
        """Return whether a path is a folder."""
        found = self._origins[origin].entry(self.resolve(path, origin))
        return found is not None and stat.S_ISDIR(found[0])

    def exists(self, path: str, origin: str = "") -> bool:
        """Return whether a path exists, and record the result."""
        return bool(self.note(path, origin))

    def read(self, path: str, origin: str = "") -> bytes | None:
        """Return the content of a file, None if it does not exist."""
        real = self.resolve(path, origin)
        self.note(real, origin)
        found = self._origins[origin].entry(real)
        if found is None or stat.S_ISDIR(found[0]):
            return None
        return self._origins[origin].blob(real)

    def walk(
        self, path: str, origin: str = "", *, recurse: bool = True, budget: "Budget | None" = None
    ) -> Iterator[str]:
        """Yield the files below a folder in order, following links inside the tree.

        The folder itself is recorded, so that new files are detected.
        Shapes: `budget` may be shared by several walks.
        Raises: ManifestError for a link outside the tree, or too many files.
        """
        root = self.resolve(path, origin)
        if recurse:
            self.note(root, origin)
        else:
            listing = f"{root}/*" if root else "*"
            self._inputs[origin, listing] = hash_of(self._origins[origin], listing)
        budget = budget or Budget(f"the files below {root or '.'}", 0, MAX_WALKED_FILES)
        seen, todo = set[str](), [_Folder(root, path)]
        # Linked folders come last, so that files below the folder itself keep their own path.
        while todo:
            linked: list[_Folder] = []
            for folder in todo:
                yield from self._walk(folder, origin, linked if recurse else None, seen, budget)
            todo = linked

    def _walk(
        self,
        folder: "_Folder",
        origin: str,
        linked: "list[_Folder] | None",
        seen: set[str],
        budget: "Budget",
    ) -> Iterator[str]:
        """Yield the files of a folder by the paths through which they were reached.

        Without `linked`, subfolders are skipped.
        """
        if folder.real in seen:
            return
        require_shallow(folder.real)
        require_shallow(folder.shown)
        seen.add(folder.real)
        files = self._origins[origin]
        for name in files.children(folder.real):
            inner = folder.child(name)
            budget.count(inner.shown)
            found = files.entry(inner.real)
            if found is not None and stat.S_ISLNK(found[0]):
                inner = _Folder(self.resolve(inner.real, origin), inner.shown)
                found = files.entry(inner.real)
                if found is not None:
                    self.note(inner.real, origin)
                    if linked is not None and stat.S_ISDIR(found[0]):
                        linked.append(inner)
                        continue
            if found is None:
                continue
            if stat.S_ISREG(found[0]):
                yield inner.shown
            elif linked is not None and stat.S_ISDIR(found[0]) and name != ".git":
                yield from self._walk(inner, origin, linked, seen, budget)

    def contents(self, path: str, budget: "Budget", origin: str = "") -> dict[str, bytes]:
        """Return the files below a folder by path, with links inside the tree resolved.

        Raises: ManifestError for a link outside the tree, or if the budget is exceeded.
        """
        root = self.resolve(path, origin)
        self.note(root, origin)
        found = {}
        for name, real in self._below(root, origin, (root,), budget):
            data = self._origins[origin].blob(real)
            budget.spend(len(data))
            found[name] = data
        return found

    def _below(
        self, folder: str, origin: str, trail: tuple[str, ...], budget: "Budget"
    ) -> Iterator[tuple[str, str]]:
        files = self._origins[origin]
        require_shallow(folder)
        for name in files.children(folder):
            if name == ".git":
                continue
            path = f"{folder}/{name}" if folder else name
            budget.count(path)
            real = self.resolve(path, origin)
            if real != path:
                self.note(real, origin)
            found = files.entry(real)
            if found is not None and stat.S_ISREG(found[0]):
                yield name, real
            elif found is not None and stat.S_ISDIR(found[0]) and real not in trail:
                for inner, place in self._below(real, origin, (*trail, real), budget):
                    yield f"{name}/{inner}", place


class _Folder(NamedTuple):
    """A folder, and the path through which it was reached, possibly with links."""

    real: str
    shown: str

    def child(self, name: str) -> "_Folder":
        real, shown = (f"{path}/{name}" if path else name for path in self)
        return _Folder(real, shown)


class Budget:
    """The limits on files read for one render."""

    def __init__(self, what: str, size_bytes: int, entries: int = 20_000) -> None:
        self._what, self._limit = what, size_bytes
        self._bytes, self._entries, self._maximum = 0, 0, entries

    def spend(self, size: int) -> None:
        """Count the bytes of a file.

        Raises: ManifestError if the limit is exceeded.
        """
        self._bytes += size
        if self._bytes > self._limit:
            raise ManifestError(f"{self._what}: more than {self._limit // 1024**2} MiB, the limit")

    def count(self, path: str = "") -> None:
        """Count a file or folder; one with a long path counts several times.

        Raises: ManifestError if the limit is exceeded.
        """
        self._count(1 + len(path) // _LONG_PATH)

    def count_steps(self, steps: int) -> None:
        """Count the glob matching steps for a file, converted to files.

        Raises: ManifestError if the limit is exceeded.
        """
        self._count(steps // _STEPS)

    def _count(self, entries: int) -> None:
        self._entries += entries
        if self._entries > self._maximum:
            raise ManifestError(f"{self._what}: more than {self._maximum:,} files, the limit")


def hash_of(files: Files, path: str) -> str:
    """Return the hash of a path, empty if it does not exist.

    Shapes: a path that ends with `*` stands for the files directly in a folder.
    """
    if not (path == "*" or path.endswith("/*")):
        found = files.entry(path)
        return found[1] if found else ""
    folder = path[:-1].rstrip("/")
    digest = hashlib.sha256()
    for name in files.children(folder):
        found = files.entry(f"{folder}/{name}" if folder else name)
        if found and not stat.S_ISDIR(found[0]):
            digest.update(f"{name}\0{found[0]}\0{found[1]}\0".encode())
    return digest.hexdigest()


def same_inputs(
    inputs: list[list[str]],
    origins: Mapping[str, Files],
    capabilities: str,
    reached: Callable[[str], Files],
) -> bool:
    """Return whether all recorded inputs are unchanged.

    Shapes: `reached` returns the files of an origin that is not a source; its errors propagate.
    """
    for origin, path, value in inputs:
        if origin == CLUSTER:
            if value != capabilities:
                return False
            continue
        files = reached(origin) if origin.startswith("#") else origins.get(origin)
        if files is None or hash_of(files, path) != value:
            return False
    return True
