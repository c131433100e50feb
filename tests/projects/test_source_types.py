"""The list of source types is the only place that names them."""

import pytest
from conftest import config_map

from hub.engine.errors import Invalid, Stalled
from projects.sources import source_types
from projects.sources.files import MemoryFiles
from projects.sources.source_types import SOURCE_TYPES, SourceType, kind_of

BUCKETS = {}


def _check(url, field):
    if url.count("/") != 2:
        raise Invalid(f"{field}: {url} must be bucket://NAME")


def _resolve(source, _project, _freshness):
    versions = BUCKETS.get(source["repoURL"])
    if not versions:
        raise Stalled("SourceMissing", f"{source['repoURL']}: not found")
    return max(versions)


BUCKET = SourceType(
    "bucket",
    lambda source: source.get("repoURL", "").startswith("bucket://"),
    _check,
    _resolve,
    lambda source, revision, _project, _spec: MemoryFiles(BUCKETS[source["repoURL"]][revision]),
)


@pytest.fixture
def with_buckets(monkeypatch):
    monkeypatch.setattr(source_types, "SOURCE_TYPES", {"bucket": BUCKET, **SOURCE_TYPES})
    BUCKETS.clear()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        pytest.param({"repoURL": "https://git.example/a.git", "path": "."}, "git", id="https"),
        pytest.param({"repoURL": "git@git.example:a.git", "path": "."}, "git", id="ssh"),
        pytest.param({"repoURL": "oci://r.example/a", "path": "."}, "oci", id="artifact"),
        pytest.param({"repoURL": "https://r.example", "chart": "a"}, "helm", id="chart"),
        pytest.param({"repoURL": "oci://r.example", "chart": "a"}, "helm", id="chart by oci"),
        pytest.param({}, "git", id="nothing"),
    ],
)
def test_the_first_type_that_recognizes_a_source_is_its_type(source, name):
    assert kind_of(source) == name


def test_an_entry_of_the_list_is_a_whole_source_type(hub, sandbox, app, namespace, with_buckets):
    """Nothing else names the types: checks, refreshes and syncs follow from the entry."""
    BUCKETS["bucket://store"] = {"v1": {"a.json": config_map("one").encode()}}

    name = app("bucket://store", sandbox, namespace)
    hub.wait_status(name, sync="OutOfSync", revision="v1")

    BUCKETS["bucket://store"]["v2"] = {"a.json": config_map("two").encode()}
    hub.get(f"/api/v1/applications/{name}", refresh="normal")
    hub.wait_status(name, sync="OutOfSync", revision="v2")
    hub.post(f"/api/v1/applications/{name}/sync", {})
    hub.wait_operation(name)
    assert hub.wait_status(name, sync="Synced")["status"]["resources"][0]["name"] == "two"


def test_the_url_of_a_new_type_is_checked_by_its_entry(hub, sandbox, namespace, with_buckets):
    place = {"server": sandbox.server, "namespace": namespace}
    source = {"repoURL": "bucket://store/folder", "path": "."}
    spec = {"project": "default", "source": source, "destination": place}
    body = {"metadata": {"name": "web"}, "spec": spec}
    answer = hub.post("/api/v1/applications", body, status=400)
    assert "must be bucket://NAME" in str(answer)
