"""Folders of a person's machine in place of Git's: rendered, compared and applied, and what that
must not give away.
"""

import base64
import hashlib
import io
import json
import tarfile
from datetime import timedelta

import pytest
from conftest import config_map
from django.utils import timezone
from support import renders
from support.command import Command
from support.web import deployment

from hub.auth.sessions import issue
from hub.base.concurrency import Rates
from hub.models import Account, access_changed, change_setting
from projects.api import refreshes
from projects.models import Project, RenderedManifests
from projects.sources import jsonnet

PATH = "/api/v1/applications/manifestsWithFiles"
CHART = {
    "Chart.yaml": "apiVersion: v2\nname: local\nversion: 0.1.0\n",
    "templates/_name.tpl": '{{- define "n" -}}{{ .Values.name }}{{- end -}}',
    "templates/c.yaml": (
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ include "n" . }}}\n'
        'data: {a: "{{ .Values.a }}"}\n'
    ),
    "values.yaml": "name: settings\na: '2'\n",
}


def packed(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            if text is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(member)
                continue
            data = text.encode()
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def lines(files, name="web", size=700, **query):
    data = files if isinstance(files, bytes) else packed(files)
    parts = [{"query": {"name": name, **query}}]
    parts += [
        {"chunk": {"chunk": base64.b64encode(data[n : n + size]).decode()}}
        for n in range(0, len(data), size)
    ]
    return b"\n".join(json.dumps(p).encode() for p in parts)


def send(hub, body, *, status=200, token="", **query):
    answer = hub.client.generic(
        "POST",
        PATH + ("?compare=true" if query.get("compare") else ""),
        body,
        content_type="application/json",
        headers={"Authorization": f"Bearer {token or hub.token}"},
    )
    assert answer.status_code == status, answer.content[:1000]
    return answer.json()


@pytest.fixture
def web(hub, sandbox, repo, app, namespace):
    repo.commit({"a/c.yaml": config_map("settings")})
    app(repo, sandbox, namespace, name="web", path="a")
    hub.wait_status("web", "OutOfSync")
    hub.post("/api/v1/applications/web/sync", {})
    hub.wait_status("web", "Synced")
    return hub


def test_files_are_rendered_and_compared(web):
    before = RenderedManifests.objects.count()
    data = packed({"c.yaml": config_map("settings", {"a": "2"}), "d.yaml": deployment(1)})
    found = send(web, lines(data, checksum=hashlib.sha256(data).hexdigest()), compare=True)
    assert found["sourceType"] == "Directory" and len(found["manifests"]) == 2
    states = {i["name"]: i for i in found["items"]}
    assert states["settings"]["modified"] and states["web"]["liveState"] == "null"
    assert json.loads(states["settings"]["normalizedLiveState"])["data"] == {"a": "1"}
    assert json.loads(states["settings"]["predictedLiveState"])["data"] == {"a": "2"}
    assert RenderedManifests.objects.count() == before, "what somebody sends is not kept"
    assert web.application("web")["status"]["sync"]["status"] == "Synced"


def test_charts_and_kustomizations_are_rendered_by_the_hub(web):
    found = send(web, lines({f"x/chart/{n}": t for n, t in CHART.items()}, path="x/chart"))
    assert found["sourceType"] == "Helm"
    assert json.loads(found["manifests"][0])["metadata"]["name"] == "settings"
    kustomization = {
        "base/c.yaml": config_map("c"),
        "base/kustomization.yaml": "resources: [c.yaml]\n",
        "over/kustomization.yaml": "resources: [../base]\nnamePrefix: my-\n",
    }
    found = send(web, lines(kustomization, path="over"))
    assert found["sourceType"] == "Kustomize"
    assert json.loads(found["manifests"][0])["metadata"]["name"] == "my-c"


def test_secrets_come_back_masked(web):
    secret = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s"},
            "stringData": {"p": "CANARY"},
        }
    )
    assert "CANARY" not in json.dumps(send(web, lines({"s.yaml": secret}), compare=True))


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b" ", 'the first line must be {"query"'),
        (b"[]", "the first line"),
        (b'{"query": 1}', "the first line"),
        (b"{", "line 1 is not valid JSON"),
        (lines({"a.yaml": "{}"}, path="../.."), "path: "),
        (lines({"a.yaml": "{}"}, path="nowhere"), "app path does not exist"),
        (lines({"a.yaml": "{}"}, sourcePosition=2), "sourcePosition must be"),
        (lines({"a.yaml": "{}"}, checksum="00"), "checksum: "),
        (lines(b"no archive"), "the archive cannot be read"),
        (lines({"../../etc/x": "a"}), "a path that leads out"),
        (lines({"/etc/x": "a"}), "a path that leads out"),
        (lines({"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: [1"}), "a.yaml"),
        (b'{"query": {"name": "web"}}\n{"chunk": 1}', "line 2 must be"),
        (b'{"query": {"name": "web"}}\n{"chunk": {"chunk": "*"}}', "not base64"),
    ],
)
def test_files_that_cannot_be_used(web, body, word):
    assert word in send(web, body, status=400)["message"]


def test_links_and_sizes(web, settings):
    found = send(web, lines({"passwd": None, "c.yaml": config_map("c")}))
    assert len(found["manifests"]) == 1 and "root:" not in json.dumps(found)
    settings.MAX_LOCAL_BYTES = 1000
    assert (
        "larger than"
        in send(
            web,
            lines(
                {
                    "a.yaml": base64.b85encode(
                        b"".join(hashlib.sha512(bytes([n])).digest() for n in range(60))
                    ).decode()
                }
            ),
            status=400,
        )["message"]
    )


def test_who_may_only_read_gets_nothing_that_the_hub_could_fetch(web, repo):
    reader = Account.objects.create(name="reader", password="!", capabilities=["login"])
    change_setting(
        "rbac",
        {"policy.csv": "p, reader, applications, get, default/*, allow", "policy.default": ""},
    )
    access_changed("policy", "rbac", None)
    token = issue(reader, timezone.now())
    assert send(web, lines({"c.yaml": config_map("c")}), token=token)["manifests"]
    chart = {
        "Chart.yaml": (
            "apiVersion: v2\nname: l\nversion: 0.1.0\n"
            "dependencies: [{name: p, version: 1.0.0, repository: 'https://127.0.0.1:1/charts'}]\n"
        ),
        "templates/x.yaml": "",
    }
    assert "not permitted" in send(web, lines(chart), token=token, status=400)["message"]
    nobody = Account.objects.create(name="nobody", password="!", capabilities=["login"])
    assert (
        send(web, lines({"c.yaml": "{}"}), token=issue(nobody, timezone.now()), status=403)[
            "message"
        ]
        == "permission denied"
    )
    assert (
        send(web, lines({"c.yaml": "{}"}, name="absent"), token=token, status=403)["message"]
        == "permission denied"
    )
    send(web, lines({"c.yaml": "{}"}, project="other"), status=404)


def test_a_project_that_wants_signatures_takes_no_files(web):
    Project.objects.filter(name="default").update(
        spec={
            **Project.objects.get(name="default").spec,
            "signatureKeys": [{"keyID": "4AEE18F83AFDEB23"}],
        }
    )
    assert "source integrity" in send(web, lines({"c.yaml": "{}"}), status=400)["message"]


def test_the_command_line_with_a_folder(web, site, tmp_path, sandbox, namespace):
    flotilla = Command(tmp_path / "c", FLOTILLA_SERVER=site.url, FLOTILLA_TOKEN=web.token)
    folder = tmp_path / "work" / "chart"
    for name, text in {**CHART, ".git/config": "[remote]\nCANARY"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    shown = flotilla.run("app", "diff", "web", "--local", str(folder), code=1).stdout
    assert '-  a: "1"' in shown.replace("'", '"') and '+  a: "2"' in shown.replace("'", '"')
    assert "name: settings" in flotilla(
        "app",
        "manifests",
        "web",
        "--local",
        str(folder),
        "--local-repo-root",
        str(tmp_path / "work"),
    )
    assert "is not within" in flotilla.refused(
        "app", "diff", "web", "--local", str(tmp_path), "--local-repo-root", str(folder), code=2
    )
    assert "is not a folder" in flotilla.refused(
        "app", "sync", "web", "--local", str(tmp_path / "absent")
    )
    flotilla("app", "sync", "web", "--local", str(folder), "--timeout", "60")
    assert sandbox.get("", "ConfigMap", namespace, "settings")["data"] == {"a": "2"}
    (folder / "templates" / "s.yaml").write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {p: x}\n"
    )
    assert "comes back masked" in flotilla.refused("app", "sync", "web", "--local", str(folder))


def test_who_may_only_read_uses_up_nothing_of_the_project(web, repo, settings, monkeypatch):
    """Files that never end, sent to an application that their sender may only get: its project
    renders on.
    """
    reader = Account.objects.create(name="reader", capabilities=["login"])
    access_changed("account", "reader", {})
    policy = "p, reader, applications, get, */*, allow"
    web.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": policy}})
    settings.EXEC_TIMEOUT = timedelta(seconds=2)
    waits = renders.Waits()
    pool = renders.pool(waits, limits=renders.limits_of(2, 1.0))
    monkeypatch.setattr(jsonnet, "renderer", pool)
    token, endless = issue(reader, timezone.now()), lines({"a.jsonnet": renders.ENDLESS})

    assert "took longer" in send(web, endless, token=token, status=400)["message"]
    refused = send(web, endless, token=token, status=503)["message"]
    assert "user reader in project 'default' has used its 1 s" in refused
    commit = web.push(repo, {"a/b.jsonnet": renders.SMALL.format(n=2)})
    web.wait(lambda: web.application("web")["status"]["sync"]["revision"] == commit, "a render")
    pool.close()
    assert set(waits.found) == {"default@reader", "default"}


def test_who_may_only_read_has_a_few_hard_refreshes(web, monkeypatch):
    """They render anew, in the seconds of the project."""
    reader = Account.objects.create(name="reader", capabilities=["login"])
    access_changed("account", "reader", {})
    policy = "p, reader, applications, get, */*, allow"
    web.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": policy}})
    token = issue(reader, timezone.now())
    monkeypatch.setattr(refreshes, "_HARD", Rates(2, 0))
    answers = [
        web.client.get(
            "/api/v1/applications/web?refresh=hard", headers={"Authorization": f"Bearer {t}"}
        )
        for t in (*[token] * 4, web.token)
    ]
    assert [a.status_code for a in answers] == [200, 200, 503, 503, 200]
