"""Children without owner references belong to whom the reference gives them, in whichever order
they are seen.
"""

import itertools
import json

import pytest
from conftest import config_map

from clusters import inferred, live
from clusters.models import Cluster, LiveResource
from hub.engine.inferred_owners import claim_stems

MARK = "argocd.argoproj.io/tracking-id"
SET = {"apiVersion": "apps/v1", "kind": "StatefulSet"}
OLM = "operators.coreos.com/v1"


def seen(api, kind, name, *, uid="", spec=None, namespace="n", version="1", **annotations):
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": uid or f"{kind}-{name}",
        "resourceVersion": version,
        "annotations": annotations,
    }
    manifest = {
        "apiVersion": api,
        "kind": kind,
        "metadata": metadata,
        **({"spec": spec} if spec else {}),
    }
    return live.Seen(manifest, is_whole=True)


def stateful_set(name="db", uid="s1", *templates, **more):
    spec = {"volumeClaimTemplates": [{"metadata": {"name": t}} for t in templates or ("data",)]}
    mark = {MARK: f"app:apps/StatefulSet:n/{name}"}
    return seen("apps/v1", "StatefulSet", name, uid=uid, spec=spec, **mark, **more)


def claim(name, **more):
    return seen("v1", "PersistentVolumeClaim", name, **more)


ACCOUNT = {"kubernetes.io/service-account.name": "bot", "kubernetes.io/service-account.uid": "sa1"}
PAIRS = [
    pytest.param([stateful_set(), claim("data-db-0")], "data-db-0", "s1", id="claim of a template"),
    pytest.param([stateful_set(), claim("data-db-12")], "data-db-12", "s1", id="any ordinal"),
    pytest.param(
        [stateful_set("db", "s1", "data", "logs"), claim("logs-db-0")],
        "logs-db-0",
        "s1",
        id="second template",
    ),
    pytest.param([stateful_set(), claim("other-db-0")], "other-db-0", "", id="no such template"),
    pytest.param([stateful_set(), claim("data-db-x")], "data-db-x", "", id="no ordinal"),
    pytest.param([stateful_set(), claim("data-db-01")], "data-db-01", "", id="no ordinal of a set"),
    pytest.param(
        [stateful_set(), claim("data-db-0", namespace="m")], "data-db-0", "", id="another namespace"
    ),
    pytest.param(
        [stateful_set("db"), stateful_set("db-1", "s2"), claim("data-db-1-0")],
        "data-db-1-0",
        "s2",
        id="names that begin alike",
    ),
    pytest.param(
        [
            seen("v1", "ServiceAccount", "bot", uid="sa1"),
            seen("v1", "Secret", "bot-token", **ACCOUNT),
        ],
        "bot-token",
        "sa1",
        id="token of an account",
    ),
    pytest.param(
        [seen("v1", "Service", "web", uid="v1"), seen("v1", "Endpoints", "web")],
        "web",
        "v1",
        id="endpoints",
    ),
    pytest.param(
        [
            seen(OLM, "OperatorGroup", "g", uid="o1"),
            seen(
                "operators.coreos.com/v1alpha1",
                "ClusterServiceVersion",
                "c",
                **{"olm.operatorGroup": "g"},
            ),
        ],
        "c",
        "o1",
        id="operator",
    ),
]


def owner(name):
    return LiveResource.objects.exclude(kind="Service").get(name=name).owner_uid


@pytest.fixture
def place(db):
    return Cluster.objects.create(server="https://c.example", name="c", config={})


@pytest.mark.parametrize(("found", "name", "expected"), PAIRS)
def test_in_any_order_and_together(place, found, name, expected):
    for order in itertools.permutations(found):
        for one in order:
            live.record(place.pk, [one])
        assert owner(name) == expected, [s.manifest["metadata"]["name"] for s in order]
        LiveResource.objects.all().delete()
    live.record(place.pk, found)
    assert owner(name) == expected


def test_a_set_that_is_deleted_and_created_again(place):
    live.record(place.pk, [stateful_set(), claim("data-db-0")])

    live.record(place.pk, [], ["apps/StatefulSet/n/db"])
    assert owner("data-db-0") == ""

    live.record(place.pk, [stateful_set(uid="s2", version="5")])
    assert owner("data-db-0") == "s2"


def test_what_git_has_is_nobodys_child(place):
    """A token's Secret that an application marks is compared and pruned like everything of it."""
    marked = {**ACCOUNT, MARK: "app:/Secret:n/bot-token"}

    live.record(place.pk, [seen("v1", "Secret", "bot-token", **marked)])

    row = LiveResource.objects.get()
    assert (row.owner_uid, row.owners) == ("", []) and row.body


@pytest.mark.parametrize(
    "templates", [None, "x", [None, 1], [{"metadata": None}], [{"metadata": {"name": 3}}]]
)
def test_templates_of_any_shape(templates):
    assert "data-db" not in claim_stems(
        {"metadata": {"name": "db"}, "spec": {"volumeClaimTemplates": templates}}
    )


def test_each_set_is_read_once_for_all_claims(place, monkeypatch):
    """Under the lock of the database: a cluster with thousands of both must not hold everybody."""
    read = []
    monkeypatch.setattr(inferred, "claim_stems", lambda m: read.append(m) or claim_stems(m))
    live.record(place.pk, [stateful_set(f"s{n}", f"u{n}") for n in range(20)])
    large = {
        "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
        "x": "a" * inferred.MAX_BYTES,
    }
    mark = {MARK: "app:apps/StatefulSet:n/large"}
    live.record(place.pk, [seen("apps/v1", "StatefulSet", "large", spec=large, **mark)])
    read.clear()

    live.record(place.pk, [claim(f"data-s{n}-{k}") for n in range(20) for k in range(20)])
    live.record(place.pk, [claim("data-large-0")])

    assert len(read) == 2 * 20
    assert (owner("data-s19-19"), owner("data-large-0")) == ("u19", "")


def test_a_claim_is_in_the_tree_and_no_orphan(hub, cluster, repo, app, namespace):
    labels = {"app": "db"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "registry.example/db:1"}]},
    }
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    spec = {
        "replicas": 0,
        "serviceName": "db",
        "selector": {"matchLabels": labels},
        "template": template,
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": size}],
    }
    repo.commit({"s.yaml": json.dumps({**SET, "metadata": {"name": "db"}, "spec": spec})})
    hub.post(
        "/api/v1/projects",
        {
            "project": {
                "metadata": {"name": "p"},
                "spec": {
                    "sourceRepos": ["*"],
                    "destinations": [{"server": "*", "namespace": "*"}],
                    "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
                    "orphanedResources": {"warn": True},
                },
            }
        },
    )
    app(
        repo,
        cluster,
        namespace,
        name="db",
        project="p",
        policy={"automated": {}, "syncOptions": ["CreateNamespace=true"]},
    )
    hub.wait_status("db", "Synced", seconds=60)

    for name in ("data-db-0", "mine"):
        cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": namespace},
                "spec": size,
            }
        )
    cluster.apply(
        {**json.loads(config_map("stray")), "metadata": {"name": "stray", "namespace": namespace}}
    )

    def claims():
        tree = hub.get("/api/v1/applications/db/resource-tree")
        return {
            n["name"]: n["parentRefs"][0]["name"]
            for n in tree["nodes"]
            if n["kind"] == "PersistentVolumeClaim"
        }

    hub.wait(lambda: claims() == {"data-db-0": "db"}, "the claim in the tree")

    def orphaned():
        return {
            n["name"] for n in hub.get("/api/v1/applications/db/resource-tree")["orphanedNodes"]
        }

    hub.wait(lambda: "mine" in orphaned(), "the other claim")
    assert "data-db-0" not in orphaned()
