"""A wire to a server on loopback that can fall silent: connections stay open and nothing comes
through.
"""

import contextlib
import socket
import threading
from urllib.parse import urlsplit, urlunsplit


class Wire:
    """Forwards a port of its own to that of `url`; `url` is then the way through this wire."""

    def __init__(self, url):
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._open = threading.Event()
        self._open.set()
        self._ends = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        name, at, _host = parts.netloc.rpartition("@")
        port = self._listener.getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"{name}{at}127.0.0.1:{port}"))
        self._refuses = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """From now on nothing comes through, and nobody is told."""
        self._open.clear()

    def refuse(self):
        """From now on connections end at once, those that are open too."""
        self._refuses = True
        self._drop()

    def mend(self):
        """Let new connections through; those of before the cut are lost."""
        self._drop()
        self._refuses = False
        self._open.set()

    def close(self):
        """End for good."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.mend()

    def _drop(self):
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._open.wait()
            if self._refuses:
                near.close()
                continue
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            self._ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
