"""Hooks of an application's deletion, on a genuine control plane."""

import json

import pytest

from projects.models import Application

pytestmark = pytest.mark.controlplane


def job(name, phase, code=0, image="busybox", finished=None, **notes):
    texts = {
        f"argocd.argoproj.io/{k.replace('_', '-')}": v for k, v in {"hook": phase, **notes}.items()
    }
    named = {"generateName": name} if name.endswith("-") else {"name": name}
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}
    template = {"metadata": {"annotations": {"controlplane/exit-code": str(code)}}, "spec": pod}
    spec = {"backoffLimit": 0, "template": template}
    if finished is not None:
        spec["ttlSecondsAfterFinished"] = finished
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**named, "annotations": texts},
        "spec": spec,
    }


CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}}


def files(**manifests):
    return {f"{name}.json": json.dumps(manifest) for name, manifest in manifests.items()}


class Watched:
    """The Jobs and the ConfigMap of a namespace, in the order in which they came and went."""

    def __init__(self, hub, place, namespace, name):
        self.hub, self.place, self.namespace, self.name = hub, place, namespace, name
        self.jobs, self.order = {}, []

    def look(self):
        kind = self.place.kind("batch", "Job")
        listed = self.place.connection.request("GET", kind.path(self.namespace))["items"]
        had = self.place.get("", "ConfigMap", self.namespace, "c") is not None
        for item in listed:
            uid, name = item["metadata"]["uid"], item["metadata"]["name"]
            if uid not in self.jobs:
                self.jobs[uid] = name
                self.order.append((name, had))
        return listed

    def until_gone(self):
        def gone():
            self.look()
            return not Application.objects.filter(name=self.name).exists()

        self.hub.wait(gone, "the application to go", 60)


@pytest.fixture
def applied(hub, genuine, repo, app, namespace):
    def create(**manifests):
        repo.commit(files(c=CONFIG, **manifests))
        policy = {"automated": {}, "syncOptions": ["CreateNamespace=true"]}
        name = app(repo, genuine, namespace, policy=policy)
        hub.wait_status(name, "Synced", "Healthy")
        hub.wait_operation(name)
        watched = Watched(hub, genuine, namespace, name)
        watched.look()
        return watched

    return create


def delete(hub, name):
    hub.delete(f"/api/v1/applications/{name}", cascade="true")


def test_a_hook_with_a_generated_name_runs_before_what_it_guards_goes(hub, applied):
    found = applied(j=job("bye-", "PreDelete"))

    delete(hub, found.name)
    found.until_gone()

    [(name, had)] = found.order
    assert name.startswith("bye-") and "-predelete-" in name
    assert had
    hub.wait(lambda: not found.look(), "the hook to go")


def test_a_job_of_the_sync_runs_again_in_the_deletion(hub, applied):
    found = applied(j=job("both", "PostSync,PreDelete"), k=job("bye", "PreDelete"))
    assert [name for name, _ in found.order] == ["both"]
    # What a sync has run is shown; what only a deletion runs is not there yet.
    hub.get(f"/api/v1/applications/{found.name}", refresh="normal")
    rows = hub.application(found.name)["status"]["resources"]
    assert [row["name"] for row in rows if row.get("hook")] == ["both"]

    delete(hub, found.name)
    found.until_gone()

    assert sorted(name for name, _ in found.order) == ["both", "both", "bye"]
    assert all(had for name, had in found.order[1:])


def test_hooks_of_a_deletion_run_wave_after_wave(hub, applied):
    waves = {
        n: job(n, "PreDelete", sync_wave=str(w))
        for n, w in (("third", 5), ("first", -1), ("second", 0))
    }
    found = applied(**waves, p=job("last", "PostDelete"))

    delete(hub, found.name)
    overlaps = []

    def gone():
        running = [
            i["metadata"]["name"] for i in found.look() if not i.get("status", {}).get("succeeded")
        ]
        overlaps.extend([running] if len(running) > 1 else [])
        return not Application.objects.filter(name=found.name).exists()

    hub.wait(gone, "the application to go", 60)

    assert found.order == [("first", True), ("second", True), ("third", True), ("last", False)]
    assert overlaps == []


def test_a_hook_of_the_deletion_that_a_ttl_removes_still_counts(hub, applied):
    found = applied(a=job("a", "PreDelete", finished=0), b=job("b", "PreDelete", sync_wave="1"))

    delete(hub, found.name)
    found.until_gone()

    assert [name for name, _ in found.order] == ["a", "b"]


OTHER_HOOK = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "other", "annotations": {"argocd.argoproj.io/hook": "PreDelete"}},
}


@pytest.mark.parametrize("corrected", [job("j", "PreDelete"), OTHER_HOOK], ids=["it", "another"])
def test_a_failing_hook_guards_until_a_commit_corrects_it(corrected, hub, repo, applied):
    found = applied(j=job("j", "PreDelete", code=1))

    delete(hub, found.name)
    message = hub.condition(found.name, "DeletionError")["message"]
    hub.wait(lambda: found.look() and len(found.jobs) > 1, "the hook to run again", 40)

    assert "PreDelete hook batch/Job" in message and "failed: " in message
    assert "remove the finalizer pre-delete-finalizer.argocd.argoproj.io" in message
    assert all(had for _, had in found.order)
    repo.commit(files(j=corrected))
    found.until_gone()
    assert found.place.get("", "ConfigMap", found.namespace, "c") is None
    # What ran from the newer commit is cleaned up too.
    assert found.place.get("", "ConfigMap", found.namespace, "other") is None


def test_a_failing_hook_is_given_up_by_its_finalizer(hub, applied):
    found = applied(j=job("j", "PostDelete", code=1))

    delete(hub, found.name)
    hub.condition(found.name, "DeletionError")
    assert found.place.get("", "ConfigMap", found.namespace, "c") is None
    patch = json.dumps({"metadata": {"finalizers": []}})
    hub.call("PATCH", f"/api/v1/applications/{found.name}", {"patch": patch, "patchType": "merge"})
    found.until_gone()

    # Nothing of the hub holds the hook, and with it the namespace.
    hub.wait(
        lambda: not any(i["metadata"].get("finalizers") for i in found.look()),
        "the hook to be let go",
    )


def test_a_hook_that_cannot_be_created_is_reported_with_the_next_step(hub, applied):
    odd = job("j", "PreDelete")
    odd["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    found = applied(j=odd)

    delete(hub, found.name)
    message = hub.condition(found.name, "DeletionError")["message"]

    assert "restartPolicy" in message and "remove the finalizer" in message
    assert found.place.get("", "ConfigMap", found.namespace, "c") is not None
