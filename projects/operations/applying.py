"""Carry out one step of a sync: apply a resource or run a hook."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from clusters.kinds import Refused
from clusters.models import LiveResource
from hub.engine import health
from hub.engine.errors import Forbidden, Stalled
from hub.engine.health import HOOK_FINALIZER
from hub.engine.plan import FAILED, HOOK, PENDING, RUNNING, Step
from hub.engine.prerequisites import Refusal, prerequisite_of
from hub.engine.resource import Manifest, annotations_of, with_metadata
from hub.engine.status import Health
from projects.access import refusal_audit
from projects.destinations.destination import PendingDeletion
from projects.operations.planning import Run, is_forced, live_state, manifest_of, refusal_of

OPERATION_ID = "flotilla.io/operation-id"

SETTLE_SECONDS = 10.0
"""How long to retry a refusal that an earlier step is about to resolve, such as a quota."""


def execute(run: Run, number: int, until: float) -> Step:
    """Apply the resource or hook of a step, and return the step with its new state.

    A step that waits for the deletion of a resource stays pending. Units: `until` as
    `time.monotonic`: refusals that an earlier step may resolve are retried until then.
    """
    step_ = run.steps[number]
    manifest = manifest_of(run, step_)
    if manifest is None:
        return _failed(step_, f"{step_.key} is no longer in the source")
    # The project may have changed since the operation was planned.
    refusal = refusal_of(run, step_)
    if refusal:
        refusal_audit.refused(run.operation, refusal)
        return _failed(step_, refusal)
    while True:
        try:
            apply = _apply_hook if step_.action == HOOK else _apply
            return apply(run, step_, manifest)
        except PendingDeletion as pending:
            return replace(step_, status=PENDING, message=str(pending))
        except Stalled as error:
            return _failed(step_, error.message)
        except Refused as refused:
            before = prerequisite_of(run.steps, number, Refusal(refused.status, refused.message))
            if before is None or time.monotonic() > until:
                return _failed(step_, refused.message)
        time.sleep(0.3)


def _failed(step_: Step, message: str) -> Step:
    return replace(step_, status=FAILED, result="SyncFailed", message=message)


def _apply(run: Run, step_: Step, manifest: Manifest) -> Step:
    options = run.resource_options(manifest)
    is_forced_ = is_forced(run, manifest)
    # Live values that are preserved must not come from a store that a watch has yet to update.
    keeps_live = run.preserved is not None and run.preserved.concerns(manifest)
    current = _current(run, step_, is_fresh=is_forced_ or options.has("Replace") or keeps_live)
    if step_.synced and is_forced_ and options.has("Replace") and current is not None:
        return _applied(step_, "unchanged")
    published = _published(run, step_)
    try:
        result = run.target.apply(
            manifest, options, current, preserved=run.preserved, force=run.force
        )
    except Refused as refused:
        # A Job cannot be replaced, even if nothing differs.
        if refused.status == 422 and step_.synced and options.has("Replace"):
            return _applied(step_, "unchanged")
        raise
    before = (current or {}).get("metadata", {}).get("resourceVersion")
    after = result["metadata"].get("resourceVersion")
    if step_.defines and not run.cluster.is_home:
        _await_definition(run, step_, result, _changed(current, result, published))
    word = "created" if current is None else "unchanged" if before == after else "configured"
    return _applied(step_, word)


def _applied(step_: Step, word: str) -> Step:
    key = step_.key
    where = f"{key.kind.lower()}{f'.{key.group}' if key.group else ''}/{key.name}"
    return replace(step_, status=RUNNING, result="Synced", message=f"{where} {word}")


def _current(run: Run, step_: Step, *, is_fresh: bool) -> Manifest | None:
    if is_fresh and not run.target.is_home(step_.key):
        return run.target.get(step_.key, step_.version)
    current = live_state(run, step_.key)
    rows = LiveResource.objects.filter(cluster=run.cluster, key=step_.key.text)
    if current is None and rows.exists():
        return run.target.get(step_.key, step_.version)
    return current


def _published(run: Run, step_: Step) -> dict[str, str]:
    if step_.defines is None or step_.synced or run.cluster.is_home:
        return {}
    return run.target.published(step_.defines[0])


def _schemas(definition: Manifest | None) -> dict[str, Any]:
    versions = ((definition or {}).get("spec") or {}).get("versions") or []
    return {v["name"]: v.get("schema") for v in versions if v.get("served")}


def _changed(
    current: Manifest | None, result: Manifest, published: Mapping[str, str]
) -> dict[str, str]:
    """Return the versions of a definition with a new schema, and the hash published before."""
    old = _schemas(current)
    return {
        version: published.get(version, "")
        for version, schema in _schemas(result).items()
        if old.get(version) != schema
    }


def _await_definition(
    run: Run, step_: Step, definition: Manifest, changed: Mapping[str, str]
) -> None:
    """Wait for a definition to be established, and for its versions and schemas to be served.

    Later steps may need them. Source: as Argo CD, which waits three seconds and then continues.
    """
    until = time.monotonic() + (SETTLE_SECONDS if changed else 3)
    while not _is_served(run, step_, definition, changed) and time.monotonic() < until:
        time.sleep(0.2)
    run.target.connection.kinds(fresh=True)


def _is_served(run: Run, step_: Step, definition: Manifest, changed: Mapping[str, str]) -> bool:
    current = run.target.get(step_.key, step_.version)
    found = health.assess(current, {}) if current else None
    if found is None or found.status is not Health.HEALTHY:
        return False
    if not changed or step_.defines is None:
        return True
    group, kind = step_.defines
    connection = run.target.connection
    connection.kinds(fresh=True)
    if any(connection.kind(group, kind, version) is None for version in _schemas(definition)):
        return False
    published = run.target.published(group)
    return not published or all(
        published.get(version, "") not in ("", old) for version, old in changed.items()
    )


def operation_id(run: Run) -> str:
    """Return the id that hooks of this attempt of an operation are annotated with."""
    return f"{run.operation.pk}-{run.operation.retries}"


def hook_object(run: Run, step_: Step) -> Manifest | None:
    """Return the hook that this attempt of the operation created, None if it did not."""
    manifest = run.target.get(step_.key, step_.version)
    if manifest is None or annotations_of(manifest).get(OPERATION_ID) != operation_id(run):
        return None
    return manifest


def _apply_hook(run: Run, step_: Step, manifest: Manifest) -> Step:
    if hook_object(run, step_) is not None:
        # A worker that died has created it: it does not run twice.
        return replace(step_, status=RUNNING)
    _require_free(run, step_, run.target.get(step_.key, step_.version))
    mark = None if run.target.is_home(step_.key) else HOOK_FINALIZER
    run.target.apply(
        marked(manifest, operation_id(run), mark),
        run.resource_options(manifest),
        None,
        force=run.force,
    )
    return replace(step_, status=RUNNING, message="")


def marked(manifest: Manifest, run: str, finalizer: str | None) -> Manifest:
    """Return a hook with the id of its run, and a finalizer until its result is read."""
    finalizers = [*(manifest["metadata"].get("finalizers") or []), *filter(None, [finalizer])]
    annotations = {**annotations_of(manifest), OPERATION_ID: run}
    return with_metadata(manifest, annotations=annotations, finalizers=finalizers or None)


def _require_free(run: Run, step_: Step, current: Manifest | None) -> None:
    """Check that no other application manages the hook's name, as hooks replace what they find."""
    other = run.reach.others(current) if current is not None else ""
    if other:
        raise Forbidden(
            "SharedResource",
            f"hook {step_.key} is part of application {other}: give the hook another name",
        )
