"""Flags that the commands of applications share, and the choice of applications."""

from collections.abc import Sequence
from typing import Annotated

import typer

from hub.cli import apps
from hub.cli.client import Client
from hub.cli.problem import Problem

app = typer.Typer(help="Applications.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Application, or namespace/application.")]
Namespace = Annotated[
    str, typer.Option("--app-namespace", "-N", help="Namespace of the application.")
]
Validate = Annotated[
    bool,
    typer.Option(
        "--validate/--no-validate", help="Check that the cluster responds and the sources render."
    ),
]
Output = Annotated[str, typer.Option("--output", "-o", help="Output format.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Kind = Annotated[str, typer.Option("--kind", help="Kind of the resource.")]
Group = Annotated[str, typer.Option("--group", help="API group of the resource.")]
ResourceName = Annotated[str, typer.Option("--resource-name", help="Name of the resource.")]
ResourceNamespace = Annotated[str, typer.Option("--namespace", help="Namespace of the resource.")]
Timeout = Annotated[
    int, typer.Option("--timeout", help="Longest wait in seconds; 0 waits for ever.")
]
Revisions = Annotated[
    list[str] | None,
    typer.Option(
        "--revisions", help="Revision of a source; may be repeated with --source-positions."
    ),
]
Positions = Annotated[
    list[int] | None, typer.Option("--source-positions", help="Position of a source, from 1.")
]
SourceNames = Annotated[
    list[str] | None,
    typer.Option("--source-names", help="Name of a source, instead of its position."),
]
Local = Annotated[
    str,
    typer.Option(
        "--local",
        help=(
            "Folder of this machine instead of Git's: plain manifests, a chart or a kustomization."
        ),
    ),
]
LocalRoot = Annotated[
    str, typer.Option("--local-repo-root", help="Folder with all files that the manifests need.")
]
LocalInclude = Annotated[
    list[str] | None,
    typer.Option("--local-include", help="Glob of files to send; may be repeated."),
]
LocalPosition = Annotated[
    int,
    typer.Option(
        "--local-position", help="Position of the source that the folder replaces, from 1."
    ),
]


def current_hub() -> Client:
    """Return the hub of the current context."""
    return Client.from_disk()


def chosen_names(
    hub: Client,
    given: Sequence[str] | None,
    selector: str,
    namespace: str,
    project: Sequence[str] = (),
) -> list[str]:
    """Return the applications that a command applies to.

    Raises: Problem when there is none.
    """
    if given:
        return list(given)
    if not selector and not project:
        raise Problem("name an application, or choose some with --selector or --project")
    found = [
        apps.qualified(a)
        for a in apps.listed(hub, selector=selector, appNamespace=namespace, projects=list(project))
    ]
    if not found:
        raise Problem("no application matches")
    return found


def positions(
    hub: Client, name: str, namespace: str, given: Sequence[int] | None, names: Sequence[str] | None
) -> list[int]:
    """Return the positions of the named sources.

    Raises: Problem when no source has a name.
    """
    if not names:
        return list(given or [])
    if given:
        raise Problem("give --source-positions or --source-names, not both")
    known = [s.get("name") for s in apps.sources(apps.get(hub, name, namespace=namespace))]
    for one in names:
        if one not in known:
            raise Problem(f"--source-names {one}: {name} has no source with this name")
    return [known.index(one) + 1 for one in names]
