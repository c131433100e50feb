"""What a rule refuses, to a person or to automated sync, is in the trail: once, with the rule."""

import json
from collections import Counter

import pytest
from conftest import config_map

from hub.audit import chain, trail
from hub.engine.errors import AccessDenied, Invalid, NotPermitted, Precondition, Protected
from hub.models import AuditEvent

ALWAYS = {"schedule": "* * * * *", "duration": "1h", "applications": ["*"]}
CLOSED = [{"kind": "deny", **ALWAYS}]


def project(hub, name, **extra):
    spec = {
        "sourceRepos": ["*"],
        "destinations": [{"server": "*", "namespace": "*"}],
        "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
        **extra,
    }
    body = {"project": {"metadata": {"name": name}, "spec": spec}, "upsert": True}
    return hub.post("/api/v1/projects", body)


def refusals(**fields):
    return list(AuditEvent.objects.filter(outcome="refused", **fields).order_by("pk"))


def reasons(**fields):
    return [event.detail.get("reason", "") for event in refusals(**fields)]


def _window(hub, name):
    project(hub, "team", syncWindows=CLOSED)
    hub.post(f"/api/v1/applications/{name}/sync", {}, status=403)


def _batch(hub, name):
    project(hub, "team", syncWindows=CLOSED)
    hub.post("/api/v1/flotilla/applications/batch", {"action": "sync", "applications": [name]})


def _reason(hub, name):
    project(hub, "team", flotilla={"audit": {"requireReason": True}})
    hub.post(f"/api/v1/applications/{name}/sync", {}, status=400)


def _ticket(hub, name):
    rules = {"requireTicket": True, "ticketPattern": "^OPS-[0-9]+$"}
    project(hub, "team", flotilla={"audit": rules})
    hub.post(f"/api/v1/applications/{name}/sync?ticket=hurry", {}, status=400)


def _automate(hub, name):
    patch = json.dumps({"spec": {"syncPolicy": {"automated": {}}}})
    body = {"name": name, "patchType": "merge", "patch": patch}
    hub.call("PATCH", f"/api/v1/applications/{name}", body)


def _revision(hub, name):
    _automate(hub, name)
    hub.post(f"/api/v1/applications/{name}/sync", {"revision": "other"}, status=400)


def _local(hub, name):
    _automate(hub, name)
    hub.post(f"/api/v1/applications/{name}/sync", {"manifests": [config_map()]}, status=400)


def _rollback(hub, name):
    _automate(hub, name)
    hub.post(f"/api/v1/applications/{name}/rollback", {"id": 1}, status=400)


def _source(hub, name):
    body = hub.application(name)
    project(hub, "team", sourceRepos=[body["spec"]["source"]["repoURL"]])
    body["spec"]["source"]["repoURL"] = "https://other.example/team/repo"
    hub.put(f"/api/v1/applications/{name}", body, status=400)


def _narrowed(hub, _name):
    spec = {"sourceRepos": ["https://other.example/*"], "destinations": []}
    body = {"project": {"metadata": {"name": "team"}, "spec": spec}, "upsert": True}
    hub.post("/api/v1/projects", body, status=400)


def _project_in_use(hub, _name):
    hub.delete("/api/v1/projects/team", status=400)


def _home(hub, _name):
    hub.delete("/api/v1/clusters/in-cluster?id.type=name", status=400)


ASKED = {
    "a closed window": (_window, "sync", "blocked by sync window"),
    "a closed window in a batch": (_batch, "sync", "blocked by sync window"),
    "a missing reason": (_reason, "sync", "asks for a reason"),
    "a ticket of another form": (_ticket, "sync", "asks for a ticket"),
    "another revision under automated sync": (_revision, "sync", "Cannot sync to other"),
    "local manifests under automated sync": (_local, "sync", "cannot use local sync"),
    "a rollback under automated sync": (_rollback, "sync", "rollback cannot be initiated"),
    "a repository that the project forbids": (_source, "update", "is not permitted in project"),
    "a project made too narrow": (_narrowed, "create", "as a result of project update"),
    "a project that is in use": (_project_in_use, "delete", "is referenced by 1 applications"),
    "the hub itself": (_home, "delete", "cannot be removed"),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_a_rule_refuses_to_a_person_is_in_the_trail(case, idle_hub):
    act, verb, words = ASKED[case]
    project(idle_hub, "team")
    source = "https://git.example/team/repo"
    body = {
        "metadata": {"name": "web"},
        "spec": {
            "project": "team",
            "source": {"repoURL": source, "path": "."},
            "destination": {"name": "in-cluster", "namespace": "argocd"},
        },
    }
    idle_hub.post("/api/v1/applications?validate=false", body)

    act(idle_hub, "web")

    (event,) = refusals()
    assert (event.verb, event.actor) == (verb, "admin")
    assert words in event.detail["reason"]
    if event.kind == "applications" and act not in (_narrowed,):
        assert (event.project, event.object) == ("team", "argocd/web")


def test_what_the_guard_keeps_from_a_person_is_in_the_trail(hub, sandbox, repo, app, namespace):
    project(hub, "team")
    marked = {"argocd.argoproj.io/sync-options": "Delete=confirm"}
    repo.commit({"kept.yaml": config_map("kept", annotations=marked)})
    name = app(repo, sandbox, namespace, project="team")
    hub.wait_status(name, sync="OutOfSync")
    hub.post(f"/api/v1/applications/{name}/sync", {})
    hub.wait_operation(name)
    where = {"resourceName": "kept", "kind": "ConfigMap", "namespace": namespace, "version": "v1"}

    hub.delete(f"/api/v1/applications/{name}/resource", status=400, **where)
    hub.delete(f"/api/v1/applications/{name}")

    hub.condition(name, "DeletionWaiting")
    asked, held = refusals()
    assert (asked.verb, asked.kind, asked.actor) == ("delete-resource", "resource", "admin")
    assert f"argocd/{name} " in asked.object
    assert "needs a confirmation" in asked.detail["reason"]
    assert (held.verb, held.object) == ("delete", f"argocd/{name}")
    assert "confirmation" in held.detail["reason"]
    chain.seal()
    assert chain.check().is_intact


def test_a_mistake_is_no_refusal(idle_hub):
    before = AuditEvent.objects.count()

    idle_hub.post("/api/v1/projects", {"project": {"metadata": {"name": "UPPER"}}}, status=400)
    idle_hub.post("/api/v1/applications", {"metadata": {"name": "web"}, "spec": 1}, status=400)

    assert AuditEvent.objects.count() == before


@pytest.mark.parametrize(
    ("error", "count"),
    [
        (AccessDenied("no"), 1),
        (Protected("no"), 1),
        (NotPermitted("no"), 1),
        (AccessDenied("no", recorded=True), 0),
        (Precondition("no"), 0),
        (Invalid("no"), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_of_a_rule_is_recorded_once(error, count, db):
    trail.begin("")
    for _ in range(2):
        trail.record_error(error, "ann", trail.Subject("sync", "application", "argocd/web"))

    assert len(refusals(actor="ann", verb="sync", object="argocd/web")) == count


def test_automated_sync_is_refused_once_for_each_revision(hub, sandbox, repo, app, namespace):
    project(hub, "team", syncWindows=CLOSED)
    first = repo.commit({"a.yaml": config_map("a")})
    name = app(repo, sandbox, namespace, project="team", policy={"automated": {}})
    hub.wait(lambda: refusals(object=f"argocd/{name}"), "the refusal")
    for _ in range(3):
        hub.get(f"/api/v1/applications/{name}", refresh="normal")

    (event,) = refusals(object=f"argocd/{name}")
    assert (event.actor, event.verb, event.revisions) == ("automated sync", "sync", [first])
    second = hub.push(repo, {"a.yaml": config_map("a", {"a": "2"})})
    hub.wait(lambda: len(refusals(object=f"argocd/{name}")) > 1, "the second refusal")
    hub.get(f"/api/v1/applications/{name}", refresh="normal")
    assert [e.revisions for e in refusals(object=f"argocd/{name}")] == [[first], [second]]


@pytest.mark.parametrize("windows", [[], [{**CLOSED[0], "manualSync": True}]], ids=["none", "open"])
def test_a_blocked_operation_continues_when_the_windows_change(
    windows, hub, sandbox, repo, app, namespace
):
    project(hub, "team", syncWindows=[])
    repo.commit({"a.yaml": config_map("a")})
    name = app(repo, sandbox, namespace, project="team")
    hub.wait_status(name, sync="OutOfSync")
    hub.post(f"/api/v1/applications/{name}/sync", {})
    hub.wait_operation(name, "Succeeded")
    project(hub, "team", syncWindows=CLOSED)
    hub.post(f"/api/v1/applications/{name}/rollback", {"id": 0})
    hub.wait(
        lambda: (
            "blocked by a sync window"
            in hub.get(f"/api/v1/applications/{name}")["status"]["operationState"].get(
                "message", ""
            )
        ),
        "the window holds the rollback",
    )

    project(hub, "team", syncWindows=windows)

    hub.wait_operation(name, "Succeeded", seconds=10)


def _kind(hub, repo):
    project(hub, "team", namespaceResourceBlacklist=[{"group": "", "kind": "Secret"}])
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    repo.commit({"a.yaml": config_map("a"), "s.yaml": json.dumps(secret)})


def _scope(hub, repo):
    project(hub, "team", clusterResourceWhitelist=[])
    name = {"name": "far"}
    repo.commit({"n.yaml": json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": name})})


def _destination(hub, repo):
    project(hub, "team")
    repo.commit({"a.yaml": config_map("a", namespace="elsewhere")})
    project(hub, "team", destinations=[{"server": "*", "namespace": "ns-*"}])


FORBIDDEN = {
    "a kind on the deny list": (_kind, "Secret"),
    "a cluster-scoped kind that is not allowed": (_scope, "Namespace"),
    "a namespace of no destination": (_destination, "elsewhere"),
}


@pytest.mark.parametrize(
    ("case", "automated"), [(case, number != 1) for number, case in enumerate(FORBIDDEN)]
)
def test_what_the_project_does_not_permit_is_refused_in_the_trail(
    case, automated, hub, sandbox, repo, app, namespace
):
    prepare, word = FORBIDDEN[case]
    prepare(hub, repo)
    policy = {"automated": {}, "retry": {"limit": 1, "backoff": {"duration": "1s"}}}
    options = {"syncOptions": []}
    name = app(
        repo, sandbox, namespace, project="team", policy=(policy if automated else {}) | options
    )
    hub.wait_status(name, sync="OutOfSync")
    if not automated:
        hub.post(f"/api/v1/applications/{name}/sync", {})
    hub.wait_operation(name, "Failed")
    for _ in range(2):
        hub.get(f"/api/v1/applications/{name}", refresh="normal")

    (event,) = refusals(object=f"argocd/{name}")
    assert event.actor == ("automated sync" if automated else "admin")
    assert word in event.detail["reason"]
    assert event.operation is not None
    ended = AuditEvent.objects.filter(verb="operation-ended", object=f"argocd/{name}")
    assert {e.outcome for e in ended} == {"failed"}


def test_a_sync_that_would_wipe_out_everything_is_refused_in_the_trail(
    hub, sandbox, repo, app, namespace
):
    project(hub, "team")
    repo.commit({"a.yaml": config_map("a")})
    name = app(repo, sandbox, namespace, project="team", policy={"automated": {"prune": True}})
    hub.wait_status(name, sync="Synced")
    hub.push(repo, {"a.yaml": None, "README.md": "nothing"})
    hub.wait(lambda: refusals(object=f"argocd/{name}"), "the refusal")
    hub.get(f"/api/v1/applications/{name}", refresh="normal")

    assert Counter("wipe out" in text for text in reasons(object=f"argocd/{name}")) == {True: 1}


@pytest.mark.parametrize(
    ("option", "words"),
    [("Prune=confirm", "confirmation"), ("Prune=false", "Prune=false")],
    ids=["a confirmation is needed", "never pruned"],
)
def test_what_the_guard_keeps_from_a_prune_is_in_the_trail(
    option, words, hub, sandbox, repo, app, namespace
):
    project(hub, "team")
    marked = {"argocd.argoproj.io/sync-options": option}
    repo.commit({"a.yaml": config_map("a"), "kept.yaml": config_map("kept", annotations=marked)})
    name = app(repo, sandbox, namespace, project="team")
    hub.wait_status(name, sync="OutOfSync")
    hub.post(f"/api/v1/applications/{name}/sync", {})
    hub.wait_operation(name)
    hub.push(repo, {"kept.yaml": None})
    hub.wait_status(name, sync="OutOfSync")

    hub.post(f"/api/v1/applications/{name}/sync", {"prune": True})

    hub.wait(lambda: refusals(object=f"argocd/{name}", verb="prune"), "the refusal")
    (event,) = refusals(object=f"argocd/{name}")
    assert (event.actor, event.project) == ("admin", "team")
    assert words in event.detail["reason"]
    assert "kept" in event.detail["reason"]
