"""Create, update and delete application sets."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from appsets.generators.errors import GeneratorError
from appsets.generators.generate import has_templated_project
from appsets.generators.registry import GENERATORS
from appsets.generators.spec_queries import blocks
from appsets.manifests import mirror_set, set_json
from appsets.models import ApplicationSet, SetEvent
from appsets.operations import rollout_decisions
from appsets.operations.plan import POLICIES, budget_of, policy_of
from appsets.scm.fetchers import FETCHERS
from appsets.spec_fields import check_spec
from hub.audit import trail
from hub.engine.errors import Conflict, Invalid, RuleError
from hub.engine.globs import matches
from hub.events.changes import publish
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.models import Tombstone, next_version
from projects.comparison.jq import check_expression
from projects.models import Application, Project
from projects.objects import applications
from projects.objects.specs import check_name, is_namespace_permitted

DRAFT_AGE = timedelta(minutes=1)
REFRESH = "argocd.argoproj.io/application-set-refresh"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A requested set."""

    namespace: str
    name: str
    spec: dict[str, Any]
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    finalizers: list[str] = field(default_factory=list)

    @property
    def project(self) -> str:
        """The project of the template."""
        return str(self.spec["template"]["spec"].get("project") or "default")

    def draft(self) -> ApplicationSet:
        """Return a row that is not stored."""
        return ApplicationSet(
            namespace=self.namespace,
            name=self.name,
            project=self.project,
            spec=self.spec,
            refresh_at=timezone.now() - DRAFT_AGE,
        )


def wanted_from(manifest: Any) -> Wanted:
    """Return the set that a manifest requests.

    Raises: Invalid naming the field.
    """
    if not isinstance(manifest, dict):
        raise Invalid("the body must be an ApplicationSet object")
    if manifest.get("kind") not in (None, "", "ApplicationSet"):
        raise Invalid(f"kind must be ApplicationSet, not {manifest['kind']!r}")
    metadata = _object(manifest, "metadata", "metadata")
    namespace = metadata.get("namespace") or settings.NAMESPACE
    check_name(namespace, "metadata.namespace")
    if namespace != settings.NAMESPACE and not any(
        matches(p, namespace) for p in settings.APPSET_NAMESPACES
    ):
        raise Invalid(
            f"metadata.namespace must be {settings.NAMESPACE}, not {namespace!r}: sets of other "
            "namespaces are served when HUB_APPSET_NAMESPACES names them"
        )
    name = check_name(metadata.get("name"))
    spec = _object(manifest, "spec", "spec")
    _check_spec(name, spec)
    return Wanted(
        namespace,
        name,
        spec,
        applications.text_map(metadata.get("labels"), "metadata.labels"),
        applications.text_map(metadata.get("annotations"), "metadata.annotations"),
        applications.text_list(metadata.get("finalizers"), "metadata.finalizers"),
    )


def _object(body: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    value = body.get(name)
    if not isinstance(value, dict):
        raise Invalid(f"{where} must be an object")
    return value


def _check_spec(name: str, spec: dict[str, Any]) -> None:
    """Check a spec; unsupported fields are refused, not ignored.

    Raises: Invalid.
    """
    try:
        check_spec(spec)
    except RuleError as error:
        raise Invalid(str(error)) from error
    template = _object(spec, "template", "spec.template")
    inner = _object(template, "spec", "spec.template.spec")
    if not isinstance(inner.get("project") or "", str):
        raise Invalid("spec.template.spec.project must be text")
    if has_templated_project(spec):
        raise Invalid(
            "the Argo CD API does not currently support creating ApplicationSets with templated "
            "`project` fields"
        )
    if policy_of(spec) not in POLICIES:
        raise Invalid(
            f"spec.syncPolicy.applicationsSync must be one of {', '.join(POLICIES)}, not "
            f"{policy_of(spec)!r}"
        )
    _check_strategy(spec)
    try:
        budget_of(spec)
    except RuleError as error:
        raise Invalid(str(error)) from error
    _check_differences(spec.get("ignoreApplicationDifferences") or [])
    _check_generators(name, spec)


def _check_strategy(spec: dict[str, Any]) -> None:
    strategy = spec.get("strategy") or {}
    if strategy.get("type") not in (None, "", "AllAtOnce", "RollingSync"):
        raise Invalid(
            f"spec.strategy.type must be AllAtOnce or RollingSync, not {strategy['type']!r}"
        )
    if str(strategy.get("deletionOrder") or "AllAtOnce").lower() not in ("allatonce", "reverse"):
        raise Invalid(
            "spec.strategy.deletionOrder must be AllAtOnce or Reverse, not "
            f"{strategy['deletionOrder']!r}"
        )
    if not rollout_decisions.is_rolling(spec):
        return
    try:
        steps = rollout_decisions.steps_of(spec)
    except RuleError as error:
        raise Invalid(str(error)) from error
    if not steps:
        raise Invalid("spec.strategy.rollingSync.steps: No steps defined for rollout")


def _check_differences(rules: Any) -> None:
    where = "spec.ignoreApplicationDifferences"
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise Invalid(f"{where} must be a list of objects")
    for number, rule in enumerate(rules):
        expressions = rule.get("jqPathExpressions") or []
        if not isinstance(expressions, list) or not all(isinstance(e, str) for e in expressions):
            raise Invalid(f"{where}[{number}].jqPathExpressions must be a list of texts")
        try:
            for expression in expressions:
                check_expression(expression)
        except RuleError as error:
            raise Invalid(f"{where}[{number}].{error}") from error
        pointers = rule.get("jsonPointers") or []
        if not isinstance(pointers, list) or not all(
            isinstance(p, str) and p.startswith("/") for p in pointers
        ):
            raise Invalid(
                f"{where}[{number}].jsonPointers must be a list of texts that begin with /"
            )


def _check_generators(name: str, spec: dict[str, Any]) -> None:
    entries = spec.get("generators")
    if not isinstance(entries, list) or not entries:
        raise Invalid("spec.generators must be a list of at least one generator")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not any(
            isinstance(entry.get(k), dict) for k in GENERATORS
        ):
            found = ", ".join(map(str, entry)) if isinstance(entry, dict) else str(entry)
            raise Invalid(
                f"ApplicationSet {name} contains unrecognized generators: "
                f"spec.generators[{number}] has {found or 'nothing'}"
            )
    try:
        for kind, fetcher in FETCHERS.items():
            for block in blocks(spec, kind):
                fetcher.check(block, kind)
    except GeneratorError as error:
        raise Invalid(f"spec.generators: {error}") from error


def check_namespace(namespace: str, project: Project) -> None:
    """Check that a project permits sets and their applications in a namespace.

    Raises: Invalid naming the field of the project.
    """
    if not is_namespace_permitted(Application(namespace=namespace), project):
        raise Invalid(
            f"project '{project.name}' does not permit namespace '{namespace}': add it to "
            "spec.sourceNamespaces"
        )


def save(
    wanted: Wanted, actor: str, *, upsert: bool = False, replace: bool = False
) -> ApplicationSet:
    """Create a set; an equal existing one is returned, a different one is updated with `upsert`.

    Labels and annotations that the request does not name stay, unless `replace` is set.

    Raises: Invalid, Conflict.
    """
    existing = ApplicationSet.objects.filter(namespace=wanted.namespace, name=wanted.name).first()
    if existing is not None:
        if existing.spec == wanted.spec and not upsert:
            return existing
        if not upsert:
            raise Invalid(
                "existing ApplicationSet spec is different, use upsert flag to force update"
            )
    try:
        with transaction.atomic():
            return _stored(existing, wanted, actor, replace=replace)
    except IntegrityError as error:
        raise Conflict(
            f'ApplicationSet "{wanted.name}" was created by another request at the same time'
        ) from error


def _stored(
    existing: ApplicationSet | None, wanted: Wanted, actor: str, *, replace: bool
) -> ApplicationSet:
    row = wanted.draft()
    before = None
    if existing is not None:
        row = ApplicationSet.objects.select_for_update().get(pk=existing.pk)
        before = {"spec": row.spec, "labels": row.labels, "annotations": row.annotations}
        row.generation += row.spec != wanted.spec
    row.spec, row.project = wanted.spec, wanted.project
    kept = ({}, {}) if replace else (row.labels, row.annotations)
    row.labels, row.annotations = {**kept[0], **wanted.labels}, {**kept[1], **wanted.annotations}
    row.finalizers = wanted.finalizers
    if row.annotations.pop(REFRESH, ""):
        row.refresh_at = timezone.now()
    # A confirmation applies to the previous spec only.
    row.approved, row.due_at, row.resource_version = [], timezone.now(), next_version()
    row.save()
    trail.record(
        actor,
        "create" if existing is None else "update",
        "applicationset",
        str(row),
        row.project,
        before=before,
        after={"spec": row.spec, "labels": row.labels, "annotations": row.annotations},
    )
    mirror_set(row)
    publish()
    wake(TaskName.APPSETS_RECONCILE, row.pk, priority=2)
    return row


def delete(row: ApplicationSet, actor: str, *, cascade: bool = True) -> int:
    """Delete a set and, by `cascade` and its policy, its applications; return their number.

    Finalizers of the applications decide whether their resources are deleted. With the deletion
    order Reverse the set remains until its applications are deleted one by one.
    """
    if takes_children(row, cascade=cascade) and rollout_decisions.is_reverse(row.spec):
        return _begin_deletion(row, actor)
    return remove(row, actor, cascade=cascade)


def takes_children(row: ApplicationSet, *, cascade: bool) -> bool:
    """Return whether the deletion of a set deletes its applications."""
    return cascade and policy_of(row.spec) in ("sync", "create-delete")


def _begin_deletion(row: ApplicationSet, actor: str) -> int:
    with transaction.atomic():
        current = ApplicationSet.objects.select_for_update().get(pk=row.pk)
        count = Application.objects.filter(namespace=row.namespace, owner=row.name).count()
        if current.deletion_requested_at is None:
            current.deletion_requested_at = current.due_at = timezone.now()
            current.resource_version = next_version()
            current.save(update_fields=["deletion_requested_at", "due_at", "resource_version"])
            trail.record(
                actor,
                "delete",
                "applicationset",
                str(row),
                row.project,
                before={"spec": row.spec},
                applications=count,
                order="Reverse",
            )
            publish()
        wake(TaskName.APPSETS_RECONCILE, row.pk, priority=2)
    return count


def remove(row: ApplicationSet, actor: str, *, cascade: bool = True) -> int:
    """Delete a set now; return how many of its applications are deleted with it."""
    goes = takes_children(row, cascade=cascade)
    with transaction.atomic():
        children = list(
            Application.objects.select_for_update().filter(namespace=row.namespace, owner=row.name)
        )
        ApplicationSet.objects.filter(pk=row.pk).delete()
        SetEvent.objects.filter(uid=row.uid).delete()
        verb = "deleted" if row.deletion_requested_at else "delete"
        trail.record(
            actor,
            verb,
            "applicationset",
            str(row),
            row.project,
            before={"spec": row.spec},
            applications=len(children),
            cascade=goes,
        )
        Application.objects.filter(pk__in=[c.pk for c in children]).update(owner="", owner_uid=None)
        for child in children:
            if goes and child.deletion_requested_at is None:
                # Resources of an unregistered cluster cannot be pruned, so the deletion must not
                # wait.
                applications.request_deletion(
                    child, actor, cascade=None if child.cluster_id else False
                )
        row.resource_version = next_version()
        Tombstone.objects.create(
            resource_version=row.resource_version,
            kind="ApplicationSet",
            namespace=row.namespace,
            name=row.name,
            project=row.project,
            row=row.pk,
            manifest=set_json(row, []),
        )
        mirror_set(row, gone=True)
        publish()
    return len(children) if goes else 0


def confirm(row: ApplicationSet, names: list[str], actor: str) -> ApplicationSet:
    """Confirm the deletion of applications that wait for a confirmation.

    Raises: Invalid for a name that does not wait.
    """
    with transaction.atomic():
        current = ApplicationSet.objects.select_for_update().get(pk=row.pk)
        other = [n for n in names if n not in current.awaits]
        if other or not names:
            raise Invalid(
                f"applications: the deletion of {other[0]!r} does not wait for a confirmation"
                if other
                else "applications is required: the names of the applications to delete"
            )
        current.approved = sorted({*current.approved, *names})
        current.due_at, current.resource_version = timezone.now(), next_version()
        current.save(update_fields=["approved", "due_at", "resource_version"])
        trail.record(
            actor,
            "confirm-deletion",
            "applicationset",
            str(row),
            row.project,
            applications=sorted(names),
        )
        publish()
        wake(TaskName.APPSETS_RECONCILE, row.pk, priority=2)
    return current


def mark_sets_due(rows: list[int]) -> None:
    """Enqueue the reconciliation of sets."""
    ApplicationSet.objects.filter(pk__in=rows).update(due_at=timezone.now())
    for pk in rows:
        wake(TaskName.APPSETS_RECONCILE, pk, priority=3)


def refresh(rows: list[int]) -> None:
    """Refresh the inputs of sets: request hosts again and reconcile."""
    ApplicationSet.objects.filter(pk__in=rows).update(refresh_at=timezone.now())
    mark_sets_due(rows)
