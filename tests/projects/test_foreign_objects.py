"""What a manifest names is not reached by naming it: every route about resources, with objects
that are somebody else's.
"""

import base64
import contextlib
import hashlib
import io
import json
import re
import tarfile
import threading
from urllib.parse import quote

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.hashers import make_password
from django.test import AsyncClient, Client
from django.utils import timezone
from support.routes import routes

from clusters.kinds import Kind, Refused, path_segment
from clusters.kube import Connection, connect
from clusters.models import Cluster, LiveResource
from hub.auth.sessions import issue
from hub.engine.errors import ManifestError, RetryLater
from hub.engine.kubernetes_yaml import parse_yaml
from hub.engine.resource import is_segment, manifests_from
from hub.models import Account, access_changed, change_setting
from projects.api import logs, resources
from projects.comparison.jq import Jq
from projects.models import Application, Project

CANARY = "CANARY-of-another-team"
TRACKING = "argocd.argoproj.io/tracking-id"
API = "api/v1/applications/<str:name>"
PAGE = "applications/<str:namespace>/<str:name>"


def config(name, namespace="", value="mine", **annotations):
    metadata = {"name": name, "annotations": annotations}
    metadata |= {"namespace": namespace} if namespace else {}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": value}}


def deployment(name, namespace="", value="mine"):
    """A Deployment whose pods carry a value."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    container = {
        "name": "main",
        "image": f"registry.example/{value.lower()}:1",
        "env": [{"name": "A", "value": value}],
    }
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def role(name, value="mine"):
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name, "annotations": {"note": value}},
        "rules": rules,
    }


def named(kind, key):
    """A manifest as an attacker writes it: nothing is known of the object but its name."""
    if kind == "Deployment":
        return deployment(key[3], key[2])
    if kind == "ConfigMap":
        return config(key[3], key[2])
    if kind == "ClusterRole":
        return role(key[3])
    version = "apps/v1" if kind == "ReplicaSet" else "v1"
    metadata = {"name": key[3], "namespace": key[2]}
    spec = (
        deployment(key[3])["spec"]
        if kind == "ReplicaSet"
        else {"containers": [{"name": "main", "image": "x"}]}
    )
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


class Scene:
    """An application of project `mine`, and objects beside it that are others'."""

    def __init__(self, hub, cluster, repo, app, namespace):
        self.hub, self.cluster, self.repo = hub, cluster, repo
        self.own, self.theirs = namespace, f"{namespace}-b"
        for name in (self.own, self.theirs):
            cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        places = [
            {"server": cluster.server, "namespace": self.own},
            {"server": "https://elsewhere.example", "namespace": "*"},
        ]
        project = {
            "metadata": {"name": "mine"},
            "spec": {"sourceRepos": ["*"], "destinations": places},
        }
        hub.post("/api/v1/projects", {"project": project})
        self.token = self.person()
        policy = {"syncOptions": [], "automated": {}}
        repo.commit(
            {
                "victim/all.json": self.text(
                    deployment("web", value=CANARY), config("settings", value=CANARY)
                ),
                "beside/all.json": self.text(
                    deployment("beside", value=CANARY), config("notes", value=CANARY)
                ),
                "mine/all.json": self.text(deployment("own"), config("own")),
            }
        )
        app(repo, cluster, self.theirs, name="victim", path="victim", policy=policy)
        app(repo, cluster, self.own, name="beside", path="beside", policy=policy)
        app(repo, cluster, self.own, name="mine", path="mine", project="mine", policy=policy)
        for name in ("victim", "beside", "mine"):
            hub.wait_status(name, "Synced", "Healthy")
        copied = f"mine:/ConfigMap:{self.theirs}/copied"
        other = f"mine:/ConfigMap:{self.own}/another"
        cluster.apply(config("copied", self.theirs, CANARY, **{TRACKING: copied}))
        cluster.apply(config("copy", self.own, CANARY, **{TRACKING: other}))
        cluster.apply(role(f"canary-{namespace}", CANARY))

    @staticmethod
    def text(*manifests):
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})

    def person(self):
        account = Account.objects.create(
            name="dev", password=make_password("x"), capabilities=["login"]
        )
        access_changed("account", "dev", {})
        lines = "p, dev, applications, *, mine/*, allow\np, dev, logs, get, mine/*, allow"
        self.hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": lines}})
        return issue(account, timezone.now())

    def child(self, kind, namespace, prefix):
        rows = LiveResource.objects.filter(
            kind=kind, namespace=namespace, name__startswith=f"{prefix}-"
        )
        return self.hub.wait(lambda: rows.values_list("name", flat=True).first(), f"the {kind}")

    def foreign(self):
        """Return the key of each object that is not the application's, by the kind of attack."""
        return {
            "in a foreign namespace": ("", "ConfigMap", self.theirs, "settings"),
            "in a foreign namespace, with pods": ("apps", "Deployment", self.theirs, "web"),
            "a pod in a foreign namespace": (
                "",
                "Pod",
                self.theirs,
                self.child("Pod", self.theirs, "web"),
            ),
            "cluster-scoped and not permitted": (
                "rbac.authorization.k8s.io",
                "ClusterRole",
                "",
                f"canary-{self.own}",
            ),
            "of another application": ("", "ConfigMap", self.own, "notes"),
            "of another application, with pods": ("apps", "Deployment", self.own, "beside"),
            "made by another application's": (
                "apps",
                "ReplicaSet",
                self.own,
                self.child("ReplicaSet", self.own, "beside"),
            ),
            "a pod below another application's": (
                "",
                "Pod",
                self.own,
                self.child("Pod", self.own, "beside"),
            ),
            "with a mark that somebody put on it": ("", "ConfigMap", self.theirs, "copied"),
        }

    def name_in_git(self, keys):
        """Name objects in the application's source, as an author of it may."""
        manifests = [named(key[1], key) for key in keys]
        self.repo.commit({"mine/all.json": self.text(deployment("own"), config("own"), *manifests)})
        self.hub.get("/api/v1/applications/mine", refresh="hard")
        self.hub.condition("mine", "ResourceNotPermittedWarning")

    def call(self, method, path, body=None, accept="application/json", **query):
        """Return status and whole text of an answer, streams too."""
        url = (
            "/"
            + path
            + (
                "?" + "&".join(f"{k}={quote(str(v), safe='')}" for k, v in query.items())
                if query
                else ""
            )
        )
        if "stream" in path or path.endswith("logs"):
            return self._stream(url, accept)
        client = Client(raise_request_exception=False)
        client.cookies["argocd.token"] = self.token
        data = body if isinstance(body, str | bytes) else json.dumps(body)
        kind = "application/x-www-form-urlencoded" if isinstance(body, str) else "application/json"
        answer = client.generic(
            method,
            url,
            data="" if body is None else data,
            content_type=kind,
            CONTENT_TYPE=kind,
            HTTP_ORIGIN="http://testserver",
            HTTP_HOST="testserver",
            HTTP_HX_REQUEST="true",
        )
        return answer.status_code, answer.content.decode()

    def _stream(self, url, accept):
        async def read():
            answer = await AsyncClient().get(
                url, headers={"Authorization": f"Bearer {self.token}", "Accept": accept}
            )
            if not answer.streaming:
                return answer.status_code, answer.content.decode()
            text, iterator = "", answer.streaming_content.__aiter__()
            async for part in iterator:
                text += part.decode()
                if "/logs" not in url:
                    break
            await iterator.aclose()
            return answer.status_code, text

        return async_to_sync(read)()

    def state(self):
        """Return what the foreign objects are, to see that nobody changed them."""
        found = {}
        for what, key in self.foreign().items():
            manifest = self.cluster.get(key[0], key[1], key[2], key[3])
            metadata = manifest["metadata"]
            found[what] = (
                metadata["uid"],
                metadata.get("deletionTimestamp"),
                metadata.get("annotations"),
                manifest.get("data"),
                manifest.get("spec"),
            )
        return found


def archive(*manifests):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        data = Scene.text(*manifests).encode()
        member = tarfile.TarInfo("all.json")
        member.size = len(data)
        packed.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def local_body(manifests):
    data = archive(*manifests)
    query = {"name": "mine", "checksum": hashlib.sha256(data).hexdigest(), "path": "."}
    lines = [{"query": query}, {"chunk": {"chunk": base64.b64encode(data).decode()}}]
    return "\n".join(map(json.dumps, lines)).encode()


REFUSED, QUIET = "refused", "quiet"
"""A request about an object is refused; one about the application tells nothing of it."""


def requests(key, manifest):
    """Yield route, what must come of it, and the request about one object, for each route about
    resources.
    """
    group, kind, namespace, name = key
    where = {"group": group, "kind": kind, "namespace": namespace, "resourceName": name}
    page, text = {"key": "/".join(key)}, "key=" + quote("/".join(key))
    patch = {"metadata": {"annotations": {"attacked": "yes"}}}
    asked = {"action": "restart", **where}
    form = f"{text}&text={quote(json.dumps(manifest))}&seen=1"
    yield f"{API}/resource", REFUSED, ("GET", None, where)
    yield f"{API}/resource", REFUSED, ("POST", patch, where)
    yield f"{API}/resource", REFUSED, ("DELETE", None, {**where, "force": "true"})
    yield f"{API}/resource/actions", REFUSED, ("GET", None, where)
    yield f"{API}/resource/actions", REFUSED, ("POST", b'"restart"', where)
    yield f"{API}/resource/actions/v2", REFUSED, ("POST", asked, {})
    yield f"{API}/resource/links", REFUSED, ("GET", None, where)
    yield (
        f"{API}/events",
        REFUSED,
        ("GET", None, {"resourceName": name, "resourceNamespace": namespace}),
    )
    yield (
        f"{API}/server-side-diff",
        REFUSED,
        ("GET", None, {"targetManifests": json.dumps(manifest)}),
    )
    yield f"{API}/logs", REFUSED, ("GET", None, where)
    yield f"{API}/logs", REFUSED, ("GET", None, {"podName": name, "namespace": namespace})
    yield (
        API + "/pods/<str:pod>/logs",
        REFUSED,
        ("GET", None, {"namespace": namespace, "pod": name}),
    )
    yield f"{API}/managed-resources", QUIET, ("GET", None, {"kind": kind, "name": name})
    yield f"{PAGE}/resource/edit", QUIET, ("GET", None, page)
    yield f"{PAGE}/resource/action", REFUSED, ("GET", None, {**page, "action": "restart"})
    yield f"{PAGE}/resource/try", QUIET, ("POST", form, {})
    yield f"{PAGE}/resource/save", QUIET, ("POST", form, {})
    yield f"{PAGE}/resource/delete", QUIET, ("GET", None, page)
    yield f"{PAGE}/why", QUIET, ("GET", None, page)
    for tab in ("summary", "diff", "live", "events", "logs"):
        yield f"{PAGE}/resource", QUIET, ("GET", None, {**page, "tab": tab})


def whole(manifests):
    """Yield the requests that are about all resources of the application at once."""
    yield f"{API}/resource-tree", ("GET", None, {})
    yield "api/v1/stream/applications/<str:name>/resource-tree", ("GET", None, {})
    yield "api/v1/stream/applications", ("GET", None, {"name": "mine"})
    yield "api/v1/applications", ("GET", None, {})
    yield API, ("GET", None, {})
    yield f"{API}/managed-resources", ("GET", None, {})
    yield f"{API}/manifests", ("GET", None, {})
    yield f"{API}/events", ("GET", None, {})
    yield f"{API}/logs", ("GET", None, {})
    yield "api/v1/flotilla/applications/<str:name>/diff", ("GET", None, {})
    yield "api/v1/flotilla/applications/<str:name>/operation", ("GET", None, {})
    yield (
        "api/v1/applications/manifestsWithFiles",
        ("POST", local_body(manifests), {"compare": "true"}),
    )
    yield PAGE, ("GET", None, {"view": "list"})
    yield f"{PAGE}/tree", ("GET", None, {})
    yield f"{PAGE}/plan", ("GET", None, {})
    yield f"{PAGE}/sync", ("GET", None, {})
    yield f"{PAGE}/timeline", ("GET", None, {})


NOT_ABOUT_RESOURCES = {
    *(
        f"{API}/{x}"
        for x in (
            "spec",
            "sync",
            "rollback",
            "operation",
            "confirm-deletion",
            "links",
            "syncwindows",
        )
    ),
    *(f"{API}/revisions/<str:revision>/{x}" for x in ("metadata", "chartdetails", "ocimetadata")),
    *(f"{PAGE}/{x}" for x in ("edit", "compare", "delete", "rollback/<int:number>")),
    "api/v1/flotilla/applications/batch",
    *(
        f"applications/{x}"
        for x in (
            "new",
            "check",
            "compose",
            "detect",
            "effect",
            "preview",
            "strip",
            "views",
            "views/<int:number>/remove",
            "favourites/<int:number>",
        )
    ),
    "applications",
}
"""Routes of applications that say nothing of live resources; what a sync does is tried below."""


def test_every_route_of_applications_has_a_case():
    key = ("", "ConfigMap", "n", "c")
    tried = {route for route, _, _ in requests(key, {})} | {route for route, _ in whole([])}

    pattern = re.compile(r"(api/v1/(flotilla/|stream/)?)?applications(/|$)")
    known = {route for route, _view in routes() if pattern.match(route)}

    assert known == tried | NOT_ABOUT_RESOURCES
    assert not tried & NOT_ABOUT_RESOURCES


def address(route, query):
    query = dict(query)
    path = route.replace("<str:namespace>", "argocd").replace("<str:name>", "mine")
    if "<str:pod>" in path:
        path = path.replace("<str:pod>", query.pop("pod"))
    return path, query


def test_naming_a_foreign_object_gives_nothing(hub, cluster, repo, app, namespace):
    scene = Scene(hub, cluster, repo, app, namespace)
    foreign = scene.foreign()
    hub.put("/api/v1/applications/mine/spec", {**hub.application("mine")["spec"], "syncPolicy": {}})
    scene.name_in_git(foreign.values())
    before, wrong = scene.state(), []

    for what, key in {
        **foreign,
        "with a copied mark": ("", "ConfigMap", scene.own, "copy"),
    }.items():
        manifest = named(key[1], key)
        for route, expected, (method, body, query) in requests(key, manifest):
            path, params = address(route, query)
            status, text = scene.call(method, path, body, **params)
            if (
                CANARY.lower() in text.lower()
                or status >= 500
                or (expected == REFUSED and status not in (400, 403, 404))
            ):
                wrong.append((what, method, route, params, status, text[:200]))
    manifests = [named(key[1], key) for key in foreign.values()]
    for route, (method, body, query) in whole(manifests):
        path, params = address(route, query)
        status, text = scene.call(method, path, body, **params)
        if CANARY.lower() in text.lower() or status >= 400:
            wrong.append(("all", method, route, params, status, text[:200]))

    assert wrong == []
    assert scene.state() == before
    _nothing_is_shown(hub, foreign)
    _own_objects_are_reached(scene)
    _a_sync_changes_nothing(scene, before)


def _nothing_is_shown(hub, foreign):
    states = {
        (r.get("group", ""), r["kind"], r.get("namespace", ""), r["name"]): r
        for r in hub.application("mine")["status"]["resources"]
    }
    uids = set(LiveResource.objects.values_list("uid", flat=True))
    for what, key in foreign.items():
        health = states[key].get("health", {})
        is_permitted = "another application" in what
        assert health in (
            ({}, {"status": "Missing"}) if is_permitted else ({"status": "Missing"},)
        ), what
    tree = hub.get("/api/v1/applications/mine/resource-tree")["nodes"]
    shown = {
        (n.get("group", ""), n["kind"], n.get("namespace", ""), n["name"])
        for n in tree
        if n.get("uid") in uids
    }
    assert shown.isdisjoint(foreign.values())
    assert {key[1] for key in shown} == {"ConfigMap", "Deployment", "ReplicaSet", "Pod"}
    items = hub.get("/api/v1/applications/mine/managed-resources")["items"]
    for item in items:
        if (item["group"], item["kind"], item["namespace"], item["name"]) in foreign.values():
            assert {
                item[f] for f in ("liveState", "normalizedLiveState", "predictedLiveState")
            } == {"null"}


def _own_objects_are_reached(scene):
    key = ("apps", "Deployment", scene.own, "own")
    answers = {}
    for route, expected, (method, body, query) in requests(key, deployment("own", scene.own)):
        if (
            method == "DELETE"
            or "podName" in query
            or "<str:pod>" in route
            or route.endswith("/save")
        ):
            continue
        path, params = address(route, query)
        answers[method, route, expected] = scene.call(method, path, body, **params)[0]
    assert {k: v for k, v in answers.items() if v >= 400} == {}

    def pod_answers():
        # The restart among the requests above replaces pods at the same time.
        pod = scene.child("Pod", scene.own, "own")
        logs = f"api/v1/applications/mine/pods/{pod}/logs"
        status, text = scene.call("GET", logs, namespace=scene.own)
        where = {"group": "", "kind": "Pod", "namespace": scene.own, "resourceName": pod}
        is_deleted = scene.call("DELETE", "api/v1/applications/mine/resource", **where)[0] == 200
        return is_deleted and status == 200 and '"last":true' in text

    scene.hub.wait(pod_answers, "the logs and the deletion of an own pod")


def _a_sync_changes_nothing(scene, before):
    hub = scene.hub
    hub.post("/api/v1/applications/mine/sync", {"prune": True}, token=scene.token)
    message = hub.wait_operation("mine", "Failed")["message"]
    assert f"namespace {scene.theirs} is not permitted" in message and CANARY not in message
    assert scene.state() == before


def test_hooks_and_deletions_leave_foreign_objects(hub, sandbox, repo, app, namespace):
    scene = Scene(hub, sandbox, repo, app, namespace)
    before = scene.state()
    hooks = [
        config("notes", scene.own, **{"argocd.argoproj.io/hook": "PreSync"}),
        config("settings", scene.theirs, **{"argocd.argoproj.io/hook": "PostDelete"}),
    ]
    spec = {**hub.application("mine")["spec"], "syncPolicy": {}}
    hub.put("/api/v1/applications/mine/spec", spec)
    repo.commit({"mine/all.json": scene.text(config("own"), hooks[0])})
    hub.get("/api/v1/applications/mine", refresh="hard")

    hub.post("/api/v1/applications/mine/sync", {"prune": True})

    assert "is part of application beside" in str(hub.wait_operation("mine", "Failed"))
    assert scene.state() == before
    repo.commit({"mine/all.json": scene.text(config("own"), hooks[1])})
    hub.get("/api/v1/applications/mine", refresh="hard")
    hub.wait(
        lambda: any("post-delete" in f for f in hub.application("mine")["metadata"]["finalizers"]),
        "the finalizer",
    )
    hub.delete("/api/v1/applications/mine", cascade="true")
    message = hub.condition("mine", "DeletionError")["message"]
    assert f"namespace {scene.theirs} is not permitted in project 'mine'" in message
    assert sandbox.get("", "ConfigMap", scene.own, "own") is None
    assert scene.state() == before


def test_a_project_that_was_narrowed_takes_the_reach_away(hub, sandbox, repo, app, namespace):
    repo.commit({"c.yaml": json.dumps(config("c", value=CANARY))})
    spec = {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]}
    hub.post("/api/v1/projects", {"project": {"metadata": {"name": "narrow"}, "spec": spec}})
    sandbox.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    name = app(
        repo, sandbox, namespace, project="narrow", policy={"syncOptions": [], "automated": {}}
    )
    hub.wait_status(name, "Synced", "Healthy")
    Application.objects.filter(name=name).update(refresh_at=None)

    spec["destinations"] = [{"server": "https://elsewhere.example", "namespace": "*"}]
    Project.objects.filter(name="narrow").update(spec=spec)

    where = {"kind": "ConfigMap", "namespace": namespace, "resourceName": "c"}
    answer = hub.get(f"/api/v1/applications/{name}/resource", status=403, **where)
    assert "is not permitted in project 'narrow'" in answer["message"]
    assert all(
        "uid" not in n for n in hub.get(f"/api/v1/applications/{name}/resource-tree")["nodes"]
    )
    hub.delete(f"/api/v1/applications/{name}", cascade="true")
    hub.wait(lambda: not Application.objects.filter(name=name).exists(), "the end of it")
    assert sandbox.get("", "ConfigMap", namespace, "c")["data"] == {"a": CANARY}


def test_what_nobody_manages_is_compared_and_read(hub, sandbox, repo, app, namespace):
    sandbox.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    sandbox.apply(config("c", namespace, "by hand"))
    repo.commit({"c.yaml": json.dumps(config("c"))})
    name = app(repo, sandbox, namespace, policy={"syncOptions": []})
    hub.wait_status(name, "OutOfSync")

    where = {"kind": "ConfigMap", "namespace": namespace, "resourceName": "c"}
    live = hub.get(f"/api/v1/applications/{name}/resource", **where)["manifest"]

    assert json.loads(live)["data"] == {"a": "by hand"}


def test_a_patch_changes_no_other_object_that_took_the_name(hub, cluster, namespace):
    """Between the look and the patch the object goes, and another application's has its name."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    seen = cluster.apply(config("c", namespace)) or cluster.get("", "ConfigMap", namespace, "c")
    connection = connect(Cluster.objects.get(server=cluster.server))
    served = connection.kind("", "ConfigMap")
    connection.delete(served, namespace, "c", propagation="Background")
    cluster.apply(config("c", namespace, value=CANARY))
    merges = (resources.MERGE, "application/strategic-merge-patch+json")
    by_kind = {kind: {"data": {"b": "x"}} for kind in merges}
    by_kind[resources.JSON_PATCH] = [{"op": "add", "path": "/data/b", "value": "x"}]
    for kind, patch in by_kind.items():
        own = resources.bound(patch, kind, seen)
        with pytest.raises(Refused):
            connection.patch(served, namespace, "c", own, content_type=kind)
        assert cluster.get("", "ConfigMap", namespace, "c")["data"] == {"a": CANARY}, kind
    current = cluster.get("", "ConfigMap", namespace, "c")
    for kind, patch in by_kind.items():
        own = resources.bound(patch, kind, current)
        connection.patch(served, namespace, "c", own, content_type=kind)
        assert cluster.get("", "ConfigMap", namespace, "c")["data"] == {"a": CANARY, "b": "x"}
        connection.patch(served, namespace, "c", {"data": {"b": None}})


@pytest.mark.parametrize("change", ["moved", "narrowed", "elsewhere"])
def test_a_log_that_is_followed_ends_with_the_right_to_it(idle_hub, change):
    wide = {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]}
    for name in ("mine", "theirs"):
        Project.objects.create(name=name, spec=wide)
    here, there = (Cluster.objects.create(server=f"https://{n}", name=n) for n in ("a", "b"))
    spec = {"project": "mine", "destination": {"name": "a", "namespace": "x"}}
    app = Application.objects.create(
        name="app", namespace="argocd", project="mine", cluster=here, dest_namespace="x", spec=spec
    )
    account = Account.objects.create(
        name="dev", password=make_password("x"), capabilities=["login"]
    )
    access_changed("account", "dev", {})
    lines = "p, dev, applications, *, mine/*, allow\np, dev, logs, get, mine/*, allow"
    idle_hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": lines}})
    goes_on = logs._still_allowed(app, [("x", "pod")], issue(account, timezone.now()))
    assert goes_on()

    rows = Application.objects.filter(pk=app.pk)
    if change == "moved":
        rows.update(project="theirs")
    elif change == "elsewhere":
        rows.update(cluster=there)
    else:
        Project.objects.filter(name="mine").update(spec={**wide, "destinations": []})
    assert not goes_on()


# --- names in paths of API servers ---

BAD = ["", ".", "..", "../../secrets/x", "a/b", "a%2Fb", "a%2fb", "/", "a\nb", "a\x00b"]
PODS = Kind("", "v1", "Pod", "pods", True, ())


@pytest.mark.parametrize("name", BAD, ids=[repr(n) for n in BAD])
def test_names_that_lead_elsewhere_are_no_part_of_a_path(name):
    assert not is_segment(name)
    with pytest.raises(Refused):
        path_segment(name)
    with pytest.raises(Refused):
        PODS.resource_path("team-a", name)
    if name:
        with pytest.raises(Refused):
            PODS.path(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web-1", "web-1"),
        ("system:controller:x", "system:controller:x"),
        ("a b", "a%20b"),
        ("a?x=1#y", "a%3Fx%3D1%23y"),
        ("kube-root-ca.crt", "kube-root-ca.crt"),
    ],
)
def test_names_are_encoded_in_paths(name, expected):
    assert PODS.resource_path("n", name) == f"/api/v1/namespaces/n/pods/{expected}"


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"name": "../x"}},
        {"metadata": {"name": "x", "namespace": "a/b"}},
        {"metadata": {"generateName": "a/"}},
        {"kind": "Config/Map"},
        {"apiVersion": "a/b/c"},
        {"apiVersion": "../v1"},
    ],
    ids=str,
)
def test_manifests_with_such_names_are_refused(change):
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, **change}

    with pytest.raises(ManifestError, match="must"):
        manifests_from(parse_yaml(json.dumps(manifest)), "all.yaml")


@pytest.mark.parametrize("field", ["group", "kind", "namespace", "resourceName"])
@pytest.mark.parametrize("value", ["a/b", "..", "a%2Fb"])
def test_requests_with_such_names_are_refused(idle_hub, field, value):
    Application.objects.create(name="any", project="default")
    where = {"kind": "Pod", "namespace": "n", "resourceName": "x", field: value}

    answer = idle_hub.get("/api/v1/applications/any/resource", status=400, **where)

    assert field in answer["message"]
    asked = {"action": "restart", **where}
    path = "/api/v1/applications/any/resource/actions/v2"
    assert field in idle_hub.post(path, asked, status=400)["message"]


def test_an_action_with_a_slash_is_no_action(idle_hub):
    Application.objects.create(name="any", project="default")
    asked = {"action": "x/restart", "kind": "Pod", "namespace": "n", "resourceName": "x"}

    path = "/api/v1/applications/any/resource/actions/v2"

    assert "action must be" in idle_hub.post(path, asked, status=400)["message"]


def test_messages_of_jq_are_not_shown():
    value = {"data": {"password": CANARY}}

    found = Jq("team", "app").delete('error("compile " + (.data | tostring))', value)

    assert found == value


def test_a_log_is_of_the_pod_that_was_permitted(hub, cluster, namespace):
    """Between the look and the opening somebody else's pod takes the name."""
    del hub  # its database is there before the cluster registers itself
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    connection = connect(Cluster.objects.get(server=cluster.server))
    cluster.apply(named("Pod", ("", "Pod", namespace, "p")))
    seen = cluster.get("", "Pod", namespace, "p")["metadata"]["uid"]

    logs.require_same(connection, logs._Pod(namespace, "p", seen))
    connection.delete(connection.kind("", "Pod"), namespace, "p", propagation="Background")
    cluster.apply(named("Pod", ("", "Pod", namespace, "p")))

    with pytest.raises(RetryLater, match="pod p was replaced"):
        logs.require_same(connection, logs._Pod(namespace, "p", seen))
    with pytest.raises(RetryLater):
        logs.require_same(connection, logs._Pod(namespace, "absent", seen))


def test_a_log_of_another_pod_is_not_read(idle_hub, monkeypatch):
    """What the log says is not asked for before it is known whose it is."""
    read = []

    class Open:
        @contextlib.contextmanager
        def stream(self, path, query):
            yield (read.append(path) or CANARY.encode() for _ in range(1))

    def other():
        raise RetryLater("PodReplaced", "another pod")

    with pytest.raises(RetryLater):
        list(logs._read_log(Open(), "n", "p", {}, threading.Event(), other))
    assert read == []


def reader_of(hub):
    account = Account.objects.create(name="eyes", password="!", capabilities=["login"])
    access_changed("account", "eyes", {})
    policy = {"policy.csv": "p, eyes, applications, get, */*, allow"}
    hub.put("/api/v1/flotilla/rbac", {"data": policy})
    return issue(account, timezone.now())


def test_what_a_caller_names_shows_nothing_that_nobody_manages(hub, sandbox, repo, app, namespace):
    """Files that are sent, and other revisions: naming an object there is no way to read it."""
    sandbox.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    sandbox.apply(config("free", namespace, CANARY))
    repo.commit({"c.yaml": json.dumps(config("own"))})
    repo.git("checkout", "-q", "-b", "attack")
    repo.commit({"d.yaml": json.dumps(config("free", value="guessed"))})
    repo.git("checkout", "-q", "main")
    name = app(repo, sandbox, namespace, name="mine", policy={"syncOptions": [], "automated": {}})
    hub.wait_status(name, "Synced", "Healthy")
    token, asked = reader_of(hub), {"revision": "attack"}
    answers = [
        hub.get(f"/api/v1/applications/{name}/managed-resources", token=token, **asked),
        hub.get(f"/api/v1/flotilla/applications/{name}/diff", token=token, **asked),
        sent(hub, token, config("own", value="new"), config("free", value="guessed")),
    ]

    assert CANARY not in json.dumps(answers)
    for items in (answers[0]["items"], answers[2]["items"]):
        states = {i["name"]: i for i in items}
        assert states["free"]["liveState"] == "null" and "resourceVersion" not in states["free"]
        assert json.loads(states["own"]["liveState"])["data"] == {"a": "mine"}
    healths = {r["name"]: r["health"]["status"] for r in answers[1]["resources"] if "health" in r}
    assert healths["free"] == "Missing"
    whole = hub.get(f"/api/v1/applications/{name}/managed-resources", **asked)
    assert CANARY in json.dumps(whole), "who may sync it sees what the sync would change"


def sent(hub, token, *manifests):
    answer = hub.client.generic(
        "POST",
        "/api/v1/applications/manifestsWithFiles?compare=true",
        local_body(manifests),
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_files_that_are_sent_make_the_hub_try_nothing(
    hub, sandbox, repo, app, namespace, monkeypatch
):
    repo.commit({"c.yaml": json.dumps(config("own"))})
    name = app(
        repo,
        sandbox,
        namespace,
        name="mine",
        policy={"syncOptions": ["CreateNamespace=true"], "automated": {}},
    )
    hub.wait_status(name, "Synced", "Healthy")
    tried = []
    real = Connection.apply

    def apply(self, kind, manifest, **more):
        if more.get("dry_run") and manifest["metadata"]["name"] == "own":
            tried.append(self._headers.get("Impersonate-User"))
        return real(self, kind, manifest, **more)

    monkeypatch.setattr(Connection, "apply", apply)
    side = config(
        "own", value="new", **{"argocd.argoproj.io/compare-options": "ServerSideDiff=true"}
    )
    spec = hub.get("/api/v1/projects/default")["spec"]
    spec["destinationServiceAccounts"] = [
        {"server": "*", "namespace": "*", "defaultServiceAccount": "low:deployer"}
    ]
    Project.objects.filter(name="default").update(spec=spec)
    change_setting("impersonation", True)

    sent(hub, reader_of(hub), side)
    assert tried == [], "who may only read makes the hub try nothing"

    sent(hub, hub.token, side)
    assert set(tried) == {"system:serviceaccount:low:deployer"}, "as whom the project says"
