"""Checks of an installation, each with a remedy: for `manage.py doctor` and the system page."""

import shutil
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Model, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from clusters.models import Cluster, LiveChange
from hub.access.decisions import broken_rules
from hub.base.crypto import SealedJSONField, UnreadableSecret
from hub.base.json_columns import DocumentField
from hub.base.private_files import open_to_others
from hub.engine.errors import Stalled
from hub.engine.project_roles import too_many
from hub.models import Account, ProjectPolicy, settings_of
from projects.models import Application, GitRemote, Operation, Project
from projects.objects.specs import require_shape, shape_problem
from projects.setting_checks import CHECKS as ALLOWED
from projects.setting_checks import wrong_settings
from projects.sources import confinement, kustomize, process


def _database() -> str:
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Exception as error:  # any error of the driver is reported to the operator
        return f"it does not answer ({error}); check HUB_DATABASE_URL"
    return f"{len(plan)} migrations are missing; run manage.py migrate" if plan else ""


def _folder() -> str:
    folder = Path(settings.DATA_DIR)
    if not folder.is_dir():
        return f"{folder} is missing; start the hub once, or set HUB_DATA_DIR"
    if shutil.disk_usage(folder).free < 500 * 1024**2:
        return f"less than 500 MiB are free in {folder}; repositories are kept there"
    found = open_to_others(folder)
    if found:
        names = ", ".join(str(path) for path in found[:5])
        return f"other users of this machine may read {names}; run chmod -R go= {folder}"
    return ""


def _metrics() -> str:
    if settings.PROXY_HOPS and not settings.METRICS_TOKEN:
        return (
            "behind a proxy /metrics needs a token; set HUB_METRICS_TOKEN, and do not forward "
            "/metrics in the proxy"
        )
    return ""


def _tools() -> str:
    if shutil.which("git") is None:
        return "git is not installed; install it with the system's packages"
    try:
        kustomize.binary()
    except Exception as error:
        return str(error)
    return ""


def _renderers() -> str:
    layers = process.layers()
    if not layers:
        return (
            "no rendering process starts; run manage.py doctor as the hub's user, and see the log"
        )
    exposed = confinement.readable_folder_of(settings.DATA_DIR)
    if exposed:
        return (
            f"renderers may read {exposed}, which holds the data folder; set HUB_DATA_DIR to a "
            "folder outside it"
        )
    return "; ".join(confinement.missing_protections(layers).values())


def _broker() -> str:
    if settings.EMBEDDED:
        return ""
    import redis

    try:
        redis.Redis.from_url(settings.REDIS_URL, socket_timeout=3).ping()
    except redis.RedisError as error:
        return (
            f"it does not answer ({type(error).__name__}); check HUB_REDIS_URL. "
            "Until then the sweep does all work, with a delay"
        )
    return ""


def _admin() -> str:
    if not Account.objects.filter(name="admin").exists():
        return (
            "the account admin does not exist; start manage.py up once, or run "
            "manage.py create_admin"
        )
    return ""


def _secrets() -> str:
    """Return the rows whose secret none of the hub's keys can decrypt."""
    found = list[str]()
    for model in apps.get_models():
        fields = [f.name for f in model._meta.get_fields() if isinstance(f, SealedJSONField)]
        if fields:
            rows = model._default_manager.order_by("pk").values_list("pk", flat=True)
            found += [
                f"{model._meta.verbose_name} {pk}"
                for pk in rows.iterator()
                if _is_sealed_shut(model, pk, fields)
            ]
    if not found:
        return ""
    return (
        f"the secrets of {len(found)} rows cannot be read ({_some(found)}): start the hub with "
        "the HUB_SECRET_KEY that they were encrypted with, or add it to HUB_SECRET_KEY_FALLBACKS"
    )


def _is_sealed_shut(model: type[Model], pk: Any, fields: list[str]) -> bool:
    try:
        list(model._default_manager.filter(pk=pk).values_list(*fields))
    except UnreadableSecret:
        return True
    return False


def _some(found: Sequence[str], separator: str = ", ") -> str:
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return separator.join(found[:5]) + more


def _clusters() -> str:
    failed = list(Cluster.objects.filter(connection="Failed").values_list("name", "message"))
    if failed:
        return _some([f"{name}: {message}" for name, message in failed], "; ")
    now = timezone.now()
    unwatched = (
        Cluster.objects.exclude(server="https://kubernetes.default.svc")
        .exclude(lease_until__gt=now)
        .count()
    )
    return (
        f"{unwatched} clusters are not watched; start manage.py watch_clusters" if unwatched else ""
    )


def _repositories() -> str:
    return _some(list(GitRemote.objects.exclude(error="").values_list("error", flat=True)), "; ")


def _work() -> str:
    late = timezone.now() - timedelta(minutes=2)
    counts = [
        (
            Application.objects.filter(refresh_at__lt=late).count(),
            "applications wait for a refresh",
        ),
        (
            Operation.objects.filter(phase="Running", due_at__lt=late).count(),
            "operations wait for a worker",
        ),
        (
            LiveChange.objects.count() if LiveChange.objects.count() > 1000 else 0,
            "live changes wait",
        ),
    ]
    found = [f"{count} {what} for more than two minutes" for count, what in counts if count]
    return "; ".join(found) + "; start more workers" if found else ""


def _policies() -> str:
    found = [f"{p.origin}: {p.message}" for p in broken_rules()]
    for row in ProjectPolicy.objects.iterator():
        # Stored before there was a limit: it still applies, and slows every access decision.
        if problem := too_many(row.roles):
            found.append(f"project {row.project}: {problem}")
    return _some(found, "; ")


def _rows() -> str:
    """Return the rows that were stored without validation, and read as empty."""
    found = list[str]()
    for model in apps.get_models():
        for field in model._meta.get_fields():
            if isinstance(field, DocumentField):
                rows = model._default_manager.annotate(stored_text=Cast(field.name, TextField()))
                bad = rows.exclude(stored_text__startswith="{" if field.kind is dict else "[")
                expected = "an object" if field.kind is dict else "a list"
                name = model._meta.verbose_name
                found += [
                    f"{name} {row}: {field.name} must be {expected}" for row in bad.iterator()
                ]
    for project in Project.objects.iterator():
        if problem := shape_problem(project.spec):
            found.append(f"project {project.name}: {problem}")
    for application in Application.objects.only("namespace", "name", "project", "spec").iterator():
        try:
            require_shape(application)
        except Stalled as error:
            found.append(f"application {application.qualified_name}: {error.message}")
    return _some(found, "; ") + "; save them again" if found else ""


def _settings() -> str:
    return _some(wrong_settings(settings_of(ALLOWED)), "; ")


CHECKS: list[tuple[str, Callable[[], str]]] = [
    ("database", _database),
    ("data folder", _folder),
    ("tools", _tools),
    ("metrics", _metrics),
    ("renderers", _renderers),
    ("broker", _broker),
    ("account admin", _admin),
    ("stored secrets", _secrets),
    ("clusters", _clusters),
    ("repositories", _repositories),
    ("work", _work),
    ("policies", _policies),
    ("stored rows", _rows),
    ("settings", _settings),
]
