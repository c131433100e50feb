"""`flotilla proj`: projects, their roles and windows."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from hub.cli import files
from hub.cli.client import Client, path
from hub.cli.commands import integrity
from hub.cli.commands.account import seconds
from hub.cli.output import facts, printed, say, stamp, table
from hub.cli.problem import Problem
from hub.cli.projects import change as change_project
from hub.cli.projects import read, save
from hub.cli.projectspec import Given, fields, kinds_of

app = typer.Typer(help="Projects, their roles and windows.", no_args_is_help=True)
role_app = typer.Typer(help="Roles of a project.", no_args_is_help=True)
windows_app = typer.Typer(help="Sync windows of a project.", no_args_is_help=True)
app.add_typer(role_app, name="role")
app.add_typer(windows_app, name="windows")
app.add_typer(integrity.app, name="source-integrity")

Project = Annotated[str, typer.Argument(metavar="PROJECT", help="Project.")]
Output = Annotated[str, typer.Option("--output", "-o", help="wide, json, yaml or name.")]
Role = Annotated[str, typer.Argument(metavar="ROLE", help="Role.")]
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
    body = files.manifests([file])[0] if file else {"metadata": {}, "spec": {}}
    metadata = {**(body.get("metadata") or {}), **({"name": name} if name else {})}
    spec = dict(body.get("spec") or {})
    kinds = kinds_of(allow_cluster, deny_cluster, allow_namespaced, deny_namespaced)
    fields(
        spec,
        Given(
            dest,
            src,
            description,
            source_namespaces,
            signature_keys,
            orphaned,
            orphaned_warn,
            kinds,
            accounts,
        ),
    )
    if not metadata.get("name"):
        raise Problem("the project needs a name")
    Client.from_disk().post(
        path("projects"), {"project": {"metadata": metadata, "spec": spec}, "upsert": upsert}
    )


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
            say(one["metadata"]["name"])
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
            say(f"{label + ':' if not number else '':<30}{value}")


@app.command()
def edit(name: Project) -> None:
    """Edit the spec of a project in $EDITOR."""
    hub = Client.from_disk()
    found = read(hub, name)
    after = files.edited(found["spec"])
    if after == found["spec"]:
        say("Nothing was changed")
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


def _toggle(field: str, entry: Any, *, add: bool) -> Callable[[dict[str, Any]], None]:
    def change(spec: dict[str, Any]) -> None:
        listed = list(spec.get(field) or [])
        if add:
            if entry in listed:
                raise Problem(f"it is in {field} already")
            listed.append(entry)
        else:
            if entry not in listed:
                raise Problem(f"it is not in {field}")
            listed.remove(entry)
        spec[field] = listed

    return change


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
        _toggle(
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
    change_project(name, _toggle("sourceRepos", url, add=True))


@app.command("remove-source")
def remove_source(name: Project, url: Annotated[str, typer.Argument(help="Repository.")]) -> None:
    """Remove a permitted repository."""
    change_project(name, _toggle("sourceRepos", url, add=False))


@app.command("add-source-namespace")
def add_source_namespace(
    name: Project, namespace: Annotated[str, typer.Argument(help="Namespace.")]
) -> None:
    """Permit applications in a namespace."""
    change_project(name, _toggle("sourceNamespaces", namespace, add=True))


@app.command("remove-source-namespace")
def remove_source_namespace(
    name: Project, namespace: Annotated[str, typer.Argument(help="Namespace.")]
) -> None:
    """Stop permitting applications in a namespace."""
    change_project(name, _toggle("sourceNamespaces", namespace, add=False))


@app.command("add-signature-key")
def add_signature_key(
    name: Project, key_id: Annotated[str, typer.Argument(help="Key id.")]
) -> None:
    """Require commits signed by a key."""
    change_project(name, _toggle("signatureKeys", {"keyID": key_id}, add=True))


@app.command("remove-signature-key")
def remove_signature_key(
    name: Project, key_id: Annotated[str, typer.Argument(help="Key id.")]
) -> None:
    """Remove a required key."""
    change_project(name, _toggle("signatureKeys", {"keyID": key_id}, add=False))


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
        lambda spec: _toggle("ignore", _expected(group, kind, resource), add=True)(
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
        lambda spec: _toggle("ignore", _expected(group, kind, resource), add=False)(
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
        _toggle(
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
        _toggle(
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
                _toggle(white, entry, add=allow)(spec)
            else:
                _toggle(black, entry, add=not allow)(spec)

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


def _role_of(spec: dict[str, Any], name: str) -> dict[str, Any]:
    found = next((r for r in spec.get("roles") or [] if r.get("name") == name), None)
    if found is None:
        raise Problem(f"the project has no role {name!r}")
    return dict_in_place(found)


def dict_in_place(value: Any) -> dict[str, Any]:
    """Return a nested object, to be changed in place."""
    if not isinstance(value, dict):
        raise Problem("the project holds a role that is no object")
    return value


@role_app.command("list")
def role_list(name: Project, output: Output = "wide") -> None:
    """List roles."""
    roles = read(Client.from_disk(), name)["spec"].get("roles") or []
    if printed(roles, output, "name"):
        return
    if output == "name":
        for one in roles:
            say(one["name"])
        return
    table(["ROLE-NAME", "DESCRIPTION"], [[r["name"], r.get("description", "")] for r in roles])


@role_app.command("get")
def role_get(name: Project, role: Role, output: Output = "wide") -> None:
    """Show a role: its policies, groups and tokens."""
    found = read(Client.from_disk(), name)
    one = _role_of(found["spec"], role)
    if printed(one, output):
        return
    facts([("Role Name", role), ("Description", one.get("description", ""))])
    say("Policies:")
    for line in one.get("policies") or []:
        say(str(line))
    say("Groups:")
    for group in one.get("groups") or []:
        say(str(group))
    say("JWT Tokens:")
    tokens = (((found.get("status") or {}).get("jwtTokensByRole") or {}).get(role) or {}).get(
        "items"
    ) or []
    table(
        ["ID", "ISSUED-AT", "EXPIRES-AT"],
        [
            [t.get("id", ""), stamp(t["iat"]), stamp(t["exp"]) if t.get("exp") else "<none>"]
            for t in tokens
        ],
    )


@role_app.command("create")
def role_create(name: Project, role: Role, description: Description = "") -> None:
    """Create a role."""
    entry = {"name": role, "policies": [], **({"description": description} if description else {})}

    def change(spec: dict[str, Any]) -> None:
        if any(r.get("name") == role for r in spec.get("roles") or []):
            raise Problem(f"the project has a role {role!r} already")
        spec["roles"] = [*(spec.get("roles") or []), entry]

    change_project(name, change)
    say(f"Role '{role}' created")


@role_app.command("delete")
def role_delete(name: Project, role: Role) -> None:
    """Delete a role."""

    def change(spec: dict[str, Any]) -> None:
        gone = _role_of(spec, role)
        spec["roles"] = [r for r in spec["roles"] if r is not gone]

    change_project(name, change)
    say(f"Role '{role}' deleted")


_Action = Annotated[str, typer.Option("--action", "-a", help="Such as sync.")]
_Permission = Annotated[str, typer.Option("--permission", "-p", help="allow or deny.")]
_Object = Annotated[str, typer.Option("--object", "-o", help="Application, or a pattern.")]
_Resource = Annotated[str, typer.Option("--resource", "-r", help="Such as applications.")]


def _policy(
    project: str, role: str, action: str, permission: str, about: str, resource: str
) -> str:
    return f"p, proj:{project}:{role}, {resource}, {action}, {project}/{about}, {permission}"


@role_app.command("add-policy")
def role_add_policy(
    name: Project,
    role: Role,
    action: _Action,
    about: _Object,
    permission: _Permission = "allow",
    resource: _Resource = "applications",
) -> None:
    """Add a rule to a role."""
    change_project(
        name,
        lambda spec: _toggle(
            "policies", _policy(name, role, action, permission, about, resource), add=True
        )(_role_of(spec, role)),
    )


@role_app.command("remove-policy")
def role_remove_policy(
    name: Project,
    role: Role,
    action: _Action,
    about: _Object,
    permission: _Permission = "allow",
    resource: _Resource = "applications",
) -> None:
    """Remove a rule from a role."""
    change_project(
        name,
        lambda spec: _toggle(
            "policies", _policy(name, role, action, permission, about, resource), add=False
        )(_role_of(spec, role)),
    )


@role_app.command("add-group")
def role_add_group(
    name: Project, role: Role, group: Annotated[str, typer.Argument(help="Group.")]
) -> None:
    """Add a group to a role."""
    change_project(name, lambda spec: _toggle("groups", group, add=True)(_role_of(spec, role)))
    say(f"Group '{group}' added to role '{role}'")


@role_app.command("remove-group")
def role_remove_group(
    name: Project, role: Role, group: Annotated[str, typer.Argument(help="Group.")]
) -> None:
    """Remove a group from a role."""
    change_project(name, lambda spec: _toggle("groups", group, add=False)(_role_of(spec, role)))
    say(f"Group '{group}' removed from role '{role}'")


@role_app.command("create-token")
def role_create_token(
    name: Project,
    role: Role,
    expires_in: Annotated[
        str, typer.Option("--expires-in", "-e", help="Such as 24h; 0s is never.")
    ] = "0s",
    id_: Annotated[str, typer.Option("--id", "-i", help="Id; generated by default.")] = "",
    token_only: Annotated[bool, typer.Option("--token-only", "-t", help="Only the token.")] = False,
) -> None:
    """Create a token of a role; it is shown only once."""
    body = {"expiresIn": seconds(expires_in), **({"id": id_} if id_ else {})}
    token = Client.from_disk().post(path("projects", name, "roles", role, "token"), body)["token"]
    if not token_only:
        say(f"Create token succeeded for proj:{name}:{role}.")
    say(token if token_only else f"  Token: {token}")


@role_app.command("delete-token")
def role_delete_token(
    name: Project,
    role: Role,
    token: Annotated[
        str, typer.Argument(metavar="ISSUED-AT|ID", help="Issue time in seconds, or id.")
    ],
) -> None:
    """Revoke a token of a role."""
    where = path(
        "projects",
        name,
        "roles",
        role,
        "token",
        token if token.isdigit() else "0",
        id=None if token.isdigit() else token,
    )
    Client.from_disk().delete(where)


@role_app.command("list-tokens")
def role_list_tokens(
    name: Project,
    role: Role,
    unixtime: Annotated[
        bool, typer.Option("--unixtime", "-u", help="Times as seconds since 1970.")
    ] = False,
) -> None:
    """List the tokens of a role."""
    shown = str if unixtime else stamp
    found = read(Client.from_disk(), name)
    tokens = (((found.get("status") or {}).get("jwtTokensByRole") or {}).get(role) or {}).get(
        "items"
    ) or []
    table(
        ["ID", "ISSUED AT", "EXPIRES AT"],
        [
            [t.get("id", ""), shown(t["iat"]), shown(t["exp"]) if t.get("exp") else "Never"]
            for t in tokens
        ],
    )


_Names = Annotated[str, typer.Option(help="Patterns, separated by commas.")]
_Number = Annotated[int, typer.Argument(metavar="ID", help="Number that `windows list` shows.")]


@windows_app.command("list")
def windows_list(name: Project, output: Output = "wide") -> None:
    """List windows."""
    hub = Client.from_disk()
    windows = read(hub, name)["spec"].get("syncWindows") or []
    if printed(windows, output):
        return
    active = hub.get(path("projects", name, "syncwindows")).get("windows") or []
    head = [
        "ID",
        "STATUS",
        "KIND",
        "SCHEDULE",
        "DURATION",
        "APPLICATIONS",
        "NAMESPACES",
        "CLUSTERS",
        "MANUALSYNC",
        "SYNCOVERRUN",
        "TIMEZONE",
        "USEANDOPERATOR",
    ]
    table(
        head,
        [
            [
                n,
                "Active" if w in active else "Inactive",
                w.get("kind", ""),
                w.get("schedule", ""),
                w.get("duration", ""),
                *(
                    ",".join(w.get(f) or []) or "-"
                    for f in ("applications", "namespaces", "clusters")
                ),
                "Enabled" if w.get("manualSync") else "Disabled",
                "Enabled" if w.get("syncOverrun") else "Disabled",
                w.get("timeZone") or "UTC",
                "Enabled" if w.get("andOperator") else "Disabled",
            ]
            for n, w in enumerate(windows)
        ],
    )


def _words(text: str) -> list[str]:
    return [w.strip() for w in text.split(",") if w.strip()]


@windows_app.command("add")
def windows_add(
    name: Project,
    kind: Annotated[str, typer.Option("--kind", "-k", help="allow or deny.")],
    schedule: Annotated[str, typer.Option("--schedule", help="minute hour day month weekday.")],
    duration: Annotated[str, typer.Option("--duration", help="Such as 1h.")],
    applications: _Names = "",
    namespaces: _Names = "",
    clusters: _Names = "",
    manual_sync: Annotated[bool, typer.Option("--manual-sync", help="Allow manual syncs.")] = False,
    time_zone: Annotated[str, typer.Option("--time-zone", help="Such as Europe/Berlin.")] = "",
    use_and_operator: Annotated[
        bool,
        typer.Option(
            "--use-and-operator", help="Match only applications that meet all conditions."
        ),
    ] = False,
    sync_overrun: Annotated[
        bool, typer.Option("--sync-overrun", help="Let running syncs finish.")
    ] = False,
    description: Description = "",
) -> None:
    """Add a window."""
    entry = {
        "kind": kind,
        "schedule": schedule,
        "duration": duration,
        "applications": _words(applications),
        "namespaces": _words(namespaces),
        "clusters": _words(clusters),
        "manualSync": manual_sync,
        "timeZone": time_zone,
        "andOperator": use_and_operator,
        "syncOverrun": sync_overrun,
        "description": description,
    }
    change_project(
        name,
        lambda spec: spec.update(
            syncWindows=[*(spec.get("syncWindows") or []), {k: v for k, v in entry.items() if v}]
        ),
    )


def _window(spec: dict[str, Any], number: int) -> dict[str, Any]:
    windows = spec.get("syncWindows") or []
    if not 0 <= number < len(windows):
        raise Problem(f"the project has no window {number}: flotilla proj windows list shows them")
    return dict_in_place(windows[number])


@windows_app.command("update")
def windows_update(
    name: Project,
    number: _Number,
    schedule: Annotated[
        str, typer.Option("--schedule", help="minute hour day month weekday.")
    ] = "",
    duration: Annotated[str, typer.Option("--duration", help="Such as 1h.")] = "",
    applications: _Names = "",
    namespaces: _Names = "",
    clusters: _Names = "",
    time_zone: Annotated[str, typer.Option("--time-zone", help="Such as Europe/Berlin.")] = "",
) -> None:
    """Update a window."""
    given = {
        "schedule": schedule,
        "duration": duration,
        "timeZone": time_zone,
        "applications": _words(applications),
        "namespaces": _words(namespaces),
        "clusters": _words(clusters),
    }
    changes = {k: v for k, v in given.items() if v}
    if not changes:
        raise Problem(
            "nothing to change: give --schedule, --duration, --applications, --namespaces, "
            "--clusters or --time-zone"
        )
    change_project(name, lambda spec: _window(spec, number).update(changes))


@windows_app.command("delete")
def windows_delete(name: Project, number: _Number) -> None:
    """Delete a window."""

    def change(spec: dict[str, Any]) -> None:
        gone = _window(spec, number)
        spec["syncWindows"] = [w for w in spec["syncWindows"] if w is not gone]

    change_project(name, change)


def _switch(command: str, field: str, *, on: bool, text: str) -> None:
    def run(name: Project, number: _Number) -> None:
        change_project(name, lambda spec: _window(spec, number).update({field: on}))

    run.__doc__ = text
    windows_app.command(command, help=text)(run)


_switch("enable-manual-sync", "manualSync", on=True, text="Let a sync by hand run in a window.")
_switch("disable-manual-sync", "manualSync", on=False, text="Let no sync by hand run in a window.")
_switch("enable-sync-overrun", "syncOverrun", on=True, text="Let what began before a window end.")
_switch("disable-sync-overrun", "syncOverrun", on=False, text="Stop what began before a window.")
