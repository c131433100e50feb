"""Look at every process that this one starts, while it runs: its arguments, its environment, its
files.
"""

import contextlib
import os
import tempfile
import threading
import time
from pathlib import Path


def _children(pid):
    found = []
    # It may end at any moment of this.
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/task/{task}/children").read_text()
                found += [int(word) for word in text.split()]
    return found + [grandchild for child in found for grandchild in _children(child)]


class ProcessWatch:
    """A context in which whatever starts below this process is read, again and again.

    `seen` is {(pid, file): content}, `loose` what of the temporary folders others could read.
    """

    def __init__(self):
        self.seen, self.loose, self._ended = {}, set(), threading.Event()
        self._before = set(Path(tempfile.gettempdir()).glob("git-*"))
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join(10)

    def _watch(self):
        while not self._ended.is_set():
            for pid in _children(os.getpid()):
                for name in ("cmdline", "environ"):
                    self._read(pid, name)
            self._files()
            time.sleep(0.001)

    def _read(self, pid, name):
        try:
            content = Path(f"/proc/{pid}/{name}").read_bytes()
        except OSError:
            return
        # A process that has just been forked is still this one, until it becomes its program.
        if content and content != Path(f"/proc/self/{name}").read_bytes():
            self.seen.setdefault((pid, name), set()).add(content)

    def _files(self):
        for folder in self.left():
            try:
                paths = [folder, *folder.iterdir()]
                modes = {str(p): p.stat().st_mode & 0o077 for p in paths}
            except OSError:
                continue
            self.loose |= {path for path, mode in modes.items() if mode}

    @property
    def programs(self):
        """The names of the programs that ran."""
        lines = [
            text for (_pid, name), texts in self.seen.items() if name == "cmdline" for text in texts
        ]
        return {Path(line.split(b"\0")[0].decode()).name for line in lines}

    def holds(self, *secrets):
        """Return what was seen of secrets: (program or file, secret)."""
        return sorted(
            {
                (name, secret)
                for (_pid, name), texts in self.seen.items()
                for text in texts
                for secret in secrets
                if secret.encode() in text
            }
        )

    def left(self):
        """Return the temporary folders that are still there."""
        names = {n for n in os.listdir(tempfile.gettempdir()) if n.startswith("git-")}
        return {Path(tempfile.gettempdir()) / name for name in names} - self._before
