"""Every transaction locks what it writes before it takes a resource version, so that no two wait
for each other.
"""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from support.sets import elements, manifest, run

from appsets.models import ApplicationSet
from appsets.operations.rollouts import roll
from clusters.live import set_connection
from clusters.models import Cluster
from projects.models import Application
from projects.objects.applications import remove

pytestmark = pytest.mark.django_db(transaction=True)

# Rows that several transactions write; others are written by one, or only inserted.
SHARED = (
    "projects_application",
    "projects_project",
    "projects_repository",
    "projects_operation",
    "appsets_applicationset",
    "clusters_cluster",
)
SPEC = {
    "project": "team",
    "source": {"repoURL": "https://git.invalid/x.git", "path": "."},
    "destination": {"server": "https://kubernetes.default.svc", "namespace": "x"},
}


def wrong_orders(queries):
    """Yield the statements that write a shared row which was not locked before the counter was."""
    counted, locked = False, set()
    for sql in (q["sql"] for q in queries):
        if re.match(r"BEGIN|COMMIT|ROLLBACK(?! TO)", sql):
            counted, locked = False, set()
            continue
        tables = {t for t in SHARED if f'"{t}"' in sql}
        writes = re.match(r'(?:UPDATE|DELETE FROM) "(\w+)"', sql)
        if "hub_counter" in sql:
            counted = True
        elif writes and writes[1] in SHARED:
            if counted and writes[1] not in locked:
                yield sql[:200]
            locked.add(writes[1])
        elif (
            sql.startswith("INSERT")
            or not connection.features.has_select_for_update
            or "FOR UPDATE" in sql
        ):
            locked |= tables


def test_what_is_written_is_locked_before_the_counter(idle_hub):
    hub = idle_hub
    with CaptureQueriesContext(connection) as found:
        project = {
            "metadata": {"name": "team"},
            "spec": {
                "sourceRepos": ["*"],
                "destinations": [{"server": "*", "namespace": "*"}],
                "roles": [{"name": "ci"}],
            },
        }
        hub.post("/api/v1/projects", {"project": project})
        hub.post(
            "/api/v1/applications", {"metadata": {"name": "a"}, "spec": SPEC}, validate="false"
        )
        hub.put("/api/v1/projects/team", {"project": project})
        hub.post("/api/v1/projects/team/roles/ci/token", {"id": "t"})
        hub.put(
            "/api/v1/applications/a",
            {"metadata": {"name": "a"}, "spec": {**SPEC, "revisionHistoryLimit": 3}},
            validate="false",
        )
        hub.post("/api/v1/repositories", {"repo": "https://git.invalid/x.git"}, credsOnly="true")
        hub.put(
            "/api/v1/repositories/https%3A%2F%2Fgit.invalid%2Fx.git",
            {"repo": "https://git.invalid/x.git", "username": "u"},
        )
        hub.get("/api/v1/repositories", forceRefresh="true")
        hub.delete("/api/v1/repositories/https%3A%2F%2Fgit.invalid%2Fx.git")
        wanted = manifest(
            "s",
            elements("one", "two"),
            {"project": "team"},
            project="team",
            strategy={
                "type": "RollingSync",
                "rollingSync": {"steps": [{"matchExpressions": []}]},
            },
        )
        hub.post("/api/v1/applicationsets", wanted)
        row, _ = run("s")
        roll(row.pk)
        hub.post("/api/v1/flotilla/applicationsets/s/rollout", {"action": "pause"})
        roll(row.pk)
        wanted["spec"].pop("strategy")
        hub.post("/api/v1/applicationsets", wanted, upsert="true")
        run("s")
        roll(row.pk)
        Cluster.objects.create(server="https://c", name="c")
        cluster = Cluster.objects.get(name="c")
        set_connection(cluster.pk, "Failed", "away")
        hub.delete("/api/v1/clusters/https%3A%2F%2Fc")
        hub.delete("/api/v1/applicationsets/s")
        hub.delete("/api/v1/applications/a")
        for app in Application.objects.all():
            remove(app)
        hub.delete("/api/v1/projects/team")
    statements = [q["sql"] for q in found]
    assert sum("hub_counter" in s for s in statements) > 15 and not ApplicationSet.objects.exists()
    assert not list(wrong_orders(found))
