"""The hub's own kinds in Git: what one project's application may write to the hub, and what needs
an administrator.
"""

import json

import pytest
from django.contrib.auth.hashers import make_password
from django.utils import timezone
from support.sets import names_of, run

from clusters.kinds import Refused
from clusters.models import Cluster
from hub.access import decisions
from hub.access.decisions import ANONYMOUS, caller_of
from hub.auth.sessions import issue
from hub.engine.resource import ResourceKey
from hub.models import Account, AuditEvent, access_changed, change_setting
from projects.access.own_kinds import Author
from projects.destinations import in_cluster
from projects.models import FINALIZER, Application, Operation, Project
from projects.objects import applications
from projects.objects.specs import bind, project_of
from projects.operations.sync import confirmed_since

HOME = "https://kubernetes.default.svc"
V1 = "argoproj.io/v1alpha1"
TEAM = {
    "sourceRepos": ["*"],
    "sourceNamespaces": ["team-a"],
    "destinations": [{"server": HOME, "namespace": "team-a"}, {"server": "*", "namespace": "work"}],
}
IN_HUB = {**TEAM, "destinations": [*TEAM["destinations"], {"server": HOME, "namespace": "argocd"}]}
KINDS = {"namespaceResourceWhitelist": [{"group": "argoproj.io", "kind": "*"}]}
WIDE = {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]}


def project(name, spec):
    return Project.objects.create(name=name, spec=spec)


def row(name, project_="team-a", namespace="argocd", destination="team-a", **fields):
    spec = {
        "project": project_,
        "source": {"repoURL": "https://git.example/r", "path": ".", "targetRevision": "main"},
        "destination": {"server": HOME, "namespace": destination},
    }
    made = Application(namespace=namespace, name=name, spec=spec, **fields)
    bind(made)
    made.save()
    return made


def child(name, project_="team-a", namespace="argocd", parent="", **spec):
    metadata = {"name": name, "namespace": namespace}
    if parent:
        mark = f"{parent}:argoproj.io/Application:{namespace}/{name}"
        metadata["annotations"] = {"argocd.argoproj.io/tracking-id": mark}
    wanted = {
        "project": project_,
        "source": {"repoURL": "https://git.example/r", "path": "."},
        "destination": {"server": HOME, "namespace": "work"},
        **spec,
    }
    return {"apiVersion": V1, "kind": "Application", "metadata": metadata, "spec": wanted}


def team(name, spec, namespace="argocd"):
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": V1, "kind": "AppProject", "metadata": metadata, "spec": spec}


def app_set(name, project_, namespace="argocd"):
    template = {"metadata": {"name": "{{.name}}"}, "spec": child("x", project_)["spec"]}
    generators = [{"list": {"elements": [{"name": "made"}]}}]
    metadata = {"name": name, "namespace": namespace}
    spec = {"goTemplate": True, "generators": generators, "template": template}
    return {"apiVersion": V1, "kind": "ApplicationSet", "metadata": metadata, "spec": spec}


def author(application, caller=None):
    return Author(application, project_of(application.project), caller)


@pytest.fixture
def person(idle_hub):
    return lambda name, policy="": _person(idle_hub, name, policy)


def _person(hub, name, policy=""):
    account = Account.objects.create(
        name=name, password=make_password("pass word"), capabilities=["login"]
    )
    access_changed("account", name, {})
    if policy:
        hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": policy}})
    decisions.reload_policies()
    return account


# --- what no application of a team may write ---

ATTACKS = {
    "its own project, in its namespace": (TEAM, team("team-a", WIDE, "team-a")),
    "its own project, without a namespace": (TEAM, team("team-a", WIDE, "")),
    "its own project, in the hub's namespace": (TEAM, team("team-a", WIDE)),
    "a project, where only the namespace is permitted": (IN_HUB, team("team-a", WIDE)),
    "a project, where only the kind is listed": (TEAM | KINDS, team("team-a", WIDE)),
    "a new project in a namespace of its own": (TEAM | KINDS, team("team-x", WIDE, "team-a")),
    "a namespace that only looks like the hub's": (IN_HUB | KINDS, team("team-a", WIDE, "argocd ")),
    "another version of the kind": (
        IN_HUB | KINDS,
        team("team-a", WIDE) | {"apiVersion": "argoproj.io/v1beta1"},
    ),
    "an application of another project": (IN_HUB, child("new", "default")),
    "an application of no project named": (IN_HUB, child("new", "")),
    "an application in another namespace": (TEAM, child("new", namespace="argocd")),
    "an application where its project is not": (
        {**TEAM, "sourceNamespaces": []},
        child("new", namespace="team-a"),
    ),
    "an application beyond its project": (
        TEAM,
        child("new", namespace="team-a", destination={"server": HOME, "namespace": "argocd"}),
    ),
    "an application that somebody else made": (IN_HUB, child("other", parent="parent")),
    "an application of another project's": (IN_HUB, child("victim", parent="parent")),
    "the parent itself": (IN_HUB, child("parent", parent="parent")),
    "a set of another project": (IN_HUB, app_set("new", "default")),
    "a set in a namespace that is not served": (TEAM, app_set("new", "team-a", "team-a")),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("dry_run", [True, False], ids=["dry run", "for real"])
def test_no_application_writes_beyond_its_project(idle_hub, attack, dry_run):
    spec, manifest = ATTACKS[attack]
    spec = dict(spec)
    if attack.startswith(("its own project", "a project, where only the kind")):
        assert spec != WIDE
    project("team-a", spec)
    parent = row("parent")
    row("other"), row("victim", "default")
    before = _everything()

    with pytest.raises(Refused) as refused:
        in_cluster.apply(manifest, author(parent), dry_run=dry_run)

    assert refused.value.status in (403, 422), attack
    assert _everything() == before
    if refused.value.status == 403:
        event = AuditEvent.objects.get(outcome="refused")
        assert event.project == "team-a" and manifest["metadata"]["name"] in event.object
        assert event.detail["reason"] in refused.value.message


def _everything():
    from appsets.models import ApplicationSet

    apps = Application.objects.order_by("pk").values(
        "namespace", "name", "spec", "annotations", "deletion_requested_at"
    )
    sets = ApplicationSet.objects.values("namespace", "name", "spec")
    return list(apps), list(sets), list(Project.objects.order_by("pk").values("name", "spec"))


def test_without_an_author_nothing_is_written(idle_hub):
    for manifest in (team("x", WIDE), child("x", "default"), app_set("x", "default")):
        with pytest.raises(Refused, match="known author"):
            in_cluster.apply(manifest, None)
    row("there", "default")
    with pytest.raises(Refused, match="known author"):
        in_cluster.delete("Application", "argocd", "there", None)
    assert not Application.objects.get().deletion_requested_at


@pytest.mark.parametrize(
    ("kind", "name", "spec"),
    [
        ("Application", "victim", IN_HUB),
        ("Application", "other", IN_HUB),
        ("Application", "moved", IN_HUB),
        ("AppProject", "empty", IN_HUB),
        ("AppProject", "empty", TEAM | KINDS),
        ("ApplicationSet", "theirs", IN_HUB),
    ],
    ids=[
        "another project's",
        "one that somebody else made",
        "another project's with its mark",
        "a project",
        "a project, kind listed",
        "another project's set",
    ],
)
def test_no_application_deletes_beyond_its_project(idle_hub, kind, name, spec):
    project("team-a", spec)
    project("empty", {})
    parent = row("parent")
    row("other"), row("victim", "default")
    mark = "parent:argoproj.io/Application:argocd/moved"
    row("moved", "default", annotations={"argocd.argoproj.io/tracking-id": mark})
    idle_hub.post("/api/v1/applicationsets", app_set("theirs", "default"))
    before = _everything()

    with pytest.raises(Refused) as refused:
        in_cluster.delete(kind, "argocd", name, author(parent))

    assert refused.value.status == 403 and _everything() == before
    assert AuditEvent.objects.get(outcome="refused").verb == "delete"


# --- what a team's application may write ---


def test_an_application_writes_its_own_projects_children_where_its_project_is(idle_hub):
    project("team-a", TEAM)
    parent = row("parent")
    manifest = child("new", namespace="team-a", parent="parent")

    in_cluster.apply(manifest, author(parent), dry_run=True)
    assert not Application.objects.filter(name="new").exists()
    in_cluster.apply(manifest, author(parent))
    manifest["metadata"]["labels"] = {"a": "b"}
    in_cluster.apply(manifest, author(parent))
    assert Application.objects.get(name="new").labels == {"a": "b"}
    in_cluster.delete("Application", "team-a", "new", author(parent))
    assert Application.objects.get(name="new").deletion_requested_at


def test_a_project_may_be_given_children_of_others(idle_hub):
    project("platform", {**WIDE, "flotilla": {"childProjects": ["team-*"]}})
    project("team-a", {**TEAM, "destinations": WIDE["destinations"]})
    parent = row("root", "platform")

    in_cluster.apply(child("new", "team-a", parent="root"), author(parent))
    in_cluster.apply(app_set("made", "team-a"), author(parent))
    with pytest.raises(Refused, match="belongs to project 'default'"):
        in_cluster.apply(child("other", "default"), author(parent))
    with pytest.raises(Refused, match="does not list"):
        in_cluster.apply(team("team-a", WIDE), author(parent))
    assert Application.objects.get(name="new").project == "team-a"


def test_the_administrators_project_writes_everything(idle_hub):
    parent = row("root", "default")
    row("old", "default")
    in_cluster.apply(team("team-x", WIDE), author(parent))
    in_cluster.apply(child("new", "team-x"), author(parent))
    in_cluster.apply(child("old", "team-x", parent="root"), author(parent))
    assert {a.name: a.project for a in Application.objects.all()} == {
        "root": "default",
        "new": "team-x",
        "old": "team-x",
    }


# --- the person who starts a sync ---


@pytest.mark.parametrize(
    ("rights", "project_changes", "child_comes"),
    [
        ([], False, False),
        (["p, bob, applications, *, */*, allow"], False, True),
        (["p, bob, projects, *, *, allow"], False, False),
        (
            [
                "p, bob, projects, *, *, allow",
                "p, bob, clusters, *, *, allow",
                "p, bob, repositories, *, *, allow",
            ],
            True,
            False,
        ),
    ],
    ids=["none", "applications", "projects only", "an administrator of projects"],
)
def test_a_person_needs_the_right_as_well_as_the_project(
    idle_hub, person, rights, project_changes, child_comes
):
    bob = caller_of(person("bob", "\n".join(rights or ["p, x, projects, get, *, allow"])))
    project("team-x", TEAM)
    project("team-a", IN_HUB)
    root, parent = row("root", "default"), row("parent")

    assert (
        _works(lambda: in_cluster.apply(team("team-x", WIDE), author(root, bob))) is project_changes
    )
    assert (
        _works(lambda: in_cluster.apply(child("new", "default"), author(parent, bob)))
        is child_comes
    )
    assert (Project.objects.get(name="team-x").spec == WIDE) is project_changes


def _works(do):
    try:
        do()
    except Refused:
        return False
    return True


def test_what_is_there_already_needs_nobodys_right(idle_hub, person):
    bob = caller_of(person("bob"))
    root = row("root", "default")
    in_cluster.apply(team("team-x", WIDE), author(root))
    version = Project.objects.get(name="team-x").resource_version
    in_cluster.apply(team("team-x", WIDE), author(root, bob))
    assert Project.objects.get(name="team-x").resource_version == version


@pytest.mark.parametrize("gone", ["account", "never known", "anonymous"])
def test_an_operation_of_a_deleted_account_has_no_rights(idle_hub, person, gone):
    account = person("bob", "p, bob, projects, *, *, allow")
    identity = {
        "account": decisions.identity_of(caller_of(account)),
        "never known": None,
        "anonymous": decisions.identity_of(ANONYMOUS),
    }[gone]
    account.delete()
    assert decisions.caller_by(identity) == ANONYMOUS


# --- through Git ---


def automated(repo, hub, name, project_, path="apps", destination="team-a", **policy):
    manifest = {
        "metadata": {"name": name},
        "spec": {
            "project": project_,
            "source": {"repoURL": repo.url, "path": path, "targetRevision": "main"},
            "destination": {"server": HOME, "namespace": destination},
            "syncPolicy": policy,
        },
    }
    hub.post("/api/v1/applications", manifest)
    return name


def test_a_team_cannot_rewrite_its_own_project(hub, repo):
    wide = {k: v for k, v in team("team-a", WIDE).items() if k != "metadata"}
    wide["metadata"] = {"name": "team-a"}
    repo.commit({"apps/p.json": json.dumps({"kind": "List", "apiVersion": "v1", "items": [wide]})})
    project("team-a", TEAM)

    automated(repo, hub, "attack", "team-a", automated={}, retry={"limit": 0})

    message = hub.wait_operation("attack", "Failed")["message"]
    assert "AppProject team-a/team-a" in message and "own namespace 'argocd'" in message
    assert "AppProject team-a/team-a" in hub.condition("attack", "HubKindWarning")["message"]
    assert Project.objects.get(name="team-a").spec == TEAM
    event = AuditEvent.objects.filter(outcome="refused", kind="appproject").first()
    assert event.object == "team-a/team-a" and "own namespace" in event.detail["reason"]


def test_a_hook_of_the_hubs_kinds_deletes_and_replaces_nothing(hub, repo):
    hook = child("victim", "default")
    hook["metadata"]["annotations"] = {"argocd.argoproj.io/hook": "PreSync"}
    repo.commit({"apps/h.json": json.dumps(hook)})
    project("team-a", IN_HUB)
    victim = row("victim", "default", destination="kept")

    automated(repo, hub, "attack", "team-a")
    hub.wait_status("attack")
    hub.post("/api/v1/applications/attack/sync", token=_only_syncs(hub))

    assert "belongs to project 'default'" in hub.wait_operation("attack", "Failed")["message"]
    victim.refresh_from_db()
    assert victim.dest_namespace == "kept" and victim.deletion_requested_at is None


def _only_syncs(hub):
    """Return the token of somebody who may sync the applications of a team, and nothing else."""
    bob = _person(hub, "bob", "p, bob, applications, *, team-a/*, allow")
    return issue(bob, timezone.now())


def test_a_sync_has_the_rights_of_who_started_it(hub, repo):
    repo.commit({"apps/c.json": json.dumps(child("new", "default"))})
    project("team-a", IN_HUB)
    automated(repo, hub, "parent", "team-a")
    hub.wait_status("parent", "OutOfSync")

    hub.post("/api/v1/applications/parent/sync", token=_only_syncs(hub))
    assert "childProjects" in hub.wait_operation("parent", "Failed")["message"]
    hub.post("/api/v1/applications/parent/sync")
    hub.wait_operation("parent", "Succeeded")
    assert Application.objects.get(name="new").project == "default"
    assert Operation.objects.filter(started_by=None).count() == 0


def test_a_cascade_leaves_what_is_another_projects(hub, repo):
    repo.commit({"apps/empty.yaml": "# nothing\n"})
    project("team-a", IN_HUB)
    mine, theirs = child("mine", parent="parent"), child("theirs", "default", parent="parent")
    root = Author(row("parent", "default"), project_of("default"))
    in_cluster.apply(mine, root), in_cluster.apply(theirs, root)
    applications.remove(Application.objects.get(name="parent"))
    automated(repo, hub, "parent", "team-a")
    assert "theirs" in hub.condition("parent", "HubKindWarning")["message"]

    bob = _only_syncs(hub)
    hub.delete("/api/v1/applications/parent", token=bob, status=403)
    hub.delete("/api/v1/applications/parent")
    hub.wait(
        lambda: not Application.objects.filter(name__in=["parent", "mine"]).exists(), "what goes"
    )
    assert Application.objects.get(name="theirs").deletion_requested_at is None
    assert AuditEvent.objects.filter(outcome="refused", object="argocd/theirs").count() == 1


@pytest.mark.parametrize("top", ["an application of applications", "a set"])
def test_a_cascade_through_others_needs_the_rights_for_all_that_goes(idle_hub, person, top):
    """A parent, or a set, deletes a child, whose cascade would delete a project."""
    root = Author(
        row("root", "default", destination="argocd", finalizers=[FINALIZER]), project_of("default")
    )
    in_cluster.apply(
        child(
            "middle", "default", parent="root", destination={"server": HOME, "namespace": "argocd"}
        ),
        root,
    )
    middle = Application.objects.get(name="middle")
    Application.objects.filter(name="middle").update(
        finalizers=[FINALIZER], owner="theset" if top == "a set" else ""
    )
    victim = team("victim", TEAM)
    mark = "middle:argoproj.io/AppProject:argocd/victim"
    victim["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": mark}
    in_cluster.apply(victim, Author(middle, project_of("default")))
    policy = "p, bob, {}, *, default/*, allow"
    lines = "\n".join(policy.format(r) for r in ("applications", "applicationsets"))
    token = issue(person("bob", lines), timezone.now())
    path = "/api/v1/applications/root"
    if top == "a set":
        idle_hub.post("/api/v1/applicationsets", app_set("theset", "default"))
        path = "/api/v1/applicationsets/theset"

    assert "projects" in idle_hub.delete(path, token=token, status=403)["message"]

    assert Application.objects.filter(deletion_requested_at=None).count() == 2
    idle_hub.put(
        "/api/v1/flotilla/rbac",
        {"data": {"policy.csv": f"{lines}\np, bob, projects, delete, victim, allow"}},
    )
    idle_hub.delete(path, token=token)


@pytest.mark.parametrize("pruned", ["a child", "a set"])
def test_a_sync_prunes_no_cascade_with_projects_for_who_may_not_delete_them(
    idle_hub, person, pruned
):
    """REST asks a person for the projects that go along; a sync that prunes does as well."""
    del idle_hub
    root = row("root", "default", destination="argocd", finalizers=[FINALIZER])
    middle = row(
        "middle",
        "default",
        destination="argocd",
        finalizers=[FINALIZER],
        owner="theset" if pruned == "a set" else "",
    )
    victim = team("victim", TEAM)
    mark = "middle:argoproj.io/AppProject:argocd/victim"
    victim["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": mark}
    in_cluster.apply(victim, author(middle))
    gone = ("Application", "argocd", "middle")
    if pruned == "a set":
        in_cluster.apply(app_set("theset", "default"), author(root))
        gone = ("ApplicationSet", "argocd", "theset")
    lines = "\n".join(
        f"p, bob, {r}, *, default/*, allow" for r in ("applications", "applicationsets")
    )
    bob = person("bob", lines)

    with pytest.raises(Refused, match="deletes AppProject victim: have it synced"):
        in_cluster.delete(*gone, author(root, caller_of(bob)))
    assert Application.objects.filter(deletion_requested_at=None).count() == 2

    change_setting("rbac", {"policy.csv": f"{lines}\np, bob, projects, delete, victim, allow"})
    access_changed("policy", "rbac", None)
    decisions.reload_policies()
    assert (
        in_cluster.why_not_deletable(
            ResourceKey("argoproj.io", gone[0], *gone[1:]), author(root, caller_of(bob))
        )
        == ""
    )


# --- who may let a project write to the hub ---

CREATE = (
    "p, bob, projects, create, *, allow\np, bob, projects, update, team-a, allow\n"
    "p, bob, projects, get, *, allow"
)


@pytest.mark.parametrize(
    "spec",
    [
        IN_HUB | KINDS,
        {**WIDE, "clusterResourceWhitelist": [{"group": "*", "kind": "*"}]},
        IN_HUB
        | {
            "clusterResourceWhitelist": [
                {"group": "argoproj.io", "kind": "AppProject", "name": "team-a"}
            ]
        },
        {**TEAM, "flotilla": {"childProjects": ["default"]}},
    ],
    ids=["the kind listed", "everything", "the kind for one name", "children of others"],
)
def test_only_who_may_change_the_hubs_cluster_lets_a_project_write_projects(idle_hub, person, spec):
    token = issue(person("bob", CREATE), timezone.now())
    body = {"project": {"metadata": {"name": "team-a"}, "spec": spec}}
    idle_hub.post("/api/v1/projects", body, token=token, status=403)
    assert not Project.objects.filter(name="team-a").exists()

    idle_hub.post(
        "/api/v1/projects", {"project": {"metadata": {"name": "team-a"}, "spec": TEAM}}, token=token
    )
    idle_hub.put("/api/v1/projects/team-a", body, token=token, status=403)
    assert Project.objects.get(name="team-a").spec == TEAM
    idle_hub.put("/api/v1/projects/team-a", body)


def test_a_label_that_makes_a_global_project_count_is_a_change_of_limits(idle_hub, person):
    token = issue(person("bob", CREATE), timezone.now())
    project("platform", IN_HUB | KINDS)
    project("team-a", TEAM)
    selector = {"matchLabels": {"team": "platform"}}
    change_setting("global_projects", [{"labelSelector": selector, "projectName": "platform"}])
    labelled = {"metadata": {"name": "team-a", "labels": {"team": "platform"}}, "spec": TEAM}
    idle_hub.put("/api/v1/projects/team-a", {"project": labelled}, token=token, status=403)
    idle_hub.put("/api/v1/projects/team-a", {"project": labelled})


def test_resources_are_named_by_their_own_namespace(idle_hub):
    project("team-a", TEAM)
    assert in_cluster.get("AppProject", "argocd", "team-a") and not in_cluster.get(
        "AppProject", "team-a", "team-a"
    )
    key = ResourceKey("argoproj.io", "AppProject", "team-a", "team-a")
    assert in_cluster.why_not_deletable(key, author(row("parent"))) == ""


# --- sets ---


def test_a_set_reads_only_clusters_that_its_project_has_a_destination_in(idle_hub):
    """Names, labels and annotations of a cluster come out as names of applications, in previews
    and in conditions.
    """
    labels = {"secret": "label"}
    for name in ("east", "west"):
        Cluster.objects.create(
            server=f"https://{name}", name=name, labels=labels, annotations={"n": "secret"}
        )
    project("team-a", {**TEAM, "destinations": [{"name": "east", "namespace": "work"}]})
    wanted = app_set("asks", "team-a")
    template = wanted["spec"]["template"]
    template["metadata"] = {"name": "{{.name}}", "labels": {"x": "{{.metadata.labels.secret}}"}}
    template["spec"]["destination"] = {"name": "{{.name}}", "namespace": "work"}
    asks = {"clusters": {"selector": {"matchLabels": labels}}}
    for generators in (
        [asks],
        [{"matrix": {"generators": [asks, {"list": {"elements": [{}]}}]}}],
        [{"merge": {"mergeKeys": ["name"], "generators": [asks, asks]}}],
    ):
        wanted["spec"]["generators"] = generators
        found = idle_hub.post("/api/v1/applicationsets/generate", {"applicationSet": wanted})
        assert [a["metadata"]["name"] for a in found["applications"]] == ["east"], generators
        assert "west" not in json.dumps(found)


def test_a_project_that_loses_a_cluster_has_its_sets_delete_nothing(idle_hub):
    for name in ("east", "west"):
        Cluster.objects.create(server=f"https://{name}", name=name, labels={"a": "b"})
    project("team-a", {**TEAM, "destinations": WIDE["destinations"]})
    wanted = app_set("asks", "team-a")
    wanted["spec"]["generators"] = [{"clusters": {"selector": {"matchLabels": {"a": "b"}}}}]
    wanted["spec"]["template"]["spec"]["destination"] = {"name": "{{.name}}", "namespace": "work"}
    idle_hub.post("/api/v1/applicationsets", wanted)
    run("asks")
    assert names_of(owner="asks") == ["east", "west"]

    narrow = {**TEAM, "destinations": [{"name": "east", "namespace": "work"}]}
    Project.objects.filter(name="team-a").update(spec=narrow)
    _, conditions = run("asks")
    assert names_of(owner="asks") == ["east", "west"]
    assert "no longer has a destination in cluster west" in conditions["ErrorOccurred"]["message"]


def test_a_set_lives_where_its_project_permits_namespaces(idle_hub, settings):
    settings.APPSET_NAMESPACES = ["team-a", "team-b"]
    project("team-a", {**TEAM, "destinations": WIDE["destinations"]})
    foreign = app_set("made", "team-a", "team-b")
    answer = idle_hub.post(
        "/api/v1/applicationsets/generate", {"applicationSet": foreign}, status=400
    )
    assert "sourceNamespaces" in answer["message"]
    with pytest.raises(Refused, match="sourceNamespaces"):
        in_cluster.apply(foreign, author(row("root", "default")))
    idle_hub.post("/api/v1/applicationsets", app_set("made", "team-a", "team-a"))


@pytest.mark.parametrize(
    ("approved", "counts"),
    [
        ("9999-01-01T00:00:00Z", False),
        ("zzz", False),
        ("2000-01-01T00:00:00Z", False),
        ("", False),
        (None, True),
    ],
    ids=["a future time", "not a time", "long ago", "nothing", "now"],
)
def test_a_child_from_git_approves_no_deletions_to_come(idle_hub, approved, counts):
    since = timezone.now().replace(microsecond=0)
    text = since.strftime("%Y-%m-%dT%H:%M:%SZ") if approved is None else approved
    one = row("one", "default", annotations={"argocd.argoproj.io/deletion-approved": text})
    assert confirmed_since(one, since) is counts
