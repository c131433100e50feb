"""`flotilla cert`: trusted SSH host keys and TLS certificates of hosts."""

import base64
from typing import Annotated

import typer

from hub.cli import files, unsupported
from hub.cli.client import Client, path
from hub.cli.output import print_line, printed, table
from hub.cli.problem import Problem
from hub.engine.globs import matches

app = typer.Typer(help="Known hosts.", no_args_is_help=True)


@app.command("list")
def list_(
    cert_type: Annotated[str, typer.Option("--cert-type", help="ssh or https.")] = "",
    hostname_pattern: Annotated[
        str, typer.Option("--hostname-pattern", help="Pattern of hosts.")
    ] = "",
    sort: Annotated[str, typer.Option("--sort", help="hostname or type.")] = "",
    output: Annotated[str, typer.Option("--output", "-o", help="wide, json or yaml.")] = "wide",
) -> None:
    """List known hosts with their fingerprints."""
    items = Client.from_disk().get(path("certificates")).get("items") or []
    items = [
        i
        for i in items
        if cert_type in ("", i["certType"])
        and (not hostname_pattern or matches(hostname_pattern, i["serverName"]))
    ]
    if sort not in ("", "hostname", "type"):
        raise Problem(f"--sort {sort}: hostname or type")
    items.sort(key=lambda i: (i["certType"] if sort == "type" else "", i["serverName"]))
    if not printed(items, output):
        table(
            ["HOSTNAME", "TYPE", "SUBTYPE", "INFO"],
            [
                [i["serverName"], i["certType"], i["certSubType"], i.get("certInfo", "")]
                for i in items
            ],
        )


@app.command("add-ssh")
def add_ssh(
    source: Annotated[
        str, typer.Option("--from", help="File in the format of ssh-keyscan; - for standard input.")
    ] = "-",
    batch: Annotated[
        bool, typer.Option("--batch", help="Add all lines of the file, which is the default.")
    ] = False,
    upsert: Annotated[bool, typer.Option("--upsert", help="Replace known keys.")] = False,
) -> None:
    """Add SSH hosts."""
    lines = [s for s in files.text_of(source).splitlines() if s.strip() and s.strip()[0] != "#"]
    if len(lines) > 1 and not batch:
        unsupported.note("leaving --batch out", True, f"all {len(lines)} hosts are added")
    items = []
    for line in lines:
        words = line.split()
        if len(words) < 3:
            raise Problem(f"{line[:60]!r} must be a host, the kind of its key and the key")
        items.append(
            {
                "serverName": words[0],
                "certType": "ssh",
                "certSubType": words[1],
                "certData": words[2],
            }
        )
    if not items:
        raise Problem(f"{source} holds no hosts")
    Client.from_disk().post(path("certificates", upsert=upsert), {"items": items})
    print_line(f"Successfully created {len(items)} SSH known host entries")


@app.command("add-tls")
def add_tls(
    server: Annotated[str, typer.Argument(metavar="SERVERNAME", help="Host.")],
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="PEM file with its certificates, or its authority's; - for standard input.",
        ),
    ] = "-",
    upsert: Annotated[
        bool, typer.Option("--upsert", help="Replace the host's certificates.")
    ] = False,
) -> None:
    """Add the certificates that must sign a repository server's certificate."""
    item = {
        "serverName": server,
        "certType": "https",
        "certData": base64.b64encode(files.text_of(source).encode()).decode(),
    }
    found = Client.from_disk().post(path("certificates", upsert=upsert), {"items": [item]})
    print_line(
        f"Created entry with {len(found['items'])} PEM certificates for repository server {server}"
    )


@app.command()
def rm(
    host: Annotated[
        str, typer.Argument(metavar="HOST", help="Host, or a pattern such as *.example.")
    ],
    cert_type: Annotated[str, typer.Option("--cert-type", help="ssh or https.")] = "",
    sub_type: Annotated[str, typer.Option("--cert-sub-type", help="Kind of the key.")] = "",
) -> None:
    """Remove the trusted keys and certificates of a host."""
    gone = (
        Client.from_disk()
        .delete(
            path("certificates", hostNamePattern=host, certType=cert_type, certSubType=sub_type)
        )
        .get("items")
        or []
    )
    if not gone:
        raise Problem(f"{host} is not a known host")
    for item in gone:
        print_line(
            f"Removed cert for '{item['serverName']}' of type '{item['certType']}' "
            f"(subtype '{item['certSubType']}')"
        )
