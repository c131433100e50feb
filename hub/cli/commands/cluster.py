"""`flotilla cluster`: clusters of the hub."""

import sys
from typing import Annotated, Any

import typer

from hub.cli import unsupported
from hub.cli.client import Client, path
from hub.cli.output import print_line, printed, table
from hub.cli.problem import Problem

app = typer.Typer(help="Clusters of the hub.", no_args_is_help=True)
_Which = Annotated[
    str, typer.Argument(metavar="SERVER|NAME", help="URL of the API server, or name.")
]
Output = Annotated[str, typer.Option("--output", "-o", help="wide, json, yaml, server or name.")]


Refused = Annotated[
    list[str] | None,
    typer.Option(
        "--exec-command",
        "--exec-command-args",
        "--exec-command-env",
        "--exec-command-api-version",
        "--exec-command-install-hint",
        "--aws-cluster-name",
        "--aws-role-arn",
        "--aws-profile",
        help="Not served: the hub runs no programs.",
    ),
]
Proxies = Annotated[
    list[str] | None, typer.Option("--proxy-url", "--server-proxy-url", help="Not served.")
]


Context = Annotated[str, typer.Argument(help="Context of the kubeconfig.")]
Kubeconfig = Annotated[
    str,
    typer.Option(
        "--kubeconfig",
        help="Path of the kubeconfig (default: KUBECONFIG, then ~/.kube/config).",
    ),
]
Name = Annotated[str, typer.Option("--name", help="Name in the hub (default: the context).")]
Label = Annotated[
    list[str] | None, typer.Option("--label", help="Label as key=value; may be repeated.")
]
Namespace = Annotated[
    list[str] | None,
    typer.Option("--namespace", help="Manage only this namespace; may be repeated."),
]
SystemNamespace = Annotated[
    str, typer.Option("--system-namespace", help="Namespace of the service account.")
]
ServiceAccount = Annotated[
    str, typer.Option("--service-account", help="Name of the service account.")
]
_Upsert = Annotated[
    bool, typer.Option("--upsert", help="Update a cluster that is already registered.")
]
Annotation = Annotated[
    list[str] | None,
    typer.Option("--annotation", help="Annotation as key=value; may be repeated."),
]
ClusterResources = Annotated[
    bool,
    typer.Option("--cluster-resources", help="With --namespace: also cluster-scoped kinds."),
]
Project = Annotated[str, typer.Option("--project", help="Project that the cluster belongs to.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
InCluster = Annotated[
    bool,
    typer.Option("--in-cluster", help="The hub's own cluster, by its internal address."),
]
ClusterEndpoint = Annotated[
    str,
    typer.Option(
        "--cluster-endpoint",
        help="Source of the cluster's address: kubeconfig, kube-public or internal.",
    ),
]
Shard = Annotated[int, typer.Option("--shard", help="Refused: any watcher serves any cluster.")]
DisableCompression = Annotated[
    bool,
    typer.Option(
        "--disable-compression",
        help="Refused: the cluster decides whether responses are compressed.",
    ),
]


@app.command("add")
def cluster_add(
    context: Context,
    kubeconfig: Kubeconfig = "",
    name: Name = "",
    label: Label = None,
    namespace: Namespace = None,
    system_namespace: SystemNamespace = "kube-system",
    service_account: ServiceAccount = "flotilla-manager",
    upsert: _Upsert = False,
    annotation: Annotation = None,
    cluster_resources: ClusterResources = False,
    project: Project = "",
    yes: _Yes = False,
    in_cluster: InCluster = False,
    cluster_endpoint: ClusterEndpoint = "kubeconfig",
    shard: Shard = -1,
    disable_compression: DisableCompression = False,
    programs: Refused = None,
    proxies: Proxies = None,
) -> None:
    """Register a cluster: create a service account, role and token in it for the hub."""
    from hub.cli import client, clusters

    refuse_unserved(shard, programs, proxies, disable_compression=disable_compression)
    labels = clusters.parse_labels(label or [])
    if not yes:
        _confirm(context, service_account, namespace)
    found = clusters.read_context(kubeconfig, context)
    token = clusters.install(found, system_namespace, service_account, namespace or [])
    body = clusters.registration(found, token, name or context, labels, namespace or [])
    body |= clusters.endpoint(found, "internal" if in_cluster else cluster_endpoint, body)
    body |= {
        k: v
        for k, v in (
            ("annotations", clusters.parse_labels(annotation or [])),
            ("clusterResources", cluster_resources),
            ("project", project),
        )
        if v
    }
    client.Client.from_disk().post("/api/v1/clusters" + ("?upsert=true" if upsert else ""), body)
    typer.echo(f"Cluster '{body['server']}' added")


def refuse_unserved(
    shard: int, programs: object, proxies: object, *, disable_compression: bool
) -> None:
    """Refuse options of Argo CD that the hub has no use for.

    Raises: Problem with the next step.
    """
    unsupported.refuse("--shard", shard != -1, "any watcher serves any cluster")
    unsupported.refuse(
        "--disable-compression",
        disable_compression,
        "the cluster decides whether responses are compressed",
    )
    if programs:
        raise Problem(
            "the hub runs no programs to sign in to a cluster: leave --exec-command and "
            "--aws-… out, it uses the service account that this command makes"
        )
    if proxies:
        raise Problem(
            "the hub reaches clusters without a proxy: leave --proxy-url and --server-proxy-url out"
        )


def _confirm(context: str, service_account: str, namespaces: list[str] | None) -> None:
    level = "namespace" if namespaces else "cluster"
    if sys.stdin.isatty() and not typer.confirm(
        f"WARNING: This will create a service account `{service_account}` on the cluster "
        f"referenced by context `{context}` with full {level} level privileges. "
        "Do you want to continue?"
    ):
        raise typer.Exit(20)


def _path(which: str, *more: str) -> str:
    kind = "" if which.startswith(("http://", "https://")) else "name"
    return path("clusters", which, *more, **{"id.type": kind})


@app.command("list")
def list_(output: Output = "wide") -> None:
    """List the clusters of the hub."""
    rows = Client.from_disk().get(path("clusters"))["items"]
    if printed(rows, output, "server", "name"):
        return
    if output in ("server", "name"):
        for row in rows:
            print_line(str(row.get(output) or ""))
        return
    table(["SERVER", "NAME", "VERSION", "STATUS", "MESSAGE", "PROJECT"], [_row(r) for r in rows])


def _row(row: dict[str, Any]) -> list[str]:
    spaces = row.get("namespaces") or []
    state = row.get("connectionState") or {}
    return [
        row["server"] + (f" ({len(spaces)} namespaces)" if spaces else ""),
        row.get("name", ""),
        row.get("serverVersion", ""),
        state.get("status", ""),
        state.get("message", ""),
        row.get("project", ""),
    ]


@app.command()
def get(which: _Which, output: Output = "yaml") -> None:
    """Show a cluster."""
    row = Client.from_disk().get(_path(which))
    if not printed(row, output, "server", "name"):
        if output in ("server", "name"):
            print_line(str(row.get(output) or ""))
        else:
            table(["SERVER", "NAME", "VERSION", "STATUS", "MESSAGE", "PROJECT"], [_row(row)])


@app.command("set")
def set_(
    which: _Which,
    name: Annotated[str, typer.Option("--name", help="New name.")] = "",
    namespace: Annotated[
        list[str] | None,
        typer.Option("--namespace", help="Manage only this namespace; * for all; may be repeated."),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="key=value; may be repeated.")
    ] = None,
    annotation: Annotated[
        list[str] | None, typer.Option("--annotation", help="key=value; may be repeated.")
    ] = None,
) -> None:
    """Change the name, namespaces, labels or annotations of a cluster."""
    from hub.cli import clusters

    hub = Client.from_disk()
    row = hub.get(_path(which))
    changes: dict[str, Any] = {}
    if name:
        changes["name"] = name
    if namespace:
        changes["namespaces"] = [] if namespace == ["*"] else namespace
    if label:
        changes["labels"] = {**(row.get("labels") or {}), **clusters.parse_labels(label)}
    if annotation:
        changes["annotations"] = {
            **(row.get("annotations") or {}),
            **clusters.parse_labels(annotation),
        }
    if not changes:
        raise Problem("nothing to set: give --name, --namespace, --label or --annotation")
    hub.put(
        path("clusters", row["server"], updatedFields=list(changes)),
        {"server": row["server"], "name": row.get("name"), **changes},
    )
    print_line(f"Cluster '{which}' updated.")


@app.command()
def rm(
    which: Annotated[list[str], typer.Argument(metavar="SERVER|NAME...", help="Clusters.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove clusters from the hub; their resources keep running."""
    hub = Client.from_disk()
    for one in which:
        if not yes and not typer.confirm(
            f"Are you sure you want to remove '{one}'? "
            "Any apps deploying to this cluster will go to health status Unknown."
        ):
            raise typer.Exit(20)
        hub.delete(_path(one))
        print_line(f"Cluster '{one}' removed")


@app.command("rotate-auth")
def rotate_auth(which: _Which) -> None:
    """Create a new token for a cluster, and delete the old one there."""
    Client.from_disk().post(_path(which, "rotate-auth"), {})
    print_line(f"Cluster '{which}' rotated auth")
