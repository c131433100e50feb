"""What charts ask of a cluster: every version that it serves, and again when it serves others."""

import json

import pytest
import yaml

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.capabilities.example}
spec:
  group: capabilities.example
  scope: Namespaced
  names: {kind: Gadget, plural: gadgets, singular: gadget}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
    - {name: v1alpha1, served: true, storage: false, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
    - {name: v1alpha0, served: false, storage: false, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
"""
ASKED = [
    "v1",
    "apps/v1/Deployment",
    "autoscaling/v1",
    "autoscaling/v2/HorizontalPodAutoscaler",
    "capabilities.example/v1",
    "capabilities.example/v1/Gadget",
    "capabilities.example/v1alpha1",
    "capabilities.example/v1alpha1/Gadget",
    "capabilities.example/v1alpha0",
    "nope.example/v1",
]
CHART = {
    "asks/Chart.yaml": "apiVersion: v2\nname: asks\nversion: 1.0.0\n",
    "asks/templates/a.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: asked}\ndata:\n"
        "{{- range list " + " ".join(f'"{a}"' for a in ASKED) + " }}\n"
        '  {{ . | replace "/" "_" }}: "{{ $.Capabilities.APIVersions.Has . }}"\n{{- end }}\n'
    ),
    "plain/Chart.yaml": "apiVersion: v2\nname: plain\nversion: 1.0.0\n",
    "plain/templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain}\n",
}


def asked(hub, name):
    found = hub.get(f"/api/v1/applications/{name}/managed-resources")["items"]
    data = next(json.loads(r["targetState"])["data"] for r in found if r["name"] == "asked")
    return {api for api in ASKED if data[api.replace("/", "_")] == "true"}


GADGETS = {f"capabilities.example/{v}{k}" for v in ("v1", "v1alpha1") for k in ("", "/Gadget")}


@pytest.mark.controlplane
def test_a_definition_that_appears_renders_again_what_asked(hub, genuine, repo, app, namespace):
    repo.commit(CHART)
    name, other = (app(repo, genuine, namespace, path=p) for p in ("asks", "plain"))
    for one in (name, other):
        hub.wait_status(one, "OutOfSync")
    usual = {"v1", "apps/v1/Deployment", "autoscaling/v1", "autoscaling/v2/HorizontalPodAutoscaler"}
    assert asked(hub, name) == usual
    before = hub.application(other)["status"]["reconciledAt"]
    try:
        genuine.apply(yaml.safe_load(CRD))

        hub.wait(lambda: asked(hub, name) == usual | GADGETS, "the new versions", 30)

        assert hub.application(other)["status"]["reconciledAt"] == before, "it asked nothing"
    finally:
        group, kind = "apiextensions.k8s.io", "CustomResourceDefinition"
        genuine.delete(group, kind, "", "gadgets.capabilities.example", propagation="Background")
    hub.wait(lambda: asked(hub, name) == usual, "the versions as they were", 30)
