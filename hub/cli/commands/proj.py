"""`flotilla proj`: projects, their roles and windows."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from hub.cli import files
from hub.cli.client import Client, path
from hub.cli.commands import integrity, proj_roles, proj_windows
from hub.cli.output import facts, print_line, printed, table
from hub.cli.problem import Problem
from hub.cli.projects import change as change_project
from hub.cli.projects import read, save, toggle
from hub.cli.projectspec import Given, fields, kinds_of

app = typer.Typer(help="Projects, their roles and windows.", no_args_is_help=True)
app.add_typer(proj_roles.app, name="role")
app.add_typer(proj_windows.app, name="windows")
app.add_typer(integrity.app, name="source-integrity")

Project = Annotated[str, typer.Argument(metavar="PROJECT", help="Project.")]
Output = Annotated[str, typer.Option("--output", "-o", help="wide, json, yaml or name.")]
Dest = Annotated[
    list[str] | None, typer.Option("--dest", "-d", help="SERVER,NAMESPACE; may be repeated.")
]
Src = Annotated[list[str] | None, typer.Option("--src", "-s", help="Repository; may be repeated.")]
Description = Annotated[str, typer.Option("--description", help="Description.")]
SourceNamespace = Annotated[
    list[str] | None,
    typer.Option("--source-namespaces", help="Namespace of applications; may be repeated."),
]
SignatureKeys = Annotated[
    list[str] | None, typer.Option("--signature-keys", help="Id of a key; may be repeated.")
]
Orphaned = Annotated[
    bool | None,
    typer.Option(
        "--orphaned-resources/--no-orphaned-resources", help="Monitor orphaned resources."
    ),
]
OrphanedWarn = Annotated[
    bool | None,
    typer.Option(
        "--orphaned-resources-warn/--no-orphaned-resources-warn",
        help="Warn about orphaned resources.",
    ),
]


AllowCluster = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-cluster-resource",
        help=("Permitted cluster-scoped kind, GROUP/KIND, or GROUP/KIND/NAME; may be repeated."),
    ),
]
DenyCluster = Annotated[
    list[str] | None,
    typer.Option("--deny-cluster-resource", help="Denied cluster-scoped kind; may be repeated."),
]
AllowNamespaced = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-namespaced-resource",
        "--allow-namespace-resource",
        help="Permitted namespaced kind, which denies all others; may be repeated.",
    ),
]
DenyNamespaced = Annotated[
    list[str] | None,
    typer.Option(
        "--deny-namespaced-resource",
        "--deny-namespace-resource",
        help="Denied namespaced kind; may be repeated.",
    ),
]
Accounts = Annotated[
    list[str] | None,
    typer.Option(
        "--dest-service-accounts",
        help="Service account for syncs, as SERVER,NAMESPACE,ACCOUNT; may be repeated.",
    ),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="[PROJECT]", help="Project.")] = "",
    dest: Dest = None,
    src: Src = None,
    description: Description = "",
    source_namespaces: SourceNamespace = None,
    signature_keys: SignatureKeys = None,
    orphaned: Orphaned = None,
    orphaned_warn: OrphanedWarn = None,
    allow_cluster: AllowCluster = None,
    deny_cluster: DenyCluster = None,
    allow_namespaced: AllowNamespaced = None,
    deny_namespaced: DenyNamespaced = None,
    accounts: Accounts = None,
    file: Annotated[str, typer.Option("--file", "-f", help="Manifest: a file, a URL, or -.")] = "",
    upsert: Annotated[bool, typer.Option("--upsert", help="Update an existing project.")] = False,
) -> None:
    """Create a project."""
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
    body = document(name, file, given)
    Client.from_disk().post(path("projects"), {"project": body, "upsert": upsert})


def document(name: str, file: str, given: Given) -> dict[str, Any]:
    """Return the metadata and spec of a project, of a file and of flags.

    Raises: Problem without a name.
    """
    body = files.manifests([file])[0] if file else {"metadata": {}, "spec": {}}
    metadata = {**(body.get("metadata") or {}), **({"name": name} if name else {})}
    spec = dict(body.get("spec") or {})
    fields(spec, given)
    if not metadata.get("name"):
        raise Problem("the project needs a name")
    return {"metadata": metadata, "spec": spec}


@app.command("set")
def set_(
    name: Project,
    dest: Dest = None,
    src: Src = None,
    description: Description = "",
    source_namespaces: SourceNamespace = None,
    signature_keys: SignatureKeys = None,
    orphaned: Orphaned = None,
    orphaned_warn: OrphanedWarn = None,
    allow_cluster: AllowCluster = None,
    deny_cluster: DenyCluster = None,
    allow_namespaced: AllowNamespaced = None,
    deny_namespaced: DenyNamespaced = None,
    accounts: Accounts = None,
) -> None:
    """Change fields of a project."""
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
    change_project(name, lambda spec: fields(spec, given))


@app.command("list")
def list_(output: Output = "wide") -> None:
    """List projects."""
    items = Client.from_disk().get(path("projects")).get("items") or []
    if printed(items, output, "name"):
        return
    if output == "name":
        for one in items:
            print_line(one["metadata"]["name"])
        return
    head = [
        "NAME",
        "DESCRIPTION",
        "DESTINATIONS",
        "SOURCES",
        "CLUSTER-RESOURCE-WHITELIST",
        "NAMESPACE-RESOURCE-BLACKLIST",
        "SIGNATURE-KEYS",
        "ORPHANED-RESOURCES",
        "DESTINATION-SERVICE-ACCOUNTS",
    ]
    table(head, [_row(i) for i in items])


def _counted(values: list[Any], word: str, show: Callable[[Any], str]) -> str:
    if not values:
        return "<none>"
    return show(values[0]) if len(values) == 1 else f"{len(values)} {word}"


def _place(entry: dict[str, Any]) -> str:
    return f"{entry.get('server') or entry.get('name') or ''},{entry.get('namespace', '')}"


def _kind(entry: dict[str, Any]) -> str:
    return f"{entry.get('group', '')}/{entry.get('kind', '')}"


def _row(item: dict[str, Any]) -> list[str]:
    spec = item["spec"]
    watched = spec.get("orphanedResources")
    orphans = "disabled"
    if watched is not None:
        ignored = f", ignored {len(watched['ignore'])}" if watched.get("ignore") else ""
        orphans = f"enabled (warn={str(watched.get('warn', True)).lower()}{ignored})"
    return [
        item["metadata"]["name"],
        spec.get("description", ""),
        _counted(spec.get("destinations") or [], "destinations", _place),
        _counted(spec.get("sourceRepos") or [], "repos", str),
        _counted(spec.get("clusterResourceWhitelist") or [], "resources", _kind),
        _counted(spec.get("namespaceResourceBlacklist") or [], "resources", _kind),
        _counted(spec.get("signatureKeys") or [], "key(s)", lambda k: str(k.get("keyID", ""))),
        orphans,
        _counted(
            spec.get("destinationServiceAccounts") or [],
            "destinations",
            lambda a: str(a.get("defaultServiceAccount", "")),
        ),
    ]


@app.command()
def get(name: Project, output: Output = "wide") -> None:
    """Show a project."""
    found = read(Client.from_disk(), name)
    if printed(found, output):
        return
    spec = found["spec"]
    facts([("Name", name), ("Description", spec.get("description", ""))])
    for label, values in (
        ("Destinations", [_place(d) for d in spec.get("destinations") or []]),
        ("Repositories", spec.get("sourceRepos") or []),
        ("Source Namespaces", spec.get("sourceNamespaces") or []),
        (
            "Allowed Cluster Resources",
            [_kind(k) for k in spec.get("clusterResourceWhitelist") or []],
        ),
        (
            "Denied Namespaced Resources",
            [_kind(k) for k in spec.get("namespaceResourceBlacklist") or []],
        ),
        ("Signature keys", [k.get("keyID", "") for k in spec.get("signatureKeys") or []]),
        ("Orphaned Resources", [_row(found)[7]]),
    ):
        for number, value in enumerate(values or ["<none>"]):
            print_line(f"{label + ':' if not number else '':<30}{value}")


@app.command()
def edit(name: Project) -> None:
    """Edit the spec of a project in $EDITOR."""
    hub = Client.from_disk()
    found = read(hub, name)
    after = files.edited(found["spec"])
    if after == found["spec"]:
        print_line("Nothing was changed")
        return
    if not isinstance(after, dict):
        raise Problem("a spec is an object: nothing was changed")
    save(hub, {**found, "spec": after})


@app.command()
def delete(
    names: Annotated[list[str], typer.Argument(metavar="PROJECT...", help="Projects.")],
) -> None:
    """Delete projects that no application uses."""
    hub = Client.from_disk()
    for name in names:
        hub.delete(path("projects", name))


@app.command("add-destination")
def add_destination(
    name: Project,
    server: Annotated[str, typer.Argument(help="Server, or name with --name.")],
    namespace: Annotated[str, typer.Argument(help="Namespace.")],
    by_name: Annotated[bool, typer.Option("--name", help="SERVER is a cluster's name.")] = False,
) -> None:
    """Add a permitted destination."""
    change_project(
        name,
        toggle(
            "destinations",
            {"name" if by_name else "server": server, "namespace": namespace},
            add=True,
        ),
    )


@app.command("remove-destination")
def remove_destination(
    name: Project,
    server: Annotated[str, typer.Argument(help="Server or name.")],
    namespace: Annotated[str, typer.Argument(help="Namespace.")],
) -> None:
    """Remove a permitted destination."""

    def change(spec: dict[str, Any]) -> None:
        listed = spec.get("destinations") or []
        kept = [d for d in listed if _place(d) != f"{server},{namespace}"]
        if len(kept) == len(listed):
            raise Problem("it is not in destinations")
        spec["destinations"] = kept

    change_project(name, change)


@app.command("add-source")
def add_source(name: Project, url: Annotated[str, typer.Argument(help="Repository.")]) -> None:
    """Add a permitted repository."""
    change_project(name, toggle("sourceRepos", url, add=True))


@app.command("remove-source")
def remove_source(name: Project, url: Annotated[str, typer.Argument(help="Repository.")]) -> None:
    """Remove a permitted repository."""
    change_project(name, toggle("sourceRepos", url, add=False))


@app.command("add-source-namespace")
def add_source_namespace(
    name: Project, namespace: Annotated[str, typer.Argument(help="Namespace.")]
) -> None:
    """Permit applications in a namespace."""
    change_project(name, toggle("sourceNamespaces", namespace, add=True))


@app.command("remove-source-namespace")
def remove_source_namespace(
    name: Project, namespace: Annotated[str, typer.Argument(help="Namespace.")]
) -> None:
    """Stop permitting applications in a namespace."""
    change_project(name, toggle("sourceNamespaces", namespace, add=False))


@app.command("add-signature-key")
def add_signature_key(
    name: Project, key_id: Annotated[str, typer.Argument(help="Key id.")]
) -> None:
    """Require commits signed by a key."""
    change_project(name, toggle("signatureKeys", {"keyID": key_id}, add=True))


@app.command("remove-signature-key")
def remove_signature_key(
    name: Project, key_id: Annotated[str, typer.Argument(help="Key id.")]
) -> None:
    """Remove a required key."""
    change_project(name, toggle("signatureKeys", {"keyID": key_id}, add=False))


@app.command("add-orphaned-ignore")
def add_orphaned_ignore(
    name: Project,
    group: Annotated[str, typer.Argument(help="Group.")],
    kind: Annotated[str, typer.Argument(help="Kind.")],
    resource: Annotated[str, typer.Option("--name", help="Name.")] = "",
) -> None:
    """Ignore an orphaned resource."""
    change_project(
        name,
        lambda spec: toggle("ignore", _expected(group, kind, resource), add=True)(
            spec.setdefault("orphanedResources", {})
        ),
    )


@app.command("remove-orphaned-ignore")
def remove_orphaned_ignore(
    name: Project,
    group: Annotated[str, typer.Argument(help="Group.")],
    kind: Annotated[str, typer.Argument(help="Kind.")],
    resource: Annotated[str, typer.Option("--name", help="Name.")] = "",
) -> None:
    """Stop ignoring an orphaned resource."""
    change_project(
        name,
        lambda spec: toggle("ignore", _expected(group, kind, resource), add=False)(
            spec.setdefault("orphanedResources", {})
        ),
    )


def _expected(group: str, kind: str, name: str) -> dict[str, str]:
    return {"group": group, "kind": kind, **({"name": name} if name else {})}


@app.command("add-destination-service-account")
def add_destination_service_account(
    name: Project,
    server: Annotated[str, typer.Argument(help="Server.")],
    namespace: Annotated[str, typer.Argument(help="Namespace.")],
    account: Annotated[str, typer.Argument(help="Service account.")],
) -> None:
    """Use a service account for syncs to a destination."""
    change_project(
        name,
        toggle(
            "destinationServiceAccounts",
            {"server": server, "namespace": namespace, "defaultServiceAccount": account},
            add=True,
        ),
    )


@app.command("remove-destination-service-account")
def remove_destination_service_account(
    name: Project,
    server: Annotated[str, typer.Argument(help="Server.")],
    namespace: Annotated[str, typer.Argument(help="Namespace.")],
    account: Annotated[str, typer.Argument(help="Service account.")],
) -> None:
    """Stop using a service account for syncs to a destination."""
    change_project(
        name,
        toggle(
            "destinationServiceAccounts",
            {"server": server, "namespace": namespace, "defaultServiceAccount": account},
            add=False,
        ),
    )


def _lists(white: str, black: str, *, allow: bool, by_white: bool) -> Callable[..., None]:
    def run(name: str, group: str, kind: str, resource: str = "") -> None:
        entry = {"group": group, "kind": kind, **({"name": resource} if resource else {})}

        def change(spec: dict[str, Any]) -> None:
            if by_white:
                toggle(white, entry, add=allow)(spec)
            else:
                toggle(black, entry, add=not allow)(spec)

        change_project(name, change)

    return run


_Group = Annotated[str, typer.Argument(help="API group; empty text for core.")]
_KindArg = Annotated[str, typer.Argument(metavar="KIND", help="Kind.")]
_KindName = Annotated[str, typer.Argument(metavar="[NAME]", help="Only resources with this name.")]
_List = Annotated[str, typer.Option("--list", "-l", help="The list to change: allow or deny.")]


def _by_white(text: str, usual: str) -> bool:
    word = text or usual
    if word not in ("allow", "deny"):
        raise Problem(f"--list {text}: allow or deny")
    return word == "allow"


@app.command("allow-cluster-resource")
def allow_cluster_resource(
    name: Project, group: _Group, kind: _KindArg, resource: _KindName = "", list_: _List = ""
) -> None:
    """Permit a cluster-scoped kind."""
    _lists(
        "clusterResourceWhitelist",
        "clusterResourceBlacklist",
        allow=True,
        by_white=_by_white(list_, "allow"),
    )(name, group, kind, resource)


@app.command("deny-cluster-resource")
def deny_cluster_resource(
    name: Project, group: _Group, kind: _KindArg, resource: _KindName = "", list_: _List = ""
) -> None:
    """Stop permitting a cluster-scoped kind."""
    _lists(
        "clusterResourceWhitelist",
        "clusterResourceBlacklist",
        allow=False,
        by_white=_by_white(list_, "allow"),
    )(name, group, kind, resource)


@app.command("allow-namespace-resource")
def allow_namespace_resource(
    name: Project, group: _Group, kind: _KindArg, list_: _List = ""
) -> None:
    """Permit a namespaced kind."""
    _lists(
        "namespaceResourceWhitelist",
        "namespaceResourceBlacklist",
        allow=True,
        by_white=_by_white(list_, "deny"),
    )(name, group, kind)


@app.command("deny-namespace-resource")
def deny_namespace_resource(
    name: Project, group: _Group, kind: _KindArg, list_: _List = ""
) -> None:
    """Stop permitting a namespaced kind."""
    _lists(
        "namespaceResourceWhitelist",
        "namespaceResourceBlacklist",
        allow=False,
        by_white=_by_white(list_, "deny"),
    )(name, group, kind)
