"""Reconcile a set: generate, decide, apply. A preview generates and decides only."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from time import thread_time
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Q
from django.utils import timezone

from appsets.generators.errors import GeneratorError
from appsets.generators.generate import Generated, generate, merged_template
from appsets.generators.spec_queries import requeue_seconds
from appsets.manifests import mirror_set
from appsets.models import ApplicationSet, SetEvent
from appsets.operations import rollouts, sets
from appsets.operations.inputs import Inputs
from appsets.operations.plan import App, Existing, Plan, Wish, decide
from appsets.operations.rollout_decisions import is_rolling, step_number, steps_of
from appsets.template import limits
from appsets.template.render import application_from
from appsets.template.syntax import TemplateError
from hub.audit import trail
from hub.base.claims import claim
from hub.base.metrics import SET_RECONCILE, clock
from hub.engine.counted import counted
from hub.engine.errors import (
    Conflict,
    EngineError,
    Invalid,
    NotFound,
    RetryLater,
    RuleError,
    Stalled,
)
from hub.events.changes import publish
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.models import next_version
from projects.comparison.jq import Jq
from projects.models import Application, Project
from projects.objects import applications
from projects.objects.manifests import stamp
from projects.objects.specs import bind, project_of, spec_problems, spec_refusals
from projects.sources.process import render_queue

log = logging.getLogger(__name__)

ACTOR = "applicationset-controller"
AGAIN = timedelta(minutes=3)
LATER = timedelta(minutes=30)
"""The delay before a set that exceeded its time is retried."""
ORDERED_AGAIN = timedelta(seconds=10)
STUCK = timedelta(minutes=2)
Problem = tuple[str, str]


class SetError(Exception):
    """A set cannot be reconciled now; `reason` is that of its condition."""

    def __init__(self, reason: str, message: str, after: timedelta = AGAIN) -> None:
        super().__init__(message)
        self.reason, self.after = reason, after


@dataclass(frozen=True, slots=True)
class Decision:
    """The changes that a set will make, and the existing rows."""

    plan: Plan
    apps: tuple[App, ...]
    """The applications that the set generates."""
    rows: Mapping[str, Application]
    problems: tuple[Problem, ...] = ()
    missing: tuple[Mapping[str, str], ...] = ()
    """Labels of generated applications that cannot be created: their rollout step is not done."""
    uses_last_answers: bool = False
    """Whether the last good answer of a host is used because a newer request failed."""


def evaluate(row: ApplicationSet, since: datetime) -> Decision:
    """Return the changes that a set makes, from inputs newer than `since`, without writing any.

    Its processor time counts against the budget of its project, as rendering does.
    Raises: SetError.
    """
    try:
        with render_queue.charge(row.project), limits.bounded(limits.MAX_SECONDS, thread_time):
            return _evaluate(row, since)
    except limits.OutOfTime as error:
        raise SetError("ApplicationGenerationFromParamsError", str(error), LATER) from error
    except RetryLater as error:
        raise SetError("ApplicationGenerationFromParamsError", str(error), error.delay) from error


def _evaluate(row: ApplicationSet, since: datetime) -> Decision:
    project, inputs, found = _generated(row, since)
    apps: list[App] = []
    problems: list[Problem] = [("", note) for note in inputs.notes]
    blocked: set[str] = set()
    is_complete, in_steps = True, is_rolling(row.spec)
    for generated in found:
        template = merged_template(row.spec["template"], generated.template)
        try:
            made = application_from(row.spec, template, generated.params)
        except (TemplateError, EngineError) as error:
            # The name of the application is unknown, so nothing may be deleted.
            is_complete = False
            problems.append(("", f"failed to render: {error}"))
            continue
        name = str(made["metadata"].get("name") or "")
        try:
            app = _app(row, made)
            apps.append(rollouts.without_automated_sync(app) if in_steps else app)
        except Invalid as error:
            blocked.add(name)
            is_complete = is_complete and bool(name)
            problems.append((name, str(error)))
    stranded = _stranded(row, inputs.withheld)
    if stranded:
        is_complete = False
        problems.append(("", _stranded_text(project.name, stranded)))
    rows = _rows(row, [a.name for a in apps])
    existing = {name: _existing(one) for name, one in rows.items()}
    wish = Wish(apps, blocked, is_complete, inputs.has_no_pulls and not inputs.notes)
    try:
        plan = decide(
            row.name,
            row.spec,
            wish,
            existing,
            row.approved,
            Jq(row.project, f"set {row.name}").paths,
        )
    except RuleError as error:
        raise SetError(
            "ApplicationValidationError", f"ignoreApplicationDifferences: {error}"
        ) from error
    return _permitted(
        row,
        project,
        Decision(
            plan,
            tuple(apps),
            rows,
            (*problems, *plan.problems),
            uses_last_answers=bool(inputs.notes),
        ),
    )


def _stranded_text(project: str, cluster: str) -> str:
    return (
        f"project '{project}' no longer has a destination in cluster {cluster}: "
        "nothing is deleted until it has one, or the applications there are gone"
    )


def _generated(row: ApplicationSet, since: datetime) -> tuple[Project, Inputs, list[Generated]]:
    try:
        project = project_of(row.project)
        sets.check_namespace(row.namespace, project)
        inputs = Inputs(project, since, row)
        return project, inputs, generate(row.spec, inputs)
    except RetryLater as error:
        raise SetError("ApplicationGenerationFromParamsError", str(error), error.delay) from error
    except (GeneratorError, EngineError, Stalled, Invalid, NotFound) as error:
        raise SetError("ApplicationGenerationFromParamsError", str(error)) from error


def _stranded(row: ApplicationSet, withheld: Sequence[str]) -> str:
    """Return a cluster that the project no longer permits but that has applications of the set.

    A project with fewer destinations hides clusters from generators; their applications must not be
    deleted as if the clusters did not exist. Empty if there is none.
    """
    there = Application.objects.filter(namespace=row.namespace, owner=row.name)
    found = there.filter(cluster__name__in=withheld).values_list("cluster__name", flat=True)
    return found.first() or "" if withheld else ""


def _app(row: ApplicationSet, made: Mapping[str, Any]) -> App:
    if not made["metadata"].get("name"):
        raise Invalid(
            f"ApplicationSet {row.name} contains an application with no name; generateName is "
            "not supported"
        )
    metadata = {**made["metadata"], "namespace": row.namespace}
    wanted = applications.wanted_from({"metadata": metadata, "spec": made["spec"]})
    if wanted.spec["project"] != row.project:
        raise Invalid(f"project {wanted.spec['project']!r} is not the set's own, {row.project!r}")
    return App(wanted.name, wanted.spec, wanted.labels, wanted.annotations, wanted.finalizers)


def _rows(row: ApplicationSet, names: Sequence[str]) -> dict[str, Application]:
    """Return the applications that a set owns or generates by name."""
    query = Application.objects.filter(namespace=row.namespace).only(
        "namespace",
        "name",
        "project",
        "spec",
        "labels",
        "annotations",
        "finalizers",
        "owner",
        "cluster",
        "deletion_requested_at",
    )
    found = {a.name: a for a in query.filter(owner=row.name)}
    missing = sorted(set(names) - set(found))
    for start in range(0, len(missing), 500):
        found.update({a.name: a for a in query.filter(name__in=missing[start : start + 500])})
    return found


def _existing(one: Application) -> Existing:
    app = App(one.name, one.spec, one.labels, one.annotations, one.finalizers)
    return Existing(app, one.owner, one.deletion_requested_at is not None, one.project)


def _permitted(row: ApplicationSet, project: Project, found: Decision) -> Decision:
    """Return a decision without invalid applications; these become problems."""
    problems = list(found.problems)
    create = tuple(a for a in found.plan.create if _works(row, project, a, problems))
    update = tuple(u for u in found.plan.update if _works(row, project, u[1], problems))
    plan = replace(found.plan, create=create, update=update)
    there = {a.name for a in create} | {n for n, one in found.rows.items() if one.owner == row.name}
    missing = tuple(a.labels for a in found.apps if a.name not in there)
    return replace(found, plan=plan, problems=tuple(problems), missing=missing)


def _works(row: ApplicationSet, project: Project, app: App, problems: list[Problem]) -> bool:
    draft = Application(namespace=row.namespace, name=app.name, spec=dict(app.spec))
    bind(draft)
    wrong = spec_problems(draft, project)
    refusals = spec_refusals(draft, project) if wrong else []
    if refusals:
        trail.record_refusal_once(
            ACTOR, "create", "applications", draft.qualified_name, row.project, "; ".join(refusals)
        )
    problems.extend(
        (app.name, f"application destination spec is invalid: {text}") for text in wrong
    )
    return not wrong


def reconcile(pk: int) -> bool:
    """Reconcile a set if it is due and not claimed by another worker; return whether it was."""
    with claim(ApplicationSet, pk, when=Q(due_at__lte=timezone.now())) as mine:
        if not mine:
            return False
        row = ApplicationSet.objects.get(pk=pk)
        seen = row.due_at
        started = clock()
        after = _attempt(row)
        SET_RECONCILE.labels(row.namespace, row.name).observe(clock() - started)
        ApplicationSet.objects.filter(pk=pk, due_at=seen).update(due_at=timezone.now() + after)
    now = timezone.now()
    if ApplicationSet.objects.filter(pk=pk, due_at__lte=now).exists():
        wake(TaskName.APPSETS_RECONCILE, pk)
    if ApplicationSet.objects.filter(pk=pk, rollout_due_at__lte=now).exists():
        wake(TaskName.APPSETS_ROLL, pk)
    return True


def _attempt(row: ApplicationSet) -> timedelta:
    """Reconcile or delete a set; an unexpected error is logged and stored in its conditions."""
    try:
        return _delete_in_order(row) if row.deletion_requested_at else _reconcile(row)
    except (OperationalError, InterfaceError):
        # The database is unreachable, so the conditions of the set stay.
        raise
    except Exception as error:
        log.exception("a set failed", extra={"applicationset": str(row)})
        text = (
            f"internal error: {type(error).__name__}; no further changes were made, it is retried"
        )
        _store(row, _conditions(row, ("ErrorOccurred", "InternalError", text), generated=False))
        return AGAIN


def _reconcile(row: ApplicationSet) -> timedelta:
    """Apply the changes of a set; return the delay until the next reconciliation."""
    seconds = requeue_seconds(row.spec)
    after = timedelta(seconds=seconds) if seconds else AGAIN
    try:
        decision = evaluate(row, row.due_at)
        problems = [*decision.problems, *_apply(row, decision)]
        _settle(row, decision, problems)
        return min(after, AGAIN) if decision.uses_last_answers else after
    except SetError as error:
        _store(row, _conditions(row, ("ErrorOccurred", error.reason, str(error)), generated=False))
        return error.after


def _delete_in_order(row: ApplicationSet) -> timedelta:
    """Delete a set's applications one by one, from the last step to the first, then the set."""
    steps = steps_of(row.spec)
    children = list(Application.objects.filter(namespace=row.namespace, owner=row.name))
    ordered = sorted(
        ((step_number(steps, c.labels), c.name, c) for c in children), key=lambda e: (-e[0], e[1])
    )
    inside = [c for number, _, c in ordered if number > 0]
    going = next((c for c in inside if c.deletion_requested_at is not None), None)
    if going is not None:
        stuck = timezone.now() - (going.deletion_requested_at or row.due_at) > STUCK
        if stuck:
            text = f"application {going.name} has not been deleted in over 2 minutes"
            _store(
                row,
                _conditions(row, ("ErrorOccurred", "DeleteApplicationError", text), generated=True),
            )
        return ORDERED_AGAIN
    if inside:
        applications.request_deletion(
            inside[0], ACTOR, cascade=None if inside[0].cluster_id else False
        )
        return ORDERED_AGAIN
    sets.remove(row, ACTOR, cascade=True)
    return ORDERED_AGAIN


def _apply(row: ApplicationSet, decision: Decision) -> Iterator[Problem]:
    """Apply the decision; yield the failures. One failure does not stop the other applications."""
    owner = applications.Owner(row.name, row.uid)
    for app in decision.plan.create:
        yield from _tried(app.name, partial(_created, row, app, owner))
    for before, app in decision.plan.update:
        yield from _tried(app.name, partial(_changed, row, decision.rows[before.name], app, owner))
    for name in decision.plan.delete:
        yield from _tried(name, partial(_deleted, row, decision.rows[name]))


def _tried(name: str, do: Callable[[], Iterable[Problem]]) -> Iterator[Problem]:
    try:
        yield from do()
    except (Invalid, Conflict) as error:
        yield name, str(error)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:  # one application must not stop the others
        log.exception("an application of a set failed", extra={"application": name})
        yield name, f"internal error: {type(error).__name__}"


def _created(row: ApplicationSet, app: App, owner: applications.Owner) -> list[Problem]:
    wanted = applications.Wanted(
        row.namespace,
        app.name,
        dict(app.spec),
        dict(app.labels),
        dict(app.annotations),
        list(app.finalizers),
        owner,
    )
    applications.create(wanted, ACTOR)
    return []


def _changed(
    row: ApplicationSet, one: Application, app: App, owner: applications.Owner
) -> Iterator[Problem]:
    with transaction.atomic():
        current = Application.objects.select_for_update().filter(pk=one.pk).first()
        if (
            current is None
            or current.owner not in ("", row.name)
            or (not current.owner and current.project != row.project)
        ):
            yield app.name, f"application {app.name} was taken over by another owner"
            return
        applications.change(
            current,
            ACTOR,
            spec=dict(app.spec),
            labels=dict(app.labels),
            annotations=dict(app.annotations),
            finalizers=list(app.finalizers),
            owner=owner,
        )


def _deleted(row: ApplicationSet, one: Application) -> Iterator[Problem]:
    with transaction.atomic():
        current = Application.objects.select_for_update().filter(pk=one.pk).first()
        if current is None or current.owner != row.name:
            yield one.name, f"application {one.name} was taken over by another owner"
            return
        # Resources of an unregistered cluster cannot be pruned, so the deletion must not wait.
        applications.request_deletion(current, ACTOR, cascade=None if current.cluster_id else False)


def _settle(row: ApplicationSet, decision: Decision, problems: Sequence[Problem]) -> None:
    plan = decision.plan
    error: tuple[str, str, str] | None = None
    if plan.waiting:
        error = ("ErrorOccurred", "DeleteApplicationError", _waiting_text(plan.waiting))
    if problems:
        last = max(problems)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        error = (
            "ErrorOccurred",
            "ApplicationValidationError",
            f"{last[0]}: {last[1]}{more}" if last[0] else f"{last[1]}{more}",
        )
    if plan.waiting and list(plan.waiting) != row.awaits:
        trail.record(
            ACTOR,
            "hold-deletion",
            "applicationset",
            str(row),
            row.project,
            applications=list(plan.waiting)[:100],
            count=len(plan.waiting),
        )
    if is_rolling(row.spec) or row.application_status:
        state = {**row.rollout_state, "missing": [dict(m) for m in decision.missing]}
        ApplicationSet.objects.filter(pk=row.pk).update(
            rollout_state=state, rollout_due_at=timezone.now()
        )
    _store(row, _conditions(row, error, generated=True), list(plan.waiting), approved=[])


def _waiting_text(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return (
        f"the deletion of {counted(len(names), 'application')} ({shown}) exceeds the set's "
        "budget and waits for a confirmation; nothing was deleted. Confirm the deletion, or "
        "correct the generators"
    )


def _conditions(
    row: ApplicationSet, error: tuple[str, str, str] | None, *, generated: bool
) -> list[dict[str, Any]]:
    fine = ("All applications have been generated successfully", "ApplicationSetUpToDate")
    message, reason = (error[2], error[1]) if error else fine
    made = {
        "ErrorOccurred": ("True" if error else "False", reason, message),
        "ParametersGenerated": (
            (
                "True",
                "ParametersGenerated",
                "Successfully generated parameters for all Applications",
            )
            if generated
            else ("False", "ErrorOccurred", message)
        ),
        "ResourcesUpToDate": ("False" if error else "True", reason, message),
    }
    before = {c["type"]: c for c in row.conditions}
    kept = [before[kind] for kind in rollouts.KINDS if kind in before]
    return [*(_condition(kind, *found, before.get(kind)) for kind, found in made.items()), *kept]


def _condition(
    kind: str, status: str, reason: str, message: str, before: Mapping[str, Any] | None
) -> dict[str, Any]:
    same = before is not None and before["status"] == status
    at = before["lastTransitionTime"] if before is not None and same else stamp(timezone.now())
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message[:4000],
        "lastTransitionTime": at,
    }


def _store(
    row: ApplicationSet,
    conditions: list[dict[str, Any]],
    awaits: list[str] | None = None,
    approved: list[str] | None = None,
) -> None:
    """Store the conditions of a set; the version grows only with a visible change."""
    wanted = row.awaits if awaits is None else awaits
    fields: dict[str, Any] = {"reconciled_at": timezone.now()}
    if (conditions, wanted) != (row.conditions, row.awaits):
        fields |= {"conditions": conditions, "awaits": wanted}
    if approved is not None and row.approved:
        # Keep confirmations that were given during this reconciliation.
        now = (
            ApplicationSet.objects.filter(pk=row.pk).values_list("approved", flat=True).first()
            or []
        )
        fields["approved"] = [n for n in now if n not in row.approved]
    with transaction.atomic():
        row.lock()
        if "conditions" in fields:
            fields["resource_version"] = next_version()
            _record_events(row, conditions)
            publish()
        ApplicationSet.objects.filter(pk=row.pk).update(**fields)
        if "conditions" in fields and (now_row := ApplicationSet.objects.filter(pk=row.pk).first()):
            mirror_set(now_row)


def _record_events(row: ApplicationSet, conditions: Sequence[dict[str, Any]]) -> None:
    """Record the changes of a set as events."""
    before = {c["type"]: c["message"] for c in row.conditions}
    current = next((c for c in conditions if c["type"] == "ResourcesUpToDate"), None)
    if current is not None and before.get("ResourcesUpToDate") != current["message"]:
        kind = "Normal" if current["status"] == "True" else "Warning"
        SetEvent.objects.create(
            uid=row.uid, kind=kind, reason=current["reason"], message=current["message"]
        )
