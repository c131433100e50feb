"""Every live change reaches an open tree at once, of children of children too."""

import json
import time

import pytest
from support.streams import collect
from support.web import deployment

from clusters import live
from clusters.models import Cluster, LiveChange, LiveResource
from projects.models import Application, ManagedResource
from projects.refreshing import triggers

APPS = "/api/v1/applications"


def seen(kind, name, version=1, *, group="", owner=None, uid=None, **more):
    metadata = {
        "name": name,
        "namespace": "n",
        "uid": uid or f"{kind}-{name}",
        "resourceVersion": str(version),
    }
    if owner:
        where, group_of = owner.split("/"), {"Deployment": "apps/v1", "ReplicaSet": "apps/v1"}
        metadata["ownerReferences"] = [
            {
                "apiVersion": group_of[where[0]],
                "kind": where[0],
                "name": where[1],
                "uid": f"{where[0]}-{where[1]}",
                "controller": True,
            }
        ]
    api = f"{group}/v1" if group else "v1"
    return live.Seen({"apiVersion": api, "kind": kind, "metadata": metadata, **more}, is_whole=True)


@pytest.fixture
def running(db):
    """An application with a Deployment, its ReplicaSet and a Pod, all of which were looked at."""
    cluster = Cluster.objects.create(server="https://c.example", name="c", config={})
    row = Application.objects.create(name="web", project="default", spec={}, cluster=cluster)
    ManagedResource.objects.create(application=row, cluster=cluster, key="apps/Deployment/n/web")
    other = Application.objects.create(name="other", project="default", spec={}, cluster=cluster)
    live.record(
        cluster.pk,
        [
            seen("Deployment", "web", group="apps"),
            seen("ReplicaSet", "web-1", group="apps", owner="Deployment/web"),
            seen("Pod", "web-1-a", owner="ReplicaSet/web-1"),
            seen("Pod", "loner"),
        ],
    )
    triggers.live_changed()
    Application.objects.update(resource_version=0, refresh_at=None)
    return cluster, row, other


RUNS = {"phase": "Running", "containerStatuses": [{"name": "c", "ready": True, "restartCount": 3}]}


@pytest.mark.parametrize(
    ("found", "gone", "is_told"),
    [
        pytest.param([], ["/Pod/n/web-1-a"], True, id="a pod is gone"),
        pytest.param(
            [seen("Pod", "web-1-b", owner="ReplicaSet/web-1")], [], True, id="a pod comes"
        ),
        pytest.param(
            [seen("Pod", "web-1-a", 2, owner="ReplicaSet/web-1", status=RUNS)],
            [],
            True,
            id="a pod restarts",
        ),
        pytest.param(
            [seen("Pod", "web-1-a", 2, owner="ReplicaSet/web-1", uid="new")],
            [],
            True,
            id="another of its name",
        ),
        pytest.param([], ["apps/ReplicaSet/n/web-1"], True, id="a replica set is gone"),
        pytest.param(
            [seen("Pod", "web-1-a", 2, owner="ReplicaSet/web-1")],
            [],
            False,
            id="nothing that is shown",
        ),
        pytest.param([], ["/Pod/n/loner"], False, id="nobody's pod"),
    ],
)
def test_who_is_told_of_a_change(running, found, gone, is_told):
    cluster, row, other = running

    live.record(cluster.pk, found, gone)
    triggers.live_changed()

    row.refresh_from_db()
    other.refresh_from_db()
    assert bool(row.resource_version) is is_told
    assert not other.resource_version
    # A changed tree does not cause a comparison.
    assert row.refresh_at is None
    assert not LiveChange.objects.exists()


def test_a_deleted_pod_leaves_the_tree(hub, cluster, repo, app, namespace):
    # What other tests left in the cluster may bear the name of their application.
    name = f"tree-{namespace}"
    repo.commit({"d.yaml": deployment(1)})
    app(
        repo,
        cluster,
        namespace,
        name=name,
        policy={"automated": {}, "syncOptions": ["CreateNamespace=true"]},
    )

    def pods():
        return {
            n["name"]
            for n in hub.get(f"{APPS}/{name}/resource-tree")["nodes"]
            if n["kind"] == "Pod"
        }

    [pod] = hub.wait(pods, "the pod", 60)
    version = Application.objects.get(name=name).resource_version
    began = time.monotonic()

    cluster.delete("", "Pod", namespace, pod)

    hub.wait(lambda: pod not in pods(), "the end of the pod in the tree", 30)
    hub.wait(lambda: Application.objects.get(name=name).resource_version > version, "the news", 10)
    print(f"the tree was told after {time.monotonic() - began:.2f} s")
    [line] = collect(hub, f"/api/v1/stream/applications/{name}/resource-tree", 1, (9, None))
    assert pod not in {n["name"] for n in json.loads(line)["result"]["nodes"]}


def test_a_list_corrects_whose_a_stored_hook_is(db):
    """A row of an earlier release that did not count a hook with a generated name as its own."""
    cluster = Cluster.objects.create(server="https://c.example", name="c", config={})
    hook = seen("Job", "pre-0123abc-presync-1764300000", group="batch")
    hook.manifest["metadata"]["annotations"] = {
        "argocd.argoproj.io/hook": "PreSync",
        "argocd.argoproj.io/tracking-id": "web:batch/Job:n/pre-",
    }
    live.record(cluster.pk, [hook])
    LiveResource.objects.update(is_self=False)

    assert live.record(cluster.pk, [hook]) == 0
    assert live.record(cluster.pk, [hook], is_list=True) == 1
    assert live.record(cluster.pk, [hook], is_list=True) == 0

    assert LiveResource.objects.get().is_self
