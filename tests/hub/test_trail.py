"""The audit trail: what is in it, that nobody can change it unseen, and what auditors get of it."""

import contextlib
import csv
import html
import io
import json
import random
import socket
import threading
import zipfile
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.utils import timezone
from typer.testing import CliRunner

from hub.audit import append_only, chain, forwarding, trail
from hub.audit.targets import syslog
from hub.cli.audit import verify_file
from hub.cli.main import build
from hub.cli.output import table
from hub.cli.problem import Problem
from hub.engine.audit_chain import GENESIS, digest_of, link_hash
from hub.models import (
    Account,
    AuditCheckpoint,
    AuditEvent,
    AuditGate,
    AuditLink,
    access_changed,
    change_setting,
)
from hub.tasks import seal_trail


@pytest.fixture
def events(idle_hub):
    del idle_hub
    for n in range(30):
        trail.record(
            "alice" if n % 2 else "bob",
            "update",
            "application",
            f"argocd/a{n % 5}",
            f"p{n % 3}",
            note=f"n{n}",
        )
    chain.seal()
    chain.checkpoint(force=True)


@pytest.fixture
def guarded(transactional_db):
    del transactional_db
    append_only.install(connection)
    yield
    append_only.remove(connection)


def export(hub, tmp_path, name="audit.jsonl", **query):
    headers = {"Authorization": f"Bearer {hub.token}"}
    answer = hub.client.get("/api/v1/flotilla/audit/export", query, headers=headers)
    assert answer.status_code == 200, answer.content
    path = tmp_path / name
    path.write_bytes(b"".join(answer.streaming_content))
    return path


def key_file(tmp_path):
    path = tmp_path / "key.pem"
    path.write_text(chain.public_pem())
    return str(path)


# --- the chain ---


def test_an_intact_trail(idle_hub, events):
    found = idle_hub.post("/api/v1/flotilla/audit/verification")
    assert found["intact"] and found["rows"] >= 30 and found["lastSigned"] >= 30
    assert idle_hub.get("/api/v1/flotilla/audit/verification")["checkedAt"] == found["checkedAt"]
    assert AuditEvent.objects.filter(verb="verify").exists()


@pytest.mark.parametrize("column", ["actor", "object", "detail", "at", "outcome", "who", "change"])
def test_an_altered_event_is_named(events, column):
    link = AuditLink.objects.get(sequence=12)
    values = {"detail": {"note": "x"}, "at": timezone.now(), "who": {"a": 1}, "change": {"b": 1}}
    AuditEvent.objects.filter(pk=link.event_id).update(**{column: values.get(column, "mallory")})
    found = chain.check()
    assert found.problems[0].startswith("row 12:") and "altered" in found.problems[0]


def test_a_removed_event_and_a_removed_link_are_named(events):
    AuditEvent.objects.filter(pk=AuditLink.objects.get(sequence=7).event_id).delete()
    assert chain.check().problems[0].startswith("row 7:")
    AuditLink.objects.filter(sequence=7).delete()
    assert chain.check().problems[0].startswith("row 7: missing")


def test_rows_cut_off_at_the_end_are_named(events):
    AuditLink.objects.filter(sequence__gte=25).delete()
    assert "row 25: missing" in chain.check().problems[0]


def test_exchanged_rows_are_named(events):
    one, other = AuditLink.objects.get(sequence=4), AuditLink.objects.get(sequence=9)
    AuditLink.objects.filter(sequence__in=(4, 9)).delete()
    AuditLink.objects.create(
        sequence=4, event_id=other.event_id, digest=other.digest, hash=one.hash
    )
    AuditLink.objects.create(sequence=9, event_id=one.event_id, digest=one.digest, hash=other.hash)
    assert chain.check().problems[0].startswith("row 4:")


def test_a_recomputed_chain_does_not_have_the_signature(events):
    link = AuditLink.objects.get(sequence=3)
    AuditEvent.objects.filter(pk=link.event_id).update(actor="mallory")
    previous = AuditLink.objects.get(sequence=2).hash
    for row in AuditLink.objects.filter(sequence__gte=3).order_by("sequence"):
        digest = digest_of(chain.event_json(AuditEvent.objects.get(pk=row.event_id)))
        previous = link_hash(previous, row.sequence, digest)
        AuditLink.objects.filter(pk=row.pk).update(digest=digest, hash=previous)
    assert "checkpoint" in chain.check().problems[0]
    AuditCheckpoint.objects.all().update(hash=previous)
    assert "not signed by" in chain.check().problems[0]


def test_events_of_late_transactions_come_into_the_chain(idle_hub):
    first = trail.record("a", "x", "y", "z")
    trail.record("b", "x", "y", "z")
    early = AuditLink(
        sequence=1,
        event_id=first.pk + 1,
        digest=digest_of(chain.event_json(AuditEvent.objects.get(pk=first.pk + 1))),
        hash="",
    )
    early.hash = link_hash(GENESIS, 1, early.digest)
    early.save()
    assert chain.has_unsealed()
    assert chain.seal() == 1
    assert chain.check().is_intact
    assert not chain.has_unsealed()


def test_the_database_refuses_changes(guarded):
    event = trail.record("a", "x", "y", "z")
    chain.seal()
    chain.checkpoint(force=True)
    for change in (
        lambda: AuditEvent.objects.filter(pk=event.pk).update(actor="m"),
        event.delete,
        AuditLink.objects.all().delete,
        lambda: AuditLink.objects.update(hash="x"),
        AuditCheckpoint.objects.all().delete,
    ):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            change()
    assert AuditEvent.objects.get(pk=event.pk).actor == "a"


def test_retention_leaves_a_chain_that_can_be_checked(guarded, tmp_path):
    old = timezone.now() - timedelta(days=500)
    for n in range(6):
        trail.record("a", "login", "session", f"s{n}")
    append_only.remove(connection)
    AuditEvent.objects.update(at=old)
    append_only.install(connection)
    trail.record("a", "update", "application", "kept")
    chain.seal()
    assert chain.retain(timezone.now()) == 6
    assert chain.retain(timezone.now()) == 0
    assert not AuditGate.objects.exists()
    chain.seal()
    found = chain.check()
    assert found.is_intact and found.expired == 6
    append_only.remove(connection)
    AuditEvent.objects.filter(object="kept").delete()
    assert chain.check().problems[0].startswith("row 7:")
    append_only.install(connection)


def test_many_writers_make_one_chain(idle_hub):
    def write(name):
        for n in range(20):
            trail.record(name, "update", "thing", str(n))
            if n % 5 == 0:
                chain.seal()
        connections.close_all()

    threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chain.seal()
    assert AuditLink.objects.count() == AuditEvent.objects.count() == 80
    assert chain.check().is_intact


def test_a_change_and_its_event_stand_or_fall_together(idle_hub):
    with pytest.raises(RuntimeError), transaction.atomic():
        trail.record("a", "x", "y", "z")
        raise RuntimeError
    assert not AuditEvent.objects.exists()


# --- exports ---


def test_an_auditor_exports_a_month_and_one_byte_is_altered(
    idle_hub, events, tmp_path, monkeypatch
):
    append_only.remove(connection)
    march = datetime(2026, 3, 10, tzinfo=UTC)
    chosen = [AuditLink.objects.get(sequence=n).event_id for n in range(10, 20)]
    # The month lies in the middle of the trail, so the export has an anchor before and links after.
    AuditLink.objects.all().delete()
    AuditCheckpoint.objects.all().delete()
    AuditEvent.objects.filter(pk__in=chosen).update(at=march)
    chain.seal()
    path = export(idle_hub, tmp_path, **{"from": "2026-03-01", "to": "2026-03-31"})
    lines = path.read_text().splitlines()
    assert json.loads(lines[0])["anchor"]["sequence"] == 9
    assert sum("event" in json.loads(line) for line in lines) == 10
    runner = CliRunner()
    good = runner.invoke(
        build("audit"), ["audit", "verify", str(path), "--key", key_file(tmp_path)]
    )
    assert good.exit_code == 0 and "Intact" in good.output and "signed up to row" in good.output
    data = bytearray(path.read_bytes())
    place = data.index(b"alice", data.index(b'"sequence":14'))
    data[place] ^= 1
    path.write_bytes(data)
    bad = runner.invoke(build("audit"), ["audit", "verify", str(path), "--key", key_file(tmp_path)])
    row = next(
        json.loads(line)["sequence"] for line in bytes(data).splitlines() if b"`lice" in line
    )
    assert bad.exit_code == 1 and f"row {row}:" in bad.output


def test_every_byte_of_an_export_counts(idle_hub, events, tmp_path):
    path = export(idle_hub, tmp_path)
    data, key = path.read_bytes(), key_file(tmp_path)
    first = data.index(b"\n") + 1
    choose = random.Random(3)
    for _ in range(150):
        place = choose.randrange(first, len(data) - 1)
        changed = bytearray(data)
        changed[place] ^= 1 << choose.randrange(7)
        path.write_bytes(changed)
        assert not verify_file(str(path), key).verdict.is_intact, bytes(
            changed[place - 40 : place + 40]
        )
    for cut in (data[: data.rindex(b'{"checkpoint"')], b"\n".join(data.splitlines()[:10])):
        path.write_bytes(cut)
        found = verify_file(str(path), key)
        assert found.verdict.problems or not found.verdict.last_signed


def test_a_bundle(idle_hub, events, tmp_path):
    path = export(idle_hub, tmp_path, "audit.zip", format="bundle", project="p1")
    found = verify_file(str(path), key_file(tmp_path))
    assert found.verdict.is_intact and found.verdict.last_signed
    with zipfile.ZipFile(path) as archive:
        files = {n: archive.read(n) for n in archive.namelist()}
    assert b"p2" not in files["events.csv"]
    for name, old, new in (
        ("events.csv", b"alice", b"mallo"),
        ("events.jsonl", b"alice", b"mallo"),
        ("manifest.json", b"p1", b"p2"),
    ):
        changed = tmp_path / "changed.zip"
        with zipfile.ZipFile(changed, "w") as archive:
            for n, d in files.items():
                archive.writestr(n, d.replace(old, new) if n == name else d)
        problems = verify_file(str(changed), key_file(tmp_path)).verdict.problems
        assert problems and (
            problems[0].startswith("row ") if name == "events.jsonl" else name in problems[0]
        )
    with pytest.raises(Problem):
        verify_file(key_file(tmp_path), "")


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_damaged_bundle_is_an_error_in_words(tmp_path, kind):
    whole, damaged = io.BytesIO(), tmp_path / "damaged.zip"
    with zipfile.ZipFile(whole, "w", kind) as archive:
        for name in ("manifest.json", "manifest.sig", "public-key.pem", "events.jsonl"):
            archive.writestr(name, b'{"files": []}' * 9)
    source = random.Random(7)
    for _ in range(400):
        data = bytearray(whole.getvalue())
        for _ in range(source.randint(1, 3)):
            data[source.randrange(len(data))] = source.randrange(256)
        damaged.write_bytes(bytes(data))
        with pytest.raises(Problem):
            verify_file(str(damaged), "")


def test_an_export_signed_by_another_key(idle_hub, events, tmp_path, settings):
    path = export(idle_hub, tmp_path)
    settings.SECRET_KEY = "another secret key of the hub, long enough"
    assert "not signed by" in verify_file(str(path), key_file(tmp_path)).verdict.problems[0]
    assert verify_file(str(path), "").notes


def test_csv_has_no_formulas(idle_hub, tmp_path):
    trail.record("=cmd()", "update", "thing", "@x", "-p")
    text = export(idle_hub, tmp_path, format="csv").read_text()
    assert "'=cmd()" in text and "'@x" in text and ",=cmd" not in text


FORMULAS = ["=cmd()", "+1", "-1", "@x", "\t=cmd()", "\r=cmd()", "\n=cmd()", " =cmd()", "＝cmd()"]


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_of_an_export_begins_like_a_formula(idle_hub, tmp_path, formula):
    trail.begin("10.0.0.1", formula, formula)
    trail.record(
        formula,
        "update",
        "thing",
        formula,
        formula,
        cluster=formula,
        revisions=[formula],
        before=formula,
        after=f"{formula}2",
        note=formula,
    )
    trail.begin("")
    text = export(idle_hub, tmp_path, format="csv").read_text()

    for row in csv.reader(io.StringIO(text)):
        for value in row:
            assert value.lstrip()[:1] not in tuple("=+-@＝") or value.startswith("'"), row
            assert value[:1] not in ("\t", "\r", "\n"), row


def test_a_message_of_syslog_is_one_line_and_as_long_as_it_says(idle_hub):
    evil = 'x\n<110>1 - - flotilla - audit - {"event": {}}\r\n\x01\u2028ü'
    trail.begin("10.0.0.1", evil, evil)
    trail.record(evil, "update", "thing", evil, note=evil, more={"a": evil})
    trail.begin("")
    row = {"event": chain.event_json(AuditEvent.objects.latest("pk"))}

    framed, plain = syslog.message(row, framed=True), syslog.message(row, framed=False)

    length, _, rest = framed.partition(b" ")
    assert int(length) == len(rest) and rest == plain
    assert not set(plain) & set(range(32)), (
        "a newline would end the message for who counts no octets"
    )
    assert json.loads(plain[plain.index(b"{") :])["event"]["detail"]["more"] == {"a": evil}


def test_the_trail_steers_no_terminal(capsys):
    table(["ACTOR", "WHY"], [["a\x1b[2J\x9b1m\r\n", "\u202eevil\x07"]])

    out = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in out) and out.count("\n") == 2


# --- review ---


def test_filters_words_and_pages(idle_hub, events):
    def found(**query):
        return idle_hub.get("/api/v1/flotilla/audit", **query)["items"]

    assert {e["actor"] for e in found(actor="alice")} == {"alice"}
    assert len(found(project=["p1", "p2"], kind="application")) == 20
    assert len(found(object="argocd/a1*", kind="application")) == 6
    assert [e["detail"]["note"] for e in found(q="N17")] == ["n17"]
    assert found(q="alice n17") and not found(q="bob n17")
    assert len(found(**{"from": "2026-01-01", "to": "2026-01-02"})) == 0
    first = idle_hub.get("/api/v1/flotilla/audit", limit=10, kind="application")
    rest = idle_hub.get(
        "/api/v1/flotilla/audit", limit=10, kind="application", before=first["metadata"]["before"]
    )
    assert first["items"][-1]["number"] > rest["items"][0]["number"]
    one = idle_hub.get(f"/api/v1/flotilla/audit/{first['items'][0]['id']}")
    assert one == first["items"][0] and one["sequence"]
    idle_hub.get("/api/v1/flotilla/audit", **{"from": "soon"}, status=400)
    idle_hub.get("/api/v1/flotilla/audit/00000000-0000-4000-8000-000000000000", status=404)


def test_an_auditor_reads_and_changes_nothing(idle_hub, events):
    from hub.auth.sessions import issue

    person = Account.objects.create(name="ann", capabilities=["login"])
    idle_hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": "g, ann, role:auditor"}})
    token = issue(person, timezone.now())
    assert idle_hub.get("/api/v1/flotilla/audit", token=token)["items"]
    idle_hub.post("/api/v1/flotilla/audit/verification", token=token)
    idle_hub.post(
        "/api/v1/flotilla/audit/views", {"name": "mine", "query": {"project": "p1"}}, token=token
    )
    assert idle_hub.get("/api/v1/flotilla/audit/views", token=token)["items"][0]["query"] == {
        "project": "p1"
    }
    assert idle_hub.get("/api/v1/flotilla/audit/views")["items"] == []
    idle_hub.delete("/api/v1/flotilla/audit/views", name="mine", token=token)
    idle_hub.put("/api/v1/flotilla/audit/retention", {"change": 30}, token=token, status=403)
    idle_hub.put("/api/v1/flotilla/rbac", {"data": {}}, token=token, status=403)
    idle_hub.put("/api/v1/flotilla/audit/forward", {}, token=token, status=403)


@pytest.mark.parametrize("body", [{"nope": 1}, {"change": 5}, {"change": "x"}, {"change": True}])
def test_retention_that_cannot_be(idle_hub, body):
    idle_hub.put("/api/v1/flotilla/audit/retention", body, status=400)


def test_who_changed_what_with_reason_and_identity(idle_hub):
    headers = {
        "Authorization": f"Bearer {idle_hub.token}",
        "X-Flotilla-Reason": "fix",
        "X-Flotilla-Ticket": "INC-9",
    }
    rule = {"resource": "logs", "action": "get", "object": "*"}
    idle_hub.client.put(
        "/api/v1/flotilla/roles/r",
        json.dumps({"rules": [rule]}),
        content_type="application/json",
        headers=headers,
    )
    event = AuditEvent.objects.get(kind="role")
    assert (event.actor, event.verb, event.reason, event.ticket) == (
        "admin",
        "create",
        "fix",
        "INC-9",
    )
    assert event.who["account"] == "admin" and event.who["session"] and event.address == "127.0.0.1"
    assert event.change["after"] and any(c["path"] == "rules" for c in event.change["changes"])


def test_reports(idle_hub, events):
    report = idle_hub.get(
        "/api/v1/flotilla/audit/reports/changes", **{"from": "2020-01-01", "project": "p1"}
    )
    assert report["items"] and all(
        i["changes"][0]["actor"] in ("alice", "bob") for i in report["items"]
    )
    idle_hub.get("/api/v1/flotilla/audit/reports/changes", status=400)
    began = trail.record(
        "dev", "sync", "application", "argocd/web", "pay", operation=7, revisions=["abc"]
    )
    trail.record("lead", "confirm-deletion", "application", "argocd/web", "pay")
    trail.record(
        "dev",
        "operation-ended",
        "application",
        "argocd/web",
        "pay",
        operation=7,
        revisions=["abc"],
        phase="Succeeded",
        commits=[{"author": "Ann <a@x>", "revision": "abc"}],
        manifests="d1",
        drift_seconds=42,
    )
    (one,) = idle_hub.get("/api/v1/flotilla/audit/reports/deployments", project="pay")["items"]
    assert (
        one["initiator"],
        one["approvers"],
        one["authors"],
        one["driftSeconds"],
        one["manifestsDigest"],
    ) == ("dev", ["lead"], ["Ann <a@x>"], 42, "d1")
    assert one["operation"] == began.operation


def test_who_could_at_a_time(idle_hub):
    idle_hub.post("/api/v1/flotilla/accounts", {"name": "bob"})
    ask = {"resource": "applications", "action": "sync", "object": "pay/web"}

    def could(at):
        found = idle_hub.get("/api/v1/flotilla/audit/reports/access", at=at.isoformat(), **ask)
        return {a["account"] for a in found["accounts"]}

    before = timezone.now()
    idle_hub.put(
        "/api/v1/flotilla/rbac",
        {
            "data": {
                "policy.csv": (
                    "p, bob, applications, sync, pay/*, allow\n"
                    "p, g1, applications, sync, pay/*, allow"
                )
            }
        },
    )
    access_changed(
        "account",
        "oidc:1",
        {"issuer": "https://idp", "subject": "s", "groups": ["g1"], "enabled": True},
    )
    during = timezone.now()
    idle_hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": ""}})
    grant = idle_hub.post(
        "/api/v1/flotilla/grants", {"subject": "bob", "duration": "1h", "reason": "x", **ask}
    )
    granted = timezone.now()
    idle_hub.delete(f"/api/v1/flotilla/grants/{grant['id']}")
    assert could(before) == {"admin"}
    assert could(during) == {"admin", "bob", "oidc:1"}
    assert could(granted) == {"admin", "bob"}
    assert could(timezone.now()) == {"admin"}
    idle_hub.get("/api/v1/flotilla/audit/reports/access", **ask, status=400)


# --- sending on ---


class Sink(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        sink = self.server
        sink.asked += 1
        maximum = sink.maximum and len(body.splitlines()) > sink.maximum
        status = 413 if maximum else sink.status
        if status == 200:
            sink.got.append((self.headers.get("X-Flotilla-Signature"), body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def sink():
    """A webhook that takes events, or does not."""
    server = HTTPServer(("127.0.0.1", 0), Sink)
    server.got, server.status, server.maximum, server.asked = [], 200, 0, 0
    server.url = f"http://127.0.0.1:{server.server_port}/x"
    server.rows = lambda: [json.loads(line) for _, body in server.got for line in body.splitlines()]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def datagrams():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        yield server


def happen(count, **fields):
    for number in range(count):
        trail.record("a", "update", "thing", f"n{number}", **fields)
    chain.seal()


def test_events_go_to_a_webhook_once_each_and_again_after_a_failure(idle_hub, sink):
    import hmac

    idle_hub.put(
        "/api/v1/flotilla/audit/forward", {"webhook": {"url": sink.url, "secret": "CANARY-hook"}}
    )
    happen(1)
    sink.status = 500
    assert forwarding.send() == 0
    told = idle_hub.get("/api/v1/flotilla/audit/forward")
    assert "did not take" in told["error"] and told["webhook"]["nextTry"]
    sink.status = 200
    sent = forwarding.send(timezone.now() + timedelta(seconds=6))
    assert sent >= 1 and forwarding.send() == 0
    told = idle_hub.get("/api/v1/flotilla/audit/forward")
    assert told["error"] == "" and "nextTry" not in told["webhook"] and told["sentThrough"] > 0
    signature, body = sink.got[0]
    assert signature == "sha256=" + hmac.digest(b"CANARY-hook", body, "sha256").hex()
    sequences = [r["sequence"] for r in sink.rows()]
    assert sequences == sorted(set(sequences))
    assert "CANARY" not in str(idle_hub.get("/api/v1/flotilla/audit/forward"))
    assert "CANARY" not in str(list(AuditEvent.objects.values()))


def test_a_target_that_fails_is_tried_ever_more_rarely(idle_hub, sink):
    idle_hub.put("/api/v1/flotilla/audit/forward", {"webhook": {"url": sink.url}})
    sink.status = 503
    now = timezone.now()
    for seconds in range(0, 3600, 5):  # as the sweep does, and something happens all the time
        if seconds % 60 == 0:
            happen(1)
        forwarding.send(now + timedelta(seconds=seconds))
    # After 0, 5, 15, 35, 75, 155 and 315 s, then every five minutes.
    assert 15 <= sink.asked <= 19
    sink.status = 200
    assert forwarding.send(now + timedelta(seconds=3900)) >= 60
    assert forwarding.send(now + timedelta(seconds=3900)) == 0


def test_a_target_that_fails_keeps_nothing_from_the_other(idle_hub, sink, datagrams):
    address = f"127.0.0.1:{datagrams.getsockname()[1]}"
    idle_hub.put(
        "/api/v1/flotilla/audit/forward",
        {"webhook": {"url": sink.url}, "syslog": {"address": address, "protocol": "udp"}},
    )
    sink.status = 500
    now = timezone.now()
    for n in range(3):
        happen(2)
        forwarding.send(now + timedelta(seconds=60 * n))
    sink.status = 200
    forwarding.send(now + timedelta(seconds=600))
    datagrams.setblocking(False)
    heard = []
    with contextlib.suppress(BlockingIOError):
        while True:
            data = datagrams.recv(70_000)
            heard.append(json.loads(data[data.index(b"{") :])["sequence"])
    assert heard == [r["sequence"] for r in sink.rows()] == sorted(set(heard)) and len(heard) >= 6


def test_what_a_target_raises_stops_neither_sealing_nor_the_other(idle_hub, sink):
    """A name that leads into the machine by now, an answer that is none: whatever it is."""
    idle_hub.put("/api/v1/flotilla/audit/forward", {"webhook": {"url": sink.url}})
    change_setting(
        "audit_forward",
        {
            "syslog": {"address": "127.0.0.1:0", "protocol": "tcp"},
            "webhook": {"url": "http://169.254.169.254/", "secret": ""},
        },
    )
    change_setting("audit_forward_state", {"syslog": {"through": 0}, "webhook": {"through": 0}})
    trail.record("a", "update", "thing", "one")
    seal_trail()
    told = idle_hub.get("/api/v1/flotilla/audit/forward")
    assert "webhook: Invalid" in told["error"] and "syslog: " in told["error"]
    assert not chain.has_unsealed()


def test_a_webhook_that_takes_only_a_little_gets_a_little(idle_hub, sink):
    idle_hub.put("/api/v1/flotilla/audit/forward", {"webhook": {"url": sink.url}})
    sink.maximum = 3
    happen(20)
    assert forwarding.send() >= 20
    assert max(len(body.splitlines()) for _, body in sink.got) <= 3
    sequences = [r["sequence"] for r in sink.rows()]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))


def test_an_event_that_is_longer_than_a_datagram_is_cut(idle_hub, datagrams):
    address = f"127.0.0.1:{datagrams.getsockname()[1]}"
    idle_hub.put(
        "/api/v1/flotilla/audit/forward", {"syslog": {"address": address, "protocol": "udp"}}
    )
    chain.seal()
    forwarding.send()
    happen(1, text="x" * 200_000)
    happen(1)
    assert forwarding.send() == 2
    found = []
    while len(found) < 2 or not found[-2].get("cut"):
        data = datagrams.recv(70_000)
        found.append(json.loads(data[data.index(b"{") :]))
    long = next(row for row in found if row.get("cut"))
    assert long["event"]["actor"] == "a" and "detail" not in long["event"] and long["digest"]
    assert "cut" not in found[-1]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_events_go_to_syslog(idle_hub, protocol):
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        if protocol == "tcp":
            server.listen(1)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        idle_hub.put(
            "/api/v1/flotilla/audit/forward", {"syslog": {"address": address, "protocol": protocol}}
        )
        chain.seal()
        assert forwarding.send() >= 1
        data = server.accept()[0].recv(100_000) if protocol == "tcp" else server.recv(100_000)
    if protocol == "tcp":
        length, _, data = data.partition(b" ")
        data = data[: int(length)]
    assert data.startswith(b"<110>1 ") and json.loads(data[data.index(b"{") :])["event"]["kind"]


@pytest.mark.parametrize(
    "body",
    [
        {"x": {}},
        {"syslog": {"address": "nope"}},
        {"webhook": {"url": "javascript:x"}},
        {"webhook": {"url": "http://169.254.169.254/"}},
        {"webhook": "x"},
    ],
)
def test_targets_that_cannot_be(idle_hub, body):
    idle_hub.put("/api/v1/flotilla/audit/forward", body, status=400)


def test_pages_of_the_trail_show_values_as_people_write_them(idle_hub):
    event = trail.record(
        "admin",
        "update",
        "account",
        "ann",
        before={"capabilities": ["login"], "isActive": True, "quota": None},
        after={"capabilities": ["login", "apiKey"], "isActive": False, "quota": {"max": 1}},
    )
    idle_hub.client.cookies["argocd.token"] = idle_hub.token
    for path in (f"/audit/{event.uid}", "/audit/reports?report=changes&from=2020-01-01"):
        text = html.unescape(idle_hub.client.get(path).content.decode())
        assert "login, apiKey" in text and '{"max":1}' in text
        assert "['login'" not in text and "True" not in text
