"""When a project's applications may be synced."""

from datetime import UTC, datetime

import pytest

from hub.engine.errors import RuleError
from hub.engine.sync_windows import active_windows, check_windows, windows_for

NOON = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)  # a Monday


def window(kind="allow", schedule="0 12 * * *", duration="1h", **fields):
    return {
        "kind": kind,
        "schedule": schedule,
        "duration": duration,
        "applications": ["*"],
        **fields,
    }


def can(*windows, now=NOON, **how):
    found = windows_for(
        windows, name="web", namespace="prod", cluster=("east", "https://east"), now=now
    )
    return found.can_sync(**{"manual": False, **how})


OPEN, CLOSED_ALLOW = window(), window(schedule="0 20 * * *")
DENY = window("deny")


@pytest.mark.parametrize(
    ("windows", "how", "expected"),
    [
        pytest.param([], {}, True, id="no window"),
        pytest.param([OPEN], {}, True, id="open"),
        pytest.param([CLOSED_ALLOW], {}, False, id="not open yet"),
        pytest.param([CLOSED_ALLOW], {"manual": True}, False, id="not open for people either"),
        pytest.param(
            [window(schedule="0 20 * * *", manualSync=True)],
            {"manual": True},
            True,
            id="people may",
        ),
        pytest.param(
            [window(schedule="0 20 * * *", manualSync=True), CLOSED_ALLOW],
            {"manual": True},
            False,
            id="one of two lets people",
        ),
        pytest.param([DENY], {}, False, id="denied"),
        pytest.param([DENY, OPEN], {}, False, id="a deny wins"),
        pytest.param(
            [window("deny", manualSync=True)], {"manual": True}, True, id="a deny lets people"
        ),
        pytest.param(
            [window("deny", manualSync=True), DENY],
            {"manual": True},
            False,
            id="not all denies let people",
        ),
        pytest.param([window("deny", schedule="0 20 * * *")], {}, True, id="a deny that sleeps"),
        pytest.param(
            [window("deny", schedule="0 20 * * *"), CLOSED_ALLOW],
            {},
            False,
            id="sleeping deny, closed allow",
        ),
        pytest.param(
            [window("deny", syncOverrun=True)],
            {"could_at_start": True},
            True,
            id="overrun of a deny",
        ),
        pytest.param(
            [window("deny", syncOverrun=True)],
            {"could_at_start": False},
            False,
            id="overrun of what never could",
        ),
        pytest.param(
            [window(schedule="0 10 * * *", syncOverrun=True)],
            {"could_at_start": True},
            True,
            id="overrun of an allow",
        ),
        pytest.param(
            [window(schedule="0 10 * * *")], {"could_at_start": True}, False, id="no overrun"
        ),
        pytest.param([window(timeZone="Asia/Tokyo")], {}, False, id="noon of another zone"),
        pytest.param(
            [window(schedule="0 21 * * *", timeZone="Asia/Tokyo")], {}, True, id="evening in Tokyo"
        ),
        pytest.param([window(schedule="@hourly", duration="40m")], {}, True, id="descriptor"),
        pytest.param([window(schedule="0 12 * * 2")], {}, False, id="another weekday"),
        pytest.param(
            [window(schedule="nonsense")],
            {"manual": True},
            False,
            id="one that cannot be read blocks",
        ),
        pytest.param(
            [window("deny", timeZone="Mars/Base")],
            {"manual": True},
            False,
            id="unknown zone blocks",
        ),
    ],
)
def test_decision(windows, how, expected):
    assert can(*windows, **how) is expected


@pytest.mark.parametrize(
    ("fields", "concerned"),
    [
        pytest.param({"applications": ["we*"]}, True, id="application"),
        pytest.param({"applications": ["api"]}, False, id="another"),
        pytest.param({"applications": [], "clusters": ["eas?"]}, True, id="cluster by name"),
        pytest.param(
            {"applications": [], "clusters": ["https://east"]}, True, id="cluster by server"
        ),
        pytest.param({"applications": [], "namespaces": ["prod"]}, True, id="namespace"),
        pytest.param({"applications": ["api"], "namespaces": ["prod"]}, True, id="or"),
        pytest.param(
            {"applications": ["api"], "namespaces": ["prod"], "andOperator": True}, False, id="and"
        ),
        pytest.param(
            {"applications": ["web"], "namespaces": ["prod"], "andOperator": True},
            True,
            id="and, both",
        ),
    ],
)
def test_whom_a_window_concerns(fields, concerned):
    found = windows_for(
        [window("deny", **fields)],
        name="web",
        namespace="prod",
        cluster=("east", "https://east"),
        now=NOON,
    )
    assert bool(found.assigned) is concerned


def test_when_the_answer_changes():
    def at(*windows):
        return windows_for(
            windows, name="web", namespace="", cluster=("", ""), now=NOON
        ).reopens_at()

    assert at(OPEN) == datetime(2026, 3, 2, 13, 0, tzinfo=UTC)
    assert at(CLOSED_ALLOW) == datetime(2026, 3, 2, 20, 0, tzinfo=UTC)
    assert at(OPEN, window(schedule="45 12 * * *")) == datetime(2026, 3, 2, 12, 45, tzinfo=UTC)
    assert at(window(schedule="*/10 12 * * *")) == datetime(2026, 3, 2, 13, 20, tzinfo=UTC)
    assert at() is None


def test_active_windows_of_a_project():
    assert active_windows([OPEN, CLOSED_ALLOW, window(schedule="x")], NOON) == [OPEN]


def test_summer_time_keeps_the_hour_of_the_clock():
    berlin = window(schedule="0 9 * * *", timeZone="Europe/Berlin")
    assert can(berlin, now=datetime(2026, 3, 28, 8, 30, tzinfo=UTC))
    assert can(berlin, now=datetime(2026, 3, 30, 7, 30, tzinfo=UTC))
    assert not can(berlin, now=datetime(2026, 3, 30, 8, 30, tzinfo=UTC))


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ([window(kind="maybe")], "can only be allow or deny"),
        ([window(applications=[])], "requires one of application"),
        ([window(schedule="* *")], "5 fields"),
        ([window(schedule="61 * * * *")], "is invalid"),
        ([window(duration="long")], "duration"),
        ([window(duration="0s")], "greater than 0"),
        ([window(timeZone="Mars/Base")], "not a time zone"),
        ([window(), window(manualSync=True)], "already exists"),
        (["x"], "must be an object"),
        ([window(clusters="east")], "list of strings"),
    ],
)
def test_windows_that_cannot_be_used(windows, words):
    with pytest.raises(RuleError, match=words):
        check_windows(windows)


def test_windows_that_can():
    check_windows([window(), window(timeZone="Europe/Berlin"), window("deny", namespaces=["a"])])
    check_windows(None)
