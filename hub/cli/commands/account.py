"""`flotilla account`: accounts, tokens, and your permissions."""

from typing import Annotated

import typer

from hub.cli import config
from hub.cli.client import Client, path, remember
from hub.cli.problem import Problem
from hub.cli.show import facts, printed, say, stamp, table

app = typer.Typer(help="Accounts, tokens and what you may do.", no_args_is_help=True)
_Output = Annotated[str, typer.Option("--output", "-o", help="wide, json, yaml or name.")]
_Account = Annotated[str, typer.Option("--account", "-a", help="Account; your own when left out.")]


def _own(hub: Client, account: str) -> str:
    if account:
        return account
    found = hub.get(path("session", "userinfo"))
    if not found.get("loggedIn"):
        raise Problem("nobody is signed in: run flotilla login HUB first")
    return str(found["username"])


@app.command("list")
def list_(output: _Output = "wide") -> None:
    """List accounts."""
    items = Client.from_disk().get(path("account")).get("items") or []
    if printed(items, output, "name"):
        return
    if output == "name":
        for one in items:
            say(one["name"])
        return
    table(
        ["NAME", "ENABLED", "CAPABILITIES"],
        [
            [
                i["name"],
                str(i.get("enabled", False)).lower(),
                ", ".join(i.get("capabilities") or []),
            ]
            for i in items
        ],
    )


@app.command()
def get(account: _Account = "", output: _Output = "wide") -> None:
    """Show an account and its tokens."""
    hub = Client.from_disk()
    item = hub.get(path("account", _own(hub, account)))
    if printed(item, output):
        return
    facts(
        [
            ("Name", item["name"]),
            ("Enabled", str(item.get("enabled", False)).lower()),
            ("Capabilities", ", ".join(item.get("capabilities") or [])),
        ]
    )
    say("\nTokens:")
    tokens = item.get("tokens") or []
    if not tokens:
        say("NONE")
        return
    table(
        ["ID", "ISSUED AT", "EXPIRING AT"],
        [
            [
                t["id"],
                stamp(t["issuedAt"]),
                stamp(t["expiresAt"]) if t.get("expiresAt") else "never",
            ]
            for t in tokens
        ],
    )


@app.command("get-user-info")
def get_user_info(output: _Output = "wide") -> None:
    """Show the current account."""
    found = Client.from_disk().get(path("session", "userinfo"))
    if printed(found, output):
        return
    say(f"Logged In: {str(found.get('loggedIn', False)).lower()}")
    if found.get("loggedIn"):
        say(f"Username: {found.get('username', '')}")
        say(f"Issuer: {found.get('iss', '')}")
        say(f"Groups: {','.join(found.get('groups') or [])}")


@app.command("can-i")
def can_i(
    action: Annotated[str, typer.Argument(help="Such as sync.")],
    resource: Annotated[str, typer.Argument(help="Such as applications.")],
    subresource: Annotated[str, typer.Argument(help="Such as project/application, or *.")],
) -> None:
    """Print yes or no: whether you may do something."""
    say(Client.from_disk().get(path("account", "can-i", resource, action, subresource))["value"])


@app.command("update-password")
def update_password(
    account: _Account = "",
    current: Annotated[str, typer.Option("--current-password", help="Your own password.")] = "",
    new: Annotated[str, typer.Option("--new-password", help="The new one.")] = "",
) -> None:
    """Change a password; your own session is renewed."""
    hub = Client.from_disk()
    name = _own(hub, account)
    own = _own(hub, "")
    current = current or typer.prompt(
        f"*** Enter password of currently logged in user ({own})", hide_input=True
    )
    new = new or typer.prompt(
        f"*** Enter new password for user {name}", hide_input=True, confirmation_prompt=True
    )
    hub.put(
        path("account", "password"), {"name": name, "currentPassword": current, "newPassword": new}
    )
    say("Password updated")
    session = config.current()
    if name == own and session.name:
        fresh = Client(session.server, "", insecure=session.insecure, authority=session.authority)
        token = fresh.post(path("session"), {"username": name, "password": new})["token"]
        remember(session.server, token, insecure=session.insecure, name=session.name)
        say(f"Context '{session.name}' updated")


@app.command("generate-token")
def generate_token(
    account: _Account = "",
    expires_in: Annotated[
        str, typer.Option("--expires-in", "-e", help="Such as 24h; 0s is never.")
    ] = "0s",
    id_: Annotated[str, typer.Option("--id", help="Id; made up when left out.")] = "",
) -> None:
    """Create a token of an account and print it."""
    hub = Client.from_disk()
    name = _own(hub, account)
    body = {"name": name, "expiresIn": seconds(expires_in), **({"id": id_} if id_ else {})}
    say(hub.post(path("account", name, "token"), body)["token"])


def seconds(text: str) -> int:
    """Return the seconds of a duration such as 24h.

    Raises: Problem.
    """
    from hub.engine.errors import RuleError
    from hub.engine.retry import parse_duration

    try:
        return int(parse_duration(text, "--expires-in").total_seconds())
    except RuleError as error:
        raise Problem(str(error)) from error


@app.command("delete-token")
def delete_token(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of the token.")],
    account: _Account = "",
) -> None:
    """Revoke a token of an account."""
    hub = Client.from_disk()
    hub.delete(path("account", _own(hub, account), "token", id_))
    say(f"Token '{id_}' deleted")


@app.command("session-token")
def session_token() -> None:
    """Print the token of the current session."""
    say(config.current().token)


@app.command()
def bcrypt(
    password: Annotated[
        str, typer.Option("--password", help="Refused: the hub hashes passwords itself.")
    ] = "",
) -> None:
    """Explain that the hub hashes passwords itself; nothing needs to be done on this machine."""
    what = "the password was not hashed" if password else "there is nothing to hash"
    raise Problem(
        f"{what}: the hub hashes passwords itself; set one with flotilla account update-password"
    )
