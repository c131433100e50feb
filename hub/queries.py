"""What can stand in the query of each path: for the description of the REST surface."""

from typing import Any

_BOOL, _INT, _LIST = {"type": "boolean"}, {"type": "integer"}, {"type": "array", "items": {"type": "string"}}  # fmt: skip
_WORDS: dict[str, tuple[str, dict[str, Any]]] = {
    "appNamespace": ("Namespace of the application; the hub's own without it.", {}), "project": ("Its project: then one that is absent is a 404, not a 403.", {}),
    "projects": ("Only of these projects; may be repeated.", _LIST), "name": ("Only the one of this name.", {}), "names": ("Only those of these names, or `namespace/name`; may be repeated.", _LIST), "selector": ("Labels such as `team=a,tier in (web,db)`.", {}),
    "repo": ("Only with this repository.", {}), "fields": ("Dotted paths to keep, `items.metadata.name,…`, or to leave out after a leading minus.", {}),
    "resourceVersion": ("Go on after this version instead of sending everything first.", {}), "limit": ("Most items of a page; all without it.", {**_INT, "minimum": 0}),
    "continue": ("`metadata.continue` of the page before.", {}), "facets": ("Columns whose values are counted, `health,sync`.", {}),
    "refresh": ("`normal` or `hard`: look anew first, and wait for it.", {"enum": ["normal", "hard"]}), "upsert": ("Change the one that exists.", _BOOL),
    "validate": ("false skips what needs the network.", _BOOL), "cascade": ("false keeps the resources.", _BOOL), "propagationPolicy": ("foreground, background or orphan.", {}),
    "serverSideDiff": ("Compare by dry runs of the API server; needs the right to sync.", _BOOL),
    "confirm": ("Confirms what the guard asks about.", _BOOL), "revision": ("Another revision than the spec's.", {}), "revisions": ("One for each of sourcePositions.", _LIST),
    "sourcePositions": ("Sources, from 1.", {"type": "array", "items": {"type": "integer"}}), "noCache": ("Render anew.", _BOOL),
    "group": ("API group of the resource.", {}), "version": ("Its version.", {}), "kind": ("Its kind.", {}), "namespace": ("Its namespace.", {}), "resourceName": ("Its name.", {}),
    "resourceNamespace": ("Its namespace.", {}), "resourceUID": ("Its uid.", {}), "force": ("Delete at once.", _BOOL), "orphan": ("Keep what it owns.", _BOOL), "patchType": ("Kubernetes' type of the patch.", {}),
    "targetManifests": ("Manifests as JSON; may be repeated.", _LIST), "podName": ("Only of this pod.", {}), "container": ("Container of the pods.", {}), "follow": ("Go on as lines come.", _BOOL),
    "tailLines": ("Only so many last lines.", _INT), "sinceSeconds": ("Only of the last seconds.", _INT), "sinceTime": ("Only from this time on.", {}), "untilTime": ("Only until this time.", {}),
    "filter": ("Only lines with this text; a leading ! turns it round.", {}), "matchCase": ("The filter heeds case.", _BOOL), "previous": ("Of the container before.", _BOOL), "download": ("As a file.", _BOOL),
    "sourceIndex": ("Source, from 0.", _INT), "versionId": ("Entry of the history whose sources are meant.", _INT), "appsetNamespace": ("Namespace of the set.", {}), "dryRun": ("Say only what it would generate.", _BOOL),
    "server": ("Only the one with this server.", {}), "id.type": ("server, name or name_escaped: what the path names it by.", {}), "id.value": ("Only the one of this server or name.", {}), "updatedFields": ("Only these fields are changed.", _LIST),
    "appProject": ("Project whose credentials are used.", {}), "forceRefresh": ("Ask the server first.", _BOOL), "credsOnly": ("Store it without asking it.", _BOOL),
    "hostNamePattern": ("Only hosts like this.", {}), "certType": ("ssh or https.", {}), "certSubType": ("Kind of the key.", {}), "keyID": ("Only this key.", {}), "id": ("Name of the token.", {}),
    "compare": ("Answer with the difference to the cluster too.", _BOOL), "url": ("Only of this URL.", {}),
    "health": ("Only with this health; may be repeated.", _LIST), "sync": ("Only with this sync status; may be repeated.", _LIST), "cluster": ("Only on this cluster; may be repeated.", _LIST),
    "operation": ("Only running, waiting or failed.", _LIST), "freshness": ("Only current or stale.", _LIST), "auto": ("Only with auto-sync on or off.", _LIST), "set": ("Only of this set.", _LIST),
    "q": ("Words, and `key:value` as in the search of the page.", {}), "actor": ("Who.", {}), "verb": ("What was done.", {}), "object": ("To what.", {}), "outcome": ("allowed or refused.", {}),
    "from": ("From this time on, as 2026-01-31T00:00:00Z.", {}), "to": ("Until this time.", {}), "format": ("jsonl or csv.", {}), "kinds": ("Some of the kinds.", {}),
    "subject": ("Of whom.", {}), "account": ("Of this account.", {}), "resource": ("Kind of object, as in policies.", {}), "action": ("Action, as in policies.", {}), "at": ("At this time.", {}), "all": ("Also what has ended.", _BOOL), "before": ("metadata.before of the page before.", _INT),
}  # fmt: skip
_APP, _PAGED = "appNamespace project", "sort limit continue facets"
_PLACE = f"{_APP} group version kind namespace resourceName"
_LOGS = f"{_APP} podName namespace group kind resourceName container follow tailLines sinceSeconds sinceTime untilTime filter matchCase previous download"
_A, _S = "/api/v1/applications", "/api/v1/applicationsets"
_TRAIL = "actor project cluster kind object verb outcome from to"
QUERIES: dict[tuple[str, str], str] = {
    ("get", _A): f"name names projects selector repo appNamespace fields {_PAGED} health sync cluster operation freshness auto set q", ("post", _A): "upsert validate appNamespace",
    ("get", f"{_A}/{{name}}"): f"{_APP} refresh fields", ("put", f"{_A}/{{name}}"): f"{_APP} validate", ("patch", f"{_A}/{{name}}"): f"{_APP} validate",
    ("delete", f"{_A}/{{name}}"): f"{_APP} cascade propagationPolicy confirm", ("put", f"{_A}/{{name}}/spec"): f"{_APP} validate", ("post", f"{_A}/{{name}}/sync"): _APP,
    ("post", f"{_A}/{{name}}/rollback"): _APP, ("delete", f"{_A}/{{name}}/operation"): _APP, ("get", f"{_A}/{{name}}/manifests"): f"{_APP} revision revisions sourcePositions noCache",
    ("get", f"{_A}/{{name}}/managed-resources"): f"{_APP} group kind namespace name revision serverSideDiff", ("get", f"{_A}/{{name}}/resource-tree"): _APP,
    ("get", f"{_A}/{{name}}/server-side-diff"): f"{_APP} targetManifests", ("get", f"{_A}/{{name}}/events"): f"{_APP} resourceName resourceNamespace resourceUID",
    ("get", f"{_A}/{{name}}/links"): _APP, ("get", f"{_A}/{{name}}/syncwindows"): _APP, ("get", f"{_A}/{{name}}/logs"): _LOGS, ("get", f"{_A}/{{name}}/pods/{{pod}}/logs"): _LOGS,
    ("get", f"{_A}/{{name}}/resource"): _PLACE, ("post", f"{_A}/{{name}}/resource"): f"{_PLACE} patchType", ("delete", f"{_A}/{{name}}/resource"): f"{_PLACE} force orphan confirm",
    ("get", f"{_A}/{{name}}/resource/actions"): _PLACE, ("post", f"{_A}/{{name}}/resource/actions"): _PLACE, ("get", f"{_A}/{{name}}/resource/links"): _PLACE,
    ("get", f"{_A}/{{name}}/revisions/{{revision}}/metadata"): f"{_APP} sourceIndex versionId", ("get", f"{_A}/{{name}}/revisions/{{revision}}/chartdetails"): f"{_APP} sourceIndex versionId",
    ("get", f"{_A}/{{name}}/revisions/{{revision}}/ocimetadata"): f"{_APP} sourceIndex versionId", ("post", f"{_A}/manifestsWithFiles"): "compare",
    ("get", "/api/v1/stream/applications"): "name names projects selector repo appNamespace resourceVersion fields", ("get", "/api/v1/stream/applications/{name}/resource-tree"): _APP,
    ("get", _S): f"projects selector appsetNamespace fields {_PAGED}", ("post", _S): "upsert dryRun appsetNamespace", ("get", f"{_S}/{{name}}"): "appsetNamespace", ("delete", f"{_S}/{{name}}"): "appsetNamespace",
    ("get", f"{_S}/{{name}}/resource-tree"): "appsetNamespace", ("get", f"{_S}/{{name}}/events"): "appsetNamespace", ("get", "/api/v1/stream/applicationsets"): "name projects selector appsetNamespace resourceVersion",
    ("get", "/api/v1/projects"): f"name {_PAGED}", ("delete", "/api/v1/projects/{name}/roles/{role}/token/{issued}"): "id",
    ("get", "/api/v1/clusters"): f"server name id.type id.value {_PAGED}", ("post", "/api/v1/clusters"): "upsert", ("get", "/api/v1/clusters/{identity}"): "id.type", ("put", "/api/v1/clusters/{identity}"): "id.type updatedFields",
    ("delete", "/api/v1/clusters/{identity}"): "id.type", ("post", "/api/v1/clusters/{identity}/invalidate-cache"): "id.type", ("post", "/api/v1/clusters/{identity}/rotate-auth"): "id.type",
    ("get", "/api/v1/repositories"): f"repo appProject forceRefresh {_PAGED}", ("post", "/api/v1/repositories"): "upsert credsOnly", ("get", "/api/v1/repositories/{repo}"): "appProject forceRefresh",
    ("put", "/api/v1/repositories/{repo}"): "appProject", ("delete", "/api/v1/repositories/{repo}"): "appProject", ("get", "/api/v1/repositories/{repo}/apps"): "revision appProject",
    ("get", "/api/v1/repositories/{repo}/refs"): "appProject forceRefresh", ("get", "/api/v1/repositories/{repo}/helmcharts"): "appProject", ("get", "/api/v1/repositories/{repo}/oci-tags"): "appProject",
    ("post", "/api/v1/repositories/{repo}/appdetails"): "appProject", ("get", "/api/v1/repocreds"): f"url {_PAGED}", ("post", "/api/v1/repocreds"): "upsert",
    ("get", "/api/v1/certificates"): f"hostNamePattern certType certSubType {_PAGED}", ("post", "/api/v1/certificates"): "upsert", ("delete", "/api/v1/certificates"): "hostNamePattern certType certSubType",
    ("get", "/api/v1/gpgkeys"): f"keyID {_PAGED}", ("post", "/api/v1/gpgkeys"): "upsert", ("delete", "/api/v1/gpgkeys"): "keyID", ("get", "/api/v1/account"): _PAGED,
    ("get", "/api/v1/flotilla/audit"): f"{_TRAIL} q limit before", ("get", "/api/v1/flotilla/audit/export"): f"{_TRAIL} format", ("get", "/api/v1/flotilla/audit/reports/changes"): f"{_TRAIL} q",
    ("get", "/api/v1/flotilla/audit/reports/access"): "resource action object cluster at", ("get", "/api/v1/flotilla/audit/reports/deployments"): f"{_TRAIL} q",
    ("get", "/api/v1/flotilla/applications/{name}/diff"): f"{_APP} revision", ("get", "/api/v1/flotilla/sessions"): "account", ("get", "/api/v1/flotilla/tokens"): "account all",
    ("get", "/api/v1/flotilla/explain"): "account subject group resource action object cluster", ("get", "/api/v1/flotilla/who-can"): "resource action object cluster", ("get", "/api/v1/flotilla/grants"): "all",
}  # fmt: skip
SORTED = {
    _A: "name, namespace, project, cluster, health, sync, created, synced", _S: "name, namespace, project, created, health", "/api/v1/projects": "name, created",
    "/api/v1/clusters": "name, server, version, status, project", "/api/v1/repositories": "repo, type, name, project, status", "/api/v1/repocreds": "url, type",
    "/api/v1/certificates": "server, type, subtype", "/api/v1/gpgkeys": "id, owner", "/api/v1/account": "name, enabled",
}  # fmt: skip


def parameters(method: str, path: str) -> list[dict[str, Any]]:
    """Return the query parameters of an operation as OpenAPI has them."""
    found = []
    for name in QUERIES.get((method, path), "").split():
        schema: dict[str, Any]
        if name == "sort":
            text, schema = f"One of {SORTED[path]}; with - before it from the greatest.", {}
        else:
            text, schema = _WORDS[name]
        found.append({"in": "query", "name": name, "description": text, "schema": {"type": "string", **schema}})  # fmt: skip
    return found
