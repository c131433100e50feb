"""`flotilla audit`: the audit trail."""

from typing import Annotated

import typer

from hub.cli.problem import Problem

app = typer.Typer(help="The audit trail.", no_args_is_help=True)


@app.command("verify")
def audit_verify(
    file: Annotated[
        str,
        typer.Argument(
            help=(
                "An export: JSON Lines, or a signed bundle (.zip); "
                "without it the hub checks its own trail."
            )
        ),
    ] = "",
    key: Annotated[
        str,
        typer.Option("--key", help="Public key (PEM) of the hub; by default the export's own."),
    ] = "",
) -> None:
    """Verify an export without a hub.

    The first altered, missing or moved row is printed, with exit code 1.
    """
    from hub.cli import audit

    if not file:
        if key:
            raise Problem("--key goes with a file: name the export that it checks")
        typer.echo(audit.verify_online())
        return
    result = audit.verify_file(file, key)
    for note in result.notes:
        typer.echo(note)
    for problem in result.verdict.problems:
        typer.echo(problem, err=True)
    if not result.verdict.is_intact:
        raise typer.Exit(1)
    typer.echo(result.summary)


_FILTERS = typer.Option(
    "--filter",
    help=(
        "Such as project=pay, actor=alice, verb=sync, from=2026-03-01, to=2026-03-31; "
        "may be repeated."
    ),
)


@app.command("list")
def audit_list(
    words: Annotated[list[str] | None, typer.Argument(help="Words that must occur.")] = None,
    filters: Annotated[list[str] | None, _FILTERS] = None,
    limit: Annotated[int, typer.Option("--limit", help="Largest number of events.")] = 50,
    output: Annotated[str, typer.Option("--output", "-o", help="wide or json.")] = "wide",
) -> None:
    """List events, newest first."""
    from hub.cli import audit

    audit.list_events(" ".join(words or []), filters or [], limit, output)


@app.command("export")
def audit_export(
    file: Annotated[str, typer.Argument(help="File to write.")],
    filters: Annotated[list[str] | None, _FILTERS] = None,
    form: Annotated[str, typer.Option("--format", help="jsonl, csv or bundle.")] = "jsonl",
) -> None:
    """Export events to a file that `flotilla audit verify` checks."""
    from hub.cli import audit

    typer.echo(audit.export(file, filters or [], form))
