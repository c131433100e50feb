"""People sign in by a genuine identity provider, in a browser and at the command line."""

import os
import re
import subprocess
import sys
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.mfa.models import Authenticator
from support.saml import SAMLServer

from hub.auth import group_refresh
from hub.cli import login
from hub.models import Account, AuditEvent, LoginSession
from projects.models import Application, Operation, Project

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = (
    "true"  # Playwright runs a loop in the thread of the test.
)


def sign_in(page, web, who, start="/login", provider="Company account"):
    page.goto(web.url + start)
    page.get_by_text(provider).click()
    page.fill("input[name=login]", who)
    page.fill("input[name=password]", "any")
    page.click("button[type=submit]")
    page.click("button:has-text('Continue')")
    page.wait_for_url(f"{web.url}/**")


def token_of(page):
    return next(c["value"] for c in page.context.cookies() if c["name"] == "argocd.token")


def teams(web, url="https://git.example/x"):
    for name in ("team-a", "team-b"):
        Project.objects.create(
            name=name,
            spec={"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]},
        )
        spec = {
            "project": name,
            "source": {"repoURL": url, "path": ".", "targetRevision": "main"},
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "argocd"},
        }
        Application.objects.create(name=f"{name}-web", project=name, spec=spec)
    lines = [
        f"p, role:{t}, applications, {a}, {t}/*, allow"
        for t in ("team-a", "team-b")
        for a in ("get", "sync")
    ]
    lines += [f"g, {t}, role:{t}" for t in ("team-a", "team-b")]
    web.hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": "\n".join(lines)}})


def names(web, token):
    return {
        a["metadata"]["name"] for a in web.hub.get("/api/v1/applications", token=token)["items"]
    }


def test_a_developer_signs_in_and_sees_their_team_only(web, idp, page, repo):
    repo.commit({"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"})
    teams(web, repo.url)
    idp.people(
        dev1={
            "email": "dev@example.com",
            "email_verified": True,
            "groups": ["team-a"],
            "name": "Dev One",
        }
    )
    sign_in(page, web, "dev1", "/account")
    assert page.url == f"{web.url}/account"
    assert "dev@example.com" in page.inner_text("h1") and "team-a" in page.inner_text("main")
    token = token_of(page)
    assert names(web, token) == {"team-a-web"}
    other = web.hub.get("/api/v1/applications/team-b-web", token=token, status=403)
    assert other == web.hub.get("/api/v1/applications/no-such-thing", token=token, status=403)
    web.hub.post("/api/v1/applications/team-a-web/sync", token=token)
    web.hub.post("/api/v1/applications/team-b-web/sync", token=token, status=403)
    assert list(
        Operation.objects.values_list("application__name", "request__initiatedBy__username")
    ) == [("team-a-web", "dev@example.com")]
    assert web.hub.get("/api/v1/session/userinfo", token=token) == {
        "loggedIn": True,
        "username": "dev@example.com",
        "iss": idp.issuer,
        "groups": ["team-a"],
    }
    account = Account.objects.get(issuer=idp.issuer)
    assert (account.subject, account.groups, account.is_local) == ("dev1", ["team-a"], False)
    # A platform engineer changes the role, and the next request obeys.
    web.hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": ""}})
    assert names(web, token) == set()
    event = AuditEvent.objects.filter(verb="login", outcome="allowed").latest("pk")
    assert (
        event.who["subject"] == "dev1"
        and event.who["groups"] == ["team-a"]
        and event.who["issuer"] == idp.issuer
    )
    page.click(".menu summary")
    page.click("text=Sign out")
    page.wait_for_url(f"{web.url}/login**")
    web.hub.get("/api/v1/applications", token=token, status=401)


def test_identity_is_issuer_and_subject_not_email(web, idp, page):
    idp.people(
        one={"email": "same@example.com", "email_verified": True},
        two={"email": "same@example.com", "email_verified": True},
    )
    Account.objects.create(name="local", email="same@example.com", capabilities=["login"])
    sign_in(page, web, "one", "/account")
    page.context.clear_cookies()
    sign_in(page, web, "two", "/account")
    page.context.clear_cookies()
    sign_in(page, web, "one", "/account")
    assert sorted(Account.objects.exclude(issuer="").values_list("subject", flat=True)) == [
        "one",
        "two",
    ]
    assert Account.objects.get(name="local").sessions.count() == 0


def test_five_hundred_groups_and_groups_at_each_sign_in(web, idp, page):
    many = [f"group-{n:04}-with-a-long-name-as-directories-have-them" for n in range(500)]
    idp.people(dev1={"groups": many})
    sign_in(page, web, "dev1", "/account")
    assert len(Account.objects.get(subject="dev1").groups) == 500
    assert len(token_of(page)) < 1000
    page.context.clear_cookies()
    idp.people(dev1={"groups": ["one"]})
    sign_in(page, web, "dev1", "/account")
    assert Account.objects.get(subject="dev1").groups == ["one"]
    assert AuditEvent.objects.filter(verb="update-groups").count() == 2


def test_groups_are_asked_again_while_a_session_lasts(web, idp, page):
    web.hub.put(
        "/api/v1/flotilla/sso/providers/company",
        {
            "name": "Company account",
            "config": idp.config(
                requestedScopes=["openid", "groups", "offline_access"], prompt="consent"
            ),
        },
    )
    idp.people(dev1={"groups": ["a"]})
    sign_in(page, web, "dev1", "/account")
    web.hub.get("/api/v1/applications", token=token_of(page))
    assert group_refresh.refresh_due() == 0
    idp.people(dev1={"groups": ["b"]})
    Account.objects.filter(subject="dev1").update(groups_at=None)
    assert group_refresh.refresh_due() == 1
    assert Account.objects.get(subject="dev1").groups == ["b"]
    # Somebody whom the provider does not know any more is signed out.
    idp.people()
    Account.objects.filter(subject="dev1").update(groups_at=None)
    group_refresh.refresh_due()
    assert LoginSession.objects.get(account__subject="dev1").ended_at is not None
    web.hub.get("/api/v1/applications", token=token_of(page), status=401)


def test_groups_from_userinfo(web, idp, page):
    web.hub.put(
        "/api/v1/flotilla/sso/providers/company",
        {"name": "Company account", "config": idp.config(enableUserInfoGroups=True)},
    )
    idp.people(dev1={"groups": ["from-userinfo"]})
    sign_in(page, web, "dev1", "/account")
    assert Account.objects.get(subject="dev1").groups == ["from-userinfo"]


def test_a_link_instead_of_groups_is_an_error_that_says_what_to_do(web, idp, page):
    idp.people(
        dev1={
            "_claim_names": {"groups": "src1"},
            "_claim_sources": {"src1": {"endpoint": "https://graph.example/x"}},
        }
    )
    page.goto(web.url + "/login")
    page.get_by_text("Company account").click()
    page.fill("input[name=login]", "dev1")
    page.fill("input[name=password]", "any")
    page.click("button[type=submit]")
    page.click("button:has-text('Continue')")
    page.wait_for_selector("text=Sign-in failed")
    assert "groupsOverageURL" in AuditEvent.objects.get(outcome="refused").detail["reason"]
    assert "graph" not in page.content()


def test_a_disabled_account_cannot_come_back(web, idp, page):
    idp.people(dev1={})
    sign_in(page, web, "dev1", "/account")
    token = token_of(page)
    Account.objects.filter(subject="dev1").update(enabled=False)
    web.hub.get("/api/v1/applications", token=token, status=401)
    page.goto(web.url + "/account")
    assert "/login" in page.url
    page.get_by_text("Company account").click()
    page.wait_for_selector("text=Sign-in failed")


def test_the_cli_signs_in_by_the_browser(web, idp, page, tmp_path, monkeypatch):
    teams(web)
    monkeypatch.setenv("FLOTILLA_CONFIG_DIR", str(tmp_path))
    idp.people(dev1={"email": "dev@example.com", "email_verified": True, "groups": ["team-a"]})
    shown, done = [], []
    ready = threading.Event()

    def show(url):
        shown.append(url)
        ready.set()

    thread = threading.Thread(
        target=lambda: done.append(
            login.by_browser(web.url, insecure=False, launch=False, show=show)
        )
    )
    thread.start()
    assert ready.wait(10)
    query = parse_qs(urlsplit(shown[0]).query)
    assert query["code_challenge_method"] == ["S256"] and query["state"] and query["nonce"]
    page.goto(shown[0])
    page.get_by_text("Company account").click()
    page.fill("input[name=login]", "dev1")
    page.fill("input[name=password]", "any")
    page.click("button[type=submit]")
    page.click("button:has-text('Continue')")
    page.click("button:has-text('Allow')")
    page.wait_for_selector("text=You are signed in")
    thread.join(20)
    assert done == ["dev@example.com"]
    assert LoginSession.objects.filter(method="cli").count() == 1
    run = [sys.executable, "-m", "hub.cli.main"]
    environment = {**os.environ, "FLOTILLA_CONFIG_DIR": str(tmp_path)}
    listed = subprocess.run(
        [*run, "cluster", "list"], env=environment, capture_output=True, text=True, check=False
    )
    assert listed.returncode == 0 and "kubernetes.default.svc" not in listed.stdout
    ended = subprocess.run(
        [*run, "logout"], env=environment, capture_output=True, text=True, check=True
    )
    assert "Logged out" in ended.stdout
    assert LoginSession.objects.get(method="cli").ended_at is not None


def test_the_cli_signs_in_by_a_device_code(web, page, tmp_path, monkeypatch):
    monkeypatch.setenv("FLOTILLA_CONFIG_DIR", str(tmp_path))
    shown, done, ready = [], [], threading.Event()

    def show(url, code):
        shown.extend([url, code])
        ready.set()

    thread = threading.Thread(
        target=lambda: done.append(login.by_device(web.url, insecure=False, show=show))
    )
    thread.start()
    assert ready.wait(10)
    page.goto(web.url + "/identity/o/device")
    page.fill("input[name=login]", "admin")
    page.fill("input[name=password]", "correct horse")
    page.click("button[type=submit]")
    page.fill("input[name=code]", shown[1])
    page.click("button:has-text('Continue')")
    assert shown[1].replace("-", "") in page.inner_text("main").replace("-", "")
    page.click("button:has-text('Yes, sign it in')")
    page.wait_for_selector("text=Device signed in")
    thread.join(20)
    assert done == ["admin"]


def test_local_sign_in_and_its_refusal(web, page):
    page.goto(web.url + "/audit")
    assert "/login" in page.url
    page.fill("input[name=login]", "admin")
    page.fill("input[name=password]", "wrong")
    page.click("button:has-text('Sign in')")
    assert "isn’t right" in page.inner_text("main")
    page.fill("input[name=login]", "admin")
    page.fill("input[name=password]", "correct horse")
    page.click("button:has-text('Sign in')")
    page.wait_for_url(f"{web.url}/audit")
    page.goto(web.url + "/audit/verification")
    page.click("text=Verify now")
    page.wait_for_selector("text=The chain is whole")
    page.goto(web.url + "/audit")
    page.wait_for_selector("text=Chain verified")
    page.get_by_role("link", name=re.compile(r"^\d+$")).first.click()
    page.wait_for_selector("text=Whole event")
    # The session that a page uses is the one that REST knows: ended there, it is ended here.
    LoginSession.objects.filter(method="password").update(ended_at="2026-01-01T00:00:00Z")
    page.goto(web.url + "/audit")
    assert "/login" in page.url


def test_a_page_redirects_to_no_other_site(web, page):
    for bad in (
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "http://localhost:1",
    ):
        page.context.clear_cookies()
        page.goto(f"{web.url}/login?next={bad}")
        page.fill("input[name=login]", "admin")
        page.fill("input[name=password]", "correct horse")
        page.click("button:has-text('Sign in')")
        page.wait_for_url(f"{web.url}/applications")
        assert page.url == f"{web.url}/applications"


def local(page, web, start="/account", code=None):
    page.goto(web.url + start)
    page.fill("input[name=login]", "admin")
    page.fill("input[name=password]", "correct horse")
    page.click("button:has-text('Sign in')")
    if code is not None:
        page.fill("input[name=code]", code)
        page.click("button:has-text('Sign In')")


def confirm(page):
    page.fill("input[name=password]", "correct horse")
    page.click("button:has-text('Confirm')")


def current_code(secret):
    from allauth.mfa.totp.internal import auth

    return auth.format_hotp_value(auth.hotp_value(secret, int(time.time()) // 30))


def test_a_second_factor(web, page):
    local(page, web, "/account/2fa/")
    page.click("text=Activate")
    confirm(page)
    secret = page.input_value("#authenticator_secret")
    page.fill("input[name=code]", current_code(secret))
    page.click("button:has-text('Activate')")
    page.wait_for_url("**/recovery-codes/**")
    assert secret not in str(list(Authenticator.objects.values()))
    page.context.clear_cookies()
    local(page, web)
    page.wait_for_selector("input[name=code]")
    page.goto(web.url + "/account")
    assert page.url != f"{web.url}/account", "a password alone is half a sign-in"
    page.context.clear_cookies()
    recovery = Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()
    local(page, web, code=recovery[0])
    page.wait_for_url(f"{web.url}/account")
    page.context.clear_cookies()
    local(page, web, code=recovery[0])
    assert page.url != f"{web.url}/account", "a recovery code is good once"
    # The command line and REST ask for the same.
    body = {"username": "admin", "password": "correct horse"}
    assert "otp" in web.hub.post("/api/v1/session", body, token="", status=401)["message"]
    web.hub.post("/api/v1/session", {**body, "otp": "000000"}, token="", status=401)
    assert web.hub.post("/api/v1/session", {**body, "otp": recovery[1]}, token="")["token"]
    web.hub.post("/api/v1/session", {**body, "otp": recovery[1]}, token="", status=401)


def test_a_passkey(web, page):
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    devtools.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )
    local(page, web, "/account/2fa/webauthn/add/")
    confirm(page)
    page.fill("input[name=name]", "laptop")
    page.check("input[name=passwordless]")
    page.click("button:has-text('Add')")
    page.wait_for_url("**/2fa/**")
    page.wait_for_timeout(500)
    assert Authenticator.objects.filter(type="webauthn").count() == 1
    page.context.clear_cookies()
    page.goto(web.url + "/login?next=/account")
    page.click("text=Use a passkey")
    page.wait_for_url(f"{web.url}/account")
    assert token_of(page)


def test_saml_in_a_browser(web, page):
    provider = SAMLServer(lambda acs: acs.replace("/acs/", "/metadata/"))
    body = {"name": "Partner account", "type": "saml", "config": provider.config()}
    web.hub.put("/api/v1/flotilla/sso/providers/partner", body)
    page.goto(web.url + "/login?next=/account")
    page.get_by_text("Partner account").click()
    page.click("text=Go on as dev")
    page.wait_for_url(f"{web.url}/account")
    assert "dev@example.com" in page.inner_text("h1")
    assert LoginSession.objects.get(account__subject="u-1").method == "sso:partner"
    provider.close()


def test_a_platform_engineer_sets_a_provider_up(web, page):
    local(page, web, "/settings/sso")
    page.fill("input[name=id]", "company")
    page.fill("input[name=name]", "Company")
    page.fill(
        "textarea[name=config]",
        "issuer: https://localhost:1\nclientID: hub\nclientSecret: CANARY-typed\n",
    )
    page.click("button:has-text('Save')")
    page.wait_for_selector("text=Company was saved")
    assert "CANARY" not in page.content()
    page.click("button:has-text('Test')")
    page.wait_for_selector("text=cannot be used")
    page.fill("input[name=id]", "company")
    page.fill("textarea[name=config]", "issuer: [")
    page.click("button:has-text('Save')")
    page.wait_for_selector("[role=alert]:has-text('Settings')")
    page.goto(web.url + "/settings/sso")
    page.click("button:has-text('Remove')")
    page.wait_for_selector("text=company was removed")


def test_pages_have_no_inline_code_and_no_errors(web, page):
    problems = []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    local(page, web)
    for path in ("/account", "/audit", "/settings/sso", "/account/2fa/", "/identity/o/device", "/"):
        answer = page.goto(web.url + path)
        assert answer.status == 200
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy and "frame-ancestors 'self'" in policy
        assert not page.eval_on_selector_all(
            "[style], [onclick], script:not([src]):not([type='application/json'])",
            "found => found.map(e => e.outerHTML)",
        )
    assert not problems
