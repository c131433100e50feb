"""The registry is the only place that lists the senders of webhooks."""

import json

import pytest

from hub.events.queue import use_pool
from projects.models import Application
from projects.webhooks.base import ImageRegistry, Sender, Token
from projects.webhooks.events import Image, Pulls
from projects.webhooks.senders import IMAGE_REGISTRIES, SENDERS

FORGE = Sender(
    "forge",
    lambda headers: "X-Forge-Event" in headers,
    Token("WEBHOOK_FORGE_SECRET", "X-Forge-Token"),
    lambda _headers, body: iter([Pulls(body["name"])]),
)
DEPOT = ImageRegistry(
    "depot",
    lambda body: "depot" in body,
    "WEBHOOK_DEPOT_SECRET",
    lambda body: iter([Image(body["depot"], body["tag"])]),
)


class Heard:
    """Stands for the workers: keeps what they are woken for."""

    def __init__(self):
        self.tasks = []

    def put(self, name, args, _priority):
        self.tasks.append((name, *args))


@pytest.fixture
def heard(idle_hub, settings):
    SENDERS.append(FORGE)
    IMAGE_REGISTRIES.append(DEPOT)
    settings.WEBHOOK_FORGE_SECRET, settings.WEBHOOK_DEPOT_SECRET = "forge-secret", "depot-secret"
    found = Heard()
    use_pool(found)
    yield found
    use_pool(None)
    SENDERS.remove(FORGE)
    IMAGE_REGISTRIES.remove(DEPOT)


def send(hub, body, headers):
    return hub.client.post(
        "/api/webhook", json.dumps(body), content_type="application/json", headers=headers
    ).status_code


def test_an_entry_of_the_registry_is_a_whole_host(idle_hub, heard):
    """Nothing else names the hosts: recognizing, authenticating and reading follow from it."""
    event = {"X-Forge-Event": "changed"}
    assert send(idle_hub, {"name": "acme/web"}, {**event, "X-Forge-Token": "wrong"}) == 400
    assert heard.tasks == []

    assert send(idle_hub, {"name": "acme/web"}, {**event, "X-Forge-Token": "forge-secret"}) == 200
    assert heard.tasks == [("appsets.pulls_changed", ("acme/web",))]


def test_an_entry_of_the_registry_is_a_whole_image_registry(idle_hub, heard):
    source = {"repoURL": "oci://depot.example/web", "path": ".", "targetRevision": "1.0.0"}
    app = Application.objects.create(name="web", project="default", spec={"source": source})
    body = {"depot": "depot.example/web", "tag": "1.0.0"}
    assert send(idle_hub, body, {"Authorization": "wrong"}) == 400

    assert send(idle_hub, body, {"Authorization": "depot-secret"}) == 200
    app.refresh_from_db()
    assert app.refresh_kind == "normal"


@pytest.mark.parametrize("sender", [*SENDERS, *IMAGE_REGISTRIES], ids=lambda s: s.name)
def test_nothing_but_the_sender_itself_is_recognized(sender):
    assert not sender.is_sender({"X-Forge-Event": "changed", "depot": "depot.example/web"})
