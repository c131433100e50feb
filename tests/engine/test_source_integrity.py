"""Which signatures a project asks for."""

import pytest

from hub.engine.errors import RuleError
from hub.engine.source_integrity import check_integrity, signature_requirement


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"signatureKeys": [{}]}, "keyID"),
        ({"sourceIntegrity": {}}, "policies"),
        (
            {
                "sourceIntegrity": {
                    "git": {"policies": [{"repos": [{"url": "*"}], "gpg": {"mode": "maybe"}}]}
                }
            },
            "mode",
        ),
        ({"sourceIntegrity": {"git": {"policies": [{"gpg": {"keys": ["A"]}}]}}}, "repos"),
        (
            {"sourceIntegrity": {"git": {"policies": [{"repos": [{"url": "*"}], "gpg": {}}]}}},
            "keys",
        ),
    ],
)
def test_demands_that_cannot_be(spec, words):
    with pytest.raises(RuleError, match=words):
        check_integrity(spec)


def test_which_demand_is_about_a_repository():
    policies = [
        {
            "repos": [{"url": "https://git.example/*"}, {"url": "!https://git.example/free"}],
            "gpg": {"mode": "head", "keys": ["0xAB CD"]},
        }
    ]
    spec = {
        "sourceIntegrity": {"git": {"policies": policies}},
        "signatureKeys": [{"keyID": "ignored"}],
    }
    assert signature_requirement(spec, "https://git.example/x").keys == ("ABCD",)
    assert signature_requirement(spec, "https://git.example/free.git") is None
    assert signature_requirement(spec, "https://other.example/x") is None
    # To a server without case it is the same repository: the demand holds, and is not lifted.
    assert signature_requirement(spec, "https://git.example/X").keys == ("ABCD",)
    assert signature_requirement(spec, "https://git.example/FREE").keys == ("ABCD",)
    with pytest.raises(RuleError, match="only one"):
        signature_requirement(
            {"sourceIntegrity": {"git": {"policies": policies * 2}}}, "https://git.example/x"
        )
    none = [{**policies[0], "gpg": {"mode": "none"}}]
    assert (
        signature_requirement(
            {"sourceIntegrity": {"git": {"policies": none}}}, "https://git.example/x"
        )
        is None
    )
