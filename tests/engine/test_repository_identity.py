"""Which repository an event is about, however it is cloned and shown."""

import pytest

from hub.engine.project_restrictions import permits_source
from hub.engine.repository_identity import repository_identity

PAGE = "https://git.example/acme/web"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://git.example:8443/acme/web.git", id="port"),
        pytest.param("http://git.example:80/acme/web", id="plain"),
        pytest.param("ssh://git@git.example:2222/acme/web.git", id="ssh with a port"),
        pytest.param("ssh://git@ssh.git.example:443/acme/web.git", id="ssh over 443"),
        pytest.param("ssh://git@altssh.git.example:443/acme/web.git", id="altssh"),
        pytest.param("git@git.example:acme/web.git", id="scp form"),
        pytest.param("git@ssh.git.example:acme/web", id="scp form, ssh host"),
        pytest.param("deploy@git.example:/acme/web.git", id="scp form with a slash, another user"),
        pytest.param("git.example:acme/web.git", id="scp form without a user"),
        pytest.param("https://me:token@git.example/acme/web.git/", id="credentials, slash"),
        pytest.param("HTTPS://Git.Example/Acme/Web.GIT", id="case"),
        pytest.param("https://git.example./acme//web", id="dot and slashes"),
    ],
)
def test_urls_of_one_repository_are_one_place(url):
    assert repository_identity(url) == repository_identity(PAGE) == "git.example/acme/web"


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example/acme/web2",
        "https://git.example/acme",
        "https://git.example.com/acme/web",
        "https://ssh.other.example/acme/web",
        "git@git.example:other/web.git",
        "https://git.example/x/acme/web",
        "",
    ],
)
def test_others_are_others(url):
    assert repository_identity(url) != repository_identity(PAGE)


def test_azure_names_one_repository_in_two_ways():
    page = "https://dev.azure.com/Org/Project/_git/Repo"
    assert repository_identity("git@ssh.dev.azure.com:v3/Org/Project/Repo") == repository_identity(
        page
    )


def test_what_a_project_permits_is_not_wider():
    spec = {"sourceRepos": [PAGE]}
    assert permits_source(spec, "https://git.example/acme/web.git")
    for url in ("https://git.example:8443/acme/web", "ssh://git@ssh.git.example/acme/web"):
        assert not permits_source(spec, url)
