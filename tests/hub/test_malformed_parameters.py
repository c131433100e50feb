"""Odd numbers, times and texts in every address, query and form: an answer, never an internal
error.
"""

import re
import sys
import traceback
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from django.core.signals import got_request_exception
from django.db import transaction
from django.http import QueryDict
from django.test import Client
from support.routes import routes

from appsets.models import ApplicationSet
from clusters.models import Cluster
from hub.engine.actions import _replicas
from hub.engine.errors import Invalid, RuleError
from hub.engine.hooks import wave
from hub.engine.node_info import describe
from hub.engine.parsing import parse_digits, parse_integer, require_integer, require_time
from hub.models import access_changed, next_version
from projects.models import Application, Project, Repository

ODD = {
    "a digit that is none to int": "²",
    "a digit of another alphabet": "٣",
    "a long number": "9" * 400,
    "a number of more than 64 bits": "9" * 19,
    "not a number": "NaN",
    "a number without end": "9e999",
    "below nothing": "-1",
    "the last moment": "9999-12-31T23:59:59-23:59",
    "the last day": "9999-12-31",
    "a year that is none": "99999-01-01T00:00:00Z",
    "a zone that is none": "2026-01-01T00:00:00+99:99",
    "nothing": "",
    "NUL": "a\0b",
    "half a character": "\ud800",
    "a long text": "a" * 100_000,
}


SWEPT = {
    what: ODD[what]
    for what in (
        "a digit that is none to int",
        "a long number",
        "a number of more than 64 bits",
        "the last moment",
        "NUL",
        "half a character",
        "a long text",
    )
}
"""What is sent to every place: one of each kind, for there are hundreds."""


class Reads:
    """Which parameters views read of queries and forms, and where."""

    def __init__(self, monkeypatch):
        self.seen = set()
        for method in ("get", "getlist", "__getitem__", "__contains__"):
            monkeypatch.setattr(QueryDict, method, self._noted(getattr(QueryDict, method)))

    def _noted(self, real):
        def read(values, key, *more, **named):
            caller = sys._getframe(1)
            if isinstance(key, str):
                self.seen.add((key, caller.f_code.co_filename, caller.f_lineno))
            return real(values, key, *more, **named)

        return read


class Sender:
    """Sends requests as an administrator; nothing of what they do stays."""

    def __init__(self, token):
        self.token, self.raised = token, []
        got_request_exception.connect(self._note)

    def _note(self, **_):
        self.raised.append(traceback.format_exc()[-400:])

    def send(self, method, path, values=()):
        """Return the status and, of an internal error, its end."""
        self.raised.clear()
        client = Client(raise_request_exception=False)
        client.cookies["argocd.token"] = self.token
        # A browser's form, and what a command line sends as JSON with its token.
        is_rest = path.startswith("/api/v1")
        kind = "application/json" if is_rest else "application/x-www-form-urlencoded"
        headers = {"HTTP_ORIGIN": "http://testserver", "HTTP_HX_REQUEST": "true"}
        if is_rest:
            headers["HTTP_AUTHORIZATION"] = f"Bearer {self.token}"
        text = "&".join(f"{quote(k)}={_escaped(v)}" for k, v in values)
        body = "" if method == "GET" else "{}" if is_rest else text
        with transaction.atomic():
            answer = client.generic(method, f"{path}?{text}", body, content_type=kind, **headers)
            transaction.set_rollback(True)
        answer.close()
        return answer.status_code, self.raised[-1] if self.raised else ""


def _escaped(text):
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


@pytest.fixture
def sender(idle_hub):
    """An administrator of a hub with one of everything, called x."""
    spec = {
        "project": "default",
        "source": {"repoURL": "https://127.0.0.1:1/x.git", "path": "."},
        "destination": {"server": "https://x.invalid", "namespace": "x"},
    }
    version = next_version()
    cluster = Cluster.objects.create(server="https://x.invalid", name="x")
    Repository.objects.create(url="https://git.invalid/x.git")
    roles = {"roles": [{"name": "x"}], "sourceRepos": ["*"]}
    Project.objects.create(name="x", spec=roles, resource_version=version)
    own = {"namespace": "argocd", "name": "x", "project": "default", "resource_version": version}
    Application.objects.create(**own, spec=spec, cluster=cluster, refresh_at=None)
    template = {"metadata": {"name": "a"}, "spec": spec}
    ApplicationSet.objects.create(**own, spec={"generators": [], "template": template})
    access_changed("policy", "rbac", None)  # compiled policies are for a version of them
    found = Sender(idle_hub.token)
    yield found
    got_request_exception.disconnect(found._note)


def address(route, value="x"):
    """Return an address of a route, with a value in the place of each name."""
    path = re.sub(r"\(\?P<\w+>[^()]*\)", "x", route.strip("^$"))
    path = re.sub(r"<int:\w+>", "1", path.replace("<str:namespace>", "argocd"))
    path = re.sub(r"<uuid:\w+>", "00000000-0000-4000-8000-000000000000", path)
    return "/" + re.sub(r"<(?:str|path|slug):\w+>", value, path)


def methods(view):
    known = view.http_method_names if view else ("get", "post")
    return [m.upper() for m in known if view is None or (hasattr(view, m) and m != "options")]


@pytest.mark.timeout(400)
@pytest.mark.django_db(transaction=True)
def test_no_malformed_parameter_is_an_internal_error(sender, monkeypatch):
    reads, tried, wrong = Reads(monkeypatch), set(), []
    for route, view in routes():
        for method in methods(view):
            reads.seen.clear()
            sender.send(method, address(route))
            # What is read at one place for many routes is tried once.
            for name in sorted({key for key, *place in reads.seen - tried}):
                for what, value in SWEPT.items():
                    status, error = sender.send(method, address(route), [(name, value)])
                    if status == 500 or error:
                        wrong.append((method, route, name, what, error))
            tried |= reads.seen

    assert len(tried) > 150
    assert wrong == []


@pytest.mark.django_db(transaction=True)
def test_no_malformed_name_in_a_url_is_an_internal_error(sender):
    wrong = []
    for route, view in routes():
        if not re.search(r"<(?:str|path|slug):(?!namespace)", route):
            continue
        for what in ("a digit that is none to int", "a long number", "NUL", "half a character"):
            path = address(route, _escaped(ODD[what]))
            status, error = sender.send(methods(view)[0], path)
            if status == 500 or error:
                wrong.append((route, what, error))

    assert wrong == []


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_what_reads_numbers_and_moments_refuses_what_is_none(text):
    assert parse_digits(text) is None
    if text != "-1":
        assert parse_integer(text) is None
        with pytest.raises(Invalid, match="limit must be a whole number"):
            require_integer(text, "limit")
    with pytest.raises(Invalid, match=r"at (must be|needs)"):
        require_time(text, "at")
    with pytest.raises(RuleError):
        _replicas({"replicas": text})
    assert wave({"metadata": {"annotations": {"argocd.argoproj.io/sync-wave": text}}}) in (0, -1)


def test_numbers_and_moments_are_read():
    assert (parse_digits("0"), parse_digits("9" * 18), parse_digits("7", 1)) == (0, 10**18 - 1, 7)
    assert [parse_integer(v) for v in (5, "-5", " +5 ", True, 1.5, None, "-+5", 2**63)] == [
        5,
        -5,
        5,
        None,
        None,
        None,
        None,
        None,
    ]
    assert parse_integer("9223372036854775807") == 2**63 - 1
    assert require_integer("3", "limit", 1, 3) == 3
    with pytest.raises(Invalid, match="from 1 to 3, not 4"):
        require_integer(4, "limit", 1, 3)
    at = datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert require_time("2026-01-31T08:00:00Z", "at") == at
    assert require_time("2026-01-31T09:00:00 01:00", "at") == at
    assert require_time(str(int(at.timestamp())), "at") == at
    with pytest.raises(Invalid, match="at needs a time zone"):
        require_time("2026-01-31T08:00:00", "at")


@pytest.mark.parametrize("odd", ["²", "x", "9" * 400, [], {}, 2**70, 1e308, None])
def test_a_pod_of_a_server_that_lies_is_described(odd):
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"resources": {"requests": {"cpu": odd, "memory": "1e999999"}}}]},
        "status": {"containerStatuses": [{"restartCount": odd}]},
    }
    assert describe(pod) is not None
