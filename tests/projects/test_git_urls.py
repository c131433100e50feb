"""One reading of a Git URL: what is checked is where Git, ssh and curl go."""

import os
import shlex
import subprocess

import pytest

from hub.engine.errors import Invalid
from projects.sources import git_transport
from projects.sources.git_urls import GitURL, check_git_url, parse

BY_SSH = [
    pytest.param(
        "git@git.example:o/a.git",
        GitURL("ssh", "git.example", 22, "git", "o/a.git"),
        id="host and path",
    ),
    pytest.param("git.example:o/a", GitURL("ssh", "git.example", 22, "", "o/a"), id="no user"),
    pytest.param("git@h:/srv/a", GitURL("ssh", "h", 22, "git", "/srv/a"), id="an absolute path"),
    pytest.param("h:22/x", GitURL("ssh", "h", 22, "", "22/x"), id="a number is not a port"),
    pytest.param(
        "git@127.0.0.1:a@b:c", GitURL("ssh", "127.0.0.1", 22, "git", "a@b:c"), id="signs in a path"
    ),
    pytest.param("ssh://git@h/o/a", GitURL("ssh", "h", 22, "git", "/o/a"), id="a scheme"),
    pytest.param("ssh://h:2222/o/a", GitURL("ssh", "h", 2222, "", "/o/a"), id="a port"),
    pytest.param(
        "ssh://git@[::1]:2222/a", GitURL("ssh", "::1", 2222, "git", "/a"), id="IPv6 and a port"
    ),
    pytest.param("ssh://[2001:db8::1]/a", GitURL("ssh", "2001:db8::1", 22, "", "/a"), id="IPv6"),
    pytest.param("ssh://me+x.y-z_1@h/a", GitURL("ssh", "h", 22, "me+x.y-z_1", "/a"), id="a user"),
]


@pytest.fixture
def asked(tmp_path):
    """Return what git tells ssh of a URL."""
    script, output = tmp_path / "ssh", tmp_path / "out"
    script.write_text(f'#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done > {output}\nexit 1\n')
    script.chmod(0o755)

    def ask(url):
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "GIT_SSH": str(script),
            "GIT_SSH_VARIANT": "ssh",
        }
        subprocess.run(["git", "ls-remote", "--", url], env=env, capture_output=True, check=False)
        return output.read_text().split("\0")[:-1]

    return ask


@pytest.mark.parametrize(("url", "found"), BY_SSH)
def test_a_url_is_read_as_git_reads_it(asked, url, found):
    assert parse(url) == found

    *options, place, command = asked(url)

    assert place == (f"{found.user}@{found.host}" if found.user else found.host)
    assert shlex.split(command) == ["git-upload-pack", found.path]
    port = options[options.index("-p") + 1] if "-p" in options else "22"
    assert port == str(found.port)


@pytest.mark.parametrize(("url", "found"), BY_SSH)
def test_ssh_goes_where_the_hub_has_looked(asked, url, found):
    """What ssh makes of all its arguments is the address that was checked, whatever the URL
    says.
    """
    way = git_transport.Transport("ssh", found.host, found.port, ("192.0.2.7",), user=found.user)
    with git_transport.environment(way, {}, "192.0.2.7") as env:
        command = shlex.split(env["GIT_SSH_COMMAND"])
    shown = subprocess.run(
        [command[0], "-G", *command[1:], *asked(url)[:-1]], capture_output=True, check=True
    )
    said = dict(line.partition(" ")[::2] for line in shown.stdout.decode().splitlines())

    assert (said["hostname"], said["port"]) == ("192.0.2.7", str(found.port))
    alias = found.host if found.port == 22 else f"[{found.host}]:{found.port}"
    assert said["hostkeyalias"] == alias
    assert "proxycommand" not in said and said.get("proxyjump", "none") == "none"
    assert said["stricthostkeychecking"] in ("yes", "true")
    assert said["identityfile"] == "none" and said["identityagent"] == "none"
    assert said["globalknownhostsfile"] == "/dev/null"
    assert not found.user or said["user"] == found.user


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("127.0.0.1:x@8.8.8.8:y", id="two hosts"),
        pytest.param("a@b@c:d", id="two users"),
        pytest.param("a:b@c:d", id="a password before a host"),
        pytest.param("[::1]:d", id="brackets without a scheme"),
        pytest.param("git@[h:22]:d", id="a port in brackets"),
        pytest.param("git@h:-x", id="a path that is an option"),
        pytest.param("-oProxyCommand=x:y", id="a host that is an option"),
        pytest.param("git@-oProxyCommand=x:y", id="an option after a user"),
        pytest.param("-x@h:y", id="a user that is an option"),
        pytest.param("gіt@h:y", id="letters of another alphabet"),
        pytest.param("h\u3002x:y", id="a full stop of another alphabet"),
        pytest.param("h.:y", id="a trailing full stop"),
        pytest.param("host:x://y", id="a scheme in a path"),
        pytest.param("ext::sh -c x", id="a helper"),
        pytest.param("fd::7/a", id="a helper without spaces"),
        pytest.param("ssh://a@b@c/d", id="two users of a URL"),
        pytest.param("ssh://a%40b@c/d", id="a hidden second user"),
        pytest.param("ssh://u:p@h/d", id="a password of ssh"),
        pytest.param("ssh://-oX@h/d", id="a user of a URL that is an option"),
        pytest.param("ssh://-oX/d", id="a host of a URL that is an option"),
        pytest.param("ssh://@h/d", id="an empty user"),
        pytest.param("ssh://h:22:33/d", id="two ports"),
        pytest.param("ssh://h:/d", id="an empty port"),
        pytest.param("ssh://h:0/d", id="port 0"),
        pytest.param("ssh://h:65536/d", id="a port that is too large"),
        pytest.param("ssh://h:022/d", id="a port in other digits"),
        pytest.param("ssh://h:٢٢/d", id="digits of another alphabet"),
        pytest.param("ssh://h%2e/d", id="an encoded host"),
        pytest.param("ssh://[::1%25lo]/d", id="a zone"),
        pytest.param("ssh://[::1%lo]/d", id="a zone that is not encoded"),
        pytest.param("ssh://[h]/d", id="a name in brackets"),
        pytest.param("ssh://[1.2.3.4]/d", id="IPv4 in brackets"),
        pytest.param("ssh://::1/d", id="IPv6 without brackets"),
        pytest.param("ssh://h#x@y/d", id="a fragment in a host"),
        pytest.param("ssh://h?x@y/d", id="a query in a host"),
        pytest.param("ssh://h\\@x/d", id="a backslash"),
        pytest.param("ssh:///d", id="no host"),
        pytest.param("SSH://h/d", id="a scheme that git has not"),
        pytest.param("git+ssh://h/d", id="another name of ssh"),
        pytest.param("git://h/d", id="git's own protocol"),
        pytest.param("https://a@b@c/d", id="two users of https"),
        pytest.param("https://h\\@c/d", id="a backslash of https"),
        pytest.param("https://h#@c/d", id="a fragment of https"),
        pytest.param("https://h?@c/d", id="a query of https"),
        pytest.param("https://h/d#x", id="a fragment after a path"),
        pytest.param("https://h\u2028/d", id="a line end of another alphabet"),
        pytest.param("https://h\x7f/d", id="a control character"),
        pytest.param("https://h/" + "a" * 3000, id="without an end"),
        pytest.param("file://host/d", id="a host of a file"),
    ],
)
def test_what_programs_read_differently_is_refused(url):
    with pytest.raises(Invalid, match=r"^repo: "):
        check_git_url(url, "repo")
    with pytest.raises(Invalid):
        git_transport.transport_for(url, {})


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://git.example/o/a.git", "git.example", 443),
        ("https://me:p%40ss@git.example:8443/o/a", "git.example", 8443),
        ("http://[::1]:8080/a", "::1", 8080),
        ("https://dev.azure.com/o/p/_git/r?version=x", "dev.azure.com", 443),
        ("https://under_score.example/a", "under_score.example", 443),
    ],
)
def test_urls_of_https(url, host, port):
    found = parse(url)
    assert (found.host, found.port, found.user) == (host, port, "")


def test_a_folder_is_named_as_git_reads_it(tmp_path, settings):
    """Git undoes percent-encoding in file:// too: what looked like a name was a step out of the
    folder.
    """
    settings.LOCAL_REPOSITORIES = str(tmp_path / "served")
    for name in ("served/a", "secret"):
        subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / name)], check=True)

    check_git_url(f"file://{tmp_path}/served/a")
    for path in ("served/../secret", "served/%2e%2e/secret", "secret"):
        with pytest.raises(Invalid):
            check_git_url(f"file://{tmp_path}/{path}")


@pytest.mark.parametrize(
    ("proxy", "told"),
    [
        ("http://127.0.0.1", "http://127.0.0.1:80"),
        ("https://u:p@127.0.0.1", "https://u:p@127.0.0.1:443"),
        ("http://127.0.0.1:3128", "http://127.0.0.1:3128"),
    ],
)
def test_a_proxy_is_passed_on_with_its_port(proxy, told):
    """curl takes 1080 for one without, and looked up by itself what was pinned for 80."""
    assert git_transport.transport_for("https://127.0.0.1/a", {"proxy": proxy}).proxy == told
