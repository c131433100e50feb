"""A platform engineer's and an auditor's day in the browser: clusters, repositories, roles,
notices, reports; and who may not.
"""

import os
import re
import time
from datetime import timedelta

import pytest
from django.urls import get_resolver
from django.utils import timezone
from playwright.sync_api import expect
from support.sets import elements, manifest
from support.web import axe, deployment, jumps, sign_in

from clusters.models import Cluster
from hub.auth.sessions import end_sessions, issue
from hub.models import (
    Account,
    AuditEvent,
    Grant,
    LoginSession,
    Role,
    access_changed,
    change_setting,
    setting,
)
from projects.models import Application, Project, Repository, StatusChange

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = (
    "true"  # Playwright runs a loop in the thread of the test.
)


def test_a_cluster_is_registered_changed_and_removed(
    site, sandbox_server, repo, app, watched, namespace
):
    page, hub = watched, site.hub
    sign_in(page, site)
    body = manifest("everywhere", [{"clusters": {"selector": {"matchLabels": {"env": "prod"}}}}])
    hub.post("/api/v1/applicationsets", body)
    page.goto(f"{site.url}/fleet")
    page.get_by_role("link", name="Register cluster").click()
    page.fill("[name=name]", "east")
    page.fill("[name=server]", sandbox_server.url("east"))
    page.fill("[name=bearerToken]", "wrong")
    page.fill("[name=caData]", sandbox_server.certificate)
    page.get_by_role("button", name="Add a label").click()
    page.locator("[name='label.key']").fill("env")
    page.locator("[name='label.value']").fill("prod")
    page.get_by_role("button", name="Test, change nothing").click()
    expect(page.locator("#probed .notice.bad")).to_contain_text("refuses the credentials")
    page.get_by_role("button", name="Register", exact=True).click()
    expect(page.locator("#register [data-error]")).to_contain_text("refuses the credentials")
    assert not Cluster.objects.filter(name="east").exists()
    page.fill("[name=bearerToken]", "sandbox-token")
    page.get_by_role("button", name="Test, change nothing").click()
    expect(page.locator("#probed")).to_contain_text("east answers")
    expect(page.locator("#probed")).to_contain_text("everywhere")
    page.get_by_role("button", name="Register", exact=True).click()
    page.wait_for_url(re.compile(r"/fleet/\d+$"))
    row = Cluster.objects.get(name="east")
    assert (row.labels, row.config["bearerToken"]) == ({"env": "prod"}, "sandbox-token")
    assert "sandbox-token" not in page.content()

    page.get_by_role("button", name="Edit…").click()
    dialog = page.locator("[data-dialog]")
    dialog.locator("[name='label.value']").fill("test")
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator("dl.kv")).to_contain_text("env=test")
    row.refresh_from_db()
    assert row.config["bearerToken"] == "sandbox-token"
    hub.wait(lambda: Cluster.objects.get(pk=row.pk).is_synced, "the cluster")
    repo.commit({"a.yaml": deployment(1)})
    app(repo, row.server, namespace, name="web")
    hub.wait_status("web", "OutOfSync")
    page.get_by_role("button", name="Rotate…").click()
    dialog.get_by_role("button", name="Rotate", exact=True).click()
    expect(dialog.locator("[data-error]")).to_contain_text("does not use a service-account token")
    dialog.get_by_role("button", name="Keep the token").click()
    page.get_by_role("button", name="Remove…").click()
    expect(dialog).to_contain_text("1 application loses its cluster")
    expect(dialog).to_contain_text("web")
    dialog.get_by_role("button", name=re.compile("Remove east")).click()
    page.wait_for_url("**/fleet")
    assert not Cluster.objects.filter(name="east").exists()
    assert (
        sandbox_server.sandboxes["east"] is not None
        and Application.objects.filter(name="web").exists()
    )


KUBECONFIG = """
current-context: b
contexts: [{{name: a, context: {{cluster: c, user: u}}}}, {{name: b, context: {{cluster: c, user: v}}}}]
clusters: [{{name: c, cluster: {{server: "{server}", insecure-skip-tls-verify: true}}}}]
users: [{{name: u, user: {{exec: {{command: aws}}}}}}, {{name: v, user: {{token: sandbox-token}}}}]
"""


def test_a_kubeconfig_registers_a_cluster(site, sandbox_server, watched):
    page = watched
    sign_in(page, site)
    page.goto(f"{site.url}/fleet/register")
    page.get_by_text("Or with a kubeconfig").click()
    page.fill("[name=kubeconfig]", KUBECONFIG.format(server=sandbox_server.url("west")))
    page.fill("[name=context]", "a")
    page.get_by_role("button", name="Register", exact=True).click()
    expect(page.locator("#register [data-error]")).to_contain_text("signs in by a program (exec)")
    page.fill("[name=context]", "")
    page.get_by_role("button", name="Register", exact=True).click()
    page.wait_for_url(re.compile(r"/fleet/\d+$"))
    assert Cluster.objects.get(name="b").config["tlsClientConfig"] == {"insecure": True}


def test_repositories_are_connected_and_tested(site, repo, git_server, watched):
    page = watched
    repo.commit({"a.yaml": "{}"})
    git_server.password = "secret-password"
    sign_in(page, site)
    page.goto(f"{site.url}/repositories")
    page.get_by_role("button", name="Connect…").click()
    dialog = page.locator("[data-dialog]")
    dialog.locator("[name=repo]").fill(repo.url)
    dialog.get_by_role("button", name="Test").click()
    expect(dialog.locator("[data-error]")).to_contain_text("not accessible")
    dialog.locator("[name=username]").fill("git")
    dialog.locator("[name=password]").fill("secret-password")
    dialog.get_by_role("button", name="Test").click()
    expect(page.locator("[data-toasts]")).to_contain_text("answers")
    assert not Repository.objects.exists()
    dialog.get_by_role("button", name="Connect", exact=True).click()
    expect(page.locator("table")).to_contain_text(repo.url)
    assert Repository.objects.get().connection == "Successful"
    assert "secret-password" not in page.content()
    git_server.password = "another"
    page.get_by_role("button", name="Test").click()
    expect(page.locator("table")).to_contain_text("No")
    page.get_by_role("button", name=re.compile("Disconnect")).first.click()
    page.locator("dialog[open]").get_by_role("button", name="Disconnect", exact=True).click()
    expect(page.locator("table")).to_contain_text("No repositories are connected")

    page.get_by_role("button", name="Add an SSH host…").click()
    dialog.locator("[name=lines]").fill("git.example ssh-ed25519")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.locator("[data-error]")).to_contain_text("must be a host, the kind of its key")
    key = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    dialog.locator("[name=lines]").fill(f"# comment\ngit.example ssh-ed25519 {key}")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#hosts")).to_contain_text("git.example")
    assert AuditEvent.objects.filter(kind="certificate", verb="create").count() == 1


def test_roles_grants_accounts_and_notices(site, watched):
    page = watched
    sign_in(page, site)
    page.goto(f"{site.url}/settings/accounts")
    page.get_by_role("button", name="New account…").click()
    dialog = page.locator("[data-dialog]")
    dialog.locator("[name=name]").fill("mara")
    dialog.locator("[name=password]").fill("short")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.locator("[data-error]")).to_be_visible()
    dialog.locator("[name=password]").fill("a long enough password")
    dialog.get_by_role("button", name="Create").click()
    expect(page.locator("main table")).to_contain_text("mara")
    page.get_by_role("button", name=re.compile("Change… mara")).click()
    dialog.get_by_role("button", name="Disable").click()
    expect(page.locator("main table")).to_contain_text("Disabled")
    assert Account.objects.get(name="mara").enabled is False

    page.goto(f"{site.url}/settings/roles")
    page.get_by_role("button", name="New role…").click()
    dialog.locator("[name=name]").fill("role:release")
    dialog.locator("[name=members]").fill("mara\nrelease-team")
    row = dialog.locator("[data-rows-body] > .inputs").first
    row.locator("[name='policy.action']").fill("sync")
    row.locator("[name='policy.clusters']").fill("nonsense")
    dialog.get_by_role("button", name="Save role").click()
    expect(dialog.locator("[data-error]")).to_contain_text("is not a cluster scope")
    row.locator("[name='policy.clusters']").fill("clusters named prod-*")
    dialog.get_by_role("button", name="Save role").click()
    expect(page.locator("#roles")).to_contain_text("release-team")
    assert Role.objects.get().rules[0]["clusters"] == "clusters named prod-*"
    page.get_by_role("button", name="Grant for a time…").click()
    for field, value in (
        ("subject", "release-team"),
        ("action", "delete"),
        ("object", "shop/*"),
        ("reason", "moving house"),
    ):
        dialog.locator(f"[name={field}]").fill(value)
    dialog.get_by_role("button", name="Grant", exact=True).click()
    expect(page.locator("#grants")).to_contain_text("moving house")
    assert Grant.objects.get().ends_at < timezone.now() + timedelta(hours=5)
    page.locator("#who [name=action]").fill("delete")
    page.locator("#who [name=object]").fill("shop/web")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#who")).to_contain_text("release-team")

    page.goto(f"{site.url}/settings/notices")
    page.get_by_role("button", name="Add a notice").click()
    page.locator("[name=text]").fill("Frozen <b>until</b> Monday")
    page.locator("[name=url]").fill("javascript:alert(1)")
    page.get_by_role("button", name="Save notices").click()
    expect(page.locator("[data-error]")).to_contain_text("must begin with https://")
    page.locator("[name=url]").fill("https://wiki.example/freeze")
    page.get_by_role("button", name="Save notices").click()
    expect(page.locator(".banner")).to_have_text(re.compile("Frozen <b>until</b> Monday"))
    page.goto(f"{site.url}/applications")
    expect(page.locator(".banner")).to_be_visible()
    assert (
        page.request.get(f"{site.url}/api/v1/settings").json()["uiBannerContent"]
        == "Frozen <b>until</b> Monday"
    )
    change_setting("notices", [{"text": "over", "until": "2020-01-01T00:00:00Z"}])
    page.reload()
    assert page.locator(".banner").count() == 0
    page.goto(f"{site.url}/settings/system")
    expect(page.locator("main")).to_contain_text("Database")


def test_who_watches_access_and_notices_sees_them_change(web, watched):
    """What another person does is on the open page; a page that shows nothing live hears of
    notices and of the session's end.
    """
    page, hub = watched, web.hub
    sign_in(page, web)
    page.goto(f"{web.url}/settings/roles")
    live = page.locator("[data-link-word]")
    expect(live).to_have_text("Live")
    page.fill("#who [name=action]", "delete")
    hub.put(
        "/api/v1/flotilla/roles/role:release",
        {
            "rules": [
                {
                    "resource": "applications",
                    "action": "sync",
                    "object": "shop/*",
                    "effect": "allow",
                }
            ],
            "members": ["release-team"],
        },
    )
    expect(page.locator("#roles")).to_contain_text("release-team", timeout=8000)
    expect(page.locator("#who [name=action]")).to_have_value("delete")

    page.goto(f"{web.url}/settings/accounts?q=mara")
    expect(live).to_have_text("Live")
    hub.post("/api/v1/flotilla/accounts", {"name": "mara", "password": "a long enough password"})
    expect(page.locator("#accounts")).to_contain_text("mara", timeout=8000)

    page.goto(f"{web.url}/audit")
    page.wait_for_function("performance.getEntriesByType('resource').length > 0")
    page.wait_for_timeout(500)
    soon = (timezone.now() + timedelta(seconds=4)).strftime("%Y-%m-%dT%H:%M:%SZ")
    hub.put(
        "/api/v1/flotilla/settings/notices",
        {
            "value": [
                {"text": "Frozen until Monday", "tone": "drift"},
                {"text": "In a moment", "until": soon},
            ]
        },
    )
    expect(page.locator(".banner")).to_have_count(2)
    expect(page.locator("#notices")).to_contain_text("Frozen until Monday")
    # One that is over goes by itself.
    expect(page.locator(".banner")).to_have_count(1, timeout=8000)
    assert live.is_hidden()
    end_sessions(LoginSession.objects.all(), "admin")
    page.wait_for_url("**/login**", timeout=8000)


def test_windows_are_drawn_and_edited(site, watched):
    page = watched
    sign_in(page, site)
    page.goto(f"{site.url}/projects/default")
    page.get_by_role("button", name="New window…").click()
    dialog = page.locator("[data-dialog]")
    dialog.locator("[name=schedule]").fill("every day")
    dialog.get_by_role("button", name="Save window").click()
    expect(dialog.locator("[data-error]")).to_contain_text("must have 5 fields")
    dialog.locator("[name=schedule]").fill("0 22 * * *")
    dialog.get_by_role("button", name="Save window").click()
    expect(page.locator("#windows .window rect")).to_have_count(8)
    spec = Project.objects.get(name="default").spec
    assert spec["syncWindows"] == [
        {"kind": "deny", "schedule": "0 22 * * *", "duration": "8h", "applications": ["*"]}
    ]
    # Two people at once: the second is told.
    page.locator("#windows").get_by_role("button", name="Edit…").click()
    expect(dialog.get_by_role("button", name="Remove window")).to_be_visible()
    Project.objects.filter(name="default").update(spec={**spec, "syncWindows": []})
    dialog.get_by_role("button", name="Remove window").click()
    expect(dialog.locator("[data-error]")).to_contain_text(
        "The windows were changed in the meantime"
    )


PUBLIC = (
    "login",
    "auth/",
    "sso/",
    "saml",
    "identity/",
    ".well-known",
    "healthz",
    "readyz",
    "metrics",
    "api/",
    "account/2fa",
    "logout",
    "nothing",
    "static",
    "swagger",
)


def page_paths():
    """Every address of a page, with words for its parts."""
    words = {
        "str:namespace": "argocd",
        "str:name": "web",
        "int:pk": "1",
        "int:number": "1",
        "uuid:uid": "6b1f3f5e-0000-4000-8000-000000000000",
        "uuid:session_id": "6b1f3f5e-0000-4000-8000-000000000000",
    }
    for pattern in get_resolver().url_patterns:
        route = getattr(pattern.pattern, "_route", "")
        if route and not route.startswith(PUBLIC) and hasattr(pattern, "callback"):
            yield re.sub(r"<([^>]+)>", lambda found: words.get(found[1], "x"), route)


def test_no_page_tells_a_stranger_anything(web, client):
    """Nobody signed in is sent to sign in; an account without rights finds nothing behind any
    address.
    """
    hub = web.hub
    Project.objects.create(name="web", spec={"sourceRepos": ["*"], "description": "CANARY"})
    hub.post("/api/v1/applicationsets", manifest("web", elements("web")))
    spec = {
        "project": "web",
        "source": {"repoURL": "https://git.example/CANARY", "path": "."},
        "destination": {"server": "https://kubernetes.default.svc"},
    }
    Application.objects.create(name="web", project="web", spec=spec)
    change_setting("rbac", {"policy.default": ""})
    access_changed("policy", "rbac", None)
    nobody = Account.objects.create(name="nobody", password="!", capabilities=["login"])
    paths = list(page_paths())
    assert len(paths) > 60
    for path in paths:
        for method in ("get", "post"):
            answer = getattr(client, method)(f"/{path}")
            assert answer.status_code in (302, 401, 403, 405), (path, answer.status_code)
            assert answer.status_code != 302 or "/login" in answer["Location"], path
    client.cookies["argocd.token"] = issue(nobody, timezone.now())
    own = (
        "account",
        "applications",
        "palette",
        "notices",
        "sets",
        "sets/new",
        "sets/preview",
        "fleet",
        "projects",
        "projects/new",
        "projects/compose",
        "projects/check",
        "api",
        "",
    )
    for path in paths:
        answer = client.get(f"/{path}")
        text = b"".join(answer.streaming_content) if answer.streaming else answer.content
        assert b"CANARY" not in text, path
        if path not in own and not path.startswith(("applications/", "account", "audit/views")):
            assert answer.status_code in (403, 404, 405), (path, answer.status_code)
        answer = client.post(f"/{path}", {"text": "metadata: {name: web}", "name": "web"})
        assert b"CANARY" not in answer.content, path
    assert Project.objects.get(name="web").spec["description"] == "CANARY"
    assert not Role.objects.exists() and setting("notices", []) == []


PATHS = (
    "/applications?view=summary",
    "/applications/argocd/web?view=network",
    "/applications/argocd/web?view=pods",
    "/applications/argocd/web/edit",
    "/applications/argocd/web/timeline",
    "/projects",
    "/projects/default",
    "/projects/default/edit",
    "/projects/new",
    "/fleet/register",
    "/repositories",
    "/settings/accounts",
    "/settings/roles",
    "/settings/notices",
    "/settings/system",
    "/api",
    "/settings/sso",
    "/audit/reports",
    "/audit/reports?report=changes",
    "/audit/reports?report=access",
    "/audit/verification",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_for_everybody(site, sandbox, repo, app, namespace, watched, scheme):
    page, hub = watched, site.hub
    repo.commit({"app/d.yaml": deployment(2)})
    app(repo, sandbox, namespace, name="web", path="app")
    hub.wait_status("web", "OutOfSync")
    hub.post("/api/v1/applications/web/sync", {})
    hub.wait_status("web", "Synced", "Healthy")
    hub.put(
        "/api/v1/projects/default",
        {
            "project": {
                "metadata": {"name": "default"},
                "spec": {
                    **Project.objects.get(name="default").spec,
                    "roles": [
                        {
                            "name": "ci",
                            "policies": [
                                "p, proj:default:ci, applications, sync, default/*, allow"
                            ],
                            "groups": ["g"],
                        }
                    ],
                    "syncWindows": [
                        {
                            "kind": "deny",
                            "schedule": "0 0 * * *",
                            "duration": "1m",
                            "namespaces": ["none"],
                        }
                    ],
                },
            }
        },
    )
    assert StatusChange.objects.filter(application__name="web").count() >= 2
    page.emulate_media(color_scheme=scheme)
    sign_in(page, site)
    fleet = f"/fleet/{Cluster.objects.get(name='east').pk}"
    wrong = []
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for path in (*PATHS, fleet):
            page.goto(site.url + path)
            page.wait_for_timeout(400)
            if (moved := jumps(page)) >= 0.1:
                wrong.append(f"{path} at {width} jumps by {moved:.2f}")
            wrong += [f"{path} at {width}: {line}" for line in axe(page)]
            if page.evaluate("document.documentElement.scrollWidth") > width:
                wrong.append(f"{path} at {width} scrolls sideways")
    for path, button in (
        ("/applications/argocd/web", "Sync…"),
        ("/projects/default", "New role…"),
        ("/projects/default", "New window…"),
        ("/repositories", "Connect…"),
        ("/settings/roles", "New role…"),
    ):
        page.goto(site.url + path)
        page.get_by_role("button", name=button).first.click()
        page.wait_for_timeout(600)
        wrong += [f"{path} {button}: {line}" for line in axe(page)]
    assert "\n".join(wrong) == ""


def test_what_somebody_saved_meanwhile_is_not_written_over(
    site, sandbox, repo, app, namespace, watched
):
    page, hub = watched, site.hub
    repo.commit({"app/d.yaml": deployment(2)})
    app(repo, sandbox, namespace, name="web", path="app", revisionHistoryLimit=3)
    sign_in(page, site)
    for where, path, change in (
        (
            "/applications/argocd/web/edit",
            "/api/v1/applications/web",
            {"spec": {"revisionHistoryLimit": 5}},
        ),
        ("/projects/default/edit", "/api/v1/projects/default", {"spec": {"description": "theirs"}}),
    ):
        page.goto(f"{site.url}{where}")
        text = page.locator("#text").input_value()
        assert "resourceVersion" in text
        save = page.locator("#checked button.primary")
        expect(save).to_be_visible()
        read = hub.get(path)
        theirs = {**read, "spec": {**read["spec"], **change["spec"]}}
        hub.put(path, {"project": theirs} if "projects" in path else theirs)
        mine = text.replace("revisionHistoryLimit: 3", "revisionHistoryLimit: 4").replace(
            "spec:\n", "spec:\n  description: mine\n" if "projects" in path else "spec:\n"
        )
        page.locator("#text").fill(mine)
        expect(page.locator("#checked details")).to_be_visible()
        save.click()
        expect(page.locator("#checked [data-error]")).to_contain_text("read it again")
        assert hub.get(path)["spec"].items() >= change["spec"].items()


def test_the_trail_and_the_system_follow(web, watched):
    """New events are offered, not pushed between what is being read; who may no longer look is
    refused once, not each second.
    """
    page, hub = watched, web.hub
    account = Account.objects.create(name="aud", password="!", capabilities=["login"])
    change_setting("rbac", {"policy.csv": "g, aud, role:auditor"})
    access_changed("policy", "rbac", None)
    token = issue(account, timezone.now())
    page.context.add_cookies([{"name": "argocd.token", "value": token, "url": web.url}])
    page.goto(f"{web.url}/audit?kind=project")
    expect(page.get_by_text("No matching events.")).to_be_visible()
    hub.post("/api/v1/projects", {"project": {"metadata": {"name": "web"}, "spec": {}}})
    hub.put("/api/v1/flotilla/settings/health", {"value": {}})  # is about no project
    expect(page.locator("#newer")).to_contain_text("1 newer event.")
    page.locator("#newer").get_by_role("link", name="Show").click()
    expect(page.get_by_role("cell", name="project web")).to_be_visible()
    expect(page.locator("#newer .notice")).to_have_count(0)
    assert axe(page) == []

    change_setting("rbac", {"policy.csv": ""})
    access_changed("policy", "rbac", None)
    expect(page.get_by_text("It is not there any more, or you may not see it.")).to_be_visible()
    time.sleep(2.5)
    assert AuditEvent.objects.filter(outcome="refused", actor="aud").count() == 1

    change_setting("rbac", {"policy.csv": "g, aud, role:admin"})
    access_changed("policy", "rbac", None)
    page.goto(f"{web.url}/settings/system")
    expect(page.locator("#work")).to_contain_text("none")
    Application.objects.create(
        name="due", project="default", spec={"project": "default"}, refresh_at=timezone.now()
    )
    expect(page.locator("#work")).not_to_contain_text("none", timeout=15_000)

    page.goto(f"{web.url}/audit?kind=project")
    end_sessions(LoginSession.objects.filter(account=account), "admin")
    page.wait_for_url(f"{web.url}/login?next=%2Faudit%3Fkind%3Dproject", timeout=15_000)
