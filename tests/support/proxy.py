"""A forward proxy that knows names nobody else does."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Proxy:
    """Forwards requests for the names in `places` to the URLs that they stand for."""

    def __init__(self, **places):
        self.places = {name.replace("_", "."): urlsplit(url) for name, url in places.items()}
        self.requests = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.forward(self)

            def do_POST(self):
                outer.forward(self)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def forward(self, handler):
        asked = urlsplit(handler.path)
        self.requests.append(asked.hostname)
        target = self.places[asked.hostname]
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
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
