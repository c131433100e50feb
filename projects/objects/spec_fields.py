"""The types of the fields of applications and projects.

Source: Argo CD's custom resource definitions.
"""

from typing import Any

from hub.engine.shape_check import ANY, TEXT, TRUTH, WHOLE, Shape

_MAP: Shape = {"*": TEXT}
_RESOURCE = {"group": TEXT, "kind": TEXT, "name": TEXT, "namespace": TEXT}
_VARIABLE = {"name": TEXT, "value": TEXT, "code": TRUTH}

SOURCE: dict[str, Any] = {
    **dict.fromkeys(
        ("repoURL", "path", "targetRevision", "chart", "ref", "name", "tagPrefix"), TEXT
    ),
    "helm": {
        **dict.fromkeys(("releaseName", "values", "version", "namespace", "kubeVersion"), TEXT),
        **dict.fromkeys(
            (
                "passCredentials",
                "ignoreMissingValueFiles",
                "skipCrds",
                "skipTests",
                "skipSchemaValidation",
            ),
            TRUTH,
        ),
        "valueFiles": [TEXT],
        "apiVersions": [TEXT],
        "valuesObject": {},
        "parameters": [{"name": TEXT, "value": TEXT, "forceString": TRUTH}],
        "fileParameters": [{"name": TEXT, "path": TEXT}],
    },
    "kustomize": {
        **dict.fromkeys(("namePrefix", "nameSuffix", "version", "namespace", "kubeVersion"), TEXT),
        **dict.fromkeys(
            (
                "forceCommonLabels",
                "forceCommonAnnotations",
                "commonAnnotationsEnvsubst",
                "labelWithoutSelector",
                "labelIncludeTemplates",
                "ignoreMissingComponents",
            ),
            TRUTH,
        ),
        "images": [TEXT],
        "components": [TEXT],
        "apiVersions": [TEXT],
        "commonLabels": _MAP,
        "commonAnnotations": _MAP,
        "replicas": [{"name": TEXT}],
        "patches": [{"path": TEXT, "patch": TEXT, "target": _MAP, "options": {"*": TRUTH}}],
    },
    "directory": {
        "recurse": TRUTH,
        "include": TEXT,
        "exclude": TEXT,
        "jsonnet": {"extVars": [_VARIABLE], "tlas": [_VARIABLE], "libs": [TEXT]},
    },
    "plugin": {
        "name": TEXT,
        "env": [{"name": TEXT, "value": TEXT}],
        "parameters": [{"name": TEXT, "string": TEXT, "map": _MAP, "array": [TEXT]}],
    },
}

_INFO: Shape = [{"name": TEXT, "value": TEXT}]
_RETRY: Shape = {
    "limit": WHOLE,
    "refresh": TRUTH,
    "backoff": {"duration": ANY, "factor": WHOLE, "maxDuration": ANY},
}

APPLICATION: dict[str, Any] = {
    "project": TEXT,
    "source": SOURCE,
    "sources": [SOURCE],
    "destination": _MAP,
    "revisionHistoryLimit": WHOLE,
    "info": _INFO,
    "syncPolicy": {
        "automated": dict.fromkeys(("prune", "selfHeal", "allowEmpty", "enabled"), TRUTH),
        "syncOptions": [TEXT],
        "retry": _RETRY,
        "managedNamespaceMetadata": {"labels": _MAP, "annotations": _MAP},
    },
    "ignoreDifferences": [
        {
            **_RESOURCE,
            "jsonPointers": [TEXT],
            "jqPathExpressions": [TEXT],
            "managedFieldsManagers": [TEXT],
        }
    ],
}

PROJECT: dict[str, Any] = {
    "description": TEXT,
    "sourceRepos": [TEXT],
    "sourceNamespaces": [TEXT],
    "permitOnlyProjectScopedClusters": TRUTH,
    "destinations": [{"server": TEXT, "name": TEXT, "namespace": TEXT}],
    **{
        f: [_RESOURCE]
        for f in (
            "clusterResourceWhitelist",
            "clusterResourceBlacklist",
            "namespaceResourceWhitelist",
            "namespaceResourceBlacklist",
        )
    },
    "orphanedResources": {"warn": TRUTH, "ignore": [_RESOURCE]},
    "signatureKeys": [{"keyID": TEXT}],
    "destinationServiceAccounts": [
        {"server": TEXT, "namespace": TEXT, "defaultServiceAccount": TEXT}
    ],
    "roles": [
        {
            "name": TEXT,
            "description": TEXT,
            "policies": [TEXT],
            "groups": [TEXT],
            "jwtTokens": [{"iat": WHOLE, "exp": WHOLE, "id": TEXT}],
        }
    ],
    "syncWindows": [
        {
            **dict.fromkeys(("kind", "schedule", "duration", "timeZone", "description"), TEXT),
            **dict.fromkeys(("manualSync", "andOperator", "syncOverrun"), TRUTH),
            "applications": [TEXT],
            "namespaces": [TEXT],
            "clusters": [TEXT],
        }
    ],
    "flotilla": {
        "audit": {"requireReason": TRUTH, "requireTicket": TRUTH, "ticketPattern": TEXT},
        "deletion": {},
        "childProjects": [TEXT],
    },
}

SYNC: dict[str, Any] = {
    "revision": TEXT,
    "revisions": [TEXT],
    "sourcePositions": [WHOLE],
    "prune": TRUTH,
    "dryRun": TRUTH,
    "resources": [{**_RESOURCE, "exclude": TRUTH}],
    "manifests": [TEXT],
    "strategy": {"apply": {"force": TRUTH}, "hook": {"force": TRUTH}},
    "retryStrategy": _RETRY,
    "infos": _INFO,
}
