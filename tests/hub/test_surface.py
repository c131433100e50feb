"""Every path of Argo CD's API is served: for somebody who may, and with a refusal for who may
not.
"""

import json

import pytest
from django.utils import timezone

from hub.auth.sessions import issue
from hub.models import Account, access_changed, change_setting
from projects.models import Application, Project

APP = "/api/v1/applications/web"
REPO = "/api/v1/repositories/https%3A%2F%2Fgit.example%2Fx"
SERVED = [
    ("GET", "/api/v1/account", 200),
    ("GET", "/api/v1/account/can-i/applications/get/*", 200),
    ("PUT", "/api/v1/account/password", 400),
    ("GET", "/api/v1/account/admin", 200),
    ("POST", "/api/v1/account/bot/token", 200),
    ("DELETE", "/api/v1/account/bot/token/none", 400),
    ("GET", "/api/v1/applications", 200),
    ("POST", "/api/v1/applications", 400),
    ("POST", "/api/v1/applications/manifestsWithFiles", 400),
    ("GET", APP, 200),
    ("PATCH", APP, 400),
    ("PUT", APP, 400),
    ("PUT", f"{APP}/spec", 400),
    ("DELETE", f"{APP}/operation", 400),
    ("POST", f"{APP}/rollback", 400),
    ("GET", f"{APP}/server-side-diff", 200),
    ("GET", f"{APP}/resource-tree", 200),
    ("GET", f"{APP}/events", 200),
    ("GET", f"{APP}/links", 200),
    ("GET", f"{APP}/resource", 400),
    ("POST", f"{APP}/resource", 400),
    ("DELETE", f"{APP}/resource", 400),
    ("GET", f"{APP}/resource/actions", 400),
    ("POST", f"{APP}/resource/actions", 400),
    ("POST", f"{APP}/resource/actions/v2", 400),
    ("GET", f"{APP}/resource/links", 400),
    ("GET", f"{APP}/revisions/main/chartdetails", 400),
    ("GET", f"{APP}/revisions/main/ocimetadata", 400),
    ("GET", f"{APP}/syncwindows", 200),
    ("GET", "/api/v1/applicationsets", 200),
    ("POST", "/api/v1/applicationsets", 400),
    ("POST", "/api/v1/applicationsets/generate", 400),
    ("GET", "/api/v1/applicationsets/none", 403),
    ("DELETE", "/api/v1/applicationsets/none", 403),
    ("GET", "/api/v1/applicationsets/none/resource-tree", 403),
    ("GET", "/api/v1/applicationsets/none/events", 403),
    ("GET", "/api/v1/certificates", 200),
    ("POST", "/api/v1/certificates", 400),
    ("DELETE", "/api/v1/certificates", 400),
    ("GET", "/api/v1/clusters", 200),
    ("POST", "/api/v1/clusters", 400),
    ("GET", "/api/v1/clusters/in-cluster?id.type=name", 200),
    ("PUT", "/api/v1/clusters/none?id.type=name", 403),
    ("DELETE", "/api/v1/clusters/in-cluster?id.type=name", 400),
    ("POST", "/api/v1/clusters/in-cluster/invalidate-cache?id.type=name", 200),
    ("POST", "/api/v1/clusters/in-cluster/rotate-auth?id.type=name", 400),
    ("GET", "/api/v1/gpgkeys", 200),
    ("GET", "/api/v1/gpgkeys/4AEE18F83AFDEB23", 403),
    ("POST", "/api/v1/gpgkeys", 400),
    ("DELETE", "/api/v1/gpgkeys?keyID=4AEE18F83AFDEB23", 403),
    ("GET", "/api/v1/notifications/services", 200),
    ("GET", "/api/v1/notifications/templates", 200),
    ("GET", "/api/v1/notifications/triggers", 200),
    ("GET", "/api/v1/projects", 200),
    ("POST", "/api/v1/projects", 400),
    ("GET", "/api/v1/projects/team", 200),
    ("PUT", "/api/v1/projects/team", 400),
    ("DELETE", "/api/v1/projects/team", 400),
    ("GET", "/api/v1/projects/team/detailed", 200),
    ("GET", "/api/v1/projects/team/events", 200),
    ("GET", "/api/v1/projects/team/globalprojects", 200),
    ("GET", "/api/v1/projects/team/links", 200),
    ("GET", "/api/v1/projects/team/syncwindows", 200),
    ("POST", "/api/v1/projects/team/roles/none/token", 404),
    ("DELETE", "/api/v1/projects/team/roles/none/token/1", 404),
    ("GET", "/api/v1/repocreds", 200),
    ("POST", "/api/v1/repocreds", 400),
    ("PUT", "/api/v1/repocreds/https%3A%2F%2Fgit.example", 403),
    ("DELETE", "/api/v1/repocreds/https%3A%2F%2Fgit.example", 403),
    ("GET", "/api/v1/write-repocreds", 501),
    ("POST", "/api/v1/write-repocreds", 501),
    ("PUT", "/api/v1/write-repocreds/x", 501),
    ("DELETE", "/api/v1/write-repocreds/x", 501),
    ("GET", "/api/v1/repositories", 200),
    ("POST", "/api/v1/repositories", 400),
    ("GET", REPO, 403),
    ("PUT", REPO, 403),
    ("DELETE", REPO, 403),
    ("GET", "/api/v1/write-repositories", 501),
    ("POST", "/api/v1/write-repositories", 501),
    ("GET", "/api/v1/settings/plugins", 200),
    ("GET", "/api/v1/session/userinfo", 200),
    ("GET", "/api/v1/settings", 200),
    ("GET", "/api/version", 200),
    ("POST", "/api/v1/session", 401),
]
NETWORK = [
    ("GET", f"{APP}/managed-resources"),
    ("GET", f"{APP}/manifests"),
    ("POST", f"{APP}/sync"),
    ("GET", f"{APP}/revisions/main/metadata"),
    ("POST", f"{REPO}/validate"),
    ("GET", f"{REPO}/apps"),
    ("GET", f"{REPO}/refs"),
    ("GET", f"{REPO}/helmcharts"),
    ("GET", f"{REPO}/oci-tags"),
    ("POST", f"{REPO}/appdetails"),
]
PUBLIC = ("/api/v1/settings", "/api/version", "/api/v1/session", "/api/v1/session/userinfo")


@pytest.fixture
def world(idle_hub):
    Project.objects.create(
        name="team",
        spec={"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]},
    )
    Account.objects.create(name="bot", password="!", capabilities=["apiKey"])
    spec = {
        "project": "team",
        "source": {
            "repoURL": "https://127.0.0.1:1/CANARY.git",
            "path": ".",
            "targetRevision": "main",
        },
        "destination": {"server": "https://kubernetes.default.svc", "namespace": "argocd"},
    }
    Application.objects.create(name="web", project="team", spec=spec)
    return idle_hub


def ask(client, method, path, token=""):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = {} if method == "GET" else {"data": b"{}"}
    return client.generic(method, path, content_type="application/json", headers=headers, **body)


def test_every_path_answers_who_may(world, client):
    wrong = []
    for method, path, expected in SERVED:
        answer = ask(client, method, path, world.token)
        if answer.status_code != expected or b"is not served" in answer.content:
            wrong.append((method, path, answer.status_code, answer.content[:120]))
        elif expected >= 400:
            said = json.loads(answer.content)
            assert said["error"] == said["message"] and said["message"] and said["details"] == [], (
                path
            )
    for method, path in NETWORK:
        answer = ask(client, method, path, world.token)
        if answer.status_code not in (200, 400, 503) or b"is not served" in answer.content:
            wrong.append((method, path, answer.status_code, answer.content[:120]))
    assert wrong == []


def test_every_path_refuses_who_may_not(world, client):
    nobody = Account.objects.create(name="nobody", password="!", capabilities=["login"])
    change_setting("rbac", {"policy.default": ""})
    access_changed("policy", "rbac", None)
    token = issue(nobody, timezone.now())
    listed = [*((m, p) for m, p, _ in SERVED), *NETWORK]
    wrong = []
    for method, path in listed:
        if path in PUBLIC:
            continue
        answer = ask(client, method, path)
        if answer.status_code != 401:
            wrong.append((method, path, answer.status_code))
        answer = ask(client, method, path, token)
        own = path.startswith(
            (
                "/api/v1/account",
                "/api/v1/notifications",
                "/api/v1/settings/plugins",
                "/api/v1/write-",
                "/api/v1/applications/manifestsWithFiles",
            )
        )
        is_list = method == "GET" and path.count("/") == 3
        if b"CANARY" in answer.content or (
            not own and not is_list and answer.status_code not in (400, 403)
        ):
            wrong.append((method, path, answer.status_code, answer.content[:100]))
        if is_list and not own:
            assert json.loads(answer.content).get("items") == [], path
    assert wrong == []
    assert client.get("/api/badge").status_code == 404
    assert client.get("/swagger.json").json()["openapi"].startswith("3.")
