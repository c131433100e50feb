"""The main job on both kinds of cluster: from a commit to running, seen live, healed, pruned,
rolled back, deleted.
"""

import re

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections
from django.test import AsyncClient

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: {replicas}
  selector:
    matchLabels: {{app: web}}
  template:
    metadata:
      labels: {{app: web}}
    spec:
      containers:
        - name: web
          image: {image}
          ports: [{{containerPort: 80}}]
          resources: {{limits: {{cpu: 1000m, memory: 64Mi}}}}
"""
SERVICE = (
    "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
    "spec: {selector: {app: web}, ports: [{port: 80}]}\n"
)
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: '1'}\n"


def files(replicas=1, image="nginx:1"):
    return {
        "web/deployment.yaml": DEPLOYMENT.format(replicas=replicas, image=image),
        "web/service.yaml": SERVICE,
        "web/config.yaml": CONFIG,
    }


def test_from_a_commit_to_synced_and_healthy(hub, cluster, repo, app, namespace):
    revision = repo.commit(files())

    name = app(repo, cluster, namespace, path="web")
    hub.wait_status(name, "OutOfSync", "Missing", revision)
    hub.post(f"/api/v1/applications/{name}/sync")
    done = hub.wait_status(name, "Synced", "Healthy", revision)

    assert {r["kind"] for r in done["status"]["resources"]} == {
        "ConfigMap",
        "Deployment",
        "Service",
    }
    assert done["status"]["history"][0]["revision"] == revision
    assert done["status"]["sourceType"] == "Directory"
    live = cluster.get("apps", "Deployment", namespace, "web")
    assert (
        live["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"]
        == f"{name}:apps/Deployment:{namespace}/web"
    )


def test_a_push_is_followed_by_webhook(hub, cluster, repo, app, namespace):
    repo.commit(files())
    name = app(repo, cluster, namespace, path="web", policy={"automated": {"prune": True}})
    hub.wait_status(name, "Synced", "Healthy")

    revision = repo.commit(files(replicas=2, image="nginx:2"))
    push = {"ref": "refs/heads/main", "after": revision, "repository": {"html_url": repo.url}}
    answer = hub.client.post(
        "/api/webhook", push, content_type="application/json", headers={"X-GitHub-Event": "push"}
    )
    hub.wait_status(name, "Synced", "Healthy", revision)

    assert answer.status_code == 200
    assert cluster.get("apps", "Deployment", namespace, "web")["spec"]["replicas"] == 2


def test_drift_is_healed(hub, cluster, repo, app, namespace):
    repo.commit(files())
    name = app(repo, cluster, namespace, path="web", policy={"automated": {"selfHeal": True}})
    hub.wait_status(name, "Synced", "Healthy")

    cluster.patch("apps", "Deployment", namespace, "web", {"spec": {"replicas": 5}})
    hub.wait(
        lambda: cluster.get("apps", "Deployment", namespace, "web")["spec"]["replicas"] == 1,
        "the healed field",
    )
    cluster.delete("", "ConfigMap", namespace, "settings")
    hub.wait(lambda: cluster.get("", "ConfigMap", namespace, "settings"), "the healed resource")

    assert hub.wait_status(name, "Synced", "Healthy")


def test_drift_shows_without_self_heal(hub, cluster, repo, app, namespace):
    repo.commit(files())
    name = app(repo, cluster, namespace, path="web", policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")

    cluster.patch("", "ConfigMap", namespace, "settings", {"data": {"a": "2"}})
    shown = hub.wait_status(name, "OutOfSync")

    assert [r["name"] for r in shown["status"]["resources"] if r["status"] == "OutOfSync"] == [
        "settings"
    ]
    [item] = list(
        hub.get(f"/api/v1/applications/{name}/managed-resources", kind="ConfigMap")["items"]
    )
    assert '"a":"2"' in item["liveState"]
    assert '"a":"1"' in item["predictedLiveState"]


def test_fields_of_others_are_no_drift(hub, cluster, repo, app, namespace):
    repo.commit(files())
    name = app(repo, cluster, namespace, path="web", policy={"automated": {"selfHeal": True}})
    hub.wait_status(name, "Synced", "Healthy")

    cluster.patch(
        "apps", "Deployment", namespace, "web", {"metadata": {"annotations": {"other": "x"}}}
    )
    hub.get(f"/api/v1/applications/{name}", refresh="normal")

    assert hub.application(name)["status"]["sync"]["status"] == "Synced"
    assert (
        cluster.get("apps", "Deployment", namespace, "web")["metadata"]["annotations"]["other"]
        == "x"
    )


def test_what_leaves_git_is_pruned_when_asked(hub, cluster, repo, app, namespace):
    repo.commit(files())
    name = app(repo, cluster, namespace, path="web")
    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait_operation(name)
    hub.wait_status(name, "Synced")
    repo.commit({"web/config.yaml": None})
    hub.get(f"/api/v1/applications/{name}", refresh="normal")

    hub.wait_status(name, "OutOfSync")
    hub.post(f"/api/v1/applications/{name}/sync")
    skipped = hub.wait(lambda: _result(hub, name, "PruneSkipped"), "the skipped prune")
    hub.post(f"/api/v1/applications/{name}/sync", {"prune": True})
    hub.wait_status(name, "Synced", "Healthy")

    assert skipped["message"] == "ignored (requires pruning)"
    hub.wait(
        lambda: cluster.get("", "ConfigMap", namespace, "settings") is None, "the pruned resource"
    )


def _result(hub, name, status):
    state = hub.application(name)["status"].get("operationState") or {}
    return next(
        (
            r
            for r in (state.get("syncResult") or {}).get("resources", [])
            if r.get("status") == status
        ),
        None,
    )


def test_a_field_that_leaves_git_leaves_the_cluster(hub, cluster, repo, app, namespace):
    repo.commit(
        {
            "c.yaml": (
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, labels: {gone: soon}}\n"
                "data: {a: '1', b: '2'}\n"
            )
        }
    )
    name = app(repo, cluster, namespace, policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")

    revision = repo.commit(
        {"c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n"}
    )
    hub.get(f"/api/v1/applications/{name}", refresh="normal")
    hub.wait_status(name, "Synced", "Healthy", revision)

    live = cluster.get("", "ConfigMap", namespace, "c")
    assert live["data"] == {"a": "1"}
    assert "gone" not in live["metadata"].get("labels", {})


def test_rollback_deploys_an_earlier_revision(hub, cluster, repo, app, namespace):
    first = repo.commit(files(image="nginx:1"))
    name = app(repo, cluster, namespace, path="web")
    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait_status(name, "Synced", "Healthy", first)
    second = repo.commit(files(image="nginx:2"))
    hub.get(f"/api/v1/applications/{name}", refresh="normal")
    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait_status(name, "Synced", "Healthy", second)

    hub.post(f"/api/v1/applications/{name}/rollback", {"id": 0})
    hub.wait(lambda: len(hub.application(name)["status"]["history"]) == 3, "the third entry")
    done = hub.wait_status(name, "OutOfSync", revision=second)

    assert done["status"]["history"][-1]["revision"] == first
    containers = cluster.get("apps", "Deployment", namespace, "web")["spec"]["template"]["spec"][
        "containers"
    ]
    assert containers[0]["image"] == "nginx:1"


@pytest.mark.parametrize("cascade", [True, False], ids=["cascade", "keep"])
def test_delete(hub, cluster, repo, app, namespace, cascade):
    repo.commit(files())
    name = app(repo, cluster, namespace, path="web", policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")

    hub.delete(f"/api/v1/applications/{name}", cascade=str(cascade).lower())
    hub.wait(lambda: _is_gone(hub, name), "the application to go")

    assert (cluster.get("apps", "Deployment", namespace, "web") is None) == cascade


def _is_gone(hub, name):
    return name not in {a["metadata"]["name"] for a in hub.get("/api/v1/applications")["items"]}


def test_the_tree_shows_pods(hub, cluster, repo, app, namespace):
    repo.commit(files(replicas=2))
    name = app(repo, cluster, namespace, path="web", policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")

    def pods():
        nodes = hub.get(f"/api/v1/applications/{name}/resource-tree")["nodes"]
        found = [
            n
            for n in nodes
            if n["kind"] == "Pod" and n.get("health", {}).get("status") == "Healthy"
        ]
        return found if len(found) == 2 else None

    found = hub.wait(pods, "two healthy pods in the tree")
    assert found[0]["parentRefs"][0]["kind"] == "ReplicaSet"
    assert found[0]["images"] == ["nginx:1"]


def test_an_action_restarts_a_deployment(hub, cluster, repo, app, namespace):
    repo.commit(files())
    name = app(repo, cluster, namespace, path="web", policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")
    where = {
        "group": "apps",
        "kind": "Deployment",
        "namespace": namespace,
        "resourceName": "web",
        "version": "v1",
    }

    names = [
        a["name"]
        for a in hub.get(f"/api/v1/applications/{name}/resource/actions", **where)["actions"]
    ]
    hub.call("POST", f"/api/v1/applications/{name}/resource/actions", "restart", **where)

    template = cluster.get("apps", "Deployment", namespace, "web")["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]
    assert names == ["pause", "restart", "resume", "scale"]
    hub.wait_status(name, "Synced", "Healthy")


def test_logs_of_a_pod(hub, cluster, repo, app, namespace):
    repo.commit(files())
    name = app(repo, cluster, namespace, path="web", policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")
    hub.wait(
        lambda: [
            n
            for n in hub.get(f"/api/v1/applications/{name}/resource-tree")["nodes"]
            if n["kind"] == "Pod"
        ],
        "a pod",
    )

    async def read():
        query = {
            "group": "apps",
            "kind": "Deployment",
            "resourceName": "web",
            "namespace": namespace,
        }
        answer = await AsyncClient().get(
            f"/api/v1/applications/{name}/logs",
            query,
            headers={"Authorization": f"Bearer {hub.token}"},
        )
        found = [part.decode() async for part in answer.streaming_content]
        await sync_to_async(connections.close_all)()
        return found

    lines = async_to_sync(read)()
    assert '"content":"line 1 of' in lines[0]
    assert '"last":true' in lines[-1]


def test_metrics_tell_what_was_done(hub, sandbox, repo, app, namespace):
    repo.commit(files())
    name = app(repo, sandbox, namespace, path="web", policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")
    # What is counted is a hint apart from the row: the count may follow it by a moment.
    samples = (
        r'argocd_app_reconcile_count\{dest_server="URL"\} [1-9]',
        r'argocd_app_sync_total\{dest_server="URL",phase="Succeeded",project="default"\} [1-9]',
        r'argocd_app_k8s_request_total\{[^}]*server="URL",verb="\w+"\} [1-9]',
        r'argocd_cluster_events_total\{server="URL"\} [1-9]',
        r'argocd_cluster_connection_status\{server="URL"\} 1\.0',
        r'flotilla_applications\{[^}]*"Healthy"[^}]*\} [1-9]',
        r'flotilla_render_cache_total\{result="\w+"\} [1-9]',
        r"flotilla_queue_lag_seconds_count\S* [1-9]",
        r"flotilla_watch_lag_seconds_count\S* [1-9]",
    )
    for sample in samples:
        pattern = sample.replace("URL", re.escape(sandbox.server))
        assert hub.wait(
            lambda pattern=pattern: re.search(pattern, hub.client.get("/metrics").content.decode()),
            pattern,
        )


@pytest.mark.parametrize(("limit", "kept"), [(None, 10), (3, 3)])
def test_history_keeps_as_many_revisions_as_asked(hub, sandbox, repo, app, namespace, limit, kept):
    repo.commit({"web/c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"})
    asked = {"revisionHistoryLimit": limit} if limit else {}
    name = app(repo, sandbox, namespace, path="web", **asked)
    for number in range(kept + 2):
        hub.post(f"/api/v1/applications/{name}/sync")
        hub.wait(
            lambda number=number: (
                hub.application(name)["status"].get("history", [{}])[-1].get("id", 0) == number
                and hub.application(name)["status"]["operationState"]["phase"] == "Succeeded"
            ),
            f"sync {number}",
        )

    ids = [entry["id"] for entry in hub.application(name)["status"]["history"]]
    assert ids == list(range(2, kept + 2))
