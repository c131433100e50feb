"""The pure parts of pages: forms and specs, drawings, differences, charts."""

import base64
import re
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from clusters.kubeconfig import config_of
from hub.engine.errors import Invalid
from hub.engine.line_diff import TOO_LONG, Budget
from hub.engine.sync_windows import spans
from projects.pages.application_form import manifest_from
from projects.pages.commit_links import commit_url
from projects.pages.diff_view import MAX_LINES, as_yaml, beside, diff_lines
from projects.pages.explain import explain
from projects.pages.project_form import role_from, rules_of, spec_from, tables, window_from
from projects.pages.resource_tree import count_below, graph, listed, traffic, worst_below
from projects.pages.status_history import areas, backwards, bands

AT = datetime(2026, 3, 2, tzinfo=UTC)
COMMIT = "0123456789" * 4


def node(kind, name, owner="", health="", **more):
    found = {
        "group": "",
        "kind": kind,
        "namespace": "n",
        "name": name,
        "uid": f"u-{kind}-{name}",
        **more,
    }
    if owner:
        found["parentRefs"] = [{"uid": f"u-{owner}"}]
    if health:
        found["health"] = {"status": health}
    return found


TREE = [
    node("Deployment", "web", health="Degraded"),
    node("ReplicaSet", "web-1", "Deployment-web", "Degraded"),
    node(
        "Pod",
        "web-1-b",
        "ReplicaSet-web-1",
        "Degraded",
        info=[
            {"name": "Status Reason", "value": "CrashLoopBackOff"},
            {"name": "Node", "value": "m1"},
        ],
        networkingInfo={"labels": {"app": "web", "x": "1"}},
    ),
    node(
        "Pod", "web-1-a", "ReplicaSet-web-1", "Healthy", networkingInfo={"labels": {"app": "web"}}
    ),
    node("Service", "web", health="Healthy", networkingInfo={"targetLabels": {"app": "web"}}),
    node(
        "Ingress",
        "web",
        health="Healthy",
        networkingInfo={
            "targetRefs": [
                {"group": "", "kind": "Service", "namespace": "n", "name": "web"},
                {"group": "", "kind": "Service", "namespace": "n", "name": "gone"},
            ]
        },
    ),
]


def test_the_list_and_the_drawing_have_the_same_order():
    boxes = listed(
        {"name": "a", "health": "Degraded", "sync": "Synced"},
        TREE,
        {"/Deployment/n/web": {"status": "OutOfSync", "syncWave": 2}},
    )
    assert [(b.depth, b.kind, b.title) for b in boxes] == [
        (0, "Application", "a"),
        (1, "Deployment", "web"),
        (2, "ReplicaSet", "web-1"),
        (3, "Pod", "web-1-b"),
        (3, "Pod", "web-1-a"),
        (1, "Service", "web"),
        (1, "Ingress", "web"),
    ]
    drawn = graph(
        {"nodes": TREE, "orphanedNodes": [node("Secret", "left")]},
        {"/Deployment/n/web": {"status": "OutOfSync", "syncWave": 2}},
    )
    assert [n["k"] for n in drawn["nodes"]][:-1] == [b.key for b in boxes[1:]]
    assert drawn["nodes"][0] == {
        "k": "/Deployment/n/web",
        "kind": "Deployment",
        "ns": "n",
        "name": "web",
        "h": "Degraded",
        "s": "OutOfSync",
        "w": 2,
    }
    assert drawn["nodes"][2]["p"] == "/ReplicaSet/n/web-1" and drawn["nodes"][2]["on"] == "m1"
    assert drawn["nodes"][-1]["o"] is True
    assert set(traffic(TREE)) == {
        ("/Ingress/n/web", "/Service/n/web"),
        ("/Service/n/web", "/Pod/n/web-1-a"),
        ("/Service/n/web", "/Pod/n/web-1-b"),
    }


def test_owners_in_a_circle_end():
    circle = [node("A", "x", "B-y", "Degraded"), node("B", "y", "A-x", "Degraded")]
    assert worst_below(circle, "/A/n/x") is not None
    assert listed({"name": "a", "health": "", "sync": ""}, circle, {})[0].title == "a"


def test_owners_that_are_chained_thousands_deep_are_listed():
    chain = [node("A", str(n), f"A-{n - 1}" if n else "", "Degraded") for n in range(5_000)]
    boxes = listed({"name": "a", "health": "", "sync": ""}, chain, {})
    assert [b.depth for b in boxes] == list(range(5_001))
    assert len(graph({"nodes": chain}, {})["nodes"]) == 5_000
    assert worst_below(chain, "/A/n/0")["name"] == "4999"


def owned_by(name, *owners):
    parents = [{"kind": "A", "namespace": "n", "name": owner} for owner in owners]
    return {"kind": "A", "namespace": "n", "name": name, "parentRefs": parents}


@pytest.mark.parametrize(
    ("nodes", "count"),
    [
        pytest.param([owned_by("top")], 0, id="none"),
        pytest.param([owned_by("set", "top"), owned_by("pod", "set")], 2, id="through another"),
        pytest.param([owned_by("x", "top"), owned_by("y", "top", "x")], 2, id="two owners"),
        pytest.param([owned_by("x", "top"), owned_by("top", "x")], 1, id="a circle"),
    ],
)
def test_the_dialog_of_a_deletion_counts_all_that_a_resource_owns(nodes, count):
    assert count_below(nodes, "/A/n/top") == count


def test_the_cause_names_the_deepest_broken_thing():
    status = {
        "health": "Degraded",
        "sync": "Synced",
        "conditions": [],
        "resources": [
            {
                "group": "",
                "kind": "Deployment",
                "namespace": "n",
                "name": "web",
                "status": "Synced",
                "health": {"status": "Degraded", "message": "0 of 2 available."},
            }
        ],
    }
    cause = explain(status, None, TREE)
    assert (
        cause.text == "0 of 2 available. Pod web-1-b: CrashLoopBackOff." and cause.may_have_events
    )
    waiting = {
        **status,
        "health": "Progressing",
        "resources": [
            {**status["resources"][0], "health": {"status": "Progressing", "message": "waiting"}}
        ],
    }
    assert explain(waiting, None, []).tone == "busy"
    held = {
        **status,
        "health": "Suspended",
        "resources": [{**status["resources"][0], "health": {"status": "Suspended"}}],
    }
    assert explain(held, None, []).lead == "Deployment web is suspended"
    assert explain({**status, "health": "Healthy", "resources": []}, None, []) is None


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "description": st.sampled_from(["text"]),
        "sourceRepos": st.lists(
            st.sampled_from(["a", "!b", "https://x/*"]), min_size=1, unique=True
        ),
        "destinations": st.lists(
            st.sampled_from(
                [{"name": "e", "namespace": "*"}, {"server": "https://k", "namespace": "x"}]
            ),
            min_size=1,
        ),
        "clusterResourceWhitelist": st.lists(
            st.sampled_from([{"group": "", "kind": "Namespace"}, {"group": "apps", "kind": "*"}]),
            min_size=1,
        ),
        "orphanedResources": st.sampled_from(
            [
                {"warn": True},
                {"warn": False, "ignore": [{"group": "", "kind": "Secret", "name": "x"}]},
            ]
        ),
        "flotilla": st.sampled_from(
            [
                {"deletion": {"maxResources": 3}},
                {"audit": {"requireReason": True}, "other": 1},
                {"deletion": {"confirmKinds": ["Secret"]}},
            ]
        ),
        "permitOnlyProjectScopedClusters": st.just(True),
        "roles": st.just([{"name": "r", "policies": []}]),
        "sourceNamespaces": st.just(["a", "b"]),
        "signatureKeys": st.just([{"keyID": "AB"}]),
        "destinationServiceAccounts": st.just(
            [{"server": "*", "namespace": "*", "defaultServiceAccount": "a:b"}]
        ),
    },
)


def form_of(spec):
    """What a browser sends for the form of a spec that nobody touched."""
    fields = {}
    for _table, rows in tables(spec):
        for row in rows:
            for name, _hint, value in row:
                fields.setdefault(name, []).append(value)
    fields["description"] = [spec.get("description", "")]
    if spec.get("permitOnlyProjectScopedClusters"):
        fields["onlyScoped"] = ["on"]
    watched = spec.get("orphanedResources")
    fields["orphaned"] = [
        "" if watched is None else "warn" if watched.get("warn", True) else "watch"
    ]
    own = spec.get("flotilla") or {}
    for name in ("requireReason", "requireTicket"):
        if (own.get("audit") or {}).get(name):
            fields[f"audit.{name}"] = ["on"]
    for name in ("maxResources", "maxPercent"):
        fields[f"deletion.{name}"] = [str((own.get("deletion") or {}).get(name, ""))]
    return fields


@given(SPECS)
def test_an_untouched_form_changes_nothing(spec):
    assert spec_from(spec, form_of(spec)) == spec


def test_roles_and_windows_of_forms():
    fields = {
        "name": ["dev"],
        "description": [""],
        "groups": ["a\n\n b "],
        "policy.resource": ["applications", "logs", "applications"],
        "policy.action": ["sync", "get", ""],
        "policy.object": ["*", "team/web", "x"],
        "policy.effect": ["allow", "deny", "allow"],
        "policy.clusters": ["clusters where env=prod,region=eu", "", ""],
    }
    role = role_from("team", {"name": "old", "jwtTokens": [{"iat": 1}]}, fields)
    assert role == {
        "name": "dev",
        "groups": ["a", "b"],
        "jwtTokens": [{"iat": 1}],
        "policies": [
            (
                'p, proj:team:dev, applications, sync, team/*, allow, "clusters where '
                'env=prod,region=eu"'
            ),
            "p, proj:team:dev, logs, get, team/web, deny",
        ],
    }
    assert [str(r) for r in rules_of(role)] == role["policies"]
    window = window_from(
        {"kind": "deny", "x": 1},
        {
            "kind": ["allow"],
            "schedule": ["0 1 * * *"],
            "duration": ["1h"],
            "applications": ["a, b\nc"],
            "manualSync": ["on"],
        },
    )
    assert window == {
        "x": 1,
        "kind": "allow",
        "schedule": "0 1 * * *",
        "duration": "1h",
        "applications": ["a", "b", "c"],
        "manualSync": True,
    }


def test_an_application_keeps_what_its_form_does_not_name():
    body = yaml.safe_load("""
metadata: {name: web, labels: {a: b}}
spec:
  project: p
  sources: [{repoURL: one, path: a}, {repoURL: two, chart: c, helm: {valuesObject: {x: 1}, parameters: [{name: old, value: v}]}}]
  destination: {server: https://k, namespace: n}
  syncPolicy: {automated: {enabled: false, allowEmpty: true}, syncOptions: [Validate=false, CreateNamespace=true], retry: {limit: 2}}
""")
    same = manifest_from(body, {"part": []})
    assert same == body
    fields = {
        "part": ["general", "helm", "policy"],
        "index": ["1"],
        "project": ["p"],
        "namespace": ["other"],
        "automated": ["on"],
        "selfHeal": ["on"],
        "helm.releaseName": ["r"],
        "helm.valueFiles": ["v.yaml"],
        "helm.values": ["y: 2\n"],
        "helm.parameter.name": ["t", ""],
        "helm.parameter.value": ["1", "9"],
        "helm.parameter.forceString": ["1", ""],
    }
    spec = manifest_from(body, fields)["spec"]
    assert spec["sources"][0] == {"repoURL": "one", "path": "a"}
    assert spec["sources"][1]["helm"] == {
        "releaseName": "r",
        "valueFiles": ["v.yaml"],
        "values": "y: 2\n",
        "parameters": [{"name": "t", "value": "1", "forceString": True}],
    }
    assert spec["destination"] == {"server": "https://k", "namespace": "other"}
    assert spec["syncPolicy"] == {
        "automated": {"allowEmpty": True, "selfHeal": True},
        "syncOptions": ["Validate=false"],
        "retry": {"limit": 2},
    }
    kustomize = manifest_from(
        {"spec": {"source": {"repoURL": "u", "path": "k", "kustomize": {"version": "v5"}}}},
        {
            "part": ["kustomize"],
            "kustomize.images": ["a=b:1", ""],
            "kustomize.replica.name": ["web"],
            "kustomize.replica.count": ["3"],
            "kustomize.label.key": ["k"],
            "kustomize.label.value": ["v"],
        },
    )
    assert kustomize["spec"]["source"]["kustomize"] == {
        "version": "v5",
        "images": ["a=b:1"],
        "replicas": [{"name": "web", "count": 3}],
        "commonLabels": {"k": "v"},
    }


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab: \n", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES, VALUES)
def test_a_difference_has_both_sides_whole(before, after):
    lines = diff_lines(before, after, context=10_000)
    old, new = as_yaml(before).splitlines(), as_yaml(after).splitlines()
    if old == new:
        assert [x for x in lines if x.kind in ("add", "del")] == []
        return
    assert [x.text for x in lines if x.kind in ("same", "del")] == old
    assert [x.text for x in lines if x.kind in ("same", "add")] == new
    pairs = [p for p in beside(lines) if p[0] is None or p[0].kind != "fold"]
    assert [left.text for left, _ in pairs if left] == old
    assert [right.text for _, right in pairs if right] == new


def test_changed_words_are_marked():
    old, new = (
        x
        for x in diff_lines({"image": "web:1.2", "a": 1}, {"image": "web:1.3", "a": 1})
        if x.kind != "same"
    )
    assert [t for t, marked in old.parts if marked] == ["2"]
    assert [t for t, marked in new.parts if marked] == ["3"]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 11),
            st.integers(0, 3),
            st.sampled_from(["Healthy", "Degraded", "Unknown"]),
        ),
        max_size=30,
    ),
    st.lists(st.integers(-3, 11), min_size=4, max_size=4),
)
def test_charts_go_back_to_what_was(moves, births):
    """The counts of each hour are those that a walk forwards has."""
    buckets = [AT + timedelta(hours=n) for n in range(12)]
    states = dict.fromkeys(range(4), "")
    changes, born, expected = {}, {}, []
    for hour, at in enumerate(buckets):
        for app, birth in enumerate(births):
            if birth == hour or (hour == 0 and birth < 0):
                states[app] = "Unknown"
                if birth >= 0:
                    born[at] = born.get(at, 0) + 1
        for when, app, after in moves:
            if when == hour and states[app] and states[app] != after:
                key = (states[app], after)
                changes.setdefault(at, {})
                changes[at][key] = changes[at].get(key, 0) + 1
                states[app] = after
        counts = {}
        for state in states.values():
            if state:
                counts[state] = counts.get(state, 0) + 1
        expected.append(counts)
    assert backwards(expected[-1], changes, born, buckets) == expected


def test_areas_and_bands_fill_their_place():
    paths = dict(areas([{"a": 1}, {"a": 1, "b": 1}], ("a", "b")))
    assert paths["a"] == "M0.0 55.0L400.0 55.0L400.0 110.0L0.0 110.0Z"
    assert areas([{}, {}], ("a",)) == []
    parts = bands(
        "",
        [(AT - timedelta(days=1), "Healthy"), (AT + timedelta(hours=6), "Degraded")],
        AT,
        AT + timedelta(hours=24),
    )
    assert [(w, x, width) for w, x, width, *_ in parts] == [
        ("Healthy", 0, 100),
        ("Degraded", 100, 300),
    ]


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://github.com/a/b.git", f"https://github.com/a/b/commit/{COMMIT}"),
        ("git@github.com:a/b.git", f"https://github.com/a/b/commit/{COMMIT}"),
        (
            "ssh://git@gitlab.example:2222/a/b/c.git",
            f"https://gitlab.example/a/b/c/-/commit/{COMMIT}",
        ),
        ("https://user:token@gitlab.com/a/b", f"https://gitlab.com/a/b/-/commit/{COMMIT}"),
        ("https://bitbucket.org/a/b", f"https://bitbucket.org/a/b/commits/{COMMIT}"),
        ("https://dev.azure.com/o/p/_git/r", f"https://dev.azure.com/o/p/_git/r/commit/{COMMIT}"),
        ("https://gitea.example/a/b", f"https://gitea.example/a/b/commit/{COMMIT}"),
        ("https://git.example/a/b", ""),
        ("javascript:alert(1)//github.com/x", ""),
        (
            'https://github.com/a/"><script>',
            f"https://github.com/a/%22%3E%3Cscript%3E/commit/{COMMIT}",
        ),
    ],
)
def test_commits_have_pages_at_known_hosts(url, page):
    assert commit_url(url, COMMIT) == page
    assert commit_url(url, "main") == ""


def test_windows_of_a_week():
    night = {"kind": "deny", "schedule": "0 22 * * *", "duration": "8h"}
    found = spans(night, AT, AT + timedelta(days=2))
    assert found == [
        (AT, AT + timedelta(hours=6)),
        (AT + timedelta(hours=22), AT + timedelta(hours=30)),
        (AT + timedelta(hours=46), AT + timedelta(hours=48)),
    ]
    overlapping = {"schedule": "0 * * * *", "duration": "90m"}
    assert spans(overlapping, AT, AT + timedelta(hours=5)) == [(AT, AT + timedelta(hours=5))]


def test_a_kubeconfig_is_taken_or_refused_with_a_next_step():
    pem = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n").decode()
    document = {
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {
                "name": "c",
                "cluster": {"server": "https://k:6443", "certificate-authority-data": pem},
            }
        ],
        "users": [{"name": "u", "user": {"client-certificate-data": pem, "client-key-data": pem}}],
    }
    found = config_of(document)
    assert (found["name"], found["server"]) == ("a", "https://k:6443")
    assert found["config"]["tlsClientConfig"]["certData"].startswith("-----BEGIN")
    for change, words in (
        ({"users": [{"name": "u", "user": {"exec": {"command": "aws"}}}]}, "signs in by a program"),
        (
            {"users": [{"name": "u", "user": {"client-key": "/etc/key"}}]},
            "names a file of your machine",
        ),
        ({"clusters": []}, "names no cluster with a server"),
        ({"current-context": "b"}, "has no context 'b'"),
        (
            {
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {"server": "https://k", "certificate-authority-data": "%%"},
                    }
                ]
            },
            "must be base64",
        ),
    ):
        with pytest.raises(Invalid, match=words):
            config_of({**document, **change})
    with pytest.raises(Invalid, match="must be a document"):
        config_of("text")


HELD = "\n".join(["a"] * 20_000)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(HELD, "\n".join(["b", *["a"] * 9, "c"]), id="equal lines"),
        pytest.param("a\nb\n" * 20_000, "b\na\na\n" * 20_000, id="two lines in turn"),
        pytest.param(
            "\n".join(["a " * 290] * 3_000), "\n".join(["b" + " a" * 280] * 3_000), id="equal words"
        ),
        pytest.param(
            "\n".join(f"{n} b a" * 40 for n in range(2_000)),
            "\n".join(f"a {n} b" * 40 for n in range(2_000)),
            id="words in turn",
        ),
    ],
)
def test_no_text_blocks_a_difference(before, after):
    budget = Budget()
    words = sum(len(t.split()) for t in (before, after))

    lines = diff_lines({"data": {"a": before}}, {"data": {"a": after}}, budget=budget)

    assert budget.left >= -words, "what is over the budget is one pass over the texts"
    assert {x.kind for x in lines} >= {"del", "add"}
    assert len(lines) <= 2 * MAX_LINES + 3
    assert re.search("more lines|cut after", str([x.text for x in lines if x.kind == "fold"]))


def test_what_is_too_long_to_compare_is_said():
    lines = diff_lines(["a", "b"] * 20_000, ["b", "a", "a"] * 20_000)
    assert TOO_LONG in lines[0].text and lines[0].kind == "fold"
    folds = [x.text for x in lines if x.kind == "fold"]
    assert [f for f in folds if "more" in f] == [
        "38000 more lines removed",
        "58000 more lines added",
    ]
