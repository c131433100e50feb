"""Globs and regular expressions that people write: what they match, and that none takes long."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.engine import globs, regex
from hub.engine.cluster_scopes import parse_scope
from hub.engine.errors import RuleError
from hub.engine.ignore_rules import ignore_rules
from hub.engine.project_restrictions import (
    check_restrictions,
    permits_destination,
    permits_kind,
    permits_source,
)
from hub.engine.project_restrictions import service_account_for as account_for
from hub.engine.source_integrity import check_integrity, signature_requirement
from hub.engine.sync_windows import check_windows


def slow(tokens, text, separator):
    """Return whether a glob matches, by trying every way: right, and exponential."""
    if not tokens:
        return text == ""
    head, rest = tokens[0], tokens[1:]
    if head.kind == "text":
        return text.startswith(head.text) and slow(rest, text[len(head.text) :], separator)
    if head.kind == "choice":
        return any(slow((*choice, *rest), text, separator) for choice in head.choices)
    if head.kind == "set":
        inside = any(low <= text[:1] <= high for low, high in head.ranges)
        return text != "" and inside != head.negated and slow(rest, text[1:], separator)
    stops = separator and head.kind != "deep"
    if head.kind == "one":
        return text[:1] not in ("", "/" if stops else "") and slow(rest, text[1:], separator)
    if slow(rest, text, separator):
        return True
    return text != "" and not (stops and text[0] == "/") and slow(tokens, text[1:], separator)


@given(st.text("ab/*?[]!-{},\\é", max_size=9), st.text("ab/é\n,-", max_size=7), st.booleans())
@settings(max_examples=1500, deadline=None)
def test_a_glob_matches_what_trying_every_way_finds(pattern, text, separator):
    try:
        tokens = globs.parse(pattern)
    except globs.GlobError:
        assert not globs.matches(pattern, text, separator=separator)
        assert globs.denies(pattern, text, separator=separator)
        return
    assert globs.matches(pattern, text, separator=separator) is slow(tokens, text, separator)


@given(st.lists(st.text("ab/*?[!]{,}", max_size=6), max_size=12), st.text("ab/", max_size=6))
@settings(max_examples=500, deadline=None)
def test_many_globs_together_match_what_one_of_them_does(many, text):
    assert globs.Union(many)(text) is any(globs.matches(p, text) for p in many)


@pytest.mark.parametrize(
    ("pattern", "text", "separator", "fits"),
    [
        (r"a\*b", "a*b", False, True),
        (r"a\*b", "axb", False, False),
        (r"\{a\}", "{a}", False, True),
        ("[^a]", "b", False, True),
        ("{a,{b,c}}/x", "c/x", True, True),
        ("{a,{b,c}}/x", "{b/x", True, False),
        ("{a*,b}c", "axc", False, True),
        ("{a,b", "{a,b", False, True),
        ("a}", "a}", False, True),
        ("[]x", "[]x", False, True),
        ("[a-c-]", "-", False, True),
        ("[a.b]", ".", False, True),
        ("{,a}b", "b", False, True),
        ("a/**/c", "a/b/b/c", True, True),
        ("a/*/c", "a/b/b/c", True, False),
        ("*.yaml", "x/y.yaml", True, False),
        ("é?", "éü", False, True),
        ("a*", "a\udcff", False, True),
        ("[!a]", "\udcff", False, True),
        ("", "", False, True),
        ("", "a", False, False),
        ("***", "a/b", True, True),
    ],
)
def test_what_globs_mean(pattern, text, separator, fits):
    assert globs.matches(pattern, text, separator=separator) is fits


def test_git_reads_braces_as_themselves():
    assert globs.matches("{a,b}/*", "{a,b}/c", braces=False)
    assert not globs.matches("{a,b}/*", "a/c", braces=False)


HOSTILE = [
    ("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", "stars"),
    ("*?" * 120 + "b", "stars and marks"),
    ("*a" * 250 + "b", "as many stars as allowed"),
    ("{a,aa}" * 160 + "b", "choices in a row"),
    ("{a,{a,{a,{a,{a,aa}}}}}" * 40 + "b", "nested choices"),
    ("{*a,a*}" * 60 + "b", "stars in choices"),
    ("*" + "?" * 250 + "b", "a counter"),
    ("*a" + "[!b]" * 240 + "b", "sets after a star"),
]


@pytest.mark.parametrize("pattern", [p for p, _ in HOSTILE], ids=[name for _, name in HOSTILE])
@pytest.mark.parametrize("separator", [False, True], ids=["text", "path"])
def test_no_glob_takes_long(pattern, separator):
    begun = time.process_time()

    for text in ("a" * 4096, "ac" * 2048, "a/" * 2048):
        assert not globs.matches(pattern, text, separator=separator)

    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+$",
        r"(a|a)*$",
        r"(a|aa)+$",
        r"(.*)*$",
        r"^(\w+\s?)*$",
        r".*.*.*.*.*x",
        r"(a{1,9}){1,9}$",
    ],
)
def test_no_regular_expression_takes_long(pattern):
    begun = time.process_time()

    regex.finds(pattern, "a" * 20_000 + "!")
    regex.fits(pattern, "a" * 20_000 + "!")

    assert time.process_time() - begun < 1


BAD = ["[z-a]", "[!]", "a" * 1025, "*?" * 200, "{" * 6 + "a" + "}" * 6, "\ud800[a]"]


@pytest.mark.parametrize(
    "pattern", BAD, ids=["range", "empty set", "long", "wildcards", "deep", "surrogate"]
)
def test_what_cannot_be_used_is_refused_and_permits_nothing(pattern):
    with pytest.raises(globs.GlobError, match=r"^spec\.x\[1\]"):
        globs.check_all(["*", pattern], "spec.x")
    assert not globs.matches(pattern, "a")
    assert globs.denies(pattern, "a")


LIMITS = {
    "spec.sourceRepos[0]": {"sourceRepos": ["https://h/[z-a]"]},
    "spec.sourceNamespaces[1]": {"sourceNamespaces": ["a", "[z-a]"]},
    "spec.destinations[0].namespace": {"destinations": [{"server": "*", "namespace": "![z-a]"}]},
    "spec.destinations[0].server": {"destinations": [{"server": "a" * 2000, "namespace": "*"}]},
    "spec.clusterResourceWhitelist[0].kind": {
        "clusterResourceWhitelist": [{"group": "*", "kind": "[z-a]"}]
    },
    "spec.namespaceResourceBlacklist[0].name": {
        "namespaceResourceBlacklist": [{"group": "*", "kind": "*", "name": "[z-a]"}]
    },
    "spec.orphanedResources.ignore[0].name": {"orphanedResources": {"ignore": [{"name": "[z-a]"}]}},
    "spec.sourceRepos has 2001": {"sourceRepos": [f"https://h/{n}" for n in range(2001)]},
}


@pytest.mark.parametrize("field", LIMITS)
def test_a_project_names_the_pattern_that_cannot_be_used(field):
    with pytest.raises(RuleError) as refused:
        check_restrictions(LIMITS[field])
    assert str(refused.value).startswith(field)


OTHERS = {
    "syncWindows": lambda: check_windows(
        [{"kind": "deny", "schedule": "* * * * *", "duration": "1h", "applications": ["[z-a]"]}]
    ),
    "ignoreDifferences": lambda: ignore_rules([{"kind": "[z-a]"}], "spec.ignoreDifferences"),
    "sourceIntegrity": lambda: check_integrity(
        {
            "sourceIntegrity": {
                "git": {"policies": [{"repos": [{"url": "[z-a]"}], "gpg": {"mode": "none"}}]}
            }
        }
    ),
    "z-a": lambda: parse_scope("clusters named prod|[z-a]"),
    "names no clusters": lambda: parse_scope("clusters named |"),
    "longer than 2000": lambda: parse_scope("clusters where " + "a," * 2000),
    "longer than 256": lambda: check_windows(
        [
            {
                "kind": "deny",
                "schedule": "1," * 200 + "1 * * * *",
                "duration": "1h",
                "applications": ["*"],
            }
        ]
    ),
    "not a duration": lambda: check_windows(
        [
            {
                "kind": "deny",
                "schedule": "* * * * *",
                "duration": "1" * 100_000 + "x",
                "applications": ["*"],
            }
        ]
    ),
}


@pytest.mark.parametrize("words", OTHERS)
def test_other_rules_name_what_cannot_be_used(words):
    with pytest.raises(RuleError, match=words):
        OTHERS[words]()


def test_a_stored_pattern_that_cannot_be_used_permits_nothing_and_denies_everything():
    allow = {"sourceRepos": ["https://h/[z-a]", "https://h/ok"]}
    deny = {"sourceRepos": ["*", "!https://h/[z-a]"]}
    assert permits_source(allow, "https://h/ok")
    assert not permits_source(allow, "https://h/a")
    assert not permits_source(deny, "https://h/ok")
    place = {
        "destinations": [{"server": "*", "namespace": "*"}, {"server": "s", "namespace": "![z-a]"}]
    }
    assert not permits_destination(place, "s", "", "team")
    assert permits_destination(place, "other", "", "team")
    kinds = {"namespaceResourceBlacklist": [{"group": "", "kind": "[z-a]"}]}
    assert not permits_kind(kinds, "", "Secret", "x", namespaced=True)
    assert permits_kind(kinds, "apps", "Deployment", "x", namespaced=True)


def test_a_stored_demand_or_account_that_cannot_be_read_is_an_error_and_not_passed_over():
    policy = {"repos": [{"url": "[z-a]"}], "gpg": {"mode": "head", "keys": ["A"]}}
    with pytest.raises(RuleError, match="sourceIntegrity"):
        signature_requirement({"sourceIntegrity": {"git": {"policies": [policy]}}}, "https://h/a")
    entries = [
        {"server": "[z-a]", "namespace": "*", "defaultServiceAccount": "weak"},
        {"server": "*", "namespace": "*", "defaultServiceAccount": "mighty"},
    ]
    with pytest.raises(RuleError, match=r"destinationServiceAccounts\[0\]\.server"):
        account_for({"destinationServiceAccounts": entries}, "https://s", "n", "f")


@pytest.mark.parametrize(
    "pattern",
    [
        "(a|b){0,500}(a|b){0,500}c",
        "((a|b|c){0,30}){0,30}x",
        "(?i)[a-z]{1,900}x",
        "(.{0,30}){0,30}z",
        "(a.{0,999}b)",
    ],
)
def test_a_regular_expression_has_few_instructions(pattern):
    with pytest.raises(regex.PatternError, match="too large"):
        regex.compiled(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "^.{8,256}$",
        r"^\pL+$",
        r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$",
        "^v[0-9]+\\.[0-9]+$",
    ],
)
def test_usual_regular_expressions_are_small_enough(pattern):
    assert regex.compiled(pattern)
