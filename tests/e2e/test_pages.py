"""People use the pages: a developer's day, a platform engineer's sets, in a browser over a hub
that works.
"""

import json
import os
import re
import time
from datetime import timedelta

import pytest
from playwright.sync_api import expect
from support.sets import elements, manifest, run
from support.web import axe, deployment, jumps, sign_in
from support.wire import Wire

from clusters.live import set_connection
from clusters.models import Cluster
from hub.auth.sessions import end_sessions, issue
from hub.events.changes import publish
from hub.models import (
    Account,
    AuditEvent,
    LoginSession,
    access_changed,
    change_setting,
    next_version,
)
from projects.live_pages import consumers
from projects.models import Application, Project, Repository

expect.set_options(timeout=15_000)
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = (
    "true"  # Playwright runs a loop in the thread of the test.
)


def sign_in_by_company(page, site, who):
    page.goto(f"{site.url}/login")
    page.get_by_text("Company account").click()
    page.fill("input[name=login]", who)
    page.fill("input[name=password]", "any")
    page.click("button[type=submit]")
    page.click("button:has-text('Continue')")
    page.wait_for_url(f"{site.url}/**")


def add_rule(dialog, action, resource="applications"):
    dialog.get_by_role("button", name="Add a rule").click()
    row = dialog.locator("[data-rows-body] > .inputs").last
    row.locator("[name='policy.action']").fill(action)
    row.locator("[name='policy.resource']").select_option(resource)


def test_a_developers_day(site, company, sandbox, repo, namespace, watched):
    """From SSO to a rollback: what the developer may is what the platform engineer writes into the
    project's role.
    """
    page, hub = watched, site.hub
    company.people(
        dev={
            "email": "dev@example.com",
            "email_verified": True,
            "groups": ["web-team"],
            "name": "Dev",
        }
    )
    repo.commit({"app/d.yaml": deployment(1)})
    engineer = page.context.browser.new_context().new_page()
    sign_in(engineer, site)

    # The engineer writes a project by its form, and a role for the developer's group.
    engineer.goto(f"{site.url}/projects/new")
    engineer.fill("form.form [name=name]", "web")
    for title, values in (
        ("Source repositories", [repo.url]),
        ("Destinations", ["", "east", "*"]),
        ("Cluster-scoped kinds that are allowed", ["", "Namespace"]),
    ):
        rows = engineer.locator("fieldset", has=engineer.locator("legend", has_text=title)).first
        rows.get_by_role("button", name="Add").click()
        for number, value in enumerate(values):
            rows.locator("input").nth(number).fill(value)
    expect(engineer.locator("#text")).to_have_value(re.compile(r"kind: Namespace"))
    engineer.get_by_role("button", name="Create web").click()
    engineer.wait_for_url("**/projects/web")
    engineer.get_by_role("button", name="New role…").click()
    dialog = engineer.locator("[data-dialog]")
    dialog.locator("[name=name]").fill("dev")
    dialog.locator("[name=groups]").fill("web-team")
    add_rule(dialog, "create")
    add_rule(dialog, "get", "clusters")
    dialog.get_by_role("button", name="Save role").click()
    expect(engineer.locator("#roles .role")).to_contain_text("web-team")
    assert Project.objects.get(name="web").spec["roles"][0]["policies"] == [
        "p, proj:web:dev, applications, get, web/*, allow",
        "p, proj:web:dev, applications, create, web/*, allow",
        "p, proj:web:dev, clusters, get, web/*, allow",
    ]

    sign_in_by_company(page, site, "dev")
    page.goto(f"{site.url}/applications")
    expect(page.get_by_text("No applications yet.")).to_be_visible()
    page.goto(f"{site.url}/applications/new")
    page.fill("textarea", "kind: [")
    expect(page.locator("#checked .notice.bad")).to_be_visible()
    page.reload()
    page.select_option("form.form [name=project]", "web")
    for field, text in (
        ("name", "web"),
        ("repoURL", repo.url),
        ("path", "app"),
        ("revision", "main"),
        ("namespace", namespace),
    ):
        page.fill(f"form.form [name={field}]", text)
    expect(page.locator("#source h2")).to_have_text("Directory")
    # What the form has no field for is written in the manifest beside it.
    text = page.locator("#text")
    expect(text).to_have_value(re.compile(f"namespace: {namespace}"))
    text.fill(re.sub(r"name: .*\n(\s+namespace: ns)", r"name: east\n\1", text.input_value()))
    page.get_by_role("button", name="What would a sync do?").click()
    expect(page.locator("#effect")).to_contain_text("1 to create")
    page.get_by_role("button", name="Save web").click()
    page.wait_for_url("**/applications/argocd/web")
    state = page.locator("#state")
    expect(state.get_by_text("OutOfSync")).to_be_visible()
    expect(page.get_by_text("Not in the cluster yet.")).to_be_visible()

    # No right to sync: the page says so; the engineer adds it to the role, and the page obeys.
    locked = state.locator("[aria-disabled=true]")
    assert locked.get_attribute("title") == "You may not sync web/web"
    engineer.goto(f"{site.url}/projects/web?action=sync&resource=applications&object=web/web#who")
    expect(engineer.locator("#who")).to_contain_text("1 account: admin")
    engineer.get_by_role("button", name="Edit role dev…").click()
    for action in ("sync", "update", "update/*", "delete", "action/*", "override"):
        add_rule(dialog, action)
    add_rule(dialog, "get", "logs")
    dialog.get_by_role("button", name="Save role").click()
    expect(engineer.locator("#roles .role")).to_contain_text("override")
    engineer.goto(f"{site.url}/projects/web?action=sync&resource=applications&object=web/web#who")
    expect(engineer.locator("#who")).to_contain_text("dev@example.com")
    page.reload()

    # The plan before the button; then everything by itself, without a reload.
    state.get_by_role("button", name="Sync…").click()
    dialog = page.locator("[data-dialog]")
    expect(dialog.locator(".planlist")).to_contain_text("Deployment web")
    expect(dialog.get_by_text("create", exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Sync web").click()
    expect(state.get_by_text("Synced", exact=True)).to_be_visible()
    expect(state.get_by_text("Healthy", exact=True)).to_be_visible()
    expect(page.locator(".node", has_text="ReplicaSet")).to_be_visible()

    # Git changes; the page hears of it, the diff shows it, a sync brings it.
    hub.push(repo, {"app/d.yaml": deployment(3)})
    expect(state.get_by_text("OutOfSync")).to_be_visible()
    page.locator(".node", has_text="Deployment").click()
    page.locator("#panel").get_by_role("tab", name="Diff").click()
    expect(page.locator("#panel .dl.add", has_text="replicas: 3")).to_be_visible()
    expect(page.locator("#panel .dl.del", has_text="replicas: 1")).to_be_visible()
    page.locator("#panel").get_by_role("link", name="Side by side").click()
    expect(page.locator("#panel .sides .dl.add b")).to_have_text("3")
    for tab, words in (
        ("Live", "kind: Deployment"),
        ("Desired", "replicas: 3"),
        ("Events", "no events"),
        ("Summary", "apps"),
    ):
        page.locator("#panel").get_by_role("tab", name=tab).click()
        expect(page.locator("#panel .body")).to_contain_text(words)
    # The pod stands still until the restart replaces it.
    page.locator(".node", has_text="Pod").first.click()
    expect(page.locator("#panel header .tag").first).to_have_text("Pod")
    page.locator("#panel").get_by_role("tab", name="Logs").click()
    expect(page.locator("#panel [data-logs-lines]")).to_contain_text("web")
    page.locator(".node", has_text="Deployment").click()
    expect(page.locator("#panel header .tag").first).to_have_text("Deployment")
    page.locator("#panel").get_by_role("button", name="Restart").click()
    hub.wait(
        lambda: (
            "restartedAt"
            in json.dumps(sandbox.get("apps", "Deployment", namespace, "web")["spec"]["template"])
        ),
        "the restart",
    )
    state.get_by_role("button", name="Sync…").click()
    dialog.get_by_role("button", name="Sync web").click()
    expect(state.get_by_text("Synced", exact=True)).to_be_visible()
    assert sandbox.get("apps", "Deployment", namespace, "web")["spec"]["replicas"] == 3

    # By hand: an action with a parameter, an edit that is tried first.
    page.locator("#panel").get_by_role("button", name="Scale…").click()
    dialog.locator("[name=replicas]").fill("4")
    dialog.get_by_role("button", name="Scale").click()
    hub.wait(
        lambda: sandbox.get("apps", "Deployment", namespace, "web")["spec"]["replicas"] == 4,
        "the scaling",
    )
    page.locator("#panel").get_by_role("button", name="Edit live…").click()
    live = dialog.locator("#live-text")
    expect(live).to_have_value(re.compile("replicas: 4"))
    live.fill(live.input_value().replace("replicas: 4", "replicas: 5"))
    expect(dialog.locator(".dl.add", has_text="replicas: 5")).to_be_visible()
    assert sandbox.get("apps", "Deployment", namespace, "web")["spec"]["replicas"] == 4
    dialog.get_by_role("button", name="Change web").click()
    hub.wait(
        lambda: sandbox.get("apps", "Deployment", namespace, "web")["spec"]["replicas"] == 5,
        "the edit",
    )
    expect(dialog).to_be_hidden()
    page.wait_for_load_state()

    # Automated: what somebody changes by hand is healed.
    page.goto(f"{site.url}/applications/argocd/web/edit")
    page.get_by_label("Sync by itself").check()
    page.get_by_label("and heal drift").check()
    expect(page.locator("#checked .dl.add", has_text="selfHeal: true")).to_be_visible()
    page.get_by_role("button", name="Save web").click()
    page.wait_for_url("**/applications/argocd/web")
    expect(page.locator("#state").get_by_text("automated")).to_be_visible()
    hub.wait(
        lambda: sandbox.get("apps", "Deployment", namespace, "web")["spec"]["replicas"] == 3,
        "the drift to heal",
    )
    sandbox.patch("apps", "Deployment", namespace, "web", {"spec": {"replicas": 7}})
    hub.wait(
        lambda: sandbox.get("apps", "Deployment", namespace, "web")["spec"]["replicas"] == 3,
        "the drift to heal",
    )

    # A rollback is refused while that is on, and works when it is off.
    page.reload()
    page.get_by_role("button", name="Roll back…").first.click()
    expect(dialog.get_by_text("would undo a rollback")).to_be_visible()
    dialog.get_by_role("button", name=re.compile("Stay at")).click()
    page.goto(f"{site.url}/applications/argocd/web/edit")
    page.get_by_label("Sync by itself").uncheck()
    expect(page.locator("#checked .dl.del", has_text="selfHeal: true")).to_be_visible()
    page.get_by_role("button", name="Save web").click()
    page.wait_for_url("**/applications/argocd/web")
    page.get_by_role("button", name=re.compile("Compare")).last.click()
    expect(dialog.locator(".dl.add", has_text="replicas: 3")).to_be_visible()
    expect(dialog.locator(".dl.del", has_text="replicas: 1")).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Roll back…").last.click()
    dialog.get_by_role("button", name=re.compile("Roll back to")).click()
    hub.wait(
        lambda: sandbox.get("apps", "Deployment", namespace, "web")["spec"]["replicas"] == 1,
        "the rollback",
    )
    expect(page.locator("#state").get_by_text("OutOfSync")).to_be_visible()

    # The list, its filters, a favourite, the palette, the time line.
    page.goto(f"{site.url}/applications")
    page.locator("label", has_text="OutOfSync").locator("input").check()
    page.wait_for_url("**sync=OutOfSync**")
    expect(page.locator("tr[data-row]")).to_have_count(1)
    page.get_by_role("button", name="Favourite web").click()
    expect(page.locator("[aria-pressed=true]")).to_have_count(1)
    page.locator("label", has_text="Degraded").locator("input").check()
    expect(page.get_by_text("No application fits.")).to_be_visible()
    page.keyboard.press("Control+k")
    page.keyboard.type("we")
    expect(page.locator("[role=option]", has_text="web").first).to_be_visible()
    page.keyboard.press("Enter")
    page.wait_for_url("**/applications/argocd/web")
    page.get_by_role("link", name="Timeline").click()
    expect(page.locator(".moments")).to_contain_text("Drift: not as Git says")
    expect(page.locator(".moments")).not_to_contain_text("rollback")
    assert page.request.get(f"{site.url}/audit").status == 404
    page.goto(f"{site.url}/applications/argocd/web")
    page.get_by_role("button", name="Delete…").click()
    dialog.get_by_role("button", name=re.compile("Delete with")).click()
    hub.wait(lambda: not Application.objects.exists(), "the application to go")
    expect(page.get_by_text("This application was deleted")).to_be_visible()

    # The trail has all of it, under the developer's name.
    engineer.goto(f"{site.url}/audit?actor=dev@example.com")
    for verb in ("create", "sync", "patch", "action scale", "update", "rollback", "delete"):
        assert AuditEvent.objects.filter(verb=verb, actor="dev@example.com").exists(), verb
        expect(engineer.locator("main").get_by_text(verb, exact=True).first).to_be_visible()
    assert AuditEvent.objects.filter(kind="project", object="web", actor="admin").count() == 3
    engineer.goto(f"{site.url}/audit/reports?report=deployments&project=web")
    expect(engineer.locator("main table")).to_contain_text("dev@example.com")
    engineer.goto(f"{site.url}/audit/verification")
    engineer.get_by_role("button", name="Verify now").click()
    expect(engineer.get_by_text("The chain is whole.")).to_be_visible()


def test_rows_change_in_place_and_rights_hold(site, sandbox, repo, app, namespace, watched):
    page, hub = watched, site.hub
    repo.commit({"a/d.yaml": deployment(1), "b/d.yaml": deployment(1)})
    Project.objects.create(
        name="team",
        spec={"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]},
    )
    change_setting("rbac", {"policy.csv": "p, dev, applications, get, team/*, allow"})
    access_changed("policy", "rbac", None)
    account = Account.objects.create(name="dev", password="!", capabilities=["login"])
    app(repo, sandbox, namespace, name="mine", path="a", project="team")
    app(repo, sandbox, namespace, name="unseen", path="b")
    hub.wait_status("mine", "OutOfSync")
    page.context.add_cookies(
        [{"name": "argocd.token", "value": issue(account, timezone_now()), "url": site.url}]
    )

    page.goto(f"{site.url}/applications")
    expect(page.locator("tr[data-row]")).to_have_count(1)
    expect(page.locator("[data-link-word]")).to_have_text("Live")
    assert "unseen" not in page.content()
    hub.post("/api/v1/applications/mine/sync", {})
    expect(page.locator("tr[data-row]").get_by_text("Synced", exact=True)).to_be_visible()
    hub.post("/api/v1/applications/unseen/sync", {})
    hub.wait_status("unseen", "Synced", "Healthy")
    time.sleep(1)
    assert page.locator("[data-moved]").is_hidden() and "unseen" not in page.content()

    # No right to sync: the button says so, and the dialog's address and REST refuse.
    page.goto(f"{site.url}/applications/argocd/mine")
    assert (
        page.locator("#state [aria-disabled=true]").get_attribute("title")
        == "You may not sync team/mine"
    )
    for path in (
        "/applications/argocd/unseen",
        "/applications/argocd/absent",
        "/applications/argocd/unseen/sync",
        "/applications/argocd/unseen/resource?key=apps/Deployment/x/web",
        "/sets/argocd/none",
        "/sets/argocd/none/edit",
    ):
        assert page.request.get(site.url + path).status == 404, path
    assert page.request.get(f"{site.url}/palette?q=unse").text().count('role="option"') == 0

    # The right to see goes and comes back while nothing else happens: the open page follows.
    page.goto(f"{site.url}/applications")
    row = page.locator("tr[data-row]")
    row.locator("[data-pick]").check()
    for rule, is_gone in (("deny", True), ("allow", False)):
        change_setting("rbac", {"policy.csv": f"p, dev, applications, get, team/*, {rule}"})
        access_changed("policy", "rbac", None)
        (expect(row).to_have_class if is_gone else expect(row).not_to_have_class)(
            re.compile("is-gone"), timeout=6000
        )
        expect(row.locator("[data-pick]")).to_be_enabled(enabled=not is_gone)
        expect(row.locator("[data-pick]")).not_to_be_checked()
        expect(page.locator("[data-bulk]")).to_be_hidden()

    # The session ends: the page is sent to sign in within seconds.
    end_sessions(LoginSession.objects.filter(account=account), "admin")
    page.wait_for_url("**/login**", timeout=8000)


def timezone_now():
    from django.utils import timezone

    return timezone.now()


def test_a_set_is_previewed_and_a_mass_deletion_waits(web, watched):
    page, hub = watched, web.hub
    names = [f"a{n:02}" for n in range(20)]
    hub.post("/api/v1/applicationsets", manifest("s", elements(*names)))
    run("s")
    sign_in(page, web)
    page.goto(f"{web.url}/sets/argocd/s/edit")
    expect(page.locator("#preview .tally")).to_contain_text("20")
    few = manifest("s", elements("a00", "new"))
    page.fill("textarea", json.dumps({"kind": "ApplicationSet", **few}))
    expect(page.get_by_text("19 deletions would wait for a confirmation")).to_be_visible()
    expect(page.locator("#added")).to_contain_text("new")
    page.get_by_role("button", name="Save s").click()
    page.wait_for_url("**/sets/argocd/s")
    run("s")
    expect(page.get_by_text("19 deletions wait for a confirmation")).to_be_visible()
    assert Application.objects.filter(deletion_requested_at=None).count() == 21
    page.fill("textarea", "x") if page.locator("textarea").count() else None
    page.get_by_role("button", name="Delete 19 applications").click()
    hub.wait(
        lambda: (
            len(
                page.request.get(f"{web.url}/api/v1/applicationsets/s").json()["status"][
                    "resources"
                ]
            )
            == 21
        ),
        "the confirmation",
    )
    # The hub may be looking at the set itself: then this look is not made.
    hub.wait(
        lambda: run("s") or Application.objects.filter(deletion_requested_at=None).count() == 2,
        "the confirmed deletions",
    )
    page.goto(f"{web.url}/sets/new")
    page.fill("textarea", "kind: ApplicationSet\nmetadata: {name: x}\nspec: {generators: 3}")
    expect(page.get_by_text("spec.generators must be a list")).to_be_visible()


def test_a_slow_answer_about_older_text_never_covers_a_newer_one(site, watched):
    page, held = watched, []

    def hold(route):
        held.append(route)

    sign_in(page, site)
    # The look at the page's first text gets no answer before the one at what is typed.
    page.route("**/sets/preview", hold, times=1)
    page.goto(f"{site.url}/sets/new")
    page.fill("textarea", "kind: ApplicationSet\nmetadata: {name: x}\nspec: {generators: 3}")
    expect(page.get_by_text("spec.generators must be a list")).to_be_visible()
    assert len(held) == 1
    held[0].fulfill(body="<p>an answer about the older text</p>")
    page.wait_for_timeout(300)
    expect(page.get_by_text("spec.generators must be a list")).to_be_visible()
    expect(page.get_by_text("an answer about the older text")).to_have_count(0)


PATHS = (
    "/applications",
    "/applications?view=tiles",
    "/applications/argocd/web",
    "/applications/argocd/web?view=list",
    "/applications/new",
    "/sets",
    "/sets/argocd/s",
    "/sets/new",
    "/fleet",
    "/audit",
    "/account",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_for_everybody(site, sandbox, repo, app, namespace, watched, scheme):
    """axe-core finds nothing serious, nothing scrolls sideways on a phone, no page is heavy."""
    page, hub = watched, site.hub
    repo.commit({"app/d.yaml": deployment(2)})
    app(repo, sandbox, namespace, name="web", path="app")
    hub.wait_status("web", "OutOfSync")
    hub.post("/api/v1/applicationsets", manifest("s", elements("made")))
    page.emulate_media(color_scheme=scheme)
    sign_in(page, site)
    wrong = []
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for path in PATHS:
            page.goto(site.url + path)
            page.wait_for_load_state("networkidle") if path.endswith(
                "/new"
            ) else page.wait_for_timeout(150)
            if (moved := jumps(page)) >= 0.1:
                wrong.append(f"{path} at {width} jumps by {moved:.2f}")
            wrong += [f"{path} at {width}: {line}" for line in axe(page)]
            if page.evaluate("document.documentElement.scrollWidth") > width:
                wrong.append(f"{path} at {width} scrolls sideways")
    assert wrong == []


def test_every_command_of_an_application_is_on_a_phone(
    site, sandbox, repo, app, namespace, watched
):
    page, hub = watched, site.hub
    repo.commit({"app/d.yaml": deployment(1)})
    app(repo, sandbox, namespace, name="web", path="app")
    hub.wait_status("web", "OutOfSync")
    sign_in(page, site)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{site.url}/applications/argocd/web")

    boxes = {}
    for name in ("Sync…", "Refresh", "Edit", "Delete…"):
        command = (
            page.locator(".apphead .acts")
            .get_by_label(name)
            .or_(page.locator(".apphead .acts").get_by_text(name, exact=True))
        )
        expect(command.first).to_be_visible()
        boxes[name] = command.first.bounding_box()

    assert len({box["y"] for box in boxes.values()}) == 1
    assert boxes["Sync…"]["width"] > 3 * boxes["Delete…"]["width"]
    assert all(box["width"] >= 44 and box["height"] >= 44 for box in boxes.values())


def test_a_page_without_heartbeats_shows_that_it_is_not_live(site, hub, page, monkeypatch):
    """A network that drops everything leaves the socket open: the page knows by the beat that it
    misses.
    """
    monkeypatch.setattr(consumers, "BEAT_SECONDS", 0.5)
    wire = Wire(site.url)
    page.context.add_cookies([{"name": "argocd.token", "value": hub.token, "url": wire.url}])
    page.goto(f"{wire.url}/applications")
    word = page.locator("[data-link-word]")
    expect(word).to_have_text("Live")
    time.sleep(3)
    expect(word).to_have_text("Live")

    wire.cut()
    expect(word).to_have_text("Not live", timeout=15_000)
    wire.mend()
    expect(word).to_have_text("Live", timeout=30_000)
    wire.close()


def test_every_page_follows_what_it_is_about(web, watched):
    """Lists and single pages of sets, projects, clusters and repositories, without being loaded
    anew.
    """
    page, hub = watched, web.hub
    sign_in(page, web)
    cluster = Cluster.objects.create(
        server="https://east.example",
        name="east",
        connection="Successful",
        is_synced=True,
        lease_until=timezone_now() + timedelta(hours=1),
        resource_version=next_version(),
    )
    repo = Repository.objects.create(
        url="https://git.example/x", connection="Successful", resource_version=next_version()
    )
    live = page.locator("[data-link-word]")

    def show(path):
        page.goto(web.url + path)
        expect(live).to_have_text("Live")
        page.evaluate("window.stays = true")

    show("/projects")
    page.locator("#projects").get_by_role("link", name="default").focus()
    page.keyboard.press("j")
    hub.post("/api/v1/projects", {"project": {"metadata": {"name": "alpha"}, "spec": {}}})
    hub.post("/api/v1/projects", {"project": {"metadata": {"name": "web"}, "spec": {}}})
    expect(page.locator("#projects").get_by_role("link", name="web")).to_be_visible()
    # Who reads by keyboard is where it was, one row further down.
    expect(page.locator("#projects").get_by_role("link", name="default")).to_be_focused()
    expect(page.locator("tr.cursor")).to_contain_text("default")
    assert page.evaluate("window.stays")

    show("/projects/web")
    page.fill("#who [name=action]", "sync")
    project = hub.get("/api/v1/projects/web")
    project["spec"]["roles"] = [
        {
            "name": "deployers",
            "policies": ["p, proj:web:deployers, applications, sync, web/*, allow"],
        }
    ]
    hub.put("/api/v1/projects/web", {"project": project})
    expect(page.locator("#roles")).to_contain_text("deployers")
    # What is being written is not taken away.
    expect(page.locator("#who [name=action]")).to_have_value("sync")
    assert page.evaluate("window.stays")
    hub.delete("/api/v1/projects/web")
    expect(
        page.get_by_text("This project was deleted, or you no longer have permission to see it.")
    ).to_be_visible()
    expect(page.locator("#limits")).to_have_count(0)

    show("/sets")
    hub.post(
        "/api/v1/applicationsets",
        manifest("fleet", elements("a", "b"), {"source": {"repoURL": repo.url, "path": "x"}}),
    )
    expect(page.locator("#sets").get_by_role("link", name="fleet")).to_be_visible()
    show("/sets/argocd/fleet")
    hub.delete("/api/v1/applicationsets/fleet")
    expect(
        page.get_by_text("This set was deleted, or you no longer have permission to see it.")
    ).to_be_visible()

    show(f"/fleet/{cluster.pk}")
    expect(page.locator("#clusterstate")).to_contain_text("Connected")
    set_connection(cluster.pk, "Failed", "nobody answers", is_synced=False)
    expect(page.locator("#clusterstate")).to_contain_text("nobody answers")
    show("/fleet")
    expect(page.locator("#fleetrows")).to_contain_text("nobody answers")
    set_connection(cluster.pk, "Successful", "", is_synced=True)
    expect(page.locator("#fleetrows")).not_to_contain_text("nobody answers")

    show("/repositories")
    Repository.objects.filter(pk=repo.pk).update(
        connection="Failed", message="no", resource_version=next_version()
    )
    publish()
    expect(page.locator("#repos .st-bad")).to_be_visible()
    assert page.evaluate("window.stays")
