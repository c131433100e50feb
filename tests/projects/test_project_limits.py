"""What a project permits holds everywhere: windows, impersonation, global projects, its own
clusters and repositories, and for who edits it.
"""

import json

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.hashers import make_password
from django.db import connections
from django.test import AsyncClient
from django.utils import timezone

from clusters import connection_config, kube
from clusters.models import HOME_SERVER, Cluster
from hub.auth.sessions import issue
from hub.engine.errors import Stalled
from hub.models import Account, AuditEvent, access_changed
from projects import sources
from projects.comparison.compare import UNANSWERED
from projects.live_pages import application_rows
from projects.models import Application, Operation, Project
from projects.objects.specs import bind, find_cluster, project_of, spec_problems
from projects.sources import charts, git_remotes

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: '{value}'}}\n"
ANYWHERE = {
    "sourceRepos": ["*"],
    "destinations": [{"server": "*", "namespace": "*"}],
    "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
}
ALWAYS = {"schedule": "* * * * *", "duration": "1h", "applications": ["*"]}
NEVER = {"kind": "allow", "schedule": "0 0 29 2 *", "duration": "1m", "applications": ["*"]}


def project(hub, name, *, status=200, token=None, labels=None, **spec):
    body = {
        "project": {
            "metadata": {"name": name, "labels": labels or {}},
            "spec": {**ANYWHERE, **spec},
        },
        "upsert": True,
    }
    return hub.post("/api/v1/projects", body, status=status, token=token)


def person(hub, name, policy):
    account = Account.objects.create(name=name, password=make_password("x"), capabilities=["login"])
    access_changed("account", name, {})
    hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": policy}})
    return issue(account, timezone.now())


# --- windows ---


def test_a_closed_window_holds_automated_sync_back_until_it_opens(
    hub, sandbox, repo, app, namespace
):
    project(hub, "calm", syncWindows=[{"kind": "deny", **ALWAYS}])
    repo.commit({"a.yaml": CONFIG.format(name="a", value=1)})
    name = app(repo, sandbox, namespace, project="calm", policy={"automated": {}})
    hub.wait_status(name, "OutOfSync", "Missing")
    windows = hub.get(f"/api/v1/applications/{name}/syncwindows")
    assert windows["canSync"] is False and windows["activeWindows"][0]["kind"] == "deny"
    assert (
        "blocked by sync window"
        in hub.post(f"/api/v1/applications/{name}/sync", status=403)["message"]
    )
    assert not Operation.objects.exists()
    project(hub, "calm", syncWindows=[])
    hub.wait_status(name, "Synced", "Healthy")
    assert hub.get("/api/v1/projects/calm/syncwindows")["windows"] == []


def test_people_may_where_the_window_says_so(hub, sandbox, repo, app, namespace):
    project(hub, "calm", syncWindows=[{"kind": "deny", "manualSync": True, **ALWAYS}])
    repo.commit({"a.yaml": CONFIG.format(name="a", value=1)})
    name = app(repo, sandbox, namespace, project="calm", policy={"automated": {}})
    hub.wait_status(name, "OutOfSync", "Missing")
    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait_status(name, "Synced", "Healthy")
    assert hub.get("/api/v1/projects/calm/syncwindows")["windows"][0]["kind"] == "deny"


def test_a_running_sync_waits_when_its_window_closes(hub, sandbox, repo, app, namespace):
    project(hub, "calm")
    hook = json.dumps(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "first", "annotations": {"argocd.argoproj.io/hook": "PreSync"}},
            "spec": {
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [
                            {"name": "c", "image": "x", "args": ["--sandbox-seconds=3600"]}
                        ],
                    }
                }
            },
        }
    )
    repo.commit({"a.yaml": CONFIG.format(name="a", value=1), "hook.json": hook})
    name = app(repo, sandbox, namespace, project="calm")
    hub.wait_status(name, "OutOfSync")
    project(hub, "calm", syncWindows=[NEVER])
    operation = Operation.objects.create(
        application=Application.objects.get(name=name),
        request={"sync": {}, "initiatedBy": {"username": "admin"}},
        revisions=[],
        sources=[],
    )
    from projects.operations.sync import step

    step(operation.pk)
    operation.refresh_from_db()
    assert operation.phase == "Running" and "sync window" in operation.message


def test_an_application_set_of_windows_that_cannot_be(idle_hub):
    answer = project(
        idle_hub,
        "bad",
        status=400,
        syncWindows=[{"kind": "allow", "schedule": "x", "duration": "1h", "applications": ["*"]}],
    )
    assert "syncWindows[0]" in answer["message"]


# --- impersonation ---


def narrow(namespace):
    """A service account that may work with ConfigMaps only."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "deployer", "namespace": namespace},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "deployer", "namespace": namespace},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "deployer", "namespace": namespace},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": "deployer",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": namespace}],
        },
    ]


@pytest.mark.controlplane
def test_syncs_act_as_the_service_account_of_the_project(hub, genuine, repo, app, namespace):
    hub.put("/api/v1/flotilla/settings/impersonation", {"value": True})
    for manifest in narrow(namespace):
        genuine.apply(manifest)
    account = {"server": "*", "namespace": namespace, "defaultServiceAccount": "deployer"}
    project(hub, "own", destinationServiceAccounts=[account])
    repo.commit({"a.yaml": CONFIG.format(name="a", value=1)})
    name = app(repo, genuine, namespace, project="own", policy={"syncOptions": []})
    hub.wait_status(name, "OutOfSync")
    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait_status(name, "Synced", "Healthy")
    # What the service account may not, the sync may not, however mighty the hub is.
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: CANARY-value}\n"
    revision = repo.commit({"b.yaml": secret})
    hub.get(f"/api/v1/applications/{name}", refresh="normal")
    hub.wait_status(name, "OutOfSync", revision=revision)
    hub.post(f"/api/v1/applications/{name}/sync")
    failed = hub.wait_operation(name, "Failed")
    assert "forbidden" in str(failed).lower() and "CANARY" not in str(failed)
    query = {"resourceName": "a", "kind": "ConfigMap", "namespace": namespace, "version": "v1"}
    hub.call("DELETE", f"/api/v1/applications/{name}/resource", {}, **query)
    project(hub, "own", destinationServiceAccounts=[])
    hub.wait_status(name, "OutOfSync")
    hub.post(f"/api/v1/applications/{name}/sync")
    ended = hub.wait_operation(name, "Error")
    assert "no matching service account found" in ended["message"]


@pytest.mark.controlplane
def test_comparisons_ask_as_the_service_account_too(hub, genuine, repo, app, namespace):
    """A right that the account lacks is not a result: it is reported, and the hub's own permissions
    decide.
    """
    hub.put("/api/v1/flotilla/settings/impersonation", {"value": True})
    manifests = narrow(namespace)
    for manifest in manifests:
        genuine.apply(manifest)
    account = {"server": "*", "namespace": namespace, "defaultServiceAccount": "deployer"}
    project(hub, "own", destinationServiceAccounts=[account])
    always = "a, annotations: {argocd.argoproj.io/compare-options: ServerSideDiff=true}"
    repo.commit({"a.yaml": CONFIG.format(name=always, value=1)})
    name = app(repo, genuine, namespace, project="own", policy={"syncOptions": []})
    hub.wait_status(name, "OutOfSync")
    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait_status(name, "Synced", "Healthy")

    def said():
        hub.get(f"/api/v1/applications/{name}", refresh="hard")
        conditions = hub.application(name)["status"].get("conditions") or []
        return [c["message"] for c in conditions if c["type"] == UNANSWERED]

    assert said() == []
    genuine.apply({**manifests[2], "rules": []})
    [message] = hub.wait(said, "the condition")

    assert f"system:serviceaccount:{namespace}:deployer" in message
    hub.wait_status(name, "Synced", "Healthy")


@pytest.mark.controlplane
def test_syncs_to_the_hubs_own_cluster_act_as_the_service_account_too(
    hub, control_plane, repo, app, namespace, monkeypatch
):
    config = {"bearerToken": "admin-token", "tlsClientConfig": {"caData": control_plane["ca"]}}
    for module in (kube, connection_config):
        monkeypatch.setattr(module, "in_cluster_config", lambda: (control_plane["server"], config))
    hub.put("/api/v1/flotilla/settings/impersonation", {"value": True})
    admin = kube.Connection(control_plane["server"], "admin", config)
    for manifest in narrow(namespace):
        admin.apply(kube.kind_of(admin, manifest), manifest, manager="kubectl")
    hub.wait(lambda: Cluster.objects.get(server=HOME_SERVER).api_kinds, "the kinds")
    account = {"server": HOME_SERVER, "namespace": namespace, "defaultServiceAccount": "deployer"}
    project(hub, "own", destinationServiceAccounts=[account])
    child = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "child", "namespace": "argocd"},
        "spec": {
            "project": "own",
            "source": {"repoURL": repo.url, "path": "child"},
            "destination": {"server": HOME_SERVER, "namespace": namespace},
        },
    }
    repo.commit(
        {
            "fine/a.yaml": CONFIG.format(name="a", value=1),
            "child/c.yaml": CONFIG.format(name="c", value=1),
            "worse/s.yaml": "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: s}\n",
            "apps/child.yaml": json.dumps(child),
        }
    )
    names = {
        path: app(
            repo, HOME_SERVER, namespace, project="own", path=path, policy={"syncOptions": []}
        )
        for path in ("fine", "worse", "apps")
    }
    for name in names.values():
        hub.wait_status(name, "OutOfSync")
        hub.post(f"/api/v1/applications/{name}/sync")

    hub.wait_operation(names["fine"])
    failed = hub.wait_operation(names["worse"], "Failed")

    kind = admin.kind("", "ConfigMap")
    assert admin.get(kind, namespace, "a")["data"] == {"a": "1"}
    assert f"system:serviceaccount:{namespace}:deployer" in str(failed)
    assert admin.get(admin.kind("", "ServiceAccount"), namespace, "s") is None
    hub.wait_operation(names["apps"])
    query = {"resourceName": "a", "kind": "ConfigMap", "namespace": namespace, "version": "v1"}
    hub.call("DELETE", f"/api/v1/applications/{names['fine']}/resource", {}, **query)
    # Without an account what the hub itself serves is applied all the same, and nothing else.
    project(hub, "own", destinationServiceAccounts=[])
    hub.post(f"/api/v1/applications/{names['worse']}/sync")
    assert "no matching service account" in hub.wait_operation(names["worse"], "Error")["message"]
    hub.post(f"/api/v1/applications/{names['apps']}/sync")
    hub.wait_operation(names["apps"])


# --- global projects, own clusters and repositories ---


def test_global_projects_add_their_limits(idle_hub):
    project(
        idle_hub,
        "everywhere",
        namespaceResourceBlacklist=[{"group": "", "kind": "Secret"}],
        syncWindows=[{"kind": "deny", **ALWAYS}],
    )
    project(idle_hub, "pay", labels={"tier": "gold"})
    project(idle_hub, "other")
    setting = [{"labelSelector": {"matchLabels": {"tier": "gold"}}, "projectName": "everywhere"}]
    idle_hub.put("/api/v1/flotilla/settings/global_projects", {"value": setting})
    assert project_of("pay").spec["namespaceResourceBlacklist"] == [{"group": "", "kind": "Secret"}]
    assert "namespaceResourceBlacklist" not in project_of("other").spec
    assert [
        p["metadata"]["name"] for p in idle_hub.get("/api/v1/projects/pay/globalprojects")["items"]
    ] == ["everywhere"]
    assert idle_hub.get("/api/v1/projects/pay/detailed")["globalProjects"]
    assert idle_hub.get("/api/v1/projects/pay/syncwindows")["windows"]
    assert "syncWindows" not in Project.objects.get(name="pay").spec
    for bad in ({}, [{}], [{"projectName": "x", "labelSelector": 1}]):
        idle_hub.put("/api/v1/flotilla/settings/global_projects", {"value": bad}, status=400)


def test_a_project_uses_its_own_clusters_and_repositories(idle_hub, repo):
    project(idle_hub, "pay", sourceRepos=[], destinations=[])
    project(idle_hub, "other", sourceRepos=[], destinations=[])
    repo.commit({"a.yaml": CONFIG.format(name="a", value=1)})
    Cluster.objects.create(server="https://pay", name="pay-1", project="pay")
    idle_hub.post("/api/v1/repositories", {"repo": repo.url, "project": "pay"})

    def create(where, status):
        spec = {
            "project": where,
            "source": {"repoURL": repo.url, "path": "."},
            "destination": {"name": "pay-1", "namespace": "x"},
        }
        return idle_hub.post(
            "/api/v1/applications",
            {"metadata": {"name": f"{where}-app"}, "spec": spec},
            status=status,
        )

    create("pay", 200)
    assert "not permitted" in create("other", 400)["message"]


def test_a_cluster_of_another_project_takes_no_name(idle_hub, repo):
    """Who may register clusters of one project chooses their names: those of others go on as they
    were.
    """
    project(idle_hub, "pay")
    project(idle_hub, "evil")
    Cluster.objects.create(server="https://prod", name="prod")
    spec = {
        "project": "pay",
        "source": {"repoURL": repo.url, "path": "."},
        "destination": {"name": "prod", "namespace": "x"},
    }
    token = person(idle_hub, "mallory", "p, mallory, clusters, *, evil/*, allow")
    body = {"metadata": {"name": "quiet"}, "spec": spec}
    idle_hub.post("/api/v1/applications", body, validate="false")

    Cluster.objects.create(server="https://evil", name="prod", project="evil")
    row = Application.objects.get(name="quiet")
    assert find_cluster(row.spec).server == "https://prod"
    assert find_cluster({**row.spec, "project": "default"}).server == "https://prod"
    assert not [p for p in spec_problems(row) if "cluster" in p]
    bind(row)
    assert row.cluster.server == "https://prod"
    # By a name of two nobody changes the wrong one; who sees one of them means that one.
    by_name = "/api/v1/clusters/prod?id.type=name"
    said = idle_hub.delete(by_name, status=400)["message"]
    assert "https://evil" in said and "https://prod" in said
    assert idle_hub.get(by_name, token=token)["server"] == "https://evil"
    # Nor may who has a right to clusters of some names give one another name.
    Cluster.objects.create(server="https://dev", name="dev-1")
    token = person(idle_hub, "carl", "p, carl, clusters, *, *, allow, dev-*")
    renamed = {"server": "https://dev", "name": "prod", "config": {}}
    idle_hub.put("/api/v1/clusters/dev-1?id.type=name", renamed, token=token, status=403)
    # Two of the hub's own, or of the project, are still one too many.
    Cluster.objects.create(server="https://prod-2", name="prod")
    with pytest.raises(Stalled, match="2 clusters with the same name"):
        find_cluster(row.spec)


@pytest.mark.parametrize("destination", [{"name": "nowhere"}, {"name": "a", "server": "https://a"}])
def test_a_destination_that_is_not_there_hides_no_source(idle_hub, destination):
    """Without validation too: else its commits could be read, with the hub's credentials."""
    project(idle_hub, "pay", sourceRepos=["https://git.example/pay/*"])
    spec = {
        "project": "pay",
        "source": {"repoURL": "https://git.example/other", "path": "."},
        "destination": {**destination, "namespace": "x"},
    }
    body = {"metadata": {"name": "a"}, "spec": spec}
    refused = idle_hub.post("/api/v1/applications?validate=false", body, status=400)
    assert "not permitted in project 'pay'" in refused["message"]


READ = (
    "manifests",
    "managed-resources",
    "managed-resources?revision=other",
    "revisions/HEAD/metadata",
    "revisions/1.0.0/chartdetails",
    "revisions/1.0.0/ocimetadata",
    "diff?revision=other",
)


@pytest.mark.parametrize("route", READ)
def test_a_source_that_is_permitted_no_more_is_read_no_more(idle_hub, route, monkeypatch):
    limits = ["https://git.example/pay/*", "oci://reg.example/*"]
    project(idle_hub, "pay", sourceRepos=limits)
    source = {"repoURL": "https://git.example/pay/r", "targetRevision": "1"}
    source |= {"chart": "c"} if "chart" in route else {"path": "."}
    if "oci" in route:
        source |= {"repoURL": "oci://reg.example/pay"}
    spec = {
        "project": "pay",
        "source": source,
        "destination": {"name": "in-cluster", "namespace": "x"},
    }
    idle_hub.post("/api/v1/applications", {"metadata": {"name": "a"}, "spec": spec})
    Project.objects.filter(name="pay").update(spec={"sourceRepos": [], "destinations": []})
    for name in ("resolve", "files_of", "load"):
        monkeypatch.setattr(sources, name, lambda *_a, **_k: pytest.fail("it was read"))
    monkeypatch.setattr(charts, "annotations", lambda *_a: pytest.fail("it was read"))
    base = "/api/v1/flotilla/applications" if "diff" in route else "/api/v1/applications"
    refused = idle_hub.get(f"{base}/a/{route}", status=403)
    assert "not permitted in project 'pay'" in refused["message"]


@pytest.mark.parametrize("route", ["refs", "apps", "helmcharts", "oci-tags"])
def test_a_repository_that_a_project_does_not_permit_is_not_read_for_it(
    idle_hub, route, monkeypatch
):
    """With the hub's credentials for all of the server: a right over `pay/*` covers any URL."""
    project(idle_hub, "pay", sourceRepos=["https://git.example/pay/*"])
    for owner, name in (
        (git_remotes, "current_refs"),
        (sources, "resolve"),
        (charts, "fetch_index"),
        (charts, "tags"),
    ):
        monkeypatch.setattr(owner, name, lambda *_a, **_k: pytest.fail("it was asked"))
    for name in ("pay", "nowhere"):
        path = f"/api/v1/repositories/https%3A%2F%2Fgit.example%2Fother/{route}"
        refused = idle_hub.get(path, appProject=name, status=403)
        assert f"not permitted in project '{name}'" in refused["message"]


# --- who edits a project ---


def test_who_edits_a_project_cannot_widen_it(idle_hub):
    narrow = {
        "sourceRepos": ["https://git.example/pay/*", "!https://git.example/pay/secret"],
        "destinations": [{"server": "https://pay", "namespace": "pay"}],
        "clusterResourceWhitelist": [],
    }
    project(idle_hub, "pay", **narrow)
    lead = person(idle_hub, "lead", "p, lead, projects, *, pay, allow")
    project(idle_hub, "pay", **narrow, description="ours", token=lead)
    for change in (
        {"sourceRepos": ["*"]},
        {"sourceRepos": ["https://git.example/pay/*"]},
        {"destinations": [{"server": "*", "namespace": "*"}]},
        {"destinations": [{"server": "https://pay", "namespace": "*"}]},
        {"destinations": [{"server": "https://pay", "name": "*", "namespace": "pay"}]},
        {"clusterResourceWhitelist": [{"group": "*", "kind": "*"}]},
        {"namespaceResourceBlacklist": [{"group": "", "kind": "x"}]},
        {"sourceNamespaces": ["theirs"]},
        {
            "destinationServiceAccounts": [
                {"server": "*", "namespace": "*", "defaultServiceAccount": "kube-system:admin"}
            ]
        },
    ):
        assert (
            "permission denied"
            in project(idle_hub, "pay", status=403, token=lead, **{**narrow, **change})["message"]
        )
        body = {"project": {"metadata": {"name": "pay"}, "spec": {**ANYWHERE, **narrow, **change}}}
        idle_hub.put("/api/v1/projects/pay", body, token=lead, status=403)
    lines = (
        "p, lead, projects, *, pay, allow\np, lead, repositories, update, *, allow\n"
        "p, lead, clusters, update, https://pay, allow"
    )
    idle_hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": lines}})
    project(
        idle_hub,
        "pay",
        token=lead,
        **{
            **narrow,
            "sourceRepos": ["*"],
            "namespaceResourceBlacklist": [{"group": "", "kind": "x"}],
        },
    )
    idle_hub.post(
        "/api/v1/projects",
        {"project": {"metadata": {"name": "new"}, "spec": {}}},
        token=lead,
        status=403,
    )


@pytest.mark.parametrize("labels", [{}, {"tier": "gold", "more": "yes"}], ids=["leave", "join"])
def test_who_edits_a_project_does_not_choose_the_global_projects_that_hold_for_it(idle_hub, labels):
    """Its labels select them: without one it would lose what is denied to all, with one gain what
    others may.
    """
    denied = [{"group": "", "kind": "Secret"}]
    project(idle_hub, "strict", namespaceResourceBlacklist=denied)
    project(idle_hub, "wide", destinations=[{"server": "*", "namespace": "*"}])
    project(idle_hub, "pay", labels={"tier": "gold"})
    chosen = {"strict": {"tier": "gold"}, "wide": {"more": "yes"}}
    setting = [{"labelSelector": {"matchLabels": s}, "projectName": n} for n, s in chosen.items()]
    idle_hub.put("/api/v1/flotilla/settings/global_projects", {"value": setting})
    lead = person(idle_hub, "lead", "p, lead, projects, *, pay, allow")
    project(idle_hub, "pay", labels={"tier": "gold", "of": "ours"}, token=lead)

    for ask, path in (
        (idle_hub.put, "/api/v1/projects/pay"),
        (idle_hub.post, "/api/v1/projects?upsert=true"),
    ):
        body = {"project": {"metadata": {"name": "pay", "labels": labels}, "spec": ANYWHERE}}
        assert (
            "permission denied: projects, update"
            in ask(path, body, token=lead, status=403)["message"]
        )
    assert project_of("pay").spec["namespaceResourceBlacklist"] == denied


def test_who_edits_a_project_cannot_open_it_to_shared_clusters(idle_hub):
    narrow = {
        "sourceRepos": [],
        "destinations": [{"server": "https://pay", "namespace": "*"}],
        "permitOnlyProjectScopedClusters": True,
    }
    project(idle_hub, "pay", **narrow)
    lead = person(idle_hub, "lead", "p, lead, projects, *, pay, allow")
    wider = {**narrow, "permitOnlyProjectScopedClusters": False}
    assert "clusters" in project(idle_hub, "pay", status=403, token=lead, **wider)["message"]


def test_an_update_that_would_make_applications_invalid(idle_hub):
    project(idle_hub, "pay")
    spec = {
        "project": "pay",
        "source": {"repoURL": "https://git.example/x", "path": "."},
        "destination": {"server": "https://kubernetes.default.svc", "namespace": "argocd"},
    }
    idle_hub.post("/api/v1/applications", {"metadata": {"name": "a"}, "spec": spec})
    answer = project(
        idle_hub,
        "pay",
        status=400,
        sourceRepos=["https://other.example/*"],
        destinations=[{"server": "https://x", "namespace": "*"}],
    )
    assert (
        "1 applications source became invalid and 1 applications destination became invalid"
        in answer["message"]
    )


# --- resource-level rights ---


def test_rights_of_resources_are_their_own(hub, sandbox, repo, app, namespace):
    repo.commit({"a.yaml": CONFIG.format(name="a", value=1)})
    name = app(repo, sandbox, namespace, policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")
    dev = person(
        hub,
        "dev",
        (
            "p, dev, applications, get, default/*, allow\n"
            "p, dev, applications, update, default/*, allow\n"
            "p, dev, applications, delete, default/*, allow"
        ),
    )
    path, query = (
        f"/api/v1/applications/{name}/resource",
        {"resourceName": "a", "kind": "ConfigMap", "namespace": namespace, "version": "v1"},
    )
    assert hub.get(path, token=dev, **query)["manifest"]
    hub.post(
        path,
        '{"data":{"b":"2"}}',
        token=dev,
        status=403,
        patchType="application/merge-patch+json",
        **query,
    )
    hub.delete(path, token=dev, status=403, **query)
    hub.post(f"{path}/actions", "restart", token=dev, status=403, **query)
    hub.get(f"/api/v1/applications/{name}/logs", token=dev, status=403, podName="x")
    fine = (
        "p, dev, applications, get, default/*, allow\n"
        f"p, dev, applications, update//ConfigMap/{namespace}/*, default/{name}, allow"
    )
    hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": fine}})
    hub.post(
        path, '{"data":{"b":"2"}}', token=dev, patchType="application/merge-patch+json", **query
    )
    hub.delete(path, token=dev, status=403, **query)
    assert AuditEvent.objects.filter(outcome="refused", actor="dev").count() >= 5


def test_sync_rollback_and_override_are_rights_of_their_own(hub, sandbox, repo, app, namespace):
    repo.commit({"a.yaml": CONFIG.format(name="a", value=1)})
    name = app(repo, sandbox, namespace)
    hub.wait_status(name, "OutOfSync")
    dev = person(
        hub,
        "dev",
        "p, dev, applications, get, default/*, allow\np, dev, applications, sync, default/*, allow",
    )
    body = {"manifests": [CONFIG.format(name="a", value=2)]}
    assert (
        "override"
        in hub.post(f"/api/v1/applications/{name}/sync", body, token=dev, status=403)["message"]
    )
    hub.put("/api/v1/flotilla/settings/require_override_for_revision", {"value": True})
    other = repo.commit({"a.yaml": CONFIG.format(name="a", value=3)})
    assert (
        "override"
        in hub.post(
            f"/api/v1/applications/{name}/sync", {"revision": other}, token=dev, status=403
        )["message"]
    )
    hub.put("/api/v1/flotilla/settings/enforce_rollback", {"value": True})
    assert (
        "rollback"
        in hub.post(f"/api/v1/applications/{name}/rollback", {"id": 1}, token=dev, status=403)[
            "message"
        ]
    )
    hub.post(f"/api/v1/applications/{name}/sync", token=dev)
    hub.wait_status(name, "Synced")
    # Creating an application that carries an operation starts none.
    admin = hub.get(f"/api/v1/applications/{name}")
    made = {
        "metadata": {"name": "carrier"},
        "spec": admin["spec"],
        "operation": {"sync": {"manifests": body["manifests"]}},
    }
    hub.post("/api/v1/applications", made)
    assert not Operation.objects.filter(application__name="carrier").exists()


# --- streams end with the right ---


def test_streams_end_within_seconds_when_the_right_is_taken_away(idle_hub):
    spec = {
        "source": {"repoURL": "https://git.example/x", "path": "."},
        "destination": {"server": "https://kubernetes.default.svc", "namespace": "argocd"},
    }
    idle_hub.post("/api/v1/applications", {"metadata": {"name": "a"}, "spec": spec})
    dev = person(idle_hub, "dev", "p, dev, applications, get, default/*, allow")

    async def watch(path):
        answer = await AsyncClient().get(path, headers={"Authorization": f"Bearer {dev}"})
        lines = aiter(answer.streaming_content)
        first = await anext(lines)
        await sync_to_async(idle_hub.put)("/api/v1/flotilla/rbac", {"data": {"policy.csv": ""}})
        await sync_to_async(Account.objects.filter(name="dev").update)(enabled=False)
        import asyncio

        rest = await asyncio.wait_for(_all(lines), 5)
        await sync_to_async(connections.close_all)()
        return first, rest

    async def _all(lines):
        return [line async for line in lines]

    for path in ("/api/v1/stream/applications", "/api/v1/stream/applications/a/resource-tree"):
        Account.objects.filter(name="dev").update(enabled=True)
        idle_hub.put(
            "/api/v1/flotilla/rbac",
            {"data": {"policy.csv": "p, dev, applications, get, default/*, allow"}},
        )
        first, rest = async_to_sync(watch)(path)
        assert b"result" in first and rest == []


def test_the_words_of_a_commit_are_for_who_may_read_the_repository(idle_hub, repo):
    """A list and a timeline show the first line of a commit: of what the project permits today."""
    project(idle_hub, "pay", sourceRepos=[repo.url])
    project(idle_hub, "other", sourceRepos=["https://git.example/other"])
    commit = repo.commit({"a.yaml": CONFIG.format(name="a", value=1)}, "the words")
    sources.files_of({"repoURL": repo.url, "path": "."}, commit, "pay")

    assert application_rows.subject_of("pay", repo.url, commit) == "the words"
    assert application_rows.subject_of("other", repo.url, commit) == ""
    assert application_rows.subject_of("nowhere", repo.url, commit) == ""
    Project.objects.filter(name="pay").update(spec={"sourceRepos": []})
    application_rows._permitted.clear()
    assert application_rows.subject_of("pay", repo.url, commit) == ""
