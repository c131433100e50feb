"""REST of application sets: Argo CD's paths, and our preview and confirmation."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from appsets.manifests import children_of, event_json, set_json, tree_json
from appsets.models import ApplicationSet, SetEvent
from appsets.operations import rollouts, sets
from appsets.operations.plan import App
from appsets.operations.reconcile import Decision, SetError, evaluate
from hub.access.decisions import Caller, hide, is_allowed, require
from hub.engine.errors import Invalid
from hub.models import current_version
from hub.rest.lists import arranged, limit_of
from hub.rest.views import (
    View,
    actor,
    asked,
    body_map,
    flag,
    inner_map,
    namespace_of,
    placed,
    project_fields,
    selector,
    text_at,
)
from projects.access.own_kinds import require_cascade
from projects.access.visibility import visible
from projects.models import FINALIZER, Application
from projects.objects.manifests import API_VERSION, filled
from projects.objects.specs import check_reason, project_of, project_of_or_none

_COLUMNS = {
    "name": "metadata.name",
    "namespace": "metadata.namespace",
    "project": "spec.template.spec.project",
    "created": "metadata.creationTimestamp",
    "health": "status.health.status",
}
FRESH = timedelta(seconds=10)
CHUNK = 500
NAMESPACE = ("appsetNamespace", "appSetNamespace")


def get_set(request: Request, name: str, action: str = "get") -> ApplicationSet:
    """Return the set of a request if the caller may do `action` to it.

    Raises: AccessDenied, also if the set does not exist.
    """
    namespace = namespace_of(request, *NAMESPACE)
    caller = actor(request)
    found = ApplicationSet.objects.filter(namespace=namespace, name=name).first()
    if found is None or not is_allowed(caller, "applicationsets", "get", found.rbac_object):
        raise hide(
            caller, "applicationsets", action, f"{namespace}/{name}", found.project if found else ""
        )
    if action != "get":
        require(caller, "applicationsets", action, found.rbac_object, found.project)
        rules = project_of_or_none(found.project)
        check_reason(rules.spec if rules else {}, found.project)
    return found


def shown(caller: Caller, row: ApplicationSet) -> dict[str, Any]:
    """Return a set with the applications that the caller may see."""
    return set_json(row, shown_children(caller, row))


def shown_children(caller: Caller, row: ApplicationSet) -> list[Application]:
    """Return the applications of a set that the caller may see."""
    seen = set(
        visible(caller).filter(namespace=row.namespace, owner=row.name).values_list("pk", flat=True)
    )
    return [c for c in children_of(row) if c.pk in seen]


def _wanted(
    request: Request, body: Mapping[str, Any], whole: Callable[[], dict[str, Any]]
) -> sets.Wanted:
    """Return the set of a body if the caller may create it; access is checked before the body."""
    project = text_at(body, "spec", "template", "spec", "project") or "default"
    namespace = namespace_of(request, *NAMESPACE, also=[text_at(body, "metadata", "namespace")])
    sketch = ApplicationSet(
        namespace=namespace, name=text_at(body, "metadata", "name"), project=project
    )
    require(actor(request), "applicationsets", "create", sketch.rbac_object, project)
    return sets.wanted_from(placed(whole(), namespace))


def _inner(request: Request) -> sets.Wanted:
    given = inner_map(asked(request), "applicationSet")
    return _wanted(request, given, lambda: inner_map(body_map(request), "applicationSet"))


def _drafted(request: Request, wanted: sets.Wanted) -> ApplicationSet:
    """Return the set of a request without storing it, if the caller may create it."""
    draft = wanted.draft()
    require(actor(request), "applicationsets", "create", draft.rbac_object, draft.project)
    project_of(draft.project)
    existing = ApplicationSet.objects.filter(namespace=draft.namespace, name=draft.name).first()
    if existing is None:
        return draft
    caller = actor(request)
    if not is_allowed(caller, "applicationsets", "get", existing.rbac_object):
        raise hide(caller, "applicationsets", "create", draft.rbac_object, draft.project)
    return draft


class ApplicationSets(View):
    """`/applicationsets`: list and create."""

    permission = ("applicationsets", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List sets, filtered by project, namespace and label selector."""
        caller, params = actor(request), request.query_params
        rows = ApplicationSet.objects.order_by("name")
        projects = params.getlist("projects") or params.getlist("project")
        if projects:
            rows = rows.filter(project__one_of=projects)
        if any(params.get(n) for n in NAMESPACE):
            rows = rows.filter(namespace=namespace_of(request, *NAMESPACE))
        fits = selector(params.get("selector", ""))
        version = current_version()
        items = [
            shown(caller, row)
            for row in rows
            if fits(row.labels) and is_allowed(caller, "applicationsets", "get", row.rbac_object)
        ]
        answer = {
            "apiVersion": API_VERSION,
            "kind": "ApplicationSetList",
            "metadata": {"resourceVersion": str(version)},
            "items": items,
        }
        answer = arranged(request, answer, _COLUMNS, ["metadata.name", "metadata.namespace"])
        return Response(project_fields(answer, params.get("fields", "")))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Create a set; `upsert` updates an existing one, `dryRun` stores nothing."""
        wanted = _wanted(request, asked(request), lambda: body_map(request, "the ApplicationSet"))
        caller, draft = actor(request), _drafted(request, wanted)
        existing = ApplicationSet.objects.filter(
            namespace=wanted.namespace, name=wanted.name
        ).first()
        if existing is not None and flag(request, "upsert"):
            require(caller, "applicationsets", "update", existing.rbac_object, existing.project)
            require(caller, "applicationsets", "update", draft.rbac_object, draft.project)
        if flag(request, "dryRun"):
            made = [_manifest(draft, a) for a in _evaluate(draft).apps]
            return Response(
                set_json(
                    draft,
                    [
                        Application(namespace=draft.namespace, name=m["metadata"]["name"])
                        for m in made
                    ],
                )
            )
        for project in {draft.project, existing.project if existing else draft.project}:
            rules = project_of_or_none(project)
            check_reason(rules.spec if rules else {}, project)
        row = sets.save(wanted, caller.name, upsert=flag(request, "upsert"))
        return Response(shown(caller, row))


class OneApplicationSet(View):
    """`/applicationsets/{name}`: read and delete."""

    permission = ("applicationsets", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return a set with the status of its applications."""
        return Response(shown(actor(request), get_set(request, name)))

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, name: str) -> Response:
        """Delete a set, and its applications unless `cascade=false`."""
        row = get_set(request, name, "delete")
        cascade = flag(request, "cascade", default=True)
        if sets.takes_children(row, cascade=cascade):
            _require_cascades(actor(request), children_of(row))
        sets.delete(row, actor(request).name, cascade=cascade)
        return Response({})


class Tree(View):
    """`/applicationsets/{name}/resource-tree`."""

    permission = ("applicationsets", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the applications of a set as nodes."""
        row = get_set(request, name)
        return Response(tree_json(row, shown_children(actor(request), row)))


class Events(View):
    """`/applicationsets/{name}/events`."""

    permission = ("applicationsets", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the Kubernetes events of a set, the newest first."""
        row = get_set(request, name)
        found = SetEvent.objects.filter(uid=row.uid).order_by("-pk")[: limit_of(request) or 200]
        return Response(
            {
                "apiVersion": "v1",
                "kind": "EventList",
                "metadata": {},
                "items": [event_json(row, e) for e in found],
            }
        )


class Rollout(View):
    """`/flotilla/applicationsets/{name}/rollout`: pause, resume, abort, advance."""

    permission = ("applicationsets", "get")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, name: str) -> Response:
        """Apply `{action}` to a rollout: pause, resume, abort, or advance past a manual step."""
        row = get_set(request, name, "update")
        action = body_map(request).get("action")
        if not isinstance(action, str):
            raise Invalid(f"action must be one of {', '.join(rollouts.ACTIONS)}")
        return Response(shown(actor(request), rollouts.act(row, action, actor(request).name)))


def _require_cascades(caller: Caller, children: Sequence[Application]) -> None:
    """Check that a caller may delete the applications of other projects along with a set."""
    for child in children:
        if child.cascades:
            require_cascade(caller, child)


def _evaluate(draft: ApplicationSet) -> Decision:
    try:
        return evaluate(draft, timezone.now() - FRESH)
    except SetError as error:
        raise Invalid(str(error)) from error


def _manifest(row: ApplicationSet, app: App) -> dict[str, Any]:
    metadata = filled(
        {
            "name": app.name,
            "namespace": row.namespace,
            "labels": app.labels,
            "annotations": app.annotations,
            "finalizers": list(app.finalizers),
        }
    )
    return {
        "apiVersion": API_VERSION,
        "kind": "Application",
        "metadata": metadata,
        "spec": app.spec,
    }


class Generate(View):
    """`/applicationsets/generate`: the applications that a set would generate."""

    permission = ("applicationsets", "get")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Return the applications that `{applicationSet}` generates, and its problems."""
        draft = _drafted(request, _inner(request))
        found = _evaluate(draft)
        return Response(
            {
                "applications": [_manifest(draft, a) for a in found.apps],
                "problems": _problems(found),
            }
        )


class Preview(View):
    """`/flotilla/applicationsets/preview`: the changes that saving a set would make."""

    permission = ("applicationsets", "get")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Return what `{applicationSet}` would create, update and delete, without storing it.

        The decision is that of reconciliation. Deletions that the caller may not read are counted
        without their names, together with their live resources.
        """
        draft = _drafted(request, _inner(request))
        found = _evaluate(draft)
        plan = found.plan
        lost = [found.rows[n] for n in (*plan.delete, *plan.waiting, *plan.kept)]
        changed = [found.rows[before.name] for before, _ in plan.update]
        may = readable(actor(request), [*changed, *lost])
        live = _live_resources(lost)
        return Response(
            {
                "added": [_manifest(draft, a) for a in plan.create],
                "changed": [
                    _change(draft, before, after, shown=before.name in may)
                    for before, after in plan.update
                ],
                "deleted": [_loss(found.rows[n], live, may) for n in plan.delete],
                "waiting": [_loss(found.rows[n], live, may) for n in plan.waiting],
                "kept": [n if n in may else "" for n in plan.kept],
                "unchanged": plan.unchanged,
                "problems": _problems(found),
            }
        )


def _problems(found: Decision) -> list[dict[str, str]]:
    return [{"application": name, "message": message} for name, message in found.problems]


def _change(draft: ApplicationSet, before: App, after: App, *, shown: bool) -> dict[str, Any]:
    sides = {"before": _manifest(draft, before), "after": _manifest(draft, after)} if shown else {}
    return {"name": after.name, **sides}


def readable(caller: Caller, rows: Sequence[Application]) -> set[str]:
    """Return the names of the applications that the caller may read."""
    found: set[str] = set()
    for start in range(0, len(rows), CHUNK):
        pks = [r.pk for r in rows[start : start + CHUNK]]
        found.update(visible(caller).filter(pk__in=pks).values_list("name", flat=True))
    return found


def _live_resources(rows: Sequence[Application]) -> dict[str, int]:
    """Return how many live resources each application has."""
    found: dict[str, int] = {}
    for start in range(0, len(rows), CHUNK):
        pks = [r.pk for r in rows[start : start + CHUNK]]
        for name, resources in Application.objects.filter(pk__in=pks).values_list(
            "name", "resources"
        ):
            found[name] = sum(
                not r.get("hook") and (r.get("health") or {}).get("status") != "Missing"
                for r in resources
            )
    return found


def weighed(rows: Sequence[Application], may: Collection[str]) -> list[dict[str, Any]]:
    """Return what the deletion of each application removes; see `_loss`."""
    live = _live_resources(rows)
    return [_loss(row, live, may) for row in rows]


def _loss(row: Application, live: Mapping[str, int], may: Collection[str]) -> dict[str, Any]:
    """Return what a deletion removes: the live resources of the application.

    Shapes: `may` are the names that the caller may read; the name of another is empty.
    """
    cascades = any(f.startswith(FINALIZER) for f in row.finalizers) and row.cluster_id is not None
    return {
        "name": row.name if row.name in may else "",
        "cascade": cascades,
        "resources": live[row.name] if cascades else 0,
    }


class Confirm(View):
    """`/flotilla/applicationsets/{name}/confirm-deletion`."""

    permission = ("applicationsets", "get")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, name: str) -> Response:
        """Confirm the deletion of `{applications}` that wait for a confirmation."""
        row = get_set(request, name, "delete")
        names = body_map(request).get("applications")
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise Invalid("applications must be a list of names")
        _require_cascades(actor(request), [c for c in children_of(row) if c.name in names])
        return Response(shown(actor(request), sets.confirm(row, names, actor(request).name)))
