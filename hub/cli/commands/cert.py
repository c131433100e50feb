"""`flotilla cert`: known hosts."""

from typing import Annotated

import typer

from hub.cli import files
from hub.cli.client import Client, path
from hub.cli.problem import Problem
from hub.cli.show import printed, say, table

app = typer.Typer(help="Known hosts.", no_args_is_help=True)


@app.command("list")
def list_(
    cert_type: Annotated[str, typer.Option("--cert-type", help="ssh or https.")] = "", hostname_pattern: Annotated[str, typer.Option("--hostname-pattern", help="Hosts like this.")] = "",
    output: Annotated[str, typer.Option("--output", "-o", help="wide, json or yaml.")] = "wide",
) -> None:  # fmt: skip
    """List known hosts with their fingerprints."""
    from fnmatch import fnmatch

    items = Client.from_disk().get(path("certificates")).get("items") or []
    items = [i for i in items if cert_type in ("", i["certType"]) and (not hostname_pattern or fnmatch(i["serverName"], hostname_pattern))]  # fmt: skip
    if not printed(items, output):
        table(["HOSTNAME", "TYPE", "SUBTYPE", "INFO"], [[i["serverName"], i["certType"], i["certSubType"], i.get("certInfo", "")] for i in items])  # fmt: skip


@app.command("add-ssh")
def add_ssh(
    source: Annotated[str, typer.Option("--from", help="File as ssh-keyscan writes it; - for standard input.")] = "-",
    batch: Annotated[bool, typer.Option("--batch", help="All lines of the file; what is done in any case.")] = False,
    upsert: Annotated[bool, typer.Option("--upsert", help="Also what is known already.")] = False,
) -> None:  # fmt: skip
    """Add SSH hosts."""
    del batch, upsert
    items = []
    for line in files.text_of(source).splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 3:
            raise Problem(f"{line[:60]!r} must be a host, the kind of its key and the key")
        items.append({"serverName": words[0], "certType": "ssh", "certSubType": words[1], "certData": words[2]})  # fmt: skip
    if not items:
        raise Problem(f"{source} holds no hosts")
    Client.from_disk().post(path("certificates"), {"items": items})
    say(f"Successfully created {len(items)} SSH known host entries")


@app.command("add-tls")
def add_tls(server: Annotated[str, typer.Argument(help="Host.")], source: Annotated[str, typer.Option("--from", help="PEM file.")] = "-") -> None:  # fmt: skip
    """Say where a TLS authority goes here."""
    del source
    raise Problem(f"authorities of {server} are kept with the repository or cluster that needs them, or in the machine's trust store (SSL_CERT_FILE)")  # fmt: skip


@app.command()
def rm(
    host: Annotated[str, typer.Argument(metavar="HOST", help="Host.")],
    cert_type: Annotated[str, typer.Option("--cert-type", help="ssh.")] = "ssh",
) -> None:
    """Remove a known host."""
    gone = Client.from_disk().delete(path("certificates", hostNamePattern=host, certType=cert_type)).get("items") or []  # fmt: skip
    if not gone:
        raise Problem(f"{host} is no known host")
    for item in gone:
        say(f"Removed cert for '{item['serverName']}' of type '{item['certType']}' (subtype '{item['certSubType']}')")  # fmt: skip
