"""Sets end to end: from generators to applications that run, by REST, on a sandbox and a genuine
control plane.
"""

import contextlib
import json
import random
from datetime import timedelta

import pytest
from conftest import config_map
from django.test import Client
from django.utils import timezone
from support.sets import elements, manifest, names_of, run
from support.streams import collect

from appsets.models import ApplicationSet
from appsets.operations import reconcile
from appsets.template import limits
from clusters.models import Cluster
from hub.auth.sessions import issue
from hub.events.changes import publish
from hub.models import (
    Account,
    AuditEvent,
    access_changed,
    change_setting,
    current_version,
    next_version,
)
from projects.models import Application, Project
from projects.objects import applications
from projects.sources.process import render_queue

API = "/api/v1/applicationsets"
PREVIEW = "/api/v1/flotilla/applicationsets/preview"
FINALIZER = "resources-finalizer.argocd.argoproj.io"


def test_a_set_follows_clusters_and_git(hub, cluster, repo, namespace):
    repo.commit(
        {
            "apps/web/c.yaml": config_map("web"),
            "apps/api/c.yaml": config_map("api"),
            "apps/old/c.yaml": config_map("old"),
        }
    )
    cluster.register(labels={"ring": "first"})
    wanted = manifest(
        f"set-{namespace}",
        [
            {
                "matrix": {
                    "generators": [
                        {"clusters": {"selector": {"matchLabels": {"ring": "first"}}}},
                        {
                            "git": {
                                "repoURL": repo.url,
                                "revision": "main",
                                "directories": [
                                    {"path": "apps/*"},
                                    {"path": "apps/old", "exclude": True},
                                ],
                            }
                        },
                    ]
                }
            }
        ],
        {
            "source": {"repoURL": repo.url, "path": "{{.path.path}}", "targetRevision": "main"},
            "destination": {"server": "{{.server}}", "namespace": namespace},
            "syncPolicy": {"automated": {"prune": True}, "syncOptions": ["CreateNamespace=true"]},
        },
        metadata={
            "name": f"{namespace}-{{{{.path.basename}}}}",
            "labels": {"cluster": "{{.name}}"},
        },
    )
    said = hub.post(PREVIEW, {"applicationSet": wanted})
    assert [a["metadata"]["name"] for a in said["added"]] == [
        f"{namespace}-api",
        f"{namespace}-web",
    ]

    hub.post(API, wanted)
    hub.wait_status(f"{namespace}-web", "Synced", "Healthy")
    hub.wait_status(f"{namespace}-api", "Synced", "Healthy")
    assert cluster.get("", "ConfigMap", namespace, "web")
    made = hub.application(f"{namespace}-web")
    assert made["metadata"]["labels"] == {"cluster": cluster.name}
    assert made["metadata"]["finalizers"] == [FINALIZER]
    owner = made["metadata"]["ownerReferences"][0]
    shown = hub.get(f"{API}/set-{namespace}")
    assert (owner["kind"], owner["uid"], owner["controller"]) == (
        "ApplicationSet",
        shown["metadata"]["uid"],
        True,
    )
    assert shown["status"]["health"]["status"] == "Healthy"
    assert [(r["name"], r["status"]) for r in shown["status"]["resources"]] == [
        (f"{namespace}-api", "Synced"),
        (f"{namespace}-web", "Synced"),
    ]

    repo.commit({"apps/new/c.yaml": config_map("new"), "apps/api/c.yaml": None})
    hub.call("POST", "/api/webhook", None, status=400)
    answer = hub.client.post(
        "/api/webhook",
        json.dumps(
            {"ref": "refs/heads/main", "after": "0" * 40, "repository": {"clone_url": repo.url}}
        ),
        content_type="application/json",
        HTTP_X_GITHUB_EVENT="push",
    )
    assert answer.status_code == 200
    hub.wait_status(f"{namespace}-new", "Synced", "Healthy")
    hub.wait(lambda: not Application.objects.filter(name=f"{namespace}-api").exists(), "api to go")
    assert cluster.get("", "ConfigMap", namespace, "api") is None

    # A label change takes the cluster out: an empty result deletes nothing until somebody says so.
    cluster.register(labels={"ring": "last"})
    hub.wait(
        lambda: hub.get(f"{API}/set-{namespace}")["status"]["flotilla"].get("deletionsWaiting"),
        "the set to ask",
    )
    assert cluster.get("", "ConfigMap", namespace, "web")
    cluster.register(labels={"ring": "first"})
    hub.wait(
        lambda: hub.get(f"{API}/set-{namespace}")["status"]["health"]["status"] == "Healthy",
        "the set to be well",
    )

    hub.delete(f"{API}/set-{namespace}")
    hub.wait(lambda: not Application.objects.exists(), "the applications to go")
    assert cluster.get("", "ConfigMap", namespace, "web") is None


def test_a_change_by_hand_is_taken_back_and_a_deleted_child_returns(hub):
    hub.post(API, manifest("s", elements("a", "b")))
    hub.wait(lambda: names_of(owner="s") == ["a", "b"], "both applications")
    changed = hub.application("a")
    changed["spec"]["source"]["path"] = "elsewhere"
    # Whatever was written in between: the first looks of the hub go on.
    del changed["metadata"]["resourceVersion"]
    hub.put("/api/v1/applications/a", changed)
    hub.wait(lambda: hub.application("a")["spec"]["source"]["path"] == "work", "the path to return")
    uid = hub.application("b")["metadata"]["uid"]
    hub.delete("/api/v1/applications/b", cascade="false")
    hub.wait(
        lambda: (
            hub.get("/api/v1/applications/b", status=None).get("metadata", {}).get("uid", uid)
            != uid
        ),
        "b to be made anew",
    )
    events = AuditEvent.objects.filter(
        object__endswith="/a", verb="update", actor="applicationset-controller"
    )
    assert events.exists()


def test_a_mass_deletion_asks_first(idle_hub):
    names = [f"a{n:02}" for n in range(20)]
    idle_hub.post(API, manifest("s", elements(*names)))
    run("s")
    assert names_of() == names
    few = manifest("s", elements(*names[:5]))
    said = idle_hub.post(PREVIEW, {"applicationSet": few})
    assert [d["name"] for d in said["waiting"]] == names[5:] and said["deleted"] == []
    idle_hub.post(API, few, upsert="true")
    row, conditions = run("s")
    assert names_of() == names
    assert conditions["ErrorOccurred"]["reason"] == "DeleteApplicationError"
    assert "waits for a confirmation" in conditions["ErrorOccurred"]["message"]
    assert row.awaits == names[5:]
    assert AuditEvent.objects.filter(verb="hold-deletion", object="argocd/s").count() == 1
    run("s")
    assert AuditEvent.objects.filter(verb="hold-deletion").count() == 1

    path = "/api/v1/flotilla/applicationsets/s/confirm-deletion"
    assert "does not wait" in idle_hub.post(path, {"applications": ["a00"]}, status=400)["message"]
    idle_hub.post(path, {"applications": []}, status=400)
    idle_hub.post(path, {"applications": "a05"}, status=400)
    idle_hub.post(path, {"applications": names[5:]})
    row, conditions = run("s")
    assert names_of() == names[:5] and row.awaits == [] and row.approved == []
    assert conditions["ErrorOccurred"]["status"] == "False"
    event = AuditEvent.objects.get(verb="confirm-deletion")
    assert (event.actor, event.detail["applications"]) == ("admin", names[5:])


def test_a_confirmation_ends_when_the_set_is_edited(idle_hub):
    names = [f"a{n:02}" for n in range(20)]
    idle_hub.post(API, manifest("s", elements(*names)))
    run("s")
    idle_hub.post(API, manifest("s", elements("a00")), upsert="true")
    run("s")
    idle_hub.post(
        "/api/v1/flotilla/applicationsets/s/confirm-deletion", {"applications": names[1:]}
    )
    said = idle_hub.post(PREVIEW, {"applicationSet": manifest("s", elements("a01"))})
    assert said["deleted"] == [] and len(said["waiting"]) == 19
    idle_hub.post(API, manifest("s", elements("a01")), upsert="true")
    run("s")
    assert names_of() == names


def test_a_regeneration_without_change_writes_nothing(idle_hub):
    idle_hub.post(API, manifest("s", elements(*(f"a{n}" for n in range(10)))))
    run("s")
    versions = dict(Application.objects.values_list("name", "resource_version"))
    set_version, events = ApplicationSet.objects.get().resource_version, AuditEvent.objects.count()
    run("s")
    assert dict(Application.objects.values_list("name", "resource_version")) == versions
    assert (ApplicationSet.objects.get().resource_version, AuditEvent.objects.count()) == (
        set_version,
        events,
    )


def test_one_bad_element_stops_only_itself_and_deletes_nothing(idle_hub):
    idle_hub.post(API, manifest("s", elements("a", "b", "c")))
    run("s")
    broken = [
        {"list": {"elements": [{"name": "a"}, {"other": "b"}, {"name": "d"}, {"name": "E_wrong"}]}}
    ]
    idle_hub.post(API, manifest("s", broken), upsert="true")
    _, conditions = run("s")
    assert names_of() == ["a", "b", "c", "d"]
    assert conditions["ErrorOccurred"]["status"] == "True"
    assert conditions["ErrorOccurred"]["message"].endswith("(and 1 more)")
    assert conditions["ResourcesUpToDate"]["status"] == "False"


def test_an_unexpected_error_of_one_application_stops_only_itself(idle_hub, monkeypatch):
    create = applications.create

    def odd(wanted, actor):
        if wanted.name == "b":
            raise KeyError("what nobody expected")
        return create(wanted, actor)

    monkeypatch.setattr(applications, "create", odd)
    idle_hub.post("/api/v1/applicationsets", manifest("s", elements("a", "b", "c")))
    _row, conditions = run("s")
    assert names_of() == ["a", "c"]
    assert conditions["ErrorOccurred"]["message"] == "b: internal error: KeyError"
    monkeypatch.undo()
    _row, conditions = run("s")
    assert names_of() == ["a", "b", "c"] and conditions["ErrorOccurred"]["status"] == "False"


def test_an_unexpected_error_of_a_set_is_shown_and_retried(idle_hub, monkeypatch):
    idle_hub.post("/api/v1/applicationsets", manifest("s", elements("a")))
    run("s")

    def odd(*_):
        raise KeyError("what nobody expected")

    monkeypatch.setattr(reconcile, "evaluate", odd)
    row, conditions = run("s")
    assert conditions["ErrorOccurred"]["reason"] == "InternalError"
    assert "internal error: KeyError" in conditions["ResourcesUpToDate"]["message"]
    assert names_of() == ["a"]
    assert row.due_at > timezone.now(), "not at once, and without end"
    monkeypatch.undo()
    assert run("s")[1]["ErrorOccurred"]["status"] == "False"


def test_a_set_that_takes_too_long_changes_nothing(idle_hub, monkeypatch):
    idle_hub.post(API, manifest("s", elements("a")))
    run("s")
    monkeypatch.setattr(limits, "MAX_SECONDS", 0.0)

    row, conditions = run("s")

    assert conditions["ErrorOccurred"]["reason"] == "ApplicationGenerationFromParamsError"
    assert "take more than" in conditions["ErrorOccurred"]["message"] and names_of() == ["a"]
    assert row.due_at > timezone.now() + timedelta(minutes=20), "and not at every look"
    said = idle_hub.post(
        f"{API}/generate", {"applicationSet": manifest("t", elements("b"))}, status=400
    )
    assert "take more than" in said["message"]


def test_the_time_of_a_set_counts_against_its_project(idle_hub, monkeypatch):
    charged = []
    monkeypatch.setattr(
        render_queue, "charge", lambda owner: contextlib.nullcontext(charged.append(owner))
    )
    idle_hub.post(API, manifest("s", elements("a")))
    run("s")
    assert set(charged) == {"default"}


def test_a_generator_that_fails_changes_nothing(idle_hub, repo, git_server):
    repo.commit({"envs/a.yaml": "name: a\n", "envs/b.json": '{"name": "b"}'})
    git = [{"git": {"repoURL": repo.url, "revision": "main", "files": [{"path": "envs/*"}]}}]
    idle_hub.post(API, manifest("s", git))
    run("s")
    assert names_of() == ["a", "b"]
    git_server.down = True
    _, conditions = run("s")
    assert conditions["ErrorOccurred"]["reason"] == "ApplicationGenerationFromParamsError"
    assert conditions["ParametersGenerated"]["status"] == "False" and names_of() == ["a", "b"]
    git_server.down = False
    bomb = (
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
        "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
        "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
        "g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n"
    )
    repo.commit({"envs/b.json": None, "envs/b.yaml": bomb})
    _, conditions = run("s")
    assert conditions["ErrorOccurred"]["status"] == "True" and names_of() == ["a", "b"]
    repo.commit({"envs/b.yaml": "name: c\n"})
    _, conditions = run("s")
    assert conditions["ErrorOccurred"]["status"] == "False" and names_of() == ["a", "c"]


def test_a_preview_equals_the_result(idle_hub):
    idle_hub.post(
        API,
        manifest("s", elements("a", "b", "c", env="x"), metadata={"labels": {"env": "{{.env}}"}}),
    )
    run("s")
    Application.objects.filter(name="c").update(
        resources=[
            {"kind": "ConfigMap", "health": {"status": "Healthy"}},
            {"kind": "Service", "health": {"status": "Missing"}},
        ],
        cluster=Cluster.objects.first(),
    )
    edit = manifest("s", elements("a", "b", "d", env="y"), metadata={"labels": {"env": "{{.env}}"}})
    said = idle_hub.post(PREVIEW, {"applicationSet": edit})
    assert names_of() == ["a", "b", "c"]
    assert [a["metadata"]["name"] for a in said["added"]] == ["d"]
    assert [c["name"] for c in said["changed"]] == ["a", "b"]
    assert said["changed"][0]["before"]["metadata"]["labels"] == {"env": "x"}
    assert said["changed"][0]["after"]["metadata"]["labels"] == {"env": "y"}
    assert said["deleted"] == [{"name": "c", "cascade": True, "resources": 1}]
    idle_hub.post(API, edit, upsert="true")
    run("s")
    assert names_of() == ["a", "b", "d"]
    for change in said["changed"]:
        now = idle_hub.application(change["name"])
        assert (now["spec"], now["metadata"]["labels"]) == (
            change["after"]["spec"],
            change["after"]["metadata"]["labels"],
        )


def test_preserved_resources_have_no_finalizer_and_policies_keep_the_children(idle_hub):
    policy = {"preserveResourcesOnDeletion": True, "applicationsSync": "create-update"}
    idle_hub.post(API, manifest("s", elements("a", "b"), syncPolicy=policy))
    run("s")
    assert Application.objects.get(name="a").finalizers == []
    idle_hub.post(API, manifest("s", elements("a"), syncPolicy=policy), upsert="true")
    run("s")
    assert names_of() == ["a", "b"]
    idle_hub.delete(f"{API}/s")
    assert names_of(owner="") == ["a", "b"]


def test_a_set_that_is_orphaned_leaves_its_children(idle_hub):
    idle_hub.post(API, manifest("s", elements("a", "b")))
    run("s")
    idle_hub.delete(f"{API}/s", cascade="false")
    assert names_of(owner="") == ["a", "b"] and not ApplicationSet.objects.exists()


def test_the_shapes_of_rest(idle_hub):
    hub, wanted = idle_hub, manifest("s", elements("a", "b"))
    made = hub.post(API, wanted)
    assert made["kind"] == "ApplicationSet" and made["metadata"]["generation"] == 1
    assert (
        hub.post(API, wanted)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    )
    other = manifest("s", elements("c"))
    assert "use upsert flag" in hub.post(API, other, status=400)["message"]
    dry = hub.post(API, other, upsert="true", dryRun="true")
    assert [r["name"] for r in dry["status"]["resources"]] == ["c"]
    assert ApplicationSet.objects.get().spec == wanted["spec"]
    found = hub.post(f"{API}/generate", {"applicationSet": other})["applications"]
    assert [a["metadata"]["name"] for a in found] == ["c"]
    assert found[0]["metadata"]["namespace"] == "argocd"
    run("s")
    assert [i["metadata"]["name"] for i in hub.get(API)["items"]] == ["s"]
    assert hub.get(API, projects="other")["items"] == []
    assert hub.get(API, selector="team=a")["items"] == []
    assert [n["name"] for n in hub.get(f"{API}/s/resource-tree")["nodes"]] == ["a", "b"]
    hub.get(f"{API}/absent", status=403)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"generators": []}, "at least one generator"),
        ({"generators": [{"unknown": {}}]}, "unrecognized generators"),
        (
            {"template": {"metadata": {}, "spec": {"project": "{{.project}}"}}},
            "templated `project`",
        ),
        ({"template": {"metadata": {}}}, "spec.template.spec must be an object"),
        ({"syncPolicy": {"applicationsSync": "whatever"}}, "applicationsSync must be one of"),
        ({"strategy": {"type": "Canary"}}, "strategy.type must be"),
        ({"strategy": {"type": "RollingSync"}}, "spec.strategy.rollingSync.steps must be a list"),
        ({"strategy": {"type": "RollingSync", "rollingSync": {"steps": []}}}, "No steps defined"),
        (
            {
                "strategy": {
                    "type": "RollingSync",
                    "deletionOrder": "Random",
                    "rollingSync": {"steps": [{}]},
                }
            },
            "deletionOrder",
        ),
        (
            {
                "strategy": {
                    "type": "RollingSync",
                    "rollingSync": {"steps": [{"maxUpdate": "many"}]},
                }
            },
            "steps[0].maxUpdate",
        ),
        (
            {
                "strategy": {
                    "type": "RollingSync",
                    "rollingSync": {
                        "steps": [
                            {"matchExpressions": [{"key": "a", "operator": "Has", "values": []}]}
                        ]
                    },
                }
            },
            "operator must be In or NotIn",
        ),
        (
            {
                "strategy": {"type": "RollingSync", "rollingSync": {"steps": [{}]}},
                "flotilla": {"rollout": {"soak": "long"}},
            },
            "rollout.soak",
        ),
        (
            {
                "strategy": {"type": "RollingSync", "rollingSync": {"steps": [{}]}},
                "flotilla": {"rollout": {"steps": [{}, {}]}},
            },
            "2 entries for 1 steps",
        ),
        ({"flotilla": {"deletion": {"maxPercent": 101}}}, "maxPercent must be"),
        ({"ignoreApplicationDifferences": [{"jqPathExpressions": [".x["]}]}, "jqPathExpressions"),
        (
            {"ignoreApplicationDifferences": [{"jqPathExpressions": ["$ENV.SECRET"]}]},
            "not available",
        ),
        ({"ignoreApplicationDifferences": [{"jsonPointers": ["x"]}]}, "begin with /"),
    ],
)
def test_bad_sets_are_refused_by_name(idle_hub, change, words):
    body = manifest("s", elements("a"))
    body["spec"].update(change)
    assert words in idle_hub.post(API, body, status=400)["message"]
    assert not ApplicationSet.objects.exists()


@pytest.fixture
def developer(idle_hub):
    """A developer of project `team`, who may write sets there and no more."""
    Project.objects.create(
        name="team",
        spec={
            "sourceRepos": ["https://git.example/*"],
            "destinations": [{"server": "*", "namespace": "team-*"}],
        },
    )
    Project.objects.create(
        name="other",
        spec={"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]},
    )
    change_setting(
        "rbac",
        {
            "policy.csv": (
                "p, dev, applicationsets, *, team/*, allow\n"
                "p, dev, applications, get, team/*, allow"
            )
        },
    )
    access_changed("policy", "rbac", None)
    account = Account.objects.create(name="dev", password="!", capabilities=["login"])
    return issue(account, timezone.now())


def test_a_set_does_not_lead_out_of_its_project(idle_hub, developer):
    hub, place = (
        idle_hub,
        {"destination": {"server": "https://kubernetes.default.svc", "namespace": "team-x"}},
    )
    hub.post(API, manifest("s", elements("a"), place, project="other"), status=403, token=developer)
    hub.post(
        f"{API}/generate",
        {"applicationSet": manifest("s", elements("a"), place, project="other")},
        status=403,
        token=developer,
    )
    hub.post(
        PREVIEW,
        {"applicationSet": manifest("s", elements("a"), place, project="other")},
        status=403,
        token=developer,
    )

    # By its own template of a generator, by a patch, by a destination, by a repository.
    sneaky = [
        {
            "list": {
                "elements": [{"name": "a"}],
                "template": {"metadata": {}, "spec": {"project": "other"}},
            }
        }
    ]
    hub.post(API, manifest("s1", sneaky, place, project="team"), token=developer)
    hub.post(
        API,
        manifest(
            "s2", elements("b"), place, project="team", templatePatch="spec: {project: other}"
        ),
        token=developer,
    )
    hub.post(
        API,
        manifest(
            "s3",
            elements("c"),
            {
                "destination": {
                    "server": "https://kubernetes.default.svc",
                    "namespace": "kube-system",
                }
            },
            project="team",
        ),
        token=developer,
    )
    git = [
        {
            "git": {
                "repoURL": "https://elsewhere.example/repo",
                "revision": "main",
                "directories": [{"path": "*"}],
            }
        }
    ]
    hub.post(API, manifest("s4", git, place, project="team"), token=developer)
    said = {name: run(name)[1]["ErrorOccurred"] for name in ("s1", "s2", "s3", "s4")}
    assert "is not the set's own" in said["s1"]["message"]
    assert said["s2"]["status"] == "False" and Application.objects.get(name="b").project == "team"
    assert "destination" in said["s3"]["message"]
    assert "does not permit repository" in said["s4"]["message"]
    assert names_of() == ["b"]
    hub.post(
        API,
        manifest("s2", elements("b"), place, project="other"),
        status=403,
        token=developer,
        upsert="true",
    )


def test_a_set_does_not_take_applications_of_others(idle_hub, developer):
    theirs = Application.objects.create(
        name="a", namespace="argocd", project="other", spec={"project": "other"}
    )
    place = {"destination": {"server": "https://kubernetes.default.svc", "namespace": "team-x"}}
    body = manifest("s", elements("a"), place, project="team")
    said = idle_hub.post(PREVIEW, {"applicationSet": body}, token=developer)
    assert said["changed"] == [] and "another project" in said["problems"][0]["message"]
    idle_hub.post(API, body, token=developer)
    run("s")
    theirs.refresh_from_db()
    assert (theirs.spec, theirs.owner) == ({"project": "other"}, "")


def test_a_preview_shows_no_application_that_may_not_be_read(idle_hub, developer):
    place = {"destination": {"server": "https://kubernetes.default.svc", "namespace": "team-x"}}
    idle_hub.post(API, manifest("s", elements("a"), place, project="team"))
    run("s")
    edit = manifest("s", elements("a"), place, project="team", metadata={"labels": {"x": "1"}})
    assert (
        "before" in idle_hub.post(PREVIEW, {"applicationSet": edit}, token=developer)["changed"][0]
    )
    change_setting("rbac", {"policy.csv": "p, dev, applicationsets, *, team/*, allow"})
    access_changed("policy", "rbac", None)
    said = idle_hub.post(PREVIEW, {"applicationSet": edit}, token=developer)
    assert said["changed"] == [{"name": "a"}]
    assert idle_hub.get(f"{API}/s", token=developer)["status"].get("resources") is None


def test_sets_and_clusters_of_others_are_not_seen(idle_hub, developer):
    hub = idle_hub
    hub.post(API, manifest("hidden", elements("a"), project="other"))
    assert hub.get(API, token=developer)["items"] == []
    absent = hub.get(f"{API}/absent", status=403, token=developer)
    assert hub.get(f"{API}/hidden", status=403, token=developer) == absent
    assert hub.delete(f"{API}/hidden", status=403, token=developer) == absent
    hub.post(API, manifest("hidden", elements("a"), project="team"), status=403, token=developer)
    Cluster.objects.create(server="https://secret", name="secret", project="other")
    asks = manifest("s", [{"clusters": {}}], project="team")
    asks["spec"]["template"]["spec"]["destination"] = {"name": "{{.name}}", "namespace": "team-x"}
    found = hub.post(f"{API}/generate", {"applicationSet": asks}, token=developer)["applications"]
    assert [a["metadata"]["name"] for a in found] == ["in-cluster"]


def test_a_cluster_that_comes_back(idle_hub):
    for name in ("one", "two", "three"):
        Cluster.objects.create(server=f"https://{name}", name=name, labels={"ring": "a"})
    asks = manifest("s", [{"clusters": {"selector": {"matchLabels": {"ring": "a"}}}}])
    asks["spec"]["template"]["spec"]["destination"] = {"name": "{{.name}}", "namespace": "x"}
    idle_hub.post(API, asks)
    run("s")
    assert names_of() == ["one", "three", "two"]
    Cluster.objects.get(name="one").delete()
    run("s")
    assert names_of() == ["three", "two"]
    going = Application.objects.get(name="one")
    assert going.finalizers == [], "nobody can clean up in a cluster that is gone"
    going.delete()
    Cluster.objects.create(server="https://one", name="one", labels={"ring": "a"})
    run("s")
    assert names_of() == ["one", "three", "two"]


def _edit(choose):
    """A random set: names that repeat, are wrong or missing, labels, policies, budgets."""
    names = [f"a{choose.randint(0, 11):02}" for _ in range(choose.randint(0, 14))]
    found = [
        {"name": n, "env": choose.choice(["x", "y"])}
        for n in (names if choose.random() < 0.3 else dict.fromkeys(names))
    ]
    if choose.random() < 0.2:
        found.append(
            choose.choice(
                [{"name": "Not_Good", "env": "x"}, {"env": "x"}, {"name": "", "env": "x"}]
            )
        )
    policy = {
        "applicationsSync": choose.choice(
            ["sync", "sync", "sync", "create-only", "create-update", "create-delete"]
        ),
        "preserveResourcesOnDeletion": choose.random() < 0.3,
    }
    budget = {
        "deletion": {
            "maxApplications": choose.choice([1, 3, 20, 20]),
            "maxPercent": choose.choice([20, 100, 100]),
        }
    }
    more = (
        {"ignoreApplicationDifferences": [{"jsonPointers": ["/metadata/labels/env"]}]}
        if choose.random() < 0.3
        else {}
    )
    return manifest(
        "s",
        [{"list": {"elements": found}}],
        metadata={"labels": {"env": "{{.env}}"}},
        syncPolicy=policy,
        flotilla=budget,
        **more,
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_preview_equals_the_result_for_any_edit(idle_hub, seed):
    choose, seen = random.Random(seed), set()
    for _ in range(30):
        wanted = _edit(choose)
        before = {a.name: a for a in Application.objects.all()}
        said = idle_hub.post(PREVIEW, {"applicationSet": wanted})
        assert {a.name: a.resource_version for a in Application.objects.all()} == {
            n: a.resource_version for n, a in before.items()
        }
        idle_hub.post(API, wanted, upsert="true")
        row, conditions = run("s")
        now = {a.name: a for a in Application.objects.all()}
        assert {a["metadata"]["name"] for a in said["added"]} == set(now) - set(before)
        changed = {c["name"]: c["after"] for c in said["changed"]}
        deleted = {d["name"] for d in said["deleted"]}
        touched = {n for n, a in before.items() if a.resource_version != now[n].resource_version}
        assert touched == set(changed) | deleted
        for name, after in changed.items():
            assert (now[name].spec, now[name].labels, now[name].finalizers) == (
                after["spec"],
                after["metadata"]["labels"],
                after["metadata"].get("finalizers", []),
            )
        for made in said["added"]:
            assert now[made["metadata"]["name"]].labels == made["metadata"]["labels"]
        gone = {
            n
            for n, a in now.items()
            if a.deletion_requested_at and not before.get(n, a).deletion_requested_at
        }
        assert (gone, row.awaits) == (deleted, [d["name"] for d in said["waiting"]])
        assert bool(said["problems"] or said["waiting"]) == (
            conditions["ErrorOccurred"]["status"] == "True"
        )
        seen |= {
            k for k in ("added", "changed", "deleted", "waiting", "kept", "problems") if said[k]
        }
        Application.objects.filter(deletion_requested_at__isnull=False).delete()
    assert seen == {"added", "changed", "deleted", "waiting", "kept", "problems"}


def test_the_stream_of_sets(idle_hub, developer):
    hub, path = idle_hub, "/api/v1/stream/applicationsets"

    def read(count, act, *, before=0, query=""):
        """Read `count` items; `act` runs once the stream has begun and `before` items were read."""
        found = collect(hub, path + query, count + 1, (before + 1, act), "text/event-stream")
        assert found[0] == b": connected\n\n"
        lines = [json.loads(x.removeprefix(b"data: "))["result"] for x in found[1:]]
        return [(x["type"], x["applicationSet"]["metadata"]["name"]) for x in lines], lines

    assert read(1, lambda: hub.post(API, manifest("s", elements("a"))))[0] == [("ADDED", "s")]
    kinds, lines = read(1, lambda: run("s"))
    assert kinds == [("MODIFIED", "s")]
    assert [r["name"] for r in lines[0]["applicationSet"]["status"]["resources"]] == ["a"]

    def child():
        Application.objects.filter(name="a").update(
            health_status="Healthy", resource_version=next_version()
        )
        publish()

    kinds, lines = read(2, child, before=1, query="?name=s")
    assert kinds == [("ADDED", "s"), ("MODIFIED", "s")]
    assert lines[1]["applicationSet"]["status"]["resources"][0]["health"] == {"status": "Healthy"}

    version = current_version()
    assert read(1, lambda: hub.delete(f"{API}/s", cascade="false"))[0] == [("DELETED", "s")]
    assert read(1, lambda: None, query=f"?resourceVersion={version}")[0] == [("DELETED", "s")]

    def both():
        hub.post(API, manifest("hidden", elements("x"), project="other"), token=admin)
        hub.post(API, manifest("mine", elements("y"), project="team"), token=admin)

    admin, hub.token = hub.token, developer
    assert read(1, both)[0] == [("ADDED", "mine")]


def test_a_preview_names_nothing_that_the_caller_may_not_read(idle_hub):
    idle_hub.post(API, manifest("s", elements(*[f"a{n:02}" for n in range(12)])))
    run("s")
    account = Account.objects.create(name="eve", password="!", capabilities=["login"])
    access_changed("account", "eve", {})
    lines = ["p, eve, applicationsets, *, */*, allow", "p, eve, applications, *, */a00, allow"]
    idle_hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": "\n".join(lines)}})
    token = issue(account, timezone.now())

    few = {"applicationSet": manifest("s", elements("a01"))}
    said = idle_hub.post(PREVIEW, few, token=token)

    lost = [*said["deleted"], *said["waiting"]]
    assert sorted(d["name"] for d in lost) == [""] * 10 + ["a00"]
    client = Client()
    client.cookies["argocd.token"] = token
    page = client.post(
        "/sets/preview",
        {"text": json.dumps(few["applicationSet"])},
        HTTP_ORIGIN="http://testserver",
        HTTP_HX_REQUEST="true",
    ).content.decode()
    assert "an application that you may not read" in page and "a00" in page and "a02" not in page
    idle_hub.post(API, few["applicationSet"], upsert="true")
    run("s")
    status = idle_hub.get(f"{API}/s", token=token)["status"]
    assert status["flotilla"]["deletionsWaiting"] == ["a00"]
