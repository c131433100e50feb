"""`flotilla gpg`: keys that sign commits."""

from typing import Annotated

import typer

from hub.cli import files
from hub.cli.client import Client, path
from hub.cli.output import facts, print_line, printed, table

app = typer.Typer(help="Keys that sign commits.", no_args_is_help=True)
_Output = Annotated[str, typer.Option("--output", "-o", help="wide, json or yaml.")]


@app.command()
def add(
    source: Annotated[
        str, typer.Option("--from", help="File with armoured public keys; - for standard input.")
    ],
) -> None:
    """Add public keys."""
    found = Client.from_disk().post(path("gpgkeys"), {"keydata": files.text_of(source)})
    created, skipped = (found.get("created") or {}).get("items") or [], found.get("skipped") or []
    print_line(f"Created {len(created)} key(s) from input file")
    if skipped:
        print_line(f"Skipped {len(skipped)} key(s) because they exist already")


@app.command("list")
def list_(output: _Output = "wide") -> None:
    """List the keys."""
    items = Client.from_disk().get(path("gpgkeys")).get("items") or []
    if not printed(items, output):
        table(
            ["KEYID", "TYPE", "IDENTITY"],
            [[i["keyID"], i.get("subType", ""), i.get("owner", "")] for i in items],
        )


@app.command()
def get(
    key_id: Annotated[str, typer.Argument(metavar="KEYID", help="Id.")], output: _Output = "wide"
) -> None:
    """Show a key."""
    item = Client.from_disk().get(path("gpgkeys", key_id))
    if not printed(item, output):
        facts(
            [
                ("Key ID", item["keyID"]),
                ("Key fingerprint", item.get("fingerprint", "")),
                ("Key subtype", item.get("subType", "")),
                ("Key owner", item.get("owner", "")),
            ]
        )
        print_line("Key data follows until EOF:")
        print_line(item.get("keyData", ""))


@app.command()
def rm(key_id: Annotated[str, typer.Argument(metavar="KEYID", help="Id.")]) -> None:
    """Remove a key."""
    Client.from_disk().delete(path("gpgkeys", keyID=key_id))
    print_line(f"Key with key ID '{key_id}' removed")
