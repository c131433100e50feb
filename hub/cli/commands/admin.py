"""`flotilla admin`: work on files and whole installations."""

from typing import Annotated

import typer

from hub.cli.commands import generated, installation, overrides
from hub.cli.problem import Problem

app = typer.Typer(help="Files and whole installations.", no_args_is_help=True)
settings_app = typer.Typer(help="Settings.", no_args_is_help=True)
rbac_app = typer.Typer(help="Roles and policies.", no_args_is_help=True)
applications_app = typer.Typer(help="Applications.", no_args_is_help=True, hidden=True)
app.add_typer(settings_app, name="settings")
app.add_typer(applications_app, name="app")
settings_app.add_typer(rbac_app, name="rbac")
settings_app.add_typer(overrides.app, name="resource-overrides")
settings_app.command("validate")(overrides.validate)
app.command("export")(installation.export)
app.command("import")(installation.import_)
app.add_typer(generated.clusters_app, name="cluster")
app.add_typer(generated.projects_app, name="proj")
app.add_typer(generated.repositories_app, name="repo")

NOT_SERVED = {
    "dashboard": "the hub's own pages are the dashboard: open its address",
    "redis-initial-password": "the hub makes no password of Redis: HUB_REDIS_URL has it",
    "notifications": "the hub sends no notifications yet",
    "app generate-spec": "write the manifest, or flotilla app create and flotilla app get -o yaml",
    "app diff-reconcile-results": "flotilla app diff compares what is there",
    "app get-reconcile-results": "flotilla app list -o json has the results",
    "cluster kubeconfig": "the hub gives credentials of clusters to nobody: "
    "flotilla admin export --with-secrets keeps them, encrypted",
    "cluster shards": "any watcher serves any cluster: flotilla admin cluster stats counts",
    "proj generate-allow-list": "name the kinds: flotilla proj allow-namespace-resource",
    "proj update-role-policy": "flotilla proj role add-policy, project by project",
}
"""Argo CD's commands of this group that the hub does not have, and what to use instead."""


def _refuse(name: str, why: str) -> None:
    def refused() -> None:
        raise Problem(f"flotilla admin {name} is not served: {why}")

    group, _, verb = name.rpartition(" ")
    place = {"": app, "app": applications_app}.get(group) or {
        "cluster": generated.clusters_app,
        "proj": generated.projects_app,
    }[group]
    place.command(
        verb,
        help=f"Not served: {why}.",
        hidden=True,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(refused)


for _name, _why in NOT_SERVED.items():
    _refuse(_name, _why)


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
