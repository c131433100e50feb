"""What a set decides: every policy, the budget, and what must be left alone."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appsets.operations.plan import App, Budget, Existing, Wish, budget_of, decide, merged
from appsets.template.limits import OutOfTime, bounded
from hub.engine.errors import RuleError


def app(name, spec=None, labels=None, annotations=None, finalizers=()):
    return App(
        name, {"project": "p", **(spec or {})}, labels or {}, annotations or {}, list(finalizers)
    )


def there(*names, owner="set", project="p", deleting=False):
    return {n: Existing(app(n), owner, deleting, project) for n in names}


def wish(*names, **how):
    return Wish([app(n) for n in names], **how)


def policy(name):
    return {"syncPolicy": {"applicationsSync": name}}


def test_creates_updates_and_deletes():
    existing = {**there("a", "b"), "c": Existing(app("c", {"x": 1}), "set", False, "p")}
    plan = decide("set", {}, wish("a", "c", "d"), existing)
    assert [a.name for a in plan.create] == ["d"]
    assert [(b.spec.get("x"), a.spec.get("x")) for b, a in plan.update] == [(1, None)]
    assert (plan.delete, plan.waiting, plan.unchanged) == (("b",), (), 1)


@pytest.mark.parametrize(
    ("name", "updates", "deletes"),
    [
        ("sync", 1, ("b",)),
        ("create-only", 0, ()),
        ("create-update", 1, ()),
        ("create-delete", 0, ("b",)),
    ],
)
def test_policies(name, updates, deletes):
    existing = {**there("b"), "c": Existing(app("c", {"x": 1}), "set", False, "p")}
    plan = decide("set", policy(name), wish("c", "d"), existing)
    assert ([a.name for a in plan.create], len(plan.update), plan.delete) == (
        ["d"],
        updates,
        deletes,
    )
    assert plan.kept == (() if deletes else ("b",))


def test_an_empty_result_never_deletes_by_itself():
    plan = decide("set", {}, wish(), there("a"))
    assert (plan.delete, plan.waiting) == ((), ("a",))
    assert decide("set", {}, wish(), there("a"), ["a"]).delete == ("a",)


def test_an_element_that_cannot_be_rendered_deletes_nothing():
    plan = decide("set", {}, wish("a", is_complete=False), there("a", "b"))
    assert (plan.delete, plan.waiting, plan.kept) == ((), (), ("b",))


def test_an_invalid_application_is_not_deleted():
    plan = decide("set", {}, wish("a", blocked={"b"}), there("a", "b"))
    assert (plan.delete, plan.waiting, plan.create, plan.update) == ((), (), (), ())


def test_the_budget_holds_all_or_none():
    names = [f"a{n}" for n in range(30)]
    plan = decide("set", {}, wish(*names[:19]), there(*names))
    assert plan.delete == () and len(plan.waiting) == 11
    assert len(decide("set", {}, wish(*names[:20]), there(*names)).delete) == 10
    wide = {"flotilla": {"deletion": {"maxApplications": 100, "maxPercent": 100}}}
    assert len(decide("set", wide, wish(*names[:1]), there(*names)).delete) == 29


def test_deletions_in_progress_count_against_the_budget():
    names = [f"a{n}" for n in range(40)]
    existing = {**there(*names[:30]), **there(*names[30:], deleting=True)}
    plan = decide("set", {}, wish(*names[:29]), existing)
    assert (plan.delete, plan.waiting) == ((), (names[29],))


def test_a_confirmation_covers_what_it_names():
    names = [f"a{n}" for n in range(30)]
    plan = decide("set", {}, wish("a0"), there(*names), names[1:15])
    assert plan.delete == tuple(sorted(names[1:15])) and plan.waiting == tuple(sorted(names[15:]))


def test_somebody_elses_applications():
    existing = {
        **there("a", owner="other"),
        **there("b", owner="", project="q"),
        **there("c", owner=""),
        **there("d", owner="other", project="q"),
    }
    plan = decide("set", {}, wish("a", "b", "c", "d"), existing)
    said = dict(plan.problems)
    assert said["a"] == "application a is already owned by ApplicationSet other"
    assert "another project" in said["b"] and "other" not in said["d"].replace("another", "")
    assert [after.name for _, after in plan.update] == ["c"] and not plan.create and not plan.delete


def test_two_of_one_name_are_both_left_alone():
    plan = decide("set", {}, wish("a", "a", "b"), there("a"))
    assert plan.problems == (("a", "contains applications with duplicate name: a"),)
    assert [x.name for x in plan.create] == ["b"] and not plan.update and not plan.delete


def test_preserved_fields_of_an_application():
    live = app(
        "a",
        {"source": {"targetRevision": "hand", "path": "x"}},
        {"team": "t", "other": "o"},
        {
            "argocd.argoproj.io/refresh": "hard",
            "mine": "1",
            "notified.notifications.argoproj.io.x": "2",
            "gone": "1",
        },
        ["post-delete-finalizer.argocd.argoproj.io/cleanup"],
    )
    wanted = app(
        "a",
        {"source": {"targetRevision": "main", "path": "y"}},
        finalizers=["resources-finalizer.argocd.argoproj.io"],
    )
    spec = {
        "preservedFields": {"labels": ["team"], "annotations": ["mine"]},
        "ignoreApplicationDifferences": [
            {"jsonPointers": ["/spec/source/targetRevision"]},
            {"name": "b", "jsonPointers": ["/spec/source/path"]},
        ],
    }
    after = merged(live, wanted, spec)
    assert after.spec["source"] == {"targetRevision": "hand", "path": "y"}
    assert after.labels == {"team": "t"}
    assert set(after.annotations) == {
        "argocd.argoproj.io/refresh",
        "mine",
        "notified.notifications.argoproj.io.x",
    }
    assert after.finalizers == [
        "resources-finalizer.argocd.argoproj.io",
        "post-delete-finalizer.argocd.argoproj.io/cleanup",
    ]


def test_an_unset_ignored_field_is_left_out():
    spec = {
        "ignoreApplicationDifferences": [
            {"jsonPointers": ["/spec/syncPolicy", "/metadata/labels/a~1b"]}
        ]
    }
    after = merged(
        app("a", labels={"a/b": "live"}),
        app("a", {"syncPolicy": {"automated": {}}}, {"a/b": "new"}),
        spec,
    )
    assert "syncPolicy" not in after.spec and after.labels == {"a/b": "live"}


@pytest.mark.parametrize("value", ["10", -1, True, 1.5])
def test_a_budget_that_is_none(value):
    with pytest.raises(RuleError, match=r"spec\.flotilla\.deletion\.maxApplications must be"):
        budget_of({"flotilla": {"deletion": {"maxApplications": value}}})


NAMES = st.sampled_from([f"a{n}" for n in range(14)])
OWNED = st.sampled_from(["", "set", "set", "set", "other"])


@given(
    st.lists(NAMES),
    st.dictionaries(NAMES, st.tuples(OWNED, st.booleans())),
    st.sets(NAMES),
    st.booleans(),
    st.sampled_from(["sync", "create-only", "create-update", "create-delete"]),
)
def test_no_edit_deletes_more_than_was_allowed(names, rows, approved, complete, how):
    existing = {n: Existing(app(n), owner, deleting, "p") for n, (owner, deleting) in rows.items()}
    plan = decide("set", policy(how), wish(*names, is_complete=complete), existing, approved)
    own = {n for n, (owner, _) in rows.items() if owner == "set"}
    assert set(plan.delete) <= own - set(names)
    assert not set(plan.delete) & set(plan.waiting)
    unasked = set(plan.delete) - approved
    assert not unasked or (names and Budget().allows(len(unasked), len(own)))
    assert not plan.delete or (complete and how in ("sync", "create-delete"))
    assert {a.name for a in plan.create} <= set(names) - set(rows)
    assert all(rows[b.name][0] in ("", "set") for b, _ in plan.update)


@given(st.lists(NAMES, unique=True, min_size=1), st.lists(NAMES, unique=True))
def test_done_once_there_is_nothing_left_to_do(names, before):
    wide = {"flotilla": {"deletion": {"maxApplications": 100, "maxPercent": 100}}}
    plan = decide("set", wide, wish(*names), there(*before))
    after = {n: e for n, e in there(*before).items() if n not in plan.delete}
    after |= {a.name: Existing(a, "set", False, "p") for a in plan.create}
    again = decide("set", wide, wish(*names), after)
    assert (again.create, again.update, again.delete, again.waiting) == ((), (), (), ())
    assert again.unchanged == len(names)


@pytest.mark.parametrize("rule", ["jqPathExpressions", "jsonPointers"])
def test_preserved_fields_respect_the_time_limit(rule):
    fields = 500
    live = app("a", {f"f{n}": n for n in range(fields)} | {"list": [0] * fields})
    wanted = app("a", {f"f{n}": -n for n in range(fields)} | {"list": [1] * fields})
    spec = {"ignoreApplicationDifferences": [{rule: [f"/spec/f{n}" for n in range(fields)]}]}
    if rule == "jqPathExpressions":
        spec = {"ignoreApplicationDifferences": [{rule: [".spec.list[]"]}]}
    every = [["spec", "list", n] for n in range(fields)]
    # A clock that moves when it is read: the limit is asked for every path, on any machine.
    ticks = count()

    with pytest.raises(OutOfTime), bounded(fields - 1, lambda: next(ticks)):
        merged(live, wanted, spec, lambda _expression, _value: every)
