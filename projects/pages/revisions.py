"""The diff between two revisions of an application, resource by resource."""

from collections.abc import Sequence
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from hub.access.decisions import Caller
from hub.audit import trail
from hub.engine.errors import EngineError, Invalid, NotFound, RetryLater, Stalled
from hub.engine.line_diff import Budget
from hub.engine.node_info import redact
from hub.engine.project_restrictions import permits_source
from hub.engine.resource import Manifest, ResourceKey, resource_key
from hub.web.page import signed_in
from projects import sources
from projects.live_pages.application_rows import row_of, subject_of
from projects.models import Application
from projects.objects.specs import find_cluster, project_of
from projects.pages.application import found
from projects.pages.commit_links import commit_url
from projects.pages.diff_view import Line, diff_lines

MAX_RESOURCES = 100


@require_GET
@signed_in
def compare(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Show what changed between two entries of the history, or since one of them."""
    row = found(caller, namespace, name)
    history = list(row.history.order_by("-number")[:30])
    choices = [("now", "Desired state", row.revisions)] + [
        (str(h.number), f"No. {h.number}", h.revisions) for h in history
    ]
    known = {c[0] for c in choices}
    to = request.GET.get("to", "now")
    start = request.GET.get("from", str(history[0].number) if history else "now")
    if not {to, start} <= known:
        raise Http404
    url = str(row.sources[0].get("repoURL") or "") if row.sources else ""
    context: dict[str, Any] = {
        "a": row,
        "row": row_of(row),
        "from": start,
        "to": to,
        "split": request.GET.get("split") == "1",
        "choices": [
            (
                key,
                f"{words} · {subject_of(row.project, url, revisions[0]) or revisions[0][:12]}"
                if revisions
                else words,
            )
            for key, words, revisions in choices
        ],
        "links": [
            (words, commit_url(url, revisions[0]))
            for key, words, revisions in choices
            if key in (start, to) and revisions
        ],
    }
    try:
        before, after = _manifests(row, history, start), _manifests(row, history, to)
        changes = changed(before, after)
        context |= {
            "changes": changes[:MAX_RESOURCES],
            "more": max(0, len(changes) - MAX_RESOURCES),
            "same": len(before.keys() & after.keys()) - sum(w == "change" for w, _, _ in changes),
        }
    except (EngineError, Stalled, RetryLater, Invalid, NotFound) as error:
        context["error"] = str(error)
    return render(request, "applications/compare.html", context)


def _manifests(row: Application, history: Sequence[Any], which: str) -> dict[ResourceKey, Manifest]:
    """Return the desired manifests of a revision, by key.

    Raises: Stalled, RetryLater or Invalid, with the reason why they cannot be loaded.
    """
    wanted, revisions = row.sources, list(row.revisions)
    if which != "now":
        entry = next(h for h in history if str(h.number) == which)
        wanted, revisions = entry.sources or row.sources, list(entry.revisions)
    project, cluster = project_of(row.project), find_cluster(row.spec)
    for source in wanted:
        if not permits_source(project.spec, str(source.get("repoURL") or "")):
            raise Invalid(
                f"{source.get('repoURL')} is not permitted in project {row.project} any more"
            )
    if len(revisions) != len(wanted):
        revisions = [sources.resolve(s, row.project) for s in wanted]
    context = sources.context_of(row, project.spec, cluster, asker=trail.asker())
    desired = sources.load(wanted, revisions, context)
    return {resource_key(m): m for m in desired.manifests}


def changed(
    before: dict[ResourceKey, Manifest], after: dict[ResourceKey, Manifest]
) -> list[tuple[str, ResourceKey, list[Line]]]:
    """Return (change, key, lines) of each resource that differs; Secrets are masked."""
    result: list[tuple[str, ResourceKey, list[Line]]] = []
    budget = Budget()
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        first = old if old is not None else new
        if first is None:
            continue
        _, shown_old, shown_new = redact(first, old, new)
        what = "add" if old is None else "del" if new is None else "change"
        result.append((what, key, diff_lines(shown_old, shown_new, budget=budget)[:400]))
    return result
