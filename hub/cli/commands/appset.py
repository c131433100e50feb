"""`flotilla appset`: application sets."""

import sys
from typing import Annotated, Any

import typer

from hub.cli.names import qualified
from hub.cli.output import printed
from hub.engine.counted import counted

app = typer.Typer(help="Application sets.", no_args_is_help=True)


_FILES = typer.Argument(metavar="FILE...", help="Manifests: files, URLs, or - for standard input.")
_NAME = typer.Argument(metavar="NAME", help="Set, or namespace/set.")
_NAMESPACE = typer.Option("--appset-namespace", "-N", help="Namespace of the set.")
_OUTPUT = typer.Option("--output", "-o", help="json, yaml or wide.")


@app.command("list")
def appset_list(
    project: Annotated[
        list[str] | None,
        typer.Option("--project", "-p", help="Only sets of this project; may be repeated."),
    ] = None,
    selector: Annotated[str, typer.Option("--selector", "-l", help="Labels, such as team=a.")] = "",
    namespace: Annotated[str, _NAMESPACE] = "",
    output: Annotated[str, _OUTPUT] = "wide",
) -> None:
    """List application sets."""
    from hub.cli import client, sets

    query = {"projects": project or [], "selector": selector, "appsetNamespace": namespace}
    items = client.Client.from_disk().get(client.path("applicationsets", **query))["items"]
    if not printed(items, output):
        sets.show_list(items)


@app.command("get")
def appset_get(
    name: Annotated[str, _NAME],
    show_params: Annotated[
        bool, typer.Option("--show-params", help="Show the parameters of its template's source.")
    ] = False,
    namespace: Annotated[str, _NAMESPACE] = "",
    output: Annotated[str, _OUTPUT] = "wide",
) -> None:
    """Show an application set, its conditions and its applications."""
    from hub.cli import client, sets

    item = client.Client.from_disk().get(sets.set_path(name, at=namespace))
    if not printed(item, output):
        sets.show_one(item)
        if show_params:
            sets.show_params(item)


@app.command("create")
def appset_create(
    files: Annotated[list[str], _FILES],
    upsert: Annotated[bool, typer.Option("--upsert", help="Update an existing set.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what it would generate; store nothing.")
    ] = False,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait until its applications exist, or it reports an error."),
    ] = False,
    namespace: Annotated[str, _NAMESPACE] = "",
    output: Annotated[str, _OUTPUT] = "wide",
) -> None:
    """Create application sets; with --upsert update those that exist."""
    from hub.cli import sets

    items = sets.read_for(files, namespace)
    _save(items, upsert=upsert, dry_run=dry_run, wait=wait, output=output)


@app.command("update")
def appset_update(
    files: Annotated[list[str], _FILES],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what it would generate; store nothing.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until its applications are up to date.")
    ] = False,
    namespace: Annotated[str, _NAMESPACE] = "",
    output: Annotated[str, _OUTPUT] = "wide",
) -> None:
    """Update application sets that exist."""
    from hub.cli import client, sets

    hub = client.Client.from_disk()
    items = sets.read_for(files, namespace)
    for item in items:
        metadata = item.get("metadata") or {}
        # A missing one is an error before anything is stored.
        hub.get(
            client.path(
                "applicationsets",
                str(metadata.get("name")),
                appsetNamespace=metadata.get("namespace"),
            )
        )
    _save(items, upsert=True, dry_run=dry_run, wait=wait, output=output)


def _save(
    items: list[dict[str, Any]], *, upsert: bool, dry_run: bool, wait: bool, output: str
) -> None:
    from hub.cli import client, sets

    hub = client.Client.from_disk()
    for item in items:
        query = f"?upsert={str(upsert).lower()}&dryRun={str(dry_run).lower()}"
        found = hub.post(sets.API + query, item)
        if wait and not dry_run:
            found = sets.wait_until_created(hub, found["metadata"])
        if not printed(found, output):
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


@app.command("delete")
def appset_delete(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Sets, or namespace/set.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until they are deleted.")] = False,
    cascade: Annotated[
        bool,
        typer.Option(
            "--cascade/--no-cascade", help="Also delete the applications and their resources."
        ),
    ] = True,
    namespace: Annotated[str, _NAMESPACE] = "",
) -> None:
    """Delete application sets, and their applications unless --no-cascade is given."""
    from hub.cli import client, sets

    hub = client.Client.from_disk()
    # All names are read before the first set is deleted.
    for name, path in [(name, sets.set_path(name, at=namespace)) for name in names]:
        count = hub.get(path)["status"].get("resourcesCount", 0)
        what = (
            f"and its {counted(count, 'application')} with what they run"
            if cascade
            else f"and leave its {counted(count, 'application')}"
        )
        if not yes and not typer.confirm(f"Delete '{name}' {what}?"):
            raise typer.Exit(1)
        hub.delete(sets.set_path(name, at=namespace, cascade=str(cascade).lower()))
        if wait:
            sets.wait_until_deleted(hub, path)
        typer.echo(f"ApplicationSet '{name}' deleted")


@app.command("generate")
def appset_generate(
    file: Annotated[str, typer.Argument(help="Manifest.")], output: Annotated[str, _OUTPUT] = "yaml"
) -> None:
    """Show the applications that a set would generate; nothing is stored."""
    from hub.cli import client, sets

    answer = client.Client.from_disk().post(
        f"{sets.API}/generate", {"applicationSet": sets.only(file)}
    )
    found = answer["applications"]
    sets.warn_of(answer.get("problems") or [])
    if not printed(found, output):
        client.table(
            ["NAME", "PROJECT"], [[a["metadata"]["name"], a["spec"]["project"]] for a in found]
        )


@app.command("preview")
def appset_preview(
    file: Annotated[str, typer.Argument(help="Manifest.")],
    diff: Annotated[
        bool,
        typer.Option("--diff/--no-diff", help="Show the difference of each changed application."),
    ] = True,
    output: Annotated[str, _OUTPUT] = "wide",
) -> None:
    """Show what saving a set would add, change and delete; nothing is stored."""
    from hub.cli import client, sets

    found = client.Client.from_disk().post(
        f"{sets.OURS}/preview", {"applicationSet": sets.only(file)}
    )
    if not printed(found, output):
        sets.show_preview(found, with_diff=diff)


@app.command("confirm-deletion")
def appset_confirm(
    name: Annotated[str, _NAME],
    application: Annotated[
        list[str] | None, typer.Option("--application", help="Only this one; may be repeated.")
    ] = None,
    namespace: Annotated[str, _NAMESPACE] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Confirm deletions that exceed a set's budget."""
    from hub.cli import client, sets

    hub = client.Client.from_disk()
    if not yes and not typer.confirm(
        f"Delete {', '.join(application or ['every waiting application'])} of '{name}'?"
    ):
        raise typer.Exit(1)
    typer.echo("Confirmed: " + ", ".join(sets.confirm(hub, name, application or [], at=namespace)))


@app.command("rollout")
def appset_rollout(
    name: Annotated[str, _NAME],
    action: Annotated[
        str, typer.Argument(help="status, pause, resume, abort, or advance (past a manual step).")
    ] = "status",
    namespace: Annotated[str, _NAMESPACE] = "",
    output: Annotated[str, _OUTPUT] = "wide",
) -> None:
    """Show a progressive sync, or pause, resume, abort or advance it."""
    from hub.cli import client, sets

    item = sets.rollout(client.Client.from_disk(), name, action, at=namespace)
    if not printed(item, output):
        sets.show_rollout(item)


@app.command("set-secret")
def appset_set_secret(
    name: Annotated[str, typer.Argument(help="Name that generators use, or namespace/name.")],
    server: Annotated[
        list[str],
        typer.Option(
            "--server",
            help="Server that may receive it, such as https://api.github.com; may be repeated.",
        ),
    ],
    project: Annotated[
        str, typer.Option("--project", "-p", help="Project whose sets may use it; by default all.")
    ] = "",
    key: Annotated[str, typer.Option("--key", help="Name of the value.")] = "token",
    namespace: Annotated[str, _NAMESPACE] = "",
) -> None:
    """Store a token that generators use for a host.

    The value is read from the terminal or from standard input.
    """
    from hub.cli import client, sets

    value = (
        typer.prompt(f"Value of {key}", hide_input=True)
        if sys.stdin.isatty()
        else sys.stdin.read().strip()
    )
    where, own = qualified(name, namespace, "--appset-namespace")
    body = {
        "name": own,
        "namespace": where,
        "servers": server,
        "project": project,
        "data": {key: value},
    }
    made = client.Client.from_disk().post(sets.SECRETS, body)
    typer.echo(f"Secret '{name}' stored for {', '.join(made['servers'])}")
