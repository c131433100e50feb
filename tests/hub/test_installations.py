"""An export holds everything that the hub keeps and says what it leaves out; an import names what
it cannot carry over.
"""

import json
from datetime import timedelta

import pytest
import yaml
from django.utils import timezone

from appsets.models import ConfigMap, Secret
from clusters.models import Cluster
from hub.cli import configmaps
from hub.cli.installation import exporter, importer
from hub.cli.installation.report import Report
from hub.cli.problem import Problem
from hub.models import Grant, IdentityProvider, Role, change_setting
from projects import diagnostics


class Direct:
    """The hub as the command's client sees it, without a server between."""

    def __init__(self, hub):
        self.hub = hub

    def get(self, where):
        return self._call("GET", where)

    def post(self, where, body):
        return self._call("POST", where, body)

    def put(self, where, body):
        return self._call("PUT", where, body)

    def patch(self, where, body):
        return self._call("PATCH", where, body)

    def delete(self, where):
        return self._call("DELETE", where)

    def _call(self, method, where, body=None):
        answer = self.hub.call(method, where, body, status=None)
        if isinstance(answer, dict) and "code" in answer and "error" in answer:
            problem = Problem(answer["message"])
            problem.status = {5: 404, 7: 403}.get(answer["code"], 400)
            raise problem
        return answer


def filled(hub):
    rules = [{"resource": "applications", "action": "get", "object": "*", "effect": "allow"}]
    hub.put(
        "/api/v1/flotilla/roles/readers", {"rules": rules, "members": ["ann"], "description": "d"}
    )
    until = (timezone.now() + timedelta(hours=5)).isoformat()
    hub.post(
        "/api/v1/flotilla/grants",
        {
            "subject": "ann",
            "resource": "applications",
            "action": "sync",
            "object": "*/*",
            "until": until,
            "reason": "help",
            "ticket": "T-1",
        },
    )
    config = {"issuer": "https://idp.example", "clientID": "hub", "clientSecret": "CANARY-1"}
    IdentityProvider.objects.create(slug="company", name="Company", protocol="oidc", config=config)
    hub.post(
        "/api/v1/flotilla/secrets",
        {"name": "token", "servers": ["https://api.example"], "data": {"token": "CANARY-2"}},
    )
    hub.post(
        "/api/v1/flotilla/configmaps", {"name": "plugin", "data": {"baseUrl": "https://p.example"}}
    )
    notices = [{"tone": "bad", "text": "one"}, {"tone": "info", "text": "two"}]
    hub.put("/api/v1/flotilla/settings/notices", {"value": notices})


def exported(hub):
    return [yaml.safe_load(json.dumps(d)) for d in exporter.export(Direct(hub))]


def imported(hub, documents):
    report = Report(Direct(hub), dry_run=False)
    importer.take_all(report, documents)
    return {line.what: (line.result, line.note) for line in report.lines}


def test_an_export_holds_everything_and_no_secret(idle_hub):
    filled(idle_hub)

    documents = exported(idle_hub)

    (own,) = [d for d in documents if d["metadata"]["name"] == "flotilla-cm"]
    found = {k: json.loads(v) for k, v in own["data"].items()}
    assert [r["name"] for r in found["roles"]] == ["readers"]
    assert [(g["subject"], g["ticket"]) for g in found["grants"]] == [("ann", "T-1")]
    assert [(p["id"], p["hasSecret"]) for p in found["providers"]] == [("company", True)]
    assert len(found["notices"]) == 2
    kinds = {(d["kind"], d["metadata"]["name"]) for d in documents}
    assert {("Secret", "token"), ("ConfigMap", "plugin")} <= kinds
    assert "CANARY" not in json.dumps(documents)


def test_an_export_that_is_taken_in_again_changes_nothing(idle_hub):
    filled(idle_hub)

    found = imported(idle_hub, exported(idle_hub))

    assert {result for result, _note in found.values()} == {"unchanged"}, found


def test_what_was_lost_comes_back_from_an_export(idle_hub):
    filled(idle_hub)
    documents = exported(idle_hub)
    for model in (Role, Grant, IdentityProvider, Secret, ConfigMap):
        model.objects.all().delete()
    change_setting("notices", [])

    found = imported(idle_hub, documents)

    assert Role.objects.get(name="readers").members == ["ann"]
    assert Grant.objects.get().subject == "ann"
    assert ConfigMap.objects.get(name="plugin").data == {"baseUrl": "https://p.example"}
    assert len(idle_hub.get("/api/v1/flotilla/settings/notices")["value"]) == 2
    assert found["Secret token"][0] == "failed"
    assert "set-secret argocd/token --server https://api.example" in found["Secret token"][1]
    assert found["identity provider company"][0] == "kept back"
    again = exported(idle_hub)
    left = [d for d in documents if d not in again]
    assert {d["metadata"]["name"] for d in left} == {"token", "flotilla-cm"}


SETTINGS = {
    "admin.enabled": ("true", "false"),
    "statusbadge.enabled": ("false", "true"),
    "exec.enabled": ("false", "true"),
    "cluster.inClusterEnabled": ("true", "false"),
    "resource.ignoreResourceUpdatesEnabled": ("true", "false"),
    "application.sync.impersonation.enforced": ("true", "false"),
    "server.rbac.disableApplicationFineGrainedRBACInheritance": ("true", "false"),
    "resource.respectRBAC": ("", "strict"),
    "ui.bannerpermanent": (None, "true"),
    "some.other": (None, "x"),
}


@pytest.mark.parametrize("key", SETTINGS)
def test_a_setting_is_named_unless_the_hub_behaves_so_anyway(key):
    same, other = SETTINGS[key]

    if same is not None:
        assert configmaps.read({key: same}).left == []
    (left,) = configmaps.read({key: other}).left

    assert left[0] == key
    assert left[1]


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        (
            {"source": {"repoURL": "https://g.example/r", "path": ".", "plugin": {"name": "p"}}},
            "source.plugin",
        ),
        (
            {
                "source": {"repoURL": "https://g.example/r", "path": "."},
                "sourceHydrator": {"drySource": {"repoURL": "https://g.example/r"}},
            },
            "sourceHydrator",
        ),
    ],
    ids=["a plugin", "a hydrator"],
)
def test_what_an_application_asks_for_and_the_hub_does_not_do_is_named(spec, part, idle_hub):
    where = {"server": "https://kubernetes.default.svc", "namespace": "x"}
    document = {
        "kind": "Application",
        "metadata": {"name": "a"},
        "spec": {"project": "default", "destination": where, **spec},
    }

    found = imported(idle_hub, [document])

    assert found[f"Application a {part}"][0] == "kept back"


def test_the_doctor_reads_every_secret_and_says_how_many_cannot_be_read(db, settings):
    for n in range(60):
        Cluster.objects.create(name=f"c{n}", server=f"https://c{n}", config={"bearerToken": "t"})
    assert diagnostics._secrets() == ""
    settings.SECRET_KEY = "another" * 8
    Cluster.objects.filter(name="c3").update(config={"bearerToken": "t"})

    said = diagnostics._secrets()

    assert "the secrets of 59 rows cannot be read" in said
    assert "and 54 more" in said
