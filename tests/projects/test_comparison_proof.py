"""The proof of the comparison: random manifests of the kinds of a genuine control plane, made from
its own schemas.
"""

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from support.manifests import Schemas, Tried

from clusters import kube, schemas
from clusters.kinds import Refused
from clusters.models import Cluster
from hub.engine.diff import CompareSettings, compare_locally
from hub.engine.normalize import for_comparison, normalize_desired
from hub.engine.resource import split_api_version, with_metadata
from hub.engine.sync_options import resource_options
from projects.destinations import dry_runs
from projects.destinations.destination import Target

pytestmark = pytest.mark.controlplane

ROUNDS = int(os.environ.get("HUB_TEST_COMPARISON_ROUNDS", "200"))
SEED = int(os.environ.get("HUB_TEST_COMPARISON_SEED", "0")) or random.SystemRandom().randrange(
    10**9
)
SUPPORT = Path(__file__).parents[1] / "support"
KINDS = yaml.safe_load((SUPPORT / "kinds.yaml").read_text())
DEFINITIONS = yaml.safe_load((SUPPORT / "definitions.yaml").read_text())
NAMESPACE = "proof"
OPTIONS = resource_options({"metadata": {}}, {})


class Bench:
    """A cluster, compared and changed past the hub's tasks."""

    def __init__(self, control_plane):
        config = {"bearerToken": "admin-token", "tlsClientConfig": {"caData": control_plane["ca"]}}
        self.cluster = Cluster.objects.create(
            server=control_plane["server"], name="proof", config=config
        )
        self.connection = kube.connect(self.cluster)
        self.target = Target(self.cluster)
        self.tried = Tried(self.connection, Schemas(self.connection))
        self.counts = Counter()

    def live(self, manifest):
        kind = kube.kind_of(self.connection, manifest)
        return self.connection.get(
            kind, manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]
        )

    def apply(self, manifest):
        return self.target.apply(normalize_desired(manifest), OPTIONS, None)

    def look(self, manifest, live):
        name = (*split_api_version(manifest["apiVersion"]), manifest["kind"])
        types = schemas.types_of(self.cluster, [name])
        assert name in types, f"the cluster says nothing of {name}"
        settings = CompareSettings()
        return compare_locally(
            normalize_desired(manifest), live, settings, lambda _e, v: v, types[name]
        )

    def is_synced(self, manifest, live):
        """Return whether the hub says Synced, counting whether it had to ask."""
        look = self.look(manifest, live)
        self.counts["looks"] += 1
        if look.is_same:
            return True
        question = dry_runs.Question(look)
        if (
            dry_runs._fitting(
                dry_runs._known(self.cluster, [question.key.text]).get(question.key.text, []),
                question,
                dry_runs._request_digest(question, ""),
            )
            is None
        ):
            self.counts["asked"] += 1
        [found] = dry_runs.settle(self.cluster, "", [question])
        assert not found.note, found.note
        return not found.comparison.modified

    def is_true(self, manifest, live):
        """Return whether applying changes nothing, by asking the server itself."""
        answer = self.connection.apply(
            kube.kind_of(self.connection, manifest), normalize_desired(manifest), dry_run=True
        )
        return for_comparison(answer) == for_comparison(live)


@pytest.fixture(scope="module")
def _definitions(control_plane):
    config = {"bearerToken": "admin-token", "tlsClientConfig": {"caData": control_plane["ca"]}}
    connection = kube.Connection(control_plane["server"], "proof", config)
    for manifest in [
        *DEFINITIONS,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
    ]:
        connection.apply(kube.kind_of(connection, manifest), manifest)
    deadline = time.monotonic() + 20
    while b"compare.example" not in connection.read("/openapi/v3"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    while b"Route" not in connection.read("/openapi/v3/apis/compare.example/v1"):
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def bench(transactional_db, control_plane, _definitions):
    del transactional_db
    schemas.forget()
    yield Bench(control_plane)
    kube._connection.cache_clear()
    schemas.forget()


def named(base, name, connection):
    kind = kube.kind_of(connection, base)
    assert kind is not None, base["kind"]
    namespace = NAMESPACE if kind.namespaced else None
    return with_metadata(base, name=name, namespace=namespace)


def test_random_manifests_are_synced_when_applied_and_differ_when_changed(bench, record_property):
    chance, begun = random.Random(SEED), time.monotonic()
    print(f"\nseed {SEED}, {ROUNDS} rounds")
    for number in range(ROUNDS):
        base = named(KINDS[number % len(KINDS)], f"p{number}", bench.connection)
        one_round(bench, base, chance, f"seed {SEED}, round {number}, {base['kind']}")
    seconds = time.monotonic() - begun
    text = f"seed {SEED}, {ROUNDS} rounds, {dict(bench.counts)} in {seconds:.0f} s"
    record_property("counts", text)
    assert bench.counts["changed in Git"] > ROUNDS / 4
    assert bench.counts["changed live"] > ROUNDS / 8


def one_round(bench, base, chance, where):
    manifest = bench.tried.grown(base, chance, 4)
    created = bench.apply(manifest)
    settled(bench, manifest, f"{where}, created")
    assert bench.live(manifest)["metadata"].get("generation", 1) == created["metadata"].get(
        "generation", 1
    ), where
    change_in_git(bench, manifest, chance, where)
    kind = kube.kind_of(bench.connection, manifest)
    metadata = manifest["metadata"]
    bench.connection.delete(
        kind, metadata.get("namespace", ""), metadata["name"], propagation="Background"
    )


def settled(bench, manifest, where):
    asked = bench.counts["asked"]
    live = bench.live(manifest)
    assert bench.is_synced(manifest, live), (
        f"{where}: OutOfSync right after the apply\n{manifest}\n{live}"
    )
    if bench.counts["asked"] > asked:
        bench.counts["asked after an apply"] += 1


def change_in_git(bench, manifest, chance, where):
    edited = bench.tried.grown(manifest, chance, 1)
    if edited != manifest:
        follow(bench, edited, f"{where}, changed in Git\n{manifest}\n{edited}", "changed in Git")
    live_edit = bench.tried.grown(edited, chance, 2)
    if live_edit == edited:
        return
    # Somebody else writes the whole object, so that fields also go.
    kind = kube.kind_of(bench.connection, edited)
    body = {**bench.live(edited), **{k: v for k, v in live_edit.items() if k != "metadata"}}
    try:
        bench.connection.replace(kind, body)
    except Refused:
        return
    follow(bench, edited, f"{where}, changed live\n{edited}\n{live_edit}", "changed live")


def truth_of(bench, manifest):
    """Return the live resource and whether an apply changes nothing of it.

    Asked again where a controller changed the resource meanwhile, as the rules of a ClusterRole.
    """
    for _ in range(20):
        live = bench.live(manifest)
        truth = bench.is_true(manifest, live)
        if (
            bench.live(manifest)["metadata"]["resourceVersion"]
            == live["metadata"]["resourceVersion"]
        ):
            return live, truth
    raise AssertionError(f"a controller keeps changing {manifest}")


def follow(bench, manifest, where, what):
    try:
        live, truth = truth_of(bench, manifest)
    except Refused:
        # What somebody set cannot be taken back, as `immutable: true` of a Secret.
        bench.counts["refused"] += 1
        return
    assert bench.is_synced(manifest, live) is truth, (
        f"{where}\ntruth {truth}\n{live}\n{bench.look(manifest, live).doubts}"
    )
    if not truth:
        bench.counts[what] += 1
        bench.apply(manifest)
        settled(bench, manifest, f"{where}, synced")
