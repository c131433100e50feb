import pytest

from hub.engine.errors import ManifestError
from hub.engine.kubernetes_yaml import Volume, parse_json, parse_yaml


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a: y", {"a": True}, id="y is true"),
        pytest.param("a: off", {"a": False}, id="off is false"),
        pytest.param("on: 1", {"true": 1}, id="keys become text"),
        pytest.param("1: x", {"1": "x"}, id="number as key"),
        pytest.param("n: y", {"false": True}, id="booleans of YAML 1.1 as key and value"),
        pytest.param("yes: {no: off}", {"true": {"false": False}}, id="inner keys too"),
        pytest.param("012: x", {"10": "x"}, id="octal as key"),
        pytest.param("0x10: x", {"16": "x"}, id="hexadecimal as key"),
        pytest.param("1e3: x", {"1000": "x"}, id="whole float as key"),
        pytest.param("1.5: x", {"1.5": "x"}, id="float as key"),
        pytest.param("2001-01-01: x", {"2001-01-01": "x"}, id="date as key"),
        pytest.param("true: a\n'true': b", {"true": "b"}, id="keys that become one: the last"),
        pytest.param("a: 0o14", {"a": 12}, id="octal with o"),
        pytest.param("a: 014", {"a": 12}, id="octal of old"),
        pytest.param("a: 0x1f", {"a": 31}, id="hexadecimal"),
        pytest.param("a: -5", {"a": -5}, id="negative"),
        pytest.param("a: 1e3", {"a": 1000}, id="whole float"),
        pytest.param("a: 1.5", {"a": 1.5}, id="float"),
        pytest.param("a: 2001-01-01", {"a": "2001-01-01"}, id="dates are text"),
        pytest.param("a: 12:30:45", {"a": "12:30:45"}, id="no sexagesimals"),
        pytest.param("a: '1'", {"a": "1"}, id="quoted is text"),
        pytest.param("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}, id="alias"),
        pytest.param(
            "a: &x {b: 1}\nc: {<<: *x, d: 2}",
            {"a": {"b": 1}, "c": {"b": 1, "d": 2}},
            id="merge key",
        ),
        pytest.param("a:", {"a": None}, id="nothing is null"),
        pytest.param("a: =", {"a": "="}, id="equals sign is text"),
        pytest.param("a: 08", {"a": 8}, id="an eight is not an octal digit"),
        pytest.param("a: !!binary aGk=", {"a": "hi"}, id="binary is text"),
        pytest.param("a: !!timestamp x", {"a": "x"}, id="a time is text"),
    ],
)
def test_values_are_what_kubernetes_reads(text, expected):
    assert parse_yaml(text) == [expected]


def test_empty_documents_are_left_out():
    assert parse_yaml("---\n---\na: 1\n---\n# nothing\n") == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("a: [", "line", id="syntax"),
        pytest.param("a: 1\n~: x", "line 2: a key must be text", id="null as key"),
        pytest.param("null: x", "line 1: a key must be text", id="the word null as key"),
        pytest.param("\t- a", "column", id="tab"),
        pytest.param("a: " + "[" * 500, "nested deeper", id="deep"),
        pytest.param(
            "\n".join(" " * n + "a:" for n in range(150)), "nested deeper", id="deep by lines"
        ),
        pytest.param("-  " * 150 + "a", "nested deeper", id="deep in one line"),
        pytest.param("a: !!int x", "does not have the type", id="not a number"),
        pytest.param("a: !!bool x", "does not have the type", id="no boolean"),
        pytest.param("a: 0x_", "does not have the type", id="no digits"),
        pytest.param("a: !!set {x}", "JSON cannot represent", id="set"),
        pytest.param("a: &a {b: *a}", "refers to a document", id="cycle"),
        pytest.param("a: !!python/object/apply:os.system ['x']", "tag", id="python tag"),
        pytest.param("? [a]\n: 1", "key must be text", id="list as key"),
        pytest.param("a: .nan", "JSON", id="not a number"),
        pytest.param(
            "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n"
                for n in range(6)
            ),
            "aliases",
            id="bomb",
        ),
    ],
)
def test_bad_documents_are_refused(text, words):
    with pytest.raises(ManifestError, match=words):
        parse_yaml(text)


def test_deep_but_balanced_is_read():
    assert parse_yaml("a: " + "[" * 60 + "]" * 60)
    assert parse_yaml(
        " ".join("[]" for _ in range(1)) + "\n---\n" + "\n".join("- []" for _ in range(200))
    )


def test_json_says_where():
    assert parse_json('{"a": 1}') == {"a": 1}
    with pytest.raises(ManifestError, match="line 1, column"):
        parse_json("{")
    with pytest.raises(ManifestError, match="nested"):
        parse_json("[" * 100_000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", float(2**64)),
        ("-9223372036854775809", float(-(2**63) - 1)),
        ("1e20", 1e20),
        ("1e18", 10**18),
        ("0x" + "f" * 20, float(16**20 - 1)),
        ("9" * 200, float("9" * 200)),
    ],
)
def test_numbers_that_json_writers_do_not_take(text, value):
    [found] = parse_yaml(f"a: {text}")
    assert found["a"] == value and type(found["a"]) is type(value)


@pytest.mark.parametrize("text", ["12e4567", "1e999", "-1E+400", "1_0e999"])
def test_a_number_that_no_float_holds_is_text(text):
    assert parse_yaml(f"a: {text}\n") == [{"a": text}]


@pytest.mark.parametrize("text", ["9" * 5000, "0x" + "f" * 400])
def test_numbers_that_nothing_holds(text):
    with pytest.raises(ManifestError, match="number"):
        parse_yaml(f"a: {text}")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: [" + "[]," * 10_001 + "]", id="empty lists"),
        pytest.param("- 1\n" * 10_001, id="lines"),
        pytest.param("-\r" * 10_001, id="lines of another system"),
        pytest.param("-\u2028" * 10_001, id="lines of another alphabet"),
    ],
)
def test_what_holds_too_many_values_is_refused_before_it_is_built(text):
    with pytest.raises(ManifestError, match="more than 10,000 values"):
        parse_yaml(text, Volume(maximum=10_000))


def test_a_million_values_are_too_many():
    with pytest.raises(ManifestError, match="more than 1,000,000 values"):
        parse_yaml("- 1\n" * 1_000_001)


def test_the_texts_of_one_render_are_counted_together():
    volume = Volume(maximum=40_000)
    volume.add("- 1\n" * 12_000)
    volume.add("a: |\n" + "  many, lines: [of] {text}\n" * 20_000)
    volume.add("- 1\n" * 9_000)

    with pytest.raises(ManifestError, match="split them"):
        volume.add("- 1\n" * 12_000)


MANY_NAMES = "a: &a '" + "x" * 100_000 + "'\n" + "".join(f"b{n}: *a\n" for n in range(90))


def test_a_text_that_is_named_at_many_keys_is_refused():
    assert len(parse_yaml(MANY_NAMES)[0]) == 91
    with pytest.raises(ManifestError, match="aliases expand to more than 16 MiB"):
        parse_yaml(f"{MANY_NAMES}---\n{MANY_NAMES}")


def test_what_aliases_of_several_texts_stand_for_is_counted_together():
    volume = Volume(maximum=40_000)
    parse_yaml(MANY_NAMES, volume)
    with pytest.raises(ManifestError, match="aliases expand to more than 16 MiB"):
        parse_yaml(MANY_NAMES, volume)

    volume = Volume(maximum=40_000)
    few = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"b{n}: *a\n" for n in range(900))
    with pytest.raises(ManifestError, match="split them"):
        [parse_yaml(few, volume) for _ in range(5)]


def test_json_that_no_writer_takes():
    assert parse_json('{"a": 18446744073709551616, "b": "\\ud83d\\ude00"}') == {
        "a": float(2**64),
        "b": "😀",
    }
    for text in ('"\\ud800"', '{"a": [{"\\uDFFF": 1}]}'):
        with pytest.raises(ManifestError, match="half of a surrogate pair"):
            parse_json(text)


def test_a_number_of_json_that_is_too_long():
    for digits in (400, 5000):
        with pytest.raises(ManifestError, match="too long"):
            parse_json("1" * digits)


def test_json_that_is_no_yaml_is_counted_too():
    text = "[\n" + '\t"\\ud83d\\ude00",\n' * 15_000 + '\t"x"\n]'
    volume = Volume()

    volume.add(text)

    assert len(parse_json(text)) == 15_001
    with pytest.raises(ManifestError, match="split them"):
        [volume.add(text) for _ in range(40)]
