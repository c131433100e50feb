"""Syncs and waits of some resources: as written, and never of nothing."""

import json

import pytest
from conftest import config_map
from support.command import Command

from projects.models import Operation

APPS = "/api/v1/applications"
SERVICE = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}]},
    }
)


def entry(kind, name="*", group="*", **more):
    return {"group": group, "kind": kind, "name": name, **more}


@pytest.fixture
def deployed(hub, sandbox, repo, app, namespace):
    repo.commit({"c.yaml": config_map("c"), "d.yaml": config_map("d"), "s.yaml": SERVICE})
    app(repo, sandbox, namespace, name="web")
    hub.wait_status("web", "OutOfSync")
    return sandbox


def ended(hub):
    state = lambda: hub.application("web")["status"].get("operationState") or {}  # noqa: E731
    hub.wait(lambda: state().get("phase") not in (None, "Running"), "the end")
    return state()


@pytest.mark.parametrize(
    ("resources", "applied"),
    [
        pytest.param([entry("Service", exclude=True)], {"c", "d"}, id="all but services"),
        pytest.param([entry("ConfigMap")], {"c", "d"}, id="all of a kind"),
        pytest.param(
            [entry("Service", exclude=True), entry("*", "d", exclude=True)], {"c"}, id="exclusions"
        ),
        pytest.param(
            [entry("*"), entry("ConfigMap", exclude=True)], {"web"}, id="the exclusion wins"
        ),
    ],
)
def test_a_sync_applies_what_is_selected(hub, deployed, resources, applied):
    hub.post(f"{APPS}/web/sync", {"resources": resources})

    found = ended(hub)

    assert found["phase"] == "Succeeded"
    assert {
        r["name"] for r in found["syncResult"]["resources"] if r["kind"] != "Namespace"
    } == applied


@pytest.mark.parametrize(
    "resources",
    [
        pytest.param([entry("Secret")], id="no such kind"),
        pytest.param([entry("ConfigMap"), entry("ConfigMap", "typo")], id="one of two"),
        pytest.param([entry("*", exclude=True)], id="nothing left"),
    ],
)
def test_a_selection_of_nothing_is_refused(hub, deployed, resources):
    answer = hub.post(f"{APPS}/web/sync", {"resources": resources}, status=400)

    assert "resources: no" in answer["message"]
    assert not Operation.objects.exists()


@pytest.mark.parametrize(
    ("resources", "word"),
    [
        pytest.param(
            [entry("Service", "[z-a]", exclude=True)],
            "resources[0].name: '[z-a]'",
            id="an exclusion that excludes nothing",
        ),
        pytest.param([entry("ConfigMap", "c")] * 2001, "at most 2000", id="a list without an end"),
    ],
)
def test_a_selection_that_cannot_be_used_is_refused(hub, deployed, resources, word):
    assert word in hub.post(f"{APPS}/web/sync", {"resources": resources}, status=400)["message"]
    assert not Operation.objects.exists()


def test_a_selection_of_nothing_in_another_revision_fails(hub, deployed, repo):
    """What a revision has that was not compared is only known when it is rendered."""
    repo.git("checkout", "-q", "-b", "other")
    repo.commit({"s.yaml": None})
    repo.git("checkout", "-q", "main")

    hub.post(f"{APPS}/web/sync", {"revision": "other", "resources": [entry("Service")]})

    found = ended(hub)
    assert found["phase"] == "Failed"
    assert "no resource of the application matches *:Service:*" in found["message"]


def test_the_command_line_ends_with_a_code(site, deployed, tmp_path):
    flotilla = Command(tmp_path, FLOTILLA_SERVER=site.url, FLOTILLA_TOKEN=site.hub.token)

    for command, flag in (("sync", "*:Secret:*"), ("wait", "*:Secret:*"), ("wait", "!*:*:*")):
        assert flag in flotilla.refused("app", command, "web", "--resource", flag)
    assert "GROUP:KIND:NAME" in flotilla.refused("app", "sync", "web", "--resource", "!x")

    flotilla("app", "sync", "web", "--resource", "!*:Service:*")
    flotilla("app", "wait", "web", "--resource", ":ConfigMap:*", "--timeout", "30")
    assert "timed out" in flotilla.refused(
        "app", "wait", "web", "--resource", "!:ConfigMap:*", "--timeout", "1"
    )
