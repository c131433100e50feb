"""Progressive sync end to end: steps, halts, what people say, deletion in order, over several
clusters.
"""

import json

import pytest
from conftest import config_map
from django.utils import timezone
from support.hosts import Host
from support.sets import manifest, names_of, run

from appsets.models import ApplicationSet, GeneratorAnswer, Secret
from appsets.operations import rollouts
from hub.auth.sessions import issue
from hub.models import Account, AuditEvent, access_changed, change_setting
from projects.models import Application, Operation

API = "/api/v1/applicationsets"
OURS = "/api/v1/flotilla/applicationsets"
HEALTH = """
hs = {status = "Healthy", message = ""}
if obj.data ~= nil and obj.data.state ~= nil then hs.status = obj.data.state end
return hs
"""


def steps(*rings, ours=None):
    rolling_sync = {
        "steps": [
            {
                "matchExpressions": [{"key": "ring", "operator": "In", "values": [ring]}],
                **({} if maximum is None else {"maxUpdate": maximum}),
            }
            for ring, maximum in rings
        ]
    }
    return {
        "strategy": {"type": "RollingSync", "rollingSync": rolling_sync},
        **({"flotilla": {"rollout": ours}} if ours else {}),
    }


def fleet(namespace, repo, cluster, rings, **spec):
    """Return a set with one application for each name, in its ring, of its own folder."""
    entries = [{"name": n, "ring": r} for n, r in rings.items()]
    return manifest(
        "s",
        [{"list": {"elements": entries}}],
        {
            "source": {"repoURL": repo.url, "path": "{{.name}}", "targetRevision": "main"},
            "destination": {"server": cluster.server, "namespace": namespace},
            "syncPolicy": {"automated": {"prune": True}, "syncOptions": ["CreateNamespace=true"]},
        },
        metadata={"labels": {"ring": "{{.ring}}"}},
        **spec,
    )


def files(names, **data):
    return {f"{n}/c.yaml": config_map(n, {"a": "1", **data}) for n in names}


def status(hub):
    shown = hub.get(f"{API}/s")["status"]
    return {e["application"]: e["status"] for e in shown.get("applicationStatus", [])}


def rollout(hub):
    return hub.get(f"{API}/s")["status"].get("flotilla", {}).get("rollout", {})


def ran_in_order(*groups):
    """Return whether every first sync of a group ended before one of the next began."""
    ends = []
    for group in groups:
        own = list(Operation.objects.filter(application__name__in=group))
        assert own, group
        if ends and min(o.started_at for o in own) < max(ends):
            return False
        ends = [o.finished_at for o in own]
    return True


@pytest.fixture
def healths(hub):
    hub.put("/api/v1/flotilla/settings/health", {"value": {"ConfigMap": HEALTH}})


def test_a_rollout_goes_in_steps(hub, cluster, repo, namespace, healths):
    rings = {"a": "canary", "b": "early", "c": "early", "d": "rest", "z": "nowhere"}
    repo.commit(files(rings))
    hub.post(
        API,
        fleet(
            namespace, repo, cluster, rings, **steps(("canary", None), ("early", 1), ("rest", None))
        ),
    )
    hub.wait(lambda: set(list(status(hub).values())[:4]) == {"Healthy"}, "the rollout to end", 60)
    assert ran_in_order(["a"], ["b"], ["c"], ["d"])
    shown = hub.get(f"{API}/s")["status"]
    entries = {e["application"]: e for e in shown["applicationStatus"]}
    assert {n: e["step"] for n, e in entries.items()} == {
        "a": "1",
        "b": "2",
        "c": "2",
        "d": "3",
        "z": "-1",
    }
    assert (
        entries["a"]["targetRevisions"]
        == hub.application("a")["status"]["sync"]["revision"].split()
    )
    conditions = {c["type"]: c for c in shown["conditions"]}
    assert (
        conditions["RolloutProgressing"]["status"],
        conditions["RolloutProgressing"]["message"],
    ) == ("False", "ApplicationSet Rollout has completed")
    assert conditions["InvalidRolloutConfig"]["message"] == "Rolling Sync Configured correctly"
    assert not Operation.objects.filter(application__name="z").exists(), (
        "what no step selects is never synced"
    )
    made = hub.application("a")
    assert made["spec"]["syncPolicy"]["automated"] == {"prune": True, "enabled": False}
    operation = made["status"]["operationState"]["operation"]
    assert (
        operation["initiatedBy"] == {"username": "applicationset-controller", "automated": True}
        and operation["sync"]["prune"] is True
    )
    assert "RollingSync triggered" in operation["info"][0]["value"] and operation["retry"] == {
        "limit": 5
    }

    # A commit to all: the canary breaks, and nothing after it moves.
    hub.push(repo, files(["a"], state="Degraded") | files(["b", "c", "d"], b="2"))
    hub.wait(
        lambda: hub.application("a")["status"]["health"]["status"] == "Degraded",
        "the canary to break",
    )
    hub.wait(lambda: rollout(hub).get("step") == 1, "step 1")
    assert [status(hub)[n] for n in "abcd"] == ["Progressing", "Waiting", "Waiting", "Waiting"]
    assert cluster.get("", "ConfigMap", namespace, "b")["data"] == {"a": "1"}
    hub.push(repo, files(["a"], b="2"))
    hub.wait(
        lambda: cluster.get("", "ConfigMap", namespace, "d")["data"].get("b") == "2",
        "the rollout to go on by itself",
        60,
    )
    hub.wait(lambda: rollout(hub).get("step", 0) == 0, "the rollout to end")
    events = hub.get(f"{API}/s/events")["items"]
    assert {"RolloutProgressing", "RolloutComplete", "ApplicationSetUpToDate"} <= {
        e["reason"] for e in events
    }
    assert events[0]["involvedObject"]["uid"] == hub.get(f"{API}/s")["metadata"]["uid"]

    # Without the strategy the status goes, and automated sync is on again.
    hub.post(API, fleet(namespace, repo, cluster, rings), upsert="true")
    hub.wait(lambda: not hub.get(f"{API}/s")["status"].get("applicationStatus"), "the status to go")
    hub.wait(lambda: hub.application("z")["status"]["sync"]["status"] == "Synced", "automated sync")
    assert "RolloutProgressing" not in {
        c["type"] for c in hub.get(f"{API}/s")["status"]["conditions"]
    }


def test_pause_advance_abort_and_resume(hub, sandbox, repo, namespace, healths):
    rings = {"a": "canary", "b": "rest"}
    repo.commit(files(rings))
    hub.post(API, fleet(namespace, repo, sandbox, rings, **steps(("canary", 0), ("rest", None))))
    hub.wait(lambda: "advanced" in rollout(hub).get("waitsFor", ""), "the manual step")
    assert status(hub) == {"a": "Waiting", "b": "Waiting"}
    hub.post(f"{OURS}/s/rollout", {"action": "pause"})
    hub.post(f"{OURS}/s/rollout", {"action": "advance"})
    hub.wait(
        lambda: rollout(hub).get("paused") and "paused" in rollout(hub).get("waitsFor", ""),
        "the pause",
    )
    assert rollout(hub)["pausedBy"] == "admin" and not Operation.objects.exists()
    hub.post(f"{OURS}/s/rollout", {"action": "resume"})
    hub.wait(lambda: set(status(hub).values()) == {"Healthy"}, "the rollout to end")

    # A sync by hand is as good as advancing.
    hub.push(repo, files(rings, b="2"))
    hub.wait(lambda: "advanced" in rollout(hub).get("waitsFor", ""), "the manual step")
    hub.post("/api/v1/applications/a/sync", {})
    hub.wait(
        lambda: rollout(hub).get("step", 0) == 0 and set(status(hub).values()) == {"Healthy"},
        "the rollout to end",
    )

    hub.push(repo, files(rings, b="3"))
    hub.wait(lambda: rollout(hub).get("step") == 1, "a new rollout")
    hub.post(f"{OURS}/s/rollout", {"action": "abort"})
    hub.wait(lambda: "aborted" in rollout(hub).get("waitsFor", ""), "the abort")
    hub.post(f"{OURS}/s/rollout", {"action": "advance"})
    hub.wait(
        lambda: not ApplicationSet.objects.filter(rollout_due_at__lte=timezone.now()).exists(),
        "a look",
    )
    assert (
        status(hub)["a"] == "Waiting"
        and sandbox.get("", "ConfigMap", namespace, "a")["data"]["b"] == "2"
    )
    commit = hub.push(repo, files(rings, b="4"))
    # What is said now is about the new commit, so it must have been seen.
    hub.wait_status("a", "OutOfSync", revision=commit)
    hub.post(f"{OURS}/s/rollout", {"action": "resume"})
    hub.post(f"{OURS}/s/rollout", {"action": "advance"})
    hub.wait(
        lambda: sandbox.get("", "ConfigMap", namespace, "b")["data"].get("b") == "4",
        "the new target everywhere",
    )
    verbs = set(
        AuditEvent.objects.filter(kind="applicationset", actor="admin").values_list(
            "verb", flat=True
        )
    )
    assert {"pause-rollout", "resume-rollout", "abort-rollout", "advance-rollout"} <= verbs


def test_rollout_actions_need_permission(idle_hub):
    hub = idle_hub
    change_setting("rbac", {"policy.csv": "p, dev, applicationsets, get, */*, allow"})
    access_changed("policy", "rbac", None)
    token = issue(
        Account.objects.create(name="dev", password="!", capabilities=["login"]), timezone.now()
    )
    hub.post(API, manifest("s", [{"list": {"elements": [{"name": "a"}]}}], **steps(("x", None))))
    hub.post(f"{OURS}/s/rollout", {"action": "pause"}, status=403, token=token)
    absent = hub.post(f"{OURS}/absent/rollout", {"action": "pause"}, status=403, token=token)
    assert "permission denied" in absent["message"]
    assert (
        "action must be one of"
        in hub.post(f"{OURS}/s/rollout", {"action": "go"}, status=400)["message"]
    )
    hub.post(f"{OURS}/s/rollout", {"action": ["pause"]}, status=400)
    hub.post(f"{OURS}/s/rollout", {}, status=400)
    hub.post(API, manifest("t", [{"list": {"elements": [{"name": "b"}]}}]))
    assert (
        "no RollingSync"
        in hub.post(f"{OURS}/t/rollout", {"action": "pause"}, status=400)["message"]
    )
    assert (
        "no step to advance"
        in hub.post(f"{OURS}/s/rollout", {"action": "advance"}, status=400)["message"]
    )
    assert hub.get(f"{API}/s/events", token=token)["items"] is not None
    hub.get(f"{API}/absent/events", status=403, token=token)


def test_a_set_that_is_edited_during_its_rollout(hub, sandbox, repo, namespace, healths):
    rings = {"a": "canary", "b": "rest", "c": "rest"}
    repo.commit(files(rings) | files(["a"], state="Progressing"))
    hub.post(API, fleet(namespace, repo, sandbox, rings, **steps(("canary", None), ("rest", None))))
    hub.wait(lambda: status(hub).get("a") == "Progressing", "the canary to progress")
    # The canary leaves, another one comes, an application moves into the first step.
    after = {"b": "canary", "c": "rest", "d": "canary"}
    repo.commit(files(["d"]))
    hub.post(
        API,
        fleet(namespace, repo, sandbox, after, **steps(("canary", None), ("rest", None))),
        upsert="true",
    )
    hub.wait(
        lambda: status(hub) == {"b": "Healthy", "c": "Healthy", "d": "Healthy"},
        "the rollout to end",
        60,
    )
    assert ran_in_order(["b", "d"], ["c"])


def test_applications_go_in_the_reverse_order(hub, sandbox, repo, namespace):
    rings = {"a": "canary", "b": "rest", "c": "rest", "z": "nowhere"}
    repo.commit(files(rings))
    strategy = steps(("canary", None), ("rest", None))
    strategy["strategy"]["deletionOrder"] = "Reverse"
    hub.post(API, fleet(namespace, repo, sandbox, rings, **strategy))
    hub.wait(
        lambda: [status(hub).get(n) for n in "abc"] == ["Healthy"] * 3, "the rollout to end", 60
    )
    hub.delete(f"{API}/s")
    assert hub.get(f"{API}/s")["metadata"]["deletionTimestamp"]
    hub.wait(
        lambda: not ApplicationSet.objects.exists() and not Application.objects.exists(),
        "all to go",
        60,
    )
    gone = list(
        AuditEvent.objects.filter(verb="deleted", kind="application")
        .order_by("pk")
        .values_list("object", flat=True)
    )
    assert gone == ["argocd/b", "argocd/c", "argocd/a", "argocd/z"]
    assert sandbox.get("", "ConfigMap", namespace, "a") is None


def test_a_lost_start_is_found_again(idle_hub, sandbox_server):
    """The rollout rests on rows alone: what a worker did not do is done by the next look."""
    idle_hub.post(
        API,
        manifest(
            "s",
            [{"list": {"elements": [{"name": "a", "ring": "x"}]}}],
            metadata={"labels": {"ring": "{{.ring}}"}},
            **steps(("x", None)),
        ),
    )
    row, _ = run("s")
    source = row.spec["template"]["spec"]
    Application.objects.update(
        revisions=["c" * 40],
        refresh_at=None,
        sync_status="OutOfSync",
        compared_to={"sources": [source["source"]], "destination": source["destination"]},
        conditions=[],
    )
    blocker = Operation.objects.create(application=Application.objects.get())

    def look():
        ApplicationSet.objects.update(rollout_due_at=timezone.now())
        assert rollouts.roll(row.pk)
        row.refresh_from_db()
        return row.application_status[0]["status"]

    Application.objects.update(operation=None)
    assert look() == "Pending", "another operation has the application"
    blocker.phase = "Succeeded"
    blocker.save()
    assert look() == "Pending" and Operation.objects.filter(phase="Running").count() == 1
    assert look() == "Progressing"
    assert Operation.objects.count() == 2
    Operation.objects.update(phase="Succeeded")
    Application.objects.update(sync_status="Synced", health_status="Healthy")
    assert look() == "Healthy" and row.rollout_state["step"] == 0
    version = row.resource_version
    look()
    assert row.resource_version == version, "a look that finds nothing writes nothing"


@pytest.mark.controlplane
def test_a_set_over_a_fleet(hub, sandbox, genuine, second_genuine, repo, namespace, healths):
    """Two genuine control planes and a sandbox: deploy, a label change, steps with a halt, a mass
    deletion, a preview.
    """
    places = {"east": sandbox, "genuine": genuine, "second": second_genuine}
    repo.commit({"app/c.yaml": config_map("app")})
    for name, ring in (("east", "canary"), ("genuine", "rest"), ("second", "off")):
        places[name].register(labels={"ring": ring})
    wanted = manifest(
        "s",
        [
            {
                "clusters": {
                    "selector": {
                        "matchExpressions": [
                            {"key": "ring", "operator": "In", "values": ["canary", "rest"]}
                        ]
                    }
                }
            }
        ],
        {
            "source": {"repoURL": repo.url, "path": "app", "targetRevision": "main"},
            "destination": {"server": "{{.server}}", "namespace": namespace},
            "syncPolicy": {"automated": {}, "syncOptions": ["CreateNamespace=true"]},
        },
        metadata={
            "name": f"{namespace}-{{{{.name}}}}",
            "labels": {"ring": "{{.metadata.labels.ring}}"},
        },
        **steps(("canary", None), ("rest", "50%"), ours={"maxDegraded": 0}),
    )
    hub.post(API, wanted)
    for name in ("east", "genuine"):
        hub.wait_status(f"{namespace}-{name}", "Synced", "Healthy", seconds=60)
        assert places[name].get("", "ConfigMap", namespace, "app")
    assert second_genuine.get("", "ConfigMap", namespace, "app") is None
    assert ran_in_order([f"{namespace}-east"], [f"{namespace}-genuine"])

    second_genuine.register(labels={"ring": "rest"})
    hub.wait_status(f"{namespace}-second", "Synced", "Healthy", seconds=60)
    assert second_genuine.get("", "ConfigMap", namespace, "app")

    hub.push(repo, {"app/c.yaml": config_map("app", {"state": "Degraded"})})
    hub.wait(lambda: rollout(hub).get("halted"), "the halt", 60)
    assert "1 of 1 applications are Degraded" in rollout(hub)["waitsFor"]
    assert sandbox.get("", "ConfigMap", namespace, "app")["data"] == {"state": "Degraded"}
    for place in (genuine, second_genuine):
        assert place.get("", "ConfigMap", namespace, "app")["data"] == {"a": "1"}
    assert AuditEvent.objects.filter(verb="halt-rollout").count() == 1
    hub.push(repo, {"app/c.yaml": config_map("app", {"a": "2"})})
    for place in places.values():
        hub.wait(
            lambda p=place: p.get("", "ConfigMap", namespace, "app")["data"] == {"a": "2"},
            "the mended commit",
            60,
        )
    hub.wait(lambda: rollout(hub).get("step", 0) == 0, "the rollout to end")

    # One label change takes one out; an edit that takes all out asks first.
    sandbox.register(labels={"ring": "off"})
    hub.wait(
        lambda: not Application.objects.filter(name=f"{namespace}-east").exists(),
        "the one to go",
        60,
    )
    assert sandbox.get("", "ConfigMap", namespace, "app") is None
    wanted["spec"]["generators"][0]["clusters"]["selector"] = {"matchLabels": {"ring": "typo"}}
    hub.post(API, wanted, upsert="true")
    hub.wait(
        lambda: len(hub.get(f"{API}/s")["status"]["flotilla"].get("deletionsWaiting", [])) == 2,
        "the set to ask",
    )
    assert genuine.get("", "ConfigMap", namespace, "app") and second_genuine.get(
        "", "ConfigMap", namespace, "app"
    )
    names = hub.get(f"{API}/s")["status"]["flotilla"]["deletionsWaiting"]
    hub.post(f"{OURS}/s/confirm-deletion", {"applications": names})
    hub.wait(lambda: not Application.objects.exists(), "the confirmed deletion", 60)
    assert all(p.get("", "ConfigMap", namespace, "app") is None for p in places.values())

    _previews(hub, repo, genuine, namespace)


def _previews(hub, repo, place, namespace):
    """A pull request opens an environment in a cluster, a new commit reaches it, and it goes when
    that closes.
    """
    host = Host()
    try:
        Secret.objects.create(name="scm", servers=[host.url], data={"token": host.token})
        host.repo("web")
        block = {
            "owner": "acme",
            "repo": "web",
            "api": host.url,
            "tokenRef": {"secretName": "scm", "key": "token"},
            "labels": ["preview"],
        }
        hub.post(
            API,
            manifest(
                "previews",
                [{"pullRequest": {"github": block}}],
                {
                    "source": {"repoURL": repo.url, "path": "app", "targetRevision": "main"},
                    "destination": {
                        "server": place.server,
                        "namespace": namespace + "-pr-{{.number}}",
                    },
                    "syncPolicy": {"automated": {}, "syncOptions": ["CreateNamespace=true"]},
                },
                metadata={
                    "name": namespace + "-pr-{{.number}}",
                    "annotations": {"sha": "{{.head_sha}}"},
                },
            ),
        )

        def event(action):
            body = {"action": action, "repository": {"full_name": "acme/web"}}
            assert (
                hub.client.post(
                    "/api/webhook",
                    json.dumps(body),
                    content_type="application/json",
                    HTTP_X_GITHUB_EVENT="pull_request",
                ).status_code
                == 200
            )

        hub.wait(GeneratorAnswer.objects.exists, "the first look")
        host.pull(7, labels=["preview"])
        event("opened")
        hub.wait_status(f"{namespace}-pr-7", "Synced", "Healthy", seconds=60)
        assert place.get("", "ConfigMap", f"{namespace}-pr-7", "app")
        host.pull(7, labels=["preview"], branch="other")
        event("synchronize")
        hub.wait(
            lambda: (
                hub.application(f"{namespace}-pr-7")["metadata"]["annotations"]["sha"]
                == host.pulls[-1]["sha"]
            ),
            "the new commit",
        )
        host.pull(7, labels=["preview"], state="closed")
        event("closed")
        hub.wait(
            lambda: names_of() == [] and not Application.objects.exists(), "the preview to go", 60
        )
        assert place.get("", "ConfigMap", f"{namespace}-pr-7", "app") is None
    finally:
        host.close()
