"""The access decision comes first: a refused caller moves nothing in the world, and learns nothing
of it.
"""

import contextlib
import itertools
import json
import re
import socket
import subprocess
from functools import partial

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.hashers import make_password
from django.db import connection
from django.urls import get_resolver
from django.utils import timezone
from support.routes import a_url, routes
from support.sets import elements, manifest

from clusters.models import Cluster
from hub.auth.sessions import issue
from hub.events.waiter import Waiter
from hub.models import Account, access_changed, next_version
from projects import sources
from projects.models import Application, CredentialTemplate, Project, Repository

HOST = "https://host.example"
SPEC = {
    "project": "theirs",
    "source": {"repoURL": f"{HOST}/r.git", "path": "."},
    "destination": {"server": HOST, "namespace": "x"},
}


class World:
    """Counts what a request does beside its answer and its line in the trail."""

    def __init__(self, monkeypatch):
        self.done = []
        for owner, name in (
            (socket, "getaddrinfo"),
            (socket.socket, "connect"),
            (subprocess, "Popen"),
            (sources, "load"),
            (sources, "resolve"),
            (sources, "load_local"),
        ):
            monkeypatch.setattr(owner, name, self._counted(name))

    def _counted(self, name):
        def called(*args, **_kwargs):
            self.done.append(f"{name} {str(args)[:80]}")
            raise OSError(f"{name} of a refused caller")

        return called

    def __call__(self, execute, sql, params, many, context):
        words = sql.split(None, 3)
        is_trail = "hub_auditevent" in sql or "hub_setting" in sql
        # A session says once a minute that it is used, whatever is asked.
        is_trail = is_trail or 'UPDATE "hub_loginsession" SET "last_used_at"' in sql
        if words[0] in ("INSERT", "UPDATE", "DELETE") and not is_trail:
            self.done.append(sql[:100])
        return execute(sql, params, many, context)


@pytest.fixture
def world(idle_hub, monkeypatch):
    found = World(monkeypatch)
    with connection.execute_wrapper(found):
        yield found


POLICY = "p, neighbour, {}, *, mine/*, allow\n"
RESOURCES = (
    "applications",
    "applicationsets",
    "repositories",
    "clusters",
    "logs",
    "exec",
    "write-repositories",
)


@pytest.fixture
def people(idle_hub):
    """Return the tokens of a stranger and of somebody with every right to another project."""
    lines = (
        "".join(POLICY.format(r) for r in RESOURCES) + "p, neighbour, projects, *, mine, allow\n"
    )
    idle_hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": lines}})
    tokens = {}
    for name in ("stranger", "neighbour"):
        account = Account.objects.create(
            name=name, password=make_password("pass word"), capabilities=["login", "apiKey"]
        )
        access_changed("account", name, {})
        tokens[name] = issue(account, timezone.now())
    Project.objects.create(name="mine", spec={"sourceRepos": ["*"], "destinations": []})
    return tokens


@pytest.fixture
def theirs(idle_hub):
    """Everything of another team, called as the addresses of the walk call it."""
    wide = {
        "sourceRepos": ["*"],
        "destinations": [{"server": "*", "namespace": "*"}],
        "roles": [{"name": "x", "policies": []}],
    }

    def make():
        Project.objects.create(name="theirs", spec=wide)
        Project.objects.create(name="x", spec=wide)
        cluster = Cluster.objects.create(server="x", name="x", project="theirs")
        Cluster.objects.create(server=HOST, name="host", project="theirs")
        Application.objects.create(
            namespace="argocd",
            name="x",
            project="theirs",
            spec=SPEC,
            cluster=cluster,
            resource_version=next_version(),
        )
        Repository.objects.create(url="x", project="theirs", credentials={"password": "p"})
        Repository.objects.create(url=f"{HOST}/r.git", project="theirs", credentials={})
        CredentialTemplate.objects.create(url="x", credentials={"password": "p"})
        idle_hub.post("/api/v1/applicationsets", manifest("x", elements("made"), project="theirs"))
        idle_hub.post(
            "/api/v1/flotilla/secrets",
            {"name": "x", "data": {"a": "b"}, "servers": [HOST], "project": "theirs"},
            status=None,
        )
        idle_hub.put("/api/v1/flotilla/roles/x", {"rules": []})

    return make


def everything(name="x"):
    """Return a body that names hosts, repositories, clusters and applications in every field that
    routes read.
    """
    metadata = {"name": name, "namespace": "argocd"}
    the_set = manifest(name, elements("made"), project="theirs")
    scm = {"scmProvider": {"github": {"organization": "o", "api": HOST}}}
    return {
        **the_set,
        "spec": {**SPEC, **the_set["spec"], "generators": [scm]},
        "metadata": metadata,
    } | {
        "server": HOST,
        "repo": f"{HOST}/r.git",
        "url": HOST,
        "type": "git",
        "project": "theirs",
        "config": {"bearerToken": "t"},
        "source": SPEC["source"],
        "sources": [SPEC["source"]],
        "applicationSet": the_set | {"spec": {**the_set["spec"], "generators": [scm]}},
        "applications": ["x"],
        "action": "sync",
        "options": {},
        "patch": "{}",
        "patchType": "merge",
        "password": "long enough",
        "subject": "x",
        "resource": "applications",
        "object": "theirs/x",
        "duration": "1h",
        "reason": "r",
        "query": {"name": name},
        "items": [
            {
                "serverName": "host.example",
                "certType": "ssh",
                "certSubType": "ssh-rsa",
                "certData": "AAAA",
            }
        ],
        "value": True,
        "data": {"policy.csv": ""},
        "rules": [],
        "appName": "x",
        "appProject": "theirs",
        "manifests": ["{}"],
        "role": "x",
        "keyData": "k",
        "servers": [HOST],
        "id": "x",
        "name": name,
    }


def bodies():
    """Return bodies by what is wrong with them."""
    whole = everything()
    return {
        "whole": whole,
        "wrapped": {"project": {"metadata": {"name": "theirs"}, "spec": {}}},
        "empty": {},
        "a list": [],
        "a bad name": {
            **whole,
            "metadata": {"name": "Bad Name"},
            "server": "nonsense",
            "repo": "javascript:x",
            "url": "javascript:x",
        },
        "bad fields": {
            **whole,
            "spec": {"project": "theirs", "source": 5},
            "config": 5,
            "labels": 5,
            "rules": 5,
            "resources": 5,
            "prune": "x",
            "revision": 5,
        },
    }


QUERY = (
    "resourceName=x&kind=Pod&namespace=x&version=v1&group=&repo=https://host.example/r.git&"
    "project=theirs&appName=x&appProject=theirs&name=x&revision=x&targetRevision=HEAD&q=x&"
    "url=https://host.example&refresh=hard&forceRefresh=true"
)


def requests():
    """Yield (method, address) of every route that has a permission."""
    for path, view in routes():
        if "api/v1/" not in path or view.permission[1] == "public":
            continue
        url = a_url(path)
        if "/stream/" in url or url.endswith("/watch"):
            continue  # streams have tests of their own
        for method in ("get", "post", "put", "patch", "delete"):
            if hasattr(view, method):
                yield view, method.upper(), url


READS = {"/api/v1/flotilla/explain", "/api/v1/account/can-i/x/x/x"}
OWN = {"/api/v1/account/password"}
"""What is about the caller alone: its answers say nothing of anybody else."""


def ask(hub, token, method, url, body=None):
    answer = hub.client.generic(
        method,
        url,
        data="" if body is None else json.dumps(body),
        content_type="application/json",
        CONTENT_TYPE="application/json",
        HTTP_AUTHORIZATION=f"Bearer {token}",
    )
    return answer.status_code, answer.content.decode()


def walked(hub, people):
    """Yield (what is asked, a call that asks it) for everybody, every route and every body."""
    for view, method, url in requests():
        given = bodies() if method not in ("GET", "DELETE") else {"whole": None}
        for (who, token), (what, body) in itertools.product(people.items(), given.items()):
            if who == "stranger" and what not in ("whole", "bad fields"):
                continue
            for query in ("", f"?{QUERY}") if what == "whole" else ("",):
                asked = (view.permission, who, method, url, what, bool(query))
                yield asked, partial(ask, hub, token, method, url + query, body)


@pytest.mark.timeout(400)
def test_a_refused_caller_moves_nothing_and_learns_nothing(idle_hub, people, theirs, world):
    """The same requests before and after everything that they name is there: refused alike, and
    nothing else happens.
    """
    for token in people.values():
        ask(idle_hub, token, "GET", "/api/v1/session/userinfo")  # marks the session as used
    before = [(asked, _refused(world, asked, call)) for asked, call in walked(idle_hub, people)]
    theirs()
    after = [(asked, _refused(world, asked, call)) for asked, call in walked(idle_hub, people)]
    assert len(before) > 700
    for one, other in zip(before, after, strict=True):
        assert one == other


def _refused(world, asked, call):
    """Return the answer to a request that was refused; of a list, and of what is the caller's own,
    nothing.
    """
    (_, kind), who, method, url, what, _query = asked
    world.done.clear()
    status, text = call()
    assert not world.done, (*asked, text[:200], world.done)
    if (method == "GET" and status == 200) or url in OWN | READS:
        assert "theirs" not in text, (*asked, text[:300])
        return None
    if kind == "signed-in":
        assert status in (200, 400, 403, 404, 501), (*asked, status, text[:200])
    elif status != 403:
        # A body that names nothing may be called that.
        names_nothing = what == "a list" or (url.endswith("WithFiles") and what != "whole")
        assert (status, who, names_nothing) == (400, "neighbour", True), (
            *asked,
            status,
            text[:200],
        )
    # A refusal repeats the name that was asked for, and when the session was issued.
    return status, re.sub(r'iat: [^"]*', "", text)


def test_nobody_is_asked_to_sign_in_before_anything_moves(idle_hub, theirs, world):
    theirs()
    body = everything()
    for _view, method, url in requests():
        world.done.clear()
        status, _ = ask(idle_hub, "", method, url, None if method == "GET" else body)
        assert (status, world.done) == (401, []), (method, url)


# --- pages and forms ---

FORMS = {
    "/fleet/register/probe": {"server": HOST, "name": "x", "bearerToken": "t"},
    "/fleet/register/save": {"server": HOST, "name": "x", "bearerToken": "t"},
    "/repositories/test": {"repo": f"{HOST}/r.git"},
    "/repositories/hosts": {"lines": "host.example ssh-rsa AAAA"},
    "/applications/check": {"text": json.dumps({"metadata": {"name": "x"}, "spec": SPEC})},
    "/applications/effect": {"text": json.dumps({"metadata": {"name": "x"}, "spec": SPEC})},
    "/applications/detect": {"text": json.dumps({"metadata": {"name": "x"}, "spec": SPEC})},
    "/projects/check": {"text": json.dumps({"metadata": {"name": "theirs"}, "spec": {}})},
    "/sets/preview": {"text": json.dumps(everything())},
}


@pytest.mark.parametrize("path", FORMS)
def test_forms_of_a_refused_caller_move_nothing(idle_hub, people, theirs, world, path):
    answers = {}
    for state in ("absent", "there"):
        for who, token in people.items():
            idle_hub.client.cookies["argocd.token"] = token
            idle_hub.client.get("/nothing")
            world.done.clear()
            answer = idle_hub.client.post(path, FORMS[path], headers={"HX-Request": "true"})
            assert not world.done, (who, world.done)
            answers[who, state] = (
                answer.status_code,
                re.sub(r"iat: [^<]*", "", answer.content.decode()),
            )
        if state == "absent":
            theirs()
    for who in people:
        assert answers[who, "absent"] == answers[who, "there"], who


@pytest.mark.parametrize("path", ["/applications/check", "/applications/effect"])
@pytest.mark.parametrize("is_there", [False, True], ids=["new", "moved"])
def test_forms_are_about_the_cluster_that_is_written(idle_hub, world, path, is_there):
    """Who has no right on a cluster sees nothing of it by writing it into an application of
    another.
    """
    for name in ("dev", "prod"):
        Cluster.objects.create(server=f"https://{name}", name=name)
    Project.objects.create(
        name="mine",
        spec={"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]},
    )
    lines = (
        "p, lead, applications, *, mine/*, allow\n"
        "p, lead, applications, *, mine/*, deny, clusters named prod"
    )
    idle_hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": lines}})
    account = Account.objects.create(
        name="lead", password=make_password("x"), capabilities=["login"]
    )
    access_changed("account", "lead", {})
    idle_hub.client.cookies["argocd.token"] = issue(account, timezone.now())

    def spec(name):
        return {**SPEC, "project": "mine", "destination": {"name": name, "namespace": "x"}}

    if is_there:
        Application.objects.create(
            namespace="argocd",
            name="x",
            project="mine",
            spec=spec("dev"),
            cluster=Cluster.objects.get(name="dev"),
        )
    idle_hub.client.get("/nothing")
    world.done.clear()
    body = {"text": json.dumps({"metadata": {"name": "x"}, "spec": spec("prod")})}
    answer = idle_hub.client.post(path, body, headers={"HX-Request": "true"}).content.decode()
    assert "You may not" in answer and not world.done


# --- pages that are read, and streams ---

_OPEN = (
    "account",
    "login",
    "logout",
    "auth/",
    "sso/",
    "identity/",
    "api",
    "swagger",
    "healthz",
    "readyz",
    "metrics",
)
PAGE_QUERY = f"{QUERY}&text=x&resource=Pod/x/x&uid=x&name=x&number=1&container=x&tab=logs"


def pages():
    """Yield the address of every page that is for who is signed in; `{cluster}` stands for a
    cluster's number.
    """
    for pattern in get_resolver().url_patterns:
        path = str(pattern.pattern).lstrip("^")
        if not path or path.startswith(_OPEN) or not hasattr(pattern, "callback"):
            continue
        yield a_url(path.replace("<str:namespace>", "argocd").replace("<int:pk>", "{cluster}"))


def seen(text):
    """Return what an answer says, without what is new in each: tokens, versions, moments."""
    text = re.sub(
        r'(nonce|value|content)="[A-Za-z0-9+/=_-]{16,}"|csrf[^>]*>|X-CSRFToken[^}]*', "", text
    )
    return re.sub(r"\d+", "0", text)


def test_pages_of_a_refused_caller_move_nothing_and_say_nothing(idle_hub, people, theirs, world):
    """Every page before and after everything of another team is there: nothing moves, and both are
    the same.
    """
    answers = {}
    for state in ("absent", "there"):
        number = getattr(Cluster.objects.filter(name="x").first(), "pk", 9999)
        for who, token in people.items():
            idle_hub.client.cookies["argocd.token"] = token
            idle_hub.client.get("/nothing")  # marks the session as used
            for address, query in itertools.product(pages(), ("", f"?{PAGE_QUERY}")):
                world.done.clear()
                answer = idle_hub.client.get(address.format(cluster=number) + query)
                assert not world.done, (who, address, query, world.done)
                answers[state, who, address, query] = (
                    answer.status_code,
                    seen(answer.content.decode()),
                )
        if state == "absent":
            theirs()
    assert len(answers) > 400
    # Who may see it is shown it.
    idle_hub.client.cookies["argocd.token"] = idle_hub.token
    for address in (
        "/applications/argocd/x",
        "/sets/argocd/x",
        "/projects/theirs",
        f"/fleet/{number}",
    ):
        assert idle_hub.client.get(address).status_code == 200, address
    for (state, *asked), given in answers.items():
        assert given == answers["absent", *asked], (state, *asked)
        assert given[0] != 500, asked


STREAMS = {
    "/api/v1/stream/applications": 200,
    "/api/v1/stream/applications/x/resource-tree": 403,
    "/api/v1/stream/applicationsets": 200,
    "/api/v1/flotilla/watch": 200,
}


def test_streams_are_all_known():
    found = {a_url(p) for p, v in routes() if v and ("/stream/" in p or p.endswith("/watch"))}
    assert found == set(STREAMS)


BEGUN = "?resourceVersion=0"


class _Waits(Exception):
    """A stream has said what there is to say, and waits for a change."""


@pytest.mark.parametrize("path", STREAMS)
def test_streams_of_a_refused_caller_move_nothing_and_say_nothing(
    idle_hub, people, theirs, world, monkeypatch, path
):
    async def wait(self):
        raise _Waits

    monkeypatch.setattr(Waiter, "wait", wait)
    answers = {}
    for state in ("absent", "there"):
        for (who, token), query in itertools.product(people.items(), (BEGUN, f"?{QUERY}")):
            ask(idle_hub, token, "GET", "/api/v1/session/userinfo")  # marks the session as used
            world.done.clear()
            status, text = _streamed(idle_hub, token, path + query)
            assert (status, world.done) == (STREAMS[path], []), (who, query, text[:200])
            answers[state, who, query] = re.sub(r'iat: [^"]*|\d+', "", text)
        if state == "absent":
            theirs()
    for (_, *asked), given in answers.items():
        assert given == answers["absent", *asked], asked
    # Who may see it is told of it.
    said = _streamed(idle_hub, idle_hub.token, path + BEGUN)[1]
    assert '"name":"x"' in said or '"nodes"' in said


def _streamed(hub, token, url):
    answer = hub.client.get(url, HTTP_AUTHORIZATION=f"Bearer {token}")
    text = async_to_sync(_beginning)(answer) if answer.streaming else answer.content
    return answer.status_code, text.decode()


async def _beginning(answer):
    """Return what a stream says before it waits."""
    found = b""
    with contextlib.suppress(_Waits):
        async for part in answer.streaming_content:
            found += part
    return found
