"""Which refusals of a dry run are not final, since an earlier step of the plan may change them."""

import pytest

from hub.engine.hooks import SyncPhase
from hub.engine.plan import APPLY, HOOK, PRUNE, Step
from hub.engine.prerequisites import Refusal, prerequisite_of
from hub.engine.resource import ResourceKey

GIZMO = ("example.org", "Gizmo")
SYNC, PRE = SyncPhase.SYNC, SyncPhase.PRE_SYNC
UNKNOWN_FIELD = Refusal(
    500, "failed to create typed patch object: .spec.x: field not declared in schema"
)
IMMUTABLE = Refusal(422, 'Job.batch "x" is invalid: spec.template: field is immutable')
QUOTA = Refusal(403, "exceeded quota: q")
MISSING = Refusal(404, 'namespaces "ns" not found')
WEBHOOK = Refusal(500, 'failed calling webhook "w": no endpoints available')
DENIED = Refusal(400, 'admission webhook "w" denied the request: no')
PORT = Refusal(
    422, "spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated"
)


def step(group, kind, wave=0, *, name="x", namespace="ns", phase=SYNC, action=APPLY, **more):
    return Step(ResourceKey(group, kind, namespace, name), "v1", phase, wave, action, **more)


CRD = step("apiextensions.k8s.io", "CustomResourceDefinition", namespace="", defines=GIZMO)
CR = step(*GIZMO)
POD, JOB, CONFIG = step("", "Pod"), step("batch", "Job"), step("", "ConfigMap")
QUOTAS = step("", "ResourceQuota")
SPACE = step("", "Namespace", name="ns", namespace="")


def synced(found):
    return Step.from_json({**found.to_json(), "synced": True})


@pytest.mark.parametrize(
    ("steps", "refusal", "is_final"),
    [
        pytest.param([CRD, CR], UNKNOWN_FIELD, False, id="a definition gets a field"),
        pytest.param(
            [
                step(
                    "apiextensions.k8s.io",
                    "CustomResourceDefinition",
                    defines=("policy.networking.k8s.io", "Admin"),
                ),
                step("policy.networking.k8s.io", "Admin"),
            ],
            UNKNOWN_FIELD,
            False,
            id="a definition in a group that looks like Kubernetes' own",
        ),
        pytest.param([synced(CRD), CR], UNKNOWN_FIELD, True, id="a definition stays as it is"),
        pytest.param([step("", "Deployment"), CR], UNKNOWN_FIELD, True, id="nothing defines it"),
        pytest.param(
            [step("apps", "Deployment", -1), CR],
            UNKNOWN_FIELD,
            False,
            id="an operator of an earlier wave",
        ),
        pytest.param(
            [step("apps", "Deployment", -1), POD],
            UNKNOWN_FIELD,
            True,
            id="a kind of Kubernetes has no other fields",
        ),
        pytest.param(
            [step("", "ConfigMap", -1), JOB], IMMUTABLE, True, id="invalid whatever comes before"
        ),
        pytest.param(
            [step("batch", "Job", phase=PRE, action=HOOK), JOB],
            IMMUTABLE,
            False,
            id="a hook may remove it",
        ),
        pytest.param(
            [step("batch", "Job", phase=PRE, action=HOOK), POD],
            UNKNOWN_FIELD,
            True,
            id="no hook changes a form",
        ),
        pytest.param([QUOTAS, POD], QUOTA, False, id="a quota of the same wave"),
        pytest.param([synced(QUOTAS), POD], QUOTA, True, id="a quota that stays"),
        pytest.param(
            [step("", "ResourceQuota", namespace="b"), POD], QUOTA, True, id="a quota elsewhere"
        ),
        pytest.param([CONFIG, POD], QUOTA, True, id="a ConfigMap decides nothing in its own wave"),
        pytest.param(
            [step("", "ConfigMap", -1), POD],
            QUOTA,
            False,
            id="but what reads it may, before the next",
        ),
        pytest.param([POD, QUOTAS], QUOTA, True, id="what comes later does not count"),
        pytest.param(
            [POD, step("", "Pod", name="old", action=PRUNE)],
            QUOTA,
            False,
            id="a prune of the wave comes first",
        ),
        pytest.param(
            [POD, step("", "Pod", name="old", action=PRUNE, result="PruneSkipped")],
            QUOTA,
            True,
            id="a prune that is left out",
        ),
        pytest.param([SPACE, POD], MISSING, False, id="a namespace"),
        pytest.param(
            [step("", "Namespace", name="b", namespace=""), POD],
            MISSING,
            True,
            id="another namespace",
        ),
        pytest.param(
            [step("", "ServiceAccount"), POD],
            Refusal(403, 'serviceaccount "x" not found'),
            False,
            id="a service account",
        ),
        pytest.param(
            [step("rbac.authorization.k8s.io", "Role"), POD],
            Refusal(403, "cannot create"),
            False,
            id="rights",
        ),
        pytest.param(
            [synced(step("apps", "Deployment", -1)), CR], WEBHOOK, False, id="a webhook that starts"
        ),
        pytest.param(
            [step("", "ConfigMap"), CR], WEBHOOK, True, id="a webhook that nothing starts"
        ),
        pytest.param(
            [step("apps", "Deployment"), CR], WEBHOOK, False, id="a webhook of the same wave"
        ),
        pytest.param(
            [step("kyverno.io", "Policy"), POD], DENIED, False, id="a policy of a custom kind"
        ),
        pytest.param(
            [step("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", -1), POD],
            DENIED,
            False,
            id="a webhook configuration",
        ),
        pytest.param(
            [step("", "Service", -1, action=PRUNE), step("", "Service")],
            PORT,
            False,
            id="a port that a prune frees",
        ),
        pytest.param(
            [step("", "Pod", phase=SyncPhase.SYNC_FAIL, action=HOOK), POD],
            QUOTA,
            True,
            id="hooks of a failure do not run",
        ),
        pytest.param([POD], QUOTA, True, id="alone"),
    ],
)
def test_a_refusal_is_final_unless_an_earlier_step_may_change_it(steps, refusal, is_final):
    # The resource in question is the last one that is applied, but for a Pod that stands first.
    number = 0 if steps[0] is POD else len(steps) - 1

    assert (prerequisite_of(steps, number, refusal) is None) == is_final


def test_an_unreachable_admission_webhook_decides_nothing():
    refused = Refusal(400, 'admission webhook "w" does not support dry run')

    assert not refused.is_answer
    assert QUOTA.is_answer
