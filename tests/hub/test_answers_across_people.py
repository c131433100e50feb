"""Idempotency keys and ETags: an answer is given again to whom it was for, while that person may
have it.
"""

import json

import pytest
from django.contrib.auth.hashers import make_password
from django.db import connection
from django.utils import timezone

from hub.auth.sessions import issue
from hub.models import Account, IdempotentResponse
from projects.models import Project

PATH = "/api/v1/applications"
SOURCE = {"repoURL": "https://git.example/r.git", "path": "."}
DESTINATION = {"server": "https://kubernetes.default.svc", "namespace": "x"}


def application(project="p", name="a"):
    spec = {"project": project, "source": SOURCE, "destination": DESTINATION}
    return {"metadata": {"name": name}, "spec": spec}


WIDE = {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]}


class People:
    def __init__(self, hub):
        self.hub, self.tokens = hub, {}
        for name in ("ann", "ben"):
            account = Account.objects.create(
                name=name, password=make_password("pass word"), capabilities=["login"]
            )
            self.tokens[name] = issue(account, timezone.now())
        for name in ("p", "q"):
            roles = [
                {"name": "ci", "policies": [f"p, proj:{name}:ci, applications, *, {name}/*, allow"]}
            ]
            body = {"metadata": {"name": name}, "spec": {"roles": roles, **WIDE}}
            hub.post("/api/v1/projects", {"project": body})
            path = f"/api/v1/projects/{name}/roles/ci/token"
            self.tokens[f"ci of {name}"] = hub.post(path, {})["token"]
        self.allow("ann", "ben")

    def allow(self, *names):
        lines = [f"p, {n}, projects, {a}, p, allow" for n in names for a in ("get", "update")]
        self.rules("\n".join(lines))

    def rules(self, text):
        self.hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": text}})

    def send(self, who, body, key="k", method="PUT", path="/api/v1/projects/p", **headers):
        headers |= {"Idempotency-Key": key} if key else {}
        if who:
            headers["Authorization"] = f"Bearer {self.tokens[who]}"
        data = json.dumps(body) if body is not None else ""
        return self.hub.client.generic(method, path, data, "application/json", headers=headers)


@pytest.fixture
def people(idle_hub):
    return People(idle_hub)


def change(description="first"):
    row = Project.objects.get(name="p")
    spec = {**row.spec, "description": description}
    return {"project": {"metadata": {"name": "p"}, "spec": spec}}


def is_again(answer):
    return "Idempotent-Replayed" in answer


def withdraw(people):
    people.allow("ben")


def read_only(people):
    people.rules("p, ann, projects, get, p, allow")


def disable(people):
    Account.objects.filter(name="ann").update(enabled=False)


def sign_out(people):
    answer = people.send("ann", {}, "", "DELETE", "/api/v1/session")
    assert answer.status_code == 200


def nothing(people):
    """Leave everything as it is."""


OTHERS = [
    ("the same person, the same request", nothing, "ann", {}, 200, True),
    ("another person, the same request", nothing, "ben", {}, 200, False),
    ("another body", nothing, "ann", {"body": {"project": {}}}, 400, False),
    ("another path", nothing, "ann", {"path": "/api/v1/projects/q"}, 403, False),
    ("another query", nothing, "ann", {"path": "/api/v1/projects/p?x=1"}, 400, False),
    ("another method", nothing, "ann", {"method": "DELETE"}, 400, False),
    ("a token of this project", nothing, "ci of p", {}, 403, False),
    ("a token of another project", nothing, "ci of q", {}, 403, False),
    ("nobody", nothing, "", {}, 401, False),
    ("its rights were withdrawn", withdraw, "ann", {}, 403, False),
    ("it may only read now", read_only, "ann", {}, 403, False),
    ("it was disabled", disable, "ann", {}, 401, False),
    ("it signed out", sign_out, "ann", {}, 401, False),
]


@pytest.mark.parametrize(
    ("before", "who", "other", "status", "again"),
    [o[1:] for o in OTHERS],
    ids=[o[0] for o in OTHERS],
)
def test_an_answer_is_given_again_to_whom_it_was_for(people, before, who, other, status, again):
    body = change()
    first = people.send("ann", body)
    assert first.status_code == 200, first.content
    before(people)

    answer = people.send(who, **{"body": body, **other})

    if other.get("path", "").endswith("q"):
        assert answer.status_code in (400, 403)
    else:
        assert answer.status_code == status, answer.content
    assert is_again(answer) is again


def test_rights_that_others_lost_take_no_answer_away(people):
    body = change()
    people.send("ann", body)
    people.allow("ann")

    assert is_again(people.send("ann", body))


def test_a_right_to_what_was_made_comes_before_the_answer(people):
    """Creating an application asks for it by name; the answer is kept for as long as that may
    be.
    """
    people.rules("p, ann, applications, *, default/*, allow")
    body = application("default")
    first = people.send("ann", body, method="POST", path=PATH + "?validate=false")
    assert first.status_code == 200, first.content
    people.rules("p, ann, applications, *, default/other, allow")

    answer = people.send("ann", body, method="POST", path=PATH + "?validate=false")

    assert answer.status_code == 403 and not is_again(answer)


def test_a_token_of_another_project_gets_no_answer_of_this_one(people):
    body = application("p")
    path = PATH + "?validate=false"
    first = people.send("ci of p", body, method="POST", path=path)
    assert first.status_code == 200, first.content

    assert is_again(people.send("ci of p", body, method="POST", path=path))
    other = people.send("ci of q", body, method="POST", path=path)
    assert other.status_code == 403 and not is_again(other)
    spec = {**Project.objects.get(name="p").spec, "roles": [{"name": "ci", "policies": []}]}
    people.hub.put("/api/v1/projects/p", {"project": {"metadata": {"name": "p"}, "spec": spec}})
    withdrawn = people.send("ci of p", body, method="POST", path=path)
    assert withdrawn.status_code in (401, 403) and not is_again(withdrawn)


class Writes:
    """The tables that statements change."""

    def __init__(self):
        self.tables = []

    def __call__(self, execute, sql, params, many, context):
        words = sql.replace('"', "").split()
        if words[0] in ("INSERT", "UPDATE", "DELETE"):
            self.tables.append(words[1] if words[0] == "UPDATE" else words[2])
        return execute(sql, params, many, context)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_refused_request_with_a_key_writes_its_refusal_only(people, method):
    people.allow()
    body = change()
    people.send("ann", None, "", "GET", "/api/v1/session/userinfo")  # marks the session as used
    writes = Writes()

    with connection.execute_wrapper(writes):
        answer = people.send("ann", body, method=method)

    assert answer.status_code == 403
    assert set(writes.tables) == {"hub_auditevent"}


def test_a_request_that_is_wrong_leaves_no_key(people):
    assert people.send("ann", {"project": 5}).status_code == 400

    assert not IdempotentResponse.objects.exists()
    assert people.send("ann", change()).status_code == 200


def test_a_key_is_claimed_before_the_change(people, monkeypatch):
    """While one request makes its change, the same one is not done a second time."""
    from hub.audit import trail

    seen = []
    record = trail.record

    def spied(*args, **kwargs):
        seen.append(IdempotentResponse.objects.filter(status=None).count())
        return record(*args, **kwargs)

    monkeypatch.setattr(trail, "record", spied)
    assert people.send("ann", change()).status_code == 200

    assert seen and set(seen) == {1}


# --- ETags ---

TAGGED = ["/api/v1/projects/p", "/api/v1/projects", "/api/v1/session/userinfo"]


@pytest.mark.parametrize("path", TAGGED)
@pytest.mark.parametrize("star", [False, True], ids=["its tag", "any tag"])
def test_an_etag_of_another_caller_discloses_nothing(people, path, star):
    tag = people.send("ann", None, "", "GET", path)["ETag"]
    assert people.send("ann", None, "", "GET", path, **{"If-None-Match": tag}).status_code == 304
    people.allow("ben")

    for who in ("", "ann", "ci of q"):
        plain = people.send(who, None, "", "GET", path)
        given = {"If-None-Match": "*" if star else tag}
        answer = people.send(who, None, "", "GET", path, **given)
        # Only who gets the same answer without a tag is told that nothing changed.
        is_same = plain.status_code == 200 and (star or plain["ETag"] == tag)
        assert answer.status_code == (304 if is_same else plain.status_code), who
        if path.endswith("/p"):
            assert answer.status_code in (401, 403), who


@pytest.mark.parametrize(
    "header", ["If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since"]
)
def test_what_is_there_and_what_is_not_answer_conditions_alike(people, header):
    people.allow()
    value = "Sat, 01 Jan 2022 00:00:00 GMT" if "Since" in header else '"x"'
    answers = set()
    for name in ("p", "none"):
        answer = people.send("ann", None, "", "GET", f"/api/v1/projects/{name}", **{header: value})
        answers.add((answer.status_code, answer.json()["message"]))

    assert len(answers) == 1 and answers.pop()[0] == 403
