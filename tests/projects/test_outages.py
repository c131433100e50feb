"""Bad days: each gives a clear condition on that application alone, loses nothing, and passes when
its cause goes.
"""

import threading
import time

import pytest
from django.db import connection, connections
from django.utils import timezone
from support.wire import Wire

from clusters.models import Cluster
from clusters.watching import watch_probe
from projects.models import Application, GitRemote, Operation
from projects.operations import planning

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n"
AUTO = {"automated": {"prune": True, "selfHeal": True}}


def look(hub, name, kind="normal"):
    return hub.get(f"/api/v1/applications/{name}", refresh=kind)


def test_repository_unreachable(hub, sandbox, repo, app, namespace):
    repo.commit({"c.yaml": CONFIG})
    good = app(repo, sandbox, namespace, policy=AUTO)
    hub.wait_status(good, "Synced", "Healthy")
    repo.server.down = True

    other = app(f"{repo.server.url}/other", sandbox, namespace, validate=False)
    condition = hub.condition(other, "ComparisonError")
    look(hub, good)
    assert "other" in condition["message"]
    assert hub.condition(good, "ComparisonError")
    assert sandbox.get("", "ConfigMap", namespace, "c")

    repo.server.down = False
    GitRemote.objects.update(due_at=timezone.now())
    hub.wait_status(good, "Synced", "Healthy", seconds=40)


def test_wrong_credentials(hub, sandbox, repo, app, namespace):
    repo.commit({"c.yaml": CONFIG})
    repo.server.password = "s3cret-canary"
    name = app(repo, sandbox, namespace, validate=False)
    condition = hub.condition(name, "ComparisonError")
    assert "credentials" in condition["message"]

    refused = hub.post(
        "/api/v1/repositories",
        {"repo": repo.url, "username": "git", "password": "wrong-canary"},
        status=400,
    )
    assert "canary" not in str(refused)
    hub.post(
        "/api/v1/repositories", {"repo": repo.url, "username": "git", "password": "s3cret-canary"}
    )
    hub.wait_status(name, "OutOfSync")

    assert "canary" not in str(hub.get("/api/v1/repositories"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            {"source": {"targetRevision": "gone"}}, "unable to resolve 'gone'", id="revision gone"
        ),
        pytest.param(
            {"source": {"targetRevision": "0" * 40}}, "has no commit 0000", id="commit unknown"
        ),
        pytest.param({"path": "nowhere"}, "app path does not exist", id="path missing"),
        pytest.param({"path": "chart"}, "Chart.yaml", id="chart broken"),
        pytest.param({"path": "template"}, "nope", id="template broken"),
        pytest.param({"path": "malformed"}, "malformed/x.yaml: line", id="YAML malformed"),
        pytest.param({"path": "bomb"}, "aliases", id="YAML bomb"),
        pytest.param({"path": "names"}, "aliases expand to", id="one text at many keys"),
        pytest.param({"path": "kustomize"}, "kustomize", id="kustomization broken"),
        pytest.param({"path": "jsonnet"}, "jsonnet/x.jsonnet", id="jsonnet broken"),
        pytest.param({"path": "escape"}, "out-of-bounds", id="link out of the repository"),
        pytest.param({"path": "noname"}, "metadata.name", id="manifest without a name"),
    ],
)
def test_a_source_that_cannot_be_rendered(hub, sandbox, repo, app, namespace, change, words):
    bomb = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\na: &a [x,x,x,x,x,x,x,x,x]\n"
        "b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"
    )
    named = "".join(f"  a{n}: *a\n" for n in range(180))
    names = (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata:\n  a: &a {'x' * 100_000}\n"
        f"{named}"
    )
    repo.write(
        {
            "names/x.yaml": names,
            "good/c.yaml": CONFIG,
            "chart/Chart.yaml": "name: [",
            "template/Chart.yaml": "apiVersion: v2\nname: t\nversion: 1.0.0\n",
            "template/templates/a.yaml": "{{ nope }}",
            "malformed/x.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x\n",
            "bomb/b.yaml": bomb,
            "kustomize/kustomization.yaml": "resources: [missing.yaml]\n",
            "jsonnet/x.jsonnet": "{ a: }",
            "noname/x.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n",
        }
    )
    (repo.folder / "escape").mkdir()
    (repo.folder / "escape" / "x.yaml").symlink_to("/etc/passwd")
    repo.commit()
    good = app(repo, sandbox, namespace, path="good", policy=AUTO)
    bad = app(repo, sandbox, namespace, validate=False, **change)

    condition = hub.condition(bad, "ComparisonError")

    assert words.lower() in condition["message"].lower()
    assert "root:" not in condition["message"]
    assert hub.application(bad)["status"]["sync"]["status"] == "Unknown"
    hub.wait_status(good, "Synced", "Healthy")


def test_a_broken_source_recovers_with_the_next_commit(hub, sandbox, repo, app, namespace):
    repo.commit({"c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c\n"})
    name = app(repo, sandbox, namespace, policy=AUTO, validate=False)
    hub.condition(name, "ComparisonError")

    revision = repo.commit({"c.yaml": CONFIG})
    push = {"ref": "refs/heads/main", "after": revision, "repository": {"clone_url": repo.url}}
    hub.client.post(
        "/api/webhook", push, content_type="application/json", headers={"X-GitHub-Event": "push"}
    )

    done = hub.wait_status(name, "Synced", "Healthy", revision)
    assert not done["status"].get("conditions")


def test_document_too_large(hub, sandbox, repo, app, namespace, settings):
    settings.MAX_MANIFEST_BYTES = 10_000
    repo.commit({"c.yaml": CONFIG, "big.yaml": "# " + "x" * 20_000})
    name = app(repo, sandbox, namespace, validate=False)

    assert (
        "exceeded max combined manifest file size"
        in hub.condition(name, "ComparisonError")["message"]
    )


def test_duplicate_resource(hub, sandbox, repo, app, namespace):
    repo.commit({"a.yaml": CONFIG, "b.yaml": CONFIG.replace("'1'", "'2'")})
    name = app(repo, sandbox, namespace, policy=AUTO)

    condition = hub.condition(name, "RepeatedResourceWarning")
    hub.wait_status(name, "Synced", "Healthy")

    assert "appeared 2 times" in condition["message"]
    assert sandbox.get("", "ConfigMap", namespace, "c")["data"] == {"a": "2"}


def test_cluster_down_during_a_sync_and_back(hub, sandbox, repo, app, namespace):
    repo.commit({"c.yaml": CONFIG})
    name = app(repo, sandbox, namespace)
    hub.wait_status(name, "OutOfSync")
    sandbox.sandbox.down = True

    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait(
        lambda: (
            "does not answer"
            in str(hub.application(name)["status"].get("operationState", {}).get("message"))
        ),
        "the reason",
    )
    assert hub.application(name)["status"]["operationState"]["phase"] == "Running"
    sandbox.sandbox.down = False

    hub.wait_operation(name, seconds=60)
    assert sandbox.get("", "ConfigMap", namespace, "c")


def test_an_unreachable_cluster_does_not_delay_others(
    hub, sandbox, sandbox_server, repo, app, namespace
):
    west = sandbox_server.sandboxes["west"]
    config = {
        "bearerToken": "sandbox-token",
        "tlsClientConfig": {"caData": sandbox_server.certificate},
    }
    hub.post(
        "/api/v1/clusters", {"server": sandbox_server.url("west"), "name": "west", "config": config}
    )
    hub.wait(lambda: Cluster.objects.filter(name="west", is_synced=True).exists(), "west")
    west.down = True
    for waiter in list(west.store.waiters):
        waiter.set()
    hub.wait(
        lambda: Cluster.objects.filter(name="west", connection="Failed").exists(),
        "west to be seen away",
    )
    repo.commit({"c.yaml": CONFIG})
    bad = app(repo, sandbox_server.url("west"), namespace, policy=AUTO)
    good = app(repo, sandbox, namespace, policy=AUTO)

    hub.wait_status(good, "Synced", "Healthy")
    assert "does not answer" in hub.condition(bad, "ComparisonError")["message"]
    [shown] = hub.get("/api/v1/clusters", name="west")["items"]
    assert shown["connectionState"]["status"] == "Failed"
    west.down = False
    hub.wait_status(bad, "Synced", "Healthy", seconds=60)


def test_a_silent_cluster_becomes_unreachable(hub, cluster, repo, app, namespace, monkeypatch):
    """Its connections stay open, as when a network drops packets: no watch ends, and nothing comes
    any more.
    """
    monkeypatch.setattr(watch_probe, "INTERVAL_SECONDS", 0.5)
    monkeypatch.setattr(watch_probe, "TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(watch_probe, "PAUSE_SECONDS", 0.2)
    wire = Wire(cluster.server)
    hub.post("/api/v1/clusters", {"server": wire.url, "name": "wired", "config": cluster.config})
    hub.wait(lambda: Cluster.objects.filter(name="wired", is_synced=True).exists(), "wired")
    repo.commit({"c.yaml": CONFIG})
    name = app(repo, wire.url, namespace)
    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait_status(name, "Synced", "Healthy")

    wire.cut()

    hub.wait_status(name, "Unknown")
    assert "does not answer" in hub.condition(name, "ComparisonError")["message"]
    [shown] = hub.get("/api/v1/clusters", name="wired")["items"]
    assert shown["connectionState"]["status"] == "Failed"
    assert "no answer within" in shown["connectionState"]["message"]
    cluster.patch("", "ConfigMap", namespace, "c", {"data": {"a": "2"}})
    wire.mend()
    hub.wait_status(name, "OutOfSync", seconds=60)
    wire.close()


CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
WIDGET = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 3}\n"


def test_definition_missing_then_appearing(hub, cluster, repo, app, namespace):
    repo.commit({"w.yaml": WIDGET})
    name = app(repo, cluster, namespace)
    hub.wait_status(name, "OutOfSync")
    hub.post(f"/api/v1/applications/{name}/sync")
    state = hub.wait_operation(name, "Failed")
    assert "Widget CRD is installed" in state["message"]

    try:
        repo.commit({"crd.yaml": CRD})
        look(hub, name)
        hub.post(f"/api/v1/applications/{name}/sync")
        hub.wait_status(name, "Synced", "Healthy", seconds=60)
        assert cluster.get("example.com", "Widget", namespace, "w")["spec"] == {"size": 3}
    finally:
        cluster.delete(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            "",
            "widgets.example.com",
            propagation="Background",
        )


@pytest.mark.controlplane
def test_forbidden_by_the_cluster(hub, control_plane, genuine, repo, app, namespace):
    config = {"bearerToken": "viewer-token", "tlsClientConfig": {"caData": control_plane["ca"]}}
    server = control_plane["server"].replace("127.0.0.1", "localhost")
    hub.post("/api/v1/clusters", {"server": server, "name": "viewer", "config": config})
    hub.wait(lambda: Cluster.objects.filter(name="viewer", is_synced=True).exists(), "viewer", 40)
    repo.commit({"c.yaml": CONFIG})
    name = app(repo, server, namespace, policy={"syncOptions": []})
    hub.wait_status(name, "OutOfSync", "Missing")

    hub.post(f"/api/v1/applications/{name}/sync")
    state = hub.wait_operation(name, "Failed")

    assert "forbidden" in state["message"]
    assert "viewer" in state["message"]


def test_namespace_terminating(hub, sandbox, repo, app, namespace):
    sandbox.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "finalizers": ["example.com/hold"]},
        }
    )
    sandbox.delete("", "Namespace", "", namespace)
    repo.commit({"c.yaml": CONFIG})
    name = app(
        repo,
        sandbox,
        namespace,
        policy={
            "syncOptions": [],
            "retry": {"limit": 5, "backoff": {"duration": "1s", "maxDuration": "1s"}},
        },
    )

    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait(
        lambda: (
            "terminated"
            in str(hub.application(name)["status"].get("operationState", {}).get("message"))
        ),
        "the reason",
    )
    sandbox.patch("", "Namespace", "", namespace, {"metadata": {"finalizers": None}})
    hub.wait(lambda: sandbox.get("", "Namespace", "", namespace) is None, "the namespace to go")
    sandbox.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})

    assert hub.wait_operation(name, seconds=40)


def test_a_worker_that_dies_in_the_middle_of_a_wave(hub, sandbox, repo, app, namespace):
    waves = {
        f"{n}.yaml": CONFIG.replace(
            "name: c", f"name: c{n}, annotations: {{argocd.argoproj.io/sync-wave: '{n}'}}"
        )
        for n in range(4)
    }
    repo.commit(waves)
    name = app(repo, sandbox, namespace)
    hub.wait_status(name, "OutOfSync")
    hub.pool.stop(timeout=5)
    hub.post(f"/api/v1/applications/{name}/sync")
    operation = Operation.objects.get(application__name=name)

    # A dead worker leaves its claim and steps that it had begun to apply.
    run_half(operation)
    Operation.objects.filter(pk=operation.pk).update(
        claimed_until=timezone.now() + timezone.timedelta(seconds=3)
    )
    hub.stop()
    hub.start()

    hub.wait_operation(name, seconds=30)
    assert [sandbox.get("", "ConfigMap", namespace, f"c{n}")["data"] for n in range(4)] == [
        {"a": "1"}
    ] * 4


def run_half(operation):
    run = planning.load(
        Operation.objects.select_related("application__cluster").get(pk=operation.pk)
    )
    planning.prepare(run)
    steps = [s.to_json() for s in run.steps]
    steps[0]["status"] = planning.APPLYING
    Operation.objects.filter(pk=operation.pk).update(steps=steps, is_planned=True)


def test_the_database_is_locked_for_a_while(hub, sandbox, repo, app, namespace):
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite locks as a whole")
    repo.commit({"c.yaml": CONFIG})
    name = app(repo, sandbox, namespace, policy=AUTO)
    hub.wait_status(name, "Synced", "Healthy")
    held = threading.Event()

    def hold():
        with connections["default"].cursor() as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            held.set()
            time.sleep(2)
            cursor.execute("ROLLBACK")
        connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(5)
    sandbox.delete("", "ConfigMap", namespace, "c")
    thread.join()

    assert hub.wait(lambda: sandbox.get("", "ConfigMap", namespace, "c"), "the healed resource")


def test_the_destination_is_removed(hub, sandbox, repo, app, namespace):
    repo.commit({"c.yaml": CONFIG})
    name = app(repo, sandbox, namespace, policy=AUTO)
    hub.wait_status(name, "Synced", "Healthy")

    hub.delete("/api/v1/clusters/east", **{"id.type": "name"})
    condition = hub.condition(name, "InvalidSpecError")
    assert "there are no clusters with this URL" in condition["message"]
    assert sandbox.get("", "ConfigMap", namespace, "c")

    sandbox.register()
    hub.wait_status(name, "Synced", "Healthy", seconds=40)
    hub.delete("/api/v1/clusters/east", **{"id.type": "name"})
    hub.condition(name, "InvalidSpecError")
    hub.delete(f"/api/v1/applications/{name}", cascade="true")
    hub.wait(lambda: not Application.objects.filter(name=name).exists(), "the application to go")
    assert sandbox.get("", "ConfigMap", namespace, "c")


def test_every_hint_is_lost(hub, sandbox, repo, app, namespace):
    """The broker is only a hint: with every message dropped, the sweep does the work."""
    hub.pool.put, put = (
        (
            lambda name, args, priority: (
                put(name, args, priority)
                if name in ("projects.sweep", *_found_by_sweep(priority))
                else None
            )
        ),
        hub.pool.put,
    )
    repo.commit({"c.yaml": CONFIG})
    name = app(repo, sandbox, namespace, policy=AUTO)

    assert hub.wait_status(name, "Synced", "Healthy")


def _found_by_sweep(priority):
    return (
        (
            "projects.refresh",
            "projects.sync",
            "projects.poll",
            "projects.live_changed",
            "projects.delete_application",
        )
        if priority >= 5
        else ()
    )
