"""Progressive sync: tables, and a model that no order of events may break."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appsets.operations.rollout_decisions import (
    HEALTHY,
    PENDING,
    PROGRESSING,
    WAITING,
    Entry,
    Requested,
    Seen,
    decide,
    digest_of,
    is_reverse,
    limit_of,
    step_number,
    steps_of,
    unclear,
)
from hub.engine.errors import RuleError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RINGS = ("canary", "early", "rest")


def spec(*steps, ours=None):
    found = {
        "strategy": {
            "type": "RollingSync",
            "rollingSync": {
                "steps": [
                    {
                        "matchExpressions": [{"key": "ring", "operator": "In", "values": [ring]}],
                        **({} if maximum is None else {"maxUpdate": maximum}),
                    }
                    for ring, maximum in steps
                ]
            },
        }
    }
    return {**found, "flotilla": {"rollout": ours}} if ours else found


STEPS = steps_of(spec(("canary", None), ("early", 1), ("rest", "50%")))


def app(name, ring, target="v2", **how):
    return Seen(name, {"ring": ring}, target, **how)


def well(name, ring, target="v2"):
    return app(name, ring, target, is_synced=True, is_healthy=True)


def entry(name, step, status, target="v2", **how):
    return Entry(name, step, status, target, "", **how)


def run(seen, before=(), requested=None, since=None, now=NOW, steps=STEPS, missing=()):
    return decide(
        steps,
        seen,
        {e.name: e for e in before},
        requested or Requested(),
        since or {},
        now,
        missing,
    )


def status(found):
    return {e.name: e.status for e in found.entries}


def test_new_applications_wait_and_the_first_step_starts():
    found = run([app("a", "canary"), app("b", "canary"), app("c", "early")])
    assert status(found) == {"a": PENDING, "b": PENDING, "c": WAITING}
    assert (found.start, found.step) == (("a", "b"), 1)


def test_an_application_goes_from_pending_to_healthy():
    before = [entry("a", 1, PENDING, started=True)]
    assert status(run([app("a", "canary", is_running=True)], before)) == {"a": PROGRESSING}
    assert status(run([app("a", "canary", is_synced=True)], [entry("a", 1, PROGRESSING)])) == {
        "a": PROGRESSING
    }
    found = run([well("a", "canary")], [entry("a", 1, PROGRESSING)])
    assert (status(found), found.step) == ({"a": HEALTHY}, 0)


def test_a_sync_that_could_not_start_is_tried_again():
    found = run([app("a", "canary")], [entry("a", 1, PENDING)])
    assert (status(found), found.start) == ({"a": PENDING}, ("a",))
    assert run([app("a", "canary", is_running=True)], [entry("a", 1, PENDING)]).start == ()


@pytest.mark.parametrize("was", [WAITING, PENDING, PROGRESSING, HEALTHY])
def test_a_new_target_waits_from_any_state(was):
    found = run(
        [app("a", "canary", "v3"), well("b", "early")],
        [entry("a", 1, was, started=True), entry("b", 2, HEALTHY)],
        Requested(paused=True),
    )
    assert status(found) == {"a": WAITING, "b": HEALTHY} and found.step == 1


def test_a_synced_application_needs_no_sync():
    found = run([well("a", "canary"), app("b", "early", is_synced=True)])
    assert status(found) == {"a": HEALTHY, "b": PROGRESSING} and found.start == ()


def test_drift_does_not_restart_a_healthy_application():
    found = run([app("a", "canary", is_healthy=True)], [entry("a", 1, HEALTHY)])
    assert (status(found), found.start, found.step) == ({"a": HEALTHY}, (), 0)


def test_a_step_that_breaks_afterwards_stops_the_next():
    before = [entry("a", 1, HEALTHY), entry("c", 2, WAITING)]
    found = run([app("a", "canary", is_bad=True), app("c", "early")], before)
    assert (found.start, found.step) == ((), 1) and "waits for a" in found.waits


def test_max_update_counts_running_syncs():
    before = [entry("c", 2, PROGRESSING), entry("d", 2, WAITING)]
    assert run([app("c", "early"), app("d", "early")], before).start == ()
    before[0] = entry("c", 2, HEALTHY)
    assert run([well("c", "early"), app("d", "early")], before).start == ("d",)
    rest = [app(f"r{n}", "rest") for n in range(5)]
    assert run(rest).start == ("r0", "r1")


@pytest.mark.parametrize(
    ("value", "total", "expected"),
    [
        (None, 7, 7),
        (3, 7, 3),
        (0, 7, 0),
        ("0%", 7, 0),
        ("50%", 7, 3),
        ("10%", 7, 1),
        ("100%", 7, 7),
    ],
)
def test_limits(value, total, expected):
    assert limit_of(value, total) == expected


def test_a_manual_step_waits_and_can_be_advanced():
    steps = steps_of(spec(("canary", 0), ("early", None)))
    seen = [app("a", "canary"), app("b", "canary"), app("c", "early")]
    found = run(seen, steps=steps)
    assert found.start == () and "by hand, or to be advanced" in found.waits
    assert run(seen, steps=steps, requested=Requested(advanced={1: digest_of(seen[:2])})).start == (
        "a",
        "b",
    )
    newer = [app("a", "canary", "v3"), *seen[1:]]
    assert (
        run(newer, steps=steps, requested=Requested(advanced={1: digest_of(seen[:2])})).start == ()
    ), "it was requested of the old targets"
    by_hand = [well("a", "canary"), well("b", "canary"), app("c", "early")]
    assert run(by_hand, [entry("a", 1, WAITING)], steps=steps).start == ("c",)


def test_soaking_measures_from_when_the_step_was_seen_healthy():
    steps = steps_of(
        spec(("canary", None), ("early", None), ours={"soak": "5m", "steps": [{"soak": "10m"}]})
    )
    seen, before = [well("a", "canary"), app("c", "early")], [entry("a", 1, HEALTHY)]
    found = run(seen, before, steps=steps)
    assert (
        found.start == ()
        and found.poll_at == NOW + timedelta(minutes=10)
        and "soaks until" in found.waits
    )
    since = found.since
    assert run(seen, before, steps=steps, since=since, now=NOW + timedelta(minutes=9)).start == ()
    assert run(seen, before, steps=steps, since=since, now=NOW + timedelta(minutes=10)).start == (
        "c",
    )
    broken = [app("a", "canary", is_bad=True), app("c", "early")]
    assert (
        run(broken, before, steps=steps, since=since, now=NOW + timedelta(minutes=10)).since == {}
    )
    other = [well("a", "canary", "v3"), app("c", "early")]
    assert (
        run(
            other,
            [entry("a", 1, HEALTHY, "v3")],
            steps=steps,
            since=since,
            now=NOW + timedelta(minutes=10),
        ).start
        == ()
    )


def test_a_degraded_share_halts_and_ends_by_itself():
    steps = steps_of(spec(("rest", 2), ours={"maxDegraded": "25%"}))
    names = [f"r{n}" for n in range(8)]
    before = [
        entry(n, 1, PROGRESSING if n in ("r0", "r1", "r2") else HEALTHY if n == "r3" else WAITING)
        for n in names
    ]
    seen = [app(n, "rest", is_bad=n in ("r0", "r1", "r2")) for n in names]
    found = run(seen, before, steps=steps)
    assert (
        found.is_halted and found.start == () and "3 of 8" in found.waits and "25%" in found.waits
    )
    seen = [well("r0", "rest"), well("r1", "rest"), app("r2", "rest", is_bad=True), *seen[3:]]
    assert not run(seen, before, steps=steps).is_halted
    none = steps_of(spec(("rest", 2), ours={"maxDegraded": 0}))
    assert run(seen, before, steps=none).is_halted


def test_an_application_that_was_bad_before_its_turn_does_not_halt():
    steps = steps_of(spec(("rest", None), ours={"maxDegraded": 0}))
    assert run([app("a", "rest", is_bad=True)], steps=steps).start == ("a",)


def test_pause_and_abort():
    seen = [app("a", "canary"), app("b", "canary", is_running=True)]
    before = [entry("a", 1, WAITING), entry("b", 1, PROGRESSING, started=True)]
    assert run(seen, before, Requested(paused=True)).start == ()
    gone = Requested(aborted={"a": "v2", "b": "v2"})
    found = run(seen, before, gone)
    assert (found.start, status(found)) == (
        (),
        {"a": WAITING, "b": PROGRESSING},
    ) and "aborted" in found.waits
    ended = [app("a", "canary"), app("b", "canary", is_bad=True)]
    found = run(ended, found.entries, gone)
    assert status(found) == {"a": WAITING, "b": WAITING} and found.start == ()
    assert run(ended, found.entries).start == ("a", "b"), "resume starts what was ended again"
    assert run([app("a", "canary", "v3"), ended[1]], found.entries, gone).start == ("a",), (
        "a new target is another matter"
    )


def test_an_application_that_cannot_be_compared_holds_its_step():
    found = run([app("a", "canary", is_known=False), app("b", "canary"), app("c", "early")])
    assert found.start == ("b",) and "waits for a to be compared" in found.waits


def test_a_pending_refresh_holds_later_steps():
    """A commit reaches all applications at once, but they are looked at one after the other."""
    seen = [well("a", "canary", "v1")._replace(is_settled=False), app("c", "early")]
    found = run(seen, [entry("a", 1, HEALTHY, "v1")])
    assert (found.start, found.step) == ((), 1) and found.poll_at is not None
    assert run(
        [seen[0]._replace(is_settled=True), seen[1]], [entry("a", 1, HEALTHY, "v1")]
    ).start == ("c",)


def test_an_application_that_does_not_exist_holds_its_step():
    found = run(
        [well("a", "canary"), app("c", "early")],
        [entry("a", 1, HEALTHY)],
        missing=[{"ring": "canary"}],
    )
    assert (found.start, found.step) == ((), 1)


def test_applications_of_no_step_are_left_alone():
    found = run([app("z", "elsewhere"), well("a", "canary")], [entry("a", 1, HEALTHY)])
    assert (found.start, found.step, {e.name: e.step for e in found.entries}) == (
        (),
        0,
        {"a": 1, "z": -1},
    )


def test_an_application_of_two_steps_gates_both():
    steps = steps_of(
        {
            "strategy": {
                "rollingSync": {
                    "steps": [
                        {
                            "matchExpressions": [
                                {"key": "ring", "operator": "NotIn", "values": ["rest"]}
                            ]
                        },
                        {
                            "matchExpressions": [
                                {"key": "ring", "operator": "In", "values": ["early", "rest"]}
                            ]
                        },
                    ]
                }
            }
        }
    )
    assert step_number(steps, {}) == 1 and step_number(steps, {"ring": "rest"}) == 2
    assert (
        unclear(steps, [("c", {"ring": "early"})])
        == "Application 'c' is selected by multiple steps: (1-2)"
    )
    assert (
        unclear(STEPS, [("a", {"ring": "canary"})])
        == "Steps [2 3] have no applications matching their criteria"
    )
    found = run([app("c", "early"), app("r", "rest")], steps=steps)
    assert (found.start, found.step) == (("c",), 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strategy": {"rollingSync": {"steps": {}}}}, "must be a list"),
        ({"strategy": {"rollingSync": {"steps": [{"maxUpdate": "x"}]}}}, "steps[0].maxUpdate"),
        ({"strategy": {"rollingSync": {"steps": [{"maxUpdate": "101%"}]}}}, "steps[0].maxUpdate"),
        ({"strategy": {"rollingSync": {"steps": [{"maxUpdate": True}]}}}, "steps[0].maxUpdate"),
        (
            {"strategy": {"rollingSync": {"steps": [{"matchExpressions": [{"key": "a"}]}]}}},
            "key and values",
        ),
        ({"strategy": {"rollingSync": {"steps": [{}]}}, "flotilla": {"rollout": []}}, None),
        (
            {
                "strategy": {"rollingSync": {"steps": [{}]}},
                "flotilla": {"rollout": {"steps": {"a": 1}}},
            },
            "rollout must be",
        ),
        (
            {
                "strategy": {"rollingSync": {"steps": [{}]}},
                "flotilla": {"rollout": {"maxDegraded": -1}},
            },
            "maxDegraded",
        ),
    ],
)
def test_steps_that_are_none(change, words):
    if words is None:
        assert len(steps_of(change)) == 1
        return
    with pytest.raises(RuleError) as error:
        steps_of(change)
    assert words in str(error.value)


def test_deletion_order():
    assert is_reverse({"strategy": {"type": "RollingSync", "deletionOrder": "reverse"}})
    assert not is_reverse({"strategy": {"deletionOrder": "Reverse"}}) and not is_reverse({})


class Fleet(RuleBasedStateMachine):
    """Applications under random events, and a rollout that looks whenever it likes.

    The world moves on its own: syncs start, end, fail, are lost; commits come; people sync, pause,
    abort, advance. What must hold is written as invariants, from the outside.
    """

    @initialize(
        rings=st.lists(st.sampled_from(RINGS), min_size=1, max_size=7),
        maximum=st.tuples(*[st.sampled_from([None, 1, 2, "50%", 0])] * 3),
        soak=st.sampled_from([None, "2m"]),
        bad=st.sampled_from([None, 0, "50%"]),
    )
    def begin(self, rings, maximum, soak, bad):
        self.steps = steps_of(
            spec(*zip(RINGS, maximum, strict=True), ours={"soak": soak, "maxDegraded": bad})
        )
        self.ring = {f"a{n}": ring for n, ring in enumerate(rings)}
        self.wanted = dict.fromkeys(self.ring, "v1")
        self.runs = dict.fromkeys(self.ring, "v0")
        self.health = dict.fromkeys(self.ring, True)
        self.syncing, self.failed = {}, {}
        self.entries, self.since, self.requested, self.now = {}, {}, Requested(), NOW
        self.broken, self.unsettled = set(), set()

    def seen(self, name):
        target, is_synced = self.wanted[name], self.runs[name] == self.wanted[name]
        is_failed = self.failed.get(name) == target and not is_synced
        return Seen(
            name,
            {"ring": self.ring[name]},
            target,
            name not in self.broken,
            is_synced,
            self.health[name],
            name in self.syncing,
            not self.health[name] or is_failed,
            name not in self.unsettled,
        )

    def all_seen(self):
        return [self.seen(n) for n in self.ring]

    @rule(loses=st.booleans())
    def look(self, loses):
        before = {s.name: s for s in self.all_seen()}
        found = decide(
            self.steps, list(before.values()), self.entries, self.requested, self.since, self.now
        )
        statuses = {e.name: e for e in found.entries}
        for name in found.start:
            assert not self.requested.paused and not found.is_halted
            assert self.requested.aborted.get(name) != self.wanted[name]
            assert name not in self.syncing and name not in self.broken
            own = statuses[name].step
            assert own == found.step
            for other in statuses.values():
                if other.step < own:
                    was = before[other.name]
                    assert other.status == HEALTHY and was.is_settled and not was.is_bad, (
                        "a step began before the one before it was done"
                    )
        if found.step:
            step = self.steps[found.step - 1]
            own = [e for e in found.entries if e.step == found.step]
            busy = [e for e in own if e.status in (PENDING, PROGRESSING)]
            fresh = [
                e
                for e in busy
                if e.name in found.start
                and self.entries.get(e.name, Entry("", 0, WAITING, "", "")).status == WAITING
            ]
            is_free = self.requested.advanced.get(found.step) == digest_of(
                [before[e.name] for e in own]
            )
            if fresh and not is_free:
                assert len(busy) <= limit_of(step.maximum, len(own)), "more at once than maxUpdate"
        started = set()
        for name in found.start:
            # A start may be lost: the database was busy, a worker died.
            if not loses:
                self.syncing[name] = self.wanted[name]
                started.add(name)
        self.entries = {
            e.name: e._replace(started=True) if e.name in started else e for e in found.entries
        }
        self.since = found.since

    @rule(data=st.data())
    def commit(self, data):
        name = data.draw(st.sampled_from(sorted(self.ring)))
        self.wanted[name] = data.draw(st.sampled_from(["v1", "v2", "v3"]))

    @rule()
    def commit_all(self):
        version = f"v{len(self.since) + 4}"
        self.wanted = dict.fromkeys(self.ring, version)

    @precondition(lambda self: self.syncing)
    @rule(data=st.data(), works=st.booleans())
    def sync_ends(self, data, works):
        name = data.draw(st.sampled_from(sorted(self.syncing)))
        target = self.syncing.pop(name)
        if works:
            self.runs[name] = target
            self.failed.pop(name, None)
        else:
            self.failed[name] = target

    @rule(data=st.data())
    def sync_by_hand(self, data):
        name = data.draw(st.sampled_from(sorted(self.ring)))
        if name not in self.syncing:
            self.syncing[name] = self.wanted[name]

    @rule(data=st.data())
    def health_changes(self, data):
        name = data.draw(st.sampled_from(sorted(self.ring)))
        self.health[name] = not self.health[name]

    @rule(data=st.data())
    def comparison_breaks_or_mends(self, data):
        self.broken ^= {data.draw(st.sampled_from(sorted(self.ring)))}

    @rule(data=st.data())
    def a_look_is_due_or_done(self, data):
        self.unsettled ^= {data.draw(st.sampled_from(sorted(self.ring)))}

    @rule()
    def pause(self):
        self.requested = Requested(True, self.requested.aborted, self.requested.advanced)

    @rule()
    def resume(self):
        self.requested = Requested()

    @rule()
    def abort(self):
        self.requested = Requested(
            self.requested.paused, dict(self.wanted), self.requested.advanced
        )

    @rule(step=st.integers(1, 3))
    def advance(self, step):
        own = [s for s in self.all_seen() if self.steps[step - 1].selects(s.labels)]
        self.requested = Requested(
            self.requested.paused,
            self.requested.aborted,
            {**self.requested.advanced, step: digest_of(own)},
        )

    @rule(minutes=st.integers(0, 5))
    def time_passes(self, minutes):
        self.now += timedelta(minutes=minutes)

    @invariant()
    def nothing_is_stuck(self):
        """Once every application runs what it should and is healthy, the rollout ends, whatever
        was before.
        """
        if not hasattr(self, "ring"):
            return
        entries, since, now = self.entries, self.since, self.now
        calm = [
            Seen(n, {"ring": r}, self.wanted[n], is_synced=True, is_healthy=True)
            for n, r in self.ring.items()
        ]
        for _ in range(5):
            found = decide(self.steps, calm, entries, self.requested, since, now)
            assert found.start == ()
            entries, since, now = (
                {e.name: e for e in found.entries},
                found.since,
                now + timedelta(minutes=3),
            )
        assert found.step == 0 and {e.status for e in found.entries} == {HEALTHY}

    @invariant()
    def good_will_is_enough(self):
        """When nobody holds it back and syncs work, looks alone bring every application to its
        target.
        """
        if not hasattr(self, "ring") or any(s.maximum == 0 for s in self.steps):
            return
        runs, health = dict(self.runs), dict.fromkeys(self.ring, True)
        entries, since, now = self.entries, self.since, self.now
        for _ in range(60):
            seen = [
                Seen(
                    n,
                    {"ring": r},
                    self.wanted[n],
                    is_synced=runs[n] == self.wanted[n],
                    is_healthy=health[n],
                )
                for n, r in self.ring.items()
            ]
            found = decide(self.steps, seen, entries, Requested(), since, now)
            entries = {
                e.name: e._replace(started=True) if e.name in found.start else e
                for e in found.entries
            }
            since, now = found.since, now + timedelta(minutes=3)
            for name in found.start:
                runs[name] = self.wanted[name]
            stuck = [
                e.name
                for e in found.entries
                if e.status == PROGRESSING and runs[e.name] != self.wanted[e.name]
            ]
            for name in stuck:
                # A sync that failed is the application's to retry, by itself or by hand.
                runs[name] = self.wanted[name]
            if found.step == 0:
                # One that was healthy at its target and drifted since is not the rollout's to mend.
                done = {
                    n
                    for n, e in self.entries.items()
                    if e.status == HEALTHY and e.target == self.wanted[n]
                }
                assert all(runs[n] == self.wanted[n] for n in set(runs) - done)
                return
        raise AssertionError("the rollout never ends")


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
