"""Sweeps over everything that the hub answers: secrets, headers, poison, and many at once."""

import base64
import json
import logging
import re
import threading
from urllib.parse import quote, urlsplit

import httpx
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.hashers import make_password
from django.db import DataError, IntegrityError, InterfaceError, OperationalError, connections
from django.test import AsyncClient, Client
from django.urls import get_resolver
from django.utils import timezone

from hub.audit import chain
from hub.auth.sessions import issue
from hub.cli.login import _listener
from hub.models import Account, AuditEvent, ProjectPolicy, Role, access_changed
from hub.rest.framework import answer_error

CANARIES = {
    name: f"CANARY{n:02d}{name}"
    for n, name in enumerate(
        (
            "repopassword",
            "sshkey",
            "templatepassword",
            "clustertoken",
            "gitsecret",
            "livesecret",
            "annotation",
            "oidcsecret",
            "webhooksecret",
            "helmvalue",
            "accountpassword",
            "urlpassword",
        )
    )
}


def forms(text):
    raw = text.encode()
    yield from (
        text,
        base64.b64encode(raw).decode().rstrip("="),
        raw.hex(),
        quote(text, safe=""),
        text[::-1],
        json.dumps(text)[1:-1],
    )
    for shift in (1, 2):
        # Inside a longer text base64 looks different: its middle does not.
        yield base64.b64encode(b"x" * shift + raw).decode()[4:-4]


def assert_clean(text, where):
    for name, value in CANARIES.items():
        for form in forms(value):
            assert form not in text, (
                name,
                where,
                text[max(0, text.index(form) - 80) : text.index(form) + 80],
            )


def a_secret(name, value):
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {"password": value},
    }


def paths(app, namespace, cluster, repo):
    values = {
        "name": app,
        "pod": "web",
        "revision": "main",
        "repo": quote(repo, safe=""),
        "url": quote(repo, safe=""),
        "identity": quote(cluster, safe=""),
        "role": "r",
        "token_id": "t",
        "issued": "1",
        "resource": "applications",
        "action": "get",
        "key_id": "A",
        "slug": "company",
        "number": "1",
    }
    for pattern in get_resolver().url_patterns:
        view = getattr(getattr(pattern, "callback", None), "view_class", None)
        if view is None or not hasattr(view, "get"):
            continue
        text = str(pattern.pattern).strip("^$")
        text = re.sub(r"\(\?P<(\w+)>[^()]*\)", lambda m: values.get(m[1], "x"), text)
        text = re.sub(r"<uuid:\w+>", "00000000-0000-4000-8000-000000000000", text)
        for name in (app, "default"):
            yield "/" + re.sub(
                r"<\w+:(\w+)>",
                lambda m, name=name: name if m[1] == "name" else values.get(m[1], "x"),
                text,
            )


async def beginning(path, token):
    answer = await AsyncClient().get(path, headers={"Authorization": f"Bearer {token}"})
    text = ""
    if answer.streaming and not answer.is_async:
        text = (await sync_to_async(lambda: b"".join(answer.streaming_content))()).decode(
            errors="replace"
        )
    elif answer.streaming and answer.status_code == 200:
        lines = aiter(answer.streaming_content)
        import asyncio

        try:
            for _ in range(50):
                text += (await asyncio.wait_for(anext(lines), 1)).decode(errors="replace")
        except (TimeoutError, StopAsyncIteration):
            pass
    else:
        text = answer.content.decode(errors="replace")
    await sync_to_async(connections.close_all)()
    return text


def test_no_secret_comes_out_anywhere(hub, sandbox, repo, app, namespace, caplog):
    caplog.set_level(logging.DEBUG)
    c = CANARIES
    hub.post(
        "/api/v1/repositories",
        {
            "repo": repo.url,
            "username": "u",
            "password": c["repopassword"],
            "sshPrivateKey": c["sshkey"],
        },
        credsOnly="true",
    )
    hub.post(
        "/api/v1/repocreds",
        {"url": "https://git.example", "username": "u", "password": c["templatepassword"]},
    )
    hub.post(
        "/api/v1/clusters",
        {
            "server": "https://localhost:1",
            "name": "dead",
            "config": {"bearerToken": c["clustertoken"]},
        },
        status=400,
    )
    hub.put(
        "/api/v1/flotilla/sso/providers/company",
        {
            "type": "oidc",
            "config": {
                "issuer": "https://localhost:1",
                "clientID": "x",
                "clientSecret": c["oidcsecret"],
            },
        },
    )
    hub.put(
        "/api/v1/flotilla/audit/forward",
        {"webhook": {"url": "http://localhost:1/", "secret": c["webhooksecret"]}},
    )
    hub.post(
        "/api/v1/flotilla/accounts",
        {"name": "ci", "password": c["accountpassword"], "capabilities": ["login", "apiKey"]},
    )
    broken = {
        **a_secret("broken", ""),
        "stringData": None,
        "data": {"k": f"not base64 {c['gitsecret']}"},
    }
    files = {
        "secret.json": json.dumps(a_secret("one", c["gitsecret"])),
        "broken.json": json.dumps(broken),
        "map.json": json.dumps(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "b"}}
        ),
    }
    repo.commit(files)
    name = app(repo, sandbox, namespace, source={"helm": None})
    hub.wait_status(name, "OutOfSync")
    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait(
        lambda: (
            hub.application(name)["status"].get("operationState", {}).get("phase")
            in ("Failed", "Error", "Succeeded")
        ),
        "the sync",
        40,
    )
    live = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "one", "namespace": namespace},
        "stringData": {"password": c["livesecret"]},
    }
    live["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": json.dumps(
            {"data": {"password": base64.b64encode(c["annotation"].encode()).decode()}}
        )
    }
    sandbox.apply(live)
    spec = {**hub.application(name)["spec"]}
    spec["source"] = {
        **spec["source"],
        "helm": {"parameters": [{"name": "password", "value": c["helmvalue"]}]},
    }
    hub.post(
        "/api/v1/applications",
        {
            "metadata": {"name": "with-values"},
            "spec": {
                **spec,
                "source": {
                    **spec["source"],
                    "repoURL": f"https://u:{c['urlpassword']}@localhost:1/x.git",
                },
            },
        },
        status=None,
        validate="false",
    )
    # What people write into a spec its readers see; the trail and the logs must not have it all the
    # same.
    hub.delete("/api/v1/applications/with-values", cascade="false")
    hub.wait(
        lambda: hub.get("/api/v1/applications/with-values", status=None).get("code") == 7, "its end"
    )
    project = {
        "project": {
            "metadata": {"name": "default"},
            "spec": {
                "sourceRepos": ["*"],
                "destinations": [{"server": "*", "namespace": "*"}],
                "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
                "roles": [
                    {
                        "name": "r",
                        "policies": ["p, proj:default:r, applications, get, default/*, allow"],
                    }
                ],
            },
        },
        "upsert": True,
    }
    hub.post("/api/v1/projects", project)
    reader = Account.objects.create(name="reader", capabilities=["login"])
    hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": "g, reader, role:auditor"}})
    tokens = [
        hub.token,
        issue(reader, timezone.now()),
        hub.post("/api/v1/projects/default/roles/r/token", {})["token"],
    ]
    asked = 0
    for token in tokens:
        for path in paths(name, namespace, sandbox.server, repo.url):
            queries = (
                [
                    "",
                    f"?resourceName=one&kind=Secret&namespace={namespace}&version=v1",
                    "?project=default",
                ]
                if "/applications/" in path
                else [""]
            )
            for query in queries:
                assert_clean(async_to_sync(beginning)(path + query, token), path + query)
                asked += 1
    assert asked > 150
    chain.seal()
    assert_clean(str(list(AuditEvent.objects.values())), "audit rows")
    answer = Client().get(
        "/api/v1/flotilla/audit/export", headers={"Authorization": f"Bearer {hub.token}"}
    )
    assert_clean(b"".join(answer.streaming_content).decode(), "audit export")
    assert_clean(caplog.text, "logs")
    for row in (
        *hub.application(name)["status"].get("conditions", []),
        hub.application(name)["status"].get("operationState"),
    ):
        assert_clean(str(row), "status")


def test_every_answer_carries_the_headers_that_protect_browsers(idle_hub):
    pages = [
        "/",
        "/login",
        "/logout",
        "/account",
        "/audit",
        "/settings/sso",
        "/sso/x/login",
        "/static/app.css",
        "/api/version",
        "/api/v1/applications",
        "/api/v1/settings",
        "/healthz",
        "/metrics",
        "/.well-known/openid-configuration",
        "/identity/o/authorize",
        "/identity/o/device",
        "/nothing",
    ]
    for path in pages:
        answer = Client().get(
            path,
            headers={"Authorization": f"Bearer {idle_hub.token}"}
            if path.startswith("/api/v1")
            else {},
        )
        assert answer["X-Content-Type-Options"] == "nosniff", path
        assert answer["X-Frame-Options"].lower() in ("sameorigin", "deny"), path
        assert (
            "default-src 'self'" in answer["Content-Security-Policy"]
            and "unsafe" not in answer["Content-Security-Policy"]
        ), path
        assert answer["Referrer-Policy"] == "same-origin", path


def test_what_a_link_says_is_not_shown_at_sign_in(idle_hub):
    text = (
        Client()
        .get("/login?sso_error=You+were+hacked&has_sso_error=true&error=%3Cscript%3E")
        .content
    )
    assert b"hacked" not in text and b"<script>" not in text


def test_forms_of_pages_need_their_mark(idle_hub):
    browser = Client(enforce_csrf_checks=True)
    browser.cookies["argocd.token"] = idle_hub.token
    for path in (
        "/logout",
        "/account/password",
        "/audit/verify",
        "/audit/views",
        "/settings/sso",
        "/login",
    ):
        assert browser.post(path, {"x": "y"}).status_code == 403, path


def test_pages_ask_for_rights_and_hide_what_may_not_be_seen(idle_hub):
    person = Account.objects.create(name="bob", capabilities=["login"])
    access_changed("account", "bob", {})
    browser = Client()
    browser.cookies["argocd.token"] = issue(person, timezone.now())
    assert browser.get("/account").status_code == 200
    for path in ("/audit", "/settings/sso", "/audit/00000000-0000-4000-8000-000000000000"):
        assert browser.get(path).status_code == 404, path
    assert browser.post("/audit/verify").status_code == 404
    assert b'href="/audit"' not in browser.get("/account").content


def test_one_thing_that_cannot_be_read_stops_only_itself(idle_hub):
    bob = Account.objects.create(name="bob", capabilities=["login"])
    idle_hub.put(
        "/api/v1/flotilla/rbac", {"data": {"policy.csv": "p, bob, applications, get, */*, allow"}}
    )
    ProjectPolicy.objects.create(project="odd", roles=[None, "x", {"name": None, "policies": 7}])
    ProjectPolicy.objects.create(project="odder", roles={"a": 1})
    Role.objects.create(name="broken", rules=[{"resource": "x"}], members=[])
    access_changed("role", "broken", {})
    assert idle_hub.get("/api/v1/applications", token=issue(bob, timezone.now()))["items"] == []
    assert idle_hub.get(
        "/api/v1/account/can-i/applications/get/a/b", token=issue(bob, timezone.now())
    ) == {"value": "yes"}


def test_many_bad_sign_ins_at_once(idle_hub):
    statuses = []

    def guess(n):
        body = json.dumps({"username": f"u{n % 5}", "password": "x"})
        statuses.append(
            Client().post("/api/v1/session", body, content_type="application/json").status_code
        )
        connections.close_all()

    threads = [threading.Thread(target=guess, args=(n,)) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) == {401}


def test_credentials_change_while_others_read(idle_hub):
    problems = []

    def work(n):
        for k in range(6):
            url = f"https://git.example/{n}"
            idle = Client(headers={"Authorization": f"Bearer {idle_hub.token}"})
            made = idle.post(
                "/api/v1/repocreds?upsert=true",
                json.dumps({"url": url, "username": f"u{n}", "password": f"p{k}"}),
                content_type="application/json",
            )
            listed = idle.get("/api/v1/repocreds")
            problems.extend(a.content for a in (made, listed) if a.status_code >= 500)
        connections.close_all()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(idle_hub.get("/api/v1/repocreds")["items"]) == 6


def test_the_answer_page_of_the_command_line_is_harmless():
    listener = _listener(0)
    thread = threading.Thread(target=listener.handle_request)
    thread.start()
    port = listener.server_port
    answer = httpx.get(
        f"http://127.0.0.1:{port}/auth/callback?error=%3Cscript%3Ealert(1)%3C/script%3E"
    )
    thread.join()
    listener.server_close()
    assert (
        "<script>" not in answer.text
        and answer.headers["content-security-policy"] == "default-src 'none'"
    )


def test_the_provider_for_the_command_line_answers_only_to_loopback(idle_hub):
    client = Client()
    client.get("/api/v1/settings")
    browser = Client()
    browser.cookies["argocd.token"] = idle_hub.token
    base = {
        "client_id": "flotilla-cli",
        "response_type": "code",
        "scope": "openid",
        "state": "s",
        "code_challenge": "x" * 43,
        "code_challenge_method": "S256",
    }
    for bad in (
        "https://evil.example/auth/callback",
        "http://127.0.0.1:8085/other",
        "http://127.0.0.1:8085.evil.example/auth/callback",
        "javascript:alert(1)",
        "http://127.0.0.1:1/auth/callback",
    ):
        answer = browser.get("/identity/o/authorize", {**base, "redirect_uri": bad})
        assert answer.status_code >= 400 or urlsplit(answer.get("Location", "")).netloc in (
            "",
            "testserver",
        ), bad
    good = browser.get(
        "/identity/o/authorize", {**base, "redirect_uri": "http://127.0.0.1:8085/auth/callback"}
    )
    assert (
        good.status_code == 200 and b"Let the flotilla command line sign in as you?" in good.content
    )


def test_an_access_token_is_exchanged_once(idle_hub):
    for token in ("", "x", None):
        idle_hub.post(
            "/api/v1/flotilla/session/exchange",
            {"access_token": token},
            token="",
            status=401 if token == "x" else 400,
        )
    Account.objects.create(name="off", password=make_password("x"), enabled=False)


@pytest.mark.parametrize(
    ("error", "status"),
    [(OperationalError, 503), (InterfaceError, 503), (DataError, 400), (IntegrityError, 500)],
)
def test_what_a_database_says_of_itself_is_in_no_answer(error, status):
    answer = answer_error(error("CANARY host=10.0.0.1 password=x"), {})
    assert answer.status_code == status and "CANARY" not in str(answer.data)
