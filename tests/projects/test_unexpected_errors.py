"""A fault of the hub in one refresh: its application says so, by a number that the log has, and is
tried again.
"""

import logging
from datetime import timedelta

import pytest
from django.utils import timezone

from projects.models import Application
from projects.refreshing import refresh
from projects.refreshing.status import Outcome


class Fault(Exception):
    """What nobody expected."""


def fail(*_):
    raise Fault("password=hunter2 in /srv/hub")


def refreshed(conditions=()):
    application = Application(
        name="a", namespace="n", annotations={}, conditions=list(conditions), sync_status="Synced"
    )
    return refresh.evaluate(application)


@pytest.fixture(autouse=True)
def faulty(monkeypatch):
    monkeypatch.setattr(refresh, "_evaluate", fail)


def test_a_fault_is_a_condition_that_tells_nothing_of_the_hub(caplog):
    with caplog.at_level(logging.ERROR, logger="projects.refreshing.refresh"):
        outcome = refreshed()

    [(kind, text)] = outcome.conditions
    assert kind == "UnknownError"
    assert not any(word in text for word in ("Fault", "hunter2", "/srv", "refresh.py"))
    assert caplog.records[-1].error_id in text and caplog.records[-1].exc_info
    assert (outcome.sync, outcome.keeps_status) == ("Unknown", False)


def test_the_same_fault_is_the_same_condition():
    assert refreshed().conditions == refreshed().conditions


@pytest.mark.parametrize(("minutes", "wait"), [(0, 2), (1, 2), (10, 10), (300, 60)])
def test_a_fault_that_stays_is_tried_less_and_less_often(minutes, wait):
    [(kind, text)] = refreshed().conditions
    since = (timezone.now() - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")

    outcome = refreshed([{"type": kind, "message": text, "lastTransitionTime": since}])

    assert outcome.retry_after.total_seconds() == pytest.approx(wait * 60, abs=5)


def test_what_cannot_be_written_is_a_condition_too(monkeypatch, db):
    application = Application.objects.create(
        name="a", namespace="n", project="default", spec={}, refresh_at=timezone.now()
    )
    written = []

    def write(row, outcome, _seen):
        written.append((row.pk, outcome))
        if len(written) == 1:
            fail()

    monkeypatch.setattr(refresh, "evaluate", lambda _row: Outcome())
    monkeypatch.setattr(refresh, "write", write)

    assert refresh.refresh(application.pk)

    assert [pk for pk, _ in written] == [application.pk] * 2
    assert written[1][1].conditions[0][0] == "UnknownError"
