"""Routes of the hub."""

from collections.abc import Callable

from django.http import HttpResponseBase
from django.urls import URLPattern, path, re_path
from drf_spectacular.views import SpectacularAPIView

from clusters import api as clusters
from hub import accounts, review, roles, views
from projects.api import (
    actions,
    applications,
    deployments,
    details,
    logs,
    operations,
    projects,
    repositories,
    resources,
    settings,
    streams,
    webhooks,
)

_APP = "api/v1/applications/<str:name>"
# Repository and cluster URLs come percent-encoded; servers hand them on decoded, slashes and all.
_ANY = r"(?P<{}>.+?)"


def _tail(prefix: str, name: str, tail: str, view: Callable[..., HttpResponseBase]) -> URLPattern:
    return re_path(rf"^{prefix}/{_ANY.format(name)}{tail}$", view)


urlpatterns = [
    path("", views.start),
    path("healthz", views.healthz),
    path("readyz", views.readyz),
    path("metrics", views.metrics),
    path("api/version", views.Version.as_view()),
    path("api/webhook", webhooks.webhook),
    path("api/schema", SpectacularAPIView.as_view(permission_classes=[])),
    path("api/v1/session", views.SessionView.as_view()),
    path("api/v1/session/userinfo", views.UserInfo.as_view()),
    path("api/v1/settings", views.Settings.as_view()),
    path("api/v1/account", accounts.Accounts.as_view()),
    path("api/v1/account/password", accounts.Password.as_view()),
    re_path(
        r"^api/v1/account/can-i/(?P<resource>[^/]+)/(?P<action>[^/]+)/(?P<name>.+)$",
        accounts.CanI.as_view(),
    ),
    path("api/v1/account/<str:name>", accounts.OneAccount.as_view()),
    path("api/v1/account/<str:name>/token", accounts.AccountTokens.as_view()),
    path("api/v1/account/<str:name>/token/<str:token_id>", accounts.AccountToken.as_view()),
    path("api/v1/flotilla/accounts", accounts.CreateAccount.as_view()),
    path("api/v1/flotilla/accounts/<str:name>", accounts.ChangeAccount.as_view()),
    path("api/v1/flotilla/sessions", accounts.Sessions.as_view()),
    path("api/v1/flotilla/sessions/<uuid:session_id>", accounts.OneSession.as_view()),
    path("api/v1/flotilla/tokens", accounts.ApiTokens.as_view()),
    path("api/v1/flotilla/rbac", roles.PolicyDocuments.as_view()),
    path("api/v1/flotilla/roles", roles.Roles.as_view()),
    path("api/v1/flotilla/roles-csv", roles.RolesCSV.as_view()),
    path("api/v1/flotilla/roles/<str:name>", roles.OneRole.as_view()),
    path("api/v1/flotilla/grants", roles.Grants.as_view()),
    path("api/v1/flotilla/grants/<int:number>", roles.OneGrant.as_view()),
    path("api/v1/flotilla/audit", review.Events.as_view()),
    path("api/v1/flotilla/audit/export", review.Export.as_view()),
    path("api/v1/flotilla/audit/verification", review.Verification.as_view()),
    path("api/v1/flotilla/audit/retention", review.Retention.as_view()),
    path("api/v1/flotilla/audit/views", review.Views.as_view()),
    path("api/v1/flotilla/audit/forward", review.Forward.as_view()),
    path("api/v1/flotilla/audit/reports/changes", review.ChangesReport.as_view()),
    path("api/v1/flotilla/audit/reports/access", review.AccessReport.as_view()),
    path("api/v1/flotilla/audit/reports/deployments", deployments.DeploymentsReport.as_view()),
    path("api/v1/flotilla/audit/<uuid:uid>", review.OneEvent.as_view()),
    path("api/v1/flotilla/explain", roles.Explain.as_view()),
    path("api/v1/flotilla/who-can", roles.WhoCan.as_view()),
    path("api/v1/applications", applications.Applications.as_view()),
    path(_APP, applications.OneApplication.as_view()),
    path(f"{_APP}/spec", applications.Spec.as_view()),
    path(f"{_APP}/sync", operations.Sync.as_view()),
    path(f"{_APP}/rollback", operations.Rollback.as_view()),
    path(f"{_APP}/operation", operations.OperationView.as_view()),
    path(f"{_APP}/confirm-deletion", operations.ConfirmDeletion.as_view()),
    path(f"{_APP}/manifests", details.Manifests.as_view()),
    path(f"{_APP}/events", details.Events.as_view()),
    path(f"{_APP}/links", details.Links.as_view()),
    path(f"{_APP}/syncwindows", details.SyncWindows.as_view()),
    path(f"{_APP}/revisions/<str:revision>/metadata", details.RevisionMetadata.as_view()),
    path(f"{_APP}/revisions/<str:revision>/chartdetails", details.ChartDetails.as_view()),
    path(f"{_APP}/resource-tree", resources.ResourceTree.as_view()),
    path(f"{_APP}/managed-resources", resources.ManagedResources.as_view()),
    path(f"{_APP}/server-side-diff", resources.ServerSideDiff.as_view()),
    path(f"{_APP}/resource", resources.ResourceView.as_view()),
    path(f"{_APP}/resource/actions", actions.Actions.as_view()),
    path(f"{_APP}/resource/actions/v2", actions.ActionsV2.as_view()),
    path(f"{_APP}/logs", logs.Logs.as_view()),
    path(f"{_APP}/pods/<str:pod>/logs", logs.Logs.as_view()),
    path("api/v1/stream/applications", streams.ApplicationStream.as_view()),
    path("api/v1/stream/applications/<str:name>/resource-tree", streams.TreeStream.as_view()),
    path("api/v1/flotilla/applications/<str:name>/diff", details.Diff.as_view()),
    path("api/v1/flotilla/applications/<str:name>/operation", operations.Plan.as_view()),
    path("api/v1/flotilla/settings/<str:name>", settings.SettingView.as_view()),
    path("api/v1/projects", projects.Projects.as_view()),
    path("api/v1/projects/<str:name>", projects.OneProject.as_view()),
    path("api/v1/projects/<str:name>/detailed", projects.Detailed.as_view()),
    path("api/v1/projects/<str:name>/links", projects.Empty.as_view()),
    path("api/v1/projects/<str:name>/events", projects.Empty.as_view()),
    path("api/v1/projects/<str:name>/globalprojects", projects.GlobalProjects.as_view()),
    path("api/v1/projects/<str:name>/syncwindows", projects.SyncWindows.as_view()),
    path("api/v1/projects/<str:name>/roles/<str:role>/token", projects.RoleTokens.as_view()),
    path(
        "api/v1/projects/<str:name>/roles/<str:role>/token/<str:issued>",
        projects.RoleToken.as_view(),
    ),
    path("api/v1/certificates", repositories.Certificates.as_view()),
    path("api/v1/repositories", repositories.Repositories.as_view()),
    _tail("api/v1/repositories", "repo", "/refs", repositories.Refs.as_view()),
    _tail("api/v1/repositories", "repo", "/apps", repositories.AppsOf.as_view()),
    _tail("api/v1/repositories", "repo", "/helmcharts", repositories.HelmCharts.as_view()),
    _tail("api/v1/repositories", "repo", "/appdetails", repositories.AppDetails.as_view()),
    _tail("api/v1/repositories", "repo", "/validate", repositories.ValidateRepository.as_view()),
    _tail("api/v1/repositories", "repo", "", repositories.OneRepository.as_view()),
    path("api/v1/repocreds", repositories.Templates.as_view()),
    _tail("api/v1/repocreds", "url", "", repositories.OneTemplate.as_view()),
    path("api/v1/clusters", clusters.Clusters.as_view()),
    _tail("api/v1/clusters", "identity", "/invalidate-cache", clusters.InvalidateCache.as_view()),
    _tail("api/v1/clusters", "identity", "/rotate-auth", clusters.RotateAuth.as_view()),
    _tail("api/v1/clusters", "identity", "", clusters.OneCluster.as_view()),
    re_path(r"^api/(?P<path>.*)$", views.not_found),
]
