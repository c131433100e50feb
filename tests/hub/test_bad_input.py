"""Bad input: an answer of the 4xx kind with a sentence, never a traceback, never a half-made
change.
"""

import asyncio
import json
import threading
from copy import deepcopy

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections
from django.test import AsyncClient, Client
from support.routes import a_url, routes

from clusters.models import Cluster
from hub.models import AuditEvent, access_changed, next_version
from hub.pages.api_guide import EXAMPLES
from projects.models import Application, Project, Repository

pytestmark = pytest.mark.django_db(transaction=True)

SPEC = {
    "project": "default",
    "source": {"repoURL": "https://git.invalid/x.git", "path": "."},
    "destination": {"server": "https://x.invalid", "namespace": "x"},
}
ODD = [
    None,
    5,
    -1,
    2**70,
    1.5,
    True,
    "",
    "x",
    "\n\u202e'\"<",
    [],
    [[]],
    [None],
    {},
    {"a": {"b": [1]}},
]


def put(**more):
    return Application.objects.create(
        name="x", project="default", spec=deepcopy(SPEC), resource_version=next_version(), **more
    )


@pytest.fixture
def furnished(idle_hub):
    """A hub with one of everything, called x."""
    Cluster.objects.create(server="https://x.invalid", name="x")
    Repository.objects.create(url="https://git.invalid/x.git")
    Project.objects.create(
        name="x",
        spec={"roles": [{"name": "x"}], "sourceRepos": ["*"]},
        resource_version=next_version(),
    )
    put(refresh_at=None)
    access_changed("policy", "rbac", None)  # compiled policies are for a version of them
    return idle_hub


def raw(hub, method, path, body, kind="application/json"):
    client = Client(raise_request_exception=False)
    headers = {"Authorization": f"Bearer {hub.token}"}
    return client.generic(method, path, body, content_type=kind, headers=headers)


def told(answer):
    """Return the message of an answer that refuses; everything else fails."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.content[:500])
    body = json.loads(answer.content)
    assert body["message"] and body["code"] and "Traceback" not in body["message"]
    return body["message"]


# --- what was read before somebody else wrote ---


def test_a_concurrent_change_of_an_application_is_not_overwritten(furnished):
    path = "/api/v1/applications/x"
    read = furnished.get(path)
    # What the hub itself finds out does not make a version stale: nobody would ever get to write.
    Application.objects.filter(name="x").bump(sync_status="OutOfSync")
    mine = {**read, "spec": {**SPEC, "source": {**SPEC["source"], "path": "mine"}}}
    furnished.put(path, mine, validate="false")
    theirs = {**read, "spec": {**SPEC, "source": {**SPEC["source"], "path": "theirs"}}}
    refused = furnished.put(path, theirs, validate="false", status=409)
    assert refused["code"] == 10 and "read it again" in refused["message"]
    assert Application.objects.get(name="x").spec["source"]["path"] == "mine"
    for odd, word in (("x", "number"), (True, "number"), ([], "number"), (10**12, "changed")):
        theirs["metadata"]["resourceVersion"] = odd
        assert word in told(raw(furnished, "PUT", f"{path}?validate=false", json.dumps(theirs)))
    del theirs["metadata"]["resourceVersion"]
    assert furnished.put(path, theirs, validate="false")["spec"]["source"]["path"] == "theirs"
    assert AuditEvent.objects.filter(kind="application", verb="update").count() == 2


def test_a_patch_applies_to_the_newest_version(furnished, monkeypatch):
    from projects.api import applications as api

    path, patched, calls = "/api/v1/applications/x", api.patched, []

    def slowly(current, patch, kind):
        if not calls:
            row = Application.objects.get(name="x")
            calls.append(1)
            api.applications.change(row, "somebody", labels={"theirs": "1"})
        return patched(current, patch, kind)

    monkeypatch.setattr(api, "patched", slowly)
    monkeypatch.setattr(api, "_check", lambda *_a, **_k: None)
    body = {"patch": json.dumps({"metadata": {"annotations": {"mine": "1"}}}), "patchType": "merge"}
    got = furnished.call("PATCH", path, body)["metadata"]
    assert (got["labels"], got["annotations"]) == ({"theirs": "1"}, {"mine": "1"})
    stale = {"patch": json.dumps({"metadata": {"resourceVersion": "1"}}), "patchType": "merge"}
    assert "read it again" in furnished.call("PATCH", path, stale, status=409)["message"]
    monkeypatch.undo()
    for patch in (
        {"metadata": None},
        {"metadata": []},
        {"spec": None},
        {"metadata": {"labels": 5}},
    ):
        furnished.call(
            "PATCH", path, {"patch": json.dumps(patch), "patchType": "merge"}, status=400
        )


def test_a_concurrent_change_of_a_project_is_not_overwritten(furnished):
    path = "/api/v1/projects/x"
    read = furnished.get(path)
    mine, theirs = deepcopy(read), deepcopy(read)
    mine["spec"]["description"], theirs["spec"]["description"] = "mine", "theirs"
    furnished.put(path, {"project": mine})
    refused = furnished.put(path, {"project": theirs}, status=409)
    assert refused["code"] == 10 and "project x was changed" in refused["message"]
    assert furnished.get(path)["spec"]["description"] == "mine"
    del theirs["metadata"]["resourceVersion"]
    furnished.put(path, {"project": theirs})
    assert furnished.get(path)["spec"]["description"] == "theirs"


def test_two_at_once_and_one_of_them_wins(furnished):
    path = "/api/v1/projects/x"
    read, answers = furnished.get(path), []

    def write(name):
        wanted = deepcopy(read)
        wanted["spec"]["description"] = name
        answers.append(raw(furnished, "PUT", path, json.dumps({"project": wanted})).status_code)
        connections.close_all()

    threads = [threading.Thread(target=write, args=(f"writer {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 409, 409, 409]


# --- path and body ---


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        (
            "PUT",
            "/api/v1/applications/x",
            {"metadata": {"name": "y"}, "spec": SPEC},
            "metadata.name",
        ),
        (
            "PATCH",
            "/api/v1/applications/x",
            {"name": "y", "patch": "{}", "patchType": "merge"},
            "name",
        ),
        ("POST", "/api/v1/applications/x/sync", {"name": "y"}, "name"),
        ("POST", "/api/v1/applications/x/rollback", {"name": "y", "id": 1}, "name"),
        (
            "PUT",
            "/api/v1/projects/x",
            {"project": {"metadata": {"name": "y"}, "spec": {}}},
            "metadata.name",
        ),
        ("POST", "/api/v1/projects/x/roles/x/token", {"project": "y"}, "project"),
        ("POST", "/api/v1/projects/x/roles/x/token", {"role": "y"}, "role"),
        (
            "PUT",
            "/api/v1/clusters/https%3A%2F%2Fx.invalid",
            {"server": "https://y.invalid"},
            "server",
        ),
        (
            "PUT",
            "/api/v1/repositories/https%3A%2F%2Fgit.invalid%2Fx.git",
            {"repo": "https://git.invalid/y.git"},
            "repo",
        ),
    ],
)
def test_path_and_body_must_agree(furnished, method, path, body, field):
    before = [list(m.objects.values()) for m in (Application, Project, Cluster, Repository)]
    message = told(raw(furnished, method, path, json.dumps(body)))
    assert field in message and "y" in message
    assert before == [list(m.objects.values()) for m in (Application, Project, Cluster, Repository)]


@pytest.mark.parametrize(
    "name",
    ["", "Upper", "-x", "x-", "a b", "x/y", "../x", "x" * 254, "x\n", "ж", "x.", None, 5, [], {}],
)
def test_names_that_kubernetes_would_not_take(furnished, name):
    counts = [m.objects.count() for m in (Application, Project)]
    for path, body in (
        ("/api/v1/applications", {"metadata": {"name": name}, "spec": SPEC}),
        ("/api/v1/projects", {"project": {"metadata": {"name": name}, "spec": {}}}),
        (
            "/api/v1/applicationsets",
            {
                "metadata": {"name": name},
                "spec": {
                    "generators": [{"list": {"elements": []}}],
                    "template": {"metadata": {"name": "a"}, "spec": SPEC},
                },
            },
        ),
    ):
        assert "metadata.name" in told(raw(furnished, "POST", path, json.dumps(body))), path
    assert counts == [m.objects.count() for m in (Application, Project)]


# --- bodies that are none ---


BODIES = {
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "cut off": b'{"metadata": {"name": "x"',
    "two documents": b"{}{}",
    "a key twice": b'{"name": "x", "name": "y"}',
    "deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "deep lists": b"[" * 100_000,
    "a NUL": b'{"name": "a\\u0000b"}',
    "a lone surrogate": b'{"name": "\\ud800"}',
    "NaN": b'{"id": NaN}',
    "a number too long": b'{"id": ' + b"9" * 5000 + b"}",
    "a number of more than 64 bits": b'{"id": 18446744073709551616}',
    "a fraction that none is": b'{"id": 1e30}',
    "infinity": b'{"id": 1e999}',
    "YAML": b"name: x\nid: 1\n",
    "a form": b"name=x&id=1",
}


@pytest.mark.parametrize("what", BODIES)
def test_bodies_that_are_no_json(furnished, what):
    for method, path in (
        ("POST", "/api/v1/applications"),
        ("PUT", "/api/v1/applications/x"),
        ("PATCH", "/api/v1/applications/x"),
        ("POST", "/api/v1/applications/x/sync"),
        ("POST", "/api/v1/projects"),
        ("POST", "/api/v1/clusters"),
        ("POST", "/api/v1/repositories"),
        ("POST", "/api/v1/session"),
        ("PUT", "/api/v1/account/password"),
    ):
        told(raw(furnished, method, path, BODIES[what]))
    assert Application.objects.get(name="x").operation is None


def test_a_body_too_large_and_one_of_another_kind(furnished):
    maximum = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    huge = b'{"spec": "' + b"x" * maximum + b'"}'
    for path in ("/api/v1/applications", "/api/v1/session", "/api/webhook", "/api/v1/projects"):
        answer = raw(furnished, "POST", path, huge)
        assert answer.status_code == 413, (path, answer.content[:300])
        assert path == "/api/webhook" or f"{maximum // 2**20} MiB" in told(answer)
    for kind in ("text/plain", "application/xml", "multipart/form-data; boundary=x"):
        assert "application/json" in told(raw(furnished, "POST", "/api/v1/projects", b"{}", kind))


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/nonsense",
        "/api/v1/applications/x/nonsense",
        "/api/v2/applications",
        "/api/v1/applications/x/resource/nonsense",
        "/api/",
    ],
)
def test_paths_that_are_none(furnished, path):
    for method in ("GET", "POST", "PUT", "DELETE"):
        answer = raw(furnished, method, path, b"{}")
        assert answer.status_code in (404, 405, 501) and json.loads(answer.content)["message"]


def test_methods_that_a_path_has_not(furnished):
    answer = raw(furnished, "DELETE", "/api/v1/applications", b"{}")
    assert answer.status_code in (405, 501) and json.loads(answer.content)["code"] == 12


def test_resources_that_are_none(furnished):
    where = {
        "resourceName": "x",
        "namespace": "x",
        "version": "v1",
        "group": "",
        "kind": "Nonsense",
    }
    for tail in ("resource", "resource/actions", "events", "logs"):
        answer = furnished.call("GET", f"/api/v1/applications/x/{tail}", status=None, **where)
        assert answer == "" or "Traceback" not in str(answer), tail


# --- wrong types, in every place of every body that the API page shows ---


def places(value, at=()):
    yield at
    for key, inner in (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    ):
        yield from places(inner, (*at, key))


def changed(body, at, odd):
    if not at:
        return odd
    body = deepcopy(body)
    inner = body
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = odd
    return body


SHOWN = [e for e in EXAMPLES if e.get("body") is not None and "/session" not in e["path"]]


SOURCE = {
    "repoURL": "https://git.invalid/x.git",
    "path": "x",
    "targetRevision": "main",
    "name": "n",
    "ref": "r",
    "helm": {
        "releaseName": "x",
        "valueFiles": ["a.yaml"],
        "values": "a: 1",
        "valuesObject": {"a": 1},
        "parameters": [{"name": "a", "value": "1", "forceString": True}],
        "fileParameters": [{"name": "a", "path": "b"}],
        "skipCrds": True,
        "apiVersions": ["v1"],
        "kubeVersion": "1.30.0",
        "namespace": "x",
    },
}
KUSTOMIZED = {
    "repoURL": "https://git.invalid/x.git",
    "path": "x",
    "kustomize": {
        "namePrefix": "a",
        "images": ["a=b"],
        "replicas": [{"name": "a", "count": 2}],
        "commonLabels": {"a": "b"},
        "patches": [{"patch": "x", "target": {"kind": "Pod"}}],
        "components": ["c"],
    },
}
PLAIN = {
    "repoURL": "https://git.invalid/x.git",
    "path": "x",
    "directory": {
        "recurse": True,
        "include": "*",
        "jsonnet": {
            "extVars": [{"name": "a", "value": "b", "code": True}],
            "tlas": [{"name": "a", "value": "b"}],
            "libs": ["l"],
        },
    },
}
RICH = {
    "project": "x",
    "sources": [SOURCE, KUSTOMIZED, PLAIN],
    "destination": {"server": "https://x.invalid", "namespace": "x"},
    "revisionHistoryLimit": 3,
    "info": [{"name": "a", "value": "b"}],
    "syncPolicy": {
        "automated": {"prune": True, "selfHeal": True},
        "syncOptions": ["CreateNamespace=true"],
        "retry": {
            "limit": 2,
            "refresh": True,
            "backoff": {"duration": "5s", "factor": 2, "maxDuration": "3m"},
        },
        "managedNamespaceMetadata": {"labels": {"a": "b"}, "annotations": {"a": "b"}},
    },
    "ignoreDifferences": [
        {
            "group": "apps",
            "kind": "Deployment",
            "name": "x",
            "namespace": "x",
            "jsonPointers": ["/spec/replicas"],
            "jqPathExpressions": [".spec.x"],
            "managedFieldsManagers": ["hpa"],
        }
    ],
}
RICH_PROJECT = {
    "description": "d",
    "sourceRepos": ["*"],
    "sourceNamespaces": ["x"],
    "permitOnlyProjectScopedClusters": False,
    "destinations": [{"server": "*", "name": "n", "namespace": "*"}],
    "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
    "namespaceResourceBlacklist": [{"group": "", "kind": "Quota"}],
    "signatureKeys": [{"keyID": "ABCDEF0123456789"}],
    "orphanedResources": {
        "warn": True,
        "ignore": [{"group": "", "kind": "ConfigMap", "name": "k*"}],
    },
    "roles": [
        {
            "name": "x",
            "description": "d",
            "policies": ["p, proj:x:x, applications, get, x/*, allow"],
            "groups": ["g"],
            "jwtTokens": [{"iat": 1, "exp": 2, "id": "i"}],
        }
    ],
    "syncWindows": [
        {
            "kind": "deny",
            "schedule": "* * * * *",
            "duration": "1h",
            "applications": ["a"],
            "namespaces": ["n"],
            "clusters": ["c"],
            "manualSync": True,
            "timeZone": "UTC",
        }
    ],
    "destinationServiceAccounts": [
        {"server": "*", "namespace": "x", "defaultServiceAccount": "sa"}
    ],
    "flotilla": {
        "audit": {"requireReason": False, "ticketPattern": "X-1"},
        "deletion": {"maxResources": 3, "confirmKinds": ["Namespace"]},
    },
}
RICH_SET = {
    "goTemplate": True,
    "goTemplateOptions": ["missingkey=error"],
    "ignoreApplicationDifferences": [
        {"name": "a", "jsonPointers": ["/spec/x"], "jqPathExpressions": [".spec.y"]}
    ],
    "generators": [
        {"list": {"elements": [{"a": "b"}]}, "selector": {"matchLabels": {"a": "b"}}},
        {
            "clusters": {
                "selector": {
                    "matchLabels": {"a": "b"},
                    "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}],
                },
                "values": {"a": "b"},
            }
        },
        {
            "git": {
                "repoURL": "https://git.invalid/x.git",
                "revision": "main",
                "directories": [{"path": "*", "exclude": True}],
            }
        },
        {
            "matrix": {
                "generators": [
                    {"list": {"elements": [{"a": "b"}]}},
                    {"list": {"elements": [{"c": "d"}]}},
                ]
            }
        },
        {
            "merge": {
                "mergeKeys": ["a"],
                "generators": [
                    {"list": {"elements": [{"a": "b"}]}},
                    {"list": {"elements": [{"a": "b", "c": "d"}]}},
                ],
            }
        },
    ],
    "template": {
        "metadata": {
            "name": "{{.a}}",
            "labels": {"a": "b"},
            "annotations": {"a": "b"},
            "finalizers": ["f"],
        },
        "spec": SPEC,
    },
    "templatePatch": "{}",
    "syncPolicy": {"applicationsSync": "sync", "preserveResourcesOnDeletion": False},
    "preservedFields": {"annotations": ["a"], "labels": ["l"]},
    "strategy": {
        "type": "RollingSync",
        "rollingSync": {
            "steps": [
                {
                    "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}],
                    "maxUpdate": "10%",
                }
            ]
        },
    },
}
METADATA = {
    "labels": {"a": "b"},
    "annotations": {"a": "b"},
    "finalizers": ["resources-finalizer.argocd.argoproj.io"],
}
WRITTEN = [
    (
        "PUT",
        "/api/v1/applications/x?validate=false",
        {"metadata": {"name": "x", **METADATA}, "spec": RICH},
    ),
    ("PUT", "/api/v1/applications/x/spec?validate=false", RICH),
    (
        "POST",
        "/api/v1/applications/x/sync",
        {
            "revision": "main",
            "prune": True,
            "dryRun": True,
            "strategy": {"apply": {"force": True}},
            "resources": [{"group": "", "kind": "A", "name": "b", "namespace": "c"}],
            "manifests": ["{}"],
            "syncOptions": {"items": ["A=b"]},
            "retryStrategy": {"limit": 1, "backoff": {"duration": "5s"}},
            "infos": [{"name": "a", "value": "b"}],
            "sourcePositions": [1],
            "revisions": ["a"],
        },
    ),
    ("POST", "/api/v1/applications/x/rollback", {"id": 1, "prune": True, "dryRun": True}),
    (
        "PUT",
        "/api/v1/projects/x",
        {
            "project": {
                "metadata": {"name": "x", "labels": {"a": "b"}, "annotations": {"a": "b"}},
                "spec": RICH_PROJECT,
            }
        },
    ),
    ("POST", "/api/v1/projects/x/roles/x/token", {"expiresIn": 60, "id": "i", "description": "d"}),
    (
        "POST",
        "/api/v1/applicationsets?upsert=true",
        {
            "metadata": {"name": "x", "labels": {"a": "b"}, "annotations": {"a": "b"}},
            "spec": RICH_SET,
        },
    ),
    (
        "POST",
        "/api/v1/applicationsets/generate",
        {"applicationSet": {"metadata": {"name": "x"}, "spec": RICH_SET}},
    ),
    (
        "POST",
        "/api/v1/clusters?upsert=true",
        {
            "server": "https://x.invalid",
            "name": "x",
            "labels": {"a": "b"},
            "annotations": {"a": "b"},
            "namespaces": ["n"],
            "project": "p",
            "shard": "1",
            "config": {
                "bearerToken": "t",
                "username": "u",
                "password": "p",
                "tlsClientConfig": {"insecure": True, "caData": "", "serverName": "s"},
                "awsAuthConfig": {},
                "execProviderConfig": {},
            },
        },
    ),
    (
        "PUT",
        "/api/v1/clusters/https%3A%2F%2Fx.invalid",
        {"name": "x", "labels": {"a": "b"}, "namespaces": ["n"], "config": {"bearerToken": "t"}},
    ),
    (
        "POST",
        "/api/v1/repositories?upsert=true",
        {
            "repo": "ssh://git.invalid/x.git",
            "type": "git",
            "name": "n",
            "username": "u",
            "password": "p",
            "sshPrivateKey": "k",
            "insecure": True,
            "enableLfs": True,
            "project": "x",
            "tlsClientCertData": "c",
            "proxy": "http://127.0.0.1:1",
            "noProxy": "x",
            "enableOCI": True,
            "githubAppID": 5,
            "githubAppInstallationID": 6,
            "githubAppPrivateKey": "k",
            "bearerToken": "b",
        },
    ),
    (
        "POST",
        "/api/v1/repocreds?upsert=true",
        {
            "url": "https://git.invalid/",
            "username": "u",
            "password": "p",
            "type": "git",
            "githubAppID": 5,
        },
    ),
    (
        "PUT",
        "/api/v1/flotilla/roles/x",
        {
            "rules": [
                {
                    "resource": "applications",
                    "action": "get",
                    "object": "*/*",
                    "effect": "allow",
                    "clusters": "a=b",
                }
            ],
            "groups": ["g"],
            "description": "d",
        },
    ),
    ("POST", "/api/v1/gpgkeys?upsert=true", {"keyData": "x"}),
    *[(e["method"], e["path"], e["body"]) for e in SHOWN],
]


KINDS = (
    "applications",
    "projects",
    "applicationsets",
    "clusters",
    "repositories",
    "repocreds",
    "roles",
)
SHOWS = {
    "applications": (
        "applications",
        "applications/x",
        "applications/x/syncwindows",
        "applications/x/managed-resources",
    ),
    "projects": (
        "projects/x",
        "projects/x/detailed",
        "projects/x/syncwindows",
        "applications/x/syncwindows",
    ),
    "roles": ("flotilla/roles",),
}


def shown(hub, written):
    """Read what the hub makes of what is stored now; it must not break lists and pages."""
    kind = next((k for k in KINDS if f"/{k}" in written), None)
    for path in SHOWS.get(kind, (kind,)) if kind else ():
        answer = raw(hub, "GET", f"/api/v1/{path}", b"")
        assert answer.status_code != 500, (path, answer.content[:300])


@pytest.mark.parametrize("number", range(len(WRITTEN)))
def test_wrong_types_everywhere(furnished, number):
    """In every place of a body, odd values: each is refused with a sentence, or can be kept and
    shown.
    """
    method, path, whole = WRITTEN[number]
    spots = list(places(whole))
    # Every value for small bodies; a few for each place of the large ones, other ones for the next
    # place.
    step = 1 if len(spots) < 12 else 7
    wrong = []
    for order, at in enumerate(spots):
        for odd in ODD[order % step :: step]:
            answer = raw(furnished, method, path, json.dumps(changed(whole, at, odd)))
            if answer.status_code >= 500 and answer.status_code not in (501, 503):
                wrong.append((at, odd, answer.content[:100]))
            elif answer.status_code >= 400:
                assert json.loads(answer.content)["message"], (path, at, odd)
            else:
                shown(furnished, path)
    assert not wrong, (path, len(wrong), wrong[:40])


WHOLE = [
    b"",
    b"null",
    b"[]",
    b"5",
    b'"x"',
    b"true",
    b"{}",
    b'{"metadata": []}',
    b'{"spec": 5, "metadata": {"name": "x"}}',
    b'{"name": {}}',
    b'[{"a": 1}, null, "x"]',
]


def test_bodies_of_another_shape_on_every_route(furnished):
    tried = 0
    for path, view in routes():
        if "api/v1/" not in path or view is None:
            continue
        url = a_url(path)
        for method in ("post", "put", "patch"):
            if not hasattr(view, method):
                continue
            for body in WHOLE:
                answer = raw(furnished, method.upper(), url, body)
                tried += 1
                assert answer.status_code < 500 or answer.status_code in (501, 503), (
                    method,
                    url,
                    body,
                    answer.content[:300],
                )
                if answer.status_code >= 400:
                    assert json.loads(answer.content)["message"], (method, url, body)
    assert tried > 400


ODD_QUERIES = {
    "limit": ["-1", "x", "1.5", "9" * 40],
    "continue": ["x", "%00", "9" * 400],
    "sort": ["nonsense", "-"],
    "selector": ["a in (", "=", "a==b==c", "!"],
    "fields": ["..", "items.", "-"],
    "refresh": ["x"],
    "resourceVersion": ["x", "-1", "9" * 30],
    "projects": ["\x00", "%"],
    "appNamespace": ["../x", "X"],
    "tailLines": ["x", "-5"],
    "sinceSeconds": ["x"],
    "untilTime": ["yesterday"],
    "versionId": ["x"],
    "sourceIndex": ["x", "-3"],
    "facets": ["nonsense"],
    "kinds": ["Nonsense"],
    "cascade": ["perhaps"],
    "id.type": ["x"],
}


@pytest.mark.timeout(400)
def test_malformed_queries_on_every_route(furnished):
    wrong, tried = [], 0
    for path, view in routes():
        if "api/v1/" not in path or view is None or not hasattr(view, "get"):
            continue
        if "stream" in path or "watch" in path or "logs" in path:
            continue
        for order, (name, values) in enumerate(ODD_QUERIES.items()):
            value = values[(tried + order) % len(values)]
            answer = Client(raise_request_exception=False).get(
                a_url(path), {name: value}, headers={"Authorization": f"Bearer {furnished.token}"}
            )
            tried += 1
            if answer.status_code >= 500 and answer.status_code not in (501, 503):
                wrong.append((path, name, value))
    assert not wrong and tried > 1000, wrong


# --- a client that leaves ---


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/stream/applications",
        "/api/v1/flotilla/watch",
        "/api/v1/stream/applicationsets",
        "/api/v1/stream/applications/x/resource-tree",
    ],
)
def test_a_client_that_leaves_a_stream(furnished, path):
    from hub.events import changes

    before = len(changes._listeners)

    async def leave():
        answer = await AsyncClient().get(
            path, headers={"Authorization": f"Bearer {furnished.token}"}
        )
        assert answer.status_code == 200
        lines = answer.streaming_content

        async def read():
            async for _line in lines:
                pass

        reader = asyncio.ensure_future(read())
        for _ in range(200):
            await asyncio.sleep(0.02)
            if len(changes._listeners) > before:
                break
        assert len(changes._listeners) == before + 1 and not reader.done()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await lines.aclose()
        await sync_to_async(connections.close_all)()

    asyncio.run(leave())
    assert len(changes._listeners) == before
    assert furnished.get("/api/v1/applications/x")["metadata"]["name"] == "x"
