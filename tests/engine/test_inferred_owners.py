"""Owners that a resource has without naming them."""

import pytest

from hub.engine.inferred_owners import claim_stems, owner_by, owner_of, stem_of_claim
from hub.engine.resource import ResourceKey

TOKEN = {
    "kubernetes.io/service-account.name": "builder",
    "kubernetes.io/service-account.uid": "u-1",
}
OLM = "operators.coreos.com/v1alpha1"


def manifest(api_version, kind, **annotations):
    metadata = {"name": "n", "namespace": "ns", "annotations": annotations}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


@pytest.mark.parametrize(
    ("child", "owner"),
    [
        (manifest("v1", "Secret", **TOKEN), ("ServiceAccount", "builder", "u-1")),
        (manifest("v1", "Secret"), None),
        (manifest("v1", "Secret", **{**TOKEN, "kubernetes.io/service-account.uid": ""}), None),
        (manifest("v1", "Endpoints"), ("Service", "n", "")),
        (manifest("discovery.k8s.io/v1", "Endpoints"), None),
        (
            manifest(OLM, "ClusterServiceVersion", **{"olm.operatorGroup": "group"}),
            ("OperatorGroup", "group", ""),
        ),
        (manifest(OLM, "ClusterServiceVersion"), None),
        (manifest("v1", "ConfigMap"), None),
    ],
)
def test_an_owner_is_inferred_from_what_a_resource_says(child, owner):
    found = owner_of(child)
    assert (found and (found["kind"], found["name"], found["uid"])) == owner
    assert found is None or (found["inferred"] and not found["controller"])


@pytest.mark.parametrize(
    ("spec", "stems"),
    [
        ({"volumeClaimTemplates": [{"metadata": {"name": "data"}}]}, ["data-web"]),
        ({"volumeClaimTemplates": [5, {"metadata": "x"}, {}]}, []),
        ({"volumeClaimTemplates": "data"}, []),
        ({}, []),
        (None, []),
    ],
    ids=["a template", "odd entries", "no list", "none", "no spec"],
)
def test_claims_of_a_stateful_set_begin_with_template_and_set(spec, stems):
    assert claim_stems({"metadata": {"name": "web"}, "spec": spec}) == stems


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("data-web-0", "data-web"),
        ("data-web-12", "data-web"),
        ("data-web-01", ""),
        ("data-web", ""),
        ("data-web-²", ""),
        ("data-web-0\n", ""),
    ],
)
def test_a_claim_ends_with_the_ordinal_of_its_pod(name, stem):
    assert stem_of_claim(name) == stem


def test_an_inferred_owner_reads_as_a_reference():
    owner = owner_by(ResourceKey("apps", "StatefulSet", "ns", "web"), "u-2")
    assert owner["apiVersion"] == "apps/v1" and owner["uid"] == "u-2"
    assert owner_by(ResourceKey("", "Service", "ns", "web"), "")["apiVersion"] == "v1"
