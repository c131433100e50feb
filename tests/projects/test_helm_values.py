"""Values of charts: parameters as `helm --set`, `--set-string` and `--set-file` read them,
documents byte for byte.
"""

import pytest
from support.corpus import BLOCKS, CHARTS
from support.tools import of_hub

pytestmark = pytest.mark.django_db

CHART = {
    "chart/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\n",
    "chart/values.yaml": (
        "hosts: [{name: one, port: 80}, {name: two, port: 81}]\nimage: {tag: latest}\n"
        "args: [a, b]\nbig: 12345678901\n"
    ),
    "chart/templates/cm.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shown}\ndata:\n"
        "  json: {{ toJson .Values | quote }}\n"
        '  x: {{ if kindIs "invalid" .Values.x }}""{{ else }}{{ printf "%v" .Values.x | quote '
        '}}{{ end }}\n  kind: "{{ kindOf .Values.x }}"\n  big: "{{ .Values.big }}"\n'
        "  raw: {{ .Values.file | default dict | toJson | quote }}\n"
    ),
    "shared/config.json": '{"a": [1, 2],\n "b": "c\\\\d,{e}"}\n',
    "shared/windows.txt": "C:\\Program Files\\x,y\\new\r\n",
    "shared/key.pem": "-----BEGIN KEY-----\nMIIB,{}=\\n\n-----END KEY-----\n",
}


def shown(block):
    return of_hub(CHART, block)[0]["data"]


def parameter(name, value, **more):
    return {"parameters": [{"name": name, "value": value, **more}]}


@pytest.mark.parametrize(
    ("value", "kind", "printed"),
    [
        pytest.param("20240115", "int64", "20240115", id="a date"),
        pytest.param("10485760", "int64", "10485760", id="bytes"),
        pytest.param("1234567890123456789", "int64", "1234567890123456789", id="19 digits"),
        pytest.param("-7", "int64", "-7", id="negative"),
        pytest.param("9223372036854775808", "string", "9223372036854775808", id="beyond 64 bits"),
        pytest.param("1e3", "string", "1e3", id="exponent"),
        pytest.param("0123", "string", "0123", id="leading zero"),
        pytest.param("0x10", "string", "0x10", id="hexadecimal"),
        pytest.param("1.50", "string", "1.50", id="fraction"),
        pytest.param("true", "bool", "true", id="true"),
        pytest.param("False", "bool", "false", id="false, in capitals"),
        pytest.param("null", "invalid", "", id="null"),
        pytest.param("", "string", "", id="nothing"),
        pytest.param("a,b", "string", "a,b", id="comma"),
        pytest.param("a\\,b", "string", "a,b", id="escaped comma"),
        pytest.param("{a,b}", "slice", "[a b]", id="list"),
        pytest.param("{20240115,x}", "slice", "[20240115 x]", id="list of numbers"),
        pytest.param("a{b}", "string", "a{b}", id="brace inside"),
        pytest.param("C:\\\\temp", "string", "C:\\temp", id="escaped backslash"),
        pytest.param("C:\\temp", "string", "C:temp", id="backslash takes the next"),
    ],
)
def test_a_parameter_is_of_the_type_that_helm_makes_of_it(value, kind, printed):
    found = shown(parameter("x", value))
    assert (found["kind"], found["x"]) == (kind, printed)


def test_a_number_of_a_value_file_is_a_float_as_in_helm():
    found = shown({"valuesObject": {"x": 20240115}})
    assert (found["kind"], found["x"], found["big"]) == (
        "float64",
        "2.0240115e+07",
        "1.2345678901e+10",
    )


@pytest.mark.parametrize(
    "text", ["1e3", "0123", "007", "yes", "null", "1:30", "2001-01-01", "~", "0o14", "\u2028", "😀"]
)
def test_a_text_of_the_values_object_stays_text(text):
    assert shown({"valuesObject": {"x": text}})["kind"] == "string"


@pytest.mark.parametrize(
    ("block", "words"),
    [
        pytest.param(
            parameter("hosts[1].port", "444"),
            '"hosts":[{"name":"one","port":80},{"name":"two","port":444}]',
            id="an element of a list of the chart",
        ),
        pytest.param(
            {
                "valuesObject": {"hosts": [{"name": "o"}, {"name": "p"}]},
                **parameter("hosts[1].port", "444"),
            },
            '"hosts":[{"name":"o"},{"name":"p","port":444}]',
            id="of values",
        ),
        pytest.param(
            {"valuesObject": {"args": ["x", "y"]}, **parameter("args[0]", "z")},
            '"args":["z","y"]',
            id="args[0]",
        ),
        pytest.param(
            {"valuesObject": {"args": ["x", "y"]}, **parameter("args[1]", "z")},
            '"args":["x","z"]',
            id="args[1]",
        ),
        pytest.param(
            {"valuesObject": {"args": ["x"]}, **parameter("args[2]", "z")},
            '"args":["x",null,"z"]',
            id="beyond the end",
        ),
        pytest.param(
            {"valuesObject": {"grid": [[1, 2], [3]]}, **parameter("grid[0][1]", "9")},
            '"grid":[[1,9],[3]]',
            id="lists in lists",
        ),
        pytest.param(parameter("a\\.b", "1"), '"a.b":1', id="an escaped dot"),
        pytest.param(
            parameter("image.tag", "20240115"), '"image":{"tag":20240115}', id="a tag of digits"
        ),
        pytest.param(
            parameter("image.tag", "20240115", forceString=True),
            '"image":{"tag":"20240115"}',
            id="forced text",
        ),
        pytest.param(
            {
                "parameters": [
                    {"name": "t", "value": "text", "forceString": True},
                    {"name": "t", "value": "5"},
                ]
            },
            '"t":"text"',
            id="forced text comes last, as --set-string",
        ),
    ],
)
def test_parameters_leave_what_is_beside_them(block, words):
    # Lists of the chart's own values are replaced by what is set, as in Helm.
    found = shown(block)["json"]
    if block.get("valuesObject") is None and "hosts" in words:
        assert '"hosts":[null,{"port":444}]' in found
    else:
        assert words in found


@pytest.mark.parametrize("name", ["config.json", "windows.txt", "key.pem"])
def test_a_file_parameter_is_the_file_byte_for_byte(name):
    import json

    path = f"../shared/{name}"
    found = json.loads(shown({"fileParameters": [{"name": "file", "path": path}]})["raw"])
    assert found == CHART[f"shared/{name}"]


@pytest.mark.parametrize(
    "name",
    [
        "hosts[x]",
        "hosts[-1].port",
        "hosts[70000]",
        "image[0]",
        "image.tag.deep",
        ".".join("a" * 40),
        "a,b",
    ],
)
def test_what_helm_refuses_is_refused(name):
    block = {"valuesObject": {"image": {"tag": "x"}}, **parameter(name, "v")}
    assert of_hub(CHART, block) is None


def test_whole_numbers_are_whole_in_every_chart_of_a_chart():
    names = ["sub.id", "second.id", "global.id", "lib.exports.data.exported", "grid[1][0].x"]
    block = {"parameters": [{"name": n, "value": "20240115"} for n in ["tags.extra", *names]]}
    block["parameters"][0]["value"] = "true"

    found = {
        m["metadata"]["name"]: m["data"].get("kinds", "") for m in of_hub(CHARTS["values"], block)
    }

    for place, name in (
        ("all", ".exported"),
        ("all", ".global.id"),
        ("all", ".grid[1][0].x"),
        ("sub", ".id"),
        ("sub", ".global.id"),
        ("second", ".id"),
    ):
        assert f"{name} int64 20240115 20240115" in found[place], (place, name)


def test_a_schema_sees_numbers_and_no_dependency_that_is_off():
    files = CHARTS["schema"]
    assert of_hub(files, parameter("port", "444"))[0]["data"] == {
        "port": "444",
        "kind": "int64",
        "same": "true",
    }
    assert of_hub(files, parameter("port", "70001")) is None
    assert of_hub(files, parameter("strict.enabled", "true")) is None


def test_a_block_of_text_at_the_end_of_a_template_keeps_its_newline():
    found = {m["metadata"]["name"]: m for m in of_hub(BLOCKS, {})}

    assert found["ends"]["data"] == {"text": "first\nlast\n"}
    assert found["clip"]["data"] == {"text": "kept\n"} and found["strip"]["folded"] == "one two"
    assert [found[f"each-{n}"]["data"]["text"] for n in "ab"] == ["of a\n", "of b\nmore\n"]
    assert found["windows"]["data"] == {"text": "a\nb\n"} and found["hook"]["spec"] == {
        "script": "a"
    }


def test_library_charts_are_not_installable():
    assert of_hub(CHARTS["library"], {}) is None
