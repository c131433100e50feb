"""The hub's rendering beside that of the real helm 3, helm 4 and kustomize, on the same files and
values.
"""

import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from support.corpus import CHARTS, OVERLAYS, VALUES
from support.tools import built_by_hub, documents, of_hub, written

from projects.sources import kustomize

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize("name", ["helm3", "helm4"])
def test_charts(tools, tmp_path, name, chart):
    files = CHARTS[chart]

    real = tools.template(name, written(tmp_path, files), {})

    assert of_hub(files, {}) == real


BLOCK_TABLE = [
    pytest.param({"valuesObject": {"port": 444}}, id="a float of values"),
    pytest.param({"parameters": [{"name": "port", "value": "444"}]}, id="a whole number"),
    pytest.param(
        {"parameters": [{"name": "port", "value": "70001"}]}, id="too large for the schema"
    ),
    pytest.param(
        {"parameters": [{"name": "port", "value": "444", "forceString": True}]},
        id="text where a number must be",
    ),
    pytest.param(
        {"parameters": [{"name": "strict.enabled", "value": "true"}]},
        id="a dependency that misses a value",
    ),
    pytest.param(
        {
            "parameters": [
                {"name": "strict.enabled", "value": "true"},
                {"name": "strict.must", "value": "5"},
            ]
        },
        id="and has it",
    ),
    pytest.param(
        {
            "parameters": [
                {"name": "strict.enabled", "value": "true"},
                {"name": "strict.must", "value": "5x"},
            ]
        },
        id="and has another",
    ),
]


@pytest.mark.parametrize("block", BLOCK_TABLE)
def test_schemas(tools, tmp_path, block):
    files = CHARTS["schema"]

    assert of_hub(files, block) == tools.template("helm3", written(tmp_path, files), block)


_NAMES = [
    "hosts[1].port",
    "hosts[0].name",
    "hosts[2].name",
    "hosts[3]",
    "args[0]",
    "args[1]",
    "args[5]",
    "args",
    "image.tag",
    "image",
    "port",
    "id",
    "a.b.c",
    "a\\.b",
    "nothing",
    "nothing.x",
    "sub.replicas",
    "sub.id",
    "sub.labels.a",
    "second.id",
    "sub.enabled",
    "tags.extra",
    "global.ports.http",
    "global.id",
    "lib.exports.data.exported",
    "lib.more.x[0]",
    "grid[0][1]",
    "grid[1][0].x",
    "ratio",
    "hosts[1].paths[1]",
    "hosts[1].paths",
    "big",
    "extra.a",
    "hosts[-1]",
    "hosts[x]",
    "hosts",
    "image.tag.deep",
]
_TEXTS = [
    "444",
    "20240115",
    "10485760",
    "1234567890123456789",
    "9223372036854775808",
    "-5",
    "+7",
    "0",
    "00",
    "0123",
    "1e3",
    "1.5",
    "0x10",
    "1_000",
    "true",
    "False",
    "null",
    "",
    "a,b",
    "a\\,b",
    "{a,b}",
    "{1,2}",
    "{}",
    "{a",
    "a}",
    "{a},b=c",
    "{a\\,b,c}",
    "C:\\temp\\new",
    "\\",
    "x\\",
    "a=b",
    "a.b[0]",
    " spaced ",
    "é ü 漢",
    "line\nbreak",
    '"quoted"',
    "'x'",
    "yes",
    "~",
    "#no comment",
    "{{ tpl }}",
    "a: b",
    "- a",
    "0.10",
    "1.0",
    "%d",
    "https://x/y?z=1,2",
]
_LEAVES = [
    0,
    1,
    -1,
    12345678901,
    2**53 + 1,
    0.5,
    1e21,
    1e-7,
    1.0,
    True,
    False,
    None,
    "",
    "0123",
    "1e3",
    "yes",
    "null",
    "2001-01-01",
    "a\nb\n",
    "\u2028x",
    "😀",
    "007",
    "1:30",
    [],
    {},
]
_FILES = [
    "../shared/config.json",
    "../shared/windows.txt",
    "../shared/key.pem",
    "../shared/blank.txt",
]


def _tree(source, depth=0):
    if depth < 2 and source.random() < 0.4:
        keys = source.sample(["a", "b", "image", "hosts", "args", "sub", "x"], source.randint(1, 3))
        return {key: _tree(source, depth + 1) for key in keys}
    if depth < 3 and source.random() < 0.2:
        return [_tree(source, depth + 1) for _ in range(source.randint(0, 3))]
    return source.choice(_LEAVES)


def value_set(number):
    """Return a `helm` block made of a number."""
    source = random.Random(number)
    block = {}
    if source.random() < 0.3:
        block["valueFiles"] = ["../shared/one.yaml"]
    top = {
        key: _tree(source, 1)
        for key in source.sample(
            ["hosts", "args", "image", "a", "extra", "new"], source.randint(1, 3)
        )
    }
    if source.random() < 0.5:
        block |= {"valuesObject": top} if source.random() < 0.5 else {"values": json.dumps(top)}
    block["parameters"] = [
        {
            "name": source.choice(_NAMES),
            "value": source.choice(_TEXTS),
            "forceString": source.random() < 0.25,
        }
        for _ in range(source.choice([0, 1, 1, 2, 3]))
    ]
    if source.random() < 0.3:
        block["fileParameters"] = [{"name": source.choice(_NAMES), "path": source.choice(_FILES)}]
    return block


def _differences(tools, name, folder, numbers):
    """Return the numbers of value sets of which hub and tool make something else, and how many
    both refuse.
    """
    places = [written(folder / str(lane), VALUES) for lane in range(2)]

    def of_tool(lane):
        return {n: tools.template(name, places[lane], value_set(n)) for n in numbers[lane::2]}

    with ThreadPoolExecutor(2) as pool:
        lanes = [pool.submit(of_tool, lane) for lane in range(2)]
        ours = {n: of_hub(VALUES, value_set(n)) for n in numbers}
        real = {n: found for lane in lanes for n, found in lane.result().items()}
    refused = sum(found is None for found in real.values())
    return [n for n in numbers if ours[n] != real[n]], refused


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        pytest.param("helm3", range(start, start + 125), id=f"helm3, {start} to {start + 124}")
        for start in range(0, 500, 125)
    ]
    + [pytest.param("helm4", range(1000, 1060), id="helm4, 1000 to 1059")],
)
def test_generated_values(tools, tmp_path, name, numbers, record_property):
    different, refused = _differences(tools, name, tmp_path, numbers)

    record_property(
        "counts",
        f"{name}: {len(numbers)} sets of values, seeds {numbers[0]} to {numbers[-1]}: "
        f"{refused} refused by both, {len(different)} different",
    )
    assert different == [], value_set(different[0])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays(tools, tmp_path, overlay):
    files = OVERLAYS[overlay]

    real = tools.run("kustomize", ["build", "over"], written(tmp_path, files))

    assert built_by_hub(files, {}) == documents(real)


_IMAGES = ["app", "reg/app", "localhost:5000/app", "localhost:5000/x/app", "a.b/c", "*"]


def image_set(number):
    """Return the images of a kustomization, and some to set, made of a number."""
    source = random.Random(number)
    existing = [
        {
            "name": source.choice(_IMAGES[:-1]),
            **source.choice([{}, {"newName": source.choice(_IMAGES[:-1])}]),
            **source.choice([{}, {"newTag": "v1"}, {"digest": "sha256:d"}]),
        }
        for _ in range(source.randint(0, 3))
    ]
    wanted = [
        source.choice(["", f"{source.choice(_IMAGES[:-1])}="])
        + source.choice(_IMAGES)
        + source.choice(["", ":v2", ":*", ":1.0_x"])
        + source.choice(["", "", "@sha256:abc", "@*"])
        for _ in range(source.randint(1, 3))
    ]
    return existing, wanted


def test_generated_images(tools, tmp_path, record_property):
    numbers, different, refused = range(60), [], 0
    for number in numbers:
        existing, wanted = image_set(number)
        file = tmp_path / "kustomization.yaml"
        file.write_text(yaml.safe_dump({"images": existing}))
        if tools.run("kustomize", ["edit", "set", "image", *wanted], tmp_path) is None:
            refused += 1
        elif (
            kustomize.edit({"images": existing}, {"images": wanted}, {})["images"]
            != yaml.safe_load(file.read_text())["images"]
        ):
            different.append(number)

    record_property(
        "counts",
        f"kustomize: {len(numbers)} sets of images, {refused} refused, {len(different)} different",
    )
    assert different == [], image_set(different[0])


BLOCK = {
    "namePrefix": "p-",
    "nameSuffix": "-s",
    "namespace": "other",
    "images": ["img=localhost:5000/new:2@sha256:abc", "side=*:v3"],
    "replicas": [{"name": "d", "count": 4}],
    "commonLabels": {"owner": "me"},
    "commonAnnotations": {"more": "x, y"},
    "patches": [
        {
            "target": {"kind": "Service"},
            "patch": '[{"op": "replace", "path": "/spec/ports/0/port", "value": 81}]',
        }
    ],
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_whole_block_is_what_kustomize_edit_makes(tools, tmp_path, overlay):
    files, folder = OVERLAYS[overlay], written(tmp_path, OVERLAYS[overlay])
    for words in (
        ["set", "nameprefix", "--", "p-"],
        ["set", "namesuffix", "--", "-s"],
        ["set", "image", *BLOCK["images"]],
        ["set", "replicas", "d=4"],
        ["add", "label", "owner:me"],
        ["add", "annotation", "more:x, y"],
        ["set", "namespace", "other"],
    ):
        assert tools.run("kustomize", ["edit", *words], folder / "over") is not None, words
    file = folder / "over/kustomization.yaml"
    document = yaml.safe_load(file.read_text())
    file.write_text(
        yaml.safe_dump({**document, "patches": [*document.get("patches", []), *BLOCK["patches"]]})
    )

    real = tools.run("kustomize", ["build", "over"], folder)

    assert built_by_hub(files, BLOCK) == documents(real)
