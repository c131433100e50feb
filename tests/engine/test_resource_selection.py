"""What --resource and the `resources` of a sync select."""

import time

import pytest

from hub.cli.apps import resource_flag
from hub.engine.errors import RuleError
from hub.engine.resource import ResourceKey
from hub.engine.resource_selection import (
    Selection,
    check_patterns,
    is_selected,
    selection_problem,
)

KEYS = [
    ResourceKey("", "ConfigMap", "a", "settings"),
    ResourceKey("", "ConfigMap", "b", "settings"),
    ResourceKey("", "Service", "a", "web"),
    ResourceKey("apps", "Deployment", "a", "web"),
    ResourceKey("serving.knative.dev", "Service", "a", "fn"),
]


def chosen(*flags):
    entries = [resource_flag(f) for f in flags]
    return [KEYS.index(k) for k in KEYS if is_selected(entries, k)]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param([":ConfigMap:settings"], [0, 1], id="any namespace"),
        pytest.param([":ConfigMap:a/settings"], [0], id="one namespace"),
        pytest.param([":Service:*"], [2], id="the core group is empty"),
        pytest.param(["*:Service:*"], [2, 4], id="any group"),
        pytest.param(["*:*:web"], [2, 3], id="any kind"),
        pytest.param(["*:*:a/*"], [0, 2, 3, 4], id="all of a namespace"),
        pytest.param(["*.dev:Service:f?"], [4], id="globs"),
        pytest.param([":ConfigMap:*", "apps:Deployment:web"], [0, 1, 3], id="several"),
        pytest.param(["!*:Service:*"], [0, 1, 3], id="all but"),
        pytest.param(["!*:Service:*", "!:ConfigMap:*"], [3], id="several exclusions"),
        pytest.param(["*:*:web", "!apps:*:*"], [2], id="the exclusion wins"),
        pytest.param(["!apps:*:*", "*:*:web"], [2], id="in any order"),
        pytest.param(["!:ConfigMap:b/*"], [0, 2, 3, 4], id="exclusion in a namespace"),
        pytest.param(["apps:ConfigMap:settings"], [], id="another group"),
        pytest.param(["!*:*:*"], [], id="nothing left"),
        pytest.param([], [0, 1, 2, 3, 4], id="no entries"),
    ],
)
def test_selected(flags, expected):
    assert chosen(*flags) == expected
    assert bool(selection_problem([resource_flag(f) for f in flags], KEYS)) is (expected == [])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([":ConfigMap:settings", ":Secret:x"], "no resource of the application matches :Secret:x"),
        (["!*:*:*"], "no resource of the application is left after !*:*:*"),
        ([":ConfigMap:c/settings"], "no resource of the application matches :ConfigMap:c/settings"),
        (["!:Secret:*"], ""),
    ],
)
def test_what_selects_nothing_is_said(flags, words):
    assert selection_problem([resource_flag(f) for f in flags], KEYS) == words


def test_thousands_of_names_are_looked_up_in_thousands_of_resources():
    keys = [ResourceKey("", "ConfigMap", f"n{n}", f"c{n}") for n in range(20_000)]
    entries = [{"kind": "ConfigMap", "name": f"c{n}"} for n in range(19_000, 20_000)]
    entries += [{"kind": "ConfigMap", "name": f"c{n}", "namespace": f"n{n}"} for n in range(1000)]
    began = time.thread_time()
    assert selection_problem(entries, keys) == ""
    selection = Selection(entries)
    assert [k.name for k in keys if selection.has(k)] == [
        f"c{n}" for n in (*range(1000), *range(19_000, 20_000))
    ]
    assert time.thread_time() - began < 5


def test_each_entry_with_a_pattern_is_matched_with_all_resources_so_there_are_few():
    entries = [{"kind": "ConfigMap", "name": f"*{n}"} for n in range(101)]
    check_patterns(entries[:100] + [{"kind": "ConfigMap", "name": "x"}] * 1900, "resources")
    with pytest.raises(RuleError, match="resources has more than 100 entries with patterns"):
        check_patterns(entries, "resources")
