"""Dialogs and the panel of a resource keep their shape, whatever they hold and on any screen."""

import json
import os

import pytest
from playwright.sync_api import expect
from support.web import deployment, sign_in

expect.set_options(timeout=15_000)
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = (
    "true"  # Playwright runs a loop in the thread of the test.
)

NAMES = [f"storefront-web-production-{n:05d}-x" for n in range(120)]


@pytest.fixture
def many(site, sandbox, repo, app, namespace, watched):
    """The page of an application with 121 resources, most of them with like, long names."""
    maps = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}}
        for name in NAMES
    ]
    repo.commit({"app/maps.json": json.dumps({"kind": "List", "apiVersion": "v1", "items": maps})})
    repo.commit({"app/d.yaml": deployment(1)})
    app(repo, sandbox, namespace, name="web", path="app")
    site.hub.wait_status("web", "OutOfSync")
    sign_in(watched, site)
    watched.set_viewport_size({"width": 1440, "height": 900})
    watched.goto(f"{site.url}/applications/argocd/web")
    watched.namespace = namespace
    return watched


def box(locator):
    return locator.bounding_box()


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)], ids=["1440", "390"])
def test_a_dialog_scrolls_in_its_body_and_keeps_its_commands(many, size):
    page = many
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.locator(".apphead [data-key=sync]").click()
    dialog = page.locator("dialog[open]")
    expect(dialog.locator(".planlist li")).to_have_count(122)

    assert dialog.evaluate(
        "d => d.scrollHeight <= d.clientHeight && d.scrollWidth <= d.clientWidth"
    )
    scrolls = "d => [...d.querySelectorAll('*')].filter(e => e.scrollHeight > e.clientHeight + 1"
    scrolls += " && /auto|scroll/.test(getComputedStyle(e).overflowY)).map(e => e.className)"
    assert dialog.evaluate(scrolls) == ["body"]
    for command in ("Cancel", "Sync web"):
        expect(dialog.get_by_role("button", name=command)).to_be_in_viewport(ratio=1)
    dialog.locator(".planlist li").last.scroll_into_view_if_needed()
    expect(dialog.get_by_role("button", name="Sync web")).to_be_in_viewport(ratio=1)


def test_names_of_the_drawing_fit_their_boxes_and_differ(many):
    page = many
    names = page.locator("svg.tree .node > text:not(.kind)")
    expect(names.filter(has_text="storef").first).to_be_visible()

    shown = [t for t in names.all_text_contents() if t.startswith("storef")]
    assert len(shown) >= 4 and len(set(shown)) == len(shown)
    assert all("…" in text and text.endswith("-x") for text in shown)
    wide = "() => [...document.querySelectorAll('svg.tree .node')].filter(n => "
    wide += "[...n.querySelectorAll(':scope > text')].some(t => t.getBBox().x + t.getBBox().width"
    wide += " > n.querySelector('.box').getBBox().width)).length"
    assert page.evaluate(wide) == 0
    titles = page.locator("svg.tree .node > title").all_text_contents()
    assert any(NAMES[0] in title for title in titles)


def open_resource(page, view=""):
    key = f"apps/Deployment/{page.namespace}/web"
    address = page.url.partition("?")[0]
    page.goto(f"{address}?resource={key}{view}")
    expect(page.locator("#panel h2")).to_have_text("web")


def test_the_panel_is_as_wide_as_people_make_it(many):
    page = many
    open_resource(page)
    panel, handle = page.locator("#panel"), page.get_by_role("separator")
    before = box(panel)["width"]

    handle.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert box(panel)["width"] == before + 64
    assert handle.get_attribute("aria-valuenow") == str(round(before + 64))

    at = box(handle)
    page.mouse.move(at["x"] + 2, at["y"] + 40)
    page.mouse.down()
    page.mouse.move(at["x"] - 98, at["y"] + 40, steps=4)
    page.mouse.up()
    assert abs(box(panel)["width"] - before - 164) <= 2
    page.keyboard.press("Home")
    assert box(panel)["width"] == 320

    page.reload()
    expect(page.locator("#panel h2")).to_have_text("web")
    assert box(panel)["width"] == 320

    page.get_by_label("Whole window").click()
    assert box(panel)["width"] == 1440
    page.keyboard.press("Escape")
    assert box(panel)["width"] == 320
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()


def test_the_panel_is_a_sheet_on_a_phone(many):
    page = many
    page.set_viewport_size({"width": 390, "height": 844})
    open_resource(page, "&view=list")

    expect(page.locator("#panel h2")).to_be_in_viewport()
    assert box(page.locator("#panel"))["width"] == 390
    close = page.get_by_label("Close", exact=True)
    assert box(close)["x"] > 320
    close.click()
    expect(page.locator("#panel")).to_be_hidden()


def test_sides_of_a_difference_stand_beside_each_other(many):
    page = many
    page.locator(".apphead [data-key=sync]").wait_for()
    open_resource(page)
    page.get_by_role("tab", name="Diff").click()
    page.get_by_text("Side by side").click()

    difference = page.locator("#panel .diff.beside")
    expect(difference).to_be_visible()
    heading, lines = (box(difference.locator(part)) for part in ("> header", "> .scroll"))
    assert heading["y"] + heading["height"] <= lines["y"] + 1
    assert lines["width"] > 0.95 * box(difference)["width"]
    first, second = (box(difference.locator(".sides > .dl:not(.both)").nth(n)) for n in (0, 1))
    assert first["y"] == second["y"] and abs(first["width"] - second["width"]) <= 2
