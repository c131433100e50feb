import pytest

from hub.engine.errors import Invalid
from hub.engine.strict_json import MAX_DEPTH, read_json


def nested(levels, opens=b"[", closes=b"]"):
    return opens * levels + closes * levels


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            b'{"a": [1, 2.5, null, true, "x"]}', {"a": [1, 2.5, None, True, "x"]}, id="all"
        ),
        pytest.param(b'{"a": {"a": {}}}', {"a": {"a": {}}}, id="one key at several levels"),
        pytest.param(str(2**64 - 1).encode(), 2**64 - 1, id="the greatest number"),
        pytest.param(str(-(2**63)).encode(), -(2**63), id="the least number"),
        pytest.param(b'"\\ud83d\\ude00"', "\U0001f600", id="a surrogate pair"),
        pytest.param(b'"\\\\u0000"', "\\u0000", id="the text of an escape"),
        pytest.param(b'["\\\\u0000", {"a": 1}]', ["\\u0000", {"a": 1}], id="the same in a list"),
    ],
)
def test_what_is_read(body, expected):
    assert read_json(body) == expected


def test_as_deep_as_may_be():
    assert read_json(nested(MAX_DEPTH)) is not None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b'{"a": 1, "b": 2, "a": 3}', "'a' twice", id="a key twice"),
        pytest.param(b'[{"\\u0061": 1, "a": 3}]', "'a' twice", id="the same key, escaped"),
        pytest.param(str(2**64).encode(), "64 bits", id="a great number"),
        pytest.param(b'{"a": [-9223372036854775809]}', "64 bits", id="a small number"),
        pytest.param(b"9" * 5000, "digits", id="a number of many digits"),
        pytest.param(b"1e19", r"2\^63", id="a great fraction"),
        pytest.param(b"[1e999]", r"2\^63", id="a fraction without end"),
        pytest.param(b"NaN", "NaN", id="not a number"),
        pytest.param(b"-Infinity", "Infinity", id="infinity"),
        pytest.param(b'{"a": "x\\u0000"}', "NUL", id="NUL in a text"),
        pytest.param(b'[{"\\u0000": 1}]', "NUL", id="NUL in a key"),
        pytest.param(b'"\\ud800"', "surrogate", id="half a pair"),
        pytest.param(b'["\\uD800"]', "surrogate", id="half a pair, in capitals"),
        pytest.param(b"\xff\xfe", "not valid JSON", id="no UTF-8"),
        pytest.param('{"a": 1}'.encode("utf-16"), "not valid JSON", id="UTF-16"),
        pytest.param(b'{"a": 1', "not valid JSON", id="half"),
        pytest.param(b'"\n"', "not valid JSON", id="a line end in a text"),
        pytest.param(nested(MAX_DEPTH + 2), "nested deeper", id="lists"),
        pytest.param(nested(MAX_DEPTH + 2, b'{"a":[', b"]}"), "nested deeper", id="objects"),
        pytest.param(nested(100_000), "nested deeper", id="very deep"),
    ],
)
def test_what_is_refused(body, words):
    with pytest.raises(Invalid, match=words):
        read_json(body)
