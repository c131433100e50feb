"""The drawing of an application's resources, up to thousands of them."""

import json
import os

import pytest
from playwright.sync_api import expect
from support.web import deployment, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = (
    "true"  # Playwright runs a loop in the thread of the test.
)

# Counts what a drawing changes in the page.
WATCH = """() => {
  window.changes = [];
  window.observer = new MutationObserver((list) => window.changes.push(...list.map((m) => m.target.closest("[data-key]")?.dataset.key ?? m.target.tagName)));
  window.observer.observe(document.querySelector("svg.tree"), { subtree: true, childList: true, attributes: true, characterData: true });
}"""
CHANGES = "() => { const found = [...new Set(window.changes)]; window.changes = []; return found; }"


def resources(count):
    """Return the drawing of `count` Deployments with a ReplicaSet and three pods each."""
    nodes = []
    for n in range(count):
        name, place = f"web-{n:03}", {"ns": "x", "h": "Healthy"}
        owner, middle = f"apps/Deployment/x/{name}", f"apps/ReplicaSet/x/{name}-rs"
        nodes.append({"k": owner, "kind": "Deployment", "name": name, "s": "Synced", **place})
        nodes.append({"k": middle, "kind": "ReplicaSet", "name": f"{name}-rs", "p": owner, **place})
        nodes += [
            {"k": f"/Pod/x/{name}-{i}", "kind": "Pod", "name": f"{name}-{i}", "p": middle, **place}
            for i in range(3)
        ]
    return nodes


@pytest.fixture
def big(site, sandbox, repo, app, namespace, watched):
    """An application's page whose drawing has 2,000 resources; and the resources."""
    page, nodes = watched, resources(400)
    repo.commit({"app/d.yaml": deployment(1)})
    app(repo, sandbox, namespace, name="web", path="app")
    site.hub.wait_status("web", "OutOfSync")
    page.set_viewport_size({"width": 1440, "height": 1200})
    sign_in(page, site)
    page.route(
        "**/applications/argocd/web/tree",
        lambda route: route.fulfill(json={"nodes": nodes, "links": []}),
    )
    page.goto(f"{site.url}/applications/argocd/web")
    expect(page.locator("[data-tree-count]")).to_have_text("2000 resources")
    return page, nodes


def focused(page):
    return page.evaluate("document.activeElement.dataset.key")


def node(page, key):
    return page.locator(f'svg.tree [data-key="{key}"]')


def test_thousands_of_resources_move_like_a_few(big):
    page, _nodes = big
    drawn = page.locator("svg.tree [role=treeitem]")
    expect(node(page, "apps/Deployment/x/web-000")).to_be_in_viewport()
    assert drawn.count() < 150
    # Who hears the page knows how many there are.
    expect(node(page, "apps/Deployment/x/web-001")).to_have_attribute("aria-posinset", "2")
    expect(node(page, "apps/Deployment/x/web-001")).to_have_attribute("aria-setsize", "400")

    # Whatever is scrolled to is there, near and far.
    for share, there in ((0.5, "web-200"), (1, "web-399")):
        page.evaluate(
            f"() => {{ const c = document.querySelector('[data-canvas]'); c.scrollTo(0, "
            f"{share} * c.scrollHeight); }}"
        )
        expect(node(page, f"/Pod/x/{there}-2")).to_be_in_viewport()
        assert drawn.count() < 150
    for _ in range(12):
        page.locator("[data-tree-scale='0.8']").click()
    expect(page.locator("[data-tree-zoom]")).to_have_text("10 %")
    expect(node(page, "/Pod/x/web-399-2")).to_be_in_viewport()
    assert drawn.count() < 700


def test_a_step_of_scrolling_draws_only_what_comes_near(big):
    page, _nodes = big
    page.evaluate(WATCH)
    page.evaluate("document.querySelector('[data-canvas]').scrollTo(0, 10)")
    page.wait_for_timeout(200)
    assert len(page.evaluate(CHANGES)) <= 3


def test_a_change_touches_its_box_and_nothing_else(big):
    page, nodes = big
    page.locator("svg.tree [tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert focused(page) == "apps/Deployment/x/web-001"
    page.evaluate(WATCH)
    nodes[6]["h"] = "Progressing"
    page.evaluate("htmx.trigger(document.body, 'object-changed')")
    expect(node(page, nodes[6]["k"])).to_have_class("node is-busy")
    assert page.evaluate(CHANGES) == [nodes[6]["k"]]
    assert focused(page) == "apps/Deployment/x/web-001"

    # More comes above: everything moves down, the keyboard stays where it is.
    nodes[:0] = [{"k": "/Secret/x/s", "kind": "Secret", "name": "s"}]
    page.evaluate("htmx.trigger(document.body, 'object-changed')")
    expect(node(page, "/Secret/x/s")).to_be_visible()
    assert focused(page) == "apps/Deployment/x/web-001"
    # What the keyboard was on goes: it does not fall out of the tree.
    gone = [n for n in nodes if n["name"].startswith("web-001")]
    for found in gone:
        nodes.remove(found)
    page.evaluate("htmx.trigger(document.body, 'object-changed')")
    expect(node(page, "apps/Deployment/x/web-001")).to_have_count(0)
    assert focused(page) == ""


def test_the_tree_is_walked_and_searched_by_keyboard(big):
    page, _nodes = big
    page.locator("svg.tree [tabindex='0']").focus()
    page.keyboard.press("End")
    assert focused(page) == "/Pod/x/web-399-2"
    expect(node(page, "/Pod/x/web-399-2")).to_be_in_viewport()
    page.keyboard.press("Home")
    assert focused(page) == ""
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    expect(node(page, "apps/Deployment/x/web-000")).to_have_attribute("aria-expanded", "false")
    expect(node(page, "/Pod/x/web-000-1")).to_have_count(0)

    page.fill("[data-tree-filter]", "web-000-")
    expect(page.locator("[data-tree-found]")).to_have_text("0 found, 4 not in this view")
    page.fill("[data-tree-filter]", "pod web-2 -1 ")
    expect(page.locator("[data-tree-found]")).to_have_text("100 found")
    page.keyboard.press("Enter")
    assert focused(page) == "/Pod/x/web-200-1"
    expect(node(page, "/Pod/x/web-200-1")).to_be_in_viewport()
    expect(node(page, "/Pod/x/web-200-0")).to_have_class("node is-faded")
    page.keyboard.press("n")
    assert focused(page) == "/Pod/x/web-201-1"
    page.fill("[data-tree-filter]", "")
    expect(node(page, "/Pod/x/web-200-0")).to_have_class("node")


def test_a_busy_hub_is_not_pressed(big):
    """Ten changes while an answer is on its way ask once more, not ten times."""
    page, nodes = big
    asked = []

    def slow(route):
        asked.append(route)
        page.wait_for_timeout(300)
        route.fulfill(body=json.dumps({"nodes": nodes, "links": []}))

    page.route("**/applications/argocd/web/tree", slow)
    page.evaluate(
        "() => { for (let n = 0; n < 10; n += 1) htmx.trigger(document.body, 'object-changed'); }"
    )
    for _ in range(300):
        if len(asked) >= 2:
            break
        page.wait_for_timeout(50)
    page.wait_for_timeout(1_000)  # in which a third one would come
    assert len(asked) == 2
