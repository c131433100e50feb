"""Generators that ask hosts: every provider tells the same world, and a bad answer is never an
empty one.
"""

import functools
import json
import time
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.utils import timezone
from support.hosts import Host, sha
from support.sets import manifest, names_of, run

from appsets.models import ApplicationSet, GeneratorAnswer, HostAnswer, HostBudget, Secret
from appsets.scm.host import Host as Scm
from appsets.scm.host import HostError
from clusters.models import Cluster
from hub.auth.sessions import issue
from hub.models import Account, AuditEvent, access_changed, change_setting
from projects.models import Application, Project

API = "/api/v1/applicationsets"
GENERATE = f"{API}/generate"
PROVIDERS = (
    "github",
    "gitlab",
    "gitea",
    "bitbucket",
    "bitbucketServer",
    "azureDevOps",
    "awsCodeCommit",
)
PULLS = ("github", "gitlab", "gitea", "bitbucket", "bitbucketServer", "azuredevops")
LABELLED = ("github", "gitlab", "gitea", "awsCodeCommit")


@pytest.fixture
def host(transactional_db, monkeypatch, settings):
    found = Host()
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    settings.SCM_AWS = True
    Secret.objects.create(name="scm", servers=[found.url], data={"token": found.token})
    yield found
    found.close()


TOKEN = {"tokenRef": {"secretName": "scm", "key": "token"}}
BASIC = {"username": "bot", "passwordRef": {"secretName": "scm", "key": "token"}}


def scm(host, provider, **more):
    """Return a generator of repositories at the test's host; the public ones are named by `api`
    too.
    """
    return {
        "github": {"organization": "acme", "api": host.url, **TOKEN},
        "gitlab": {"group": "acme", "api": host.url, **TOKEN},
        "gitea": {"owner": "acme", "api": host.url, **TOKEN},
        "bitbucket": {
            "owner": "acme",
            "user": "bot",
            "api": f"{host.url}/2.0",
            "appPasswordRef": {"secretName": "scm", "key": "token"},
        },
        "bitbucketServer": {"project": "ACME", "api": f"{host.url}/rest", "basicAuth": BASIC},
        "azureDevOps": {
            "organization": "acme",
            "teamProject": "team",
            "api": host.url,
            "accessTokenRef": {"secretName": "scm", "key": "token"},
        },
        "awsCodeCommit": {"region": "eu-1"},
    }[provider] | more


def pull(host, provider, **more):
    return {
        "github": {"owner": "acme", "repo": "web", "api": host.url, **TOKEN},
        "gitlab": {"project": "acme/web", "api": host.url, "pullRequestState": "opened", **TOKEN},
        "gitea": {"owner": "acme", "repo": "web", "api": host.url, **TOKEN},
        "bitbucket": {
            "owner": "acme",
            "repo": "web",
            "api": f"{host.url}/2.0",
            "bearerToken": TOKEN,
        },
        "bitbucketServer": {"project": "ACME", "repo": "web", "api": host.url, "basicAuth": BASIC},
        "azuredevops": {
            "organization": "acme",
            "project": "team",
            "repo": "web",
            "api": host.url,
            **TOKEN,
        },
    }[provider] | more


def params(hub, generator, *, go=True, values=None, status=200):
    """Return the parameters of a generator, read off the labels of the applications that they
    make.
    """
    known = values or [
        "repository",
        "branch",
        "sha",
        "url",
        "organization",
        "branchNormalized",
        "short_sha_7",
    ]
    form = "{{{{.{0}}}}}" if go else "{{{{{0}}}}}"
    number = form.format("sha" if "sha" in known else "head_sha")
    body = manifest(
        "s",
        [generator],
        metadata={"name": f"a-{number}", "annotations": {k: form.format(k) for k in known}},
    )
    body["spec"]["goTemplate"] = go
    if not go:
        del body["spec"]["goTemplateOptions"]
    answer = hub.post(GENERATE, {"applicationSet": body}, status=status)
    if status != 200:
        return answer["message"]
    return sorted(
        (a["metadata"]["annotations"] for a in answer["applications"]),
        key=lambda a: [a[k] for k in known],
    )


@pytest.mark.parametrize("provider", PROVIDERS)
def test_repositories_of_every_host(idle_hub, host, provider):
    host.repo(
        "web",
        {"main": sha("w"), "dev/X_1": sha("d")},
        labels=["team=a"] if provider == "awsCodeCommit" else ["team-a"],
        paths=["deploy/app.yaml"],
    )
    host.repo("api", {"main": sha("a"), "dev/X_1": sha("e")})
    host.repo("lib", {"trunk": sha("l")}, default="trunk")
    host.repo("empty", {"none": sha("n")}, default="gone")
    ask = functools.partial(params, idle_hub)

    found = ask({"scmProvider": {provider: scm(host, provider), "cloneProtocol": "https"}})
    assert [(p["repository"], p["branch"], p["sha"], p["organization"].lower()) for p in found] == [
        ("api", "main", sha("a"), "acme"),
        ("lib", "trunk", sha("l"), "acme"),
        ("web", "main", sha("w"), "acme"),
    ]
    assert (
        found[2]["url"] == "https://host/acme/web.git" and found[2]["short_sha_7"] == sha("w")[:7]
    )
    assert (
        ask({"scmProvider": {provider: scm(host, provider)}}, go=False)[0]["url"]
        == "git@host:acme/api.git"
    )

    every = scm(host, provider, allBranches=True)
    found = ask({"scmProvider": {provider: every, "filters": [{"branchMatch": "^dev"}]}})
    assert [(p["repository"], p["branch"], p["branchNormalized"]) for p in found] == [
        ("api", "dev/X_1", "dev-x-1"),
        ("web", "dev/X_1", "dev-x-1"),
    ]
    found = ask({"scmProvider": {provider: every, "filters": [{"repositoryMatch": "^(web|lib)$"}]}})
    assert [(p["repository"], p["branch"]) for p in found] == [
        ("lib", "trunk"),
        ("web", "dev/X_1"),
        ("web", "main"),
    ]
    for paths, names in ((["deploy/app.yaml"], ["web"]), (["deploy/none.yaml"], [])):
        found = ask(
            {"scmProvider": {provider: scm(host, provider), "filters": [{"pathsExist": paths}]}}
        )
        assert [p["repository"] for p in found] == names
    found = ask(
        {
            "scmProvider": {
                provider: scm(host, provider),
                "filters": [{"pathsDoNotExist": ["deploy/app.yaml"], "repositoryMatch": "web|api"}],
            }
        }
    )
    assert [p["repository"] for p in found] == ["api"]
    if provider in LABELLED:
        found = ask(
            {"scmProvider": {provider: scm(host, provider), "filters": [{"labelMatch": "^team"}]}}
        )
        assert [p["repository"] for p in found] == ["web"]


def test_features_of_single_hosts(idle_hub, host):
    host.repo("web", labels=["team=a", "b"])
    host.repo("old", archived=True)
    for provider in ("github", "gitea"):
        assert len(params(idle_hub, {"scmProvider": {provider: scm(host, provider)}})) == 2
        assert (
            len(
                params(
                    idle_hub,
                    {"scmProvider": {provider: scm(host, provider, excludeArchivedRepos=True)}},
                )
            )
            == 1
        )
    assert len(params(idle_hub, {"scmProvider": {"gitlab": scm(host, "gitlab")}})) == 1
    assert (
        len(
            params(
                idle_hub,
                {
                    "scmProvider": {
                        "gitlab": scm(
                            host,
                            "gitlab",
                            includeArchivedRepos=True,
                            includeSubgroups=True,
                            topic="x",
                        )
                    }
                },
            )
        )
        == 2
    )
    assert "topic=x" in host.requests[-3][1] or any(
        "topic=x" in p and "include_subgroups=true" in p and "with_shared=true" in p
        for _, p, _ in host.requests
    )
    tagged = scm(host, "awsCodeCommit", tagFilters=[{"key": "team", "value": "a"}])
    assert [
        p["labels"]
        for p in params(
            idle_hub, {"scmProvider": {"awsCodeCommit": tagged}}, values=["sha", "labels"]
        )
    ] == ["b,team=a"]


@pytest.mark.parametrize("provider", PULLS)
def test_pull_requests_of_every_host(idle_hub, host, provider):
    host.repo("web")
    for number in (1, 2, 3):
        host.pull(
            number,
            branch=f"feature/One_{number}",
            title=f"Change {number}",
            labels=["preview", f"l{number}"],
            author="ann",
        )
    host.pull(4, state="closed")
    host.pull(5, branch="fix", target="release/1", title="Mend", author="bob")
    known = [
        "head_sha",
        "number",
        "title",
        "author",
        "branch",
        "branch_slug",
        "target_branch",
        "target_branch_slug",
        "head_short_sha",
        "head_short_sha_7",
    ]
    ask = functools.partial(params, idle_hub, values=known)

    found = {p["number"]: p for p in ask({"pullRequest": {provider: pull(host, provider)}})}
    assert sorted(found) == ["1", "2", "3", "5"]
    one = found["1"]
    assert (one["title"], one["author"], one["branch"], one["branch_slug"]) == (
        "Change 1",
        "ann",
        "feature/One_1",
        "feature-one-1",
    )
    assert (one["head_sha"], one["head_short_sha"], one["head_short_sha_7"]) == (
        sha("1", "feature/One_1"),
        sha("1", "feature/One_1")[:8],
        sha("1", "feature/One_1")[:7],
    )
    assert (found["5"]["target_branch"], found["5"]["target_branch_slug"]) == (
        "release/1",
        "release-1",
    )
    plain = ask({"pullRequest": {provider: pull(host, provider)}}, go=False)
    assert sorted(p["number"] for p in plain) == ["1", "2", "3", "5"]
    for entry, numbers in (
        ({"branchMatch": "^feature"}, ["1", "2", "3"]),
        ({"targetBranchMatch": "^rel"}, ["5"]),
        ({"titleMatch": "2$"}, ["2"]),
        ({"titleMatch": "Change", "branchMatch": "3$"}, ["3"]),
    ):
        found = ask({"pullRequest": {provider: pull(host, provider), "filters": [entry]}})
        assert sorted(p["number"] for p in found) == numbers
    both = ask(
        {
            "pullRequest": {
                provider: pull(host, provider),
                "filters": [{"branchMatch": "1$"}, {"branchMatch": "fix"}],
            }
        }
    )
    assert sorted(p["number"] for p in both) == ["1", "5"]
    if "labels" in str(host._github_pull(host.pulls[0])) and provider not in (
        "bitbucket",
        "bitbucketServer",
    ):
        found = ask({"pullRequest": {provider: pull(host, provider, labels=["preview", "l2"])}})
        assert [p["number"] for p in found] == ["2"]


def test_a_repository_that_is_not_there(idle_hub, host):
    assert "404" in params(
        idle_hub, {"pullRequest": {"github": pull(host, "github")}}, values=["head_sha"], status=400
    )
    calm = {"pullRequest": {"github": pull(host, "github"), "continueOnRepoNotFoundError": True}}
    assert params(idle_hub, calm, values=["head_sha"]) == []


def test_a_github_app(idle_hub, host):
    host.repo("web")
    key = (
        rsa.generate_private_key(65537, 2048)
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )
    data = {"githubAppID": "7", "githubAppInstallationID": "9", "githubAppPrivateKey": key}
    idle_hub.post("/api/v1/flotilla/secrets", {"name": "app", "servers": [host.url], "data": data})
    block = {"organization": "acme", "api": host.url, "appSecretName": "app"}
    assert len(params(idle_hub, {"scmProvider": {"github": block}})) == 1
    asked = [(m, p) for m, p, _ in host.requests]
    assert asked[0] == ("POST", "/api/v3/app/installations/9/access_tokens")
    assert host.requests[0][2]["Authorization"].startswith("Bearer ey")
    params(idle_hub, {"scmProvider": {"github": {**block, "allBranches": True}}})
    assert sum(m == "POST" for m, _, _ in host.requests) == 1, "the token is asked for once"


def set_of_pulls(host, provider="github", **more):
    return manifest(
        "s",
        [{"pullRequest": {provider: pull(host, provider), **more}}],
        metadata={"name": "pr-{{.number}}", "labels": {"sha": "{{.head_short_sha}}"}},
    )


def age(seconds=4000):
    """Let the interval of every answer be over."""
    GeneratorAnswer.objects.update(at=timezone.now() - timedelta(seconds=seconds))


@pytest.mark.parametrize("provider", PULLS)
def test_a_pull_request_opens_and_closes_a_preview(idle_hub, host, provider):
    host.repo("web")
    host.pull(1)
    idle_hub.post(API, set_of_pulls(host, provider))
    run("s")
    assert names_of() == ["pr-1"]
    host.pull(2)
    run("s")
    assert names_of() == ["pr-1"], "the host is not asked before its interval is over"
    age()
    run("s")
    assert names_of() == ["pr-1", "pr-2"]
    host.pull(1, state="closed")
    age()
    run("s")
    assert names_of() == ["pr-2"]
    host.pull(2, state="closed")
    age()
    row, conditions = run("s")
    assert names_of() == [] and row.awaits == [], "the last one goes without being asked about"
    assert conditions["ErrorOccurred"]["status"] == "False"


@pytest.mark.parametrize("provider", PULLS)
def test_an_empty_list_that_lies(idle_hub, host, provider):
    host.repo("web")
    host.pull(1)
    host.pull(2)
    idle_hub.post(API, set_of_pulls(host, provider))
    run("s")
    hidden, host.open = host.open, list
    kept = host.pulls
    if provider == "gitlab":
        host.fail = lambda path, query: (200, []) if path.endswith("/merge_requests") else None
    age()
    _, conditions = run("s")
    assert names_of() == ["pr-1", "pr-2"]
    assert "although #1 is open" in conditions["ErrorOccurred"]["message"]
    assert "using the response of" in conditions["ErrorOccurred"]["message"]
    host.open, host.pulls, host.fail = hidden, kept, None
    _, conditions = run("s")
    assert conditions["ErrorOccurred"]["status"] == "False"


def _pages(path, query):
    return (200, [], {"Link": f'<{path}?page=3>; rel="next"'}) if query.get("page") == "2" else None


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (lambda path, query: (200, b""), "did not answer with JSON"),
        (lambda path, query: (200, b"<html>Sign in</html>"), "did not answer with JSON"),
        (lambda path, query: (200, {"message": "fine"}), "did not answer with a list of objects"),
        (lambda path, query: (200, [1, 2]), "did not answer with a list of objects"),
        (lambda path, query: (200, [{"number": "x"}]), "no number"),
        (lambda path, query: (200, [{"number": 1, "head": [], "base": None}]), "answer"),
        (lambda path, query: (500, {"message": "broken"}), "answered 500"),
        (lambda path, query: (403, {"message": "forbidden"}), "answered 403"),
        (lambda path, query: (429, {}, {"Retry-After": "120"}), "asks to be left alone until"),
        (
            lambda path, query: (
                403,
                {},
                {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "32503680000"},
            ),
            "asks to be left alone until",
        ),
        (
            lambda path, query: (302, {}, {"Location": "http://elsewhere.example/"}),
            "another server",
        ),
        (
            lambda path, query: (
                200,
                [{}] * 2,
                {"Link": '<http://elsewhere.example/x?page=2>; rel="next"'},
            ),
            "no number|another server",
        ),
        (_pages, "empty page"),
        (lambda path, query: (200, b"[" + b" " * (21 * 1024**2) + b"]"), "larger than 20 MiB"),
        (lambda path, query: (200, b"[" * 100_000), "did not answer with JSON"),
    ],
    ids=[
        "empty body",
        "a page",
        "an object",
        "numbers",
        "odd number",
        "odd types",
        "500",
        "403",
        "429",
        "rate limit",
        "redirect",
        "next page elsewhere",
        "empty page with a next",
        "too large",
        "deep",
    ],
)
def test_a_bad_answer_keeps_the_last_good_one(idle_hub, host, fail, words):
    host.repo("web")
    for number in (1, 2, 3):
        host.pull(number)
    idle_hub.post(API, set_of_pulls(host))
    run("s")
    assert names_of() == ["pr-1", "pr-2", "pr-3"]
    host.etags, host.fail = False, fail
    age()
    row, conditions = run("s")
    message = conditions["ErrorOccurred"]["message"]
    assert any(w in message for w in words.split("|")), message
    assert "using the response of" in message and host.token not in message
    assert names_of() == ["pr-1", "pr-2", "pr-3"] and row.awaits == []
    assert row.due_at <= timezone.now() + timedelta(minutes=3), "it tries again soon"
    if "left alone" in words:
        count = len(host.requests)
        run("s")
        assert len(host.requests) == count, "a host that asked to be left alone is left alone"
        HostBudget.objects.update(blocked_until=None)
    host.fail = None
    _, conditions = run("s")
    assert conditions["ErrorOccurred"]["status"] == "False" and names_of() == [
        "pr-1",
        "pr-2",
        "pr-3",
    ]


def test_a_first_answer_that_is_bad_makes_nothing(idle_hub, host):
    host.fail = lambda path, query: (500, {})
    idle_hub.post(API, set_of_pulls(host))
    _, conditions = run("s")
    assert names_of() == [] and "answered 500" in conditions["ErrorOccurred"]["message"]
    assert conditions["ParametersGenerated"]["status"] == "False"


def test_repositories_that_vanish_all_at_once_ask_first(idle_hub, host):
    host.repo("web"), host.repo("api")
    idle_hub.post(
        API,
        manifest(
            "s",
            [{"scmProvider": {"github": scm(host, "github")}}],
            metadata={"name": "{{.repository}}"},
        ),
    )
    run("s")
    assert names_of() == ["api", "web"]
    host.repos.clear()
    age()
    row, _ = run("s")
    assert names_of() == ["api", "web"] and row.awaits == ["api", "web"]


def test_an_unchanged_answer_costs_no_budget(idle_hub, host):
    host.repo("web")
    for number in range(1, 6):
        host.pull(number)
    idle_hub.post(API, set_of_pulls(host))
    run("s")
    first, tokens = len(host.requests), HostBudget.objects.get(server=host.url).tokens
    assert HostAnswer.objects.count() == 3
    age()
    run("s")
    again = host.requests[first:]
    assert len(again) == 3 and all("If-None-Match" in h for _, _, h in again)
    assert HostBudget.objects.get(server=host.url).tokens >= tokens - 0.1
    run("s")
    assert len(host.requests) == first + 3, "within its interval it is not asked at all"


def test_the_budget_is_shared_by_all_sets(idle_hub, host, settings):
    host.repo("web")
    host.pull(1)
    HostBudget.objects.create(server=host.url, tokens=1.5)
    settings.SCM_REQUESTS_PER_HOUR = 1
    idle_hub.post(API, set_of_pulls(host))
    run("s")
    other = set_of_pulls(host, "gitlab")
    other["metadata"]["name"] = "t"
    idle_hub.post(API, other)
    _, conditions = run("t")
    assert "budget of 1 requests an hour" in conditions["ErrorOccurred"]["message"]
    assert len(host.requests) == 1


def test_one_project_leaves_a_host_to_the_others(idle_hub, host, settings):
    host.repo("web")
    settings.SCM_REQUESTS_PER_HOUR = 80
    mine = Scm(host.url, "api", headers={"Authorization": "Bearer mine"}, project="mine")
    theirs = Scm(host.url, "api", project="theirs")
    again = Scm(host.url, "api", headers={"Authorization": "Bearer other"}, project="theirs")
    wait = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + 3000)}

    host.etags, host.fail = False, lambda path, query: (403, {}, wait)
    for _ in range(2):
        with pytest.raises(HostError, match="left alone"):
            theirs.get("/x")
    host.fail = lambda path, query: (200, {})
    assert mine.get("/x") == {}
    with pytest.raises(HostError, match="its half of the 80"):
        for _ in range(20):
            again.get("/x")
    assert mine.get("/x") == {}


def test_codecommit_has_the_same_budget(idle_hub, host, settings):
    host.repo("web")
    host.repo("api")
    generator = {"scmProvider": {"awsCodeCommit": scm(host, "awsCodeCommit")}}
    assert len(params(idle_hub, generator)) == 2
    HostBudget.objects.filter(server=host.url).update(tokens=0.5)
    settings.SCM_REQUESTS_PER_HOUR = 1
    GeneratorAnswer.objects.all().delete()
    count = len(host.requests)
    assert "budget of 1 requests an hour" in params(idle_hub, generator, status=400)
    assert len(host.requests) == count


def test_a_host_that_hangs_or_is_unreachable_keeps_the_last_good_answer(idle_hub, host):
    data = {"baseUrl": f"{host.url}/plugin", "token": "$scm:token", "requestTimeout": "1"}
    idle_hub.post("/api/v1/flotilla/configmaps", {"name": "mine", "data": data})
    idle_hub.post(API, manifest("s", [{"plugin": {"configMapRef": {"name": "mine"}}}]))
    run("s")
    host.fail = lambda path, query: time.sleep(2)
    age()
    _, conditions = run("s")
    assert "did not answer" in conditions["ErrorOccurred"]["message"]
    assert names_of() == ["s-0", "s-1"]
    host.close()
    _, conditions = run("s")
    assert "did not answer" in conditions["ErrorOccurred"]["message"]
    assert names_of() == ["s-0", "s-1"]


@pytest.fixture
def developer(idle_hub):
    Project.objects.create(
        name="team",
        spec={"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]},
    )
    change_setting(
        "rbac",
        {
            "policy.csv": (
                "p, dev, applicationsets, *, team/*, allow\np, dev, repositories, *, team/*, allow"
            )
        },
    )
    access_changed("policy", "rbac", None)
    return issue(
        Account.objects.create(name="dev", password="!", capabilities=["login"]), timezone.now()
    )


def test_a_token_is_only_sent_to_its_servers(idle_hub, host, developer):
    hub, thief = idle_hub, Host()
    try:
        Secret.objects.create(
            name="theirs", project="other", servers=[host.url], data={"token": "CANARY-other"}
        )

        def said(api, name="scm"):
            block = {
                "owner": "acme",
                "repo": "web",
                "api": api,
                "tokenRef": {"secretName": name, "key": "token"},
            }
            body = manifest(
                "s",
                [{"pullRequest": {"github": block}}],
                metadata={"name": "pr-{{.number}}"},
                project="team",
            )
            return hub.post(GENERATE, {"applicationSet": body}, status=400, token=developer)[
                "message"
            ]

        assert f"is not for {thief.url}" in said(thief.url)
        assert said(host.url, "theirs") == said(host.url, "absent").replace("absent", "theirs"), (
            "absent and forbidden look the same"
        )
        assert "not for" in said(f"http://localhost:1@{thief.url.removeprefix('http://')}")
        bare = manifest(
            "s",
            [{"pullRequest": {"github": {"owner": "a", "repo": "b", "api": thief.url}}}],
            project="team",
        )
        assert (
            "not among the servers"
            in hub.post(GENERATE, {"applicationSet": bare}, status=400, token=developer)["message"]
        )
        bare["spec"]["generators"][0]["pullRequest"]["github"]["api"] = "http://169.254.169.254"
        hub.post(GENERATE, {"applicationSet": bare}, status=400, token=developer)
        assert thief.requests == []

        # A redirect and a next page elsewhere get no token either.
        host.fail = lambda path, query: (307, {}, {"Location": f"{thief.url}{path}"})
        assert "another server" in said(host.url)
        host.fail = lambda path, query: (200, [], {"Link": f'<{thief.url}/x?page=2>; rel="next"'})
        said(host.url)
        assert thief.requests == []
    finally:
        thief.close()


def test_a_redirect_within_the_host_is_followed(idle_hub, host):
    host.repo("web")
    host.pull(1)
    host.fail = lambda path, query: (
        (301, {}, {"Location": f"{path}?moved=1"})
        if path.endswith("/pulls") and "moved" not in query
        else None
    )
    idle_hub.post(API, set_of_pulls(host))
    run("s")
    assert names_of() == ["pr-1"]


def test_settings_limit_the_hosts(idle_hub, host, settings):
    host.repo("web")
    settings.SCM_SERVERS = ["https://git.example.org"]
    assert "add it to HUB_SCM_SERVERS" in params(
        idle_hub, {"scmProvider": {"github": scm(host, "github")}}, status=400
    )
    settings.SCM_SERVERS = [host.url]
    assert len(params(idle_hub, {"scmProvider": {"github": scm(host, "github")}})) == 1
    settings.SCM_GENERATORS = False
    assert "switched off" in params(
        idle_hub, {"scmProvider": {"gitlab": scm(host, "gitlab")}}, status=400
    )
    settings.SCM_GENERATORS, settings.SCM_AWS = True, False
    assert "HUB_SCM_AWS" in params(
        idle_hub, {"scmProvider": {"awsCodeCommit": scm(host, "awsCodeCommit")}}, status=400
    )


def test_secrets_go_in_and_never_come_out(idle_hub, developer):
    hub, path = idle_hub, "/api/v1/flotilla/secrets"
    made = hub.post(
        path,
        {
            "name": "mine",
            "project": "team",
            "servers": ["https://git.example.org:443/"],
            "data": {"token": "CANARY-1"},
        },
        token=developer,
    )
    assert made["servers"] == ["https://git.example.org"] and made["keys"] == ["token"]
    kube = {
        "kind": "Secret",
        "metadata": {
            "name": "kube",
            "annotations": {
                "flotilla.io/servers": "https://a.example.org,https://b.example.org",
                "flotilla.io/project": "team",
            },
        },
        "data": {"token": "Q0FOQVJZLTI="},
    }
    hub.post(path, kube, token=developer)
    assert Secret.objects.get(name="kube").data == {"token": "CANARY-2"}
    hub.post(
        path,
        {"name": "all", "servers": ["https://x.example.org"], "data": {"a": "b"}},
        status=403,
        token=developer,
    )
    hub.post(path, {"name": "all", "servers": ["https://x.example.org"], "data": {"a": "CANARY-3"}})
    seen = json.dumps(hub.get(path, token=developer))
    assert (
        "mine" in seen
        and "all" not in seen
        and "CANARY"
        not in seen
        + json.dumps(hub.get(path))
        + str(list(AuditEvent.objects.values_list("detail", flat=True)))
    )
    hub.post(
        path,
        {
            "name": "all",
            "project": "team",
            "servers": ["https://evil.example.org"],
            "data": {"a": "b"},
        },
        status=403,
        token=developer,
    )
    absent = hub.delete(f"{path}/absent", status=403, token=developer)
    assert (
        hub.delete(f"{path}/all", status=403, token=developer)["message"].replace("all", "absent")
        == absent["message"]
    )
    hub.delete(f"{path}/mine", token=developer)
    hub.get("/api/v1/flotilla/configmaps", status=403, token=developer)
    hub.post("/api/v1/flotilla/configmaps", {"name": "x", "data": {}}, status=403, token=developer)
    for body, words in (
        ({"name": "x", "data": {"a": "b"}}, "servers is required"),
        ({"name": "x", "servers": ["https://a.example.org/path"], "data": {"a": "b"}}, "alone"),
        ({"name": "x", "servers": ["https://a.example.org"]}, "data is required"),
        ({"name": "X!", "servers": [], "data": {}}, "name"),
        ({"kind": "Secret", "metadata": {"name": "x"}, "data": {"a": "%%"}}, "base64"),
    ):
        assert words in hub.post(path, body, status=400)["message"]


def test_a_plugin(idle_hub, host):
    hub = idle_hub
    hub.post(
        "/api/v1/flotilla/configmaps",
        {
            "name": "mine",
            "data": {"baseUrl": f"{host.url}/plugin", "token": "$scm:token", "requestTimeout": "5"},
        },
    )
    block = {
        "configMapRef": {"name": "mine"},
        "input": {"parameters": {"count": 3, "env": "qa"}},
        "values": {"v": "{{.name}}-x"},
    }
    body = manifest(
        "s",
        [{"plugin": block}],
        metadata={
            "annotations": {"a": "{{.nested.n}} {{.generator.input.parameters.env}} {{.values.v}}"}
        },
    )
    hub.post(API, body)
    run("s")
    assert names_of() == ["s-0", "s-1", "s-2"]
    assert Application.objects.get(name="s-1").annotations == {"a": "1 qa s-1-x"}
    plain = manifest(
        "t",
        [{"plugin": {**block, "values": {}}}],
        metadata={
            "name": "{{name}}",
            "annotations": {"a": "{{nested.n}} {{generator.input.parameters.env}}"},
        },
    )
    plain["spec"]["goTemplate"] = False
    found = hub.post(GENERATE, {"applicationSet": plain})["applications"]
    assert found[2]["metadata"]["annotations"] == {"a": "2 qa"}
    host.fail = lambda path, query: (200, {"output": {"parameters": "none"}})
    age()
    _, conditions = run("s")
    assert "output.parameters" in conditions["ErrorOccurred"]["message"] and len(names_of()) == 3
    hub.post(
        "/api/v1/flotilla/configmaps",
        {"name": "mine", "data": {"baseUrl": f"{host.url}/plugin", "token": "plain-text"}},
    )
    assert (
        "must be $key or $secret:key"
        in hub.post(GENERATE, {"applicationSet": manifest("u", [{"plugin": block}])}, status=400)[
            "message"
        ]
    )


def test_webhooks_ask_again(hub, host):
    host.repo("web")
    host.pull(1)
    hub.post(API, set_of_pulls(host))
    hub.wait(lambda: names_of() == ["pr-1"], "the first preview")
    host.pull(2)

    def event(body, **headers):
        return hub.client.post(
            "/api/webhook", json.dumps(body), content_type="application/json", **headers
        ).status_code

    assert (
        event(
            {"action": "opened", "repository": {"full_name": "Acme/Other"}},
            HTTP_X_GITHUB_EVENT="pull_request",
        )
        == 200
    )
    count = len(host.requests)
    assert (
        event(
            {"action": "opened", "repository": {"full_name": "Acme/Web"}},
            HTTP_X_GITHUB_EVENT="pull_request",
        )
        == 200
    )
    hub.wait(lambda: names_of() == ["pr-1", "pr-2"], "the second preview")
    assert len(host.requests) > count
    host.pull(2, state="closed")
    assert (
        event(
            {"action": "closed", "repository": {"full_name": "acme/web"}},
            HTTP_X_GITHUB_EVENT="pull_request",
        )
        == 200
    )
    hub.wait(lambda: names_of() == ["pr-1"], "the second preview to go")


def test_the_refresh_annotation_asks_again(idle_hub, host):
    host.repo("web")
    host.pull(1)
    body = set_of_pulls(host)
    idle_hub.post(API, body)
    run("s")
    host.pull(2)
    body["metadata"]["annotations"] = {"argocd.argoproj.io/application-set-refresh": "true"}
    idle_hub.post(API, body, upsert="true")
    run("s")
    assert names_of() == ["pr-1", "pr-2"]
    assert ApplicationSet.objects.get().annotations == {}


@pytest.mark.parametrize(
    ("generator", "words"),
    [
        ({"scmProvider": {}}, "must name one host"),
        ({"scmProvider": {"github": {}}}, "scmProvider.github.organization is required"),
        ({"scmProvider": {"gitea": {"owner": "x"}}}, "scmProvider.gitea.api is required"),
        (
            {"scmProvider": {"github": {"organization": "x"}, "gitlab": {"group": "y"}}},
            "github and gitlab",
        ),
        (
            {"scmProvider": {"github": {"organization": "x"}, "filters": [{"wrong": "x"}]}},
            "filters[0].wrong is not known",
        ),
        (
            {
                "scmProvider": {
                    "github": {"organization": "x"},
                    "filters": [{"repositoryMatch": "("}],
                }
            },
            "is invalid",
        ),
        (
            {"scmProvider": {"github": {"organization": "x"}, "cloneProtocol": "ftp"}},
            "cloneProtocol",
        ),
        ({"pullRequest": {"github": {"owner": "x"}}}, "pullRequest.github.repo is required"),
        (
            {
                "pullRequest": {
                    "github": {"owner": "x", "repo": "y"},
                    "filters": [{"pathsExist": []}],
                }
            },
            "is not known",
        ),
        ({"plugin": {}}, "plugin.configMapRef is required"),
        ({"clusterDecisionResource": {"configMapRef": "x"}}, "give either name or labelSelector"),
        (
            {
                "matrix": {
                    "generators": [{"list": {"elements": []}}, {"pullRequest": {"github": {}}}]
                }
            },
            "pullRequest.github.owner is required",
        ),
    ],
)
def test_blocks_that_cannot_work_are_refused_when_written(idle_hub, generator, words):
    assert words in idle_hub.post(API, manifest("s", [generator]), status=400)["message"]


def test_clusters_that_another_controller_decides_for(hub, cluster, namespace):
    group = f"{namespace}.example.org"
    cluster.apply(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"placements.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {
                    "plural": "placements",
                    "singular": "placement",
                    "kind": "Placement",
                    "listKind": "PlacementList",
                },
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {
                            "openAPIV3Schema": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                            }
                        },
                    }
                ],
            },
        }
    )
    hub.wait(
        lambda: cluster.connection.kinds(fresh=True) and cluster.kind(group, "Placement"),
        "the kind",
    )
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for name, clusters in (("one", [cluster.name, "unknown"]), ("two", [])):
        cluster.apply(
            {
                "apiVersion": f"{group}/v1",
                "kind": "Placement",
                "metadata": {"name": name, "namespace": namespace, "labels": {"kind": name}},
                "status": {
                    "decisions": [
                        {"clusterName": c, "reason": "close", "score": 3} for c in clusters
                    ]
                },
            }
        )
    data = {
        "apiVersion": f"{group}/v1",
        "kind": "placements",
        "statusListKey": "decisions",
        "matchKey": "clusterName",
        "cluster": cluster.name,
        "namespace": namespace,
    }
    hub.post("/api/v1/flotilla/configmaps", {"name": "ocm", "data": data})

    def ask(status=200, **how):
        body = manifest(
            "s",
            [{"clusterDecisionResource": {"configMapRef": "ocm", "values": {"a": "b"}, **how}}],
            metadata={"annotations": {"why": "{{.reason}} {{.score}} {{.values.a}} {{.server}}"}},
        )
        return hub.post(GENERATE, {"applicationSet": body}, status=status)

    found = ask(name="one")["applications"]
    assert [(a["metadata"]["name"], a["metadata"]["annotations"]["why"]) for a in found] == [
        (cluster.name, f"close 3 b {cluster.server}")
    ]
    assert len(ask(labelSelector={"matchLabels": {"kind": "one"}})["applications"]) == 1
    assert (
        ask(
            labelSelector={
                "matchExpressions": [{"key": "kind", "operator": "In", "values": ["two"]}]
            }
        )["applications"]
        == []
    )
    assert "no clusterDecisionResources found" in ask(name="absent", status=400)["message"]
    Cluster.objects.filter(name=cluster.name).update(project="other")
    GeneratorAnswer.objects.all().delete()
    assert ask(name="one")["applications"] == [], "a cluster of another project is not seen"
