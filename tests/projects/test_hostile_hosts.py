"""Registries, hosts of repositories, identity providers and targets of events that send too much,
or elsewhere.
"""

import contextlib
import functools
import io
import itertools
import json
import resource
import tarfile

import pytest
from django.core.exceptions import ImproperlyConfigured
from support.hostile import Hostile, gzip_of, http

from appsets.scm.host import Host, HostError
from hub.audit import forwarding
from hub.audit.targets import syslog, webhook
from hub.auth import oidc
from hub.auth.providers import Provider
from hub.auth.social_adapter import SocialAdapter
from hub.base.outbound import http as requests
from hub.engine.errors import Invalid, ManifestError, RetryLater, Stalled
from projects.sources import app_tokens, archives, charts

pytestmark = pytest.mark.django_db

REFUSED = (
    Invalid,
    ManifestError,
    RetryLater,
    Stalled,
    HostError,
    oidc.SignInError,
    requests.HTTPError,
)


@functools.cache
def bomb():
    return http(gzip_of(b" " * 2**20, repeat=300), Content_Encoding="gzip")


@pytest.fixture
def server(settings):
    settings.MAX_INDEX_BYTES = settings.MAX_CHART_BYTES = settings.MAX_MANIFEST_BYTES = 2 * 2**20
    found = Hostile(lambda path: bomb())
    yield found
    found.close()


def provider(url):
    return Provider("company", "Company", "oidc", {"issuer": url, "clientID": "hub"})


def registry(url):
    return f"oci://{url.removeprefix('http://')}/team/app", {"insecureOCIForceHttp": True}


CALLERS = {
    "fetch_index of charts": lambda url: charts.fetch_index(url, {}),
    "values by URL": lambda url: charts.fetch_file(url + "/values.yaml", {}),
    "tags of a registry": lambda url: charts.tags(*registry(url)),
    "manifest of a registry": lambda url: charts.annotations(
        registry(url)[0], "1.0.0", registry(url)[1]
    ),
    "chart of a registry": lambda url: charts.fetch_artifact(
        registry(url)[0], "1.0.0", registry(url)[1]
    ),
    "discovery of a provider": lambda url: oidc.discover(provider(url), fresh=True),
    "userinfo": lambda url: oidc.call(provider(url), "GET", url + "/userinfo"),
    "token of an app": lambda url: app_tokens._text(
        app_tokens._request("POST", url, {}), "token", url
    ),
    "host of repositories": lambda url: Host(url, "api").get("/repos"),
}


@pytest.mark.parametrize("caller", CALLERS)
def test_a_bomb(server, caller):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(REFUSED):
        CALLERS[caller](server.url)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80 * 1024


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://0xa9fea9fe/",
        "//169.254.169.254/",
        "http://a:b:c/",
        "http://[",
        "//[::1",
    ],
)
def test_a_redirect_into_the_network(server, caller, target):
    server.answer = lambda path: http(b"", 302, Location=target)
    with pytest.raises(REFUSED):
        CALLERS[caller](server.url)


@pytest.mark.parametrize(
    "headers",
    [
        {"Link": '<http://[/>; rel="next"'},
        {"Link": '<//[::1>; rel="last"', "X_Total_Pages": "x"},
        {"Www_Authenticate": 'Bearer realm="http://[",service="s"'},
        {"Www_Authenticate": 'Bearer realm="//[::1"'},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "caller", ["tags of a registry", "manifest of a registry", "host of repositories"]
)
def test_a_header_that_points_to_no_url(server, caller, headers):
    status = 401 if "Www_Authenticate" in headers else 200
    server.answer = lambda path: http(b'{"tags":["1.0.0"]}', status, **headers)
    with contextlib.suppress(*REFUSED):
        CALLERS[caller](server.url)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(
    "text",
    [
        b"[" * 5000,
        b"7",
        b'{"a":"\xff"}',
        b'{"keys":5,"tags":5,"layers":"x","entries":[],"token":{}}',
    ],
)
def test_nonsense(server, caller, text):
    if caller in (
        "values by URL",
        "host of repositories",
        "manifest of a registry",
        "userinfo",
        "token of an app",
    ):
        pytest.skip("it takes any text or value")
    server.answer = lambda path: http(text)
    try:
        assert CALLERS[caller](server.url) in ({}, [])
    except REFUSED:
        pass


@pytest.mark.parametrize("url", ["http://[fd00:ec2::254]/", "http://2852039166/"])
def test_events_go_to_no_refused_address(url):
    with pytest.raises((Invalid, requests.HTTPError)):
        webhook.send({"url": url, "secret": ""}, [{"sequence": 1}])
    with pytest.raises(Invalid):
        forwarding.configure({"webhook": {"url": url}})
    with pytest.raises(Invalid):
        forwarding.configure({"syslog": {"address": f"{url[7:-1]}:514"}})
    with pytest.raises(Invalid):
        syslog.send({"address": f"{url[7:-1]}:514", "protocol": "udp"}, [])


def test_the_answer_to_an_event_is_not_read(server):
    server.answer = lambda path: itertools.chain(
        [http(b"", Content_Length=2**40)], itertools.repeat(b"x" * 65536)
    )
    webhook.send({"url": server.url, "secret": ""}, [{"sequence": 1}])
    assert server.sent < 32 * 2**20


def tar_of(entries, kind=tarfile.REGTYPE, size=0):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name in entries:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, size, "../../etc/passwd"
            archive.addfile(member, io.BytesIO(b"\0" * size))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(lambda: tar_of(["a/b"], size=30 * 2**20), "limit", id="ratio"),
        pytest.param(lambda: tar_of(["a/../../b"]), "leads out", id="path"),
        pytest.param(lambda: tar_of(["/etc/b"]), "leads out", id="absolute"),
        pytest.param(lambda: tar_of(map(str, range(20_100))), "entries", id="files"),
        pytest.param(
            lambda: tar_of(map(str, range(20_100)), tarfile.SYMTYPE), "entries", id="links"
        ),
        pytest.param(lambda: gzip_of(b"\0" * 2**20, repeat=60), "limit", id="nothing but zeros"),
        pytest.param(lambda: b"\x1f\x8bnonsense", "cannot be read", id="not gzip"),
    ],
)
def test_archives_that_are_bombs(settings, data, words):
    settings.MAX_CHART_BYTES = 2**20
    with pytest.raises(ManifestError, match=words):
        archives.unpack(data(), strip=True)


def test_links_of_an_archive_are_left_out():
    assert archives.unpack(tar_of(["c/a"], tarfile.SYMTYPE), strip=True).children("") == []


@pytest.mark.parametrize("digest", ["", "sha256:../../x", "md5:0", "sha256:" + "0" * 63, 5])
def test_a_layer_is_named_by_its_digest(server, digest):
    layer = {"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "digest": digest}
    server.answer = lambda path: http(json.dumps({"layers": [5, layer]}).encode())
    with pytest.raises(ManifestError, match="digest"):
        charts.fetch_artifact(registry(server.url)[0], "1.0.0", registry(server.url)[1])
    assert not any("blobs" in path for path in server.paths)


def test_keys_of_a_provider_without_an_end(server):
    keys = json.dumps({"keys": [{"kid": "k"}] * 5000}).encode()
    server.answer = lambda path: http(keys)
    token = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.e30.c2ln"
    with pytest.raises(oidc.SignInError, match="at most"):
        oidc._key(provider(server.url), {"jwks_uri": server.url + "/keys"}, token)


def test_sign_in_opens_no_session_of_its_own():
    with pytest.raises(ImproperlyConfigured, match=r"hub\.base\.outbound"):
        SocialAdapter().get_requests_session()
