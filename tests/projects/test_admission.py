"""Fields that an admission webhook puts in, with server-side diff."""

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: c%s}
data: {a: '1'}
"""


class _AddsALabel(BaseHTTPRequestHandler):
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        labels = review["request"]["object"]["metadata"].get("labels") or {}
        patch = [{"op": "add", "path": "/metadata/labels", "value": {**labels, "mesh": "in"}}]
        answer = {
            "uid": review["request"]["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        }
        body = json.dumps({**review, "response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def webhook(certificate, tmp_path):
    """Serve an admission webhook that labels whatever it sees; gives its client configuration."""
    pem = tmp_path / "webhook.pem"
    pem.write_text(certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _AddsALabel)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    public = certificate[certificate.index("-----BEGIN CERTIFICATE") :]
    yield {
        "url": f"https://127.0.0.1:{server.server_port}/",
        "caBundle": base64.b64encode(public.encode()).decode(),
    }
    server.shutdown()
    server.server_close()


@pytest.mark.controlplane
def test_mutations_count_only_when_asked(hub, genuine, repo, app, namespace, webhook):
    noted = "c-noted, annotations: {argocd.argoproj.io/compare-options: 'ServerSideDiff=true,IncludeMutationWebhook=true'}"
    plain = "c-plain, annotations: {argocd.argoproj.io/compare-options: ServerSideDiff=true}"
    repo.commit({"a.yaml": CONFIG.replace("c%s", noted), "b.yaml": CONFIG.replace("c%s", plain)})
    name = app(repo, genuine, namespace, policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")
    genuine.apply(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": namespace},
            "webhooks": [
                {
                    "name": "label.example.com",
                    "clientConfig": webhook,
                    "admissionReviewVersions": ["v1"],
                    "sideEffects": "None",
                    "namespaceSelector": {
                        "matchLabels": {"kubernetes.io/metadata.name": namespace}
                    },
                    "rules": [
                        {
                            "apiGroups": [""],
                            "apiVersions": ["v1"],
                            "operations": ["CREATE", "UPDATE"],
                            "resources": ["configmaps"],
                        }
                    ],
                }
            ],
        }
    )
    try:
        hub.get(f"/api/v1/applications/{name}", refresh="hard")
        shown = hub.wait_status(name, "OutOfSync")
    finally:
        genuine.delete(
            "admissionregistration.k8s.io", "MutatingWebhookConfiguration", "", namespace
        )

    rows = {
        r["name"]: r["status"] for r in shown["status"]["resources"] if r["kind"] == "ConfigMap"
    }
    assert rows == {"c-noted": "OutOfSync", "c-plain": "Synced"}
