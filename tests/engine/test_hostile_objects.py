"""Objects of an API server that lies: real ones with fields of any shape, through all that reads
them.
"""

import copy
import random

import pytest

from clusters import intake, live
from hub.engine import actions
from hub.engine.diff import CompareSettings, compare
from hub.engine.errors import MALFORMED_OBJECT, EngineError
from hub.engine.field_sets import others_fields, owned_fields
from hub.engine.node_info import external_urls, redact
from hub.engine.tracking import Tracking

ODD = [
    None,
    True,
    0,
    -1,
    2**63,
    2**64 - 1,
    1.5,
    "",
    "x",
    "²",
    "1e9",
    "9" * 400,
    "\0",
    "é",
    [],
    [None],
    [[]],
    ["x", "x"],
    {},
    {"": None},
    {"f:x": "y"},
    {"k:": {}},
    {"k:{": {}},
    {"k:[1]": {}},
    {"v:": {}},
    {"v:{": {}},
    {"k:" + "[" * 2000: {}},
    [{"name": {}}, {"name": []}],
]
"""What stands in a field instead of what belongs there."""


def metadata(kind):
    fields = {
        "f:metadata": {"f:finalizers": {".": {}, 'v:"a"': {}}, "f:labels": {"f:app": {}}},
        "f:spec": {
            "f:replicas": {},
            "f:template": {
                "f:spec": {
                    "f:containers": {
                        'k:{"name":"web"}': {
                            ".": {},
                            "f:image": {},
                            "f:name": {},
                            "f:ports": {
                                'k:{"containerPort":80,"protocol":"TCP"}': {
                                    ".": {},
                                    "f:containerPort": {},
                                }
                            },
                        }
                    }
                }
            },
        },
    }
    return {
        "name": "web",
        "namespace": "n",
        "uid": "u",
        "resourceVersion": "12",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "generation": 2,
        "labels": {"app": "web"},
        "annotations": {"argocd.argoproj.io/tracking-id": f"demo:apps/{kind}:n/web"},
        "finalizers": ["a"],
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "r",
                "uid": "o",
                "controller": True,
            }
        ],
        "managedFields": [
            {
                "manager": "argocd-controller",
                "operation": "Apply",
                "apiVersion": "apps/v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": fields,
            },
            {
                "manager": "kubelet",
                "operation": "Update",
                "subresource": "status",
                "fieldsV1": {"f:status": {"f:replicas": {}}},
            },
        ],
    }


def real(api, kind, **more):
    return {"apiVersion": api, "kind": kind, "metadata": metadata(kind), **more}


POD = {
    "containers": [
        {
            "name": "web",
            "image": "nginx:1",
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "1"}},
        }
    ],
    "volumes": [{"name": "v", "emptyDir": {}}],
}
OBJECTS = [
    real(
        "apps/v1",
        "Deployment",
        spec={
            "replicas": 2,
            "strategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": POD},
        },
        status={
            "observedGeneration": 2,
            "replicas": 2,
            "updatedReplicas": 2,
            "availableReplicas": 2,
            "conditions": [{"type": "Progressing", "reason": "x"}],
        },
    ),
    real(
        "apps/v1",
        "StatefulSet",
        spec={
            "replicas": 1,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}},
            "template": {"spec": POD},
        },
        status={"readyReplicas": 1, "currentRevision": "a", "updateRevision": "b"},
    ),
    real(
        "v1",
        "Pod",
        spec=POD,
        status={
            "phase": "Running",
            "containerStatuses": [
                {
                    "name": "web",
                    "ready": True,
                    "restartCount": 1,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                }
            ],
        },
    ),
    real(
        "v1",
        "Service",
        spec={
            "type": "LoadBalancer",
            "ports": [{"port": 80, "protocol": "TCP"}],
            "selector": {"a": "b"},
        },
        status={"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    ),
    real("v1", "Secret", data={"a": "eA=="}, type="Opaque"),
    real(
        "v1",
        "PersistentVolumeClaim",
        spec={"resources": {"requests": {"storage": "1Gi"}}},
        status={"phase": "Bound"},
    ),
    real(
        "batch/v1",
        "CronJob",
        spec={"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": POD}}}},
        status={"active": [{"name": "j"}]},
    ),
    real(
        "batch/v1",
        "Job",
        spec={"template": {"spec": POD}},
        status={"conditions": [{"type": "Complete", "status": "True", "message": "done"}]},
    ),
    real(
        "networking.k8s.io/v1",
        "Ingress",
        spec={
            "rules": [
                {
                    "host": "a.example",
                    "http": {"paths": [{"path": "/", "backend": {"service": {"name": "web"}}}]},
                }
            ]
        },
        status={"loadBalancer": {"ingress": [{"hostname": "h"}]}},
    ),
    real(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        spec={"metrics": [{"type": "Resource"}]},
        status={
            "conditions": [{"type": "AbleToScale", "status": "True", "reason": "x", "message": "m"}]
        },
    ),
    real(
        "example.org/v1",
        "Thing",
        spec={"list": [{"name": "a", "value": 1}], "set": ["a"]},
        status={"conditions": [{"type": "Ready", "status": "False"}]},
    ),
]


def places(value, path=()):
    yield path
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for name, child in children:
        yield from places(child, (*path, name))


def mutated(manifest, chance):
    """Return an object of which one to three fields are something else."""
    found = copy.deepcopy(manifest)
    for _ in range(chance.choice([1, 1, 2, 3])):
        path = chance.choice([p for p in places(found) if p and p[0] not in ("apiVersion", "kind")])
        holder = found
        for name in path[:-1]:
            holder = holder[name]
        holder[path[-1]] = copy.deepcopy(chance.choice(ODD))
    return found


def read_all(kept, found):
    """Read an object as the hub does, the engine's bare functions first: those raise nothing but
    what is theirs.
    """
    owned_fields(found), others_fields(found)
    if intake.complaint(found):
        return False
    live.row_of(1, live.Seen(found, is_whole=True), Tracking())
    for one, other in (
        ("²", "1"),
        ("1" * 5000, "2"),
        (str(found["metadata"].get("resourceVersion")), "12"),
    ):
        live._older(one, other)
    compare(kept, found, CompareSettings(), lambda _manifest, _paths: None)
    redact(found, kept)
    external_urls(found)
    for action in actions.available(found):
        if not action.get("disabled"):
            actions.perform(found, action["name"], {"replicas": "1"}, "2026-01-01T00:00:00Z", "x")
    return True


@pytest.mark.parametrize("seed", range(len(OBJECTS)), ids=[o["kind"] for o in OBJECTS])
def test_fields_of_any_shape_are_not_an_internal_error(seed, monkeypatch):
    monkeypatch.setattr(live, "health_scripts", dict)
    kept, chance, believed = OBJECTS[seed], random.Random(seed), 0
    for number in range(600):
        found = mutated(kept, chance)
        try:
            believed += read_all(kept, found)
        except EngineError:
            continue
        except MALFORMED_OBJECT as error:
            raise AssertionError(f"{number}: {found}") from error
    assert believed > 100
