"""App of apps: the hub's own kinds, applied to in-cluster, become rows here."""

import json

from support.sets import elements, manifest

from projects.models import Application, Project

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n"
HOME = "https://kubernetes.default.svc"


def child(name, repo, place, namespace, **metadata):
    return json.dumps(
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {
                "name": name,
                "finalizers": ["resources-finalizer.argocd.argoproj.io"],
                **metadata,
            },
            "spec": {
                "project": "default",
                "source": {"repoURL": repo.url, "path": "work", "targetRevision": "main"},
                "destination": {"server": place.server, "namespace": namespace},
                "syncPolicy": {
                    "automated": {"prune": True},
                    "syncOptions": ["CreateNamespace=true"],
                },
            },
        }
    )


def test_children_appear_sync_change_and_go(hub, sandbox, repo, app, namespace):
    first, second = f"{namespace}-one", f"{namespace}-two"
    project = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AppProject",
        "metadata": {"name": f"{namespace}-team"},
        "spec": {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]},
    }
    repo.commit(
        {
            "apps/1.json": child(first, repo, sandbox, namespace),
            "apps/2.json": child(second, repo, sandbox, f"{namespace}-2"),
            "apps/p.json": json.dumps(project),
            "work/c.yaml": CONFIG,
        }
    )

    parent = app(repo, HOME, "argocd", path="apps", policy={"automated": {"prune": True}})
    for name in (first, second):
        hub.wait_status(name, "Synced", "Healthy")
    done = hub.wait_status(parent, "Synced", "Healthy")

    assert done["status"]["summary"]["isAppOfApps"] is True
    assert Project.objects.filter(name=f"{namespace}-team").exists()
    assert {
        n["name"] for n in hub.get(f"/api/v1/applications/{parent}/resource-tree")["nodes"]
    } == {first, second, f"{namespace}-team"}
    assert sandbox.get("", "ConfigMap", namespace, "c")

    revision = repo.commit(
        {"apps/1.json": child(first, repo, sandbox, namespace, labels={"team": "a"})}
    )
    hub.get(f"/api/v1/applications/{parent}", refresh="normal")
    hub.wait_status(parent, "Synced", "Healthy", revision)
    assert Application.objects.get(name=first).labels == {"team": "a"}

    repo.commit({"apps/2.json": None})
    hub.get(f"/api/v1/applications/{parent}", refresh="normal")
    hub.wait(
        lambda: not Application.objects.filter(name=second).exists(), "the pruned child to go", 60
    )
    assert sandbox.get("", "ConfigMap", f"{namespace}-2", "c") is None

    hub.delete(f"/api/v1/applications/{parent}", cascade="true")
    hub.wait(
        lambda: not Application.objects.filter(name__in=[parent, first]).exists(),
        "parent and child to go",
        60,
    )
    assert sandbox.get("", "ConfigMap", namespace, "c") is None


def test_a_set_from_git_makes_its_applications(hub, sandbox, repo, app, namespace):
    wanted = manifest(
        f"{namespace}-set",
        elements(f"{namespace}-a", f"{namespace}-b"),
        {
            "source": {"repoURL": repo.url, "path": "work", "targetRevision": "main"},
            "destination": {"server": sandbox.server, "namespace": "{{.name}}"},
            "syncPolicy": {"automated": {}, "syncOptions": ["CreateNamespace=true"]},
        },
    )
    wanted |= {"apiVersion": "argoproj.io/v1alpha1", "kind": "ApplicationSet"}
    wanted["metadata"] |= {"labels": {"team": "a"}}
    repo.commit(
        {
            "sets/s.json": json.dumps(wanted),
            "sets/keep.json": child(f"{namespace}-c", repo, sandbox, namespace),
            "work/c.yaml": CONFIG,
        }
    )
    parent = app(repo, HOME, "argocd", path="sets", policy={"automated": {"prune": True}})
    hub.wait_status(f"{namespace}-a", "Synced", "Healthy")
    hub.wait_status(parent, "Synced", "Healthy")

    # One element that is wrong shows in the application that brought the set.
    wanted["spec"]["generators"] = elements(f"{namespace}-a", "Not_A_Name")
    del wanted["metadata"]["labels"]
    repo.commit({"sets/s.json": json.dumps(wanted)})
    hub.get(f"/api/v1/applications/{parent}", refresh="normal")
    hub.wait_status(parent, "Synced", "Degraded")
    assert hub.get(f"/api/v1/applicationsets/{namespace}-set")["metadata"].get("labels") is None

    repo.commit({"sets/s.json": None})
    hub.get(f"/api/v1/applications/{parent}", refresh="normal")
    hub.wait(
        lambda: (
            not Application.objects.filter(owner=f"{namespace}-set").exists()
            and not Application.objects.filter(name=f"{namespace}-a").exists()
        ),
        "the set to go",
        60,
    )
    assert hub.get("/api/v1/applicationsets")["items"] == []


def test_a_sick_child_shows_in_its_parent(hub, sandbox, repo, app, namespace):
    broken = (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"
        "spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: "
        "{containers: [{name: m, image: does-not-exist}]}}}\n"
    )
    name = f"{namespace}-child"
    repo.commit({"apps/1.json": child(name, repo, sandbox, namespace), "work/d.yaml": broken})
    parent = app(repo, HOME, "argocd", path="apps", policy={"automated": {}})

    hub.wait_status(parent, health="Progressing")
    assert hub.wait_status(name, "Synced", "Progressing")


def test_other_kinds_need_a_cluster(hub, repo, app):
    repo.commit({"c.yaml": CONFIG})
    name = app(repo, HOME, "default", policy={"syncOptions": []})

    hub.wait_status(name, "OutOfSync")
    hub.post(f"/api/v1/applications/{name}/sync")
    state = hub.wait_operation(name, "Failed")

    assert "ConfigMap" in state["message"]
    assert (
        "could not find" in state["message"]
        or "does not run in a Kubernetes cluster" in state["message"]
    )


def test_an_invalid_child_fails_the_sync_in_words(hub, repo, app, namespace):
    bad = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "bad"},
        "spec": {"source": {"repoURL": "x", "path": 5}, "destination": {}},
    }
    repo.commit({"apps/b.json": json.dumps(bad)})
    name = app(repo, HOME, "argocd", path="apps")

    hub.wait_status(name, "OutOfSync")
    hub.post(f"/api/v1/applications/{name}/sync")
    assert "spec.source.path must be text" in hub.wait_operation(name, "Failed")["message"]
