"""What people write after Argo CD's documentation: each generator as it is used there makes the
applications that it makes there.
"""

import pytest
from conftest import config_map
from support.sets import manifest, run

from appsets.models import ApplicationSet
from clusters.models import Cluster
from projects.models import Application, Project

GENERATE = "/api/v1/applicationsets/generate"


@pytest.fixture
def fleet(idle_hub):
    for name, server, labels in (
        ("staging", "https://1.2.3.4", {"env": "staging", "use-kustomize": "true"}),
        ("production", "https://2.4.6.8", {"env": "production"}),
        ("Team.QA_1", "https://9.8.7.6", {"env": "qa", "revision": "v2"}),
    ):
        Cluster.objects.create(
            name=name, server=server, labels=labels, annotations={"owner": "ops"}
        )
    return idle_hub


@pytest.fixture
def tree(repo):
    repo.commit(
        {
            "cluster-addons/argo-workflows/kustomization.yaml": "resources: []",
            "cluster-addons/prometheus-operator/Chart.yaml": "name: p",
            "cluster-addons/exclude-helm-guestbook/Chart.yaml": "name: e",
            "cluster-addons/.hidden/c.yaml": config_map(),
            "cluster-config/engineering/dev/config.json": (
                '{"aws_account": "123456", "asset_id": "11223344", "cluster": {"owner": '
                '"dev@example.org", "name": "engineering-dev", "address": "https://1.2.3.4"}}'
            ),
            "cluster-config/engineering/prod/config.json": (
                '{"aws_account": "123456", "asset_id": "11223344", "cluster": {"owner": '
                '"ops@example.org", "name": "engineering-prod", "address": "https://2.4.6.8"}}'
            ),
            "cluster-charts/cluster1/mychart/values.yaml": "a: 1",
            "cluster-charts/cluster1/myotherchart/values.yaml": "a: 1",
            "cluster-charts/cluster2/mychart/values.yaml": "a: 1",
            "many/list.yaml": "- name: one\n  size: 1\n- name: two\n  size: 2\n",
            "many/empty.yaml": "",
            "nested/services.yaml": (
                "services:\n- name: api\n  port: 80\n- name: web\n  port: 8080\n"
            ),
        }
    )
    return repo


def made(hub, generators, metadata, *, go=True, template=None, **spec):
    """Return name, path, server and labels of what a set makes."""
    body = manifest("s", generators, template, metadata=metadata, **spec)
    body["spec"]["goTemplate"] = go
    if not go:
        del body["spec"]["goTemplateOptions"]
    found = hub.post(GENERATE, {"applicationSet": body})["applications"]
    return [
        (
            a["metadata"]["name"],
            a["spec"]["source"]["path"],
            a["spec"]["destination"]["server"],
            a["metadata"].get("labels", {}),
        )
        for a in sorted(found, key=lambda a: a["metadata"]["name"])
    ]


def to(path="work", server="https://kubernetes.default.svc"):
    return {
        "source": {"repoURL": "https://git.example/repo", "path": path, "targetRevision": "main"},
        "destination": {"server": server, "namespace": "x"},
    }


LIST = [
    {
        "list": {
            "elements": [
                {
                    "cluster": "engineering-dev",
                    "url": "https://1.2.3.4",
                    "values": {"project": "dev"},
                },
                {
                    "cluster": "engineering-prod",
                    "url": "https://2.4.6.8",
                    "values": {"project": "prod"},
                },
            ]
        }
    }
]


@pytest.mark.parametrize("go", [True, False])
def test_list(fleet, go):
    d = "." if go else ""
    found = made(
        fleet,
        LIST,
        {"name": f"{{{{{d}cluster}}}}-guestbook", "labels": {"p": f"{{{{{d}values.project}}}}"}},
        go=go,
        template=to(f"guestbook/{{{{{d}cluster}}}}", f"{{{{{d}url}}}}"),
    )
    assert found == [
        ("engineering-dev-guestbook", "guestbook/engineering-dev", "https://1.2.3.4", {"p": "dev"}),
        (
            "engineering-prod-guestbook",
            "guestbook/engineering-prod",
            "https://2.4.6.8",
            {"p": "prod"},
        ),
    ]


@pytest.mark.parametrize("go", [True, False])
def test_clusters(fleet, go):
    d = "." if go else ""

    def names(block, label=None):
        labels = {"l": label} if label else {}
        return made(
            fleet,
            [{"clusters": block}],
            {"name": f"{{{{{d}nameNormalized}}}}-guestbook", "labels": labels},
            go=go,
            template=to(server=f"{{{{{d}server}}}}"),
        )

    assert [n for n, *_ in names({})] == [
        "in-cluster-guestbook",
        "production-guestbook",
        "staging-guestbook",
        "team.qa-1-guestbook",
    ]
    assert [(n, s) for n, _, s, _ in names({"selector": {"matchLabels": {"env": "staging"}}})] == [
        ("staging-guestbook", "https://1.2.3.4")
    ]
    either = {
        "selector": {
            "matchExpressions": [{"key": "env", "operator": "In", "values": ["qa", "production"]}]
        }
    }
    assert [n for n, *_ in names(either)] == ["production-guestbook", "team.qa-1-guestbook"]
    label = (
        '{{index .metadata.labels "env"}}-{{.values.revision}}'
        if go
        else "{{metadata.labels.env}}-{{values.revision}}"
    )
    wanted = {"selector": {"matchLabels": {"env": "staging"}}, "values": {"revision": "HEAD"}}
    assert names(wanted, label)[0][3] == {"l": "staging-HEAD"}
    inner = (
        '{{index .metadata.annotations "owner"}}-{{.name}}'
        if go
        else "{{metadata.annotations.owner}}-{{name}}"
    )
    assert names({**wanted, "values": {"revision": inner}}, label)[0][3] == {
        "l": "staging-ops-staging"
    }


def test_clusters_as_one_list(fleet):
    patch = (
        "spec:\n  source:\n"
        "    path: '{{range $i, $c := .clusters}}{{if $i}},{{end}}{{$c.name}}{{end}}'\n"
    )
    block = {
        "selector": {"matchExpressions": [{"key": "env", "operator": "Exists"}]},
        "flatList": True,
    }
    found = made(fleet, [{"clusters": block}], {"name": "all"}, template=to(), templatePatch=patch)
    assert [(n, p) for n, p, *_ in found] == [("all", "Team.QA_1,production,staging")]


@pytest.mark.parametrize("go", [True, False])
def test_git_directories(fleet, tree, go):
    block = {
        "repoURL": tree.url,
        "revision": "main",
        "directories": [
            {"path": "cluster-addons/*"},
            {"path": "cluster-addons/exclude-helm-guestbook", "exclude": True},
        ],
    }
    name, path = (
        ("{{.path.basename}}", "{{.path.path}}") if go else ("{{path.basename}}", "{{path}}")
    )
    found = made(fleet, [{"git": block}], {"name": name}, go=go, template=to(path))
    assert [(n, p) for n, p, *_ in found] == [
        ("argo-workflows", "cluster-addons/argo-workflows"),
        ("prometheus-operator", "cluster-addons/prometheus-operator"),
    ]
    segment = "{{index .path.segments 1}}" if go else "{{path[1]}}"
    charts = {
        "repoURL": tree.url,
        "revision": "main",
        "directories": [{"path": "cluster-charts/*/*"}],
        "values": {"cluster": segment},
    }
    values = "{{.values.cluster}}" if go else "{{values.cluster}}"
    found = made(fleet, [{"git": charts}], {"name": f"{values}-{name}"}, go=go, template=to(path))
    assert [n for n, *_ in found] == [
        "cluster1-mychart",
        "cluster1-myotherchart",
        "cluster2-mychart",
    ]


@pytest.mark.parametrize("go", [True, False])
def test_git_files(fleet, tree, go):
    block = {
        "repoURL": tree.url,
        "revision": "main",
        "files": [{"path": "cluster-config/**/config.json"}],
    }
    d = "." if go else ""
    labels = {
        "dir": "{{.path.basename}}" if go else "{{path.basename}}",
        "file": "{{.path.filename}}" if go else "{{path.filename}}",
    }
    found = made(
        fleet,
        [{"git": block}],
        {"name": f"{{{{{d}cluster.name}}}}-guestbook", "labels": labels},
        go=go,
        template=to("apps", f"{{{{{d}cluster.address}}}}"),
    )
    assert found == [
        (
            "engineering-dev-guestbook",
            "apps",
            "https://1.2.3.4",
            {"dir": "dev", "file": "config.json"},
        ),
        (
            "engineering-prod-guestbook",
            "apps",
            "https://2.4.6.8",
            {"dir": "prod", "file": "config.json"},
        ),
    ]
    without = {
        **block,
        "files": [*block["files"], {"path": "cluster-config/*/dev/config.json", "exclude": True}],
    }
    assert len(made(fleet, [{"git": without}], {"name": f"{{{{{d}cluster.name}}}}"}, go=go)) == 1
    many = {"repoURL": tree.url, "revision": "main", "files": [{"path": "many/list.yaml"}]}
    found = made(
        fleet,
        [{"git": many}],
        {"name": f"{{{{{d}name}}}}", "labels": {"n": f"{{{{{d}size}}}}"}},
        go=go,
    )
    assert [(n, labels) for n, _, _, labels in found] == [("one", {"n": "1"}), ("two", {"n": "2"})]


def test_matrix_of_directories_and_clusters(fleet, tree):
    git = {
        "git": {
            "repoURL": tree.url,
            "revision": "main",
            "directories": [{"path": "cluster-addons/*"}],
        }
    }
    clusters = {
        "clusters": {
            "selector": {
                "matchExpressions": [
                    {"key": "env", "operator": "In", "values": ["staging", "production"]}
                ]
            }
        }
    }
    found = made(
        fleet,
        [{"matrix": {"generators": [git, clusters]}}],
        {"name": "{{.path.basename}}-{{.name}}"},
        template=to("{{.path.path}}", "{{.server}}"),
    )
    assert len(found) == 6
    assert found[0][:3] == (
        "argo-workflows-production",
        "cluster-addons/argo-workflows",
        "https://2.4.6.8",
    )


def test_matrix_whose_second_child_reads_the_first(fleet, tree):
    """Clusters chosen by what a file says; a list made out of a file."""
    git = {
        "git": {
            "repoURL": tree.url,
            "revision": "main",
            "files": [{"path": "cluster-config/engineering/dev/config.json"}],
        }
    }
    clusters = {
        "clusters": {
            "selector": {"matchLabels": {"env": '{{if eq .path.basename "dev"}}staging{{end}}'}}
        }
    }
    found = made(
        fleet,
        [{"matrix": {"generators": [git, clusters]}}],
        {"name": "{{.name}}-{{.cluster.name}}"},
    )
    assert [n for n, *_ in found] == ["staging-engineering-dev"]
    services = {
        "git": {
            "repoURL": tree.url,
            "revision": "main",
            "files": [{"path": "nested/services.yaml"}],
        }
    }
    exploded = {"list": {"elementsYaml": "{{ .services | toJson }}"}}
    found = made(
        fleet,
        [{"matrix": {"generators": [services, exploded]}}],
        {"name": "{{.name}}", "labels": {"port": "{{.port}}"}},
    )
    assert [(n, labels) for n, _, _, labels in found] == [
        ("api", {"port": "80"}),
        ("web", {"port": "8080"}),
    ]


def test_matrix_of_two_git_generators_with_a_prefix(fleet, tree):
    apps = {
        "git": {
            "repoURL": tree.url,
            "revision": "main",
            "directories": [{"path": "cluster-addons/a*"}],
            "pathParamPrefix": "app",
        }
    }
    targets = {
        "git": {
            "repoURL": tree.url,
            "revision": "main",
            "files": [{"path": "cluster-config/**/config.json"}],
            "pathParamPrefix": "target",
        }
    }
    found = made(
        fleet,
        [{"matrix": {"generators": [apps, targets]}}],
        {"name": "{{.app.path.basename}}-{{.target.path.basename}}"},
        template=to("{{.app.path.path}}", "{{.cluster.address}}"),
    )
    assert [f[:3] for f in found] == [
        ("argo-workflows-dev", "cluster-addons/argo-workflows", "https://1.2.3.4"),
        ("argo-workflows-prod", "cluster-addons/argo-workflows", "https://2.4.6.8"),
    ]
    plain = made(
        fleet,
        [{"matrix": {"generators": [apps, targets]}}],
        {"name": "{{app.path.basename}}-{{target.path[2]}}"},
        go=False,
    )
    assert [n for n, *_ in plain] == ["argo-workflows-dev", "argo-workflows-prod"]


def test_merge_overrides_one_cluster(fleet):
    base = {
        "clusters": {
            "selector": {"matchExpressions": [{"key": "env", "operator": "Exists"}]},
            "values": {"kafka": "true", "redis": "false"},
        }
    }
    one = {
        "clusters": {
            "selector": {"matchLabels": {"use-kustomize": "true"}},
            "values": {"kafka": "false"},
        }
    }
    two = {
        "list": {
            "elements": [
                {"server": "https://2.4.6.8", "values": {"redis": "true"}},
                {"server": "https://nowhere"},
            ]
        }
    }
    labels = {"kafka": "{{.values.kafka}}", "redis": "{{.values.redis}}"}
    found = made(
        fleet,
        [{"merge": {"mergeKeys": ["server"], "generators": [base, one, two]}}],
        {"name": "{{.nameNormalized}}", "labels": labels},
    )
    assert {n: labels for n, _, _, labels in found} == {
        "staging": {"kafka": "false", "redis": "false"},
        "production": {"kafka": "true", "redis": "true"},
        "team.qa-1": {"kafka": "true", "redis": "false"},
    }
    plain = made(
        fleet,
        [{"merge": {"mergeKeys": ["server"], "generators": [base, one, two]}}],
        {
            "name": "{{nameNormalized}}",
            "labels": {"kafka": "{{values.kafka}}", "redis": "{{values.redis}}"},
        },
        go=False,
    )
    assert [f[3] for f in plain] == [f[3] for f in found]


def test_a_matrix_inside_a_merge_and_a_selector_after_it(fleet, tree):
    pairs = {
        "matrix": {
            "generators": [
                {"list": {"elements": [{"app": "a"}, {"app": "b"}]}},
                {"list": {"elements": [{"env": "dev"}, {"env": "prod"}]}},
            ]
        }
    }
    more = {"list": {"elements": [{"app": "b", "env": "prod", "replicas": "3"}]}}
    entry = {
        "merge": {"mergeKeys": ["app", "env"], "generators": [pairs, more]},
        "selector": {"matchExpressions": [{"key": "env", "operator": "In", "values": ["prod"]}]},
    }
    found = made(
        fleet,
        [entry],
        {"name": "{{.app}}-{{.env}}", "labels": {"r": '{{default "1" .replicas}}'}},
        goTemplateOptions=[],
    )
    assert [(n, labels["r"]) for n, _, _, labels in found] == [("a-prod", "1"), ("b-prod", "3")]


def test_a_patch_and_a_template_of_one_generator(fleet):
    elements = [
        {"name": "a", "autoSync": True, "values": ["v1.yaml", "v2.yaml"]},
        {"name": "b", "autoSync": False, "values": []},
    ]
    patch = (
        "{{- if .autoSync }}\nspec:\n  source:\n    helm:\n      valueFiles:\n"
        "      {{- range .values }}\n      - {{ . }}\n      {{- end }}\n  syncPolicy:\n"
        "    automated:\n      prune: true\n{{- end }}\n"
    )
    own = {
        "metadata": {},
        "spec": {
            "project": "default",
            "source": {
                "repoURL": "https://other.example/repo",
                "targetRevision": "v1",
                "path": "own",
            },
            "destination": {},
        },
    }
    body = manifest(
        "s",
        [
            {"list": {"elements": elements}},
            {"list": {"elements": [{"name": "c", "autoSync": False}], "template": own}},
        ],
        templatePatch=patch,
    )
    found = {
        a["metadata"]["name"]: a["spec"]
        for a in fleet.post(GENERATE, {"applicationSet": body})["applications"]
    }
    assert found["a"]["source"]["helm"] == {"valueFiles": ["v1.yaml", "v2.yaml"]} and found["a"][
        "syncPolicy"
    ] == {"automated": {"prune": True}}
    assert "helm" not in found["b"]["source"] and "syncPolicy" not in found["b"]
    assert (
        found["c"]["source"]["repoURL"],
        found["c"]["source"]["path"],
        found["c"]["destination"]["namespace"],
    ) == ("https://other.example/repo", "own", "x")


def test_a_label_change_wakes_only_the_sets_that_it_concerns(fleet):
    def put(name, block):
        fleet.post(
            "/api/v1/applicationsets",
            manifest(name, [{"clusters": block}], metadata={"name": name + "-{{.nameNormalized}}"}),
        )

    from appsets.tasks import clusters_changed

    put("qa", {"selector": {"matchLabels": {"env": "qa"}}})
    put("staging", {"selector": {"matchLabels": {"env": "staging"}}})
    put("all", {})
    fleet.post(
        "/api/v1/applicationsets", manifest("none", [{"list": {"elements": [{"name": "x"}]}}])
    )
    matrix = {
        "matrix": {
            "generators": [
                {"list": {"elements": [{"env": "qa"}]}},
                {"clusters": {"selector": {"matchLabels": {"env": "{{.env}}"}}}},
            ]
        }
    }
    fleet.post("/api/v1/applicationsets", manifest("late", [matrix]))

    def woken(before, after):
        from datetime import timedelta

        from django.utils import timezone

        later = timezone.now() + timedelta(hours=1)
        ApplicationSet.objects.update(due_at=later)
        clusters_changed(before, after)
        return set(
            ApplicationSet.objects.filter(due_at__lt=later - timedelta(minutes=1)).values_list(
                "name", flat=True
            )
        )

    assert woken('{"env": "staging"}', '{"env": "production"}') == {"staging", "all", "late"}
    assert woken('{"env": "x"}', '{"env": "qa"}') == {"qa", "all", "late"}
    assert woken("", '{"env": "z"}') == {"all", "late"} == woken('{"env": "z"}', "")


def test_sets_of_other_namespaces(fleet, settings):
    body = manifest("s", [{"list": {"elements": [{"name": "a"}]}}], project="team")
    body["metadata"]["namespace"] = "team-a"
    Project.objects.create(
        name="team",
        spec={
            "sourceRepos": ["*"],
            "destinations": [{"server": "*", "namespace": "*"}],
            "sourceNamespaces": ["team-a"],
        },
    )
    assert (
        "HUB_APPSET_NAMESPACES"
        in fleet.post("/api/v1/applicationsets", body, status=400)["message"]
    )
    settings.APPSET_NAMESPACES = ["team-*"]
    fleet.post("/api/v1/applicationsets", body)
    run("s")
    assert Application.objects.get().qualified_name == "team-a/a"
    assert (
        fleet.get("/api/v1/applicationsets/s", appsetNamespace="team-a")["metadata"]["namespace"]
        == "team-a"
    )
    fleet.get("/api/v1/applicationsets/s", status=403)
    other = manifest("t", [{"list": {"elements": [{"name": "b"}]}}])
    other["metadata"]["namespace"] = "team-b"
    fleet.post("/api/v1/applicationsets", other)
    _, conditions = run("t")
    assert conditions["ErrorOccurred"]["status"] == "True" and Application.objects.count() == 1


def test_differences_that_are_ignored_by_jq(fleet):
    source = {
        "sources": [
            {"repoURL": "https://git.example/a", "path": ".", "targetRevision": "main"},
            {"repoURL": "https://git.example/b", "path": ".", "targetRevision": "main"},
        ]
    }
    rules = [
        {
            "jqPathExpressions": [
                '.spec.sources[] | select(.repoURL == "https://git.example/b").targetRevision',
                ".spec.info",
            ]
        }
    ]
    body = manifest(
        "s", [{"list": {"elements": [{"name": "a"}]}}], ignoreApplicationDifferences=rules
    )
    body["spec"]["template"]["spec"] = {**body["spec"]["template"]["spec"], **source}
    del body["spec"]["template"]["spec"]["source"]
    fleet.post("/api/v1/applicationsets", body)
    run("s")
    one = Application.objects.get()
    one.spec["sources"][1]["targetRevision"], one.spec["sources"][0]["targetRevision"] = (
        "hand",
        "hand",
    )
    one.spec["info"] = [{"name": "x", "value": "y"}]
    one.save()
    run("s")
    one.refresh_from_db()
    assert [s["targetRevision"] for s in one.spec["sources"]] == ["main", "hand"] and one.spec[
        "info"
    ] == [{"name": "x", "value": "y"}]
    version = one.resource_version
    run("s")
    one.refresh_from_db()
    assert one.resource_version == version


def test_metrics_of_sets(fleet, settings):
    settings.METRICS_TOKEN = ""
    fleet.post(
        "/api/v1/applicationsets",
        manifest("s", [{"list": {"elements": [{"name": "a"}, {"name": "b"}]}}]),
    )
    run("s")
    text = fleet.client.get(
        "/metrics", headers={"Authorization": f"Bearer {fleet.token}"}
    ).content.decode()
    assert 'argocd_appset_owned_applications{name="s",namespace="argocd"} 2.0' in text
    assert (
        'argocd_appset_info{name="s",namespace="argocd",'
        'resource_update_status="ApplicationSetUpToDate"} 1.0'
    ) in text
    assert "argocd_appset_reconcile_count" in text
