"""Sync options, deletion guard, server-side diff, scripts and selective syncs, on both kinds of
cluster.
"""

import json

import pytest

from projects.models import ApplicationEvent

CONFIG = (
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, annotations: {{{notes}}}}}\n"
    "data: {{a: '{a}'}}\n"
)


def config(name="c", a="1", notes=""):
    return CONFIG.format(name=name, a=a, notes=notes)


def options(*items, **policy):
    return {"syncOptions": ["CreateNamespace=true", *items], **policy}


def sync(hub, name, phase="Succeeded", **body):
    hub.post(f"/api/v1/applications/{name}/sync", body)
    return hub.wait_operation(name, phase)


def look(hub, name):
    return hub.get(f"/api/v1/applications/{name}", refresh="normal")


def test_managed_namespace_metadata(hub, cluster, repo, app, namespace):
    repo.commit({"c.yaml": config()})
    name = app(
        repo,
        cluster,
        namespace,
        policy=options(
            automated={"selfHeal": True},
            managedNamespaceMetadata={"labels": {"team": "a"}, "annotations": {"x": "y"}},
        ),
    )
    hub.wait_status(name, "Synced", "Healthy")

    metadata = cluster.get("", "Namespace", "", namespace)["metadata"]
    assert metadata["labels"]["team"] == "a"
    assert metadata["annotations"]["x"] == "y"


def test_unknown_fields_are_refused_unless_validate_is_off(hub, genuine, repo, app, namespace):
    repo.commit(
        {
            "s.yaml": (
                "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
                "spec: {ports: [{port: 80}], nonsense: 1}\n"
            )
        }
    )
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")

    assert "nonsense" in sync(hub, name, "Failed")["message"]
    assert genuine.get("", "Service", namespace, "s") is None
    sync(hub, name, syncOptions={"items": ["CreateNamespace=true", "Validate=false"]})

    assert genuine.get("", "Service", namespace, "s")


def test_replace_and_force(hub, cluster, repo, app, namespace):
    job = (
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: j{notes}}}\n"
        "spec: {{suspend: true, template: {{spec: {{restartPolicy: Never, containers: [{{name: m, "
        "image: '{image}'}}]}}}}}}\n"
    )
    repo.commit(
        {
            "j.yaml": job.format(image="a:1", notes=""),
            "c.yaml": config(notes="argocd.argoproj.io/sync-options: Replace=true"),
        }
    )
    name = app(repo, cluster, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    cluster.patch("", "ConfigMap", namespace, "c", {"data": {"foreign": "x"}})
    repo.commit(
        {
            "j.yaml": job.format(image="a:2", notes=""),
            "c.yaml": config(a="2", notes="argocd.argoproj.io/sync-options: Replace=true"),
        }
    )
    look(hub, name)

    assert 'Job.batch "j" is invalid' in sync(hub, name, "Failed")["message"]
    repo.commit(
        {
            "j.yaml": job.format(
                image="a:2", notes=", annotations: {argocd.argoproj.io/sync-options: Force=true}"
            )
        }
    )
    look(hub, name)
    sync(hub, name)

    assert cluster.get("", "ConfigMap", namespace, "c")["data"] == {"a": "2"}
    assert (
        cluster.get("batch", "Job", namespace, "j")["spec"]["template"]["spec"]["containers"][0][
            "image"
        ]
        == "a:2"
    )


def test_only_what_is_out_of_sync_is_applied(hub, cluster, repo, app, namespace):
    repo.commit({"a.yaml": config("a"), "b.yaml": config("b")})
    name = app(repo, cluster, namespace, policy=options("ApplyOutOfSyncOnly=true"))
    hub.wait_status(name, "OutOfSync")
    assert len(sync(hub, name)["syncResult"]["resources"]) == 2
    repo.commit({"b.yaml": config("b", "2")})
    look(hub, name)

    assert [r["name"] for r in sync(hub, name)["syncResult"]["resources"]] == ["b"]


def test_ignored_differences_are_respected_when_asked(hub, cluster, repo, app, namespace):
    ignore = [
        {
            "group": "",
            "kind": "ConfigMap",
            "jqPathExpressions": ['.data | select(.a == "1" or true) | .a'],
        }
    ]
    repo.commit({"c.yaml": config(a="1"), "d.yaml": config("d", "1")})
    name = app(
        repo,
        cluster,
        namespace,
        policy=options("RespectIgnoreDifferences=true"),
        ignoreDifferences=[
            {"group": "", "kind": "ConfigMap", "name": "c", "jsonPointers": ["/data/a"]},
            {**ignore[0], "name": "d"},
        ],
    )
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    for resource in ("c", "d"):
        cluster.patch("", "ConfigMap", namespace, resource, {"data": {"a": "tuned"}})

    hub.wait(lambda: cluster.get("", "ConfigMap", namespace, "d")["data"]["a"] == "tuned")
    look(hub, name)
    assert hub.application(name)["status"]["sync"]["status"] == "Synced"
    sync(hub, name)

    assert [cluster.get("", "ConfigMap", namespace, r)["data"]["a"] for r in ("c", "d")] == [
        "tuned",
        "tuned",
    ]


def test_an_endless_jq_path_stops_only_its_application(hub, sandbox, repo, app, namespace):
    repo.commit({"c.yaml": config()})
    good = app(repo, sandbox, namespace, policy=options(automated={}))
    hub.wait_status(good, "Synced", "Healthy")
    bad = app(
        repo,
        sandbox,
        namespace,
        ignoreDifferences=[
            {
                "group": "",
                "kind": "ConfigMap",
                "jqPathExpressions": ["until(true == false; [.] + [1])"],
            }
        ],
    )
    env = app(
        repo,
        sandbox,
        namespace,
        ignoreDifferences=[{"group": "", "kind": "ConfigMap", "jqPathExpressions": ["$ENV.PATH"]}],
    )

    assert "took longer than" in hub.condition(bad, "ComparisonError")["message"]
    assert "not available" in hub.condition(env, "ComparisonError")["message"]
    look(hub, good)
    hub.wait_status(good, "Synced", "Healthy")


def test_shared_resources(hub, cluster, repo, app, namespace):
    repo.commit({"c.yaml": config()})
    first = app(repo, cluster, namespace, policy=options(automated={}))
    hub.wait_status(first, "Synced", "Healthy")
    second = app(repo, cluster, namespace, policy=options("FailOnSharedResource=true"))

    assert (
        f"part of applications {second} and {first}"
        in hub.condition(second, "SharedResourceWarning")["message"]
    )
    assert "Shared resource found" in sync(hub, second, "Failed")["message"]


def test_a_definition_of_another_application_may_come_later(hub, sandbox, repo, app, namespace):
    notes = "argocd.argoproj.io/sync-options: SkipDryRunOnMissingResource=true"
    repo.commit(
        {
            "w.yaml": (
                "apiVersion: late.example.com/v1\nkind: Late\n"
                f"metadata: {{name: w, annotations: {{{notes}}}}}\n"
            ),
            "c.yaml": config(),
        }
    )
    name = app(repo, sandbox, namespace)
    hub.wait_status(name, "OutOfSync")

    state = sync(hub, name, "Failed")

    assert "could not find late.example.com/v1/Late" in state["message"]
    assert sandbox.get("", "ConfigMap", namespace, "c")


def test_pruning_with_options(hub, cluster, repo, app, namespace):
    kept = config("kept", notes="argocd.argoproj.io/sync-options: Prune=false")
    asks = config("asks", notes="argocd.argoproj.io/sync-options: Prune=confirm")
    repo.commit(
        {"a.yaml": config("a"), "b.yaml": config("b"), "kept.yaml": kept, "asks.yaml": asks}
    )
    name = app(repo, cluster, namespace, policy=options("PrunePropagationPolicy=background"))
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    repo.commit({"kept.yaml": None, "asks.yaml": None})
    look(hub, name)

    hub.post(f"/api/v1/applications/{name}/sync", {"prune": True})
    hub.wait(
        lambda: (
            "pruning confirmation of ConfigMap"
            in hub.application(name)["status"]["operationState"]["message"]
        ),
        "the question",
    )
    assert cluster.get("", "ConfigMap", namespace, "asks")
    hub.post(f"/api/v1/applications/{name}/confirm-deletion")
    state = hub.wait_operation(name)

    results = {r["name"]: r for r in state["syncResult"]["resources"]}
    assert results["kept"]["message"] == "ignored (no prune)"
    assert results["asks"]["status"] == "Pruned"
    hub.wait(lambda: cluster.get("", "ConfigMap", namespace, "asks") is None, "the prune")
    assert cluster.get("", "ConfigMap", namespace, "kept")


def test_a_mass_prune_and_data_kinds_wait_for_a_confirmation(hub, sandbox, repo, app, namespace):
    claim = (
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n"
        "spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n"
    )
    repo.commit({**{f"{n}.yaml": config(f"c{n}") for n in range(8)}, "claim.yaml": claim})
    name = app(repo, sandbox, namespace, policy=options(automated={"prune": True}))
    hub.wait_status(name, "Synced", "Healthy")
    revision = repo.commit({**{f"{n}.yaml": None for n in range(6)}, "claim.yaml": None})
    look(hub, name)

    hub.wait(
        lambda: (
            "exceed the limit of 50%"
            in hub.application(name)["status"]["operationState"].get("message", "")
        ),
        "the guard",
    )
    assert sandbox.get("", "PersistentVolumeClaim", namespace, "data")
    hub.call(
        "PATCH",
        f"/api/v1/applications/{name}",
        {
            "patchType": "merge",
            "patch": json.dumps(
                {
                    "metadata": {
                        "annotations": {
                            "argocd.argoproj.io/deletion-approved": "2999-01-01T00:00:00Z"
                        }
                    }
                }
            ),
        },
    )
    hub.post(f"/api/v1/applications/{name}/confirm-deletion")

    hub.wait_status(name, "Synced", "Healthy", revision)
    assert sandbox.get("", "PersistentVolumeClaim", namespace, "data") is None


def test_a_cascade_asks_before_it_takes_a_namespace(hub, sandbox, repo, app, namespace):
    repo.commit(
        {
            "n.yaml": f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n",
            "c.yaml": config(notes="argocd.argoproj.io/sync-options: Delete=false"),
        }
    )
    name = app(repo, sandbox, namespace, policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")

    hub.delete(f"/api/v1/applications/{name}")
    waiting = hub.condition(name, "DeletionWaiting")
    assert f"Namespace/{namespace}" in waiting["message"]
    assert sandbox.get("", "Namespace", "", namespace)
    hub.post(f"/api/v1/applications/{name}/confirm-deletion")

    hub.wait(
        lambda: (
            name not in {a["metadata"]["name"] for a in hub.get("/api/v1/applications")["items"]}
        ),
        "the application to go",
    )


def test_deleting_a_resource_passes_the_guard(hub, cluster, repo, app, namespace):
    repo.commit(
        {
            "c.yaml": config(),
            "kept.yaml": config("kept", notes="argocd.argoproj.io/sync-options: Delete=false"),
        }
    )
    name = app(repo, cluster, namespace, policy=options(automated={}))
    hub.wait_status(name, "Synced", "Healthy")
    where = {"kind": "ConfigMap", "version": "v1", "namespace": namespace, "resourceName": "c"}
    path = f"/api/v1/applications/{name}/resource"

    assert json.loads(hub.get(path, **where)["manifest"])["data"] == {"a": "1"}
    patched = hub.call(
        "POST",
        path,
        json.dumps({"data": {"b": "2"}}),
        **where,
        patchType="application/merge-patch+json",
    )
    assert json.loads(patched["manifest"])["data"] == {"a": "1", "b": "2"}
    hub.delete(path, **where)
    hub.wait_status(name, "OutOfSync")
    assert cluster.get("", "ConfigMap", namespace, "c") is None
    assert (
        "Delete=false"
        in hub.delete(path, **{**where, "resourceName": "kept"}, status=400)["message"]
    )
    assert (
        "not found as part of"
        in hub.get(path, **{**where, "resourceName": "other"}, status=400)["message"]
    )
    assert "required" in hub.get(path, status=400)["message"]


def test_a_selective_sync_leaves_the_rest(hub, cluster, repo, app, namespace):
    repo.commit({"a.yaml": config("a"), "b.yaml": config("b")})
    name = app(repo, cluster, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})

    sync(hub, name, resources=[{"group": "", "kind": "ConfigMap", "name": "a"}])

    assert cluster.get("", "ConfigMap", namespace, "a")
    assert cluster.get("", "ConfigMap", namespace, "b") is None
    assert hub.application(name)["status"].get("history") is None


def test_a_dry_run_changes_nothing(hub, cluster, repo, app, namespace):
    repo.commit({"a.yaml": config("a")})
    name = app(repo, cluster, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")

    state = sync(hub, name, dryRun=True)

    assert state["message"] == "successfully synced (dry run)"
    assert cluster.get("", "ConfigMap", namespace, "a") is None
    assert cluster.get("", "Namespace", "", namespace) is None


def test_a_failing_sync_is_retried_and_follows_the_mended_commit(
    hub, sandbox, repo, app, namespace
):
    repo.commit(
        {
            "d.yaml": (
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"
                "spec: {replicas: -1, selector: {matchLabels: {a: b}}, template: {metadata: "
                "{labels: {a: b}}, spec: {containers: [{name: m, image: i}]}}}\n"
            )
        }
    )
    policy = options(
        automated={}, retry={"limit": 20, "backoff": {"duration": "1s", "maxDuration": "1s"}}
    )
    name = app(repo, sandbox, namespace, policy=policy)
    hub.wait(
        lambda: (
            "Retrying attempt"
            in hub.application(name)["status"].get("operationState", {}).get("message", "")
        ),
        "a retry",
    )

    revision = repo.commit(
        {
            "d.yaml": (
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"
                "spec: {replicas: 1, selector: {matchLabels: {a: b}}, template: {metadata: "
                "{labels: {a: b}}, spec: {containers: [{name: m, image: i}]}}}\n"
            )
        }
    )
    look(hub, name)

    done = hub.wait_status(name, "Synced", "Healthy", revision)
    assert done["status"]["operationState"]["syncResult"]["revision"] == revision


def test_a_failed_automated_sync_says_so_and_is_not_repeated(hub, sandbox, repo, app, namespace):
    repo.commit({"x.yaml": "apiVersion: nope.example.com/v1\nkind: Nope\nmetadata: {name: nn}\n"})
    name = app(
        repo, sandbox, namespace, policy=options(automated={"selfHeal": True}, retry={"limit": 0})
    )

    assert "Failed last sync attempt" in hub.condition(name, "SyncError")["message"]
    count = ApplicationEvent.objects.filter(name=name, reason="OperationStarted").count()
    look(hub, name)
    assert (
        ApplicationEvent.objects.filter(name=name, reason="OperationStarted").count() == count == 1
    )


@pytest.mark.controlplane
def test_server_side_diff_asks_the_api_server(hub, genuine, repo, app, namespace):
    repo.commit(
        {
            "s.yaml": (
                "apiVersion: v1\nkind: Service\n"
                "metadata: {name: s, annotations: {argocd.argoproj.io/compare-options: "
                "ServerSideDiff=true}}\nspec: {ports: [{port: 80}], selector: {a: b}}\n"
            )
        }
    )
    name = app(repo, genuine, namespace, policy=options(automated={}))
    hub.wait_status(name, "Synced", "Healthy")
    genuine.patch("", "Service", namespace, "s", {"spec": {"selector": {"a": "other"}}})
    hub.wait_status(name, "OutOfSync")

    target = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": namespace},
        "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}},
    }
    answer = hub.get(
        f"/api/v1/applications/{name}/server-side-diff", targetManifests=json.dumps(target)
    )
    assert answer["modified"] is True
    other = {**target, "metadata": {"name": "kubernetes", "namespace": "default"}}
    assert (
        "not found as part of"
        in hub.get(
            f"/api/v1/applications/{name}/server-side-diff",
            targetManifests=json.dumps(other),
            status=400,
        )["message"]
    )


SECRET = (
    "apiVersion: v1\nkind: Secret\n"
    "metadata: {name: s, annotations: {argocd.argoproj.io/compare-options: ServerSideDiff=true}}\n"
)


@pytest.mark.controlplane
def test_a_dry_run_of_a_comparison_quotes_no_secret(hub, genuine, repo, app, namespace):
    """The API server repeats a value of another type than it expects."""
    repo.commit({"s.yaml": f"{SECRET}stringData: {{pin: a}}\n"})
    name = app(repo, genuine, namespace, policy=options())
    sync(hub, name)
    hub.wait_status(name, "Synced", "Healthy")
    hub.push(repo, {"s.yaml": f"{SECRET}data: {{pin: 47114711}}\n"})
    said = hub.condition(name, "ComparisonWarning")["message"]
    assert "The message is hidden" in said
    assert "47114711" not in json.dumps(hub.application(name))


def test_what_kubectl_applied_is_adopted(hub, cluster, repo, app, namespace):
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    kind = cluster.kind("", "ConfigMap")
    old = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": namespace},
        "data": {"a": "1", "gone": "x"},
    }
    text = json.dumps(old)
    old["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": text}
    cluster.connection.request(
        "POST", kind.path(namespace), old, query={"fieldManager": "kubectl-client-side-apply"}
    )
    repo.commit({"c.yaml": config()})
    name = app(repo, cluster, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")

    sync(hub, name)

    hub.wait_status(name, "Synced", "Healthy")
    assert cluster.get("", "ConfigMap", namespace, "c")["data"] == {"a": "1"}


WIDGETS = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {kind: Gadget, plural: gadgets, singular: gadget}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
"""


def test_scripts_of_administrators(hub, sandbox, repo, app, namespace):
    health = 'return {status = obj.spec.ok and "Healthy" or "Degraded", message = "seen"}'
    fix = {"name": "fix", "action.lua": "obj.spec.ok = true return obj"}
    actions = {"discovery.lua": "return {fix = {}}", "definitions": [fix]}
    hub.put("/api/v1/flotilla/settings/health", {"value": {"example.org/Gadget": health}})
    hub.put("/api/v1/flotilla/settings/actions", {"value": {"example.org/Gadget": actions}})
    repo.commit(
        {
            "crd.yaml": WIDGETS,
            "g.yaml": (
                "apiVersion: example.org/v1\nkind: Gadget\nmetadata: {name: g}\nspec: {size: 1}\n"
            ),
        }
    )
    name = app(repo, sandbox, namespace, policy=options(automated={}))
    hub.wait_status(name, "Synced", "Degraded")
    where = {
        "group": "example.org",
        "kind": "Gadget",
        "version": "v1",
        "namespace": namespace,
        "resourceName": "g",
    }

    assert [
        a["name"]
        for a in hub.get(f"/api/v1/applications/{name}/resource/actions", **where)["actions"]
    ] == ["fix"]
    hub.post(f"/api/v1/applications/{name}/resource/actions/v2", {"action": "fix", **where})

    hub.wait_status(name, "Synced", "Healthy")
    assert (
        "has no action"
        in hub.post(
            f"/api/v1/applications/{name}/resource/actions/v2",
            {"action": "nope", **where},
            status=400,
        )["message"]
    )


def test_orphaned_resources(hub, sandbox, repo, app, namespace):
    spec = {
        "sourceRepos": ["*"],
        "destinations": [{"server": "*", "namespace": "*"}],
        "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
        "orphanedResources": {
            "warn": True,
            "ignore": [{"group": "", "kind": "ConfigMap", "name": "ok-*"}],
        },
    }
    hub.post("/api/v1/projects", {"project": {"metadata": {"name": namespace}, "spec": spec}})
    repo.commit({"c.yaml": config()})
    name = app(repo, sandbox, namespace, project=namespace, policy=options(automated={}))
    hub.wait_status(name, "Synced", "Healthy")
    for orphan in ("stray", "ok-one"):
        sandbox.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": orphan, "namespace": namespace},
            }
        )

    def found():
        return [
            n["name"]
            for n in hub.get(f"/api/v1/applications/{name}/resource-tree")["orphanedNodes"]
        ]

    hub.wait(lambda: found() == ["stray"], "the orphan in the tree")
    hub.get(f"/api/v1/applications/{name}", refresh="hard")
    assert (
        hub.condition(name, "OrphanedResourceWarning")["message"]
        == "Application has 1 orphaned resources"
    )


def test_kinds_that_the_project_forbids(hub, sandbox, repo, app, namespace):
    spec = {
        "sourceRepos": ["*"],
        "destinations": [{"server": "*", "namespace": namespace}],
        "namespaceResourceBlacklist": [{"group": "", "kind": "Secret"}],
    }
    hub.post("/api/v1/projects", {"project": {"metadata": {"name": namespace}, "spec": spec}})
    repo.commit(
        {
            "s.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n",
            "n.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n",
            "o.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: o, namespace: other}\n",
        }
    )
    name = app(repo, sandbox, namespace, project=namespace)
    hub.wait_status(name, "OutOfSync")

    message = sync(hub, name, "Failed")["message"]

    for words in (
        "resource :Secret is not permitted",
        "resource :Namespace is not permitted",
        "namespace other is not permitted",
    ):
        assert words in message


def test_revision_details_and_events(hub, sandbox, repo, app, namespace):
    revision = repo.commit({"c.yaml": config()}, message="Say why")
    repo.git("tag", "v1")
    name = app(repo, sandbox, namespace, policy=options(automated={}))
    hub.wait_status(name, "Synced", "Healthy")

    found = hub.get(f"/api/v1/applications/{name}/revisions/{revision}/metadata")
    assert (found["message"], found["author"], found["tags"]) == (
        "Say why",
        "t <t@localhost>",
        ["v1"],
    )
    assert {"OperationStarted", "OperationCompleted"} <= {
        e["reason"] for e in hub.get(f"/api/v1/applications/{name}/events")["items"]
    }
    assert (
        json.loads(hub.get(f"/api/v1/applications/{name}/manifests")["manifests"][0])["kind"]
        == "ConfigMap"
    )
    assert (
        hub.get(f"/api/v1/flotilla/applications/{name}/diff")["resources"][0]["status"] == "Synced"
    )
    assert hub.get(f"/api/v1/flotilla/applications/{name}/operation")["steps"][0]["phase"] == "Sync"
    assert hub.get(f"/api/v1/applications/{name}/syncwindows")["canSync"] is True


def test_sync_requests_that_cannot_work(hub, sandbox, repo, app, namespace):
    repo.commit({"c.yaml": config()})
    name = app(repo, sandbox, namespace, policy=options(automated={}))
    hub.wait_status(name, "Synced", "Healthy")
    path = f"/api/v1/applications/{name}"
    for body, words in (
        ({"revision": "other"}, "auto-sync currently set to main"),
        ({"revision": 5}, "revision must be text"),
        ({"resources": [{"kind": "X"}]}, "resources"),
        ({"strategy": {"x": {}}}, "strategy"),
        ({"syncOptions": {"items": ["Prune"]}}, "Name=value"),
        ({"revisions": ["a"], "sourcePositions": [9], "dryRun": True}, "sourcePositions"),
        ({"name": "other"}, "path says"),
        ({"manifests": ["x"]}, "local sync"),
    ):
        assert words in hub.post(f"{path}/sync", body, status=400)["message"], body
    assert "auto-sync is enabled" in hub.post(f"{path}/rollback", {"id": 0}, status=400)["message"]
    assert "No operation is in progress" in hub.delete(f"{path}/operation", status=400)["message"]
    hub.put(f"{path}/spec", {**hub.application(name)["spec"], "syncPolicy": {}})
    assert (
        "does not have deployment with id 99"
        in hub.post(f"{path}/rollback", {"id": 99}, status=400)["message"]
    )
    assert (
        "unable to resolve" in hub.post(f"{path}/sync", {"revision": "nope"}, status=400)["message"]
    )


def test_a_rollback_needs_a_source_that_is_still_permitted(hub, sandbox, repo, app, namespace):
    everywhere = [{"server": "*", "namespace": "*"}]
    spec = {"sourceRepos": ["*"], "destinations": everywhere}
    hub.post("/api/v1/projects", {"project": {"metadata": {"name": namespace}, "spec": spec}})
    sandbox.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    repo.commit({"c.yaml": config()})
    name = app(repo, sandbox, namespace, project=namespace, policy={"syncOptions": []})
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    body = hub.application(name)["spec"]
    other = repo.url.replace("127.0.0.1", "localhost")
    hub.put(
        f"/api/v1/applications/{name}/spec",
        {**body, "source": {**body["source"], "repoURL": other}},
    )
    hub.put(
        f"/api/v1/projects/{namespace}",
        {
            "project": {
                "metadata": {"name": namespace},
                "spec": {"sourceRepos": [other], "destinations": everywhere},
            }
        },
    )

    hub.post(f"/api/v1/applications/{name}/rollback", {"id": 0})

    assert "is not permitted in project" in hub.wait_operation(name, "Error")["message"]
