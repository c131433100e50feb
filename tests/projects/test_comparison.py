"""What a comparison says, on a genuine control plane: zero values, defaults, quantities, what is
written twice.
"""

import copy
import time
from pathlib import Path

import pytest
import yaml

from hub.base.metrics import DRY_RUNS
from projects.models import Operation

pytestmark = pytest.mark.controlplane

DEFINITIONS = yaml.safe_load((Path(__file__).parents[1] / "support/definitions.yaml").read_text())
AUTO = {"automated": {"prune": True, "selfHeal": True}}


def sync(hub, name, phase="Succeeded"):
    hub.post(f"/api/v1/applications/{name}/sync", {})
    return hub.wait_operation(name, phase)


def manifest(kind, api, name, **fields):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **fields}


def pods(name, **spec):
    container = {"name": "c", "image": "x", **spec.pop("container", {})}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container], **spec}}
    return manifest(
        "Deployment",
        "apps/v1",
        name,
        spec={"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template},
    )


def policy(name, **peer):
    rules = [{"from": [{"podSelector": {"matchLabels": {"a": "b"}}, **peer}]}]
    return manifest(
        "NetworkPolicy", "networking.k8s.io/v1", name, spec={"podSelector": {}, "ingress": rules}
    )


def definition(name, *, status=False, **size):
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"size": {"type": "integer", **size}}}
        },
    }
    more = {"subresources": {"status": {}}} if status else {}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        **more,
    }
    names = {"plural": f"{name}s", "kind": name.capitalize()}
    return manifest(
        "CustomResourceDefinition",
        "apiextensions.k8s.io/v1",
        f"{name}s.zero.example",
        spec={
            "group": "zero.example",
            "scope": "Namespaced",
            "names": names,
            "versions": [version],
        },
    )


def tolerating(name, **more):
    return pods(
        name, tolerations=[{"key": "a", "operator": "Exists", "effect": "NoExecute", **more}]
    )


ZEROS = {
    "token": (pods("token"), pods("token", automountServiceAccountToken=False)),
    "account": (
        manifest("ServiceAccount", "v1", "account"),
        manifest("ServiceAccount", "v1", "account", automountServiceAccountToken=False),
    ),
    "escalation": (
        pods("escalation"),
        pods("escalation", container={"securityContext": {"allowPrivilegeEscalation": False}}),
    ),
    "root": (pods("root"), pods("root", container={"securityContext": {"runAsUser": 0}})),
    "spaces": (policy("spaces"), policy("spaces", namespaceSelector={})),
    "closes": (policy("closes", namespaceSelector={}), policy("closes")),
    "seconds": (tolerating("seconds"), tolerating("seconds", tolerationSeconds=0)),
    "limits": (definition("limit"), definition("limit", minimum=0)),
    "states": (definition("state"), definition("state", status=True)),
    "parts": (
        manifest("ConfigMap", "v1", "parts", data={"a": "1"}),
        manifest("ConfigMap", "v1", "parts", data={"a": ""}),
    ),
}
CONTROLS = {
    "mounts": (
        pods(
            "mounts",
            volumes=[{"name": "v", "emptyDir": {}}],
            container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        ),
        pods(
            "mounts",
            volumes=[{"name": "v", "emptyDir": {}}],
            container={"volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": False}]},
        ),
    ),
    "network": (pods("network"), pods("network", hostNetwork=False)),
    "units": (
        pods("units", container={"resources": {"limits": {"cpu": "1"}}}),
        pods("units", container={"resources": {"limits": {"cpu": "1000m"}}}),
    ),
}


def files(table, number):
    return {f"{name}.yaml": yaml.safe_dump(pair[number]) for name, pair in table.items()}


def states(hub, name):
    return {
        f"{r['kind']} {r['name']}": r["status"]
        for r in hub.application(name)["status"]["resources"]
    }


def asked(place, reason="compare"):
    return DRY_RUNS.labels(place.server, reason)._value.get()


def test_zero_values_count_and_are_applied(hub, genuine, repo, app, namespace):
    repo.commit(files(ZEROS | CONTROLS, 0))
    name = app(repo, genuine, namespace)
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    hub.wait_status(name, "Synced")
    live = {
        n: genuine.get("apps" if p[0]["kind"] == "Deployment" else "", p[0]["kind"], namespace, n)
        for n, p in ZEROS.items()
        if p[0]["kind"] in ("Deployment", "ServiceAccount")
    }

    commit = hub.push(repo, files(ZEROS | CONTROLS, 1))
    hub.wait_status(name, "OutOfSync", revision=commit)
    found = states(hub, name)
    wanted = {f"{new['kind']} {new['metadata']['name']}": "OutOfSync" for _, new in ZEROS.values()}
    wanted |= {f"{new['kind']} {new['metadata']['name']}": "Synced" for _, new in CONTROLS.values()}
    assert found == wanted

    before = asked(genuine)
    sync(hub, name)
    hub.wait_status(name, "Synced", revision=commit)
    assert asked(genuine) == before, "what a sync has shown is not asked again"
    [peer] = genuine.get("networking.k8s.io", "NetworkPolicy", namespace, "closes")["spec"][
        "ingress"
    ][0]["from"]
    assert "namespaceSelector" not in peer
    [peer] = genuine.get("networking.k8s.io", "NetworkPolicy", namespace, "spaces")["spec"][
        "ingress"
    ][0]["from"]
    assert peer["namespaceSelector"] == {}
    token = genuine.get("apps", "Deployment", namespace, "token")["spec"]["template"]["spec"]
    assert token["automountServiceAccountToken"] is False
    seconds = genuine.get("apps", "Deployment", namespace, "seconds")["spec"]["template"]["spec"]
    assert seconds["tolerations"][0]["tolerationSeconds"] == 0
    [version] = genuine.get(
        "apiextensions.k8s.io", "CustomResourceDefinition", "", "limits.zero.example"
    )["spec"]["versions"]
    assert (
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"]["minimum"]
        == 0
    )
    assert live["token"]["metadata"]["generation"] == 1


RBAC = "rbac.authorization.k8s.io"
EVERYTHING = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
NOTHING = {
    "empty role": (manifest("Role", f"{RBAC}/v1", "role", rules=[]), {"rules": [EVERYTHING]}),
    "null role": (manifest("Role", f"{RBAC}/v1", "null-role", rules=None), {"rules": [EVERYTHING]}),
    "null subjects": (
        manifest(
            "RoleBinding",
            f"{RBAC}/v1",
            "binding",
            roleRef={"apiGroup": RBAC, "kind": "Role", "name": "role"},
            subjects=None,
        ),
        {"subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]},
    ),
    "empty ingress": (
        manifest(
            "NetworkPolicy",
            "networking.k8s.io/v1",
            "ingress",
            spec={"podSelector": {}, "policyTypes": ["Ingress"], "ingress": []},
        ),
        {"spec": {"ingress": [{}]}},
    ),
    "null egress": (
        manifest(
            "NetworkPolicy",
            "networking.k8s.io/v1",
            "egress",
            spec={"podSelector": {}, "policyTypes": ["Egress"], "egress": None},
        ),
        {"spec": {"egress": [{}]}},
    ),
    "empty pull secrets": (
        manifest("ServiceAccount", "v1", "pullers", imagePullSecrets=[]),
        {"imagePullSecrets": [{"name": "other"}]},
    ),
    "null token": (
        manifest("ServiceAccount", "v1", "token", automountServiceAccountToken=None),
        {"automountServiceAccountToken": True},
    ),
    "null fields of pods": (
        manifest(
            "Deployment",
            "apps/v1",
            "pods",
            spec={
                "replicas": 0,
                "paused": None,
                "selector": {"matchLabels": {"a": "b"}},
                "template": {
                    "metadata": {"labels": {"a": "b"}, "creationTimestamp": None},
                    "spec": {
                        "hostNetwork": None,
                        "tolerations": None,
                        "containers": [
                            {
                                "name": "c",
                                "image": "x",
                                "args": None,
                                "imagePullPolicy": None,
                                "ports": [{"containerPort": 80, "protocol": None}],
                            }
                        ],
                    },
                },
            },
        ),
        {"spec": {"template": {"spec": {"hostNetwork": True}}}},
    ),
}
"""Resources that state that there is nothing, and what somebody adds to them."""


def test_what_git_states_as_empty_is_restored(hub, genuine, repo, app, namespace):
    cluster_role = manifest(
        "ClusterRole",
        f"{RBAC}/v1",
        f"aggregated-{namespace}",
        rules=[],
        aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"part-of": namespace}}]},
    )
    part = manifest(
        "ClusterRole",
        f"{RBAC}/v1",
        f"part-{namespace}",
        rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    )
    part["metadata"]["labels"] = {"part-of": namespace}
    stated = [m for m, _ in NOTHING.values()]
    # A null that resets a field to its default makes no difference.
    scaled = copy.deepcopy(NOTHING["null fields of pods"][0])
    scaled["metadata"]["name"] = "scaled"
    scaled["spec"]["replicas"] = None
    repo.commit({"all.yaml": yaml.safe_dump_all([*stated, scaled, cluster_role, part])})
    name = app(repo, genuine, namespace)
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    hub.wait_status(name, "Synced")

    for stated, patch in NOTHING.values():
        group = stated["apiVersion"].rpartition("/")[0]
        genuine.patch(group, stated["kind"], namespace, stated["metadata"]["name"], patch)

    def differing():
        found = states(hub, name)
        return {resource for resource, status in found.items() if status == "OutOfSync"}

    wanted = {f"{m['kind']} {m['metadata']['name']}" for m, _ in NOTHING.values()}
    hub.wait(lambda: differing() == wanted, f"OutOfSync: {wanted}")
    sync(hub, name)
    hub.wait_status(name, "Synced")
    assert not genuine.get(RBAC, "Role", namespace, "role")["rules"]
    assert genuine.get("apps", "Deployment", namespace, "scaled")["metadata"]["generation"] == 1
    assert genuine.get(RBAC, "ClusterRole", "", cluster_role["metadata"]["name"])["rules"]


def test_a_null_that_a_custom_kind_allows_is_a_value(hub, genuine, repo, app, namespace):
    text = {"type": "string"}
    fields = {
        "plain": text,
        "maybe": {**text, "nullable": True, "default": "some"},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    }
    kind = f"n{namespace.replace('-', '')}"
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind}s.null.example"},
        "spec": {
            "group": "null.example",
            "scope": "Namespaced",
            "names": {"plural": f"{kind}s", "singular": kind, "kind": kind.capitalize()},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"spec": {"type": "object", "properties": fields}},
                        }
                    },
                }
            ],
        },
    }
    spec = {"plain": None, "maybe": None, "free": {"a": None}}
    stated = manifest(kind.capitalize(), "null.example/v1", "one", spec=spec)
    repo.commit({"all.yaml": yaml.safe_dump_all([definition, stated])})
    name = app(repo, genuine, namespace)
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    hub.wait_status(name, "Synced")

    def live():
        return genuine.get("null.example", kind.capitalize(), namespace, "one")["spec"]

    # A new definition may not be published yet when its first resource is prepared.
    hub.wait(lambda: synced_with(hub, name, live), "nulls are stored")

    patch = {"spec": {"maybe": "evil", "free": {"a": "evil"}}}
    genuine.patch("null.example", kind.capitalize(), namespace, "one", patch)
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    hub.wait_status(name, "Synced")
    assert live() == {"maybe": None, "free": {"a": None}}


def synced_with(hub, name, live):
    if live() == {"maybe": None, "free": {"a": None}}:
        return True
    sync(hub, name)
    return False


def test_ownership_that_someone_removed_is_taken_again(hub, genuine, repo, app, namespace):
    both = manifest("ConfigMap", "v1", "c", data={"a": "1", "b": "2"})
    repo.commit({"c.yaml": yaml.safe_dump(both)})
    name = app(repo, genuine, namespace, policy=AUTO)
    hub.wait_status(name, "Synced")

    def owners():
        found = genuine.get("", "ConfigMap", namespace, "c")["metadata"].get("managedFields") or []
        return [(entry["manager"], entry["operation"]) for entry in found]

    genuine.patch("", "ConfigMap", namespace, "c", {"metadata": {"managedFields": [{}]}})
    assert not owners()

    hub.wait(lambda: owners() == [("argocd-controller", "Apply")], "the ownership")
    hub.wait_status(name, "Synced")
    one = manifest("ConfigMap", "v1", "c", data={"a": "1"})
    commit = hub.push(repo, {"c.yaml": yaml.safe_dump(one)})
    hub.wait_status(name, "Synced", revision=commit)
    assert genuine.get("", "ConfigMap", namespace, "c")["data"] == {"a": "1"}


def test_defaults_of_a_definition_in_elements_are_no_drift(hub, genuine, repo, app, namespace):
    route = manifest(
        "Route",
        "compare.example/v1",
        "r",
        spec={"rules": [{"backendRefs": [{"name": "a", "port": 80}]}]},
    )
    gadget = manifest(
        "Gadget",
        "compare.example/v1",
        "g",
        spec={"backends": [{"name": "a", "port": 80}], "parts": [{"id": "one"}]},
    )
    for crd in DEFINITIONS:
        genuine.apply(crd)
    repo.commit({"r.yaml": yaml.safe_dump(route), "g.yaml": yaml.safe_dump(gadget)})
    name = app(repo, genuine, namespace, policy=AUTO)
    hub.wait_status(name, "Synced")
    for _ in range(3):
        hub.get(f"/api/v1/applications/{name}", refresh="hard")
        hub.wait_status(name, "Synced")
    assert Operation.objects.count() == 1
    for kind, one in (("Route", "r"), ("Gadget", "g")):
        hub.wait(lambda kind=kind: genuine.kind("compare.example", kind), kind)
        assert genuine.get("compare.example", kind, namespace, one)["metadata"]["generation"] == 1

    changed = [{"backendRefs": [{"name": "a", "port": 80, "weight": 5}]}]
    genuine.patch("compare.example", "Route", namespace, "r", {"spec": {"rules": changed}})

    def healed():
        rules = genuine.get("compare.example", "Route", namespace, "r")["spec"]["rules"]
        return rules[0]["backendRefs"][0]["weight"] == 1

    hub.wait(healed, "the weight as the definition has it")
    hub.wait_status(name, "Synced")


REFERENCE = {"resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}
QUANTITIES = [
    manifest(
        "HorizontalPodAutoscaler",
        "autoscaling/v2",
        "h",
        spec={
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"},
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "q"},
                        "target": {"type": "AverageValue", "averageValue": 10},
                    },
                }
            ],
        },
    ),
    manifest(
        "LimitRange",
        "v1",
        "l",
        spec={
            "limits": [
                {
                    "type": "Container",
                    "max": {"cpu": 2, "memory": "1024Mi"},
                    "default": {"cpu": 0.5},
                }
            ]
        },
    ),
    manifest("ResourceQuota", "v1", "q", spec={"hard": {"pods": 10, "requests.cpu": "2000m"}}),
    pods(
        "d",
        container={
            "env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]
        },
        volumes=[
            {"name": "v", "downwardAPI": {"items": [{"path": "a", **REFERENCE}]}},
            {
                "name": "p",
                "projected": {
                    "sources": [{"downwardAPI": {"items": [{"path": "a", **REFERENCE}]}}]
                },
            },
        ],
    ),
    manifest(
        "StatefulSet",
        "apps/v1",
        "s",
        spec={
            "serviceName": "s",
            "replicas": 0,
            "selector": {"matchLabels": {"app": "s"}},
            "template": {
                "metadata": {"labels": {"app": "s"}},
                "spec": {"containers": [{"name": "c", "image": "x"}]},
            },
            "volumeClaimTemplates": [
                {
                    "metadata": {"name": "v"},
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": "1024Mi"}},
                    },
                }
            ],
        },
    ),
    manifest("Service", "v1", "svc", spec={"selector": {"app": "s"}, "ports": [{"port": 80}]}),
]


def test_quantities_and_defaults_that_nobody_publishes(hub, genuine, repo, app, namespace):
    repo.commit({"all.yaml": yaml.safe_dump_all(QUANTITIES)})
    name = app(repo, genuine, namespace)
    hub.wait_status(name, "OutOfSync")
    before = asked(genuine)
    sync(hub, name)
    hub.wait_status(name, "Synced")
    assert asked(genuine) == before
    hub.get(f"/api/v1/applications/{name}", refresh="normal")
    hub.wait_status(name, "Synced")
    assert asked(genuine) == before
    hub.get(f"/api/v1/applications/{name}", refresh="hard")
    hub.wait_status(name, "Synced")
    assert asked(genuine) > before


def test_what_is_named_twice_counts_once(hub, genuine, repo, app, namespace):
    twice = pods(
        "twice",
        container={
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "value": "b"},
                {"name": "A", "value": "2"},
            ],
            "ports": [{"containerPort": 80, "name": "one"}, {"containerPort": 80, "name": "two"}],
        },
    )
    repo.commit({"d.yaml": yaml.safe_dump(twice)})
    name = app(repo, genuine, namespace, policy=AUTO)
    hub.wait_status(name, "Synced")
    hub.get(f"/api/v1/applications/{name}", refresh="hard")
    hub.wait_status(name, "Synced")

    [container] = genuine.get("apps", "Deployment", namespace, "twice")["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["env"] == [{"name": "B", "value": "b"}, {"name": "A", "value": "2"}]
    assert [port["name"] for port in container["ports"]] == ["two"]
    messages = [
        c["message"]
        for c in hub.application(name)["status"]["conditions"]
        if c["type"] == "RepeatedElementWarning"
    ]
    assert len(messages) == 2
    assert "containers[name 'c'].env has name 'A' twice" in messages[0]
    assert messages[1].endswith("and references to 'one' by name do not resolve")
    assert Operation.objects.count() == 1


def test_what_no_cluster_takes_twice_is_said_before_anything_is_applied(
    hub, genuine, repo, app, namespace
):
    wrong = pods("wrong")
    wrong["spec"]["template"]["spec"]["containers"] *= 2
    good = manifest("ConfigMap", "v1", "good", data={"a": "1"})
    repo.commit({"d.yaml": yaml.safe_dump(wrong), "c.yaml": yaml.safe_dump(good)})
    name = app(repo, genuine, namespace)

    message = hub.condition(name, "ComparisonError")["message"]
    assert "spec.template.spec.containers has name 'c' twice" in message
    hub.post(f"/api/v1/applications/{name}/sync", {})
    assert "has name 'c' twice" in hub.wait_operation(name, "Error")["message"]
    assert genuine.get("", "ConfigMap", namespace, "good") is None


def test_a_dry_run_without_an_answer_is_reported(hub, genuine, repo, app, namespace):
    config = manifest("ConfigMap", "v1", "c", data={"a": "1"})
    repo.commit({"c.yaml": yaml.safe_dump(config)})
    name = app(repo, genuine, namespace)
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    hub.wait_status(name, "Synced")
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["*"],
        "resources": ["configmaps"],
    }
    hook = manifest(
        "ValidatingWebhookConfiguration",
        "admissionregistration.k8s.io/v1",
        namespace,
        webhooks=[
            {
                "name": "none.zero.example",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "rules": [rule],
                "clientConfig": {"url": "https://127.0.0.1:1/"},
                "timeoutSeconds": 1,
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            }
        ],
    )
    genuine.apply(hook)
    time.sleep(1.5)  # the API server reads webhooks a moment later, and says nowhere when

    commit = hub.push(repo, {"c.yaml": yaml.safe_dump({**config, "data": {"a": "2"}})})
    hub.wait_status(name, "OutOfSync", revision=commit)
    condition = hub.condition(name, "ComparisonWarning")
    assert "compared without a dry run" in condition["message"]
    [resource] = hub.application(name)["status"]["resources"]
    assert "webhook" in resource["comparisonNote"]

    genuine.delete("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "", namespace)

    def answered():
        hub.get(f"/api/v1/applications/{name}", refresh="hard")
        status = hub.wait_status(name, "OutOfSync")["status"]
        return not any(c["type"] == "ComparisonWarning" for c in status.get("conditions", []))

    hub.wait(answered, "an answer")


def test_what_the_server_does_not_take_is_out_of_sync_in_its_words(
    hub, genuine, repo, app, namespace
):
    repo.commit({"d.yaml": yaml.safe_dump(pods("fixed"))})
    name = app(repo, genuine, namespace)
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    hub.wait_status(name, "Synced")
    other = pods("fixed")
    other["spec"]["selector"]["matchLabels"]["b"] = "c"
    other["spec"]["template"]["metadata"]["labels"]["b"] = "c"

    commit = hub.push(repo, {"d.yaml": yaml.safe_dump(other)})
    hub.wait_status(name, "OutOfSync", revision=commit)

    [resource] = hub.application(name)["status"]["resources"]
    assert "field is immutable" in resource["comparisonNote"]
