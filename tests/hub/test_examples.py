"""The examples of the API page are requests that this hub answers as it says there.

HUB_RECORD_EXAMPLES=1 writes the answers anew.
"""

import json
import os
import re
from pathlib import Path

import pytest
from conftest import config_map
from django.test import Client
from support.streams import collect
from support.web import deployment

import hub
from hub.pages.api_guide import EXAMPLES, groups

FILE = Path(hub.__file__).parent / "pages/examples.json"
PASSWORD = "correct horse"


class Teller:
    """Sends what the examples say, with the places of this test in place of theirs."""

    def __init__(self, site, places):
        self.site, self.places = site, places

    def real(self, value):
        text = json.dumps(value, ensure_ascii=False)
        for shown, real in self.places.items():
            text = text.replace(_inside(shown), _inside(real))
        return json.loads(text)

    def shown(self, value):
        text = json.dumps(value, ensure_ascii=False)
        for shown, real in self.places.items():
            text = text.replace(_inside(real), _inside(shown))
        text = re.sub(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "eyJhbGciOi…", text)
        return json.loads(text)

    def send(self, example):
        path, body = self.real(example["path"]), self.real(example.get("body"))
        if "/stream/" in path or path.endswith("/watch") or "/watch?" in path:
            return [json.loads(part) for part in collect(self.site, path, 1, (9, None))]
        answer = Client().generic(
            example["method"],
            path,
            json.dumps(body) if body is not None else "",
            content_type="application/json",
            headers={"Authorization": f"Bearer {self.site.token}"},
        )
        assert answer.status_code == 200, (example["title"], answer.content[:500])
        return json.loads(answer.content)


def _inside(text):
    return json.dumps(text, ensure_ascii=False)[1:-1]


def trimmed(value, depth=0):
    if isinstance(value, list):
        return [trimmed(v, depth + 1) for v in value[:1]]
    if isinstance(value, dict):
        return {k: trimmed(v, depth + 1) for k, v in list(value.items())[:16]}
    return value[:100] + "…" if isinstance(value, str) and len(value) > 100 else value


def lacking(shown, real, where=""):
    """Yield what an example shows and the hub does not answer."""
    if isinstance(shown, dict):
        if not isinstance(real, dict):
            yield where
            return
        for key, value in shown.items():
            if key not in real and not _is_free(where):
                yield f"{where}.{key}"
            elif key in real:
                yield from lacking(value, real[key], f"{where}.{key}")
    elif isinstance(shown, list) and shown:
        if not isinstance(real, list) or not real:
            yield f"{where}[]"
        else:
            best = min((list(lacking(shown[0], r, f"{where}[]")) for r in real), key=len)
            yield from best
    elif type(shown) is not type(real) and shown is not None:
        yield where


def _is_free(where):
    # Objects whose keys are data: counts of values, labels, what a status has only sometimes.
    return where.endswith(
        (
            ".facets.health",
            ".facets.sync",
            ".labels",
            ".annotations",
            ".status",
            ".operationState",
            ".health",
            ".detail",
            ".who",
            ".change",
            ".syncResult",
        )
    )


@pytest.fixture
def teller(hub, sandbox, repo, namespace):
    repo.commit({"web/d.yaml": deployment(1), "shop/c.yaml": config_map("shop")})
    places = {
        "https://git.example/acme/deploy.git": repo.url,
        "https://east.k8s.example": sandbox.server,
        "CLUSTER-TOKEN": "sandbox-token",
        "LS0tLS1C…": sandbox.config["tlsClientConfig"]["caData"],
        "web-prod": namespace,
        "…password…": PASSWORD,
    }
    return Teller(hub, places)


def test_every_example_is_answered_as_it_says(teller, hub):
    wrong, kept = [], []
    for example in EXAMPLES:
        _wait(hub, example.get("after"))
        answer = teller.send(example)
        kept.append({**example, "answer": trimmed(teller.shown(answer))})
        missing = list(lacking(example.get("answer"), answer)) if "answer" in example else []
        if missing:
            wrong.append((example["title"], missing))
    if os.environ.get("HUB_RECORD_EXAMPLES"):
        FILE.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
        return
    assert wrong == []


def _wait(hub, what):
    if what:
        name, _, states = what.partition(" ")
        sync, _, health = states.partition("/")
        hub.wait_status(name, sync or None, health or None)


def test_the_page_has_every_operation_and_an_example_of_every_group(idle_hub):
    browser = Client()
    assert browser.get("/api").status_code == 302
    browser.post("/login", {"login": "admin", "password": PASSWORD})
    page = browser.get("/api").content.decode()
    described = idle_hub.client.get("/swagger.json").json()["paths"]
    for path, operations in described.items():
        for method in operations:
            assert (
                f'<span class="verb {method}">{method.upper()}</span> <code>{path}</code>' in page
            ), (method, path)
    for group in groups(described):
        assert group.operations and (group.examples or group.title == "Everything else"), (
            group.title
        )
    assert "curl" in page and "eyJhbGciOi" in page
    assert browser.get("/swagger-ui").url == "/api"
