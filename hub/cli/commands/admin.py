"""`flotilla admin`: work on files and whole installations."""

from typing import Annotated

import typer

from hub.cli import unsupported
from hub.cli.commands import overrides
from hub.cli.problem import Problem

app = typer.Typer(help="Files and whole installations.", no_args_is_help=True)
settings_app = typer.Typer(help="Settings.", no_args_is_help=True)
rbac_app = typer.Typer(help="Roles and policies.", no_args_is_help=True)
app.add_typer(settings_app, name="settings")
settings_app.add_typer(rbac_app, name="rbac")
settings_app.add_typer(overrides.app, name="resource-overrides")
settings_app.command("validate")(overrides.validate)


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
        str, typer.Option("--default-role", help="Default role of all accounts.")
    ] = "",
    use_builtin_policy: Annotated[
        bool,
        typer.Option(
            "--use-builtin-policy/--no-use-builtin-policy",
            help="Include the built-in role:admin and role:readonly.",
        ),
    ] = True,
) -> None:
    """Print whether a policy file allows something: Yes, or No with exit code 1."""
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
    """Check a policy file; each line that cannot be used is printed, with exit code 1."""
    from hub.cli import rbac
    from hub.engine.rbac import builtin, unknown_roles

    file = rbac.read(policy_file)
    for problem in file.policy.problems:
        typer.echo(f"{problem.origin}: {problem.message}", err=True)
    for role in unknown_roles(builtin() + file.policy):
        typer.echo(f"warning: {role} is assigned but not defined", err=True)
    if file.policy.problems:
        raise typer.Exit(1)
    typer.echo("Policy is valid.")


@app.command("initial-password")
def initial_password(
    data: Annotated[
        str, typer.Option("--data", help="Data folder of the hub.", envvar="HUB_DATA_DIR")
    ] = ".flotilla",
) -> None:
    """Print the generated password of admin; the file is deleted when the password is changed."""
    from pathlib import Path

    path = Path(data) / "initial-admin-password"
    try:
        typer.echo(path.read_text().strip())
    except OSError as error:
        raise Problem(
            f"{path} is not there: the password was changed, "
            "or this is not the hub's data folder (--data)"
        ) from error


@app.command("export")
def export(
    output: Annotated[str, typer.Option("--out", "-o", help="File; - for standard output.")] = "-",
) -> None:
    """Export everything that the hub keeps as manifests, in Argo CD's form, without credentials."""
    import sys
    from pathlib import Path

    from hub.cli.client import Client
    from hub.cli.installation import exporter
    from hub.cli.output import as_yaml

    documents = exporter.export(Client.from_disk())
    text = "".join("---\n" + as_yaml(d) for d in documents)
    if output == "-":
        sys.stdout.write(text)
    else:
        Path(output).write_text(text, encoding="utf-8")
    kept = sum(d["kind"] == "Secret" for d in documents)
    sys.stderr.write(
        f"{len(documents)} objects; the credentials of {kept} clusters, repositories, "
        "templates and generators, and the secrets of providers, are not among them\n"
    )


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(help="Export of Argo CD or of a hub: a file, or - for standard input.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change; store nothing.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help=(
                "Remove applications, sets and projects that are not in the export from the hub; "
                "their resources keep running."
            ),
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also list unchanged objects.")
    ] = False,
    skip: Annotated[
        str,
        typer.Option(
            "--skip-resources-with-label", help="Leave out objects with this label, key=value."
        ),
    ] = "",
    stop_operation: Annotated[
        bool,
        typer.Option(
            "--stop-operation",
            help="Terminate the running operation of each updated application.",
        ),
    ] = False,
    ignore_tracking: Annotated[
        bool,
        typer.Option("--ignore-tracking", help="Refused: an import does not mark live resources."),
    ] = False,
    override: Annotated[
        bool,
        typer.Option("--override-on-conflict", help="Refused: the export always takes precedence."),
    ] = False,
) -> None:
    """Import an Argo CD installation, and list what could not be imported."""
    from hub.cli import files
    from hub.cli.client import Client
    from hub.cli.installation import importer, objects
    from hub.cli.installation.report import Report

    unsupported.refuse("--ignore-tracking", ignore_tracking, "an import marks nothing that runs")
    unsupported.refuse(
        "--override-on-conflict", override, "what the export says is written in any case"
    )
    report = Report(Client.from_disk(), dry_run=dry_run, stop_operation=stop_operation)
    documents = files.manifests([source])
    importer.take_all(report, importer.without_label(documents, skip) if skip else documents)
    if prune:
        objects.prune(report, documents)
    report.show(verbose=verbose)
