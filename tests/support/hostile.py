"""A server on loopback that answers with whatever a test wants, on the wire, and counts who
came.
"""

import contextlib
import socket
import threading
import time
import zlib


def gzip_of(*parts, repeat=1):
    """Return gzip whose content is `parts`, each `repeat` times: nearly nothing, and a lot
    inside.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(part) for part in parts for _ in range(repeat)) + packer.flush()


def http(body=b"", status=200, **headers):
    """Return an answer as it is on the wire."""
    names = {"Content_Length": len(body), "Content_Type": "application/json", **headers}
    lines = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in names.items() if v is not None)
    return f"HTTP/1.1 {status} X\r\nConnection: close\r\n{lines}\r\n".encode() + body


def drip(head, part, pause=0.05):
    """Yield the beginning of an answer, and then little by little without an end."""
    yield head
    while True:
        time.sleep(pause)
        yield part


class Hostile:
    """`answer(path)` gives bytes, or an iterable of bytes that is sent until nobody listens."""

    def __init__(self, answer=None):
        self.answer = answer or (lambda path: http(b"{}"))
        self.paths, self.sent = [], 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._ended = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near):
        with near:
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    data = near.recv(65536)
                    if not data:
                        return
                    head += data
                path = head.split(b" ", 2)[1].decode()
                self.paths.append(path)
                found = self.answer(path)
                for part in [found] if isinstance(found, bytes) else found:
                    if self._ended:
                        return
                    near.sendall(part)
                    self.sent += len(part)
                near.shutdown(socket.SHUT_WR)
                near.settimeout(1)
                near.recv(1)
            except OSError:
                pass

    def close(self):
        self._ended = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
