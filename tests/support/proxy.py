"""A forward proxy that knows names nobody else does."""

import http.client
from urllib.parse import urlsplit

from support.local import Local


class Proxy(Local):
    """Forwards requests for the names in `places` to the URLs that they stand for."""

    def __init__(self, **places):
        super().__init__()
        self.places = {name.replace("_", "."): urlsplit(url) for name, url in places.items()}
        self.requests = []

    def answer(self, handler, body):
        asked = urlsplit(handler.path)
        self.requests.append(asked.hostname)
        target = self.places[asked.hostname]
        path = asked.path + (f"?{asked.query}" if asked.query else "")
        connection = http.client.HTTPConnection(target.hostname, target.port, timeout=20)
        connection.request(handler.command, path, body or None, dict(handler.headers))
        answer = connection.getresponse()
        data = answer.read()
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
        connection.close()
