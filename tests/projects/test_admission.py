"""What an admission webhook puts in, and what it makes of what Git states."""

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from projects.models import Operation

CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: c%s}
data: {a: '1'}
"""


class _Mutates(BaseHTTPRequestHandler):
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        metadata = review["request"]["object"]["metadata"]
        labels = {**(metadata.get("labels") or {}), "mesh": "in"}
        patch = [{"op": "add", "path": "/metadata/labels", "value": labels}]
        if metadata["name"].startswith("rewritten"):
            patch = [{"op": "replace", "path": "/data/a", "value": "9"}]
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
    """Serve a webhook that labels what it sees, or sets `a` where it is told so; gives its client
    configuration.
    """
    pem = tmp_path / "webhook.pem"
    pem.write_text(certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Mutates)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    public = certificate[certificate.index("-----BEGIN CERTIFICATE") :]
    yield {
        "url": f"https://127.0.0.1:{server.server_port}/",
        "caBundle": base64.b64encode(public.encode()).decode(),
    }
    server.shutdown()
    server.server_close()


def registration(namespace, client_config):
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [
            {
                "name": "label.example.com",
                "clientConfig": client_config,
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
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


def config(name, namespace, value):
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": value}}


@pytest.mark.controlplane
def test_mutations_count_only_when_asked(hub, genuine, repo, app, namespace, webhook):
    noted = (
        "c-noted, annotations: {argocd.argoproj.io/compare-options: "
        "'ServerSideDiff=true,IncludeMutationWebhook=true'}"
    )
    plain = "c-plain, annotations: {argocd.argoproj.io/compare-options: ServerSideDiff=true}"
    repo.commit({"a.yaml": CONFIG.replace("c%s", noted), "b.yaml": CONFIG.replace("c%s", plain)})
    name = app(repo, genuine, namespace, policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")
    genuine.apply(registration(namespace, webhook))
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


@pytest.mark.controlplane
def test_what_a_webhook_makes_of_a_stated_field_does_not_loop(
    hub, genuine, repo, app, namespace, webhook
):
    """Synced while another apply would change nothing; what Git states counts again once the
    webhook is gone.
    """
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    genuine.apply(space)
    genuine.apply(registration(namespace, webhook))
    try:
        hub.wait(lambda: value(genuine.apply(config("rewritten-probe", namespace, "1"))) == "9")
        repo.commit({"a.yaml": CONFIG.replace("c%s", "rewritten")})
        name = app(repo, genuine, namespace, policy={"automated": {"selfHeal": True}})
        for number in (1, 2, 3):
            hub.get(f"/api/v1/applications/{name}", refresh="hard")
            hub.wait_status(name, "Synced", "Healthy")
            assert Operation.objects.count() == 1, number
        assert value(genuine.get("", "ConfigMap", namespace, "rewritten")) == "9"
    finally:
        genuine.delete(
            "admissionregistration.k8s.io", "MutatingWebhookConfiguration", "", namespace
        )

    def is_as_in_git():
        hub.get(f"/api/v1/applications/{name}", refresh="hard")
        return value(genuine.get("", "ConfigMap", namespace, "rewritten")) == "1"

    hub.wait(is_as_in_git)


def value(manifest):
    return manifest["data"]["a"]
