"""Every path of Argo CD's API does what it is for: one long day of an installation, with each call
answered by success.
"""

import json
import re
import warnings
from urllib.parse import quote, urlencode

import pytest
from conftest import config_map
from django.test import Client
from pysequoia import Cert
from support.charts import Charts
from support.streams import collect
from support.web import deployment

from hub.cli.clusters import Context, install, registration
from projects.sources import charts

# As Argo CD 3.6 lists them. Where a feature is off, its answer is in test_surface.py.
REFERENCE = """
GET /api/v1/account
GET /api/v1/account/can-i/{resource}/{action}/{subresource}
PUT /api/v1/account/password
GET /api/v1/account/{name}
POST /api/v1/account/{name}/token
DELETE /api/v1/account/{name}/token/{id}
GET /api/v1/applications
POST /api/v1/applications
POST /api/v1/applications/manifestsWithFiles
GET /api/v1/applications/{name}
DELETE /api/v1/applications/{name}
PATCH /api/v1/applications/{name}
PUT /api/v1/applications/{name}
PUT /api/v1/applications/{name}/spec
POST /api/v1/applications/{name}/sync
DELETE /api/v1/applications/{name}/operation
POST /api/v1/applications/{name}/rollback
GET /api/v1/applications/{name}/server-side-diff
GET /api/v1/applications/{name}/managed-resources
GET /api/v1/applications/{name}/resource-tree
GET /api/v1/applications/{name}/manifests
GET /api/v1/applications/{name}/events
GET /api/v1/applications/{name}/links
GET /api/v1/applications/{name}/logs
GET /api/v1/applications/{name}/pods/{pod}/logs
GET /api/v1/applications/{name}/resource
POST /api/v1/applications/{name}/resource
DELETE /api/v1/applications/{name}/resource
GET /api/v1/applications/{name}/resource/actions
POST /api/v1/applications/{name}/resource/actions
POST /api/v1/applications/{name}/resource/actions/v2
GET /api/v1/applications/{name}/resource/links
GET /api/v1/applications/{name}/revisions/{revision}/metadata
GET /api/v1/applications/{name}/revisions/{revision}/chartdetails
GET /api/v1/applications/{name}/revisions/{revision}/ocimetadata
GET /api/v1/applications/{name}/syncwindows
GET /api/v1/stream/applications
GET /api/v1/stream/applications/{name}/resource-tree
GET /api/v1/applicationsets
POST /api/v1/applicationsets
POST /api/v1/applicationsets/generate
GET /api/v1/applicationsets/{name}
DELETE /api/v1/applicationsets/{name}
GET /api/v1/applicationsets/{name}/resource-tree
GET /api/v1/applicationsets/{name}/events
GET /api/v1/stream/applicationsets
GET /api/v1/certificates
POST /api/v1/certificates
DELETE /api/v1/certificates
GET /api/v1/clusters
POST /api/v1/clusters
GET /api/v1/clusters/{id}
PUT /api/v1/clusters/{id}
DELETE /api/v1/clusters/{id}
POST /api/v1/clusters/{id}/invalidate-cache
POST /api/v1/clusters/{id}/rotate-auth
GET /api/v1/gpgkeys
GET /api/v1/gpgkeys/{keyID}
POST /api/v1/gpgkeys
DELETE /api/v1/gpgkeys
GET /api/v1/notifications/services
GET /api/v1/notifications/templates
GET /api/v1/notifications/triggers
GET /api/v1/projects
POST /api/v1/projects
GET /api/v1/projects/{name}
DELETE /api/v1/projects/{name}
PUT /api/v1/projects/{name}
GET /api/v1/projects/{name}/detailed
GET /api/v1/projects/{name}/events
GET /api/v1/projects/{name}/globalprojects
GET /api/v1/projects/{name}/links
GET /api/v1/projects/{name}/syncwindows
POST /api/v1/projects/{name}/roles/{role}/token
DELETE /api/v1/projects/{name}/roles/{role}/token/{iat}
GET /api/v1/repocreds
POST /api/v1/repocreds
PUT /api/v1/repocreds/{url}
DELETE /api/v1/repocreds/{url}
GET /api/v1/repositories
POST /api/v1/repositories
PUT /api/v1/repositories/{repo}
GET /api/v1/repositories/{repo}
DELETE /api/v1/repositories/{repo}
POST /api/v1/repositories/{repo}/validate
GET /api/v1/repositories/{repo}/apps
GET /api/v1/repositories/{repo}/refs
GET /api/v1/repositories/{repo}/helmcharts
GET /api/v1/repositories/{repo}/oci-tags
POST /api/v1/repositories/{repo}/appdetails
POST /api/v1/session
DELETE /api/v1/session
GET /api/v1/session/userinfo
GET /api/v1/settings
GET /api/v1/settings/plugins
GET /api/version
"""


class Day:
    """Calls the hub and keeps which paths answered with success."""

    def __init__(self, hub):
        self.hub, self.done, self.token = hub, [], hub.token

    def __call__(self, method, path, body=None, **query):
        full = path + (f"?{urlencode(query, doseq=True)}" if query else "")
        if path.startswith("/api/v1/stream/"):
            found = [json.loads(part) for part in collect(self.hub, full, 1, (9, None))]
            self.done.append((method, path))
            return found[0]["result"]
        data = "" if body is None else body if isinstance(body, str) else json.dumps(body)
        answer = Client().generic(
            method,
            full,
            data,
            content_type="application/json",
            headers={"Authorization": f"Bearer {self.token}"},
            CONTENT_TYPE="application/json",
        )
        content = b"".join(_whole(answer)) if answer.streaming else answer.content
        assert answer.status_code == 200, (method, full, answer.status_code, content[:600])
        self.done.append((method, path))
        return (
            [json.loads(x) for x in content.splitlines()]
            if answer.streaming
            else json.loads(content)
        )

    def left(self):
        patterns = [
            (line.split()[0], re.sub(r"\{\w+\}", "[^/]+", line.split()[1]))
            for line in REFERENCE.split("\n")
            if line
        ]
        return [
            f"{m} {p}"
            for m, p in patterns
            if not any(m == method and re.fullmatch(p, path) for method, path in self.done)
        ]


def _whole(answer):
    from asgiref.sync import async_to_sync

    async def read():
        return [part async for part in answer.streaming_content]

    return async_to_sync(read)()


@pytest.fixture
def chart_server():
    server = Charts()
    charts.forget()
    yield server
    server.server.shutdown()
    server.server.server_close()


def application(name, source, namespace, **spec):
    return {
        "metadata": {"name": name},
        "spec": {
            "project": "team",
            "source": source,
            "destination": {"name": "east", "namespace": namespace},
            "syncPolicy": {"syncOptions": ["CreateNamespace=true"]},
            **spec,
        },
    }


A = "/api/v1/applications"


@pytest.mark.timeout(240)
def test_every_path_of_the_reference_succeeds(hub, sandbox, repo, chart_server, namespace):
    day = Day(hub)
    repo.commit({"a/d.yaml": deployment(1), "a/c.yaml": config_map("settings")})
    _accounts(day)
    _places(day, sandbox, repo, chart_server)
    _projects(day)
    _applications(day, hub, sandbox, repo, namespace)
    _charts(day, hub, chart_server, namespace)
    _sets(day, hub, repo, namespace)
    _ends(day, hub, sandbox, repo, chart_server)
    assert day.left() == []


def _accounts(day):
    assert day("GET", "/api/version")["Version"]
    assert day("GET", "/api/v1/settings")["appLabelKey"]
    day("GET", "/api/v1/settings/plugins")
    for kind in ("services", "templates", "triggers"):
        day("GET", f"/api/v1/notifications/{kind}")
    day(
        "POST",
        "/api/v1/flotilla/accounts",
        {"name": "bot", "capabilities": ["apiKey", "login"], "password": "first password"},
    )
    assert day("GET", "/api/v1/account/bot")["capabilities"] == ["login", "apiKey"]
    assert {a["name"] for a in day("GET", "/api/v1/account")["items"]} == {"admin", "bot"}
    assert day("GET", "/api/v1/account/can-i/applications/sync/*")["value"] == "yes"
    day(
        "PUT",
        "/api/v1/account/password",
        {"name": "bot", "currentPassword": "correct horse", "newPassword": "second password"},
    )
    assert day("POST", "/api/v1/account/bot/token", {"id": "ci", "expiresIn": 3600})["token"]
    day("DELETE", "/api/v1/account/bot/token/ci")
    assert day("GET", "/api/v1/account/bot")["tokens"] == []
    own, day.token = (
        day.token,
        day("POST", "/api/v1/session", {"username": "bot", "password": "second password"})["token"],
    )
    assert day("GET", "/api/v1/session/userinfo")["username"] == "bot"
    day("DELETE", "/api/v1/session")
    day.token = own


def _places(day, sandbox, repo, chart_server):
    body = {"server": sandbox.server, "name": "east", "config": sandbox.config}
    assert day("POST", "/api/v1/clusters", body, upsert="true")["name"] == "east"
    assert day("GET", "/api/v1/clusters", name="east")["items"][0]["server"] == sandbox.server
    assert day("GET", f"/api/v1/clusters/{quote(sandbox.server, safe='')}")["name"] == "east"
    changed = day(
        "PUT",
        "/api/v1/clusters/east",
        {"labels": {"a": "b"}},
        **{"id.type": "name", "updatedFields": ["labels"]},
    )
    assert changed["labels"] == {"a": "b"}
    key = "QUFBQUMzTnphQzFsWkRJMU5URTVBQUFBSU9NcXFua1Z6cm0wU2RHNlVPb3FLTHNhYmdINUM5b2tXaTBkaDJsOUdLSmw="
    day(
        "POST",
        "/api/v1/certificates",
        {
            "items": [
                {
                    "serverName": "git.example",
                    "certType": "ssh",
                    "certSubType": "ssh-ed25519",
                    "certData": key,
                }
            ]
        },
    )
    assert day("GET", "/api/v1/certificates")["items"][0]["certInfo"].startswith("SHA256:")
    assert day("DELETE", "/api/v1/certificates", hostNamePattern="git.example")["items"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        armored = str(Cert.generate("bot <bot@example.com>"))
    made = day("POST", "/api/v1/gpgkeys", {"keydata": armored})["created"]["items"][0]["keyID"]
    assert day("GET", f"/api/v1/gpgkeys/{made}")["keyData"].startswith("-----BEGIN PGP")
    assert [k["keyID"] for k in day("GET", "/api/v1/gpgkeys")["items"]] == [made]
    day("DELETE", "/api/v1/gpgkeys", keyID=made)
    day(
        "POST",
        "/api/v1/repocreds",
        {"url": "https://git.example/team", "username": "u", "password": "p"},
    )
    day(
        "PUT",
        f"/api/v1/repocreds/{quote('https://git.example/team', safe='')}",
        {"username": "u2", "password": "p"},
    )
    assert len(day("GET", "/api/v1/repocreds")["items"]) == 1
    day("DELETE", f"/api/v1/repocreds/{quote('https://git.example/team', safe='')}")
    one = f"/api/v1/repositories/{quote(repo.url, safe='')}"
    assert (
        day("POST", "/api/v1/repositories", {"repo": repo.url})["connectionState"]["status"]
        == "Successful"
    )
    assert day("GET", one, forceRefresh="true")["repo"] == repo.url
    assert day("PUT", one, {"repo": repo.url, "insecure": True})["insecure"] is True
    assert day("GET", "/api/v1/repositories")["items"]
    day("POST", f"{one}/validate", {})
    assert day("GET", f"{one}/refs")["branches"] == ["main"]
    assert day("GET", f"{one}/apps", revision="main")["items"] is not None
    assert (
        day(
            "POST",
            f"{one}/appdetails",
            {"source": {"repoURL": repo.url, "path": "a", "targetRevision": "main"}},
        )["type"]
        == "Directory"
    )
    helm = f"/api/v1/repositories/{quote(chart_server.url, safe='')}"
    day("POST", "/api/v1/repositories", {"repo": chart_server.url, "type": "helm", "name": "demo"})
    assert day("GET", f"{helm}/helmcharts")["items"] == [
        {"name": "demo", "versions": ["1.0.0", "1.1.0", "2.0.0"]}
    ]
    oci = f"oci://{chart_server.host}/charts/demo"
    day("POST", "/api/v1/repositories", {"repo": oci, "type": "oci", "insecureOCIForceHttp": True})
    assert "1.1.0" in day("GET", f"/api/v1/repositories/{quote(oci, safe='')}/oci-tags")["tags"]


def _projects(day):
    spec = {
        "sourceRepos": ["*"],
        "destinations": [{"server": "*", "namespace": "*"}],
        "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
    }
    day("POST", "/api/v1/projects", {"project": {"metadata": {"name": "team"}, "spec": spec}})
    spec["roles"] = [
        {"name": "ci", "policies": ["p, proj:team:ci, applications, get, team/*, allow"]}
    ]
    day("PUT", "/api/v1/projects/team", {"project": {"metadata": {"name": "team"}, "spec": spec}})
    assert day("GET", "/api/v1/projects/team")["spec"]["roles"][0]["name"] == "ci"
    assert day("POST", "/api/v1/projects/team/roles/ci/token", {"id": "t", "expiresIn": 60})[
        "token"
    ]
    issued = day("GET", "/api/v1/projects/team")["status"]["jwtTokensByRole"]["ci"]["items"][0][
        "iat"
    ]
    day("DELETE", f"/api/v1/projects/team/roles/ci/token/{issued}")
    assert {p["metadata"]["name"] for p in day("GET", "/api/v1/projects")["items"]} == {
        "default",
        "team",
    }
    for part in ("detailed", "events", "globalprojects", "links", "syncwindows"):
        day("GET", f"/api/v1/projects/team/{part}")


def _applications(day, hub, sandbox, repo, namespace):
    source = {"repoURL": repo.url, "path": "a", "targetRevision": "main"}
    day("POST", A, application("web", source, namespace))
    assert day("GET", f"{A}/web", refresh="normal")["status"]["sync"]["status"] == "OutOfSync"
    assert [a["metadata"]["name"] for a in day("GET", A, projects=["team"])["items"]] == ["web"]
    assert len(day("GET", f"{A}/web/manifests")["manifests"]) == 2
    assert {i["kind"] for i in day("GET", f"{A}/web/managed-resources")["items"]} == {
        "Deployment",
        "ConfigMap",
    }
    day("POST", f"{A}/web/sync", {"prune": True})
    hub.wait_status("web", "Synced", "Healthy")
    place = {
        "namespace": namespace,
        "resourceName": "web",
        "version": "v1",
        "kind": "Deployment",
        "group": "apps",
    }
    assert json.loads(day("GET", f"{A}/web/resource", **place)["manifest"])["spec"]["replicas"] == 1
    nodes = day("GET", f"{A}/web/resource-tree")["nodes"]
    pod = next(n["name"] for n in nodes if n["kind"] == "Pod")
    assert day("GET", f"{A}/web/pods/{pod}/logs", namespace=namespace)[-1]["result"]["last"] is True
    assert day(
        "GET",
        f"{A}/web/logs",
        kind="Deployment",
        group="apps",
        resourceName="web",
        namespace=namespace,
    )
    day("GET", f"{A}/web/events")
    day("GET", f"{A}/web/links")
    day("GET", f"{A}/web/resource/links", **place)
    assert day("GET", f"{A}/web/syncwindows")["canSync"] is True
    names = {a["name"] for a in day("GET", f"{A}/web/resource/actions", **place)["actions"]}
    assert {"restart", "scale"} <= names
    day("POST", f"{A}/web/resource/actions", '"restart"', **place)
    day(
        "POST",
        f"{A}/web/resource/actions/v2",
        {"action": "scale", "resourceActionParameters": [{"name": "replicas", "value": "2"}]},
        **place,
    )
    day(
        "POST",
        f"{A}/web/resource",
        json.dumps('{"metadata": {"labels": {"by": "hand"}}}'),
        **place,
        patchType="application/merge-patch+json",
    )
    live = sandbox.get("apps", "Deployment", namespace, "web")
    assert live["spec"]["replicas"] == 2 and live["metadata"]["labels"]["by"] == "hand"
    target = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": namespace},
            "data": {"a": "2"},
        }
    )
    assert day("GET", f"{A}/web/server-side-diff", targetManifests=[target])["modified"] is True
    lines = (
        json.dumps({"query": {"name": "web"}}) + "\n" + json.dumps({"chunk": {"chunk": _archive()}})
    )
    assert len(day("POST", f"{A}/manifestsWithFiles", lines)["manifests"]) == 1
    commit = day("GET", f"{A}/web")["status"]["sync"]["revision"]
    assert day("GET", f"{A}/web/revisions/{commit}/metadata")["message"] == "change"
    assert (
        day("GET", "/api/v1/stream/applications", name="web")["application"]["metadata"]["name"]
        == "web"
    )
    assert day("GET", "/api/v1/stream/applications/web/resource-tree")["nodes"]
    day("POST", f"{A}/web/sync", {})
    hub.wait_operation("web")
    hub.push(repo, {"a/c.yaml": config_map("settings", {"a": "3"})})
    hub.wait_status("web", "OutOfSync")
    day("POST", f"{A}/web/sync", {})
    hub.wait_operation("web")
    hub.wait_status("web", "Synced", "Healthy")
    first = day("GET", f"{A}/web")["status"]["history"][0]["id"]
    day("POST", f"{A}/web/rollback", {"id": first})
    hub.wait_operation("web")
    assert sandbox.get("", "ConfigMap", namespace, "settings")["data"] == {"a": "1"}
    day(
        "DELETE",
        f"{A}/web/resource",
        namespace=namespace,
        resourceName="settings",
        version="v1",
        kind="ConfigMap",
    )
    hub.wait(lambda: sandbox.get("", "ConfigMap", namespace, "settings") is None, "the deletion")
    current = day("GET", f"{A}/web")
    current["metadata"]["labels"] = {"team": "a"}
    assert day("PUT", f"{A}/web", current)["metadata"]["labels"] == {"team": "a"}
    assert (
        day("PUT", f"{A}/web/spec", {**current["spec"], "revisionHistoryLimit": 3})[
            "revisionHistoryLimit"
        ]
        == 3
    )
    assert day(
        "PATCH",
        f"{A}/web",
        {"patchType": "merge", "patch": '{"metadata": {"labels": {"team": "b"}}}'},
    )["metadata"]["labels"] == {"team": "b"}
    _terminate(day, hub, repo, namespace)


def _terminate(day, hub, repo, namespace):
    hook = json.dumps(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": "slow",
                "annotations": {
                    "argocd.argoproj.io/hook": "PreSync",
                    "sandbox.flotilla.io/job": "runs",
                },
            },
            "spec": {
                "suspend": True,
                "template": {
                    "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}
                },
            },
        }
    )
    hub.push(repo, {"slow/job.yaml": hook, "slow/c.yaml": config_map("later")})
    day(
        "POST",
        A,
        application(
            "slow", {"repoURL": repo.url, "path": "slow", "targetRevision": "main"}, namespace
        ),
    )
    day("GET", f"{A}/slow", refresh="normal")
    day("POST", f"{A}/slow/sync", {})
    hub.wait(
        lambda: (
            (hub.application("slow")["status"].get("operationState") or {}).get("phase")
            == "Running"
        ),
        "the operation",
    )
    day("DELETE", f"{A}/slow/operation")
    hub.wait_operation("slow", "Failed")


def _archive():
    import base64
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        text = config_map("local").encode()
        member = tarfile.TarInfo("c.yaml")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return base64.b64encode(buffer.getvalue()).decode()


def _charts(day, hub, chart_server, namespace):
    day(
        "POST",
        A,
        application(
            "chart",
            {"repoURL": chart_server.url, "chart": "demo", "targetRevision": "1.1.0"},
            namespace,
        ),
    )
    assert day("GET", f"{A}/chart/revisions/1.1.0/chartdetails")["description"] == "a demo"
    oci = f"oci://{chart_server.host}/charts/demo"
    day(
        "POST",
        A,
        application(
            "artifact", {"repoURL": oci, "path": ".", "targetRevision": "1.1.0"}, namespace
        ),
    )
    hub.wait_status("artifact", "OutOfSync")
    digest = day("GET", f"{A}/artifact")["status"]["sync"]["revision"]
    assert day("GET", f"{A}/artifact/revisions/{digest}/ocimetadata") == {
        "version": "1.1.0",
        "description": "a demo",
    }


def _sets(day, hub, repo, namespace):
    template = {
        "metadata": {"name": "x-{{city}}"},
        "spec": application(
            "x", {"repoURL": repo.url, "path": "a", "targetRevision": "main"}, namespace
        )["spec"],
    }
    body = {
        "metadata": {"name": "cities"},
        "spec": {"generators": [{"list": {"elements": [{"city": "oslo"}]}}], "template": template},
    }
    assert (
        day("POST", "/api/v1/applicationsets/generate", {"applicationSet": body})["applications"][
            0
        ]["metadata"]["name"]
        == "x-oslo"
    )
    day("POST", "/api/v1/applicationsets", body)
    hub.wait(
        lambda: day("GET", "/api/v1/applicationsets/cities")["status"].get("resourcesCount") == 1,
        "the set",
    )
    assert len(day("GET", "/api/v1/applicationsets")["items"]) == 1
    assert day("GET", "/api/v1/applicationsets/cities/resource-tree")["nodes"]
    assert day("GET", "/api/v1/applicationsets/cities/events")["items"]
    assert (
        day("GET", "/api/v1/stream/applicationsets", name="cities")["applicationSet"]["metadata"][
            "name"
        ]
        == "cities"
    )
    day("DELETE", "/api/v1/applicationsets/cities")


def _ends(day, hub, sandbox, repo, chart_server):
    for name in ("web", "slow", "chart", "artifact"):
        day("DELETE", f"{A}/{name}", cascade="false")
    hub.wait(lambda: day("GET", A)["items"] == [], "the deletions")
    day("DELETE", "/api/v1/projects/team")
    for url in (repo.url, chart_server.url):
        day("DELETE", f"/api/v1/repositories/{quote(url, safe='')}")
    day("POST", "/api/v1/clusters/east/invalidate-cache", {}, **{"id.type": "name"})
    sandbox.wait_synced()
    rotated = _rotatable(sandbox)
    day("POST", "/api/v1/clusters", rotated, upsert="true")
    day("POST", "/api/v1/clusters/east/rotate-auth", {}, **{"id.type": "name"})
    day("DELETE", "/api/v1/clusters/east", **{"id.type": "name"})
    assert [c["name"] for c in day("GET", "/api/v1/clusters")["items"]] == ["in-cluster"]


def _rotatable(sandbox):
    """Return a registration by a service account's token, as `flotilla cluster add` makes one."""
    context = Context(
        sandbox.server,
        sandbox.config["tlsClientConfig"]["caData"],
        False,
        "",
        "sandbox-token",
        "",
        "",
    )
    token = install(context, "kube-system", "flotilla-manager", [])
    return registration(context, token, "east", {}, [])
