"""Sign-in, tokens, roles, and that every route obeys them."""

import time
from datetime import timedelta

import jwt
import pytest
from django.contrib.auth.hashers import make_password
from django.utils import timezone
from support.routes import a_url, routes

from clusters.models import Cluster
from hub.access import decisions
from hub.access.decisions import set_project_roles
from hub.access.grants import close_grants
from hub.auth.accounts import save_account
from hub.auth.api_tokens import create_token
from hub.auth.sessions import end_sessions, issue
from hub.auth.signed_tokens import _key, sign_token
from hub.auth.verification import verify, verify_all
from hub.engine.errors import Unauthenticated
from hub.models import (
    Account,
    ApiToken,
    AuditEvent,
    Grant,
    LoginSession,
    ProjectPolicy,
    access_changed,
    change_setting,
)
from projects.diagnostics import CHECKS
from projects.models import Application, Project, Repository

SPEC = {
    "project": "default",
    "source": {"repoURL": "https://example.com/r.git", "path": "."},
    "destination": {"server": "https://kubernetes.default.svc", "namespace": "x"},
}


def policies(hub, text, **more):
    return hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": text, **more}})


@pytest.fixture
def person(idle_hub):
    def make(name, **fields):
        account = Account.objects.create(
            name=name,
            password=make_password("pass word"),
            capabilities=["login", "apiKey"],
            **fields,
        )
        access_changed("account", name, {})
        return issue(account, timezone.now())

    return make


def application(name, project="default", cluster=None, namespace="argocd"):
    Project.objects.get_or_create(name=project, defaults={"spec": {"sourceNamespaces": ["*"]}})
    return Application.objects.create(
        name=name,
        namespace=namespace,
        project=project,
        spec={**SPEC, "project": project},
        cluster=cluster,
    )


def names(hub, token, **query):
    items = hub.get("/api/v1/applications", token=token, **query)["items"]
    return {i["metadata"]["name"] for i in items}


# --- tokens ---


def claims(session, **changes):
    now = int(timezone.now().timestamp())
    return {
        "iss": "argocd",
        "sub": "admin:login",
        "jti": session,
        "iat": now,
        "exp": now + 60,
        **changes,
    }


@pytest.mark.parametrize("anonymous", [False, True])
def test_forged_tokens(idle_hub, settings, anonymous):
    change_setting("anonymous", anonymous)
    key = _key(settings.SECRET_KEY)
    session = jwt.decode(idle_hub.token, key, algorithms=["HS256"])["jti"]
    good = jwt.encode(claims(session), key, algorithm="HS256")
    assert idle_hub.get("/api/v1/flotilla/rbac", token=good)
    bad = [
        "garbage",
        jwt.encode(claims(session), None, algorithm="none"),
        jwt.encode(claims(session), "x" * 32, algorithm="HS256"),
        jwt.encode(claims(session, exp=1), key, algorithm="HS256"),
        jwt.encode(claims(session, iss="other"), key, algorithm="HS256"),
        jwt.encode(claims("no-such-session"), key, algorithm="HS256"),
        jwt.encode(claims(session, sub="nobody:login"), key, algorithm="HS256"),
        jwt.encode(claims(session, sub="admin:apiKey"), key, algorithm="HS256"),
        jwt.encode(claims(session, sub="proj:default:x"), key, algorithm="HS256"),
        jwt.encode(claims(session, sub="admin"), key, algorithm="HS256"),
        jwt.encode(claims(session), key * 2, algorithm="HS512"),
    ]
    for token in bad:
        assert idle_hub.get("/api/v1/applications", token=token, status=401)["code"] == 16
    idle_hub.get("/api/v1/applications", token="", status=200 if anonymous else 401)
    idle_hub.get("/api/v1/flotilla/rbac", token="", status=403 if anonymous else 401)
    Account.objects.update(enabled=False)
    idle_hub.get("/api/v1/applications", token=good, status=401)


def test_anonymous_has_the_default_role_only(idle_hub):
    application("a")
    change_setting("anonymous", value=True)
    assert names(idle_hub, "") == set()
    policies(idle_hub, "", **{"policy.default": "role:readonly"})
    assert names(idle_hub, "") == {"a"}
    idle_hub.delete("/api/v1/applications/a", token="", status=403)


def test_account_tokens(idle_hub):
    idle_hub.post("/api/v1/flotilla/accounts", {"name": "ci", "capabilities": ["apiKey"]})
    policies(idle_hub, "g, ci, role:readonly")
    made = idle_hub.post("/api/v1/account/ci/token", {"id": "one", "expiresIn": 3600})["token"]
    assert jwt.decode(made, options={"verify_signature": False})["sub"] == "ci:apiKey"
    assert idle_hub.get("/api/v1/session/userinfo", token=made)["username"] == "ci"
    idle_hub.post("/api/v1/account/ci/token", {"id": "one"}, status=400)
    listed = idle_hub.get("/api/v1/account/ci")["tokens"]
    assert [t["id"] for t in listed] == ["one"] and listed[0]["lastUsedAt"]
    idle_hub.delete("/api/v1/account/ci/token/one")
    idle_hub.get("/api/v1/applications", token=made, status=401)
    assert AuditEvent.objects.filter(verb="delete-token", actor="admin").exists()
    assert made not in str(list(AuditEvent.objects.values()))


@pytest.mark.parametrize("ending", ["disable", "delete", "password", "capability"])
def test_sessions_and_tokens_die_with_the_account(idle_hub, ending):
    idle_hub.post(
        "/api/v1/flotilla/accounts",
        {"name": "bob", "password": "first password", "capabilities": ["login", "apiKey"]},
    )
    token = idle_hub.post("/api/v1/account/bob/token", {})["token"]
    session = idle_hub.post(
        "/api/v1/session", {"username": "bob", "password": "first password"}, token=""
    )["token"]
    for each in (token, session):
        idle_hub.get("/api/v1/applications", token=each)
    path = "/api/v1/flotilla/accounts/bob"
    if ending == "delete":
        idle_hub.delete(path)
    else:
        change = {
            "disable": {"enabled": False},
            "password": {"password": "other password"},
            "capability": {"capabilities": []},
        }[ending]
        idle_hub.call("PATCH", path, change)
    for each in (token, session):
        idle_hub.get("/api/v1/applications", token=each, status=401)


def test_an_account_cannot_give_itself_rights(idle_hub, person):
    bob = person("bob")
    for change in ({"capabilities": ["login"]}, {"enabled": True}, {"password": "some password"}):
        idle_hub.call("PATCH", "/api/v1/flotilla/accounts/bob", change, token=bob, status=403)
    idle_hub.post("/api/v1/flotilla/accounts", {"name": "eve"}, token=bob, status=403)
    idle_hub.put("/api/v1/flotilla/roles/x", {"rules": []}, token=bob, status=403)
    assert idle_hub.get("/api/v1/account", token=bob)["items"][0]["name"] == "bob"


def test_admin_can_be_switched_off_but_not_deleted(idle_hub):
    idle_hub.delete("/api/v1/flotilla/accounts/admin", status=400)
    idle_hub.call("PATCH", "/api/v1/flotilla/accounts/admin", {"enabled": False})
    idle_hub.get("/api/v1/applications", status=401)
    refused = {"username": "admin", "password": "correct horse"}
    assert "disabled" in idle_hub.post("/api/v1/session", refused, token="", status=401)["message"]
    assert idle_hub.get("/api/v1/settings", token="")["userLoginsDisabled"] is True


def test_who_guesses_closes_no_address_to_the_others(idle_hub):
    for n in range(8):
        idle_hub.post(
            "/api/v1/session", {"username": f"u{n}", "password": "x"}, token="", status=401
        )
    said = [e.detail["reason"] for e in AuditEvent.objects.filter(outcome="refused").order_by("pk")]
    assert [("slowed" in reason) for reason in said[:5]] == [False] * 4 + [True]
    right = {"username": "admin", "password": "correct horse"}
    assert idle_hub.post("/api/v1/session", right, token="")["token"]


def test_known_and_unknown_names_cost_the_same(idle_hub, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    import hub.auth.sessions

    hub.auth.passwords._dummy = ""
    Account.objects.filter(name="admin").update(password=make_password("correct horse"))
    idle_hub.post("/api/v1/session", {"username": "warm", "password": "x"}, token="", status=401)
    spent = {}
    for name in ("admin", "nobody"):
        start = time.process_time()
        idle_hub.post("/api/v1/session", {"username": name, "password": "x"}, token="", status=401)
        spent[name] = time.process_time() - start
    hub.auth.passwords._dummy = ""
    assert 0.5 < spent["admin"] / spent["nobody"] < 2


def test_sessions_are_listed_and_ended(idle_hub, person):
    bob = person("bob")
    other = idle_hub.post(
        "/api/v1/session", {"username": "bob", "password": "pass word"}, token=""
    )["token"]
    rows = idle_hub.get("/api/v1/flotilla/sessions", token=bob)["items"]
    assert len(rows) == 2 and [r["current"] for r in rows].count(True) == 1
    assert {
        r["account"]
        for r in idle_hub.get("/api/v1/flotilla/sessions", account="*", token=bob)["items"]
    } == {"bob"}
    assert {
        r["account"] for r in idle_hub.get("/api/v1/flotilla/sessions", account="*")["items"]
    } == {"admin", "bob"}
    admins = LoginSession.objects.get(account__name="admin")
    idle_hub.delete(f"/api/v1/flotilla/sessions/{admins.pk}", token=bob, status=403)
    second = next(r for r in rows if not r["current"])
    idle_hub.delete(f"/api/v1/flotilla/sessions/{second['id']}", token=bob)
    idle_hub.get("/api/v1/applications", token=other, status=401)
    idle_hub.get("/api/v1/applications", token=bob)


def test_the_initial_password_file_goes_with_the_password(idle_hub, settings):
    path = settings.DATA_DIR / "initial-admin-password"
    path.write_text("correct horse")
    body = {"currentPassword": "correct horse", "newPassword": "better horse"}
    idle_hub.put("/api/v1/account/password", body)
    assert not path.exists()


# --- project roles ---


def project(hub, name, roles, **spec):
    return hub.post(
        "/api/v1/projects",
        {
            "project": {
                "metadata": {"name": name},
                "spec": {
                    "sourceRepos": ["*"],
                    "destinations": [{"server": "*", "namespace": "*"}],
                    "roles": roles,
                    **spec,
                },
            },
            "upsert": True,
        },
    )


def role(name, *lines, groups=()):
    return {"name": name, "policies": [f"p, {line}" for line in lines], "groups": list(groups)}


def test_project_tokens_stay_in_their_project(idle_hub):
    lines = [f"proj:pay:deploy, applications, {a}, pay/*, allow" for a in ("get", "sync")]
    project(idle_hub, "pay", [role("deploy", *lines)])
    application("pay-web", "pay")
    application("other", "else")
    made = idle_hub.post("/api/v1/projects/pay/roles/deploy/token", {"id": "t", "expiresIn": 60})
    token = made["token"]
    assert names(idle_hub, token) == {"pay-web"}
    assert idle_hub.get("/api/v1/projects/pay", token=token)["metadata"]["name"] == "pay"
    assert [
        p["metadata"]["name"] for p in idle_hub.get("/api/v1/projects", token=token)["items"]
    ] == ["pay"]
    idle_hub.get("/api/v1/applications/other", token=token, status=403)
    idle_hub.delete("/api/v1/applications/pay-web", token=token, status=403)
    idle_hub.post("/api/v1/projects/pay/roles/deploy/token", {}, token=token, status=403)
    # A line of the hub's own policy gives a project's token nothing outside its project either.
    policies(idle_hub, "p, proj:pay:deploy, applications, *, */*, allow")
    assert names(idle_hub, token) == {"pay-web"}
    idle_hub.get("/api/v1/applications/other", token=token, status=403)
    status = idle_hub.get("/api/v1/projects/pay")["status"]
    assert [t["id"] for t in status["jwtTokensByRole"]["deploy"]["items"]] == ["t"]
    issued = jwt.decode(token, options={"verify_signature": False})["iat"]
    idle_hub.delete(f"/api/v1/projects/pay/roles/deploy/token/{issued}")
    idle_hub.get("/api/v1/applications", token=token, status=401)


def test_a_project_token_dies_with_its_role(idle_hub):
    project(idle_hub, "pay", [role("r", "proj:pay:r, applications, get, pay/*, allow")])
    token = idle_hub.post("/api/v1/projects/pay/roles/r/token", {})["token"]
    idle_hub.get("/api/v1/applications", token=token)
    project(idle_hub, "pay", [])
    idle_hub.get("/api/v1/applications", token=token, status=401)


@pytest.mark.parametrize("gone", ["role", "project"])
def test_a_project_token_does_not_come_back_with_its_role(idle_hub, gone):
    """A team that has the name of another one later does not inherit its tokens."""
    roles = [role("r", "proj:pay:r, applications, get, pay/*, allow")]
    project(idle_hub, "pay", roles)
    token = idle_hub.post("/api/v1/projects/pay/roles/r/token", {"id": "t"})["token"]
    if gone == "project":
        idle_hub.delete("/api/v1/projects/pay")
    else:
        project(idle_hub, "pay", [])

    project(idle_hub, "pay", roles)

    idle_hub.get("/api/v1/applications", token=token, status=401)
    assert "jwtTokensByRole" not in idle_hub.get("/api/v1/projects/pay")["status"]
    assert AuditEvent.objects.filter(verb="delete-token", object="pay", actor="admin").count() == 1


def test_a_token_of_a_deleted_account_does_not_come_back_with_its_name(idle_hub):
    def make():
        idle_hub.post("/api/v1/flotilla/accounts", {"name": "ci", "capabilities": ["apiKey"]})
        return idle_hub.post("/api/v1/account/ci/token", {"id": "pipeline"})["token"]

    make()
    yesterday = timezone.now() - timedelta(days=1)
    ApiToken.objects.update(issued_at=yesterday)
    old = sign_token("ci:apiKey", "pipeline", yesterday, None)
    idle_hub.get("/api/v1/applications", token=old)
    idle_hub.delete("/api/v1/flotilla/accounts/ci")

    new = make()

    idle_hub.get("/api/v1/applications", token=new)
    idle_hub.get("/api/v1/applications", token=old, status=401)


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ([role("a b")], "invalid role name"),
        ([role("a"), role("a")], "already exists"),
        ([role("a", "proj:pay:b, applications, get, pay/*, allow")], "policy subject must be"),
        ([role("a", "proj:pay:a, clusters, get, *, allow")], "object must be of form"),
        ([role("a", "proj:pay:a, accounts, get, pay/*, allow")], "resource must be one of"),
        ([role("a", "proj:pay:a, applications, get, other/*, allow")], "object must be of form"),
        ([role("a", groups=["x\ny"])], "is not a valid group"),
        ([role("a", groups=["x", "x"])], "already exists for role"),
        ([{"name": "a", "policies": "p"}], "must be a list"),
    ],
)
def test_project_roles_that_cannot_be_used(idle_hub, roles, words):
    body = {"project": {"metadata": {"name": "pay"}, "spec": {"roles": roles}}}
    assert words in idle_hub.post("/api/v1/projects", body, status=400)["message"]


def test_groups_of_a_project_role(idle_hub, person):
    project(
        idle_hub,
        "pay",
        [role("r", "proj:pay:r, applications, get, pay/*, allow", groups=["team-pay"])],
    )
    application("pay-web", "pay")
    application("other", "else")
    dev = person("oidc:1", issuer="https://idp", subject="1", groups=["team-pay"])
    assert names(idle_hub, dev) == {"pay-web"}


# --- roles, deny, scopes, grants ---


def test_a_role_change_is_obeyed_by_the_next_request(idle_hub, person):
    application("a")
    bob = person("bob")
    assert names(idle_hub, bob) == set()
    rule = {"resource": "applications", "action": "get", "object": "default/*"}
    idle_hub.put("/api/v1/flotilla/roles/viewers", {"rules": [rule], "members": ["bob"]})
    assert names(idle_hub, bob) == {"a"}
    idle_hub.put("/api/v1/flotilla/roles/viewers", {"rules": [rule], "members": []})
    assert names(idle_hub, bob) == set()
    idle_hub.get("/api/v1/applications/a", token=bob, status=403)


def test_what_a_provider_says_is_never_a_role_or_a_local_account(idle_hub, person):
    application("a")
    person("bob")
    eve = person(
        "oidc:eve",
        issuer="https://idp",
        subject="admin",
        groups=["role:admin", "admin", "proj:default:x", "", None, 7, ["admin"], "bob"],
    )
    policies(idle_hub, "g, bob, role:admin\np, , applications, get, */*, allow")
    assert names(idle_hub, eve) == set()
    idle_hub.get("/api/v1/flotilla/rbac", token=eve, status=403)
    assert decisions.subjects_of(Account.objects.get(name="oidc:eve")) == ()


@pytest.mark.parametrize("groups", [[], [""], None, "admins", {"admins": True}])
def test_empty_or_malformed_groups_give_nothing(idle_hub, person, groups):
    from hub.auth.oidc import clean_groups

    application("a")
    policies(idle_hub, "g, admins, role:admin")
    token = person("oidc:1", issuer="https://idp", subject="1", groups=clean_groups(groups))
    assert names(idle_hub, token) == ({"a"} if groups == "admins" else set())


def test_production_is_closed_whatever_a_project_grants(idle_hub, person):
    prod = Cluster.objects.create(server="https://prod", name="prod-1", labels={"env": "prod"})
    dev = Cluster.objects.create(server="https://dev", name="dev-1", labels={"env": "dev"})
    project(
        idle_hub,
        "pay",
        [
            role(
                "all",
                *[
                    f"proj:pay:all, applications, {a}, pay/*, allow"
                    for a in ("get", "delete", "sync", "override")
                ],
                groups=["team"],
            )
        ],
    )
    application("in-prod", "pay", prod)
    application("in-dev", "pay", dev)
    member = person("oidc:1", issuer="https://idp", subject="1", groups=["team", "everyone"])
    rules = [
        {
            "resource": "applications",
            "action": a,
            "object": "*",
            "effect": "deny",
            "clusters": "clusters where env=prod",
        }
        for a in ("delete*", "override")
    ]
    idle_hub.put("/api/v1/flotilla/roles/careful", {"rules": rules, "members": ["everyone"]})
    idle_hub.delete("/api/v1/applications/in-prod", token=member, status=403)
    idle_hub.delete("/api/v1/applications/in-dev", token=member)
    ask = {"resource": "applications", "action": "delete", "object": "pay/in-prod"}
    why = idle_hub.get("/api/v1/flotilla/explain", token=member, **ask)
    assert not why["allowed"] and why["role"] == "careful" and "env=prod" in why["rule"]
    # Another label, and the rule lets go.
    Cluster.objects.filter(pk=prod.pk).update(labels={"env": "test"})
    assert idle_hub.get("/api/v1/flotilla/explain", token=member, **ask)["allowed"]


def test_grants_end_by_themselves(idle_hub, person):
    application("a")
    bob = person("bob")
    policies(idle_hub, "p, bob, applications, get, default/*, allow")
    body = {
        "subject": "bob",
        "resource": "applications",
        "action": "delete",
        "object": "default/a",
        "duration": "30m",
        "reason": "fix",
        "ticket": "INC-1",
    }
    made = idle_hub.post("/api/v1/flotilla/grants", body)
    assert idle_hub.get("/api/v1/account/can-i/applications/delete/default/a", token=bob) == {
        "value": "yes"
    }
    assert (
        "grant"
        in idle_hub.get(
            "/api/v1/flotilla/explain",
            token=bob,
            resource="applications",
            action="delete",
            object="default/a",
        )["origin"]
    )
    Grant.objects.filter(pk=made["id"]).update(ends_at=timezone.now())
    access_changed("grant", "test", None)
    assert idle_hub.get("/api/v1/account/can-i/applications/delete/default/a", token=bob) == {
        "value": "no"
    }
    assert close_grants() == 1 and close_grants() == 0
    verbs = list(
        AuditEvent.objects.filter(kind="grant").order_by("pk").values_list("verb", "actor")
    )
    assert verbs == [("grant", "admin"), ("grant-ended", "hub")]
    second = idle_hub.post("/api/v1/flotilla/grants", body)["id"]
    idle_hub.delete(f"/api/v1/flotilla/grants/{second}")
    assert idle_hub.get("/api/v1/account/can-i/applications/delete/default/a", token=bob) == {
        "value": "no"
    }


def test_a_grant_ends_on_time_without_anybody_touching_it(idle_hub, person):
    bob = person("bob")
    now = timezone.now()
    idle_hub.post(
        "/api/v1/flotilla/grants",
        {
            "subject": "bob",
            "resource": "applications",
            "action": "sync",
            "object": "*",
            "until": (now + timezone.timedelta(seconds=1)).isoformat(),
            "reason": "x",
        },
    )
    path = "/api/v1/account/can-i/applications/sync/default/a"
    assert idle_hub.get(path, token=bob) == {"value": "yes"}
    idle_hub.wait(lambda: idle_hub.get(path, token=bob) == {"value": "no"}, "the end", 5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"duration": ""}, "duration"),
        ({"duration": "800h"}, "30 days"),
        ({"reason": ""}, "reason"),
        ({"resource": "nope"}, "unknown resource"),
        ({"until": "soon", "duration": ""}, "until"),
        ({"clusters": "prod"}, "is not a cluster scope"),
        ({"subject": None}, "subject"),
    ],
)
def test_grants_that_cannot_be(idle_hub, change, words):
    body = {
        "subject": "bob",
        "resource": "applications",
        "action": "sync",
        "object": "*",
        "duration": "5m",
        "reason": "x",
        **change,
    }
    assert words in idle_hub.post("/api/v1/flotilla/grants", body, status=400)["message"]


def test_broken_lines_are_named_and_disable_nothing(idle_hub, person):
    application("a")
    bob = person("bob")
    text = "p, bob, applications, get, */*, allow\np, broken\ng, x\n"
    answer = policies(idle_hub, text)
    assert [p.split(":")[1] for p in answer["problems"]] == ["2", "3"]
    assert names(idle_hub, bob) == {"a"}
    idle_hub.put("/api/v1/flotilla/rbac", {"data": {"policy.matchMode": "sql"}}, status=400)
    idle_hub.put("/api/v1/flotilla/rbac", {"data": {"nope": ""}}, status=400)


def test_several_policy_documents(idle_hub, person):
    application("a")
    bob = person("bob")
    policies(
        idle_hub,
        "",
        **{
            "policy.team.csv": "p, role:t, applications, get, default/*, allow",
            "policy.zz.csv": "g, bob, role:t",
        },
    )
    assert names(idle_hub, bob) == {"a"}
    policies(
        idle_hub, "p, bob, applications, get, ^default/a$, allow", **{"policy.matchMode": "regex"}
    )
    application("ab")
    assert names(idle_hub, bob) == {"a"}


def test_roles_to_csv_and_back(idle_hub):
    rules = [
        {
            "resource": "applications",
            "action": "action/apps/*",
            "object": 'x/a,"b"',
            "effect": "deny",
            "clusters": "clusters named a|b where env in (p,q),!x",
        },
        {"resource": "logs", "action": "get", "object": "*/*", "effect": "allow", "clusters": ""},
    ]
    idle_hub.put(
        "/api/v1/flotilla/roles/role:one",
        {"description": 'Says, "so"', "rules": rules, "members": ["g,1", "alice"]},
    )
    idle_hub.put("/api/v1/flotilla/roles/two", {"rules": rules[1:], "members": ["role:one"]})
    before = idle_hub.get("/api/v1/flotilla/roles")["items"]
    text = idle_hub.get("/api/v1/flotilla/roles-csv")["csv"]
    for name in ("role:one", "two"):
        idle_hub.delete(f"/api/v1/flotilla/roles/{name}")
    idle_hub.put("/api/v1/flotilla/roles-csv", {"csv": text})
    assert idle_hub.get("/api/v1/flotilla/roles")["items"] == before


def test_who_can(idle_hub, person):
    application("a", "pay")
    person("bob")
    person("carol")
    person("oidc:1", issuer="https://idp", subject="s1", groups=["g1"])
    policies(
        idle_hub,
        (
            "g, g1, role:t\np, role:t, applications, sync, pay/*, allow\n"
            "p, bob, applications, sync, */*, allow\np, bob, applications, sync, pay/a, deny"
        ),
    )
    found = idle_hub.get(
        "/api/v1/flotilla/who-can", resource="applications", action="sync", object="pay/a"
    )
    assert {a["account"] for a in found["accounts"]} == {"admin", "oidc:1"}
    assert {"g1", "role:t"} <= set(found["subjects"]) and "bob" in found["deniedSubjects"]


def test_can_i_speaks_as_argo_cd(idle_hub):
    base = "/api/v1/account/can-i"
    assert idle_hub.get(f"{base}/applications/sync/default/argocd/a") == {"value": "yes"}
    assert idle_hub.get(f"{base}/extensions/invoke/x") == {"value": "no"}
    assert "not a valid resource" in idle_hub.get(f"{base}/apps/get/x", status=400)["message"]
    assert (
        "not a valid action" in idle_hub.get(f"{base}/applications/fly/x/y", status=400)["message"]
    )


# --- what exists shows to nobody who may not know ---


def test_absent_and_forbidden_are_the_same(idle_hub, person):
    bob = person("bob")
    project(idle_hub, "pay", [])
    application("there", "pay")
    Cluster.objects.create(server="https://there", name="there")
    pairs = [
        (f"/api/v1/{kind}/there{tail}", f"/api/v1/{kind}/nope{tail}", method)
        for kind, tails in {
            "applications": [
                "",
                "/sync",
                "/rollback",
                "/operation",
                "/manifests",
                "/events",
                "/links",
                "/syncwindows",
                "/resource-tree",
                "/managed-resources",
                "/server-side-diff",
                "/resource",
                "/resource/actions",
                "/logs",
                "/spec",
                "/confirm-deletion",
                "/revisions/x/metadata",
            ],
            "projects": ["", "/detailed", "/events", "/globalprojects", "/syncwindows"],
            "clusters": ["", "/invalidate-cache", "/rotate-auth"],
            "account": ["", "/token"],
            "flotilla/accounts": [""],
        }.items()
        for tail in tails
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
    ]
    Account.objects.create(name="there")
    body = {"metadata": {"name": None}, "resourceName": "x", "kind": "Pod"}
    for there, nope, method in pairs:
        query = {"resourceName": "x", "kind": "Pod", "id.type": "name"}
        one, other = (
            idle_hub.call(method, p, body, token=bob, status=None, **query) for p in (there, nope)
        )
        if one.get("code") == 12:  # no such method
            continue
        assert one == other, (method, there)
        assert one["code"] in (3, 7), (method, there, one)


def test_other_peoples_applications_are_not_in_lists_and_streams(idle_hub, person):
    from appsets.api.watch_stream import _read
    from projects.api.streams import applications_since
    from projects.objects.applications import remove

    bob = person("bob")
    policies(idle_hub, "p, bob, applications, get, mine/*, allow")
    for name in ("mine", "theirs"):
        application(f"{name}-app", name)
    Application.objects.all().bump()

    def streamed(kind):
        return [m["metadata"]["name"] for k, m, _p, _n in applications_since(0, bob) if k == kind]

    def watched(*, gone):
        _version, changes = _read(["Application"], 0, bob, False)
        return [c.object["metadata"]["name"] for c in changes if c.gone is gone]

    assert streamed("") == watched(gone=False) == ["mine-app"] and names(idle_hub, bob) == {
        "mine-app"
    }
    for app in Application.objects.all():
        remove(app)
    assert streamed("DELETED") == watched(gone=True) == ["mine-app"]
    policies(idle_hub, "")
    assert applications_since(0, bob) == [] and _read(["Application"], 0, bob, False)[1] == []
    Account.objects.filter(name="bob").update(enabled=False)
    assert applications_since(0, bob) is None and _read(["Application"], 0, bob, False) is None


def test_a_stranger_sees_nothing_in_the_watch_of_everything(idle_hub, person):
    from appsets.api.watch_stream import KINDS, _read
    from hub.models import next_version

    stranger = person("stranger")
    application("secret-app", "secret-project")
    project(idle_hub, "secret-project", [])
    Cluster.objects.create(
        server="https://secret-cluster", name="secret-cluster", resource_version=next_version()
    )
    Repository.objects.create(url="https://secret.example/x.git", resource_version=next_version())
    assert "secret-cluster" in str(_read(list(KINDS), 0, idle_hub.token, True))
    for is_first in (True, False):
        assert "secret" not in str(_read(list(KINDS), 0, stranger, is_first))
    idle_hub.delete("/api/v1/clusters/https%3A%2F%2Fsecret-cluster")
    assert "secret-cluster" in str(_read(list(KINDS), 0, idle_hub.token, False))
    assert "secret" not in str(_read(list(KINDS), 0, stranger, False))


def test_an_application_in_a_namespace_that_its_project_forbids(idle_hub):
    app = application("a", "pay", namespace="elsewhere")
    Project.objects.filter(name="pay").update(spec={"sourceNamespaces": ["other"]})
    for tail, method in (("", "GET"), ("/sync", "POST"), ("/logs", "GET"), ("/syncwindows", "GET")):
        idle_hub.call(
            method,
            f"/api/v1/applications/{app.name}{tail}",
            {},
            appNamespace="elsewhere",
            status=403,
        )
    Project.objects.filter(name="pay").update(spec={"sourceNamespaces": ["else*"]})
    idle_hub.get("/api/v1/applications/a", appNamespace="elsewhere")


def test_moving_an_application_needs_both_places(idle_hub, person):
    bob = person("bob")
    for name in ("one", "two"):
        project(idle_hub, name, [])
    application("a", "one")
    policies(idle_hub, "p, bob, applications, *, one/*, allow")
    manifest = idle_hub.get("/api/v1/applications/a", token=bob)
    moved = {**manifest, "spec": {**SPEC, "project": "two"}}
    assert (
        "two/a" in idle_hub.put("/api/v1/applications/a", moved, token=bob, status=403)["message"]
    )
    assert (
        "two/a"
        in idle_hub.put("/api/v1/applications/a/spec", moved["spec"], token=bob, status=403)[
            "message"
        ]
    )
    patch = {"patch": '{"spec":{"project":"two"}}', "patchType": "merge"}
    idle_hub.call("PATCH", "/api/v1/applications/a", patch, token=bob, status=403)
    idle_hub.post("/api/v1/applications", moved, token=bob, upsert="true", status=403)


def test_a_reason_where_the_project_asks_for_one(idle_hub):
    spec = {
        "flotilla": {
            "audit": {"requireReason": True, "requireTicket": True, "ticketPattern": "INC-\\d+"}
        }
    }
    project(idle_hub, "pay", [], **spec)
    application("a", "pay")
    path = "/api/v1/applications/a"
    assert "reason" in idle_hub.delete(path, status=400)["message"]
    assert "ticket" in idle_hub.delete(path, reason="because", status=400)["message"]
    assert "INC" in idle_hub.delete(path, reason="because", ticket="x", status=400)["message"]
    idle_hub.delete(path, reason="because", ticket="INC-7")
    event = AuditEvent.objects.get(verb="delete", kind="application")
    assert (event.reason, event.ticket) == ("because", "INC-7")


# --- the route table ---


def test_every_route_declares_its_permission():
    for path, view in routes():
        if path.startswith(("api/v1/", "^api/v1/")):
            assert view is not None, path
            assert isinstance(getattr(view, "permission", None), tuple), path


def test_every_route_refuses_nobody_and_shows_strangers_nothing(idle_hub, person):
    stranger = person("stranger")
    application("secret-app", "secret-project")
    Cluster.objects.create(server="https://secret-cluster", name="secret-cluster")
    count = 0
    for path, view in routes():
        if "api/v1/" not in path or view.permission[1] == "public":
            continue
        url = a_url(path)
        for method in ("get", "post", "put", "patch", "delete"):
            if not hasattr(view, method):
                continue
            count += 1
            idle_hub.call(method.upper(), url, {}, token="", status=401)
            if "/stream/" in url or url.endswith("/watch"):
                continue  # its lines have tests of their own
            answer = idle_hub.call(method.upper(), url, {}, token=stranger, status=None)
            assert "secret" not in str(answer), (method, url)
            if "code" in answer:
                # 12: a feature that is off says so to everybody.
                assert answer["code"] in (3, 5, 7, 9, 12), (method, url, answer)
                if view.permission[1] not in ("signed-in",) and answer["code"] == 5:
                    raise AssertionError((method, url, answer))
            else:
                shown = [
                    i
                    for i in answer.get("items") or []
                    if i.get("name") != "stranger" and i.get("account") != "stranger"
                ]
                assert method == "get" and not shown, (method, url, answer)
    assert count > 80


def test_an_absent_application_is_no_refusal_for_who_may_see_all(idle_hub, person):
    """The answer is the same for everybody; the trail says only of those that they were refused
    who may have been.
    """
    some = person("some")
    policies(idle_hub, "p, some, applications, *, team-*/*, allow")
    for token in (idle_hub.token, some):
        for path in ("absent", "absent/resource-tree"):
            answer = idle_hub.get(f"/api/v1/applications/{path}", token=token, status=403)
            assert answer["message"] == "permission denied"
        idle_hub.delete("/api/v1/applications/absent", token=token, status=403)
    refused = AuditEvent.objects.filter(outcome="refused", kind="applications")
    assert set(refused.values_list("actor", flat=True)) == {"some"} and refused.count() == 3


def test_refusals_are_recorded(idle_hub, person):
    stranger = person("stranger")
    idle_hub.get("/api/v1/clusters/https%3A%2F%2Fx", token=stranger, status=403)
    event = AuditEvent.objects.get(outcome="refused")
    assert (event.actor, event.verb, event.kind) == ("stranger", "get", "clusters")
    assert event.who["account"] == "stranger" and event.who["session"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://testserver", 200),
        ("", 200),
        ("https://evil.example", 403),
        ("http://sub.testserver", 403),
        ("null", 403),
    ],
)
def test_writes_from_pages_of_other_sites(idle_hub, origin, status):
    from django.test import Client

    client = Client()
    client.cookies["argocd.token"] = idle_hub.token
    headers = {"Origin": origin} if origin else {}
    answer = client.put(
        "/api/v1/flotilla/roles/x", data="{}", content_type="application/json", headers=headers
    )
    assert answer.status_code == status
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = client.generic("PUT", "/api/v1/flotilla/roles/x", data="{}", content_type=kind)
        assert answer.status_code == 415


def test_a_token_in_several_cookies(idle_hub):
    from django.test import Client

    client = Client()
    half = len(idle_hub.token) // 2
    client.cookies["argocd.token"] = f"2:{idle_hub.token[:half]}"
    client.cookies["argocd.token-1"] = idle_hub.token[half:]
    assert client.get("/api/v1/session/userinfo").json()["username"] == "admin"


def test_tokens_of_a_project_are_listed_with_their_last_use(idle_hub):
    save_account("ci", "test", must_be_new=True, capabilities=["apiKey"])
    project(idle_hub, "pay", [role("r", "proj:pay:r, applications, get, pay/*, allow")])
    token = idle_hub.post("/api/v1/projects/pay/roles/r/token", {"description": "pipeline"})[
        "token"
    ]
    idle_hub.get("/api/v1/applications", token=token)
    listed = idle_hub.get("/api/v1/flotilla/tokens")["items"]
    assert [(t["subject"], t["description"], t["createdBy"]) for t in listed] == [
        ("proj:pay:r", "pipeline", "admin")
    ]
    assert listed[0]["lastUsedAt"] and ApiToken.objects.count() == 1


def test_a_machines_token_opens_no_pages(idle_hub, person):
    from django.test import Client

    person("ci")
    token = idle_hub.post("/api/v1/account/ci/token", {})["token"]
    browser = Client()
    browser.cookies["argocd.token"] = token
    for path in ("/account", "/identity/o/device", "/identity/o/authorize?client_id=flotilla-cli"):
        assert browser.get(path).get("Location", "").startswith("/login"), path


def test_a_browser_stays_signed_in_when_the_hub_is_updated(idle_hub):
    """Sessions keep the dotted name of what signed them in; releases before named another one."""
    from django.test import Client

    browser = Client()
    form = {"login": "admin", "password": "correct horse"}
    assert browser.post("/login", form).status_code == 302
    session = browser.session
    assert session["_auth_user_backend"] == "hub.auth.account_adapter.LocalBackend"
    session["_auth_user_backend"] = "hub.signin.LocalBackend"
    session.save()
    assert b"admin" in browser.get("/account").content
    assert browser.get("/account").status_code == 200


def test_cookies_are_for_https_where_the_hub_is(idle_hub, settings):
    from django.test import Client

    settings.HTTPS = True
    body = '{"username": "admin", "password": "correct horse"}'
    cookie = (
        Client()
        .post("/api/v1/session", body, content_type="application/json")
        .cookies["argocd.token"]
    )
    assert cookie["secure"] and cookie["httponly"] and cookie["samesite"] == "Lax"


def test_names_that_are_given_twice_must_agree(idle_hub):
    application("a")
    project(idle_hub, "pay", [role("r")])
    Cluster.objects.create(server="https://one", name="one")
    manifest = {"metadata": {"name": "b"}, "spec": SPEC}
    table = [
        ("PUT", "/api/v1/applications/a", manifest),
        ("PATCH", "/api/v1/applications/a", {"name": "b", "patch": "{}", "patchType": "merge"}),
        ("POST", "/api/v1/applications/a/sync", {"name": "b"}),
        ("POST", "/api/v1/applications/a/rollback", {"name": "b"}),
        ("PUT", "/api/v1/projects/pay", {"project": {"metadata": {"name": "other"}, "spec": {}}}),
        ("POST", "/api/v1/projects/pay/roles/r/token", {"project": "other"}),
        ("POST", "/api/v1/projects/pay/roles/r/token", {"role": "other"}),
        ("POST", "/api/v1/account/admin/token", {"name": "bob"}),
        ("PATCH", "/api/v1/flotilla/accounts/admin", {"name": "bob"}),
        ("PUT", "/api/v1/flotilla/roles/x", {"name": "y"}),
        ("PUT", "/api/v1/flotilla/sso/providers/x", {"id": "y", "config": {}}),
        ("PUT", "/api/v1/clusters/https%3A%2F%2Fone", {"server": "https://two"}),
        ("PUT", "/api/v1/repocreds/https%3A%2F%2Fgit.example", {"url": "https://other.example"}),
    ]
    idle_hub.post("/api/v1/repocreds", {"url": "https://git.example"})
    for method, path, body in table:
        answer = idle_hub.call(method, path, body, status=None)
        assert answer.get("code") == 3 and "body" in answer["message"], (method, path, answer)


def test_invalid_characters_are_refused_with_a_message(idle_hub):
    for path in (
        "/api/v1/applications/a%00b",
        "/api/v1/applications?name=%00",
        "/api/v1/flotilla/audit?q=%00",
        "/api/v1/account/%00",
    ):
        assert "NUL" in idle_hub.get(path, status=400)["message"]
    body = {"username": "a\x00b", "password": "x"}
    assert "NUL" in idle_hub.post("/api/v1/session", body, token="", status=400)["message"]
    fine = {"username": "a\\u0000b", "password": "x"}
    idle_hub.post("/api/v1/session", fine, token="", status=401)


def test_knocking_on_and_on_does_not_fill_the_trail(idle_hub):
    for n in range(70):
        idle_hub.post(
            "/api/v1/session", {"username": f"u{n}", "password": "x"}, token="", status=401
        )
    assert AuditEvent.objects.filter(verb="login", outcome="refused").count() == 50
    assert "slowed" in AuditEvent.objects.filter(outcome="refused").latest("pk").detail["reason"]


def test_who_can_is_what_asking_every_account_gives(idle_hub, person):
    import random

    names_ = ["oidc:0", "oidc:1", "oidc:2", "bob", "carol"]
    for n in range(3):
        person(
            f"oidc:{n}",
            issuer="https://idp",
            subject=f"s{n}",
            groups=[f"g{k}" for k in range(3) if (n + k) % 2],
        )
    person("bob")
    person("carol", enabled=False)
    subjects = ["s0", "s1", "bob", "carol", "g0", "g1", "g2", "role:a", "role:b"]
    for seed in range(40):
        choose = random.Random(seed)
        lines = [
            (
                f"p, {choose.choice(subjects)}, applications, "
                f"{choose.choice(['sync', '*', 'get'])}, "
                f"{choose.choice(['*', 'p/*', 'p/a', 'q/*'])}, "
                f"{choose.choice(['allow', 'allow', 'deny'])}"
            )
            for _ in range(5)
        ]
        lines += [
            f"g, {choose.choice(subjects)}, {choose.choice(['role:a', 'role:b'])}" for _ in range(4)
        ]
        policies(idle_hub, "\n".join(lines), **{"policy.default": choose.choice(["", "role:a"])})
        found = idle_hub.get(
            "/api/v1/flotilla/who-can", resource="applications", action="sync", object="p/a"
        )
        listed = {a["account"] for a in found["accounts"]} - {"admin"}
        decisions.reload_policies()
        asked = {
            n
            for n in names_
            if decisions.decide(
                decisions.caller_of(Account.objects.get(name=n)), "applications", "sync", "p/a"
            ).allowed
        }
        assert listed == asked, lines


def test_one_line_keeps_developers_off_the_hub_itself(idle_hub, person):
    bob = person("bob")
    policies(
        idle_hub,
        (
            "p, bob, applications, *, default/*, allow\n"
            "p, bob, applications, *, *, deny, clusters named in-cluster"
        ),
    )
    east = Cluster.objects.create(server="https://east", name="east")
    application("a", cluster=east)
    manifest = idle_hub.get("/api/v1/applications/a", token=bob)
    here = {**SPEC, "destination": {"name": "in-cluster", "namespace": "argocd"}}
    idle_hub.put("/api/v1/applications/a/spec", here, token=bob, status=403)
    idle_hub.put("/api/v1/applications/a", {**manifest, "spec": here}, token=bob, status=403)
    idle_hub.post(
        "/api/v1/applications", {"metadata": {"name": "b"}, "spec": here}, token=bob, status=403
    )
    idle_hub.post(
        "/api/v1/applications", {**manifest, "spec": here}, token=bob, upsert="true", status=403
    )


def test_many_tokens_are_read_as_each_of_them(
    idle_hub, person, settings, django_assert_num_queries
):
    """Open pages are checked in one go: nobody may live longer by that than by a request of its
    own.
    """
    tokens = {n: person(n) for n in ("good", "ended", "expired", "disabled", "no-login", "renamed")}
    accounts = {n: Account.objects.get(name=n) for n in tokens}
    end_sessions(LoginSession.objects.filter(account=accounts["ended"]), "admin")
    LoginSession.objects.filter(account=accounts["expired"]).update(expires_at=timezone.now())
    Account.objects.filter(name="disabled").update(enabled=False)
    Account.objects.filter(name="no-login").update(capabilities=["apiKey"])
    Account.objects.filter(name="renamed").update(name="another")
    now = int(timezone.now().timestamp())

    def forged(key, **claims):
        claims = {"iss": "argocd", "sub": "good:login", "jti": "x", "iat": now, **claims}
        return jwt.encode(claims, _key(key), algorithm="HS256")

    session = str(LoginSession.objects.get(account=accounts["good"]).pk)
    tokens |= {
        "foreign key": forged("another key", jti=session),
        "foreign name": forged(settings.SECRET_KEY, jti=session, sub="admin:login"),
        "not a number": forged(settings.SECRET_KEY),
        "not a capability": forged(settings.SECRET_KEY, jti=session, sub="good:else"),
        "nothing": "",
        "noise": "a.b.c",
    }
    ProjectPolicy.objects.create(project="web", roles=[{"name": "login"}, {"name": "ci"}])
    tokens |= {
        "key": create_token("admin", account=accounts["good"]),
        "revoked key": create_token("admin", account=accounts["good"], token_id="gone"),
        "role": create_token("admin", project="web", role="ci"),
        "role called login": create_token("admin", project="web", role="login"),
        "role that went": create_token("admin", project="web", role="went"),
    }
    ApiToken.objects.filter(token_id="gone").update(revoked_at=timezone.now())

    def alone(token):
        try:
            return verify(token)
        except Unauthenticated:
            return None

    found = verify_all(list(tokens.values()))
    assert found == {token: alone(token) for token in tokens.values()}
    names = {name: found[token] and found[token].name for name, token in tokens.items()}
    assert {n: v for n, v in names.items() if v} == {
        "good": "good",
        "key": "good",
        "role": "proj:web:ci",
        "role called login": "proj:web:login",
    }

    many = [person(f"p{n}") for n in range(20)]
    verify_all(many)
    with django_assert_num_queries(1):
        assert all(verify_all(many).values())
    assert LoginSession.objects.filter(account__name="p7").get().last_used_at
    assert LoginSession.objects.get(account=accounts["disabled"]).last_used_at is None


BAD_ROLE = {
    "name": "r",
    "policies": ["p, proj:team-a:r, applications, get, team-a/[z-a], allow"],
    "groups": ["dev"],
}


def test_a_project_role_that_cannot_be_read_is_refused(idle_hub):
    """Issue "Ways in": its groups named other people, whose every list then failed."""
    body = {"project": {"metadata": {"name": "team-a"}, "spec": {"roles": [BAD_ROLE]}}}
    said = idle_hub.post("/api/v1/projects", body, status=400)["message"]
    assert "project team-a, role r:1" in said and "object 'team-a/[z-a]'" in said


@pytest.mark.parametrize("effect", ["allow", "deny"])
def test_a_stored_role_that_cannot_be_read_reaches_no_other_page(idle_hub, person, effect):
    application("a")
    application("b", project="team-a")
    policies(idle_hub, "p, dev, applications, get, */*, allow\np, dev, projects, get, *, allow")
    line = BAD_ROLE["policies"][0].replace("allow", effect)
    roles = [{**BAD_ROLE, "policies": [line]}]
    Project.objects.filter(name="team-a").update(spec={"roles": roles})
    set_project_roles("team-a", roles)
    dev = person("dev")
    Account.objects.filter(name="dev").update(issuer="https://idp", subject="dev", groups=["dev"])

    # A line that allows gives nothing; one that denies closes its own project, and nothing else.
    assert names(idle_hub, dev) == ({"a", "b"} if effect == "allow" else {"a"})
    idle_hub.client.cookies["argocd.token"] = idle_hub.token
    assert "team-a/[z-a]" in idle_hub.client.get("/projects/team-a").content.decode()
    assert "team-a/[z-a]" in dict(CHECKS)["policies"]()


def test_policy_documents_with_a_pattern_that_cannot_be_read_are_refused(idle_hub):
    body = {
        "data": {
            "policy.csv": "p, a, applications, get, *, allow\np, a, applications, get, [z-a], deny"
        }
    }
    said = idle_hub.put("/api/v1/flotilla/rbac", body, status=400)["message"]
    assert said.startswith("rbac[policy.csv:2]") and "[z-a]" in said


def test_the_built_in_roles_hold_when_policies_are_regular_expressions(idle_hub, person):
    application("a")
    data = {
        "policy.matchMode": "regex",
        "policy.csv": "p, dev, applications, get, ^default/a$, allow",
    }
    idle_hub.put("/api/v1/flotilla/rbac", {"data": data})
    assert names(idle_hub, idle_hub.token) == {"a"} == names(idle_hub, person("dev"))
    idle_hub.get("/api/v1/flotilla/rbac")
