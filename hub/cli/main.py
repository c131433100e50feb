"""The `flotilla` command. It imports no Django, and loads what a command needs only when it runs."""

import sys
from typing import Annotated

import typer

from hub.cli.problem import Problem

app = typer.Typer(
    help="Flotilla: Git says what should run, many Kubernetes clusters run it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cluster_app = typer.Typer(help="Clusters of the hub.", no_args_is_help=True)
app.add_typer(cluster_app, name="cluster")
admin_app = typer.Typer(help="Work on files, without a hub.", no_args_is_help=True)
settings_app = typer.Typer(help="Settings.", no_args_is_help=True)
rbac_app = typer.Typer(help="Roles and policies.", no_args_is_help=True)
app.add_typer(admin_app, name="admin")
appset_app = typer.Typer(help="Application sets.", no_args_is_help=True)
app.add_typer(appset_app, name="appset")
audit_app = typer.Typer(help="The audit trail.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")
admin_app.add_typer(settings_app, name="settings")
settings_app.add_typer(rbac_app, name="rbac")


@app.command("login")
def login_command(
    server: Annotated[str, typer.Argument(help="URL of the hub, such as http://127.0.0.1:8000.")],
    username: Annotated[str, typer.Option(help="Account to sign in with.")] = "admin",
    password: Annotated[
        str,
        typer.Option(help="Password; asked for when it is not given.", envvar="FLOTILLA_PASSWORD"),
    ] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Do not check the hub's certificate.")
    ] = False,
    sso: Annotated[bool, typer.Option("--sso", help="Sign in by the browser of this machine.")] = False,
    sso_port: Annotated[int, typer.Option("--sso-port", help="Port for the browser's answer.")] = 0,
    launch: Annotated[
        bool, typer.Option("--sso-launch-browser/--no-sso-launch-browser", help="Open the browser, or only print the address.")
    ] = True,
    device: Annotated[bool, typer.Option("--device", help="Sign in by a browser elsewhere, with a code.")] = False,
    otp: Annotated[str, typer.Option("--otp", help="One-time code of an account with a second factor.")] = "",
) -> None:  # fmt: skip
    """Sign in to a hub and remember the session."""
    from hub.cli import client, login

    if sso or device:
        name = (
            login.by_device(server, insecure=insecure) if device
            else login.by_browser(server, insecure=insecure, port=sso_port, launch=launch)
        )  # fmt: skip
        typer.echo(f"'{name}' logged in to {server}")
        return
    secret = password or typer.prompt("Password", hide_input=True)
    client.login(server, username, secret, insecure=insecure, code=otp)
    typer.echo(f"'{username}' logged in to {server}")


@app.command()
def logout() -> None:
    """End the remembered session, at the hub too."""
    from hub.cli import client

    client.Client.from_disk().delete("/api/v1/session")
    client.config_path().unlink(missing_ok=True)
    typer.echo("Logged out")


@cluster_app.command("add")
def cluster_add(
    context: Annotated[str, typer.Argument(help="Context of the kubeconfig.")],
    kubeconfig: Annotated[
        str,
        typer.Option(
            "--kubeconfig",
            help="Path of the kubeconfig (default: KUBECONFIG, then ~/.kube/config).",
        ),
    ] = "",
    name: Annotated[
        str, typer.Option("--name", help="Name in the hub (default: the context).")
    ] = "",
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Label as key=value; may be repeated.")
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option("--namespace", help="Manage only this namespace; may be repeated."),
    ] = None,
    system_namespace: Annotated[
        str, typer.Option("--system-namespace", help="Where the service account is made.")
    ] = "kube-system",
    service_account: Annotated[
        str, typer.Option("--service-account", help="Name of the service account.")
    ] = "flotilla-manager",
    upsert: Annotated[
        bool, typer.Option("--upsert", help="Change a cluster that is registered already.")
    ] = False,
) -> None:
    """Register a cluster: make a service account, a role and a token in it, and give them to the hub."""
    from hub.cli import client, clusters

    labels = clusters.parse_labels(label or [])
    found = clusters.read_context(kubeconfig, context)
    token = clusters.install(found, system_namespace, service_account, namespace or [])
    body = clusters.registration(found, token, name or context, labels, namespace or [])
    client.Client.from_disk().post("/api/v1/clusters" + ("?upsert=true" if upsert else ""), body)
    typer.echo(f"Cluster '{found.server}' added")


@cluster_app.command("list")
def cluster_list() -> None:
    """List the clusters of the hub."""
    from hub.cli import client

    rows = client.Client.from_disk().get("/api/v1/clusters")["items"]
    client.table(
        ["SERVER", "NAME", "VERSION", "STATUS", "MESSAGE"],
        [
            [
                r["server"],
                r.get("name", ""),
                r.get("serverVersion", ""),
                r["connectionState"]["status"],
                r["connectionState"].get("message", ""),
            ]
            for r in rows
        ],
    )


@rbac_app.command("can")
def rbac_can(
    subject: Annotated[str, typer.Argument(help="Account, group or role.")],
    action: Annotated[
        str, typer.Argument(help="Such as get, sync or action/apps/Deployment/restart.")
    ],
    resource: Annotated[str, typer.Argument(help="Such as applications or clusters.")],
    name: Annotated[
        str, typer.Argument(metavar="[OBJECT]", help="Such as project/application.")
    ] = "*",
    policy_file: Annotated[
        str, typer.Option("--policy-file", help="CSV file, or a ConfigMap.")
    ] = "",
    default_role: Annotated[
        str, typer.Option("--default-role", help="Role that everybody has.")
    ] = "",
    use_builtin_policy: Annotated[
        bool,
        typer.Option(
            "--use-builtin-policy/--no-use-builtin-policy",
            help="With role:admin and role:readonly.",
        ),
    ] = True,
) -> None:
    """Say whether a policy file allows something: Yes, or No with exit code 1."""
    from hub.cli import rbac

    if not policy_file:
        raise Problem("--policy-file is required: a CSV file or a ConfigMap")
    file = rbac.read(policy_file)
    for problem in file.policy.problems:
        typer.echo(f"{problem.origin}: {problem.message}", err=True)
    question = (subject, action, resource, name)
    allowed = rbac.can(question, file, default_role=default_role, use_builtin=use_builtin_policy)
    typer.echo("Yes" if allowed else "No")
    raise typer.Exit(0 if allowed else 1)


@rbac_app.command("validate")
def rbac_validate(
    policy_file: Annotated[str, typer.Option("--policy-file", help="CSV file, or a ConfigMap.")],
) -> None:
    """Check a policy file; each line that cannot be used is named, with exit code 1."""
    from hub.cli import rbac
    from hub.engine.rbac import builtin, unknown_roles

    file = rbac.read(policy_file)
    for problem in file.policy.problems:
        typer.echo(f"{problem.origin}: {problem.message}", err=True)
    for role in unknown_roles(builtin() + file.policy):
        typer.echo(f"warning: {role} is given to somebody and defined nowhere", err=True)
    if file.policy.problems:
        raise typer.Exit(1)
    typer.echo("Policy is valid.")


@admin_app.command("initial-password")
def initial_password(
    data: Annotated[str, typer.Option("--data", help="Data folder of the hub.", envvar="HUB_DATA_DIR")] = ".flotilla",
) -> None:  # fmt: skip
    """Print the generated password of admin; it is gone once the password was changed."""
    from pathlib import Path

    path = Path(data) / "initial-admin-password"
    try:
        typer.echo(path.read_text().strip())
    except OSError as error:
        raise Problem(f"{path} is not there: the password was changed, or this is not the hub's data folder (--data)") from error  # fmt: skip


@audit_app.command("verify")
def audit_verify(
    file: Annotated[str, typer.Argument(help="An export: JSON Lines, or a signed bundle (.zip).")],
    key: Annotated[str, typer.Option("--key", help="Public key (PEM) of the hub; without it the export's own is used.")] = "",
) -> None:  # fmt: skip
    """Check an export without a hub: the first altered, missing or moved row is named, with exit code 1."""
    from hub.cli import audit

    result = audit.verify_file(file, key)
    for note in result.notes:
        typer.echo(note)
    for problem in result.verdict.problems:
        typer.echo(problem, err=True)
    if not result.verdict.is_intact:
        raise typer.Exit(1)
    typer.echo(result.summary)


_FILTERS = typer.Option("--filter", help="Such as project=pay, actor=alice, verb=sync, from=2026-03-01, to=2026-03-31; may be repeated.")  # fmt: skip


@audit_app.command("list")
def audit_list(
    words: Annotated[list[str] | None, typer.Argument(help="Words that must occur.")] = None,
    filters: Annotated[list[str] | None, _FILTERS] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many events.")] = 50,
    output: Annotated[str, typer.Option("--output", "-o", help="wide or json.")] = "wide",
) -> None:
    """List events, newest first."""
    from hub.cli import audit

    audit.list_events(" ".join(words or []), filters or [], limit, output)


@audit_app.command("export")
def audit_export(
    file: Annotated[str, typer.Argument(help="File to write.")],
    filters: Annotated[list[str] | None, _FILTERS] = None,
    form: Annotated[str, typer.Option("--format", help="jsonl, csv or bundle.")] = "jsonl",
) -> None:
    """Export events to a file that `flotilla audit verify` checks."""
    from hub.cli import audit

    typer.echo(audit.export(file, filters or [], form))


_FILES = typer.Argument(metavar="FILE...", help="Manifests: files, URLs, or - for standard input.")
_OUTPUT = typer.Option("--output", "-o", help="json, yaml or wide.")


def _printed(data: object, output: str) -> bool:
    """Print data as JSON or YAML; return whether that was asked for."""
    import json

    import yaml

    if output not in ("json", "yaml", "wide"):
        raise Problem(f"--output {output}: json, yaml or wide")
    if output == "wide":
        return False
    typer.echo(
        json.dumps(data, indent=2) if output == "json" else yaml.safe_dump(data),
        nl=output == "json",
    )
    return True


@appset_app.command("list")
def appset_list(
    project: Annotated[list[str] | None, typer.Option("--project", "-p", help="Of these projects only; may be repeated.")] = None,
    selector: Annotated[str, typer.Option("--selector", "-l", help="Labels, such as team=a.")] = "",
    output: Annotated[str, _OUTPUT] = "wide",
) -> None:  # fmt: skip
    """List application sets."""
    from urllib.parse import urlencode

    from hub.cli import appsets, client

    query = urlencode(
        [("projects", p) for p in project or []] + ([("selector", selector)] if selector else [])
    )
    items = client.Client.from_disk().get(f"{appsets.API}?{query}")["items"]
    if not _printed(items, output):
        appsets.show_list(items)


@appset_app.command("get")
def appset_get(
    name: Annotated[str, typer.Argument(help="Name of the set.")],
    output: Annotated[str, _OUTPUT] = "wide",
) -> None:
    """Show an application set, its conditions and its applications."""
    from urllib.parse import quote

    from hub.cli import appsets, client

    item = client.Client.from_disk().get(f"{appsets.API}/{quote(name.rpartition('/')[2], safe='')}")
    if not _printed(item, output):
        appsets.show_one(item)


@appset_app.command("create")
def appset_create(
    files: Annotated[list[str], _FILES],
    upsert: Annotated[bool, typer.Option("--upsert", help="Change a set that exists.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would make; store nothing.")] = False,
    output: Annotated[str, _OUTPUT] = "wide",
) -> None:  # fmt: skip
    """Create application sets; with --upsert change those that exist."""
    from hub.cli import appsets, client

    hub = client.Client.from_disk()
    for item in appsets.read(files):
        query = f"?upsert={str(upsert).lower()}&dryRun={str(dry_run).lower()}"
        found = hub.post(appsets.API + query, item)
        if not _printed(found, output):
            names = [r["name"] for r in found["status"].get("resources") or []]
            typer.echo(
                f"ApplicationSet '{found['metadata']['name']}' "
                + (
                    f"would make: {', '.join(names) or 'nothing'}"
                    if dry_run
                    else "saved"
                    if upsert
                    else "created"
                )
            )


@appset_app.command("delete")
def appset_delete(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of sets.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    cascade: Annotated[bool, typer.Option("--cascade/--no-cascade", help="Delete the applications too, and what they run.")] = True,
) -> None:  # fmt: skip
    """Delete application sets, and their applications unless --no-cascade is given."""
    from urllib.parse import quote

    from hub.cli import appsets, client

    hub = client.Client.from_disk()
    for name in names:
        path = f"{appsets.API}/{quote(name.rpartition('/')[2], safe='')}"
        count = hub.get(path)["status"].get("resourcesCount", 0)
        what = (
            f"and its {count} applications with what they run"
            if cascade
            else f"and leave its {count} applications"
        )
        if not yes and not typer.confirm(f"Delete '{name}' {what}?"):
            raise typer.Exit(1)
        hub.delete(path + f"?cascade={str(cascade).lower()}")
        typer.echo(f"ApplicationSet '{name}' deleted")


@appset_app.command("generate")
def appset_generate(
    file: Annotated[str, typer.Argument(help="Manifest.")], output: Annotated[str, _OUTPUT] = "yaml"
) -> None:
    """Show the applications that a set would make; nothing is stored."""
    from hub.cli import appsets, client

    found = client.Client.from_disk().post(
        f"{appsets.API}/generate", {"applicationSet": appsets.only(file)}
    )["applications"]
    if not _printed(found, output):
        client.table(
            ["NAME", "PROJECT"], [[a["metadata"]["name"], a["spec"]["project"]] for a in found]
        )


@appset_app.command("preview")
def appset_preview(
    file: Annotated[str, typer.Argument(help="Manifest.")],
    diff: Annotated[bool, typer.Option("--diff/--no-diff", help="With the difference of each changed application.")] = True,
    output: Annotated[str, _OUTPUT] = "wide",
) -> None:  # fmt: skip
    """Say what saving a set would add, change and delete; nothing is stored."""
    from hub.cli import appsets, client

    found = client.Client.from_disk().post(
        f"{appsets.OURS}/preview", {"applicationSet": appsets.only(file)}
    )
    if not _printed(found, output):
        appsets.show_preview(found, with_diff=diff)


@appset_app.command("confirm-deletion")
def appset_confirm(
    name: Annotated[str, typer.Argument(help="Name of the set.")],
    application: Annotated[list[str] | None, typer.Option("--application", help="Only this one; may be repeated.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:  # fmt: skip
    """Allow deletions beyond a set's budget, which wait for it."""
    from hub.cli import appsets, client

    hub = client.Client.from_disk()
    if not yes and not typer.confirm(
        f"Delete {', '.join(application or ['every waiting application'])} of '{name}'?"
    ):
        raise typer.Exit(1)
    typer.echo("Confirmed: " + ", ".join(appsets.confirm(hub, name, application or [])))


@appset_app.command("rollout")
def appset_rollout(
    name: Annotated[str, typer.Argument(help="Name of the set.")],
    action: Annotated[str, typer.Argument(help="status, pause, resume, abort, or advance (past a manual step).")] = "status",
    output: Annotated[str, _OUTPUT] = "wide",
) -> None:  # fmt: skip
    """Show a progressive sync, or pause, resume, abort or advance it."""
    from hub.cli import appsets, client

    item = appsets.rollout(client.Client.from_disk(), name, action)
    if not _printed(item, output):
        appsets.show_rollout(item)


@appset_app.command("set-secret")
def appset_set_secret(
    name: Annotated[str, typer.Argument(help="Name that generators use.")],
    server: Annotated[list[str], typer.Option("--server", help="Where it may be sent, such as https://api.github.com; may be repeated.")],
    project: Annotated[str, typer.Option("--project", "-p", help="Whose sets may use it; all when left out.")] = "",
    key: Annotated[str, typer.Option("--key", help="Name of the value.")] = "token",
) -> None:  # fmt: skip
    """Store a token that generators use at a host; the value is read from the terminal or from standard input."""
    from hub.cli import appsets, client

    value = typer.prompt(f"Value of {key}", hide_input=True) if sys.stdin.isatty() else sys.stdin.read().strip()  # fmt: skip
    body = {"name": name, "servers": server, "project": project, "data": {key: value}}
    made = client.Client.from_disk().post(appsets.SECRETS, body)
    typer.echo(f"Secret '{name}' stored for {', '.join(made['servers'])}")


def run() -> None:
    """Run the command; problems are one sentence on standard error and exit code 1."""
    try:
        app()
    except Problem as problem:
        sys.stderr.write(f"flotilla: {problem}\n")
        sys.exit(1)


if __name__ == "__main__":
    run()
