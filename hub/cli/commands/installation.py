"""`flotilla admin export` and `import`: whole installations as manifests."""

import os
import sys
from typing import Annotated, Any

import typer

from hub.cli import unsupported
from hub.cli.problem import Problem

_StopOperation = Annotated[
    bool,
    typer.Option(
        "--stop-operation", help="Terminate the running operation of each updated application."
    ),
]
_IgnoreTracking = Annotated[
    bool,
    typer.Option("--ignore-tracking", help="Refused: an import does not mark live resources."),
]
_OverrideOnConflict = Annotated[
    bool,
    typer.Option("--override-on-conflict", help="Refused: the export always takes precedence."),
]
_PassphraseFile = Annotated[
    str,
    typer.Option(
        "--passphrase-file",
        help="File with the passphrase (default: FLOTILLA_EXPORT_PASSPHRASE, then a prompt).",
    ),
]


def export(
    output: Annotated[str, typer.Option("--out", "-o", help="File; - for standard output.")] = "-",
    with_secrets: Annotated[
        bool,
        typer.Option(
            "--with-secrets",
            help="Add the secrets, encrypted by a passphrase; for administrators.",
        ),
    ] = False,
    passphrase_file: _PassphraseFile = "",
) -> None:
    """Export everything that the hub stores, in Argo CD's form, without credentials."""
    import yaml

    from hub.cli import passphrase
    from hub.cli.client import Client
    from hub.cli.installation import exporter, sealing
    from hub.cli.output import as_yaml

    if passphrase_file and not with_secrets:
        raise Problem("--passphrase-file goes with --with-secrets")
    word = passphrase.new(passphrase_file) if with_secrets else ""
    hub = Client.from_disk()
    documents = exporter.export(hub)
    text = "".join("---\n" + as_yaml(d) for d in documents)
    if with_secrets:
        text += "---\n" + as_yaml(sealing.seal(hub, list(yaml.safe_load_all(text)), word))
    _write(output, text)
    kept = sum(d["kind"] == "Secret" for d in documents)
    how = "encrypted by the passphrase" if with_secrets else "not among them"
    sys.stderr.write(
        f"{len(documents)} objects; the credentials of {kept} clusters, repositories, "
        f"templates and generators, and the secrets of providers, are {how}\n"
    )


def _write(output: str, text: str) -> None:
    if output == "-":
        sys.stdout.write(text)
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Problem(f"{output} cannot be written: {error}") from error


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
    stop_operation: _StopOperation = False,
    without_secrets: Annotated[
        bool,
        typer.Option("--without-secrets", help="Leave the encrypted secrets of the export alone."),
    ] = False,
    passphrase_file: _PassphraseFile = "",
    ignore_tracking: _IgnoreTracking = False,
    override: _OverrideOnConflict = False,
) -> None:
    """Import an Argo CD installation, and list what could not be imported."""
    from hub.cli import files
    from hub.cli.client import Client
    from hub.cli.installation import importer, objects, sealing
    from hub.cli.installation.report import Report

    unsupported.refuse("--ignore-tracking", ignore_tracking, "an import marks nothing that runs")
    unsupported.refuse(
        "--override-on-conflict", override, "what the export says is written in any case"
    )
    report = Report(Client.from_disk(), dry_run=dry_run, stop_operation=stop_operation)
    documents, sealed = sealing.parted(files.manifests([source]))
    if sealed and not without_secrets:
        documents = _with_secrets(report, documents, sealed, passphrase_file)
    elif passphrase_file:
        raise Problem("--passphrase-file: there are no secrets to import")
    importer.take_all(report, importer.without_label(documents, skip) if skip else documents)
    if prune:
        objects.prune(report, documents)
    report.show(verbose=verbose)


def _with_secrets(
    report: Any, documents: list[dict[str, Any]], sealed: dict[str, Any], file: str
) -> list[dict[str, Any]]:
    from hub.cli import passphrase
    from hub.cli.client import path
    from hub.cli.installation import sealing

    items = sealing.opened(documents, sealed, passphrase.known(file))
    if not report.dry_run:
        report.hub.post(path("flotilla", "secrets-import"), {"digest": sealing.digest(sealed)})
    return sealing.filled(documents, items)
