"""What people read when an API server refuses a resource."""

import json

import pytest

from clusters.kube import refusal, secretless
from projects.destinations.destination import _with_own_name

TEMPLATE = '{"labels":{"a":"b"},"Spec":{"Volumes":null,' + '"X":null,' * 200 + "}}"


def answer(subject, *causes, reason="Invalid"):
    said = ", ".join(f"{field}: {message}" for field, _, message in causes)
    details = [{"field": f, "reason": r, "message": m} for f, r, m in causes]
    return json.dumps(
        {
            "reason": reason,
            "message": f"{subject} is invalid: {said}",
            "details": {"causes": details},
        }
    ).encode()


IMMUTABLE = ("spec.template", "FieldValueInvalid", f"Invalid value: {TEMPLATE}: field is immutable")
REQUIRED = ("spec.template.spec.containers[0].image", "FieldValueRequired", "Required value")


@pytest.mark.parametrize(
    ("causes", "message"),
    [
        pytest.param(
            [("spec.clusterIP", "FieldValueInvalid", 'Invalid value: "1": may not change')],
            'Job.batch "j" is invalid: spec.clusterIP: Invalid value: "1": may not change',
            id="a short value stays",
        ),
        pytest.param(
            [IMMUTABLE],
            'Job.batch "j" is invalid: spec.template: field is immutable',
            id="a whole template",
        ),
        pytest.param(
            [REQUIRED, REQUIRED, IMMUTABLE],
            'Job.batch "j" is invalid: spec.template.spec.containers[0].image: Required value; '
            "spec.template: field is immutable",
            id="several, one of them twice",
        ),
    ],
)
def test_long_values_are_left_out(causes, message):
    assert refusal(422, answer('Job.batch "j"', *causes)).message == message


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        pytest.param(
            ("type", "FieldValueInvalid", 'Invalid value: "fe/x": field is immutable'),
            "Secret s was refused (Invalid): type: field is immutable",
            id="the type",
        ),
        pytest.param(
            ("data[key]", "FieldValueInvalid", 'Invalid value: "hunter2": too short'),
            "Secret s was refused (Invalid): data[key]: FieldValueInvalid",
            id="its data",
        ),
        pytest.param(
            ("metadata.annotations", "FieldValueInvalid", 'Invalid value: "hunter2": no'),
            "Secret s was refused (Invalid): metadata.annotations: FieldValueInvalid",
            id="what may repeat its data",
        ),
    ],
)
def test_refused_secrets_name_the_field_and_never_the_value(cause, said):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}

    refused = secretless(refusal(422, answer('Secret "s"', cause)), secret)

    assert refused.message == said
    assert "hunter2" not in refused.message


@pytest.mark.parametrize("details", [None, [], {"causes": 5}, {"causes": [5, {}]}])
def test_malformed_details_are_not_an_error(details):
    data = json.dumps({"reason": "Invalid", "message": "no", "details": details}).encode()
    assert refusal(422, data).message == "no"


def test_a_trial_creation_speaks_of_the_resource_itself():
    said = 'Job.batch "j-zhmz7" is invalid: spec: no'
    assert _with_own_name(said, "j-", "j") == 'Job.batch "j" is invalid: spec: no'
