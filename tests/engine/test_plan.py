import time

import pytest

from hub.engine.hooks import SyncPhase, delete_policies, hook_phases, is_hook, is_ignored, wave
from hub.engine.plan import (
    APPLY,
    FAILED,
    HOOK,
    PENDING,
    PRUNE,
    RUNNING,
    SUCCEEDED,
    Observation,
    PlanRequest,
    Step,
    hooks_to_delete,
    is_multi_step,
    next_group,
    observe,
    plan,
    waiting,
)
from hub.engine.resource import ResourceKey
from hub.engine.status import Assessment, Health

ASK = PlanRequest(revision="abcdef0123", started=1000)


def manifest(kind, name="x", api="v1", namespace="ns", spec=None, **annotations):
    named = {"generateName": name} if name.endswith("-") else {"name": name}
    texts = {k.replace("__", "/").replace("_", "-"): v for k, v in annotations.items()}
    meta = {**named, "annotations": texts, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api, "kind": kind, "metadata": meta, **({"spec": spec} if spec else {})}


def hooked(kind, name, phase, **more):
    found = manifest(kind, name, "batch/v1")
    found["metadata"]["annotations"] = {"argocd.argoproj.io/hook": phase, **more}
    return found


def waved(kind, name, number):
    found = manifest(kind, name)
    found["metadata"]["annotations"] = {"argocd.argoproj.io/sync-wave": str(number)}
    return found


def names(steps):
    return [s.key.name for s in steps]


@pytest.mark.parametrize(
    ("annotations", "phases", "hook", "ignored"),
    [
        pytest.param({}, [], False, False, id="none"),
        pytest.param({"argocd.argoproj.io/hook": "PreSync"}, ["PreSync"], True, False, id="one"),
        pytest.param(
            {"argocd.argoproj.io/hook": "PostSync, PreSync"},
            ["PreSync", "PostSync"],
            True,
            False,
            id="two",
        ),
        pytest.param({"argocd.argoproj.io/hook": "Skip"}, [], True, True, id="skip"),
        pytest.param({"argocd.argoproj.io/hook": "Nonsense"}, [], True, True, id="unknown"),
        pytest.param(
            {"argocd.argoproj.io/hook": "Nonsense", "helm.sh/hook": "pre-install"},
            ["PreSync"],
            True,
            False,
            id="unknown, but Helm's is known",
        ),
        pytest.param(
            {"helm.sh/hook": "pre-install,pre-upgrade"}, ["PreSync"], True, False, id="helm pre"
        ),
        pytest.param({"helm.sh/hook": "post-upgrade"}, ["PostSync"], True, False, id="helm post"),
        pytest.param(
            {"helm.sh/hook": "post-delete"}, ["PostDelete"], True, False, id="helm delete"
        ),
        pytest.param({"helm.sh/hook": "test"}, [], True, True, id="helm test"),
        pytest.param(
            {"helm.sh/hook": "crd-install"}, [], False, False, id="crd-install is ordinary"
        ),
    ],
)
def test_hooks(annotations, phases, hook, ignored):
    found = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "annotations": annotations},
    }
    assert hook_phases(found) == phases
    assert (is_hook(found), is_ignored(found)) == (hook, ignored)


def test_waves_and_policies():
    assert wave(waved("A", "a", -3)) == -3
    assert wave(waved("A", "a", "odd")) == 0
    assert wave({"metadata": {"annotations": {"helm.sh/hook-weight": "4"}}}) == 4
    assert wave({"metadata": {}}) == 0
    assert delete_policies({"metadata": {}}) == {"BeforeHookCreation"}
    assert delete_policies(
        {"metadata": {"annotations": {"helm.sh/hook-delete-policy": "hook-succeeded,odd"}}}
    ) == {"HookSucceeded"}


def test_kinds_in_their_order():
    steps = plan(
        [
            manifest("Deployment"),
            manifest("Widget"),
            manifest("Service"),
            manifest("Namespace", namespace=""),
            manifest("ConfigMap"),
        ],
        [],
        ASK,
    )
    assert [s.key.kind for s in steps] == [
        "Namespace",
        "ConfigMap",
        "Service",
        "Deployment",
        "Widget",
    ]
    assert not is_multi_step(steps)


def test_phases_and_waves_in_their_order():
    steps = plan(
        [
            waved("ConfigMap", "late", 5),
            hooked("Job", "post", "PostSync"),
            hooked("Job", "pre", "PreSync"),
            manifest("ConfigMap", "main"),
            waved("ConfigMap", "early", -1),
        ],
        [],
        ASK,
    )
    assert names(steps) == ["pre", "early", "main", "late", "post"]
    assert is_multi_step(steps)


def test_hooks_are_left_out_of_a_selective_sync_and_delete_hooks_always():
    assert names(
        plan(
            [hooked("Job", "pre", "PreSync"), manifest("ConfigMap", "c")],
            [],
            PlanRequest("r", 1, hooks=False),
        )
    ) == ["c"]
    assert plan([hooked("Job", "gone", "PostDelete")], [], ASK) == []


def test_generated_names_are_fixed_by_the_plan():
    [step] = plan([hooked("Job", "once-", "PreSync")], [], ASK)
    assert step.key.name == "once-abcdef0-presync-1000"
    assert step.source_name == "once-"


def test_a_namespace_and_a_definition_come_before_what_needs_them():
    crd = definition("example.com", "Widget")
    widget = manifest("Widget", "w", "example.com/v1")
    widget["metadata"]["annotations"] = {"argocd.argoproj.io/sync-wave": "-2"}
    steps = plan([widget, crd, waved("Namespace", "ns", 3)], [], ASK)
    assert [(s.key.kind, s.wave) for s in steps][:2] == [
        ("Namespace", -2),
        ("CustomResourceDefinition", -2),
    ]


def definition(group, kind, plural="widgets"):
    spec = {"group": group, "names": {"kind": kind, "plural": plural}}
    name = f"{plural}.{group}"
    return manifest("CustomResourceDefinition", name, "apiextensions.k8s.io/v1", "", spec)


@pytest.mark.parametrize(
    ("kind", "plural"),
    [
        pytest.param("Person", "people", id="a plural that does not begin as the kind"),
        pytest.param("NetworkPolicy", "networkpolicies", id="a kind called as one that goes first"),
        pytest.param("Namespace", "namespaces", id="a kind called as one of the core group"),
    ],
)
def test_a_definition_comes_before_what_it_defines(kind, plural):
    steps = plan(
        [manifest(kind, "x", "example.com/v1"), definition("example.com", kind, plural)], [], ASK
    )

    assert [s.key.kind for s in steps] == ["CustomResourceDefinition", kind]


def test_a_definition_of_another_kind_stays_in_its_wave():
    other = waved("Widget", "w", -1)
    other["apiVersion"] = "example.com/v1"
    steps = plan([other, definition("example.com", "WidgetSet", "widgetsets")], [], ASK)

    assert [s.key.kind for s in steps] == ["Widget", "CustomResourceDefinition"]


def test_prunes_go_in_reverse_and_last_when_asked():
    extra = [waved("ConfigMap", "first", 0), waved("ConfigMap", "second", 1)]
    last = manifest("ConfigMap", "last")
    last["metadata"]["annotations"] = {"argocd.argoproj.io/sync-options": "PruneLast=true"}
    steps = plan([waved("ConfigMap", "kept", 2)], [*extra, last], ASK)
    assert [(s.key.name, s.wave) for s in steps] == [
        ("second", 0),
        ("first", 1),
        ("kept", 2),
        ("last", 3),
    ]


def test_steps_survive_storage():
    for step in plan([hooked("Job", "once-", "PreSync"), manifest("ConfigMap")], [], ASK):
        assert Step.from_json(step.to_json()) == step


def a_step(action=APPLY, status=RUNNING, phase=SyncPhase.SYNC, number=0, policies=(), name="x"):
    return Step(
        ResourceKey("", "Pod", "ns", name), "v1", phase, number, action, status, policies=policies
    )


@pytest.mark.parametrize(
    ("step", "seen", "status"),
    [
        pytest.param(a_step(), Observation(True), SUCCEEDED, id="no health"),
        pytest.param(
            a_step(), Observation(True, Assessment(Health.HEALTHY)), SUCCEEDED, id="healthy"
        ),
        pytest.param(
            a_step(), Observation(True, Assessment(Health.PROGRESSING)), RUNNING, id="progressing"
        ),
        pytest.param(
            a_step(), Observation(True, Assessment(Health.DEGRADED)), FAILED, id="degraded"
        ),
        pytest.param(
            a_step(), Observation(True, Assessment(Health.UNKNOWN)), RUNNING, id="unknown"
        ),
        pytest.param(
            a_step(HOOK), Observation(True, Assessment(Health.UNKNOWN)), FAILED, id="unknown hook"
        ),
        pytest.param(a_step(HOOK), Observation(False), FAILED, id="vanished hook"),
        pytest.param(a_step(), Observation(False), FAILED, id="vanished resource"),
        pytest.param(a_step(PRUNE), Observation(True), RUNNING, id="still there"),
        pytest.param(a_step(PRUNE), Observation(False), SUCCEEDED, id="pruned"),
    ],
)
def test_observe(step, seen, status):
    assert observe(step, seen).status == status


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        pytest.param([a_step()], "", id="one group waits for nothing"),
        pytest.param(
            [a_step(), a_step(number=1, status=PENDING)],
            "healthy state of Pod/ns/x",
            id="next wave",
        ),
        pytest.param(
            [a_step(HOOK), a_step(HOOK)], "completion of hook Pod/ns/x and 1 more hooks", id="hooks"
        ),
        pytest.param([a_step(PRUNE), a_step(number=1, status=PENDING)], "deletion of", id="prunes"),
        pytest.param([a_step(status=SUCCEEDED), a_step(number=1, status=PENDING)], "", id="done"),
        pytest.param(
            [a_step(), a_step(status=PENDING), a_step(number=1, status=PENDING)],
            "",
            id="the rest of a group first",
        ),
    ],
)
def test_waiting(steps, words):
    assert words in waiting(steps)
    assert bool(waiting(steps)) == bool(words)


def test_next_group():
    steps = [
        a_step(status=SUCCEEDED),
        a_step(number=1, status=PENDING),
        a_step(HOOK, PENDING, SyncPhase.SYNC_FAIL),
        a_step(number=2, status=PENDING),
    ]
    assert next_group(steps, failing=False) == [1]
    assert next_group(steps, failing=True) == [2]
    assert next_group([], failing=False) == []


def test_hooks_to_delete():
    good = a_step(HOOK, SUCCEEDED, policies=("HookSucceeded",), name="good")
    bad = a_step(HOOK, FAILED, policies=("HookFailed",), name="bad")
    kept = a_step(HOOK, SUCCEEDED, policies=("BeforeHookCreation",))
    assert names(
        hooks_to_delete([good, bad, kept, a_step(status=SUCCEEDED)], succeeded=True, ended=True)
    ) == ["good", "bad"]
    assert names(hooks_to_delete([good, bad], succeeded=False, ended=True)) == ["bad"]


def test_thousands_of_namespaces_are_planned_without_a_search():
    count = 15_000
    spaces = [manifest("Namespace", f"n{n}", namespace="") for n in range(count)]
    inside = [manifest("ConfigMap", f"c{n}", namespace=f"n{n}") for n in range(count)]
    inside[7]["metadata"]["annotations"] = {"argocd.argoproj.io/sync-wave": "-1"}
    began = time.thread_time()
    steps = plan([*inside, *spaces], [], ASK)
    assert time.thread_time() - began < 5
    assert names(steps)[:2] == ["n7", "c7"]
    assert {s.key.kind for s in steps[2 : count + 1]} == {"Namespace"}
