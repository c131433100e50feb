"""Looks at applications: what is asked for is answered, and nothing is done twice."""

import pytest
from django.utils import timezone

from projects import refresh, status
from projects.models import Application

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n"


@pytest.fixture
def application(idle_hub, repo):
    repo.commit({"c.yaml": CONFIG})
    body = {
        "metadata": {"name": "a"},
        "spec": {
            "source": {"repoURL": repo.url, "path": "."},
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "x"},
        },
    }
    idle_hub.post("/api/v1/applications", body)
    return Application.objects.get(name="a")


def test_a_request_during_a_look_is_answered_by_the_next(application):
    refresh.request_refresh(application)
    looking = Application.objects.get(pk=application.pk)
    outcome = refresh.look(looking)
    refresh.request_refresh(application, "hard")

    status.write(looking, outcome, looking.refresh_at)

    current = Application.objects.get(pk=application.pk)
    assert current.refresh_kind == "hard"
    assert current.refresh_at <= timezone.now()
    assert refresh.refresh(application.pk)
    assert Application.objects.get(pk=application.pk).refresh_kind == ""


def test_a_change_of_the_spec_during_a_look_makes_it_worthless(application):
    looking = Application.objects.get(pk=application.pk)
    outcome = refresh.look(looking)
    Application.objects.filter(pk=application.pk).update(generation=9)

    status.write(looking, outcome, looking.refresh_at)

    current = Application.objects.get(pk=application.pk)
    assert current.sync_status == "Unknown"
    assert current.refresh_at <= timezone.now()


def test_a_look_that_nothing_asks_for_does_nothing(application, repo):
    assert refresh.refresh(application.pk)
    asked = len(repo.server.requests)

    assert not refresh.refresh(application.pk)

    assert len(repo.server.requests) == asked
    assert Application.objects.get(pk=application.pk).refresh_at is None


def test_skip_reconcile(application, idle_hub):
    notes = {"argocd.argoproj.io/skip-reconcile": "true"}
    Application.objects.filter(pk=application.pk).update(annotations=notes)

    assert refresh.refresh(application.pk)

    assert idle_hub.application("a")["status"]["sync"]["status"] == "Unknown"
