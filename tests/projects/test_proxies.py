"""Repositories that are reached through a proxy."""

from urllib.parse import quote

import pytest
from django.contrib.auth.hashers import make_password
from django.utils import timezone
from support.charts import Charts
from support.proxy import Proxy
from support.tokens import Tokens

from hub.auth.sessions import issue
from hub.engine.errors import Invalid
from hub.models import Account, access_changed
from projects.models import CredentialTemplate, Repository
from projects.sources import app_tokens, charts
from projects.sources.credentials import credentials_for, proxy_of

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
        "proxy": proxy.url,
        "githubAppID": 7,
        "githubAppInstallationID": 9,
        "githubAppPrivateKey": server.key,
        "githubAppEnterpriseBaseUrl": "http://api.invalid",
    }
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


# --- the hub's credentials go no way that somebody else chose ---

LENT = {"username": "hub", "password": "CANARY"}


def _developer(hub):
    account = Account.objects.create(
        name="dev", password=make_password("x"), capabilities=["login"]
    )
    access_changed("account", "dev", {})
    lines = (
        "p, dev, repositories, *, team-a/*, allow\n"
        "p, dev, repositories, create, http://git.invalid/team-a/*, allow"
    )
    hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": lines}})
    return issue(account, timezone.now())


@pytest.mark.parametrize("lender", ["a template", "the hub's repository"])
@pytest.mark.parametrize("project", ["team-a", ""])
def test_a_developers_proxy_gets_no_credentials_of_the_hub(idle_hub, proxies, lender, project):
    url = "http://git.invalid/team-a/r"
    if lender == "a template":
        CredentialTemplate.objects.create(url="http://git.invalid", credentials=LENT)
    else:
        Repository.objects.create(url=url, credentials=LENT)
    token = _developer(idle_hub)
    proxy = proxies()
    body = {"repo": url, "project": project, "proxy": proxy.url, "insecure": True}

    for path in (
        "/api/v1/repositories",
        "/api/v1/repositories?credsOnly=true",
        f"/api/v1/repositories/{quote(url, safe='')}/validate",
    ):
        refused = idle_hub.post(path, body, token=token, status=403)

    own_or_hidden = refused["message"]
    assert "proxy, insecure" in own_or_hidden and "CANARY" not in own_or_hidden
    assert proxy.requests == []


def test_a_projects_repository_leads_inherited_credentials_nowhere(idle_hub):
    """The template may come after the repository: what is stored is read with the same care."""
    url = "https://git.example/team-a/r"
    options = {"proxy": "http://listener.example", "insecure": True, "enableLfs": True}
    row = Repository.objects.create(url=url, project="team-a", options=options)
    assert credentials_for(url, "team-a")["proxy"] == "http://listener.example"
    CredentialTemplate.objects.create(
        url="https://git.example", credentials=LENT, options={"proxy": "http://ours.example"}
    )
    found = credentials_for(url, "team-a")
    assert (found["proxy"], found.get("insecure"), found["enableLfs"]) == (
        "http://ours.example",
        None,
        True,
    )
    row.credentials = {"password": "its own"}
    row.save()
    assert credentials_for(url, "team-a")["proxy"] == "http://listener.example"


@pytest.mark.parametrize(
    ("template", "url", "is_lent"),
    [
        ("https://git.example", "https://git.example/team-a/r", True),
        ("https://git.example/", "https://git.example/team-a/r.git", True),
        ("https://git.example/team-", "https://git.example/team-a/r", True),
        ("https://git.example:8443", "https://git.example:8443/r", True),
        ("git@git.example:team-a", "git@git.example:team-a/r", True),
        ("registry.example/charts", "registry.example/charts/demo", True),
        ("https://git.example", "https://git.example.thief/team-a/r", False),
        ("https://git.example/", "https://git.example-thief/team-a/r", False),
        ("https://git.example", "https://git.example@thief.example/r", False),
        ("https://git.example", "https://git.example:x@thief.example/r", False),
        ("https://git.example", "https://git.example:8443/r", False),
        ("https://git.example", "https://git.example?@thief.example/r", False),
        ("oci://registry.example", "oci://registry.example.thief/charts", False),
        ("registry.example", "registry.example.thief/charts", False),
    ],
)
def test_a_template_is_for_the_whole_of_its_server(idle_hub, template, url, is_lent):
    CredentialTemplate.objects.create(url=template, credentials=LENT)
    assert ("password" in credentials_for(url, "team-a")) is is_lent


def test_a_projects_repository_does_not_choose_an_installation_of_the_hubs_app(idle_hub):
    url = "https://git.example/team-a/r"
    Repository.objects.create(url=url, project="team-a", options={"githubAppInstallationID": 666})
    lent = {"githubAppID": 7, "githubAppInstallationID": 9}
    CredentialTemplate.objects.create(
        url="https://git.example", credentials={"githubAppPrivateKey": "k"}, options=lent
    )
    assert credentials_for(url, "team-a")["githubAppInstallationID"] == 9
