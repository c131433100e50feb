"""A chart that one project may read, or that it has by a way of its own: what was rendered from it
is not given to another project.
"""

import json

import pytest
from support.charts import Charts

from hub.engine.errors import ManifestError, RetryLater, Stalled
from projects import sources
from projects.models import Repository
from projects.sources import charts, git_remotes
from projects.sources.files import MemoryFiles, Recorder, same_inputs
from projects.sources.kustomization import Assembly

pytestmark = pytest.mark.django_db
PERMITTED = {"sourceRepos": ["*"]}


@pytest.fixture
def server():
    git_remotes.forget()
    charts.forget()
    found = Charts()
    yield found
    charts.forget()
    found.server.shutdown()
    found.server.server_close()


def context(project, spec=PERMITTED):
    # Applications of two namespaces of the hub may have one name.
    return sources.Context("app", f"{project}_app", "ns", project, spec)


def load(repo, project, spec=PERMITTED):
    charts.forget()
    source = {"repoURL": repo.url, "targetRevision": "main", "path": "."}
    revisions = [sources.resolve(source, project, force=True)]
    return sources.load([source], revisions, context(project, spec)).manifests


def umbrella(repo, server, repository=""):
    wanted = {"name": "demo", "version": "1.0.0", "repository": repository or server.url}
    about = {"apiVersion": "v2", "name": "outer", "version": "1.0.0", "dependencies": [wanted]}
    repo.commit({"Chart.yaml": json.dumps(about)})


def private(server):
    server.password = "canary"
    mine = {"username": "u", "password": "canary"}
    return Repository.objects.create(
        url=server.url, name="stable", kind="helm", project="mine", credentials=mine
    )


@pytest.mark.parametrize("repository", ["", "@stable"], ids=["by URL", "by name"])
def test_what_was_rendered_from_a_private_dependency_is_for_those_who_may_read_it(
    repo, server, repository
):
    row = private(server)
    umbrella(repo, server, repository)
    assert load(repo, "mine")
    asked = len(server.requests)
    assert load(repo, "mine")
    assert len(server.requests) == asked, "rendered again without a change"

    with pytest.raises((RetryLater, Stalled), match=r"credentials are rejected|is registered"):
        load(repo, "theirs")
    with pytest.raises((RetryLater, Stalled), match="not permitted in project"):
        load(repo, "mine", {"sourceRepos": [repo.url]})
    row.delete()
    with pytest.raises((RetryLater, Stalled), match=r"credentials are rejected|is registered"):
        load(repo, "mine")


def test_a_chart_that_a_project_has_by_its_own_way_is_rendered_for_nobody_else(repo, server):
    umbrella(repo, server)
    genuine = dict(server.archives)
    Repository.objects.create(
        url=server.url, kind="helm", project="theirs", options={"insecure": True}
    )
    server.archives["1.0.0"] = genuine["2.0.0"]
    assert load(repo, "theirs")[0]["data"]["v"] == "2.0.0"
    server.archives.update(genuine)

    assert load(repo, "mine")[0]["data"]["v"] == "1.0.0"


def test_a_chart_of_a_kustomization_is_an_input_of_who_may_read_it(server, settings):
    settings.KUSTOMIZE_OPTIONS = ["--enable-helm"]
    private(server)
    document = {"helmCharts": [{"name": "demo", "repo": server.url, "version": "1.0.0"}]}
    tree = MemoryFiles({"kustomization.yaml": json.dumps(document).encode()})
    files = Recorder({"": tree})
    Assembly(files, context("mine").remote_inputs()).assemble("", dict)

    def holds(project, spec=PERMITTED):
        reached = context(project, spec).remote_inputs().tree
        return same_inputs(files.inputs, {"": tree}, "", reached)

    assert holds("mine")
    assert not holds("theirs")
    with pytest.raises((ManifestError, Stalled), match="not permitted in project"):
        holds("mine", {"sourceRepos": ["https://other/*"]})
