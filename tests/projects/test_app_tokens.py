"""Git read with the token of a GitHub App or of a Google service account."""

import pytest
from support.tokens import Tokens

from projects.sources import app_tokens

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n"


@pytest.fixture
def tokens():
    server = Tokens("t0ken-canary")
    app_tokens.forget()
    yield server
    server.close()


@pytest.fixture
def private(repo, tokens):
    """A repository that only who has the token may read."""
    repo.commit({"c.yaml": CONFIG})
    repo.server.user, repo.server.password = "x-access-token", tokens.token
    yield repo
    repo.server.user = "git"


def github(tokens, **changes):
    return {
        "githubAppID": 7,
        "githubAppInstallationID": 9,
        "githubAppPrivateKey": tokens.key,
        "githubAppEnterpriseBaseUrl": tokens.url,
        **changes,
    }


@pytest.mark.parametrize("place", ["repositories", "repocreds"])
def test_a_github_app_reads(hub, sandbox, private, app, namespace, tokens, place):
    field = {"repositories": {"repo": private.url}, "repocreds": {"url": private.server.url}}[place]
    hub.post(f"/api/v1/{place}", {**field, **github(tokens)})

    name = app(private, sandbox, namespace)

    hub.wait_status(name, "OutOfSync")
    hub.get(f"/api/v1/applications/{name}", refresh="hard")
    assert tokens.requests == [("POST", "/app/installations/9/access_tokens")], "asked for once"
    assert "canary" not in str(hub.get(f"/api/v1/{place}"))
    assert "PRIVATE" not in str(hub.get(f"/api/v1/{place}"))


def test_the_installation_is_found_by_the_repository(idle_hub, private, tokens):
    body = {"repo": private.url, **github(tokens, githubAppInstallationID=None)}
    refused = idle_hub.post("/api/v1/repositories", body, status=400)["message"]
    assert "githubAppInstallationID is missing" in refused
    credentials = github(tokens, githubAppInstallationID=None)
    found = app_tokens.with_token("https://github.example/acme/web.git", credentials)
    assert (found["username"], found["password"]) == ("x-access-token", tokens.token)
    assert tokens.requests[0] == ("GET", "/repos/acme/web/installation")


def test_a_google_service_account_reads(idle_hub, private, tokens):
    private.server.user = "hub@example.invalid"
    body = {"repo": private.url, "gcpServiceAccountKey": tokens.google}
    idle_hub.post("/api/v1/repositories", body)
    found = idle_hub.get("/api/v1/repositories")["items"][0]
    assert found["connectionState"]["status"] == "Successful"
    assert "canary" not in str(found) and "PRIVATE" not in str(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"githubAppPrivateKey": "no key"}, "githubAppPrivateKey is not an RSA key in PEM"),
        ({"githubAppID": None}, "githubAppID is missing"),
        ({"githubAppID": 8}, "issued no token (401): A JSON web token could not be decoded"),
        ({"githubAppInstallationID": 10}, "issued no token (404): Not Found"),
        ({"githubAppEnterpriseBaseUrl": "http://127.0.0.1:1"}, "does not respond"),
        ({"githubAppEnterpriseBaseUrl": "http://169.254.169.254"}, "does not connect"),
        ({"githubAppEnterpriseBaseUrl": "file:///etc"}, "must start with https://"),
        ({"githubAppPrivateKey": "", "gcpServiceAccountKey": "{}"}, "not a service account key"),
        ({"githubAppPrivateKey": "", "gcpServiceAccountKey": "["}, "not a service account key"),
    ],
)
def test_what_gives_no_token_is_said(idle_hub, private, tokens, change, words):
    body = {"repo": private.url, **github(tokens, **change)}
    refused = idle_hub.post("/api/v1/repositories", body, status=400)
    assert words in refused["message"] and "PRIVATE" not in refused["message"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, b"<html>"), "the response has no token"),
        ((200, {"token": "a b"}), "the response has no token"),
        ((200, []), "the response has no token"),
        ((500, b""), "issued no token (500): no reason given"),
        ((302, b""), "the response has no token"),
    ],
)
def test_a_malformed_host_is_not_an_internal_error(idle_hub, private, tokens, answer, words):
    tokens.fails = answer
    refused = idle_hub.post(
        "/api/v1/repositories", {"repo": private.url, **github(tokens)}, status=400
    )
    assert words in refused["message"]
