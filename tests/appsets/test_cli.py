"""`flotilla appset` against a hub over HTTP."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from django.utils import timezone
from support.sets import elements, manifest, names_of, run

from appsets.models import ApplicationSet, Secret
from appsets.operations import rollouts


@pytest.fixture
def flotilla(idle_hub, live_server):
    """The command, signed in."""

    def call(*argv, stdin="", code=0):
        env = {**os.environ, "FLOTILLA_SERVER": live_server.url, "FLOTILLA_TOKEN": idle_hub.token}
        result = subprocess.run(
            [sys.executable, "-m", "hub.cli.main", "appset", *argv],
            capture_output=True,
            text=True,
            env=env,
            input=stdin,
            check=False,
            timeout=60,
        )
        assert result.returncode == code, result.stderr + result.stdout
        assert "Traceback" not in result.stderr
        call.said = result.stderr
        return result.stdout if code == 0 else result.stderr

    return call


def test_the_life_of_a_set(flotilla, tmp_path):
    names = [f"a{n:02}" for n in range(20)]
    file, few = tmp_path / "set.yaml", tmp_path / "few.yaml"
    file.write_text(yaml.safe_dump({"kind": "ApplicationSet", **manifest("s", elements(*names))}))
    few.write_text(
        json.dumps(manifest("s", elements(*names[:8], "new"), metadata={"labels": {"x": "1"}}))
    )

    assert "would make: a00, a01" in flotilla("create", str(file), "--dry-run")
    assert not ApplicationSet.objects.exists()
    assert flotilla("create", str(file)) == "ApplicationSet 's' created\n"
    run("s")
    assert "argocd/s" in flotilla("list") and "ErrorOccurred=False" in flotilla("list")
    assert flotilla("list", "-p", "other").splitlines()[1:] == []
    shown = flotilla("get", "s")
    assert "Applications:       20" in shown and "a19" in shown
    assert json.loads(flotilla("get", "s", "-o", "json"))["metadata"]["name"] == "s"
    assert [a["metadata"]["name"] for a in yaml.safe_load(flotilla("generate", str(few)))][
        -1
    ] == "new"

    said = flotilla("preview", "-", stdin=few.read_text())
    assert (
        "1 added, 8 changed, 0 deleted with 0 live resources, 12 waiting for a confirmation, 0 "
        "unchanged"
    ) in said
    assert "+    x: '1'" in said and "deleted once confirmed" in said
    assert flotilla("create", str(few), "--upsert") == "ApplicationSet 's' saved\n"
    run("s")
    assert "12 deletions wait" in flotilla("get", "s")
    flotilla("confirm-deletion", "s", stdin="n\n", code=1)
    assert flotilla("confirm-deletion", "s", "--yes").startswith("Confirmed: a08, a09")
    run("s")
    assert names_of() == [*names[:8], "new"]

    flotilla("delete", "s", stdin="n\n", code=1)
    flotilla("delete", "s", "-y", "--no-cascade")
    assert names_of(owner="") == [*names[:8], "new"]


def test_problems_are_a_sentence(flotilla, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("kind: Deployment\n")
    assert "no ApplicationSet" in flotilla("create", str(wrong), code=20)
    assert "cannot be read" in flotilla("create", str(tmp_path / "absent"), code=20)
    wrong.write_text("a: [")
    assert "is no YAML" in flotilla("preview", str(wrong), code=20)
    wrong.write_text("")
    assert "there are no manifests" in flotilla("preview", str(wrong), code=20)
    flotilla("get", "absent", code=20)
    assert "wide, json, yaml" in flotilla("list", "-o", "xml", code=20)


def test_a_rollout_by_hand(flotilla, tmp_path, idle_hub):
    file = tmp_path / "set.yaml"
    step = {"matchExpressions": [{"key": "ring", "operator": "In", "values": ["x"]}]}
    strategy = {"type": "RollingSync", "rollingSync": {"steps": [step]}}
    file.write_text(
        yaml.safe_dump(
            manifest("s", elements("a"), metadata={"labels": {"ring": "x"}}, strategy=strategy)
        )
    )
    flotilla("create", str(file))
    assert "does not sync in steps" in flotilla("rollout", "s")
    run("s")
    ApplicationSet.objects.update(rollout_due_at=timezone.now())
    assert rollouts.roll(ApplicationSet.objects.get().pk)
    said = flotilla("rollout", "s")
    assert "Waiting" in said and "waits for a to be compared" in said
    assert "paused by admin" in flotilla("rollout", "s", "pause")
    assert "action must be one of" in flotilla("rollout", "s", "go", code=20)
    said = flotilla(
        "set-secret", "scm", "--server", "https://git.example.org", stdin="CANARY-token\n"
    )
    assert said == "Secret 'scm' stored for https://git.example.org\n"
    assert Secret.objects.get().data == {"token": "CANARY-token"}
    assert "must start with" in flotilla("set-secret", "scm", "--server", "git", stdin="x", code=20)


def test_what_makes_no_application_is_said(flotilla, idle_hub, repo):
    """A file without the parameter that names the application: YAML reads `n` as false."""
    repo.commit({"a/config.yaml": "'n': a\n", "d/config.yaml": "n: y\n"})
    files = {"repoURL": repo.url, "revision": "main", "files": [{"path": "*/config.yaml"}]}
    source = {"repoURL": repo.url, "path": "x", "targetRevision": "main"}
    body = manifest("s", [{"git": files}], {"source": source}, metadata={"name": "{{.n}}"})
    body["spec"]["goTemplateOptions"] = []

    found = idle_hub.post("/api/v1/applicationsets/generate", {"applicationSet": body})
    names = flotilla("generate", "-", "-o", "wide", stdin=json.dumps(body))

    assert [a["metadata"]["name"] for a in found["applications"]] == ["a"]
    [problem] = found["problems"]
    assert "<no value>" in problem["application"]
    assert flotilla.said == f"problem: {problem['application']}: {problem['message']}\n"
    assert "a" in names and "<no value>" not in names
