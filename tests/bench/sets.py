"""Cost of regenerating application sets over many clusters with no change, and of one label change.

Run: python tests/bench/sets.py [clusters] [sets]. Prints CPU seconds; every set makes one application for each cluster.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("HUB_DATA_DIR", tempfile.mkdtemp(prefix="flotilla-bench-"))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")

import django

django.setup()

from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from appsets.operations import sets
from appsets.models import ApplicationSet
from appsets.operations.reconcile import reconcile
from appsets.tasks import clusters_changed
from clusters.models import Cluster
from hub.models import AuditEvent
from projects.models import Application
from projects.objects.specs import default_project, home_cluster


def look_at_all() -> float:
    """Return the CPU seconds of one look at every set that is due."""
    start = time.process_time()
    for pk in ApplicationSet.objects.filter(due_at__lte=timezone.now()).values_list(
        "pk", flat=True
    ):
        reconcile(pk)
    return time.process_time() - start


def main(clusters: int, count: int) -> None:
    """Print the figures."""
    call_command("migrate", verbosity=0)
    home_cluster()
    default_project()
    Cluster.objects.bulk_create(
        Cluster(
            server=f"https://c{n}.example",
            name=f"c{n}",
            labels={"fleet": "yes", "ring": str(n % 10)},
        )
        for n in range(clusters)
    )
    for n in range(count):
        sets.save(
            sets.wanted_from(
                {
                    "metadata": {"name": f"set-{n}"},
                    "spec": {
                        "goTemplate": True,
                        "goTemplateOptions": ["missingkey=error"],
                        "generators": [
                            {"clusters": {"selector": {"matchLabels": {"fleet": "yes"}}}}
                        ],
                        "template": {
                            "metadata": {
                                "name": f"s{n}-{{{{.name}}}}",
                                "labels": {"ring": "{{.metadata.labels.ring}}"},
                            },
                            "spec": {
                                "project": "default",
                                "source": {
                                    "repoURL": "https://git.example/repo",
                                    "path": f"apps/{n}",
                                    "targetRevision": "main",
                                },
                                "destination": {"server": "{{.server}}", "namespace": f"ns-{n}"},
                            },
                        },
                    },
                }
            ),
            "bench",
        )
    spent = look_at_all()
    total = Application.objects.count()
    print(
        (
            f"created {total:,} applications of {count} sets over {clusters:,} clusters: "
            f"{spent:.1f} s CPU, {spent / total * 1000:.2f} ms each"
        )
    )
    sets.mark_sets_due(list(ApplicationSet.objects.values_list("pk", flat=True)))
    events, newest = (
        AuditEvent.objects.count(),
        Application.objects.order_by("-resource_version").first().resource_version,
    )
    with CaptureQueriesContext(connection) as seen:
        spent = look_at_all()
    writes = [
        q["sql"]
        for q in seen
        if q["sql"].startswith(("INSERT", "UPDATE", "DELETE"))
        and "appsets_applicationset" not in q["sql"]
    ]
    assert AuditEvent.objects.count() == events and not writes
    print(
        (
            f"regenerated without change: {spent:.2f} s CPU, {len(writes)} writes beside the sets' "
            "own rows"
        )
    )
    Cluster.objects.filter(name="c1").update(labels={"fleet": "yes", "ring": "moved"})
    clusters_changed('{"fleet": "yes", "ring": "r1"}', '{"fleet": "yes", "ring": "moved"}')
    spent = look_at_all()
    changed = Application.objects.filter(resource_version__gt=newest).count()
    print(f"a label change of one cluster: {changed} applications changed, {spent:.2f} s CPU")


main(
    *(int(a) for a in (*sys.argv[1:], "1000", "20")[:2])
    if len(sys.argv) != 2
    else (int(sys.argv[1]), 20)
)
