"""`flotilla admin cluster|proj|repo generate-spec` and `admin cluster stats|namespaces`."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from hub.cli.client import Client, path
from hub.cli.commands import cluster, proj, repo
from hub.cli.output import print_line, printed, table
from hub.cli.problem import Problem
from hub.cli.projectspec import Given, kinds_of

clusters_app = typer.Typer(help="Clusters.", no_args_is_help=True)
projects_app = typer.Typer(help="Projects.", no_args_is_help=True)
repositories_app = typer.Typer(help="Repositories.", no_args_is_help=True)
_Form = Annotated[str, typer.Option("--output", "-o", help="yaml or json.")]
_BearerToken = Annotated[
    str,
    typer.Option("--bearer-token", help="Token (default: one of the service account is made)."),
]


def _show(document: Mapping[str, Any], output: str) -> None:
    if output not in ("yaml", "json"):
        raise Problem(f"--output {output}: yaml, json")
    printed(document, output)


def _secret(kind: str, name: str, metadata: Mapping[str, Any], data: Mapping[str, Any]) -> Any:
    from hub.cli.installation.report import SECRET_TYPE

    labels = {SECRET_TYPE: kind, **metadata.get("labels", {})}
    found = {"name": name, "namespace": "argocd", "labels": labels}
    if metadata.get("annotations"):
        found["annotations"] = metadata["annotations"]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": found,
        "stringData": {k: v for k, v in data.items() if v not in ("", None, False)},
    }


@clusters_app.command("generate-spec")
def cluster_spec(
    context: cluster.Context,
    kubeconfig: cluster.Kubeconfig = "",
    name: cluster.Name = "",
    label: cluster.Label = None,
    annotation: cluster.Annotation = None,
    namespace: cluster.Namespace = None,
    cluster_resources: cluster.ClusterResources = False,
    project: cluster.Project = "",
    system_namespace: cluster.SystemNamespace = "kube-system",
    service_account: cluster.ServiceAccount = "flotilla-manager",
    bearer_token: _BearerToken = "",
    in_cluster: cluster.InCluster = False,
    cluster_endpoint: cluster.ClusterEndpoint = "kubeconfig",
    shard: cluster.Shard = -1,
    disable_compression: cluster.DisableCompression = False,
    programs: cluster.Refused = None,
    proxies: cluster.Proxies = None,
    output: _Form = "yaml",
) -> None:
    """Print the Secret of a cluster for flotilla admin import; the hub is not asked.

    Without --bearer-token a service account, its role and a token are made in the cluster.
    """
    from hub.cli import clusters

    cluster.refuse_unserved(shard, programs, proxies, disable_compression=disable_compression)
    found = clusters.read_context(kubeconfig, context)
    token = bearer_token or clusters.install(
        found, system_namespace, service_account, namespace or []
    )
    body = clusters.registration(found, token, name or context, {}, namespace or [])
    body |= clusters.endpoint(found, "internal" if in_cluster else cluster_endpoint, body)
    metadata = {
        "labels": clusters.parse_labels(label or []),
        "annotations": clusters.parse_labels(annotation or []),
    }
    data = {
        "name": body["name"],
        "server": body["server"],
        "project": project,
        "namespaces": ",".join(body["namespaces"]),
        "clusterResources": "true" if cluster_resources else "",
        "config": json.dumps(body["config"]),
    }
    _show(_secret("cluster", f"cluster-{_slug(body['server'])}", metadata, data), output)


@clusters_app.command("stats")
def cluster_stats(output: cluster.Output = "wide") -> None:
    """Show what the hub watches of each cluster; there are no shards here."""
    rows = Client.from_disk().get(path("clusters"))["items"]
    if printed(rows, output, "server", "name"):
        return
    if output in ("server", "name"):
        for row in rows:
            print_line(str(row.get(output) or ""))
        return
    head = ["SERVER", "SHARD", "CONNECTION", "NAMESPACES COUNT", "APPS COUNT", "RESOURCES COUNT"]
    table(head, [_counts(r) for r in rows])


def _counts(row: Mapping[str, Any]) -> list[str]:
    info = row.get("info") or {}
    return [
        row["server"],
        "-",
        str((row.get("connectionState") or {}).get("status") or ""),
        str(len(row.get("namespaces") or [])),
        str(info.get("applicationsCount") or 0),
        str((info.get("cacheInfo") or {}).get("resourcesCount") or 0),
    ]


@clusters_app.command("namespaces")
def cluster_namespaces() -> None:
    """List the namespaces that applications of each cluster deploy to."""
    hub = Client.from_disk()
    servers = {c.get("name"): c["server"] for c in hub.get(path("clusters"))["items"]}
    found: dict[str, set[str]] = {}
    for app in hub.get(path("applications")).get("items") or []:
        place = app["spec"].get("destination") or {}
        server = place.get("server") or servers.get(place.get("name"), place.get("name") or "")
        found.setdefault(str(server), set()).add(str(place.get("namespace") or ""))
    rows = [[s, ",".join(sorted(n for n in names if n))] for s, names in sorted(found.items())]
    table(["CLUSTER", "NAMESPACES"], rows)


@projects_app.command("generate-spec")
def project_spec(
    name: Annotated[str, typer.Argument(metavar="[PROJECT]", help="Project.")] = "",
    dest: proj.Dest = None,
    src: proj.Src = None,
    description: proj.Description = "",
    source_namespaces: proj.SourceNamespace = None,
    signature_keys: proj.SignatureKeys = None,
    orphaned: proj.Orphaned = None,
    orphaned_warn: proj.OrphanedWarn = None,
    allow_cluster: proj.AllowCluster = None,
    deny_cluster: proj.DenyCluster = None,
    allow_namespaced: proj.AllowNamespaced = None,
    deny_namespaced: proj.DenyNamespaced = None,
    accounts: proj.Accounts = None,
    file: Annotated[str, typer.Option("--file", "-f", help="Manifest: a file, a URL, or -.")] = "",
    output: _Form = "yaml",
) -> None:
    """Print the manifest of a project; the hub is not asked."""
    kinds = kinds_of(allow_cluster, deny_cluster, allow_namespaced, deny_namespaced)
    given = Given(
        dest,
        src,
        description,
        source_namespaces,
        signature_keys,
        orphaned,
        orphaned_warn,
        kinds,
        accounts,
    )
    body = proj.document(name, file, given)
    _show({"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", **body}, output)


@repositories_app.command("generate-spec")
def repository_spec(
    url: repo.Url,
    type_: repo.Type = "git",
    name: repo.Name = "",
    project: repo.Project = "",
    username: repo.User = "",
    password: repo.Password = "",
    bearer_token: repo.Bearer = "",
    ssh_private_key_path: repo.SSHKey = "",
    tls_client_cert_path: repo.TLSCert = "",
    tls_client_cert_key_path: repo.TLSKey = "",
    insecure: repo.Insecure = False,
    enable_lfs: repo.EnableLfs = False,
    enable_oci: repo.OCI = False,
    insecure_oci_force_http: repo.HTTP = False,
    github_app_id: repo.AppID = 0,
    github_app_installation_id: repo.AppInstallation = 0,
    github_app_private_key_path: repo.AppKey = "",
    github_app_enterprise_base_url: repo.AppURL = "",
    gcp_service_account_key_path: repo.GCPKey = "",
    force_http_basic_auth: repo.Basic = False,
    proxy: repo.Proxy = "",
    no_proxy: repo.NoProxy = "",
    depth: repo.Depth = 0,
    output: _Form = "yaml",
) -> None:
    """Print the Secret of a repository, for flotilla admin import; the hub is not asked."""
    if type_ == "helm" and not name:
        raise Problem("--name is required for a Helm repository")
    data = {"url": url, "type": type_, **repo.secret(locals())}
    data |= {"name": name, "project": project, "insecure": insecure, "enableLfs": enable_lfs}
    data |= {"depth": depth or None}
    texts = {k: "true" if v is True else str(v) for k, v in data.items() if v}
    _show(_secret("repository", f"repo-{_slug(url)}", {}, texts), output)


def _slug(text: str) -> str:
    place = text.partition("://")[2].lower() or text.lower()
    return "".join(c if c.isalnum() else "-" for c in place).strip("-")[:200]
