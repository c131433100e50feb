"""The registry is the only place that lists the kinds with a built-in health check."""

import pytest

from hub.engine.health import assess
from hub.engine.health.registry import ASSESSORS
from hub.engine.status import Assessment, Health

WIDGET = {"apiVersion": "acme.example/v1", "kind": "Widget", "metadata": {"name": "w"}}


def widget(manifest):
    is_ready = (manifest.get("status") or {}).get("ready")
    return Assessment(Health.HEALTHY if is_ready else Health.PROGRESSING, "")


def test_an_entry_of_the_registry_is_a_whole_health_check(monkeypatch):
    assert assess(WIDGET) is None

    monkeypatch.setitem(ASSESSORS, ("acme.example", "Widget"), widget)

    assert assess(WIDGET).status == Health.PROGRESSING
    assert assess({**WIDGET, "status": {"ready": True}}).status == Health.HEALTHY


@pytest.mark.parametrize(("group", "kind"), ASSESSORS)
def test_every_check_takes_a_resource_without_spec_and_status(group, kind):
    version = f"{group}/v1" if group else "v1"
    found = assess({"apiVersion": version, "kind": kind, "metadata": {"name": "new"}})
    assert found is None or isinstance(found, Assessment)
