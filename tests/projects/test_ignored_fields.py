"""Fields that rules ignore, on a genuine control plane: only they are, and lists follow Git."""

import json

import pytest

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(120)]

RESPECTED = {"syncOptions": ["CreateNamespace=true", "RespectIgnoreDifferences=true"]}


def container(name, image, **more):
    return {"name": name, "image": image, **more}


def requests(cpu):
    return {"resources": {"requests": {"cpu": cpu}}}


def deployment(*containers):
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": list(containers)}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": spec,
    }


class Case:
    """An application with one resource, and rules about it."""

    def __init__(self, hub, place, repo, app, namespace, kind, *manifests, **rule):
        self.hub, self.place, self.repo, self.namespace, self.kind = (
            hub,
            place,
            repo,
            namespace,
            kind,
        )
        self.commit(*manifests)
        rules = [{"group": kind[0], "kind": kind[1], **rule}]
        self.name = app(repo, place, namespace, policy=RESPECTED, ignoreDifferences=rules)
        hub.wait_status(self.name, "OutOfSync")
        self.sync()

    def commit(self, *manifests):
        self.repo.commit({f"{n}.yaml": json.dumps(m) for n, m in enumerate(manifests)})

    def status(self):
        found = self.hub.get(f"/api/v1/applications/{self.name}", refresh="normal")
        return found["status"]["sync"]["status"]

    def sync(self):
        self.hub.post(f"/api/v1/applications/{self.name}/sync", {})
        return self.hub.wait_operation(self.name, "Succeeded")

    def live(self):
        return self.place.get(*self.kind, self.namespace, "web")

    def change(self, spec, manager, **more):
        """Let somebody else apply a part of the resource, and wait until the hub has seen it."""
        found = self.live()
        body = {f: found[f] for f in ("apiVersion", "kind")} | {"spec": spec, **more}
        body["metadata"] = {"name": "web", "namespace": self.namespace}
        self.place.apply(body, manager)
        self.hub.wait(lambda: self.status() == "Synced", "what is ignored is Synced")

    def follows(self, *manifests):
        """Commit, and return what is live after a sync that was necessary and is enough."""
        self.commit(*manifests)
        self.hub.wait(lambda: self.status() == "OutOfSync", "the commit is seen")
        self.sync()
        self.hub.wait(lambda: self.status() == "Synced", "the sync is enough")
        return self.live()["spec"]


def test_only_what_a_manager_owns_is_ignored_and_kept(hub, genuine, repo, app, namespace):
    a, b = container("a", "x:1", **requests("1")), container("b", "x:1")
    case = Case(
        hub,
        genuine,
        repo,
        app,
        namespace,
        ("apps", "Deployment"),
        deployment(a, b),
        managedFieldsManagers=["tuner"],
    )
    case.change({"template": {"spec": {"containers": [{"name": "a", **requests("5")}]}}}, "tuner")

    variable = {"name": "N", "value": "1"}
    spec = case.follows(deployment({**a, "env": [variable]}, container("b", "x:2")))

    first, second = spec["template"]["spec"]["containers"]
    assert first["resources"]["requests"]["cpu"] == "5"
    assert first["env"] == [variable]
    assert second["image"] == "x:2"


def images(spec):
    return [(c["name"], c["image"]) for c in spec["template"]["spec"]["containers"]]


@pytest.mark.parametrize(
    "rule",
    [
        {"jqPathExpressions": [".spec.template.spec.containers[].image"]},
        {
            "jqPathExpressions": [
                '.spec.template.spec.containers[] | select(.name | test("^[ab]$")) | .image'
            ]
        },
    ],
    ids=["all", "select"],
)
def test_containers_follow_git_and_keep_their_image(hub, genuine, repo, app, namespace, rule):
    a, b, c = (container(n, "x:1") for n in "abc")
    case = Case(
        hub, genuine, repo, app, namespace, ("apps", "Deployment"), deployment(a, b), **rule
    )
    case.change(
        {"template": {"spec": {"containers": [container("a", "x:9"), container("b", "x:8")]}}},
        "updater",
    )

    assert images(case.follows(deployment(a, c, b))) == [("a", "x:9"), ("c", "x:1"), ("b", "x:8")]
    assert images(case.follows(deployment(b, a, c))) == [("b", "x:8"), ("a", "x:9"), ("c", "x:1")]


def test_a_container_that_is_removed_in_git_is_removed(hub, genuine, repo, app, namespace):
    a, b = container("a", "x:1"), container("b", "x:1")
    case = Case(
        hub,
        genuine,
        repo,
        app,
        namespace,
        ("apps", "Deployment"),
        deployment(a, b),
        jqPathExpressions=[".spec.template.spec.containers[].image"],
    )
    case.change({"template": {"spec": {"containers": [container("b", "x:8")]}}}, "updater")

    assert images(case.follows(deployment(b))) == [("b", "x:8")]


def definition(group):
    text = {"type": "string"}
    item = {
        "type": "object",
        "required": ["id"],
        "properties": {"id": text, "name": text, "image": text},
    }
    keyed = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["id"],
        "items": item,
    }
    spec = {
        "type": "object",
        "properties": {"keyed": keyed, "plain": {"type": "array", "items": item}},
    }
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    names = {"kind": "Thing", "plural": "things", "singular": "thing", "listKind": "ThingList"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {
            "group": group,
            "names": names,
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


def test_lists_of_a_custom_resource_follow_git(hub, genuine, repo, app, namespace):
    group = f"{namespace}.example.com"
    custom = definition(group)

    def thing(*items):
        entries = [{"id": i, "name": n, "image": "x:1"} for i, n in items]
        return {
            "apiVersion": f"{group}/v1",
            "kind": "Thing",
            "metadata": {"name": "web"},
            "spec": {"keyed": entries, "plain": entries},
        }

    case = Case(
        hub,
        genuine,
        repo,
        app,
        namespace,
        (group, "Thing"),
        custom,
        thing("ax", "by"),
        jqPathExpressions=[".spec.keyed[].image", ".spec.plain[].image"],
    )
    tuned = [{"id": i, "name": n, "image": image} for i, n, image in ("ax9", "by8")]
    case.change({"keyed": tuned, "plain": tuned}, "updater")

    spec = case.follows(custom, thing("cy", "by", "az"))

    assert [tuple(e.values()) for e in spec["keyed"]] == [
        ("c", "x:1", "y"),
        ("b", "8", "y"),
        ("a", "9", "z"),
    ]
    assert {e["id"]: e["image"] for e in spec["plain"]} == {"c": "x:1", "b": "8", "a": "x:1"}
