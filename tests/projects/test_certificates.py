"""What hosts are known by: servers of repositories with certificates of one's own authority, and
SSH keys.
"""

import base64
from urllib.parse import quote

import pytest
from conftest import config_map
from django.utils import timezone
from support.charts import Charts
from support.gitserver import GitServer, Repository

from clusters.sandbox.certificate import make_certificate
from hub.auth.sessions import issue
from hub.models import Account, AuditEvent
from projects.models import GitRemote
from projects.refreshing.triggers import hosts_changed

PATH = "/api/v1/certificates"
ED = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


def pem(pair):
    return pair[pair.index("-----BEGIN CERTIFICATE") :]


def item(host, text, kind="https", sub=""):
    return {
        "serverName": host,
        "certType": kind,
        "certSubType": sub,
        "certData": base64.b64encode(text.encode()).decode(),
    }


@pytest.fixture
def secure_repo(tmp_path):
    pair = make_certificate()
    file = tmp_path / "pair.pem"
    file.write_text(pair)
    (tmp_path / "git").mkdir()
    server = GitServer(tmp_path / "git", str(file))
    repo = Repository(server, "repo")
    repo.commit({"a/c.yaml": config_map("settings"), "chart/index.yaml": "entries: {}\n"})
    repo.pair = pair
    yield repo
    server.close()


def test_a_server_of_ones_own_authority(hub, sandbox, secure_repo, app, namespace):
    body = {"repo": secure_repo.url}
    assert "certificate" in hub.post("/api/v1/repositories", body, status=400)["message"]
    hub.post(PATH, {"items": [item("127.0.0.1", pem(secure_repo.pair))]})
    hub.post("/api/v1/repositories", body)
    app(secure_repo, sandbox, namespace, name="web", path="a", policy={"automated": {}})
    hub.wait_status("web", "Synced")
    other = make_certificate()
    said = hub.post(PATH, {"items": [item("127.0.0.1", pem(other))]}, status=400)
    assert "use upsert" in said["message"]
    hub.post(PATH, {"items": [item("127.0.0.1", pem(other))]}, upsert="true")
    hub.wait(
        lambda: "certificate" in GitRemote.objects.get(url=secure_repo.url).error, "the refusal"
    )
    hub.post(PATH, {"items": [item("127.0.0.1", pem(secure_repo.pair))]}, upsert="true")
    hub.wait(lambda: GitRemote.objects.get(url=secure_repo.url).error == "", "the connection")


def test_a_chart_server_that_wants_a_certificate(idle_hub):
    own, mine = make_certificate(), make_certificate()
    server = Charts(own, wants=pem(mine))
    place = {"repo": server.url, "type": "helm", "insecure": True}
    shown = {
        "tlsClientCertData": pem(mine),
        "tlsClientCertKey": mine[: mine.index("-----BEGIN CERT")],
    }
    assert "does not respond" in idle_hub.post("/api/v1/repositories", place, status=400)["message"]
    odd = idle_hub.post(
        "/api/v1/repositories", {**place, **shown, "tlsClientCertKey": "x"}, status=400
    )
    assert "must be a certificate and its key" in odd["message"]
    idle_hub.post("/api/v1/repositories", {**place, **shown})
    found = idle_hub.get(f"/api/v1/repositories/{quote(server.url, safe='')}/helmcharts")
    assert [c["name"] for c in found["items"]] == ["demo"]
    server.server.shutdown()
    server.server.server_close()


def test_charts_too(idle_hub, secure_repo):
    body = {"repo": f"{secure_repo.server.url}/none", "type": "helm"}
    assert (
        "CERTIFICATE_VERIFY_FAILED"
        in idle_hub.post("/api/v1/repositories", body, status=400)["message"]
    )
    port = secure_repo.server.url.rpartition(":")[2]
    idle_hub.post(PATH, {"items": [item(f"127.0.0.1:{port}", pem(secure_repo.pair))]})
    assert (
        "CERTIFICATE_VERIFY_FAILED"
        not in idle_hub.post("/api/v1/repositories", body, status=400)["message"]
    )


def test_they_are_listed_chosen_and_removed(idle_hub):
    one, two = pem(make_certificate()), pem(make_certificate())
    idle_hub.post(
        PATH,
        {
            "items": [
                item("git.example", one + two),
                item("git.example", ED, "ssh", "ssh-ed25519"),
                item("Other.example", one),
            ]
        },
    )
    found = idle_hub.get(PATH)["items"]
    assert [(c["serverName"], c["certType"], c["certSubType"]) for c in found] == [
        ("git.example", "ssh", "ssh-ed25519"),
        *[("git.example", "https", "ecdsa")] * 2,
        ("other.example", "https", "ecdsa"),
    ]
    assert (
        found[0]["certInfo"].startswith("SHA256:") and found[1]["certInfo"] == "CN=flotilla-sandbox"
    )
    assert "certData" not in found[1]
    assert len(idle_hub.get(PATH, certType="https", hostNamePattern="git.*")["items"]) == 2
    files = idle_hub.get("/api/v1/flotilla/known-hosts")
    assert (
        files["lines"] == [f"git.example ssh-ed25519 {ED}"]
        and files["certificates"]["git.example"] == one + two
    )
    gone = idle_hub.delete(PATH, hostNamePattern="git.example", certType="https")["items"]
    assert len(gone) == 2
    assert [c["serverName"] for c in idle_hub.get(PATH)["items"]] == [
        "git.example",
        "other.example",
    ]
    idle_hub.delete(PATH, hostNamePattern="*")
    assert idle_hub.get(PATH)["items"] == []
    assert AuditEvent.objects.filter(kind="certificate", verb="delete").count() == 3


def test_another_key_of_a_known_host_is_not_taken_silently(idle_hub):
    first, other = (
        item("git.example", ED, "ssh", "ssh-ed25519"),
        item("git.example", ED[:-4] + "AAAA", "ssh", "ssh-ed25519"),
    )
    idle_hub.post(PATH, {"items": [first]})
    idle_hub.post(PATH, {"items": [first]})
    assert (
        "upsert was not specified" in idle_hub.post(PATH, {"items": [other]}, status=400)["message"]
    )
    idle_hub.post(PATH, {"items": [other]}, upsert="true")
    assert len(idle_hub.get(PATH)["items"]) == 1


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        (item("git.example", "no pem"), "items[0].certData"),
        (item("https://git.example", pem(make_certificate())), "items[0].serverName"),
        (item("*.example", pem(make_certificate())), "items[0].serverName"),
        (item("git.example", make_certificate()), "private key"),
        ({**item("git.example", ""), "certData": "*"}, "items[0].certData"),
        (item("a b", ED, "ssh", "x"), "items[0]"),
        ({"serverName": "a", "certType": "ftp"}, "items[0].certType"),
        (item("a", "", "ssh", "x"), "items[0]"),
    ],
)
def test_what_cannot_be_a_certificate(idle_hub, entry, word):
    said = idle_hub.post(PATH, {"items": [entry]}, status=400)["message"]
    assert word in said and "PRIVATE" not in said
    assert idle_hub.get(PATH)["items"] == []


def test_who_may_not_trust_anything(idle_hub):
    idle_hub.post(PATH, {"items": [item("git.example", ED, "ssh", "ssh-ed25519")]})
    dev = Account.objects.create(name="dev", password="!", capabilities=["login"])
    token = issue(dev, timezone.now())
    idle_hub.post(
        PATH, {"items": [item("git.example", pem(make_certificate()))]}, status=403, token=token
    )
    idle_hub.delete(PATH, hostNamePattern="*", status=403, token=token)
    assert idle_hub.get(PATH, token=token)["items"] == []


def test_an_application_of_what_is_no_url_stops_no_certificate(idle_hub):
    GitRemote.objects.create(url="http://[")
    fine = GitRemote.objects.create(url="https://git.example/r", error="away")

    hosts_changed({"git.example"})

    fine.refresh_from_db()
    assert fine.error == ""


@pytest.mark.parametrize(("path", "field"), [("repocreds", "url"), ("repositories", "repo")])
def test_what_is_no_url_has_no_credentials(idle_hub, path, field):
    answer = idle_hub.post(f"/api/v1/{path}", {field: "http://["}, status=400)
    assert "not a repository URL" in answer["message"]
