"""The sync windows that apply to an application."""

from datetime import datetime

from hub.engine.sync_windows import Windows, windows_for
from projects.models import Application
from projects.objects.specs import project_of_or_none


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
