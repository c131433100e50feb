"""The sync windows that apply to an application."""

from datetime import datetime

from django.utils import timezone

from hub.engine.sync_windows import Windows, windows_for
from hub.events.queue import wake
from hub.events.task_names import TaskName
from projects.models import Application, Operation
from projects.objects.specs import project_of_or_none

BLOCKED = "waiting: blocked by a sync window"
"""How the message of an operation begins that a window holds."""


def resume_blocked() -> None:
    """Let every operation that a window holds look at the windows again.

    Also those of other projects, because they may inherit the windows that changed.
    """
    blocked = Operation.objects.filter(phase="Running", message__startswith=BLOCKED)
    keys = list(blocked.values_list("pk", flat=True))
    blocked.update(due_at=timezone.now())
    for pk in keys:
        wake(TaskName.PROJECTS_SYNC, pk)


def windows_of(application: Application, now: datetime) -> Windows:
    """Return the windows that the application's project and global projects define for it."""
    project = project_of_or_none(application.project)
    if project is None or not project.spec.get("syncWindows"):
        return Windows()
    destination = application.spec.get("destination") or {}
    cluster = application.cluster
    names = (
        (cluster.name, cluster.server)
        if cluster
        else (str(destination.get("name") or ""), str(destination.get("server") or ""))
    )
    return windows_for(
        project.spec["syncWindows"],
        name=application.name,
        namespace=application.dest_namespace,
        cluster=names,
        now=now,
    )
