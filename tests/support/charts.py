"""A server of charts, for tests."""

import base64
import contextlib
import hashlib
import http.server
import io
import json
import ssl
import tarfile
import threading
from urllib.parse import parse_qs

import yaml

from clusters.connection_config import load_certificate


class Charts:
    """A server that speaks as a Helm repository and as an OCI registry."""

    def __init__(self, pair="", wants=""):
        """Serve; with a key and certificate by TLS, only to who has one of the certificates that
        it wants.
        """
        self.scheme = "https" if pair else "http"
        self.requests, self.password, self.endless = [], "", False
        self.archives_at = ""
        """What the index writes before the names of archives: another server, or nothing."""
        self.page, self.corrupt, self.elsewhere = 1000, "", ""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                outer.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if pair:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            load_certificate(context, pair[pair.index("-----BEGIN CERT") :], pair)
            if wants:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(cadata=wants)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.archives, self.artifacts = {}, {}
        for version in ("1.0.0", "1.1.0", "2.0.0"):
            body = io.BytesIO()
            with tarfile.open(fileobj=body, mode="w:gz") as archive:
                for name, text in {
                    "Chart.yaml": f"apiVersion: v2\nname: demo\nversion: {version}\ndescription: a demo\n",
                    "values.yaml": "a: x\n",
                    "templates/cm.yaml": (
                        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\n"
                        "data: {v: {{ .Chart.Version }}, a: {{ .Values.a }}}\n"
                    ),
                }.items():
                    info = tarfile.TarInfo(f"demo/{name}")
                    info.size = len(text)
                    archive.addfile(info, io.BytesIO(text.encode()))
            self.archives[version] = body.getvalue()

    @property
    def host(self):
        return f"127.0.0.1:{self.server.server_address[1]}"

    @property
    def url(self):
        return f"{self.scheme}://{self.host}"

    def answer(self, handler):
        self.requests.append(handler.path)
        wanted = "Basic " + base64.b64encode(f"u:{self.password}".encode()).decode()
        if self.password and handler.headers.get("Authorization") != wanted:
            return self.send(handler, 401, b"", {"WWW-Authenticate": "Basic"})
        path, _, query = handler.path.partition("?")
        if self.endless:
            return self.send_without_end(handler)
        if self.corrupt and self.corrupt in path:
            return self.send(handler, 200, b"not what was asked for")
        if path in ("/index.yaml", "/pay/index.yaml"):
            entries = {
                "demo": [
                    {"name": "demo", "version": v, "urls": [f"{self.archives_at}demo-{v}.tgz"]}
                    for v in self.archives
                ]
            }
            return self.send(
                handler, 200, yaml.safe_dump({"apiVersion": "v1", "entries": entries}).encode()
            )
        for place, tags in self.artifacts.items():
            if path == f"/v2/{place}/tags/list":
                return self.tags(handler, place, list(tags), query)
            found = self.artifact(place, tags, path)
            if found is not None:
                return self.send(handler, 200, found)
        for version, body in self.archives.items():
            digest = "sha256:" + hashlib.sha256(body).hexdigest()
            if path in (f"/demo-{version}.tgz", f"/v2/charts/demo/blobs/{digest}"):
                return self.send(handler, 200, body)
            manifest = json.dumps(
                {
                    "annotations": {
                        "org.opencontainers.image.version": version,
                        "org.opencontainers.image.description": "a demo",
                    },
                    "layers": [
                        {
                            "mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
                            "digest": digest,
                            "size": len(body),
                        }
                    ],
                }
            ).encode()
            if path in (
                f"/v2/charts/demo/manifests/{version}",
                "/v2/charts/demo/manifests/sha256:" + hashlib.sha256(manifest).hexdigest(),
            ):
                return self.send(handler, 200, manifest)
        if path == "/v2/charts/demo/tags/list":
            return self.tags(handler, "charts/demo", list(self.archives), query)
        if path == "/redirect/index.yaml":
            return self.send(
                handler, 302, b"", {"Location": "http://169.254.169.254/latest/meta-data"}
            )
        return self.send(handler, 404, b"")

    def tags(self, handler, place, tags, query):
        """Answer a page of tags, and where the next one is."""
        last = parse_qs(query).get("last", [""])[0]
        start = tags.index(last) + 1 if last else 0
        page = tags[start : start + self.page]
        more = start + self.page < len(tags)
        link = f'<{self.elsewhere}/v2/{place}/tags/list?n={self.page}&last={page[-1]}>; rel="next"'
        body = json.dumps({"tags": page}).encode()
        return self.send(handler, 200, body, {"Link": link} if more else {})

    @staticmethod
    def send_without_end(handler):
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"#" * 65536)

    def publish(self, place, tag, files):
        """Push an artifact of one layer with these files."""
        body = io.BytesIO()
        with tarfile.open(fileobj=body, mode="w:gz") as archive:
            for name, text in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
        self.artifacts.setdefault(place, {})[tag] = body.getvalue()

    @staticmethod
    def artifact(place, tags, path):
        for tag, body in tags.items():
            digest = "sha256:" + hashlib.sha256(body).hexdigest()
            layer = {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": digest,
                "size": len(body),
            }
            manifest = json.dumps({"layers": [layer]}).encode()
            own = "sha256:" + hashlib.sha256(manifest).hexdigest()
            if path in (f"/v2/{place}/manifests/{tag}", f"/v2/{place}/manifests/{own}"):
                return manifest
            if path == f"/v2/{place}/blobs/{digest}":
                return body
        return None

    @staticmethod
    def send(handler, status, body, headers=None):
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
