"""Trees, descriptions, masking and actions."""

import pytest

from hub.engine.actions import ActionScript, available, merge_patch, perform
from hub.engine.errors import RuleError
from hub.engine.node_info import describe, external_urls, is_safe_url, redact
from hub.engine.resource import ResourceKey
from hub.engine.status import Assessment, Health
from hub.engine.tree import Node, is_usual, missing_json, node_json, parents_of

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": "ns", "labels": {"app": "a"}},
    "spec": {
        "nodeName": "n",
        "containers": [
            {
                "name": "c",
                "image": "i:1",
                "resources": {"requests": {"cpu": "100m", "memory": "1Ki"}},
            }
        ],
        "initContainers": [{"image": "a:1"}],
    },
    "status": {"phase": "Running", "containerStatuses": [{"ready": True, "restartCount": 2}]},
}


def test_a_pod_is_described():
    found = describe(POD)
    assert found["images"] == ["a:1", "i:1"]
    assert {i["name"]: i["value"] for i in found["info"]} == {
        "Status Reason": "Running",
        "Node": "n",
        "Containers": "1/1",
        "Restart Count": "2",
        "cpu": "100",
        "memory": "1024000",
    }
    assert found["networkingInfo"] == {"labels": {"app": "a"}}
    going = {**POD, "metadata": {**POD["metadata"], "deletionTimestamp": "x"}}
    assert describe(going)["info"][0]["value"] == "Terminating"
    waiting = {
        **POD,
        "status": {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
    }
    assert describe(waiting)["info"][0]["value"] == "ImagePullBackOff"


def test_other_kinds_are_described():
    replica_set = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "r", "annotations": {"deployment.kubernetes.io/revision": "3"}},
        "spec": "odd",
    }
    assert describe(replica_set)["info"] == [{"name": "Revision", "value": "Rev:3"}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"type": "LoadBalancer", "selector": {"a": "b"}, "ports": [{"port": 8080}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.10"}]}},
    }
    assert describe(service)["networkingInfo"]["externalURLs"] == ["http://203.0.113.10:8080"]
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "i", "namespace": "ns"},
        "spec": {
            "tls": [{"hosts": ["h.example"]}],
            "defaultBackend": {"service": {"name": "d"}},
            "rules": [
                {
                    "host": "h.example",
                    "http": {"paths": [{"path": "/x*", "backend": {"service": {"name": "s"}}}]},
                }
            ],
        },
    }
    found = describe(ingress)["networkingInfo"]
    assert found["externalURLs"] == ["https://h.example/x"]
    assert [r["name"] for r in found["targetRefs"]] == ["d", "s"]
    assert describe({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}) == {}


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:x",
        "data:text/html,x",
        "vbscript:x",
        " javascript:x",
        "\tjavascript:x",
        "\u0000javascript:x",
        "https://a b",
        'https://a"b',
        "ftp://x",
        5,
    ],
)
def test_unsafe_links_are_left_out(url):
    assert not is_safe_url(url)
    for value in (url, f"title|{url}"):
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "c", "annotations": {"link.argocd.argoproj.io/x": str(value)}},
        }
        assert external_urls(manifest) == []


def test_safe_links_are_shown():
    manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "c",
            "annotations": {
                "link.argocd.argoproj.io/x": "Docs|https://docs.example/a",
                "argocd.argoproj.io/ignore-default-links": "true",
            },
        },
    }
    assert external_urls(manifest) == ["https://docs.example/a"]


SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {
        "name": "s",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "canary", "a": "b"},
    },
    "data": {"x": "canary", "y": "same"},
}


def test_secrets_are_masked_in_all_states():
    spoofed = {
        **SECRET,
        "kind": "ConfigMap",
        "data": {"x": "other-canary", "y": "same"},
        "stringData": "odd",
    }
    first, second, nothing = redact(SECRET, spoofed, None)
    assert "canary" not in str([first, second])
    assert first["data"]["y"] == second["data"]["y"]
    assert first["data"]["x"] != second["data"]["x"]
    assert first["metadata"]["annotations"] == {"a": "b"}
    assert nothing is None
    plain = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c"},
        "data": {"x": "shown"},
    }
    assert redact(plain) == [plain]


def node(uid, kind, name, owners=(), **fields):
    return Node(ResourceKey("", kind, "ns", name), "v1", uid, owners=tuple(owners), **fields)


def test_nodes_know_their_parents():
    parent = node("1", "ReplicaSet", "r")
    child = node(
        "2",
        "Pod",
        "p",
        [{"uid": "1", "kind": "ReplicaSet", "name": "r"}],
        health=Assessment(Health.DEGRADED, "why"),
        shown={"images": ["i"]},
    )
    named = node("3", "Pod", "q", [{"uid": "", "kind": "ReplicaSet", "name": "r"}])
    endpoints, service = node("4", "Endpoints", "s"), node("5", "Service", "s")
    by_uid = {n.uid: n for n in (parent, child, service)}
    by_name = {(n.key.kind, "ns", n.key.name): n for n in (parent, service)}
    assert parents_of(child, by_uid, by_name) == [parent]
    assert parents_of(named, by_uid, by_name) == [parent]
    assert parents_of(endpoints, by_uid, by_name) == [service]
    assert parents_of(node("6", "Pod", "x", [{"uid": "9"}]), by_uid, by_name) == []
    assert parents_of(node("7", "Endpoints", "none"), by_uid, by_name) == []
    found = node_json(child, [parent])
    assert found["parentRefs"][0]["uid"] == "1"
    assert found["health"] == {"status": "Degraded", "message": "why"}
    assert found["images"] == ["i"]
    assert missing_json(child.key, "v1")["health"] == {"status": "Missing"}
    assert is_usual(ResourceKey("", "ConfigMap", "ns", "kube-root-ca.crt"))
    assert is_usual(ResourceKey("", "Service", "default", "kubernetes"))
    assert not is_usual(ResourceKey("", "ConfigMap", "ns", "mine"))


def workload(kind, api="apps/v1", **spec):
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": "w", "namespace": "ns", "uid": "u"},
        "spec": spec,
    }


@pytest.mark.parametrize(
    ("manifest", "names", "disabled"),
    [
        pytest.param(
            workload("Deployment"),
            ["pause", "restart", "resume", "scale"],
            ["resume"],
            id="deployment",
        ),
        pytest.param(
            workload("Deployment", paused=True),
            ["pause", "restart", "resume", "scale"],
            ["pause", "restart"],
            id="paused deployment",
        ),
        pytest.param(workload("StatefulSet"), ["restart", "scale"], [], id="stateful set"),
        pytest.param(workload("DaemonSet"), ["restart"], [], id="daemon set"),
        pytest.param(
            workload("CronJob", "batch/v1"),
            ["create-job", "resume", "suspend"],
            ["resume"],
            id="cron job",
        ),
        pytest.param(
            workload("Job", "batch/v1", suspend=True),
            ["resume", "suspend", "terminate"],
            ["suspend"],
            id="suspended job",
        ),
        pytest.param(workload("Deployment", "other/v1"), [], [], id="of another group"),
        pytest.param(workload("ConfigMap", "v1"), [], [], id="none"),
    ],
)
def test_actions_on_offer(manifest, names, disabled):
    found = available(manifest)
    assert [a["name"] for a in found] == names
    assert [a["name"] for a in found if a["disabled"]] == disabled


@pytest.mark.parametrize(
    ("manifest", "action", "params", "patch"),
    [
        pytest.param(
            workload("Deployment", template={"metadata": {"annotations": {"a": "b"}}}),
            "restart",
            {},
            {
                "spec": {
                    "template": {
                        "metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "NOW"}}
                    }
                }
            },
            id="restart",
        ),
        pytest.param(workload("Deployment"), "pause", {}, {"spec": {"paused": True}}, id="pause"),
        pytest.param(
            workload("Deployment", paused=True),
            "resume",
            {},
            {"spec": {"paused": False}},
            id="resume",
        ),
        pytest.param(
            workload("Deployment", replicas=1),
            "scale",
            {"replicas": "3"},
            {"spec": {"replicas": 3}},
            id="scale",
        ),
        pytest.param(
            workload("CronJob", "batch/v1"),
            "suspend",
            {},
            {"spec": {"suspend": True}},
            id="suspend",
        ),
        pytest.param(
            workload("Job", "batch/v1"),
            "terminate",
            {},
            {"spec": {"activeDeadlineSeconds": 1}},
            id="terminate",
        ),
    ],
)
def test_actions_patch(manifest, action, params, patch):
    [change] = perform(manifest, action, params, "NOW", "abc")
    assert change.operation == "patch"
    assert merge_patch(manifest, change.resource) == patch


def test_create_job():
    cron = workload(
        "CronJob", "batch/v1", jobTemplate={"metadata": {"labels": {"a": "b"}}, "spec": {"x": 1}}
    )
    [change] = perform(cron, "create-job", {}, "NOW", "abc")
    assert change.operation == "create"
    assert change.resource["metadata"]["name"] == "w-abc"
    assert change.resource["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert change.resource["spec"] == {"x": 1}


@pytest.mark.parametrize(
    ("action", "params", "words"),
    [
        ("nope", {}, "has no action"),
        ("resume", {}, "disabled"),
        ("scale", {"replicas": "x"}, "whole number"),
        ("scale", {"replicas": "9999999"}, "100000"),
    ],
)
def test_actions_refused(action, params, words):
    with pytest.raises(RuleError, match=words):
        perform(workload("Deployment"), action, params, "NOW", "abc")


SCRIPTS = ActionScript(
    discovery='return {refresh = {disabled = obj.spec.off == true}, ["scale"] = {}}',
    definitions={
        "refresh": "obj.spec.at = actionParams.at return obj",
        "make": (
            "return {{operation = 'create', resource = {apiVersion = 'v1', kind = 'Pod', metadata "
            "= {name = 'p'}}}}"
        ),
        "odd": "return 5",
    },
)


def test_scripted_actions():
    widget = workload("Widget", "example.com/v1", parts=[], off=True)
    assert [(a["name"], a["disabled"]) for a in available(widget, SCRIPTS)] == [
        ("refresh", True),
        ("scale", False),
    ]
    [change] = perform(widget, "refresh", {"at": "now"}, "NOW", "abc", SCRIPTS)
    assert merge_patch(widget, change.resource) == {"spec": {"at": "now"}}
    [made] = perform(widget, "make", {}, "NOW", "abc", SCRIPTS)
    assert made.operation == "create"
    with pytest.raises(RuleError, match="must return"):
        perform(widget, "odd", {}, "NOW", "abc", SCRIPTS)
    assert [a["name"] for a in available(widget, ActionScript(definitions={"a": ""}))] == ["a"]
    assert available(widget, ActionScript(discovery="return 5")) == []
    merged = available(
        workload("Deployment"), ActionScript(discovery="return {mine = {}}", merge_builtin=True)
    )
    assert "restart" in [a["name"] for a in merged]
    assert "mine" in [a["name"] for a in merged]


def test_merge_patch():
    assert merge_patch(
        {"a": 1, "b": {"c": 1, "d": 2}, "e": 1}, {"a": 1, "b": {"c": 1, "d": 3}, "f": None}
    ) == {"e": None, "b": {"d": 3}, "f": None}
