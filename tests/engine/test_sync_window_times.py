"""Windows in every zone: one clock inside, whatever the clocks on the wall do."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.engine.sync_windows import active_windows, spans, windows_for
from projects.pages.projects import calendar

ZONES = [
    "",
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "America/St_Johns",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Asia/Tehran",
]
MINUTE = timedelta(minutes=1)


def window(schedule, duration, zone="", kind="deny"):
    return {
        "kind": kind,
        "schedule": schedule,
        "duration": duration,
        "timeZone": zone,
        "applications": ["*"],
    }


def at(found, now):
    [one] = windows_for([found], name="a", namespace="n", cluster=("c", "s"), now=now).assigned
    return one


@pytest.mark.parametrize(
    ("zone", "schedule", "duration", "now", "ends"),
    [
        pytest.param(
            "Europe/Berlin", "0 8 * * *", "1h", "2026-01-15T07:30", "2026-01-15T08:00", id="winter"
        ),
        pytest.param(
            "Europe/Berlin", "0 8 * * *", "1h", "2026-07-15T06:30", "2026-07-15T07:00", id="summer"
        ),
        pytest.param(
            "Europe/Berlin",
            "0 1 * * *",
            "3h",
            "2026-03-29T01:30",
            "2026-03-29T03:00",
            id="over the spring change",
        ),
        pytest.param(
            "Europe/Berlin",
            "0 1 * * *",
            "3h",
            "2026-10-24T23:30",
            "2026-10-25T02:00",
            id="over the autumn change",
        ),
        pytest.param(
            "Asia/Kolkata",
            "0 8 * * *",
            "1h",
            "2026-01-15T03:00",
            "2026-01-15T03:30",
            id="half an hour",
        ),
        pytest.param("", "0 6 * * *", "1h", "2026-01-15T06:30", "2026-01-15T07:00", id="no zone"),
    ],
)
def test_when_a_window_ends(zone, schedule, duration, now, ends):
    moment, expected = (datetime.fromisoformat(t).replace(tzinfo=UTC) for t in (now, ends))

    found = at(window(schedule, duration, zone), moment)

    assert found.is_active
    assert found.ends_at == expected
    # Everything that prints it writes UTC behind it.
    assert f"{found.ends_at:%Y-%m-%dT%H:%M}" == ends


MOMENTS = st.one_of(
    st.integers(0, 4 * 366 * 24 * 60).map(lambda m: datetime(2024, 1, 1, tzinfo=UTC) + m * MINUTE),
    # Around the hours at which clocks change.
    st.sampled_from(
        [
            "2026-03-29T01:00",
            "2026-10-25T01:00",
            "2026-03-08T07:00",
            "2026-11-01T06:00",
            "2026-04-04T15:00",
            "2026-10-03T15:30",
        ]
    )
    .map(lambda t: datetime.fromisoformat(t).replace(tzinfo=UTC))
    .flatmap(lambda d: st.integers(-600, 600).map(lambda m: d + m * MINUTE)),
)


@settings(max_examples=400, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    hour=st.integers(0, 23),
    minute=st.sampled_from([0, 15, 30, 59]),
    minutes=st.integers(5, 23 * 60 - 1),
    moment=MOMENTS,
)
def test_all_that_compute_windows_agree(zone, hour, minute, minutes, moment):
    """A daily window is shorter than the shortest day, so each is a span of its duration."""
    now, place = moment, ZoneInfo(zone or "UTC")
    found = window(f"{minute} {hour} * * *", f"{minutes}m", zone)
    one = at(found, now)

    edge = one.ends_at if one.is_active else one.starts_at
    assert edge.tzinfo is UTC and edge >= now
    begun = edge - minutes * MINUTE if one.is_active else edge
    local = begun.astimezone(place)
    # A time that the change of clocks leaves out is the next one that there is.
    is_left_out = (
        local.replace(hour=hour, minute=minute, fold=0).astimezone(UTC).astimezone(place).hour
        != hour
    )
    assert is_left_out or (local.hour, local.minute) == (hour, minute)
    assert bool(active_windows([found], now)) is one.is_active
    inside = spans(found, now - timedelta(days=2), now + timedelta(days=2))
    assert all(a.tzinfo is UTC and b.tzinfo is UTC and a < b for a, b in inside)
    assert any(a < now < b for a, b in inside) is one.is_active
    assert all(b - a == minutes * MINUTE for a, b in inside[1:-1])


def test_the_page_draws_and_says_the_same():
    now = datetime(2026, 3, 28, 12, tzinfo=UTC)

    [row] = calendar([window("0 8 * * *", "1h", "Europe/Berlin")], now)["rows"]

    said = [text for _x, _width, text in row["parts"]]
    assert said[0] == "Sat 07:00 to Sat 08:00 UTC"
    assert said[1] == "Sun 06:00 to Sun 07:00 UTC"  # summer time has begun
    assert [x for x, _w, _t in row["parts"]][:2] == [7 * 12, 24 * 12 + 6 * 12]
    assert {width for _x, width, _t in row["parts"]} == {12}
