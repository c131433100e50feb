"""Applications and projects as Kubernetes manifests, the JSON that clients read."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from clusters import live
from clusters.models import HOME_SERVER, Cluster
from hub.engine.plan import HOOK
from hub.engine.tracking import TRACKING_ID
from hub.models import ApiToken
from projects.models import DELAYED, ERRORS, Application, Operation, Project, Revision

API_VERSION = "argoproj.io/v1alpha1"


def stamp(at: datetime | None) -> str | None:
    """Return a time in Kubernetes' format, None for never."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


def filled(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without empty values, as Go's `omitempty`."""
    return {k: v for k, v in data.items() if v not in (None, "", [], {})}


def application_json(
    application: Application,
    *,
    history: list[Revision] | None = None,
    as_of: datetime | None = None,
) -> dict[str, Any]:
    """Return an application in Argo CD's format; `history` and `as_of` are loaded if not given."""
    metadata = filled(
        {
            "name": application.name,
            "namespace": application.namespace,
            "uid": str(application.uid),
            "resourceVersion": str(application.resource_version),
            "generation": application.generation,
            "creationTimestamp": stamp(application.created_at),
            "labels": application.labels,
            "annotations": application.annotations,
            "finalizers": application.finalizers,
            "deletionTimestamp": stamp(application.deletion_requested_at),
            "ownerReferences": _owners(application),
        }
    )
    result = {
        "apiVersion": API_VERSION,
        "kind": "Application",
        "metadata": metadata,
        "spec": application.spec,
        "status": _status(application, history, as_of),
    }
    running = application.operation
    if running is not None and running.phase == "Running":
        result["operation"] = running.request
    return result


def _owners(application: Application) -> list[dict[str, Any]]:
    if not application.owner:
        return []
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "ApplicationSet",
            "name": application.owner,
            "uid": str(application.owner_uid),
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def _status(
    application: Application, history: list[Revision] | None, as_of: datetime | None
) -> dict[str, Any]:
    entries = list(application.history.all()) if history is None else history
    known_at = as_of or as_of_now(application)
    compared = {**application.compared_to}
    if not application.is_multi_source and compared.get("sources"):
        compared["source"] = compared.pop("sources")[0]
    status: dict[str, Any] = {
        "sync": {
            "status": application.sync_status,
            "comparedTo": compared,
            **_revisions(application.revisions, application.is_multi_source),
        },
        "health": filled(
            {
                "status": application.health_status,
                "message": application.health_message,
                "lastTransitionTime": stamp(application.health_changed_at),
            }
        ),
        "resources": application.resources,
        "conditions": application.conditions,
        "summary": application.summary,
        "history": [_history_json(r) for r in entries],
        "reconciledAt": stamp(application.compared_at or application.reconciled_at),
        "flotilla": filled({"stale": is_stale(known_at), "asOf": stamp(known_at)}),
        "controllerNamespace": application.namespace,
    }
    if application.is_multi_source:
        status["sourceTypes"] = application.source_types
    elif application.source_types:
        status["sourceType"] = application.source_types[0]
    if application.operation is not None:
        status["operationState"] = operation_json(
            application.operation, multi=application.is_multi_source
        )
    kept = filled(status)
    kept.setdefault("summary", {})
    return kept


def as_of_now(application: Application) -> datetime | None:
    """Return when the status was last known to be true.

    Between refreshes it stays true while the repository is polled without a change and the
    cluster is watched: an idle application is not refreshed, and yet not stale. A planned
    refresh, such as at the end of a sync window, does not make it doubtful before it is due.
    """
    now, cluster = timezone.now(), application.cluster
    if application.reconciled_at is None or cluster is None or _is_in_doubt(application):
        return application.reconciled_at
    known = [remote.checked_at for remote in application.remotes.all()]
    if not known or None in known or any(r.error for r in application.remotes.all()):
        return application.reconciled_at
    is_watched = cluster.is_synced and cluster.lease_until is not None and cluster.lease_until > now
    if not (cluster.is_home or is_watched):
        return application.reconciled_at
    oldest = min(at for at in known if at is not None)
    return max(application.reconciled_at, min(oldest, application.refresh_at or now, now))


def _is_in_doubt(application: Application) -> bool:
    """Return whether the last refresh could not determine the status."""
    if any(c.get("type") in ERRORS for c in application.conditions):
        return True
    if application.refresh_at is None:
        return False
    is_delayed = any(c.get("type") == DELAYED for c in application.conditions)
    return is_delayed or not application.comparison_digest


def is_stale(known_at: datetime | None) -> bool:
    """Return whether a status is older than two poll intervals."""
    if known_at is None:
        return False
    return timezone.now() - known_at > 2 * (settings.POLL_INTERVAL + settings.POLL_JITTER)


def _revisions(revisions: list[str], multi: bool) -> dict[str, Any]:
    if multi:
        return {"revisions": revisions} if revisions else {}
    return {"revision": revisions[0]} if revisions else {}


def _sources(wanted: list[Any], multi: bool) -> dict[str, Any]:
    if multi:
        return {"sources": wanted}
    return {"source": wanted[0]} if wanted else {}


def _history_json(revision: Revision) -> dict[str, Any]:
    return {
        "id": revision.number,
        **_revisions(revision.revisions, revision.is_multi_source),
        **_sources(revision.sources, revision.is_multi_source),
        **filled(
            {
                "deployedAt": stamp(revision.deployed_at),
                "deployStartedAt": stamp(revision.started_at),
                "initiatedBy": revision.initiated_by,
            }
        ),
    }


def operation_json(operation: Operation, *, multi: bool) -> dict[str, Any]:
    """Return an operation in the format of `status.operationState`."""
    results = [
        step_json(step) for step in operation.steps if step["status"] != "pending" or step["result"]
    ]
    return filled(
        {
            "operation": operation.request,
            "phase": operation.phase,
            "message": operation.message,
            "startedAt": stamp(operation.started_at),
            "finishedAt": stamp(operation.finished_at),
            "retryCount": operation.retries,
            "syncResult": {
                **_revisions(operation.revisions, multi),
                **_sources(operation.sources, multi),
                "resources": results,
            },
        }
    )


_HOOK_PHASES = {
    "applying": "Running",
    "running": "Running",
    "succeeded": "Succeeded",
    "failed": "Failed",
}


def step_json(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step of a plan as an entry of `syncResult.resources`."""
    group, kind, namespace, name = step["key"]
    result = {
        "group": group,
        "version": step["version"],
        "kind": kind,
        "namespace": namespace,
        "name": name,
        "status": step["result"],
        "message": step["message"],
        "syncPhase": step["phase"],
        "hookPhase": _HOOK_PHASES.get(step["status"], ""),
    }
    if step["action"] == HOOK:
        result["hookType"] = step["phase"]
    return {
        k: v
        for k, v in result.items()
        if v or k in ("group", "version", "kind", "namespace", "name")
    }


def project_json(project: Project) -> dict[str, Any]:
    """Return a project in Argo CD's format."""
    metadata = filled(
        {
            "name": project.name,
            "namespace": "argocd",
            "uid": str(project.uid),
            "resourceVersion": str(project.resource_version),
            "generation": project.generation,
            "creationTimestamp": stamp(project.created_at),
            "labels": project.labels,
            "annotations": project.annotations,
            "finalizers": project.finalizers,
        }
    )
    return {
        "apiVersion": API_VERSION,
        "kind": "AppProject",
        "metadata": metadata,
        "spec": project.spec,
        "status": {"jwtTokensByRole": tokens} if (tokens := role_tokens(project.name)) else {},
    }


def role_tokens(project: str) -> dict[str, Any]:
    """Return the tokens of a project's roles as status.jwtTokensByRole: ids and times only."""
    found: dict[str, Any] = {}
    for row in ApiToken.objects.filter(project=project, revoked_at=None).order_by("issued_at"):
        entry = {"id": row.token_id, "iat": int(row.issued_at.timestamp())}
        if row.expires_at:
            entry["exp"] = int(row.expires_at.timestamp())
        found.setdefault(row.role, {"items": []})["items"].append(entry)
    return found


def mirror(manifest: dict[str, Any], *, gone: bool = False) -> None:
    """Update one of the hub's own kinds in the live store, if an application manages it."""
    annotations = manifest["metadata"].get("annotations") or {}
    if TRACKING_ID not in annotations:
        return
    home = Cluster.objects.filter(server=HOME_SERVER).first()
    if home is None:
        return
    group, kind, metadata = "argoproj.io", manifest["kind"], manifest["metadata"]
    if gone:
        live.record(home.pk, [], [f"{group}/{kind}/{metadata['namespace']}/{metadata['name']}"])
    else:
        live.record(home.pk, [live.Seen(manifest, is_whole=True)])


def mirror_application(pk: int) -> None:
    """Update an application in the live store, if another application manages it."""
    application = Application.objects.select_related("cluster", "operation").filter(pk=pk).first()
    if application is not None and TRACKING_ID in application.annotations:
        manifest = application_json(application, history=[])
        mirror({k: v for k, v in manifest.items() if k != "operation"})
