"""The registry is the only place that lists the generators."""

import ast
from pathlib import Path

import pytest

import appsets
from appsets.generators import registry, spec_queries
from appsets.generators.base import Generator, Input
from appsets.generators.generate import generate
from appsets.generators.registry import GENERATORS, HOSTED
from appsets.generators.spec_queries import (
    blocks,
    interval,
    may_change_with_cluster,
    requeue_seconds,
)
from appsets.scm.fetchers import FETCHERS
from appsets.spec_fields import check_spec
from hub.engine.errors import RuleError

REGIONS = Generator(
    "regions",
    lambda _run, block, _where: [{"region": name} for name in block["names"]],
    {},
    inputs=frozenset({Input.CLUSTERS}),
    interval_seconds=77,
    depends_on_cluster=lambda _block, before, _after: before is None,
)


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_has_the_types_of_its_fields(name):
    assert GENERATORS[name].name == name
    with pytest.raises(RuleError, match=rf"spec\.generators\[0\]\.{name}\.template"):
        check_spec({"generators": [{name: {"template": "text"}}]})


def test_every_generator_that_a_host_answers_has_a_fetcher():
    assert set(FETCHERS) == set(HOSTED)


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_with_remote_inputs_are_polled(name):
    is_remote = bool(GENERATORS[name].inputs & {Input.HOST, Input.REPOSITORY})
    assert bool(interval(name, {})) == is_remote
    assert requeue_seconds({"generators": [{name: {}}]}) == interval(name, {})


def test_one_entry_of_the_registry_adds_a_generator(monkeypatch):
    monkeypatch.setitem(registry.GENERATORS, "regions", REGIONS)
    spec = {"generators": [{"regions": {"names": ["eu", "us"]}}]}
    assert [made.params["region"] for made in generate(spec, None)] == ["eu", "us"]
    assert list(blocks(spec, "regions")) == [{"names": ["eu", "us"]}]
    assert requeue_seconds(spec) == 77
    assert may_change_with_cluster(spec, None, {})
    assert not may_change_with_cluster(spec, {}, {})
    assert spec_queries.GENERATORS is registry.GENERATORS


def _longest_listing(path):
    literals = (ast.Tuple, ast.List, ast.Set, ast.Dict)
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, literals)]
    entries = [n.keys if isinstance(n, ast.Dict) else n.elts for n in nodes]
    names = [{e.value for e in found if isinstance(e, ast.Constant)} for found in entries]
    return max((len(found & set(GENERATORS)) for found in names), default=0)


def test_no_other_module_lists_the_generators():
    root = Path(appsets.__file__).parent
    listing = [str(p.relative_to(root)) for p in root.rglob("*.py") if _longest_listing(p) > 2]
    assert listing == ["scm/fetchers.py"]
