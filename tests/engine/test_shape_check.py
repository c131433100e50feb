import pytest

from hub.engine.errors import RuleError
from hub.engine.shape_check import ANY, TEXT, TRUTH, WHOLE, check_shape

SHAPE = {"name": TEXT, "count": WHOLE, "on": TRUTH, "free": ANY, "list": [TEXT], "by": {"*": WHOLE}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param([], "body must be an object", id="a list for an object"),
        pytest.param({"name": 5}, "body.name must be text, not 5: put it in quotes", id="number"),
        pytest.param({"name": []}, "body.name must be text, not a list", id="list for text"),
        pytest.param({"name": {}}, "body.name must be text, not an object", id="object for text"),
        pytest.param({"count": "5"}, "body.count must be a whole number", id="text for number"),
        pytest.param({"count": True}, "body.count must be a whole number", id="truth for number"),
        pytest.param({"count": 2**63}, "body.count must be a whole number", id="beyond 64 bits"),
        pytest.param({"on": "yes"}, "body.on must be true or false", id="text for truth"),
        pytest.param({"list": {}}, "body.list must be a list", id="object for list"),
        pytest.param({"list": [None]}, r"body.list\[0\] must not be empty", id="nothing in a list"),
        pytest.param({"list": ["a", 1]}, r"body.list\[1\] must be text", id="number in a list"),
        pytest.param({"by": {"x": "y"}}, "body.by.x must be a whole number", id="any name"),
    ],
)
def test_a_wrong_shape_is_named_with_its_place(value, message):
    with pytest.raises(RuleError, match=message):
        check_shape(value, SHAPE, "body")


def test_what_has_its_shape_passes():
    check_shape(None, SHAPE, "body")
    check_shape({"name": "a", "count": 1, "on": False, "list": ["a"], "by": {"x": 1}}, SHAPE, "")
    check_shape({"free": [1, {}], "unknown": object, "name": None}, SHAPE, "body")
