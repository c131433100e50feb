"""The generator `oci`: folders and files of an artifact of a registry."""

import json
from datetime import timedelta

import pytest
from conftest import config_map
from django.utils import timezone
from support.charts import Charts
from support.sets import elements, manifest, names_of, run

from appsets.models import ApplicationSet
from hub.celery import app as celery
from projects.models import Project, Repository

API = "/api/v1/applicationsets"
PREVIEW = "/api/v1/flotilla/applicationsets/preview"


@pytest.fixture
def registry():
    server = Charts()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def platform(registry, db):
    url = f"oci://{registry.host}/acme/platform"
    Repository.objects.create(url=url, kind="oci", options={"insecureOCIForceHttp": True})
    registry.publish(
        "acme/platform",
        "1.0.0",
        {
            "platform/dns/cm.yaml": config_map("dns"),
            "platform/certs/cm.yaml": config_map("certs"),
            "platform/old/cm.yaml": config_map("old"),
            "envs/a.yaml": "name: a\nring: {first: yes}\n",
            "envs/b.json": '[{"name": "b"}, {"name": "c"}]',
            "README": "x",
        },
    )
    return url


def folders(url, revision="1.0.0", **more):
    return {
        "oci": {
            "repoURL": url,
            "revision": revision,
            "directories": [{"path": "platform/*"}, {"path": "platform/old", "exclude": True}],
            **more,
        }
    }


NAMED = {"name": "{{.path.basename}}"}


def test_folders_of_an_artifact_are_deployed(hub, sandbox, platform, namespace):
    template = {
        "source": {"repoURL": platform, "path": "{{.path.path}}", "targetRevision": "1.0.0"},
        "destination": {"server": sandbox.server, "namespace": namespace},
        "syncPolicy": {"automated": {}, "syncOptions": ["CreateNamespace=true"]},
    }
    hub.post(API, manifest("s", [folders(platform)], template, metadata=NAMED))
    hub.wait_status("dns", "Synced", "Healthy")
    hub.wait_status("certs", "Synced", "Healthy")
    assert sandbox.get("", "ConfigMap", namespace, "dns") and names_of() == ["certs", "dns"]


def test_files_of_an_artifact_are_parameters(idle_hub, platform):
    files = [
        {
            "oci": {
                "repoURL": platform,
                "revision": "1.0.0",
                "files": [{"path": "envs/*"}],
                "values": {"from": "{{.path.filename}}"},
            }
        }
    ]
    idle_hub.post(API, manifest("s", files, metadata={"labels": {"from": "{{.values.from}}"}}))
    run("s")
    assert names_of() == ["a", "b", "c"]
    plain = manifest(
        "p", [folders(platform, pathParamPrefix="up")], metadata={"name": "{{up.path.basename}}"}
    )
    plain["spec"] |= {"goTemplate": False, "goTemplateOptions": []}
    added = idle_hub.post(PREVIEW, {"applicationSet": plain})["added"]
    assert sorted(a["metadata"]["name"] for a in added) == ["certs", "dns"]


def test_in_a_matrix_with_a_constraint_and_a_new_tag(
    idle_hub, registry, platform, monkeypatch, settings
):
    settings.WEBHOOK_REGISTRY_SECRET = "s"
    both = [{"matrix": {"generators": [folders(platform, "^1.0.0"), elements("x", "y")[0]]}}]
    idle_hub.post(API, manifest("s", both, metadata={"name": "{{.path.basename}}-{{.name}}"}))
    run("s")
    assert names_of() == ["certs-x", "certs-y", "dns-x", "dns-y"]
    registry.publish("acme/platform", "1.1.0", {"platform/mesh/cm.yaml": config_map("mesh")})
    told = []
    monkeypatch.setattr(
        "projects.refreshing.triggers.wake", lambda name, args=(), **_how: told.append((name, args))
    )
    place = f"{registry.host}/acme/platform"
    for name, tag, is_due in (
        ("acme/other", "1.1.0", False),
        ("acme/platform", "2.0.0", False),
        ("ACME/Platform", "1.1.0", True),
    ):
        ApplicationSet.objects.update(due_at=timezone.now() + timedelta(days=1))
        event = {
            "events": [
                {
                    "action": "push",
                    "target": {"repository": name, "tag": tag},
                    "request": {"host": registry.host},
                }
            ]
        }
        answer = idle_hub.client.post(
            "/api/webhook",
            json.dumps(event),
            content_type="application/json",
            headers={"Authorization": "s"},
        )
        assert answer.status_code == 200, answer.content
        [(task, args)] = [t for t in told if t[0] == "appsets.published"]
        told.clear()
        celery.tasks[task](*args)
        assert (ApplicationSet.objects.get().due_at <= timezone.now()) == is_due, (name, tag)
    assert args == (place, "1.1.0")
    run("s")
    assert {"mesh-x", "mesh-y"} <= set(names_of())


def test_a_deleted_artifact_deletes_nothing(idle_hub, registry, platform):
    idle_hub.post(API, manifest("s", [folders(platform)], metadata=NAMED))
    run("s")
    assert names_of() == ["certs", "dns"]
    registry.artifacts.clear()
    _, conditions = run("s")
    assert conditions["ErrorOccurred"]["status"] == "True" and names_of() == ["certs", "dns"]


def test_refusals_of_oci_generators(idle_hub, registry, platform):
    wrong = [{"oci": {"repoURL": "https://x", "files": [{"path": "a"}]}}]
    assert (
        "must begin with oci://"
        in idle_hub.post(PREVIEW, {"applicationSet": manifest("s", wrong)}, status=400)["message"]
    )
    none = [{"oci": {"repoURL": platform}}]
    assert (
        "needs directories or files"
        in idle_hub.post(PREVIEW, {"applicationSet": manifest("s", none)}, status=400)["message"]
    )
    Project.objects.create(
        name="team",
        spec={
            "sourceRepos": ["https://git.example/*"],
            "destinations": [{"server": "*", "namespace": "*"}],
        },
    )
    said = idle_hub.post(
        PREVIEW,
        {"applicationSet": manifest("s", [folders(platform)], metadata=NAMED, project="team")},
        status=400,
    )
    assert "does not permit repository oci://" in said["message"]
    asked = len(registry.requests)
    assert asked == 0, "a repository that the project does not permit is not asked"
