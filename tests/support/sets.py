"""Application sets for tests, and one look at them in the thread of the test."""

from django.utils import timezone

from appsets.models import ApplicationSet
from appsets.operations.reconcile import reconcile
from projects.models import Application


def manifest(name, generators, template=None, *, metadata=None, project="default", **spec):
    return {
        "metadata": {"name": name},
        "spec": {
            "goTemplate": True,
            "goTemplateOptions": ["missingkey=error"],
            "generators": generators,
            "template": {
                "metadata": {"name": "{{.name}}", **(metadata or {})},
                "spec": {
                    "project": project,
                    "source": {
                        "repoURL": "https://git.example/repo",
                        "path": "work",
                        "targetRevision": "main",
                    },
                    "destination": {"server": "https://kubernetes.default.svc", "namespace": "x"},
                    **(template or {}),
                },
            },
            **spec,
        },
    }


def elements(*names, **values):
    return [{"list": {"elements": [{"name": n, **values} for n in names]}}]


def names_of(**query):
    return sorted(
        Application.objects.filter(deletion_requested_at=None, **query).values_list(
            "name", flat=True
        )
    )


def run(name):
    """Look at a set once, in this thread."""
    row = ApplicationSet.objects.get(name=name)
    ApplicationSet.objects.filter(pk=row.pk).update(due_at=timezone.now())
    assert reconcile(row.pk)
    row.refresh_from_db()
    return row, {c["type"]: c for c in row.conditions}
