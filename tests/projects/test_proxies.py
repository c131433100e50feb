"""Repositories that are reached through a proxy."""

import pytest
from support.charts import Charts
from support.proxy import Proxy
from support.tokens import Tokens

from hub.engine.errors import Invalid
from projects.sources import app_tokens, charts
from projects.sources.credentials import proxy_of

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n"


@pytest.fixture
def proxies():
    made = []

    def make(**places):
        made.append(Proxy(**places))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_git_through_a_proxy(hub, sandbox, repo, app, namespace, proxies):
    """The name is one that only the proxy knows, as in networks without names of the outside."""
    repo.commit({"c.yaml": CONFIG})
    proxy = proxies(git_invalid=repo.server.url)
    url = f"http://git.invalid/{repo.name}"
    hub.post("/api/v1/repositories", {"repo": url, "proxy": proxy.url})

    name = app(url, sandbox, namespace)

    hub.wait_status(name, "OutOfSync")
    assert set(proxy.requests) == {"git.invalid"}
    assert proxy.url not in str(hub.get("/api/v1/repositories"))
    without = {"repo": url, "proxy": proxy.url, "noProxy": "a.example,.invalid"}
    refused = hub.post("/api/v1/repositories", without, status=400, upsert="true")
    assert "does not resolve" in refused["message"]


def test_charts_through_a_proxy(idle_hub, proxies):
    server = Charts()
    proxy = proxies(charts_invalid=server.url)
    through = {"proxy": proxy.url, "insecureOCIForceHttp": True}
    assert charts.resolve("http://charts.invalid", "demo", "*", through) == "2.0.0"
    files = charts.fetch("http://charts.invalid", "demo", "1.0.0", through)
    assert b"1.0.0" in files.blob("Chart.yaml")
    digest = charts.oci_digest("oci://charts.invalid/charts/demo", "", "1.1.0", through)
    found = charts.fetch_artifact("oci://charts.invalid/charts/demo", digest, through)
    assert b"1.1.0" in found.blob("Chart.yaml")
    assert set(proxy.requests) == {"charts.invalid"}
    server.server.shutdown()
    server.server.server_close()


def test_tokens_through_a_proxy(idle_hub, proxies):
    server = Tokens("t0ken")
    app_tokens.forget()
    proxy = proxies(api_invalid=server.url)
    credentials = {
        "proxy": proxy.url, "githubAppID": 7, "githubAppInstallationID": 9, "githubAppPrivateKey": server.key,
        "githubAppEnterpriseBaseUrl": "http://api.invalid",
    }  # fmt: skip
    assert app_tokens.with_token("https://git.invalid/a/b", credentials)["password"] == "t0ken"
    server.close()


@pytest.mark.parametrize(
    ("host", "without", "is_used"),
    [
        ("git.example", "", True),
        ("git.example", "git.example", False),
        ("git.example", "other, GIT.example", False),
        ("a.git.example", ".git.example", False),
        ("a.git.example", "*.git.example", False),
        ("a.git.example", "git.example", False),
        ("agit.example", "git.example", True),
        ("git.example", "*", False),
    ],
)
def test_which_hosts_need_none(host, without, is_used):
    credentials = {"proxy": "http://127.0.0.1:3128", "noProxy": without}
    assert bool(proxy_of(host, credentials)) == is_used


@pytest.mark.parametrize("proxy", ["http://169.254.169.254", "file:///etc", "socks5://127.0.0.1:1"])
def test_proxies_to_which_the_hub_does_not_connect(proxy):
    with pytest.raises(Invalid, match="proxy"):
        proxy_of("git.example", {"proxy": proxy})
