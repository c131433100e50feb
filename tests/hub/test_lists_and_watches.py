"""What the REST surface has beyond Argo CD's: order, pages, counts, requests sent twice,
compression, one watch of everything.
"""

import gzip
import json

import pytest
from django.utils import timezone
from support.sets import elements, manifest
from support.streams import collect

from clusters.models import Cluster
from hub.auth.sessions import issue
from hub.models import (
    OLDEST,
    Account,
    IdempotentResponse,
    access_changed,
    change_setting,
    current_version,
    forget_tombstones,
    next_version,
)
from projects.models import Application, Operation, Project, Repository, Revision

SPEC = {
    "project": "default",
    "source": {"repoURL": "https://git.example/x.git", "path": "."},
    "destination": {"server": "https://kubernetes.default.svc", "namespace": "argocd"},
}


@pytest.fixture
def many(idle_hub):
    Project.objects.create(
        name="team",
        spec={"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]},
    )
    east = Cluster.objects.create(
        name="east", server="https://east.example", labels={"region": "eu"}
    )
    health = ["Healthy", "Degraded", "Healthy", "Progressing", "Healthy", "Degraded", "Healthy"]
    for number, word in enumerate(health):
        row = Application.objects.create(
            name=f"a{number}",
            project="team" if number % 2 else "default",
            spec=SPEC,
            health_status=word,
            sync_status="Synced" if number < 5 else "OutOfSync",
            labels={"tier": "web" if number < 3 else "db"},
            resource_version=next_version(),
            cluster=east if number in (1, 4) else None,
            dest_namespace=f"n{number % 3}",
        )
        if number in (2, 5):
            row.operation = Operation.objects.create(
                application=row, phase="Succeeded", started_at=timezone.now()
            )
            row.save()
    return idle_hub


def names(hub, **query):
    return [a["metadata"]["name"] for a in hub.get("/api/v1/applications", **query)["items"]]


@pytest.mark.parametrize(
    "word", ["name", "namespace", "project", "cluster", "health", "sync", "created", "synced"]
)
@pytest.mark.parametrize("sign", ["", "-"])
def test_every_order_is_the_same_in_pages(many, word, sign):
    whole = names(many, sort=sign + word)
    assert sorted(whole) == [f"a{n}" for n in range(7)]
    if sign:
        assert whole == names(many, sort=word)[::-1]

    found, after = [], ""
    for _ in range(8):
        answer = many.get(
            "/api/v1/applications",
            sort=sign + word,
            limit=2,
            **({"continue": after} if after else {}),
        )
        found += [a["metadata"]["name"] for a in answer["items"]]
        after = answer["metadata"].get("continue", "")
        if not after:
            break

    assert found == whole


def test_orders_say_what_they_say(many):
    assert names(many, sort="health")[:2] == ["a1", "a5"]
    assert names(many, sort="-cluster")[:2] == ["a4", "a1"]
    assert names(many, sort="-synced")[:2] == ["a5", "a2"]


def test_facets_count_what_is_chosen_on_all_pages(many):
    answer = many.get("/api/v1/applications", facets="health,sync", limit=1, project="default")
    assert answer["facets"] == {"health": {"Healthy": 4}, "sync": {"Synced": 3, "OutOfSync": 1}}
    assert len(answer["items"]) == 1
    answer = many.get("/api/v1/applications", facets="health", selector="tier=web")
    assert answer["facets"] == {"health": {"Healthy": 2, "Degraded": 1}}
    answer = many.get("/api/v1/applications", facets="cluster", fields="items.metadata.name")
    assert answer["facets"] == {"cluster": {"east": 2}} and set(answer["items"][0]) == {"metadata"}
    assert names(many, health="Degraded") == ["a1", "a5"]
    assert names(many, cluster="east", sync="Synced") == ["a1", "a4"]
    assert names(many, q="a3") == ["a3"]


def test_facets_tell_nothing_of_what_is_hidden(many):
    Account.objects.create(name="dev", password="!", capabilities=["login"])
    change_setting(
        "rbac", {"policy.csv": "p, dev, applications, get, team/*, allow", "policy.default": ""}
    )
    access_changed("policy", "rbac", None)
    many.token = issue(Account.objects.get(name="dev"), timezone.now())
    answer = many.get("/api/v1/applications", facets="health,project,cluster")
    assert answer["facets"] == {
        "health": {"Degraded": 2, "Progressing": 1},
        "project": {"team": 3},
        "cluster": {"east": 1},
    }


@pytest.mark.parametrize(
    "query",
    [
        {"sort": "colour"},
        {"sort": "--name"},
        {"facets": "colour"},
        {"limit": -1},
        {"limit": "many"},
        {"continue": "%%"},
        {"continue": "W10"},
        {"sort": "health", "continue": "WyJuYW1lIiwiYSIsImEiLCJiIl0"},
        {"sort": "created", "continue": "WyJjcmVhdGVkIiwieCIsImEiLCJiIl0"},
        {"sort": "created", "continue": "WyJjcmVhdGVkIiw5OTk5OTk5OTk5OTk5OTk5OTksImEiLCJiIl0"},
    ],
)
def test_malformed_parameters_of_lists(many, query):
    said = many.get("/api/v1/applications", status=400, **query)
    assert said["message"].startswith(
        next(iter(query if "continue" not in query else {"continue": 1}))
    )


def test_the_other_lists_have_the_same(many):
    for name in ("b", "c", "a"):
        Repository.objects.create(
            url=f"https://git.example/{name}", kind="helm" if name == "b" else "git"
        )
    answer = many.get("/api/v1/repositories", sort="-repo", limit=2, facets="type")
    assert [r["repo"][-1] for r in answer["items"]] == ["c", "b"]
    assert (
        answer["facets"] == {"type": {"git": 2, "helm": 1}}
        and answer["metadata"]["remainingItemCount"] == 1
    )
    rest = many.get(
        "/api/v1/repositories",
        sort="-repo",
        limit=2,
        **{"continue": answer["metadata"]["continue"]},
    )
    assert [r["repo"][-1] for r in rest["items"]] == ["a"] and "continue" not in rest["metadata"]
    assert [c["name"] for c in many.get("/api/v1/clusters", sort="-name")["items"]] == [
        "in-cluster",
        "east",
    ]
    assert [p["metadata"]["name"] for p in many.get("/api/v1/projects", limit=1)["items"]] == [
        "default"
    ]
    for path in ("applicationsets", "account", "repocreds", "certificates", "gpgkeys"):
        assert many.get(f"/api/v1/{path}", limit=5, facets="")["items"] is not None
        assert many.get(f"/api/v1/{path}", sort="colour", status=400)["message"].startswith(
            "sort must be"
        )


# Requests that are sent twice


def send(hub, body, key, method="POST", path="/api/v1/projects", token=""):
    return hub.client.generic(
        method,
        path,
        json.dumps(body),
        content_type="application/json",
        headers={
            "Authorization": f"Bearer {token or hub.token}",
            **({"Idempotency-Key": key} if key else {}),
        },
    )


def test_a_request_sent_twice_is_done_once(idle_hub):
    Account.objects.create(name="bot", password="!", capabilities=["apiKey"])
    path = "/api/v1/account/bot/token"
    first = send(idle_hub, {"id": "ci"}, "k-1", path=path)
    again = send(idle_hub, {"id": "ci"}, "k-1", path=path)
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json() and again["Idempotent-Replayed"] == "true"
    assert Account.objects.get(name="bot").tokens.count() == 1
    kept = IdempotentResponse.objects.get()
    assert first.json()["token"] not in str(kept.__dict__.get("_state")) + str(kept.digest)
    assert send(idle_hub, {"id": "ci"}, "k-2", path=path).status_code == 400, (
        "another key is another request"
    )
    other = send(idle_hub, {"id": "cd"}, "k-1", path=path)
    assert other.status_code == 400 and "another request" in other.json()["message"]


def test_the_stored_answer_is_sealed(idle_hub):
    from django.db import connection

    Account.objects.create(name="bot", password="!", capabilities=["apiKey"])
    token = send(idle_hub, {"id": "ci"}, "k", path="/api/v1/account/bot/token").json()["token"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT answer FROM hub_keptanswer")
        stored = bytes(cursor.fetchone()[0])
    assert token.encode() not in stored and token.split(".")[2].encode() not in stored


def test_a_refused_request_may_be_sent_again_under_its_key(idle_hub):
    dev = Account.objects.create(name="dev", password="!", capabilities=["login"])
    token = issue(dev, timezone.now())
    body = {"project": {"metadata": {"name": "p"}, "spec": {}}}
    assert send(idle_hub, body, "k", token=token).status_code == 403
    change_setting("rbac", {"policy.csv": "p, dev, projects, create, p, allow"})
    access_changed("policy", "rbac", None)
    assert send(idle_hub, body, "k", token=token).status_code == 200


def test_a_key_is_its_callers_own(idle_hub):
    dev = Account.objects.create(name="dev", password="!", capabilities=["login"])
    body = {"project": {"metadata": {"name": "p"}, "spec": {}}}
    assert send(idle_hub, body, "k").status_code == 200
    other = send(idle_hub, body, "k", token=issue(dev, timezone.now()))
    assert other.status_code == 403 and "Idempotent-Replayed" not in other


def test_the_same_request_at_the_same_time(idle_hub):
    IdempotentResponse.objects.create(
        owner=f"account {Account.objects.get(name='admin').pk}", key="k", digest=""
    )
    answer = send(idle_hub, {}, "k")
    assert answer.status_code == 400
    row = IdempotentResponse.objects.get()
    import hashlib

    row.digest = hashlib.sha256(b"POST\0/api/v1/projects\0{}").hexdigest()
    row.save()
    answer = send(idle_hub, {}, "k")
    assert answer.status_code == 409 and "has no answer yet" in answer.json()["message"]
    assert send(idle_hub, {}, "k" * 256).status_code == 400


# Bodies and answers


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b'{"project": {"metadata": {"name": "a", "name": "b"}}}', "'name' twice"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b"[" * 2000, "not valid JSON"),
        (b'{"project": NaN}', "not valid JSON"),
        (b'{"project": 1}{"x": 1}', "not valid JSON"),
        (b'"text"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
    ],
)
def test_bodies_that_cannot_be_read(idle_hub, body, word):
    answer = idle_hub.client.post(
        "/api/v1/projects",
        body,
        content_type="application/json",
        headers={"Authorization": f"Bearer {idle_hub.token}"},
    )
    assert answer.status_code == 400 and word in answer.json()["message"]
    assert Project.objects.count() == 1


def test_deep_bodies_are_refused(idle_hub):
    deep = b'{"project": ' + b'{"a": ' * 900 + b"1" + b"}" * 900 + b"}"
    answer = idle_hub.client.post(
        "/api/v1/projects",
        deep,
        content_type="application/json",
        headers={"Authorization": f"Bearer {idle_hub.token}"},
    )
    assert answer.status_code == 400


def test_answers_are_compressed_for_who_takes_that(many):
    auth = {"Authorization": f"Bearer {many.token}"}
    plain = many.client.get("/api/v1/applications", headers=auth)
    small = many.client.get("/api/v1/applications", headers={**auth, "Accept-Encoding": "gzip, br"})
    assert "Content-Encoding" not in plain and small["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.content) == plain.content
    assert int(small["Content-Length"]) == len(small.content) < len(plain.content) / 3
    assert "Accept-Encoding" in small["Vary"] and "Accept-Encoding" in plain["Vary"]
    assert "Content-Encoding" not in many.client.get(
        "/api/version", headers={"Accept-Encoding": "gzip"}
    )
    same = many.client.get(
        "/api/v1/applications",
        headers={**auth, "Accept-Encoding": "gzip", "If-None-Match": small["ETag"]},
    )
    assert same.status_code == 304


# One watch


def items(found):
    return [json.loads(f)["result"] for f in found]


WATCH = "/api/v1/flotilla/watch"


def test_a_watch_sends_everything_and_then_what_changes(idle_hub):
    idle_hub.post(
        "/api/v1/projects",
        {
            "project": {
                "metadata": {"name": "team"},
                "spec": {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]},
            }
        },
    )

    def act():
        idle_hub.put(
            "/api/v1/projects/team",
            {"project": {"metadata": {"name": "team"}, "spec": {"description": "x"}}},
        )
        idle_hub.post(
            "/api/v1/repositories", {"repo": "https://git.example/a.git"}, credsOnly="true"
        )
        idle_hub.delete("/api/v1/projects/team")

    found = items(collect(idle_hub, WATCH, 7, (4, act)))
    assert {(i["type"], i["kind"]) for i in found[:3]} == {
        ("ADDED", "AppProject"),
        ("ADDED", "Cluster"),
    }
    assert found[3]["type"] == "BOOKMARK"
    later = [(i["type"], i.get("kind")) for i in found[4:] if i["type"] != "BOOKMARK"]
    assert ("ADDED", "Repository") in later and ("DELETED", "AppProject") in later


def test_a_watch_resumes_where_it_ended(idle_hub):
    body = {"project": {"metadata": {"name": "one"}, "spec": {}}}
    idle_hub.post("/api/v1/projects", body)
    known = current_version()
    idle_hub.post("/api/v1/projects", {"project": {"metadata": {"name": "two"}, "spec": {}}})
    idle_hub.delete("/api/v1/projects/one")
    found = items(
        collect(idle_hub, f"{WATCH}?resourceVersion={known}&kinds=AppProject", 3, (9, None))
    )
    assert [
        (i["type"], (i.get("object") or {}).get("metadata", {}).get("name")) for i in found
    ] == [("MODIFIED", "two"), ("DELETED", "one"), ("BOOKMARK", None)]
    assert int(found[2]["resourceVersion"]) == current_version()


def test_a_watch_shows_only_what_its_caller_may_see(many):
    Repository.objects.create(url="https://git.example/secret", resource_version=next_version())
    dev = Account.objects.create(name="dev", password="!", capabilities=["login"])
    change_setting(
        "rbac",
        {
            "policy.csv": (
                "p, dev, applications, get, team/*, allow\n"
                "p, dev, clusters, get, https://east.example, allow"
            ),
            "policy.default": "",
        },
    )
    access_changed("policy", "rbac", None)
    many.token = issue(dev, timezone.now())
    found = items(collect(many, WATCH, 5, (9, None)))
    assert [
        i.get("object", {}).get("server") or i.get("object", {}).get("metadata", {}).get("name")
        for i in found
    ] == ["https://east.example", "a1", "a3", "a5", None]


@pytest.mark.parametrize("query", ["resourceVersion=x", "resourceVersion=99999999", "kinds=Secret"])
def test_watches_that_cannot_be(idle_hub, query):
    answer = idle_hub.client.get(
        f"{WATCH}?{query}", headers={"Authorization": f"Bearer {idle_hub.token}"}
    )
    assert answer.status_code == 400 and answer.json()["message"].startswith(
        query.partition("=")[0]
    )


def test_a_version_before_the_recorded_deletions_is_expired(idle_hub):
    idle_hub.post("/api/v1/projects", {"project": {"metadata": {"name": "one"}, "spec": {}}})
    known = current_version()
    idle_hub.delete("/api/v1/projects/one")
    forget_tombstones(timezone.now())
    answer = idle_hub.client.get(
        f"{WATCH}?resourceVersion={known}", headers={"Authorization": f"Bearer {idle_hub.token}"}
    )
    assert answer.status_code == 410 and answer.json()["code"] == 11, OLDEST


# --- words of Argo CD's own description that few clients use ---


def test_applications_by_their_names(idle_hub):
    for namespace, name in (("argocd", "a"), ("argocd", "b"), ("team", "a")):
        Application.objects.create(
            namespace=namespace,
            name=name,
            project="default",
            spec={"project": "default"},
            resource_version=next_version(),
        )

    def listed(*names):
        return [
            (a["metadata"]["namespace"], a["metadata"]["name"])
            for a in idle_hub.get("/api/v1/applications", names=names)["items"]
        ]

    assert listed("a") == [("argocd", "a"), ("team", "a")]
    assert listed("team/a", "b") == [("team", "a"), ("argocd", "b")]
    assert listed("nothing", "team/b") == []
    lines = collect(idle_hub, "/api/v1/stream/applications?names=team/a&names=b", 2, (9, None))
    assert {
        json.loads(line)["result"]["application"]["metadata"]["namespace"] for line in lines
    } == {"argocd", "team"}


def test_a_stream_of_the_applications_of_a_repository(idle_hub):
    for name in ("a", "b"):
        Application.objects.create(
            name=name,
            project="default",
            spec={"project": "default", "source": {"repoURL": f"https://git.example/{name}.git"}},
            resource_version=next_version(),
        )
    [line] = collect(
        idle_hub, "/api/v1/stream/applications?repo=https://git.example/B", 1, (9, None)
    )
    assert json.loads(line)["result"]["application"]["metadata"]["name"] == "b"


def test_clusters_by_identity(idle_hub):
    Cluster.objects.create(server="https://x", name="x y")
    for query in (
        {"id.value": "https://x"},
        {"id.type": "name", "id.value": "x y"},
        {"id.type": "name_escaped", "id.value": "x%20y"},
    ):
        assert [c["name"] for c in idle_hub.get("/api/v1/clusters", **query)["items"]] == ["x y"]
    assert idle_hub.get("/api/v1/clusters", **{"id.value": "x y"})["items"] == []
    idle_hub.get("/api/v1/clusters", **{"id.type": "odd", "id.value": "x"}, status=400)


def test_sets_of_a_namespace_by_either_word(idle_hub):
    idle_hub.post("/api/v1/applicationsets", manifest("s", elements("a")))
    for word in ("appsetNamespace", "appSetNamespace"):
        [line] = collect(
            idle_hub, f"/api/v1/stream/applicationsets?name=s&{word}=argocd", 1, (9, None)
        )
        assert json.loads(line)["result"]["applicationSet"]["metadata"]["name"] == "s"


def test_repositories_are_asked_when_the_list_shall_be_fresh(idle_hub, repo):
    Repository.objects.create(url=repo.url)
    Repository.objects.create(url=repo.url + "-gone")
    states = {
        r["repo"]: r["connectionState"]["status"]
        for r in idle_hub.get("/api/v1/repositories", forceRefresh="true")["items"]
    }
    assert states == {repo.url: "Successful", repo.url + "-gone": "Failed"}


def test_a_commit_of_a_source_that_was_left(idle_hub, repo):
    commit = repo.commit({"a.yaml": "a: 1"})
    spec = {
        "project": "default",
        "source": {"repoURL": "https://charts.example", "chart": "x", "targetRevision": "1.0.0"},
    }
    app = Application.objects.create(name="a", project="default", spec=spec)
    Revision.objects.create(
        application=app,
        number=3,
        revisions=[commit],
        sources=[{"repoURL": repo.url, "path": "."}],
        deployed_at=timezone.now(),
    )
    path = f"/api/v1/applications/a/revisions/{commit}/metadata"
    assert "chartdetails" in idle_hub.get(path, status=400)["message"]
    assert idle_hub.get(path, versionId=3)["message"]
    assert "versionId" in idle_hub.get(path, versionId=4, status=400)["message"]
