import pytest

from hub.engine.errors import RuleError
from hub.engine.health import assess, ignores_health
from hub.engine.lua import health_script, run
from hub.engine.resource import ResourceKey
from hub.engine.status import (
    Assessment,
    Health,
    ResourceState,
    Sync,
    application_health,
    application_sync,
    worst,
)

H, P, D, S, U = (
    Health.HEALTHY,
    Health.PROGRESSING,
    Health.DEGRADED,
    Health.SUSPENDED,
    Health.UNKNOWN,
)


def resource(api_version, kind, spec=None, status=None, generation=1, **metadata):
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "x", "generation": generation, **metadata},
        "spec": spec or {},
        "status": status or {},
    }


def condition(kind, status="True", **fields):
    return {"conditions": [{"type": kind, "status": status, **fields}]}


def pod(status, policy="Always", **metadata):
    return resource("v1", "Pod", {"restartPolicy": policy}, status, **metadata)


waiting = {
    "containerStatuses": [
        {"name": "c", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}
    ],
    "phase": "Pending",
}
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
ended = {
    "phase": "Failed",
    "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 3}}}],
}


@pytest.mark.parametrize(
    ("manifest", "status", "words"),
    [
        pytest.param(
            resource("apps/v1", "Deployment", {"paused": True}), S, "paused", id="deployment paused"
        ),
        pytest.param(
            resource("apps/v1", "Deployment", {}, {"observedGeneration": 1}, 2),
            P,
            "observed deployment generation",
            id="deployment behind",
        ),
        pytest.param(
            resource(
                "apps/v1",
                "Deployment",
                {},
                {
                    "observedGeneration": 1,
                    **condition("Progressing", reason="ProgressDeadlineExceeded"),
                },
            ),
            D,
            "deadline",
            id="deployment late",
        ),
        pytest.param(
            resource(
                "apps/v1",
                "Deployment",
                {"replicas": 2},
                {"observedGeneration": 1, "updatedReplicas": 1},
            ),
            P,
            "1 out of 2",
            id="deployment updating",
        ),
        pytest.param(
            resource(
                "apps/v1",
                "Deployment",
                {},
                {"observedGeneration": 1, "updatedReplicas": 1, "replicas": 2},
            ),
            P,
            "old replicas",
            id="deployment old replicas",
        ),
        pytest.param(
            resource(
                "apps/v1",
                "Deployment",
                {},
                {"observedGeneration": 1, "updatedReplicas": 1, "replicas": 1},
            ),
            P,
            "available",
            id="deployment unavailable",
        ),
        pytest.param(
            resource(
                "apps/v1",
                "Deployment",
                {},
                {
                    "observedGeneration": 1,
                    "updatedReplicas": 1,
                    "replicas": 1,
                    "availableReplicas": 1,
                },
            ),
            H,
            "",
            id="deployment healthy",
        ),
        pytest.param(
            resource("apps/v1", "Deployment", {"replicas": 0}, {"observedGeneration": 1}),
            H,
            "",
            id="deployment of none",
        ),
        pytest.param(resource("apps/v1", "StatefulSet"), P, "observed", id="set new"),
        pytest.param(
            resource(
                "apps/v1",
                "StatefulSet",
                {"replicas": 2},
                {"observedGeneration": 1, "readyReplicas": 1},
            ),
            P,
            "1 pods",
            id="set unready",
        ),
        pytest.param(
            resource(
                "apps/v1",
                "StatefulSet",
                {"updateStrategy": {"rollingUpdate": {"partition": 0}}},
                {"observedGeneration": 1, "readyReplicas": 1},
            ),
            P,
            "partitioned",
            id="set partition",
        ),
        pytest.param(
            resource(
                "apps/v1",
                "StatefulSet",
                {"updateStrategy": {"rollingUpdate": {"partition": 0}}},
                {"observedGeneration": 1, "readyReplicas": 1, "updatedReplicas": 1},
            ),
            H,
            "complete",
            id="set done",
        ),
        pytest.param(
            resource(
                "apps/v1",
                "StatefulSet",
                {"updateStrategy": {"type": "OnDelete"}},
                {"observedGeneration": 1, "readyReplicas": 1},
            ),
            H,
            "ready pods",
            id="set on delete",
        ),
        pytest.param(
            resource(
                "apps/v1",
                "StatefulSet",
                {},
                {
                    "observedGeneration": 1,
                    "readyReplicas": 1,
                    "updateRevision": "b",
                    "currentRevision": "a",
                },
            ),
            P,
            "rolling update",
            id="set rolling",
        ),
        pytest.param(
            resource(
                "apps/v1",
                "StatefulSet",
                {},
                {
                    "observedGeneration": 1,
                    "readyReplicas": 1,
                    "updateRevision": "b",
                    "currentRevision": "b",
                },
            ),
            H,
            "",
            id="set healthy",
        ),
        pytest.param(resource("apps/v1", "DaemonSet"), P, "observed", id="daemon behind"),
        pytest.param(
            resource(
                "apps/v1",
                "DaemonSet",
                {"updateStrategy": {"type": "OnDelete"}},
                {"observedGeneration": 1},
            ),
            H,
            "",
            id="daemon on delete",
        ),
        pytest.param(
            resource(
                "apps/v1", "DaemonSet", {}, {"observedGeneration": 1, "desiredNumberScheduled": 1}
            ),
            P,
            "updated",
            id="daemon updating",
        ),
        pytest.param(
            resource(
                "apps/v1",
                "DaemonSet",
                {},
                {"observedGeneration": 1, "desiredNumberScheduled": 1, "updatedNumberScheduled": 1},
            ),
            P,
            "available",
            id="daemon unavailable",
        ),
        pytest.param(
            resource("apps/v1", "DaemonSet", {}, {"observedGeneration": 1}),
            H,
            "",
            id="daemon healthy",
        ),
        pytest.param(resource("apps/v1", "ReplicaSet"), P, "observed", id="replica set behind"),
        pytest.param(
            resource(
                "apps/v1",
                "ReplicaSet",
                {},
                {"observedGeneration": 1, **condition("ReplicaFailure", message="quota")},
            ),
            D,
            "quota",
            id="replica set failing",
        ),
        pytest.param(
            resource("apps/v1", "ReplicaSet", {}, {"observedGeneration": 1}),
            P,
            "available",
            id="replica set unavailable",
        ),
        pytest.param(
            resource("apps/v1", "ReplicaSet", {"replicas": 0}, {"observedGeneration": 1}),
            H,
            "",
            id="replica set healthy",
        ),
        pytest.param(pod(waiting), D, "no", id="pod back-off"),
        pytest.param(pod(waiting, "Never"), P, "", id="pod back-off without restart"),
        pytest.param(
            pod(waiting, "Never", annotations={"argocd.argoproj.io/ignore-restart-policy": "true"}),
            D,
            "no",
            id="pod ignoring its policy",
        ),
        pytest.param(pod({"phase": "Succeeded"}), H, "", id="pod succeeded"),
        pytest.param(pod(ended), D, "exit code 3", id="pod failed"),
        pytest.param(
            pod({"phase": "Failed", "message": "evicted"}),
            D,
            "evicted",
            id="pod failed with a message",
        ),
        pytest.param(
            pod(
                {
                    "phase": "Failed",
                    "containerStatuses": [
                        {
                            "name": "c",
                            "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
                        }
                    ],
                }
            ),
            D,
            "OOMKilled",
            id="pod out of memory",
        ),
        pytest.param(
            pod(
                {
                    "phase": "Failed",
                    "containerStatuses": [
                        {"name": "c", "state": {"terminated": {"exitCode": 1, "message": "boom"}}}
                    ],
                }
            ),
            D,
            "boom",
            id="pod said why",
        ),
        pytest.param(pod({"phase": "Failed"}), D, "", id="pod failed silently"),
        pytest.param(pod(READY), H, "", id="pod ready"),
        pytest.param(pod({"phase": "Running"}), P, "", id="pod starting"),
        pytest.param(
            pod(
                {
                    "phase": "Running",
                    "containerStatuses": [{"lastState": {"terminated": {}}, "name": "c"}],
                }
            ),
            P,
            "",
            id="pod restarted without state",
        ),
        pytest.param(
            pod(
                {
                    "phase": "Running",
                    "containerStatuses": [
                        {"lastState": {"terminated": {"exitCode": 1}}, "name": "c"}
                    ],
                }
            ),
            D,
            "",
            id="pod crashed",
        ),
        pytest.param(pod({"phase": "Running"}, "Never"), P, "", id="pod running once"),
        pytest.param(pod({"phase": "Odd"}), U, "", id="pod odd"),
        pytest.param(
            resource("v1", "PersistentVolumeClaim", {}, {"phase": "Bound"}), H, "", id="claim bound"
        ),
        pytest.param(
            resource("v1", "PersistentVolumeClaim", {}, {"phase": "Lost"}), D, "", id="claim lost"
        ),
        pytest.param(
            resource("v1", "PersistentVolumeClaim", {}, {"phase": "?"}), U, "", id="claim odd"
        ),
        pytest.param(
            resource("v1", "Service", {"type": "LoadBalancer"}), P, "", id="balancer waiting"
        ),
        pytest.param(
            resource(
                "v1",
                "Service",
                {"type": "LoadBalancer"},
                {"loadBalancer": {"ingress": [{"ip": "1"}]}},
            ),
            H,
            "",
            id="balancer",
        ),
        pytest.param(resource("v1", "Service"), H, "", id="service"),
        pytest.param(resource("networking.k8s.io/v1", "Ingress"), P, "", id="ingress waiting"),
        pytest.param(
            resource("networking.k8s.io/v1", "Ingress", {}, {"loadBalancer": {"ingress": [{}]}}),
            H,
            "",
            id="ingress",
        ),
        pytest.param(resource("batch/v1", "Job"), P, "", id="job running"),
        pytest.param(
            resource("batch/v1", "Job", {}, condition("Failed", message="limit")),
            D,
            "limit",
            id="job failed",
        ),
        pytest.param(
            resource("batch/v1", "Job", {}, condition("Suspended")), S, "", id="job suspended"
        ),
        pytest.param(
            resource("batch/v1", "Job", {}, condition("Complete")), H, "", id="job complete"
        ),
        pytest.param(
            resource("batch/v1", "CronJob", {"suspend": True}), S, "", id="cron job suspended"
        ),
        pytest.param(resource("batch/v1", "CronJob"), H, "", id="cron job"),
        pytest.param(
            resource(
                "autoscaling/v2",
                "HorizontalPodAutoscaler",
                {},
                condition("ScalingActive", "False", reason="InvalidSelector", message="bad"),
            ),
            D,
            "bad",
            id="autoscaler failing",
        ),
        pytest.param(
            resource("autoscaling/v2", "HorizontalPodAutoscaler", {}, condition("AbleToScale")),
            H,
            "",
            id="autoscaler",
        ),
        pytest.param(
            resource("autoscaling/v2", "HorizontalPodAutoscaler"),
            P,
            "Autoscale",
            id="autoscaler new",
        ),
        pytest.param(
            resource(
                "autoscaling/v1",
                "HorizontalPodAutoscaler",
                {},
                {},
                annotations={
                    "autoscaling.alpha.kubernetes.io/conditions": (
                        '[{"type":"AbleToScale","status":"True"}]'
                    )
                },
            )
            | {"status": None},
            H,
            "",
            id="autoscaler v1",
        ),
        pytest.param(
            resource(
                "autoscaling/v1",
                "HorizontalPodAutoscaler",
                {},
                {},
                annotations={"autoscaling.alpha.kubernetes.io/conditions": "odd"},
            )
            | {"status": None},
            P,
            "",
            id="autoscaler odd",
        ),
        pytest.param(
            resource(
                "apiregistration.k8s.io/v1",
                "APIService",
                {},
                condition("Available", reason="Passed", message="ok"),
            ),
            H,
            "Passed: ok",
            id="api service",
        ),
        pytest.param(
            resource(
                "apiregistration.k8s.io/v1", "APIService", {}, condition("Available", "False")
            ),
            P,
            "",
            id="api service away",
        ),
        pytest.param(
            resource("apiregistration.k8s.io/v1", "APIService"),
            P,
            "processed",
            id="api service new",
        ),
        pytest.param(
            resource("argoproj.io/v1alpha1", "Workflow", {}, {"phase": "Failed", "message": "m"}),
            D,
            "m",
            id="workflow",
        ),
        pytest.param(
            resource(
                "argoproj.io/v1alpha1",
                "Application",
                {},
                {"health": {"status": "Degraded", "message": "m"}},
            ),
            D,
            "m",
            id="application",
        ),
        pytest.param(resource("argoproj.io/v1alpha1", "Application"), P, "", id="application new"),
        pytest.param(
            resource(
                "argoproj.io/v1alpha1",
                "ApplicationSet",
                {},
                condition("ErrorOccurred", message="m"),
            ),
            D,
            "m",
            id="set error",
        ),
        pytest.param(
            resource(
                "argoproj.io/v1alpha1",
                "ApplicationSet",
                {},
                condition("RolloutProgressing", message="m"),
            ),
            P,
            "m",
            id="set rollout",
        ),
        pytest.param(
            resource("argoproj.io/v1alpha1", "ApplicationSet", {}, condition("ResourcesUpToDate")),
            H,
            "",
            id="application set",
        ),
        pytest.param(
            resource("argoproj.io/v1alpha1", "ApplicationSet"), P, "", id="application set new"
        ),
        pytest.param(
            resource("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
            P,
            "established",
            id="definition new",
        ),
        pytest.param(
            resource(
                "apiextensions.k8s.io/v1", "CustomResourceDefinition", {}, condition("Established")
            ),
            H,
            "",
            id="definition",
        ),
        pytest.param(
            resource(
                "apiextensions.k8s.io/v1", "CustomResourceDefinition", {}, condition("Terminating")
            ),
            P,
            "",
            id="definition going",
        ),
        pytest.param(
            resource(
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                {},
                condition("NamesAccepted", "False", message="taken"),
            ),
            D,
            "taken",
            id="definition name taken",
        ),
        pytest.param(
            resource(
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                {},
                condition("NonStructuralSchema", message="odd"),
            ),
            D,
            "odd",
            id="definition schema",
        ),
        pytest.param(resource("policy/v1", "PodDisruptionBudget"), P, "", id="budget new"),
        pytest.param(
            resource(
                "policy/v1",
                "PodDisruptionBudget",
                {},
                condition("DisruptionAllowed", "False", reason="SyncFailed", message="m"),
            ),
            D,
            "m",
            id="budget failing",
        ),
        pytest.param(
            resource("policy/v1", "PodDisruptionBudget", {}, condition("DisruptionAllowed")),
            H,
            "",
            id="budget",
        ),
        pytest.param(
            resource("v1", "Namespace", {}, {"phase": "Terminating"}),
            P,
            "terminating",
            id="namespace going",
        ),
        pytest.param(
            resource("v1", "ConfigMap", deletionTimestamp="now"),
            P,
            "Pending deletion",
            id="anything going",
        ),
    ],
)
def test_health(manifest, status, words):
    found = assess(manifest)
    assert found is not None
    assert found.status is status
    assert words.lower() in found.message.lower()


@pytest.mark.parametrize("kind", ["ConfigMap", "Namespace"])
def test_kinds_without_health(kind):
    assert assess(resource("v1", kind)) is None


def test_a_hook_that_our_finalizer_holds_has_its_result():
    held = resource(
        "batch/v1",
        "Job",
        {},
        condition("Complete"),
        deletionTimestamp="now",
        finalizers=["argocd.argoproj.io/hook-finalizer"],
    )
    assert assess(held).status is H


def test_ignore_healthcheck():
    assert ignores_health(
        resource("v1", "Pod", annotations={"argocd.argoproj.io/ignore-healthcheck": "true"})
    )
    assert not ignores_health(resource("v1", "Pod"))


WIDGET = resource("example.com/v1", "Widget", {}, {"phase": "Bad"})
SCRIPT = (
    "local hs = {}\n"
    'if obj.status.phase == "Bad" then hs.status = "Degraded" hs.message = obj.metadata.name else '
    'hs.status = "Healthy" end\nreturn hs'
)


@pytest.mark.parametrize("name", ["example.com/Widget", "example.com/*", "*/Widget"])
def test_scripts_by_kind(name):
    assert assess(WIDGET, {name: health_script(SCRIPT)}) == Assessment(D, "x")


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        pytest.param("return nil", None, "", id="nothing"),
        pytest.param("return {status = 'Nice'}", U, "invalid health status", id="odd status"),
        pytest.param("return 5", U, "invalid health status", id="no table"),
        pytest.param("return {", U, "script", id="syntax"),
        pytest.param("error('boom')", U, "boom", id="error"),
        pytest.param("while true do end", U, "too long", id="endless"),
        pytest.param(
            "while true do pcall(function() while true do end end) end",
            U,
            "too long",
            id="endless behind pcall",
        ),
        pytest.param("local s = ('x'):rep(1e9) return {status = s}", U, "memory", id="memory"),
    ],
)
def test_scripts_are_confined(code, status, words):
    found = assess(WIDGET, {"example.com/Widget": health_script(code)})
    assert (found.status if found else None) == status
    assert words in (found.message if found else "")


@pytest.mark.parametrize(
    "name",
    [
        "io",
        "os.execute",
        "os.getenv",
        "require",
        "loadstring",
        "python",
        "debug",
        "string.dump",
        "dofile",
        "setfenv",
        "getmetatable",
        "rawset",
        "_G.io",
    ],
)
def test_scripts_reach_nothing(name):
    assert run(f"return {name}", {}) is None


def test_scripts_see_lists_and_return_them():
    assert run("return {obj.a[2], {b = obj.c}}", {"a": [1, 2], "c": True}) == [2, {"b": True}]
    with pytest.raises(RuleError):
        run("return nope.x", {})


def state(health, status=Sync.SYNCED, kind="Deployment", **fields):
    return ResourceState(
        ResourceKey("apps", kind, "ns", str(fields.pop("name", "x"))),
        "v1",
        status,
        Assessment(health, "why") if health else None,
        **fields,
    )


def test_application_health():
    assert application_health([]).status is H
    assert application_health([state(H), state(D), state(P)]) == Assessment(D, "Deployment x: why")
    assert application_health([state(None)]).status is H
    assert application_health([state(D, ignore_health=True), state(D, hook=True)]).status is H
    assert application_health([state(None, exists=False)]).status is Health.MISSING
    assert application_health([state(None, exists=False), state(H)]).status is H
    child = ResourceState(
        ResourceKey("argoproj.io", "Application", "argocd", "c"), "v1", Sync.SYNCED, Assessment(U)
    )
    assert application_health([child]).status is H
    assert (
        application_health([state(D)], itself=ResourceKey("apps", "Deployment", "ns", "x")).status
        is H
    )
    assert worst([Assessment(H), Assessment(P)]) is P


def test_application_sync():
    assert application_sync([state(H), state(H, None)]) is Sync.SYNCED
    assert application_sync([state(H, Sync.OUT_OF_SYNC)]) is Sync.OUT_OF_SYNC
    extra = state(H, Sync.OUT_OF_SYNC, wanted=False, ignore_extraneous=True)
    assert application_sync([extra]) is Sync.SYNCED
    assert extra.requires_pruning
