"""Automated sync, deletion guard, project limits, options, backoff, tracking."""

from datetime import UTC, datetime, timedelta

import pytest

from hub.engine.autosync import LastOperation, decide, is_automated
from hub.engine.deletion_guard import (
    Budget,
    Candidate,
    Verdict,
    budget_from,
    decide_deletions,
    needs_confirmation,
)
from hub.engine.errors import ManifestError, RuleError
from hub.engine.ignore_rules import ignore_rules, plain_path, without_ignored
from hub.engine.project_restrictions import (
    matches,
    normal_url,
    permits_destination,
    permits_kind,
    permits_source,
    restriction_violations,
)
from hub.engine.quantity import parse_quantity, same_quantity
from hub.engine.resource import ResourceKey, is_dns_name, manifests_from, resource_key, unique
from hub.engine.retry import Backoff, parse_duration, retry_policy
from hub.engine.status import Phase, ResourceState, Sync
from hub.engine.sync_options import compare_options, parse_options, resource_options
from hub.engine.tracking import NOBODY, Owner, Tracking, mark, owner_of, rename, unmark

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OUT, SYNCED = Sync.OUT_OF_SYNC, Sync.SYNCED


def state(status=OUT, *, wanted=True, exists=True):
    return ResourceState(
        ResourceKey("", "ConfigMap", "ns", "c"), "v1", status, wanted=wanted, exists=exists
    )


def last(phase=Phase.SUCCEEDED, revision="a", attempts=0, ago=0):
    return LastOperation(phase, (revision,), ["s"], "boom", NOW - timedelta(seconds=ago), attempts)


WANTED = LastOperation(Phase.SUCCEEDED, ("a",), ["s"])
FULL = {"prune": True, "selfHeal": True}


@pytest.mark.parametrize(
    ("automated", "status", "states", "before", "start", "heal", "words"),
    [
        pytest.param({}, SYNCED, [state(SYNCED)], None, False, False, "", id="synced"),
        pytest.param({}, OUT, [state()], None, True, False, "", id="first"),
        pytest.param(
            {}, OUT, [state(wanted=False)], None, False, False, "", id="only prunes, prune off"
        ),
        pytest.param(
            {"prune": True},
            OUT,
            [state(wanted=False)],
            None,
            False,
            False,
            "wipe out",
            id="would wipe out all",
        ),
        pytest.param(
            {"prune": True, "allowEmpty": True},
            OUT,
            [state(wanted=False)],
            None,
            True,
            False,
            "",
            id="allowed to be empty",
        ),
        pytest.param({}, OUT, [state()], last(revision="b"), True, False, "", id="new revision"),
        pytest.param({}, OUT, [state()], last(), False, False, "", id="done, no self-heal"),
        pytest.param(
            FULL,
            OUT,
            [state()],
            last(Phase.FAILED),
            False,
            False,
            "Failed last sync attempt to a: boom",
            id="failed before",
        ),
        pytest.param(FULL, OUT, [state()], last(), True, True, "", id="heals"),
        pytest.param(
            FULL, OUT, [state()], last(attempts=1, ago=1), False, False, "", id="heals later"
        ),
        pytest.param(FULL, OUT, [state()], last(attempts=1, ago=3), True, True, "", id="heals now"),
    ],
)
def test_automated_sync(automated, status, states, before, start, heal, words):
    found = decide(automated, status, states, WANTED, before, NOW)
    assert (found.start, found.heal) == (start, heal)
    assert words in found.error


def test_self_heal_says_when_to_look_again():
    assert decide(
        FULL, OUT, [state()], WANTED, last(attempts=2, ago=1), NOW
    ).retry_after == timedelta(seconds=5)


@pytest.mark.parametrize(
    ("policy", "on"),
    [
        (None, False),
        ({}, False),
        ({"automated": {}}, True),
        ({"automated": {"enabled": False}}, False),
        ({"automated": {"enabled": True}}, True),
    ],
)
def test_is_automated(policy, on):
    assert is_automated(policy) is on


def keys(*kinds):
    return [Candidate(ResourceKey("", kind, "ns", f"n{n}")) for n, kind in enumerate(kinds)]


@pytest.mark.parametrize(
    ("candidates", "total", "options", "verdicts"),
    [
        pytest.param(keys("ConfigMap"), 10, {}, [Verdict.ALLOWED], id="small"),
        pytest.param(keys("Namespace"), 10, {}, [Verdict.CONFIRM], id="data kind"),
        pytest.param(
            keys("Namespace"), 10, {"confirmed": True}, [Verdict.ALLOWED], id="data kind, confirmed"
        ),
        pytest.param(keys(*["ConfigMap"] * 6), 10, {}, [Verdict.CONFIRM] * 6, id="more than half"),
        pytest.param(
            keys(*["ConfigMap"] * 6), 10, {"explicit": True}, [Verdict.ALLOWED] * 6, id="asked for"
        ),
        pytest.param(
            keys(*["ConfigMap"] * 2),
            2,
            {},
            [Verdict.ALLOWED] * 2,
            id="small applications change whole",
        ),
        pytest.param(keys(*["ConfigMap"] * 51), 1000, {}, [Verdict.CONFIRM] * 51, id="too many"),
        pytest.param(
            [Candidate(ResourceKey("", "ConfigMap", "ns", "c"), "false")],
            10,
            {"confirmed": True},
            [Verdict.REFUSED],
            id="kept",
        ),
        pytest.param(
            [Candidate(ResourceKey("", "ConfigMap", "ns", "c"), "confirm")],
            10,
            {},
            [Verdict.CONFIRM],
            id="asks",
        ),
    ],
)
def test_deletion_guard(candidates, total, options, verdicts):
    given = {"confirmed": False, **options}
    found = decide_deletions(candidates, total=total, budget=Budget(), **given)
    assert list(found.verdicts.values()) == verdicts
    assert bool(found.message) == (Verdict.CONFIRM in verdicts)
    assert len(found.having(Verdict.CONFIRM)) == verdicts.count(Verdict.CONFIRM)
    assert needs_confirmation(found.message) == (Verdict.CONFIRM in verdicts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "waiting for finalizer x/y",
        "waiting for the running operation to end",
        "waiting for 3 resources",
    ],
)
def test_what_ends_by_itself_waits_for_nobody(text):
    assert not needs_confirmation(text)


def test_deletion_budget_of_a_project():
    assert budget_from(None) == Budget()
    assert budget_from({"maxResources": 1, "maxPercent": 10, "confirmKinds": []}) == Budget(
        1, 10, confirm_kinds=()
    )
    for bad in (
        {"maxResources": -1},
        {"maxPercent": "x"},
        {"maxResources": True},
        {"confirmKinds": "x"},
    ):
        with pytest.raises(RuleError, match=r"spec\.flotilla\.deletion"):
            budget_from(bad)


@pytest.mark.parametrize(
    ("pattern", "text", "separator", "fits"),
    [
        ("*", "a/b", False, True),
        ("*", "a/b", True, False),
        ("**", "a/b", True, True),
        ("a?c", "abc", True, True),
        ("a?c", "a/c", True, False),
        ("a?c", "a/c", False, True),
        ("[ab]x", "bx", False, True),
        ("[!ab]x", "bx", False, False),
        ("{a,b}.yaml", "b.yaml", False, True),
        ("a.b", "axb", False, False),
        ("[", "[", False, True),
    ],
)
def test_globs(pattern, text, separator, fits):
    assert matches(pattern, text, separator=separator) is fits


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://h/a/b.git", "https://h/a/b"),
        ("git@h:a/b.git", "ssh://git@h/a/b"),
        ("HTTPS://H/A", "https://h/A/"),
        ("git@H:A/b.git", "ssh://git@h/A/b"),
        ("H/charts", "h/charts/"),
        ("ssh://h:22/a", "ssh://h:22/a"),
    ],
)
def test_spellings_of_a_repository(one, other):
    assert normal_url(one) == normal_url(other)


@pytest.mark.parametrize(
    ("patterns", "url", "ok"),
    [
        (["*"], "https://h/a/b", True),
        (["https://h/*"], "https://h/a", True),
        (["https://h/*"], "https://h/a/b", False),
        (["https://h/**"], "https://h/a/b", True),
        (["*", "!https://h/secret"], "https://h/secret.git", False),
        ([], "https://h/a", False),
        (["https://other/*"], "https://h/a", False),
    ],
)
def test_source_repositories(patterns, url, ok):
    assert permits_source({"sourceRepos": patterns}, url) is ok


@pytest.mark.parametrize(
    ("pattern", "url", "ok"),
    [
        ("https://h/team/*", "https://h/Team/x", False),
        ("https://h/Team/*", "https://h/team/x", False),
        ("https://H/Team/*", "HTTPS://h/Team/x", True),
        ("git@H:Team/*", "ssh://git@h/Team/x", True),
        ("git@h:Team/*", "git@h:team/x", False),
        ("**Team/x", "https://h/Team/x", True),
        ("**Team/x", "https://h/team/x", False),
    ],
)
def test_a_path_is_permitted_in_the_case_in_which_it_is_written(pattern, url, ok):
    assert permits_source({"sourceRepos": [pattern]}, url) is ok
    assert not permits_source({"sourceRepos": ["**", f"!{pattern}"]}, url)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://h/secret/x", id="as it is"),
        pytest.param("https://h:443/secret/x", id="its port"),
        pytest.param("https://h./secret/x", id="dot after the host"),
        pytest.param("https://h.:443/secret/x", id="dot and port"),
        pytest.param("https://me@h/secret/x", id="a user"),
        pytest.param("https://me:word@h:443/secret/x", id="user, password and port"),
        pytest.param("https://h//secret/x", id="two slashes"),
        pytest.param("https://h/%73ecret/x", id="percent-encoded"),
        pytest.param("https://h/secret/x?a=b", id="query"),
        pytest.param("https://h/secret/x.git#f", id="fragment"),
        pytest.param("HTTPS://H/Secret/x/", id="capitals"),
        pytest.param("ssh://git@g/secret", id="ssh as it is"),
        pytest.param("ssh://bob@g/secret", id="another user of ssh"),
        pytest.param("bob@g:secret.git", id="another user, short form"),
        pytest.param("ssh://g:22/secret", id="ssh port and no user"),
    ],
)
def test_what_is_denied_stays_denied_in_every_spelling(url):
    spec = {"sourceRepos": ["**", "*", "!https://h/secret/*", "!ssh://git@g/secret"]}

    assert not permits_source(spec, url)
    assert permits_source(spec, url.lower().replace("secret", "open").replace("%73ecret", "open"))


@pytest.mark.parametrize("url", ["git@g:22/x", "g:22/x", "bob@g:22/x.git", "git@g:x/y"])
def test_a_denied_server_stays_denied_where_a_path_begins_with_a_number(url):
    """For Git that number is a folder, and no port."""
    assert not permits_source({"sourceRepos": ["**", "!git@g:**"]}, url)
    assert permits_source({"sourceRepos": ["**", "!git@other:**"]}, url)


@pytest.mark.parametrize(
    ("entries", "ok"),
    [
        ([{"server": "*", "namespace": "*"}], True),
        ([{"server": "https://s", "namespace": "team-*"}], True),
        ([{"name": "c*", "namespace": "team-a"}], True),
        ([{"server": "https://other", "namespace": "*"}], False),
        ([{"server": "*", "namespace": "other"}], False),
        ([{"server": "*"}], False),
        ([{"server": "*", "namespace": "*"}, {"server": "*", "namespace": "!team-*"}], False),
        ([{"server": "*", "namespace": "*"}, {"server": "!https://s", "namespace": "*"}], False),
        ([{"server": "*", "namespace": "*"}, {"namespace": "!other"}], True),
        ([{"server": "*", "namespace": "*"}, {"name": "!cluster", "namespace": "x"}], False),
        ([], False),
    ],
)
def test_destinations(entries, ok):
    assert permits_destination({"destinations": entries}, "https://s", "cluster", "team-a") is ok


@pytest.mark.parametrize(
    ("spec", "namespaced", "ok"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"clusterResourceWhitelist": [{"group": "*", "kind": "*"}]}, False, True),
        (
            {
                "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
                "clusterResourceBlacklist": [{"group": "", "kind": "Thing"}],
            },
            False,
            False,
        ),
        (
            {"clusterResourceWhitelist": [{"group": "", "kind": "Thing", "name": "a-*"}]},
            False,
            False,
        ),
        ({"namespaceResourceWhitelist": []}, True, False),
        ({"namespaceResourceWhitelist": [{"group": "", "kind": "Th*"}]}, True, True),
        ({"namespaceResourceBlacklist": [{"group": "", "kind": "Thing"}]}, True, False),
    ],
)
def test_kinds_of_a_project(spec, namespaced, ok):
    assert permits_kind(spec, "", "Thing", "x", namespaced=namespaced) is ok


def test_problems_name_the_project():
    assert restriction_violations({}, "p", ["https://h/a"], ("https://s", "c", "ns")) == [
        "application repo https://h/a is not permitted in project 'p'",
        (
            "application destination server 'https://s' and namespace 'ns' do not match any of the "
            "allowed destinations in project 'p'"
        ),
    ]


def test_options():
    assert parse_options(["Prune=false", "Prune=true", " CreateNamespace=true"]) == {
        "Prune": "false",
        "CreateNamespace": "true",
    }
    assert parse_options(["Something=else"]) == {"Something": "else"}
    for bad in ("Prune", "Prune=maybe", "Validate=1"):
        with pytest.raises(RuleError, match="syncOptions"):
            parse_options([bad])


def test_options_of_a_resource():
    marked = {
        "metadata": {
            "annotations": {
                "argocd.argoproj.io/sync-options": "Prune=false, Replace=true",
                "argocd.argoproj.io/compare-options": "IgnoreExtraneous,ServerSideDiff=true",
            }
        }
    }
    found = resource_options(marked, {"Prune": "confirm", "Delete": "false"})
    assert (
        found.value("Prune"),
        found.value("Delete"),
        found.has("Replace"),
        found.has("Force"),
    ) == ("false", "false", True, False)
    assert found.validate
    assert not resource_options({"metadata": {}}, {"Validate": "false"}).validate
    assert compare_options(marked) == {"IgnoreExtraneous", "ServerSideDiff"}
    kept = resource_options({"metadata": {"annotations": {"helm.sh/resource-policy": "keep"}}}, {})
    assert (kept.value("Prune"), kept.value("Delete")) == ("false", "false")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("1h30m", 5400), ("250ms", 0.25), ("7", 7), (3, 3), ("1.5m", 90)],
)
def test_durations(text, seconds):
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "soon", "5", "s5", "1h 2m", True])
def test_bad_durations(text):
    if text == "5":
        assert parse_duration(text)
        return
    with pytest.raises(RuleError, match=r"spec\.x"):
        parse_duration(text, "spec.x")


def test_backoff_and_retry():
    backoff = Backoff(timedelta(seconds=5), 2, timedelta(minutes=3))
    assert [backoff.delay(n).total_seconds() for n in (0, 1, 2, 10, 5000)] == [5, 10, 20, 180, 180]
    policy = retry_policy(
        {
            "limit": 2,
            "backoff": {"duration": "1s", "factor": 3, "maxDuration": "10s"},
            "refresh": True,
        },
        default_limit=5,
    )
    assert (policy.allows(1), policy.allows(2), policy.refresh) == (True, False, True)
    assert [policy.backoff.delay(n).total_seconds() for n in (0, 1, 2, 3)] == [1, 3, 9, 10]
    assert retry_policy(None, default_limit=5).limit == 5
    assert retry_policy({"limit": -1}, default_limit=0).allows(1000)
    with pytest.raises(RuleError, match="retry"):
        retry_policy({"limit": "many"}, default_limit=0)
    with pytest.raises(RuleError, match=r"backoff\.duration"):
        retry_policy({"backoff": {"duration": "x"}}, default_limit=0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1", "1000m", True),
        ("1Gi", "1024Mi", True),
        ("1G", "1Gi", False),
        (1, "1", True),
        ("1e3", "1k", True),
        ("x", "x", False),
        (True, True, False),
        ("0.5", "500m", True),
    ],
)
def test_quantities(one, other, same):
    assert same_quantity(one, other) is same
    assert parse_quantity(None) is None


CM = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ns"}}
KEPT = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "r"},
}


@pytest.mark.parametrize("method", ["annotation", "label", "annotation+label"])
def test_marks_name_their_application(method):
    tracking = Tracking(method, installation_id="hub-1")
    marked = mark(CM, "app", "ns", tracking)
    assert owner_of(marked, tracking) == Owner("app", is_self=True)
    assert owner_of(CM, tracking).instance == ""
    assert unmark(marked, tracking) == CM
    assert CM["metadata"] == {"name": "c", "namespace": "ns"}


def test_copied_marks_and_other_installations():
    tracking = Tracking()
    marked = mark(CM, "app", "ns", tracking)
    copied = {**marked, "metadata": {**marked["metadata"], "name": "other"}}
    assert owner_of(copied, tracking) == Owner("app", is_self=False)
    assert owner_of(marked, Tracking(installation_id="other")) == NOBODY
    odd = {
        **CM,
        "metadata": {**CM["metadata"], "annotations": {"argocd.argoproj.io/tracking-id": "odd"}},
    }
    assert owner_of(odd, tracking) == NOBODY
    cluster = mark(KEPT, "app", "dest", tracking)
    assert (
        cluster["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"]
        == "app:rbac.authorization.k8s.io/ClusterRole:dest/r"
    )
    assert owner_of(cluster, tracking).is_self
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "x.y"},
    }
    assert mark(crd, "app", "ns", tracking) == crd
    long = mark(CM, "a" * 70, "ns", Tracking("annotation+label"))
    assert len(long["metadata"]["labels"]["app.kubernetes.io/instance"]) == 63


def hook_job(phase, **metadata):
    notes = {"argocd.argoproj.io/hook": phase}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"namespace": "ns", "annotations": notes, **metadata},
    }


def test_a_generated_name_is_in_the_mark_too():
    marked = mark(hook_job("PreSync", generateName="pre-"), "app", "ns", Tracking())

    named = rename(marked, "pre-abc")

    assert "generateName" not in named["metadata"]
    assert (named["metadata"]["name"], owner_of(named, Tracking())) == (
        "pre-abc",
        Owner("app", is_self=True),
    )
    plain = rename(hook_job("PreSync", generateName="pre-"), "pre-abc")
    assert plain["metadata"]["annotations"] == {"argocd.argoproj.io/hook": "PreSync"}


@pytest.mark.parametrize(
    ("phase", "name", "is_self"),
    [
        pytest.param("PreSync", "pre-0123abc-presync-1764300000", True, id="named by the hub"),
        pytest.param("PreSync,PostSync", "pre-1.2.3-postsync-1", True, id="a chart's version"),
        pytest.param("PostSync", "pre-0123abc-presync-1764300000", False, id="another phase"),
        pytest.param("PreSync", "pre-x7k2p", False, id="a copy that somebody named"),
        pytest.param("PreSync", "other-0123abc-presync-1764300000", False, id="another prefix"),
        pytest.param("", "pre-0123abc-presync-1764300000", False, id="no hook"),
    ],
)
def test_hooks_of_earlier_releases_have_a_mark_without_the_generated_part(phase, name, is_self):
    marked = mark(hook_job(phase, generateName="pre-"), "app", "ns", Tracking())
    live = {**marked, "metadata": {**marked["metadata"], "name": name}}

    assert owner_of(live, Tracking()) == Owner("app", is_self=is_self)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param([], "must be an object", id="list"),
        pytest.param({"kind": "X", "metadata": {"name": "x"}}, "apiVersion", id="no apiVersion"),
        pytest.param({"apiVersion": "v1", "metadata": {}}, "kind", id="no kind"),
        pytest.param({"apiVersion": "v1", "kind": "X"}, "metadata", id="no metadata"),
        pytest.param({"apiVersion": "v1", "kind": "X", "metadata": {}}, "name", id="no name"),
        pytest.param(
            {"apiVersion": "v1", "kind": "X", "metadata": {"name": False}},
            "put it in quotes",
            id="name that YAML reads as false",
        ),
        pytest.param(
            {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x", "namespace": 1}},
            "namespace",
            id="odd namespace",
        ),
        pytest.param(
            {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x", "labels": {"a": 1}}},
            "put it in quotes",
            id="number as label",
        ),
        pytest.param(
            {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x", "annotations": []}},
            "annotations",
            id="list of annotations",
        ),
        pytest.param({"apiVersion": "v1", "kind": "XList", "items": 5}, "items", id="odd list"),
    ],
)
def test_manifests_that_cannot_be_used(document, words):
    with pytest.raises(ManifestError, match=words):
        manifests_from([document], "file.yaml")


def test_lists_are_expanded_and_the_last_of_a_name_counts():
    other = {**CM, "data": {"a": "2"}}
    listed = {"apiVersion": "v1", "kind": "List", "items": [CM, other, {}]}
    generated = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-"}}
    found = manifests_from(
        [listed, {"apiVersion": "v1", "kind": "List", "items": None}, generated, generated], "f"
    )
    kept, repeated = unique(found)
    assert kept == [other, generated, generated]
    assert repeated == {resource_key(CM): 2}
    assert str(resource_key(CM)) == "ConfigMap/ns/c"
    assert resource_key(CM).text == "/ConfigMap/ns/c"


@pytest.mark.parametrize(
    ("name", "ok"),
    [("a", True), ("a.b-c", True), ("A", False), ("-a", False), ("a" * 254, False), ("", False)],
)
def test_names(name, ok):
    assert is_dns_name(name) is ok


@pytest.mark.parametrize(
    ("expression", "path"),
    [
        (".a.b", ("a", "b")),
        (".a[].b", ("a", None, "b")),
        ('.a["x/y"]', ("a", "x/y")),
        (".a[2]", ("a", 2)),
        (".a?", ("a",)),
        (".a | .b", None),
        ("", None),
        ('.["a"]', ("a",)),
        ('.a[] | select(.x == "y")', None),
        ('["a"]', None),
        (".a.b?.c", None),
        (".a[].b?", ("a", None, "b")),
        (".a.[0].[]", ("a", 0, None)),
        (" .a\n", ("a",)),
        (".env.and", ("env", "and")),
    ],
)
def test_plain_jq_paths(expression, path):
    found = plain_path(expression)

    assert (found and found.steps) == path


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([{"kind": f"*{n}"} for n in range(2_001)], id="entries"),
        pytest.param([{"kind": "*", "jsonPointers": ["/a"] * 2_001}], id="pointers"),
        pytest.param(
            [{"kind": "*", "jqPathExpressions": [".a"] * 700, "managedFieldsManagers": ["a"] * 700}]
            * 2,
            id="paths and managers",
        ),
        pytest.param(
            [{"kind": "*", "jqPathExpressions": [".[][]"] * 101}], id="paths through everything"
        ),
    ],
)
def test_rules_of_differences_are_not_too_many(entries):
    with pytest.raises(RuleError, match=r"at most 2000|more than 100 paths"):
        ignore_rules(entries, "x")
    assert ignore_rules([{"kind": "*", "jqPathExpressions": [".a[].b"] * 100}], "x")


def test_rules_remove_what_they_name():
    document = {"a": [{"b": 1, "c": 2}, {"b": 3}], "d/e": 1, "f": {"g": 1}}

    def removed(**entry):
        return without_ignored(
            document, ignore_rules([{"kind": "*", **entry}], "x"), lambda e, v: {**v, "jq": e}
        )

    assert removed(jqPathExpressions=[".a[].b"])["a"] == [{"c": 2}, {}]
    assert removed(jsonPointers=["/a/0"])["a"] == [{"b": 3}]
    assert removed(jsonPointers=["/a/0/b"])["a"][0] == {"c": 2}
    assert removed(jsonPointers=["/a/9", "/nope/x", "/f/g/h"]) == document
    assert "d/e" not in removed(jsonPointers=["/d~1e"])
    assert removed(jqPathExpressions=[".a[]"])["a"] == []
    assert removed(jqPathExpressions=[".f[]"])["f"] == {}
    assert removed(jqPathExpressions=[".a | first"])["jq"] == ".a | first"
    for bad in ([{}], [{"kind": "X", "jsonPointers": ["a"]}]):
        with pytest.raises(RuleError, match=r"x\[0\]"):
            ignore_rules(bad, "x")
