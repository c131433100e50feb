"""Events of hosts: what each says, in the shapes that they send."""

import pytest

from projects.webhooks.azure import azure
from projects.webhooks.bitbucket import bitbucket, bitbucket_server
from projects.webhooks.events import Nothing, Pulls, Push
from projects.webhooks.github import github, github_package
from projects.webhooks.gitlab import gitlab
from projects.webhooks.registries import harbor, registry

COMMIT = "f" * 40
GITHUB = {
    "full_name": "acme/web",
    "html_url": "https://github.com/acme/web",
    "clone_url": "https://github.com/acme/web.git",
    "ssh_url": "git@github.com:acme/web.git",
}
GITLAB = {
    "path_with_namespace": "acme/web",
    "web_url": "https://gitlab.com/acme/web",
    "git_http_url": "https://gitlab.com/acme/web.git",
    "git_ssh_url": "git@gitlab.com:acme/web.git",
}
CLOUD = {"full_name": "acme/web", "links": {"html": {"href": "https://bitbucket.org/acme/web"}}}
SERVER = {
    "slug": "web",
    "project": {"key": "ACME"},
    "links": {
        "clone": [
            {"name": "http", "href": "https://git.example/scm/acme/web.git"},
            {"name": "ssh", "href": "ssh://git@git.example/acme/web.git"},
        ]
    },
}
AZURE = {
    "name": "web",
    "project": {"name": "team"},
    "remoteUrl": "https://dev.azure.com/acme/team/_git/web",
}


def test_github_and_gitea():
    found = list(github("push", {"ref": "refs/heads/main", "after": COMMIT, "repository": GITHUB}))
    assert found == [
        Push(
            (GITHUB["html_url"], GITHUB["clone_url"], GITHUB["ssh_url"]), "refs/heads/main", COMMIT
        )
    ]
    for action in (
        "opened",
        "closed",
        "reopened",
        "synchronize",
        "synchronized",
        "labeled",
        "unlabeled",
        "label_updated",
    ):
        assert list(github("pull_request", {"action": action, "repository": GITHUB})) == [
            Pulls("acme/web")
        ]
    assert list(github("pull_request", {"action": "assigned", "repository": GITHUB})) == [Nothing()]
    assert list(
        github("pull_request_label", {"action": "label_updated", "repository": GITHUB})
    ) == [Pulls("acme/web")]
    assert list(github("ping", {})) == [Nothing()] and list(github("star", {})) == []


def test_gitlab():
    push = {"object_kind": "push", "ref": "refs/heads/main", "after": COMMIT, "project": GITLAB}
    assert list(gitlab("Push Hook", push)) == [
        Push(
            (GITLAB["web_url"], GITLAB["git_http_url"], GITLAB["git_ssh_url"]),
            "refs/heads/main",
            COMMIT,
        )
    ]
    tag = {
        "object_kind": "tag_push",
        "ref": "refs/tags/v1",
        "checkout_sha": COMMIT,
        "project": GITLAB,
    }
    assert next(gitlab("Tag Push Hook", tag)).commit == COMMIT
    assert (
        next(gitlab("System Hook", {**push, "object_kind": None, "event_name": "push"})).ref
        == "refs/heads/main"
    )
    merge = {
        "object_kind": "merge_request",
        "object_attributes": {"action": "open"},
        "project": GITLAB,
    }
    assert list(gitlab("Merge Request Hook", merge)) == [Pulls("acme/web")]
    assert list(gitlab("Note Hook", {"object_kind": "note"})) == [Nothing()]


def test_bitbucket_cloud():
    change = {"new": {"type": "branch", "name": "main", "target": {"hash": COMMIT}}}
    tag = {"new": {"type": "tag", "name": "v1", "target": {"hash": COMMIT}}}
    found = list(
        bitbucket(
            "repo:push", {"repository": CLOUD, "push": {"changes": [change, tag, {"new": None}]}}
        )
    )
    assert [(p.ref, p.commit) for p in found] == [
        ("refs/heads/main", COMMIT),
        ("refs/tags/v1", COMMIT),
        ("", ""),
    ]
    assert "git@bitbucket.org:acme/web" in found[0].urls
    for event in ("created", "updated", "fulfilled", "rejected"):
        assert list(bitbucket(f"pullrequest:{event}", {"repository": CLOUD})) == [Pulls("acme/web")]
    assert list(bitbucket("pullrequest:comment_created", {"repository": CLOUD})) == [Nothing()]


def test_bitbucket_server():
    push = {
        "repository": SERVER,
        "changes": [
            {"refId": "refs/heads/main", "toHash": COMMIT},
            {"ref": {"id": "refs/heads/x"}},
        ],
    }
    found = list(bitbucket_server("repo:refs_changed", push))
    assert [(p.ref, p.commit) for p in found] == [("refs/heads/main", COMMIT), ("refs/heads/x", "")]
    assert found[0].urls[0] == "https://git.example/scm/acme/web.git"
    pull = {"pullRequest": {"toRef": {"repository": SERVER}}}
    assert list(bitbucket_server("pr:opened", pull)) == [Pulls("ACME/web")]
    assert list(bitbucket_server("diagnostics:ping", {"test": True})) == [Nothing()]


def test_azure():
    push = {
        "eventType": "git.push",
        "resource": {
            "repository": AZURE,
            "refUpdates": [{"name": "refs/heads/main", "newObjectId": COMMIT}],
        },
    }
    assert list(azure(push)) == [Push((AZURE["remoteUrl"],), "refs/heads/main", COMMIT)]
    for event in ("created", "updated", "merged"):
        assert list(
            azure({"eventType": f"git.pullrequest.{event}", "resource": {"repository": AZURE}})
        ) == [Pulls("team/web")]
    assert list(azure({"eventType": "build.complete"})) == [Nothing()]


ODD = [
    None,
    1,
    "x",
    [],
    {},
    [None],
    {"repository": []},
    {"project": 3},
    {"push": {"changes": [1, None, {}]}},
    {"changes": {}},
    {"resource": {"refUpdates": [[]]}},
    {"pullRequest": {"toRef": []}},
]


@pytest.mark.parametrize("value", ODD)
def test_malformed_shapes_are_not_a_crash(value):
    body = (
        value
        if isinstance(value, dict)
        else dict.fromkeys(
            (
                "repository",
                "project",
                "push",
                "changes",
                "resource",
                "pullRequest",
                "ref",
                "action",
                "object_kind",
                "eventType",
            ),
            value,
        )
    )
    for event in (
        "push",
        "pull_request",
        "repo:push",
        "pullrequest:created",
        "repo:refs_changed",
        "pr:opened",
    ):
        for read in (github, gitlab, bitbucket, bitbucket_server):
            list(read(event, body))
    for kind in ("git.push", "git.pullrequest.created"):
        list(azure({**body, "eventType": kind}))
    for read in (github_package, harbor, registry):
        list(
            read(
                {
                    **body,
                    "package": value,
                    "package_type": value,
                    "event_data": value,
                    "events": value,
                    "target": value,
                }
            )
        )
    list(
        harbor({"type": "PUSH_ARTIFACT", "event_data": {"resources": [value], "repository": value}})
    )
    list(registry({"events": [value, {"action": "push", "target": value, "request": value}]}))
    list(gitlab("x", {**body, "object_kind": "push"}))
    list(gitlab("x", {**body, "object_kind": "merge_request"}))
