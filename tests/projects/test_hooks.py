"""Hooks, waves and what happens when they go wrong, on both kinds of cluster."""

import json

from projects.models import Application, Operation, Project
from projects.operations import applying, planning

JOB = """\
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
  annotations:
    argocd.argoproj.io/hook: {phase}
    {extra}
spec:
  backoffLimit: 0
  {ttl}
  template:
    metadata:
      annotations: {{sandbox/exit-code: '{code}', controlplane/exit-code: '{code}'}}
    spec:
      restartPolicy: Never
      containers: [{{name: main, image: busybox}}]
"""
CONFIG = (
    "apiVersion: v1\nkind: ConfigMap\n"
    "metadata: {{name: {name}, annotations: {{argocd.argoproj.io/sync-wave: '{wave}'}}}}\n"
    "data: {{a: '1'}}\n"
)


def job(name, phase, code=0, extra="", ttl=""):
    return JOB.format(name=name, phase=phase, code=code, extra=extra, ttl=ttl)


def results(state):
    return {r["name"]: r for r in state["syncResult"]["resources"]}


def test_hooks_run_before_and_after(hub, cluster, repo, app, namespace):
    repo.commit(
        {
            "pre.yaml": job("pre", "PreSync"),
            "post.yaml": job("post", "PostSync"),
            "c.yaml": CONFIG.format(name="c", wave=0),
        }
    )
    name = app(repo, cluster, namespace)

    hub.post(f"/api/v1/applications/{name}/sync")
    state = hub.wait_operation(name, seconds=60)

    found = results(state)
    assert [found[n].get("hookPhase") for n in ("pre", "post")] == ["Succeeded", "Succeeded"]
    assert [r["name"] for r in state["syncResult"]["resources"]] == ["pre", "c", "post"]
    created = {
        n: cluster.get(g, k, namespace, n)["metadata"]["creationTimestamp"]
        for g, k, n in (("batch", "Job", "pre"), ("", "ConfigMap", "c"), ("batch", "Job", "post"))
    }
    assert created["pre"] <= created["c"] <= created["post"]
    assert cluster.get("batch", "Job", namespace, "pre")["metadata"].get("finalizers") in (None, [])
    hub.wait_status(name, "Synced", "Healthy")


def test_a_failing_hook_fails_the_sync_and_runs_syncfail(hub, cluster, repo, app, namespace):
    repo.commit(
        {
            "pre.yaml": job("pre", "PreSync", code=1),
            "fail.yaml": job("mourn", "SyncFail"),
            "c.yaml": CONFIG.format(name="c", wave=0),
        }
    )
    name = app(repo, cluster, namespace)

    hub.post(f"/api/v1/applications/{name}/sync")
    state = hub.wait_operation(name, "Failed", seconds=60)

    assert "pre" in state["message"]
    assert results(state)["mourn"]["hookPhase"] == "Succeeded"
    assert cluster.get("", "ConfigMap", namespace, "c") is None
    assert hub.application(name)["status"].get("history") is None


def test_a_hook_that_a_ttl_deletes_at_once_still_counts(hub, cluster, repo, app, namespace):
    repo.commit(
        {
            "pre.yaml": job("pre", "PreSync", ttl="ttlSecondsAfterFinished: 0"),
            "c.yaml": CONFIG.format(name="c", wave=0),
        }
    )
    name = app(repo, cluster, namespace)

    hub.post(f"/api/v1/applications/{name}/sync")
    state = hub.wait_operation(name, seconds=60)

    assert results(state)["pre"]["hookPhase"] == "Succeeded"
    hub.wait(lambda: cluster.get("batch", "Job", namespace, "pre") is None, "the Job to be let go")


def test_a_hook_is_created_again_for_each_sync(hub, cluster, repo, app, namespace):
    repo.commit({"pre.yaml": job("pre", "PreSync"), "c.yaml": CONFIG.format(name="c", wave=0)})
    name = app(repo, cluster, namespace)
    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait_operation(name, seconds=60)
    first = cluster.get("batch", "Job", namespace, "pre")["metadata"]["uid"]

    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait(
        lambda: (
            (cluster.get("batch", "Job", namespace, "pre") or {"metadata": {"uid": first}})[
                "metadata"
            ]["uid"]
            != first
        ),
        "a new Job",
    )
    assert hub.wait_operation(name, seconds=60)


def test_a_hook_with_a_generated_name_and_hook_succeeded_is_gone_afterwards(
    hub, cluster, repo, app, namespace
):
    text = job(
        "ignored", "PostSync", extra="argocd.argoproj.io/hook-delete-policy: HookSucceeded"
    ).replace("name: ignored", "generateName: once-")
    repo.commit({"post.yaml": text, "c.yaml": CONFIG.format(name="c", wave=0)})
    name = app(repo, cluster, namespace)

    hub.post(f"/api/v1/applications/{name}/sync")
    state = hub.wait_operation(name, seconds=60)

    [generated] = [r["name"] for r in state["syncResult"]["resources"] if r["kind"] == "Job"]
    assert generated.startswith("once-")
    assert "postsync" in generated
    hub.wait(lambda: cluster.get("batch", "Job", namespace, generated) is None, "the hook to go")


def test_hooks_with_generated_names_go_with_their_application(hub, cluster, repo, app, namespace):
    """Also one that an earlier release marked with `generateName` in place of its name."""
    both = {
        f"{n}.yaml": job("ignored", "PreSync").replace("name: ignored", f"generateName: {n}-")
        for n in ("new", "old")
    }
    repo.commit({**both, "c.yaml": CONFIG.format(name="c", wave=0)})
    name = app(repo, cluster, namespace)
    hub.post(f"/api/v1/applications/{name}/sync")
    state = hub.wait_operation(name, seconds=60)
    old, new = sorted(
        (r["name"] for r in state["syncResult"]["resources"] if r["kind"] == "Job"), reverse=True
    )
    mark = "argocd.argoproj.io/tracking-id"
    assert cluster.get("batch", "Job", namespace, new)["metadata"]["annotations"][mark] == (
        f"{name}:batch/Job:{namespace}/{new}"
    )
    before = {"metadata": {"annotations": {mark: f"{name}:batch/Job:{namespace}/old-"}}}
    cluster.patch("batch", "Job", namespace, old, before)

    hub.delete(f"/api/v1/applications/{name}", cascade="true")

    hub.wait(
        lambda: not any(cluster.get("batch", "Job", namespace, n) for n in (new, old)),
        "the hooks to go",
        60,
    )


def test_waves_wait_for_health(hub, cluster, repo, app, namespace):
    broken = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: slow, annotations: {argocd.argoproj.io/sync-wave: '0'}}
spec:
  replicas: 1
  selector: {matchLabels: {app: slow}}
  template:
    metadata: {labels: {app: slow}}
    spec: {containers: [{name: main, image: does-not-exist}]}
"""
    repo.commit({"slow.yaml": broken, "late.yaml": CONFIG.format(name="late", wave=1)})
    name = app(repo, cluster, namespace)

    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait(
        lambda: (
            "healthy state"
            in hub.application(name)["status"].get("operationState", {}).get("message", "")
        ),
        "the wait",
    )
    assert cluster.get("", "ConfigMap", namespace, "late") is None
    hub.delete(f"/api/v1/applications/{name}/operation")
    state = hub.wait_operation(name, "Failed")

    assert state["message"] == "Operation terminated"


def test_terminate_deletes_a_running_hook(hub, cluster, repo, app, namespace):
    text = job("stuck", "PreSync").replace("image: busybox", "image: does-not-exist")
    repo.commit({"pre.yaml": text, "c.yaml": CONFIG.format(name="c", wave=0)})
    name = app(repo, cluster, namespace)

    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait(lambda: cluster.get("batch", "Job", namespace, "stuck"), "the hook")
    hub.delete(f"/api/v1/applications/{name}/operation")
    hub.wait_operation(name, "Failed")

    assert hub.wait(
        lambda: cluster.get("batch", "Job", namespace, "stuck") is None, "the hook to go"
    )


def test_two_syncs_at_once_give_one_operation(hub, cluster, repo, app, namespace):
    text = job("stuck", "PreSync").replace("image: busybox", "image: does-not-exist")
    repo.commit({"pre.yaml": text})
    name = app(repo, cluster, namespace)

    hub.post(f"/api/v1/applications/{name}/sync")
    refused = hub.post(f"/api/v1/applications/{name}/sync", status=400)

    assert refused["message"] == "another operation is already in progress"
    assert Operation.objects.filter(application__name=name).count() == 1


def test_delete_hooks_run_around_the_cascade(hub, cluster, repo, app, namespace):
    repo.commit(
        {
            "pre.yaml": job("before", "PreDelete"),
            "post.yaml": job("after", "PostDelete"),
            "c.yaml": CONFIG.format(name="c", wave=0),
        }
    )
    name = app(repo, cluster, namespace, policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")
    assert cluster.get("batch", "Job", namespace, "before") is None
    seen = set()

    hub.delete(f"/api/v1/applications/{name}", cascade="true")

    def gone():
        for hook in ("before", "after"):
            found = cluster.get("batch", "Job", namespace, hook)
            if found:
                seen.add(hook)
        return name not in {a["metadata"]["name"] for a in hub.get("/api/v1/applications")["items"]}

    hub.wait(gone, "the application to go", 90)
    assert seen == {"before", "after"}
    assert cluster.get("", "ConfigMap", namespace, "c") is None
    hub.wait(
        lambda: cluster.get("batch", "Job", namespace, "before") is None,
        "the hooks to be cleaned up",
    )


def hook_of_a_dead_worker(hub, place, repo, app, namespace):
    """Return (application, run, number of the step) of a worker that dies as it creates a hook."""
    repo.commit({"pre.yaml": job("pre", "PreSync"), "c.yaml": CONFIG.format(name="c", wave=0)})
    name = app(repo, place, namespace)
    hub.wait_status(name, "OutOfSync")
    hub.pool.stop(timeout=5)
    hub.post(f"/api/v1/applications/{name}/sync")
    operation = Operation.objects.select_related("application__cluster").get(application__name=name)
    run = planning.load(operation)
    planning.prepare(run)
    number = next(n for n, s in enumerate(run.steps) if s.key.name == "pre")
    applying.execute(run, number, 0)
    return name, run, number


def test_a_hook_whose_worker_died_is_not_run_twice(hub, cluster, repo, app, namespace):
    name, run, number = hook_of_a_dead_worker(hub, cluster, repo, app, namespace)
    created = cluster.get("batch", "Job", namespace, "pre")["metadata"]["uid"]
    steps = [s.to_json() for s in run.steps]
    steps[number]["status"] = planning.APPLYING
    Operation.objects.filter(pk=run.operation.pk).update(steps=steps, is_planned=True)
    hub.stop()
    hub.start()

    hub.wait_operation(name, seconds=60)
    assert cluster.get("batch", "Job", namespace, "pre")["metadata"]["uid"] == created


def test_a_source_that_is_permitted_no_more_gives_no_hooks_of_the_deletion(
    hub, sandbox, repo, app, namespace
):
    repo.commit({"pre.yaml": job("before", "PreDelete"), "c.yaml": CONFIG.format(name="c", wave=0)})
    name = app(repo, sandbox, namespace, policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")
    path, project = f"/api/v1/applications/{name}", Project.objects.get(name="default")
    narrow = {**project.spec, "sourceRepos": ["https://git.example/other"]}
    Project.objects.filter(name="default").update(spec=narrow)

    hub.delete(path, cascade="true")

    message = hub.condition(name, "DeletionError")["message"]
    assert "is not permitted in project 'default'" in message and "remove the finalizer" in message
    assert sandbox.get("batch", "Job", namespace, "before") is None
    assert sandbox.get("", "ConfigMap", namespace, "c") is not None
    kept = ["resources-finalizer.argocd.argoproj.io"]
    assert kept[0] in hub.application(name)["metadata"]["finalizers"]
    patch = json.dumps({"metadata": {"finalizers": kept}})
    hub.call("PATCH", path, {"patch": patch, "patchType": "merge"})
    hub.wait(
        lambda: not Application.objects.filter(name=name).exists(), "the application to go", 60
    )
    assert sandbox.get("", "ConfigMap", namespace, "c") is None


def test_terminate_deletes_a_hook_whose_worker_died(hub, sandbox, repo, app, namespace):
    name, run, number = hook_of_a_dead_worker(hub, sandbox, repo, app, namespace)
    steps = [s.to_json() for s in run.steps]
    steps[number]["status"] = planning.APPLYING
    Operation.objects.filter(pk=run.operation.pk).update(steps=steps, is_planned=True)
    hub.delete(f"/api/v1/applications/{name}/operation")

    hub.stop()
    hub.start()

    hub.wait_operation(name, "Failed", seconds=60)
    assert hub.wait(lambda: sandbox.get("batch", "Job", namespace, "pre") is None, "the hook to go")


def test_a_sync_fails_when_its_running_hooks_have_ended(hub, cluster, repo, app, namespace):
    slow = job("slow", "PreSync").replace("image: busybox", "image: does-not-exist")
    repo.commit({"bad.yaml": job("bad", "PreSync", code=1), "slow.yaml": slow})
    name = app(repo, cluster, namespace)

    hub.post(f"/api/v1/applications/{name}/sync")

    def hooks():
        state = hub.application(name)["status"].get("operationState", {})
        found = (state.get("syncResult") or {}).get("resources") or []
        return {r["name"]: r.get("hookPhase") for r in found} == {
            "bad": "Failed",
            "slow": "Running",
        }

    hub.wait(hooks, "the failure of one")
    assert "completion of hook" in hub.application(name)["status"]["operationState"]["message"]
    hub.delete(f"/api/v1/applications/{name}/operation")
    hub.wait_operation(name, "Failed")
    hub.wait(lambda: cluster.get("batch", "Job", namespace, "slow") is None, "the hook to go")
