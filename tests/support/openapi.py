"""A small OpenAPI v3 document, as an API server would publish it, for tests of the engine."""

from typing import Any

from hub.engine.schema import Type, small_document, type_of

REF = "#/components/schemas/"


def array(items: Any, kind: str | None = "atomic", keys: list[str] | None = None) -> dict[str, Any]:
    """Return the schema of a list."""
    marks = {"x-kubernetes-list-type": kind} if kind else {}
    return {
        "type": "array",
        "items": items,
        **marks,
        **({"x-kubernetes-list-map-keys": keys} if keys else {}),
    }


def ref(name: str, **more: Any) -> dict[str, Any]:
    """Return a reference to a schema, with a default if one is given."""
    return {**more, "allOf": [{"$ref": REF + name}]} if more else {"$ref": REF + name}


def struct(**fields: Any) -> dict[str, Any]:
    """Return the schema of an object."""
    return {"type": "object", "properties": fields}


TEXT, WHOLE, TRUTH = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
VALUE = {"type": "string", "default": ""}
"""Of a map whose keys people choose, as API servers publish it."""
QUANTITY = ref("io.k8s.apimachinery.pkg.api.resource.Quantity")
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}
EITHER = ref("io.k8s.apimachinery.pkg.util.intstr.IntOrString")


def resource(group: str, version: str, kind: str, **fields: Any) -> dict[str, Any]:
    """Return the schema of a kind."""
    mark = {"group": group, "version": version, "kind": kind}
    return {
        **struct(apiVersion=TEXT, kind=TEXT, metadata=ref("Meta", default={}), **fields),
        "x-kubernetes-group-version-kind": [mark],
    }


SCHEMAS: dict[str, Any] = {
    "Meta": struct(
        name=TEXT,
        namespace=TEXT,
        labels={"type": "object", "additionalProperties": VALUE},
        annotations={"type": "object", "additionalProperties": VALUE},
        finalizers=array(TEXT, "set"),
        ownerReferences=array(struct(uid=TEXT, name=TEXT), "map", ["uid"]),
    ),
    "Selector": {
        **struct(matchLabels={"type": "object", "additionalProperties": VALUE}),
        "x-kubernetes-map-type": "atomic",
    },
    "Port": struct(
        containerPort={**WHOLE, "default": 0}, protocol={**TEXT, "default": "TCP"}, name=TEXT
    ),
    "FieldRef": {**struct(resource=TEXT, divisor=QUANTITY), "x-kubernetes-map-type": "atomic"},
    "Env": struct(name={**TEXT, "default": ""}, value=TEXT, valueFrom=ref("FieldRef")),
    "Container": struct(
        name={**TEXT, "default": ""},
        image=TEXT,
        imagePullPolicy=TEXT,
        args=array(TEXT),
        env=array(ref("Env", default={}), "map", ["name"]),
        ports=array(ref("Port", default={}), "map", ["containerPort", "protocol"]),
        resources=ref("Resources", default={}),
        securityContext=struct(privileged=TRUTH, runAsUser=WHOLE),
    ),
    "Resources": struct(limits=QUANTITIES, requests=QUANTITIES),
    "Toleration": struct(key=TEXT, operator=TEXT, value=TEXT, effect=TEXT, tolerationSeconds=WHOLE),
    "PodSpec": struct(
        containers=array(ref("Container", default={}), "map", ["name"]),
        tolerations=array(ref("Toleration", default={})),
        hostNetwork=TRUTH,
        automountServiceAccountToken=TRUTH,
        securityContext=struct(runAsUser=WHOLE),
    ),
    "Template": struct(metadata=ref("Meta", default={}), spec=ref("PodSpec", default={})),
    "Deployment": resource(
        "apps",
        "v1",
        "Deployment",
        spec=struct(
            replicas=WHOLE,
            paused=TRUTH,
            minReadySeconds=WHOLE,
            selector=ref("Selector"),
            extra=TEXT,
            strategy=struct(type=TEXT, rollingUpdate=struct(maxSurge=EITHER)),
            template=ref("Template", default={}),
        ),
    ),
    "NetworkPolicy": resource(
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        spec=struct(
            ingress=array(
                struct(
                    **{
                        "from": array(
                            struct(podSelector=ref("Selector"), namespaceSelector=ref("Selector"))
                        )
                    }
                )
            )
        ),
    ),
    "ConfigMap": resource(
        "",
        "v1",
        "ConfigMap",
        data={"type": "object", "additionalProperties": VALUE},
        immutable=TRUTH,
    ),
    "Role": resource(
        "rbac.authorization.k8s.io",
        "v1",
        "Role",
        rules=array(struct(verbs=array(TEXT), resources=array(TEXT))),
    ),
    "Secret": resource(
        "",
        "v1",
        "Secret",
        data={"type": "object", "additionalProperties": {"type": "string", "format": "byte"}},
    ),
    "Props": struct(
        minimum={"type": "number"},
        properties={"type": "object", "additionalProperties": ref("Props")},
        default={},
    ),
    "Definition": resource(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        spec=struct(versions=array(struct(schema=ref("Props")))),
    ),
    "Old": resource(
        "old.example",
        "v1",
        "Old",
        spec=struct(
            named={
                **array(struct(name=TEXT), None),
                "x-kubernetes-patch-strategy": "merge",
                "x-kubernetes-patch-merge-key": "name",
            },
            words={**array(TEXT, None), "x-kubernetes-patch-strategy": "merge"},
            plain=array(TEXT, None),
        ),
    ),
    "Widget": resource(
        "example.com",
        "v1",
        "Widget",
        spec=struct(
            size={**WHOLE, "default": 3},
            on=TRUTH,
            maybe={**TEXT, "nullable": True, "default": "d"},
            words=array(TEXT, "set"),
            fixed={**struct(a=TEXT), "x-kubernetes-map-type": "atomic"},
            either={"x-kubernetes-int-or-string": True},
            free={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            refs=array(
                struct(
                    name=TEXT,
                    weight={**WHOLE, "default": 1},
                    mode={
                        **struct(kind=TEXT, level={**WHOLE, "default": 7}),
                        "default": {"kind": "plain"},
                    },
                )
            ),
            parts=array(
                struct(id=TEXT, zone={**TEXT, "default": "home"}, size=WHOLE), "map", ["id", "zone"]
            ),
        ),
    ),
}
DOCUMENT = small_document({"components": {"schemas": SCHEMAS}})


def type_for(manifest: dict[str, Any]) -> Type | None:
    """Return the type of a manifest's kind."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    return type_of(DOCUMENT, group, version, manifest["kind"])
