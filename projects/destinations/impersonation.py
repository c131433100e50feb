"""Impersonation: the service account that the hub acts as in a cluster."""

from clusters.kube import Connection, connect
from clusters.models import Cluster
from hub.engine.errors import Forbidden, RuleError, Stalled
from hub.engine.project_restrictions import service_account_for
from hub.models import setting
from projects.models import Application, Project


def user_for(application: Application, project: Project | None, cluster: Cluster) -> str:
    """Return the user to impersonate, empty for the hub itself.

    Raises: Stalled if impersonation is enabled and the project names no service account.
    """
    if setting("impersonation", default=False) is not True:
        return ""
    spec = project.spec if project is not None else {}
    try:
        found = service_account_for(
            spec, cluster.server, application.dest_namespace, application.namespace
        )
    except RuleError as error:
        raise Stalled("InvalidProject", f"project '{application.project}': {error}") from error
    if found is None:
        raise Forbidden(
            "NoServiceAccount",
            f"no matching service account found for destination server {cluster.server} "
            f"and namespace {application.dest_namespace}",
        )
    return found


def identity_for(
    application: Application, project: Project | None, cluster: Cluster
) -> str | Stalled:
    """Return the user to impersonate, or the error if the destination is the hub itself.

    The hub's own kinds need no service account; other resources are refused with this error.
    Raises: Stalled; see `user_for`.
    """
    try:
        return user_for(application, project, cluster)
    except Stalled as error:
        if not cluster.is_home:
            raise
        return error


def connection_for(
    application: Application, project: Project | None, cluster: Cluster
) -> Connection:
    """Return the connection to a cluster as the user that the project names.

    Raises: Stalled; see `user_for`.
    """
    return connect(cluster, user_for(application, project, cluster))
