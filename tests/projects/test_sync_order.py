"""What a sync does in which order, and what it creates anew, on a genuine control plane."""

import json

import pytest

pytestmark = pytest.mark.controlplane


def options(*items, **policy):
    return {"syncOptions": ["CreateNamespace=true", *items], **policy}


def definition(group, *, fields, versions=("v1",), scope="Namespaced"):
    shape = {"type": "object", "properties": {f: {"type": "string"} for f in fields}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": shape}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gizmos.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"kind": "Gizmo", "plural": "gizmos", "singular": "gizmo"},
            "versions": [
                {"name": v, "served": True, "storage": v == versions[-1], "schema": schema}
                for v in versions
            ],
        },
    }


def gizmo(group, spec, version="v1", **notes):
    metadata = {"name": "g", "annotations": notes}
    return {"apiVersion": f"{group}/{version}", "kind": "Gizmo", "metadata": metadata, "spec": spec}


def document(kind, name, wave=0, api="v1", **body):
    notes = {"argocd.argoproj.io/sync-wave": str(wave)}
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "annotations": notes},
        **body,
    }


def job(name, image="busybox", command=0, **notes):
    spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}
    exits = {"metadata": {"annotations": {"controlplane/exit-code": str(command)}}, "spec": spec}
    found = document("Job", name, api="batch/v1", spec={"backoffLimit": 0, "template": exits})
    found["metadata"]["annotations"] = {
        f"argocd.argoproj.io/{k.replace('_', '-')}": v for k, v in notes.items()
    }
    return found


def files(**manifests):
    return {f"{name}.json": json.dumps(manifest) for name, manifest in manifests.items()}


def sync(hub, name, phase="Succeeded", **body):
    hub.post(f"/api/v1/applications/{name}/sync", body)
    return hub.wait_operation(name, phase, 60)


def refreshed(hub, name):
    return hub.get(f"/api/v1/applications/{name}", refresh="normal")


def uid(place, group, kind, namespace, name):
    found = place.get(group, kind, namespace, name)
    return found and found["metadata"]["uid"]


def test_a_definition_and_what_uses_its_new_field_or_version(hub, genuine, repo, app, namespace):
    group = f"{namespace}.example.org"
    repo.commit(files(crd=definition(group, fields=["one"]), g=gizmo(group, {"one": "1"})))
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)

    repo.commit(
        files(
            crd=definition(group, fields=["one", "two"]), g=gizmo(group, {"one": "1", "two": "2"})
        )
    )
    refreshed(hub, name)
    sync(hub, name)
    assert genuine.get(group, "Gizmo", namespace, "g")["spec"] == {"one": "1", "two": "2"}

    both = definition(group, fields=["one", "two", "three"], versions=("v1", "v2"))
    repo.commit(files(crd=both, g=gizmo(group, {"three": "3"}, "v2")))
    refreshed(hub, name)
    sync(hub, name)
    assert genuine.get(group, "Gizmo", namespace, "g")["spec"] == {"three": "3"}
    hub.wait_status(name, "Synced", "Healthy")

    unchecked = {"argocd.argoproj.io/sync-options": "Validate=false"}
    more = definition(group, fields=["three", "four"], versions=("v1", "v2"))
    repo.commit(files(crd=more, g=gizmo(group, {"four": "4"}, "v2", **unchecked)))
    refreshed(hub, name)
    sync(hub, name)
    assert genuine.get(group, "Gizmo", namespace, "g")["spec"] == {"four": "4"}


def test_a_resource_moves_to_a_version_that_has_a_new_field(hub, genuine, repo, app, namespace):
    group = f"{namespace}.example.org"
    first = definition(group, fields=["one"])
    repo.commit(files(crd=first, g=gizmo(group, {"one": "1"})))
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    hub.wait_status(name, "Synced")

    second = definition(group, fields=["one", "two"], versions=("v2",))
    older = {**first["spec"]["versions"][0], "storage": False}
    second["spec"]["versions"].insert(0, older)
    repo.commit(files(crd=second, g=gizmo(group, {"one": "1", "two": "2"}, "v2")))
    refreshed(hub, name)
    sync(hub, name)

    assert genuine.get(group, "Gizmo", namespace, "g")["spec"] == {"one": "1", "two": "2"}
    hub.wait_status(name, "Synced", "Healthy")


def test_a_field_that_no_definition_has_stops_the_sync_before_anything_is_applied(
    hub, genuine, repo, app, namespace
):
    group = f"{namespace}.example.org"
    repo.commit(files(crd=definition(group, fields=["one"])))
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    hub.wait_status(name, "Synced")

    repo.commit(files(c=document("ConfigMap", "c", data={}), g=gizmo(group, {"nonsense": "1"})))
    refreshed(hub, name)

    assert "nonsense" in sync(hub, name, "Failed")["message"]
    assert genuine.get("", "ConfigMap", namespace, "c") is None


def test_a_field_that_leaves_the_definition_is_out_of_sync(hub, genuine, repo, app, namespace):
    """The resource keeps its version: the API server shows it without the field from then on."""
    group = f"{namespace}.example.org"
    genuine.apply(definition(group, fields=["one", "two"]))
    repo.commit(files(g=gizmo(group, {"one": "1", "two": "2"})))
    name = app(repo, genuine, namespace, policy={"automated": {}, **options()})
    hub.wait_status(name, "Synced")

    genuine.apply(definition(group, fields=["one"]))

    hub.wait_status(name, "OutOfSync")
    hub.wait(lambda: genuine.kind(group, "Gizmo"), "the kind")
    assert genuine.get(group, "Gizmo", namespace, "g")["spec"] == {"one": "1"}


def test_a_resource_of_a_cluster_scoped_kind_that_comes_with_it(hub, genuine, repo, app, namespace):
    group = f"{namespace}.example.org"
    crd = definition(group, fields=["one"], scope="Cluster")
    repo.commit(files(crd=crd, g=gizmo(group, {"one": "1"})))
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")

    sync(hub, name)

    assert genuine.get(group, "Gizmo", "", "g")["spec"] == {"one": "1"}
    hub.wait_status(name, "Synced", "Healthy")


@pytest.mark.parametrize(
    "wave", [pytest.param(-1, id="an earlier wave"), pytest.param(0, id="the same wave")]
)
def test_a_quota_is_raised_before_what_needs_it(hub, genuine, repo, app, namespace, wave):
    def quota(count):
        return document("ResourceQuota", "q", wave, spec={"hard": {"count/services": str(count)}})

    def service(name):
        return document("Service", name, spec={"ports": [{"port": 80}], "selector": {"a": "b"}})

    repo.commit(files(q=quota(1), a=service("a")))
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    hub.wait(
        lambda: (
            (genuine.get("", "ResourceQuota", namespace, "q").get("status") or {}).get("used", {})
            == {"count/services": "1"}
        ),
        "the quota to be used",
    )

    repo.commit(files(q=quota(2), b=service("b")))
    refreshed(hub, name)
    sync(hub, name)

    assert genuine.get("", "Service", namespace, "b")


WEBHOOK = {
    "name": "check.example.org",
    "admissionReviewVersions": ["v1"],
    "failurePolicy": "Fail",
    "timeoutSeconds": 1,
}


def test_a_webhook_that_an_earlier_wave_removes_stops_nothing(hub, genuine, repo, app, namespace):
    hook = {
        **WEBHOOK,
        "sideEffects": "None",
        "clientConfig": {"service": {"name": "gone", "namespace": namespace}},
        "rules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["*"],
                "resources": ["secrets"],
            }
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
    }
    kind = "ValidatingWebhookConfiguration"
    api = "admissionregistration.k8s.io"
    guard = document(kind, namespace, -1, f"{api}/v1", webhooks=[hook])
    repo.commit(files(w=guard))
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    refreshed(hub, name)

    repo.commit(files(w={**guard, "webhooks": []}, s=document("Secret", "s")))
    refreshed(hub, name)
    sync(hub, name)

    assert genuine.get("", "Secret", namespace, "s")


@pytest.mark.parametrize(
    ("app_options", "notes"),
    [
        pytest.param((), {"sync_options": "Force=true,Replace=true"}, id="both on the Job"),
        pytest.param(
            ("Replace=true",), {"sync_options": "Force=true"}, id="Replace on the application"
        ),
        pytest.param((), {"sync_options": "Force=true"}, id="Force alone"),
    ],
)
def test_a_job_whose_image_changes_is_recreated_once(
    hub, genuine, repo, app, namespace, app_options, notes
):
    repo.commit(files(j=job("j", "busybox:1", **notes)))
    name = app(repo, genuine, namespace, policy=options(*app_options))
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    first = uid(genuine, "batch", "Job", namespace, "j")
    hub.wait_status(name, "Synced", "Healthy")

    sync(hub, name)
    assert uid(genuine, "batch", "Job", namespace, "j") == first

    repo.commit(files(j=job("j", "busybox:2", **notes)))
    refreshed(hub, name)
    sync(hub, name)
    second = uid(genuine, "batch", "Job", namespace, "j")
    assert second != first
    hub.wait_status(name, "Synced", "Healthy")

    sync(hub, name)
    assert uid(genuine, "batch", "Job", namespace, "j") == second


def test_a_job_with_a_finalizer_is_awaited_before_it_is_recreated(
    hub, genuine, repo, app, namespace
):
    notes = {"sync_options": "Force=true,Replace=true"}
    repo.commit(files(j=job("j", "busybox:1", **notes)))
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    first = uid(genuine, "batch", "Job", namespace, "j")
    genuine.patch(
        "batch", "Job", namespace, "j", {"metadata": {"finalizers": ["example.org/hold"]}}
    )
    repo.commit(files(j=job("j", "busybox:2", **notes)))
    refreshed(hub, name)

    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait(
        lambda: (
            "waiting for deletion"
            in hub.application(name)["status"]["operationState"].get("message", "")
        ),
        "the wait",
    )
    assert uid(genuine, "batch", "Job", namespace, "j") == first
    genuine.patch("batch", "Job", namespace, "j", {"metadata": {"finalizers": None}})
    hub.wait_operation(name)

    found = genuine.get("batch", "Job", namespace, "j")
    assert found["metadata"]["uid"] != first
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "busybox:2"


@pytest.mark.parametrize("words", ["Force=true,Replace=true", "Force=true"])
def test_what_could_not_be_created_anew_is_not_deleted(hub, genuine, repo, app, namespace, words):
    notes = {"sync_options": words}
    repo.commit(files(j=job("j", "busybox:1", **notes)))
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    first = uid(genuine, "batch", "Job", namespace, "j")
    broken = job("j", "busybox:2", **notes)
    broken["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    repo.commit(files(j=broken))
    refreshed(hub, name)

    assert "restartPolicy" in sync(hub, name, "Failed")["message"]
    assert uid(genuine, "batch", "Job", namespace, "j") == first


def test_what_holds_others_is_never_created_anew(hub, genuine, repo, app, namespace):
    group = f"{namespace}.example.org"
    forced = {"argocd.argoproj.io/sync-options": "Force=true"}
    crd = definition(group, fields=["one"])
    crd["metadata"]["annotations"] = forced
    repo.commit(files(crd=crd))
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    first = uid(genuine, "apiextensions.k8s.io", "CustomResourceDefinition", "", f"gizmos.{group}")
    repo.commit(files(crd={**crd, "spec": {**crd["spec"], "scope": "Cluster"}}))
    refreshed(hub, name)

    assert "immutable" in sync(hub, name, "Failed")["message"]
    found = uid(genuine, "apiextensions.k8s.io", "CustomResourceDefinition", "", f"gizmos.{group}")
    assert found == first


@pytest.mark.parametrize("before", ["", "kubectl-client-side-apply"], ids=["ours", "of kubectl"])
def test_a_field_that_leaves_git_leaves_what_is_replaced(
    hub, genuine, repo, app, namespace, before
):
    def config(data):
        found = document("ConfigMap", "c", data=data)
        found["metadata"]["annotations"] = {"argocd.argoproj.io/sync-options": "Replace=true"}
        return found

    first = config({"a": "1", "b": "1", "c": "1"})
    if before:
        genuine.apply(document("Namespace", namespace))
        path = genuine.kind("", "ConfigMap").path(namespace)
        genuine.connection.request("POST", path, first, query={"fieldManager": before})
    repo.commit(files(c=first))
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    for data in ({"a": "2", "b": "1"}, {"b": "1"}):
        repo.commit(files(c=config(data)))
        refreshed(hub, name)
        hub.wait_status(name, "OutOfSync")
        sync(hub, name)
        found = genuine.get("", "ConfigMap", namespace, "c")
        assert found["data"] == data
        managers = [(e["manager"], e["operation"]) for e in found["metadata"]["managedFields"]]
        assert managers == [("argocd-controller", "Apply")]
        hub.wait_status(name, "Synced")


def test_an_element_that_leaves_git_leaves_what_is_replaced(hub, genuine, repo, app, namespace):
    def service(**ports):
        listed = [{"name": n, "port": p} for n, p in ports.items()]
        found = document("Service", "s", spec={"selector": {"app": "s"}, "ports": listed})
        found["metadata"]["annotations"] = {"argocd.argoproj.io/sync-options": "Replace=true"}
        return found

    repo.commit(files(s=service(web=80)))
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")
    sync(hub, name)
    for ports in ({"web": 80, "more": 81}, {"web": 80}):
        repo.commit(files(s=service(**ports)))
        refreshed(hub, name)
        hub.wait_status(name, "OutOfSync")
        sync(hub, name)
        found = genuine.get("", "Service", namespace, "s")["spec"]["ports"]
        assert {p["name"]: p["port"] for p in found} == ports
        hub.wait_status(name, "Synced")


def test_what_was_applied_is_shown_as_it_is_while_a_later_wave_waits(
    hub, genuine, repo, app, namespace
):
    labels = {"app": "slow"}
    pod = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "m", "image": "does-not-exist"}]},
    }
    slow = document(
        "Deployment",
        "slow",
        1,
        "apps/v1",
        spec={"selector": {"matchLabels": labels}, "template": pod},
    )
    late = document("ConfigMap", "late", 2, data={})
    repo.commit(files(a=document("ConfigMap", "early", data={}), b=slow, c=late))
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")

    hub.post(f"/api/v1/applications/{name}/sync")

    def shown():
        found = hub.application(name)["status"]["resources"]
        return {r["name"]: (r["status"], r.get("health", {}).get("status")) for r in found} == {
            "early": ("Synced", None),
            "slow": ("Synced", "Progressing"),
            "late": ("OutOfSync", "Missing"),
        }

    hub.wait(shown, "the true state of each", 8)
    assert hub.application(name)["status"]["operationState"]["phase"] == "Running"
    hub.delete(f"/api/v1/applications/{name}/operation")
    hub.wait_operation(name, "Failed")


def test_a_hook_that_succeeded_is_deleted_at_once(hub, genuine, repo, app, namespace):
    gone = {"hook": "PreSync", "hook_delete_policy": "HookSucceeded"}
    repo.commit(files(j=job("j", **gone), c=document("ConfigMap", "c", data={})))
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")

    sync(hub, name)

    assert hub.wait(
        lambda: genuine.get("batch", "Job", namespace, "j") is None, "the hook to go", 5
    )


def test_a_resource_without_a_name_is_refused_in_words(hub, genuine, repo, app, namespace):
    nameless = document("ConfigMap", "x", data={})
    nameless["metadata"] = {"generateName": "x-"}
    repo.commit(files(c=nameless))
    name = app(repo, genuine, namespace, policy=options())
    hub.wait_status(name, "OutOfSync")

    assert "set metadata.name" in sync(hub, name, "Failed")["message"]
