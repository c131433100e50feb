"""`flotilla admin settings validate` and `resource-overrides`: test an argocd-cm locally."""

from typing import Annotated

import typer

from hub.cli.output import as_yaml, print_line, table
from hub.cli.problem import Problem

app = typer.Typer(
    help="Test health, ignore and action scripts on a resource.", no_args_is_help=True
)
Settings = Annotated[str, typer.Option("--argocd-cm-path", help="File with the ConfigMap.")]
Resource = Annotated[
    str, typer.Argument(metavar="RESOURCE_YAML_PATH", help="File with one resource.")
]


def _settings(file: str) -> dict[str, object]:
    from hub.cli import overrides

    if not file:
        raise Problem("--argocd-cm-path is required: the file with the ConfigMap")
    return dict(overrides.settings(file))


def validate(
    settings: Settings = "",
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group", help="general, accounts, kustomize or resource-overrides; may be repeated."
        ),
    ] = None,
) -> None:
    """Check settings by group; the exit code is 1 when one is wrong."""
    from hub.cli import overrides

    for name in group or []:
        if name not in overrides.GROUPS:
            raise Problem(f"--group {name}: {', '.join(overrides.GROUPS)}")
    verdicts = overrides.validate(_settings(settings), tuple(group or overrides.GROUPS))
    for verdict in verdicts:
        print_line(f"{'❌' if verdict.problems else '✅'} {verdict.group}")
        for line in verdict.problems or (verdict.summary,):
            print_line(line)
    if any(v.problems for v in verdicts):
        raise typer.Exit(1)


@app.command()
def health(resource: Resource, settings: Settings = "") -> None:
    """Assess the health of a resource."""
    from hub.cli import overrides

    status, message = overrides.assess(_settings(settings), overrides.resource(resource))
    print_line(f"STATUS: {status}")
    print_line(f"MESSAGE: {message}")


@app.command("ignore-differences")
def ignore_differences(resource: Resource, settings: Settings = "") -> None:
    """Show the parts of a resource that comparisons ignore."""
    from hub.cli import apps, overrides

    before = overrides.resource(resource)
    after = overrides.ignored(_settings(settings), before)
    if before == after:
        print_line("No differences are ignored")
        return
    print_line("Following fields are ignored:\n")
    for line in apps.unified(as_yaml(before), as_yaml(after)):
        print_line(line)


@app.command("ignore-resource-updates")
def ignore_resource_updates(resource: Resource, settings: Settings = "") -> None:
    """Explain why no updates need to be ignored.

    The hub only handles changes that comparisons see.
    """
    from hub.cli import overrides

    overrides.resource(resource)
    _settings(settings)
    print_line("The hub only handles updates that a comparison sees: there is nothing to ignore")


@app.command("list-actions")
def list_actions(resource: Resource, settings: Settings = "") -> None:
    """List the actions on a resource."""
    from hub.cli import overrides

    found = overrides.actions(_settings(settings), overrides.resource(resource))
    table(["NAME", "DISABLED"], [[a["name"], str(bool(a.get("disabled"))).lower()] for a in found])


@app.command("run-action")
def run_action(
    resource: Resource,
    action: Annotated[str, typer.Argument(help="Action.")],
    settings: Settings = "",
    param: Annotated[
        list[str] | None, typer.Option("--param", help="name=value; may be repeated.")
    ] = None,
) -> None:
    """Show how an action changes a resource; nothing is applied."""
    from hub.cli import apps, appspec, overrides

    before = overrides.resource(resource)
    params = dict(appspec.pair(p, "--param") for p in param or [])
    for operation, after in overrides.run(_settings(settings), before, action, params):
        if operation == "create":
            print_line("Following resource would be created:\n")
            print_line(as_yaml(after))
        else:
            print_line("Following fields have been changed:\n")
            for line in apps.unified(as_yaml(before), as_yaml(after)):
                print_line(line)
