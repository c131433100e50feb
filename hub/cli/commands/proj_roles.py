"""`flotilla proj role`: roles of a project."""

from typing import Annotated, Any

import typer

from hub.cli.client import Client, path
from hub.cli.commands.account import seconds
from hub.cli.output import facts, print_line, printed, stamp, table
from hub.cli.problem import Problem
from hub.cli.projects import change as change_project
from hub.cli.projects import dict_in_place, read, toggle

app = typer.Typer(help="Roles of a project.", no_args_is_help=True)

Project = Annotated[str, typer.Argument(metavar="PROJECT", help="Project.")]
Output = Annotated[str, typer.Option("--output", "-o", help="wide, json, yaml or name.")]
Role = Annotated[str, typer.Argument(metavar="ROLE", help="Role.")]
Description = Annotated[str, typer.Option("--description", help="Description.")]


def _role_of(spec: dict[str, Any], name: str) -> dict[str, Any]:
    found = next((r for r in spec.get("roles") or [] if r.get("name") == name), None)
    if found is None:
        raise Problem(f"the project has no role {name!r}")
    return dict_in_place(found)


@app.command("list")
def role_list(name: Project, output: Output = "wide") -> None:
    """List roles."""
    roles = read(Client.from_disk(), name)["spec"].get("roles") or []
    if printed(roles, output, "name"):
        return
    if output == "name":
        for one in roles:
            print_line(one["name"])
        return
    table(["ROLE-NAME", "DESCRIPTION"], [[r["name"], r.get("description", "")] for r in roles])


@app.command("get")
def role_get(name: Project, role: Role, output: Output = "wide") -> None:
    """Show a role: its policies, groups and tokens."""
    found = read(Client.from_disk(), name)
    one = _role_of(found["spec"], role)
    if printed(one, output):
        return
    facts([("Role Name", role), ("Description", one.get("description", ""))])
    print_line("Policies:")
    for line in one.get("policies") or []:
        print_line(str(line))
    print_line("Groups:")
    for group in one.get("groups") or []:
        print_line(str(group))
    print_line("JWT Tokens:")
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


@app.command("create")
def role_create(name: Project, role: Role, description: Description = "") -> None:
    """Create a role."""
    entry = {"name": role, "policies": [], **({"description": description} if description else {})}

    def change(spec: dict[str, Any]) -> None:
        if any(r.get("name") == role for r in spec.get("roles") or []):
            raise Problem(f"the project has a role {role!r} already")
        spec["roles"] = [*(spec.get("roles") or []), entry]

    change_project(name, change)
    print_line(f"Role '{role}' created")


@app.command("delete")
def role_delete(name: Project, role: Role) -> None:
    """Delete a role."""

    def change(spec: dict[str, Any]) -> None:
        gone = _role_of(spec, role)
        spec["roles"] = [r for r in spec["roles"] if r is not gone]

    change_project(name, change)
    print_line(f"Role '{role}' deleted")


_Action = Annotated[str, typer.Option("--action", "-a", help="Such as sync.")]
_Permission = Annotated[str, typer.Option("--permission", "-p", help="allow or deny.")]
_Object = Annotated[str, typer.Option("--object", "-o", help="Application, or a pattern.")]
_Resource = Annotated[str, typer.Option("--resource", "-r", help="Such as applications.")]


def _policy(
    project: str, role: str, action: str, permission: str, about: str, resource: str
) -> str:
    return f"p, proj:{project}:{role}, {resource}, {action}, {project}/{about}, {permission}"


@app.command("add-policy")
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
        lambda spec: toggle(
            "policies", _policy(name, role, action, permission, about, resource), add=True
        )(_role_of(spec, role)),
    )


@app.command("remove-policy")
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
        lambda spec: toggle(
            "policies", _policy(name, role, action, permission, about, resource), add=False
        )(_role_of(spec, role)),
    )


@app.command("add-group")
def role_add_group(
    name: Project, role: Role, group: Annotated[str, typer.Argument(help="Group.")]
) -> None:
    """Add a group to a role."""
    change_project(name, lambda spec: toggle("groups", group, add=True)(_role_of(spec, role)))
    print_line(f"Group '{group}' added to role '{role}'")


@app.command("remove-group")
def role_remove_group(
    name: Project, role: Role, group: Annotated[str, typer.Argument(help="Group.")]
) -> None:
    """Remove a group from a role."""
    change_project(name, lambda spec: toggle("groups", group, add=False)(_role_of(spec, role)))
    print_line(f"Group '{group}' removed from role '{role}'")


@app.command("create-token")
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
        print_line(f"Create token succeeded for proj:{name}:{role}.")
    print_line(token if token_only else f"  Token: {token}")


@app.command("delete-token")
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


@app.command("list-tokens")
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
