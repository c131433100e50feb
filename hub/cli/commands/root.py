"""Commands without a group: sign-in, contexts, versions, manifests of any kind."""

from typing import Annotated
from urllib.parse import urlsplit

import typer

from hub.cli import config, unsupported
from hub.cli.client import Client, trust
from hub.cli.output import print_line, printed, table
from hub.cli.problem import Problem

app = typer.Typer(
    help="Flotilla: GitOps for many Kubernetes clusters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _checked(server: str) -> bool:
    """Return whether to skip the check of a hub's certificate.

    The user is asked about a certificate that is not trusted.
    Raises: Problem when the user declines, or cannot be asked.
    """
    import ssl

    import httpx

    if config.FLAGS.insecure or not server.startswith("https://"):
        return config.FLAGS.insecure
    try:
        httpx.get(
            f"{server}/healthz",
            verify=trust(insecure=False, authority=config.FLAGS.authority),
            timeout=10,
        )
    except httpx.ConnectError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__ or cause.__context__
        if cause is None and "CERTIFICATE" not in str(error):
            return False
        reason = getattr(cause, "verify_message", "") or "it is not trusted"
        if not typer.confirm(
            f"WARNING: server certificate had error: {reason}. Proceed insecurely?"
        ):
            raise Problem(
                "the certificate is not trusted: give --server-crt with its authority"
            ) from error
        return True
    except httpx.HTTPError:
        return False
    return False


_Server = Annotated[
    str,
    typer.Argument(help="Address of the hub, such as hub.example or http://127.0.0.1:8000."),
]
_Username = Annotated[str, typer.Option(help="Account to sign in with; prompted for by default.")]
_Password = Annotated[
    str,
    typer.Option(help="Password; prompted for by default.", envvar="FLOTILLA_PASSWORD"),
]
_Name = Annotated[
    str, typer.Option("--name", help="Name of the context; by default the hub's address.")
]
_Sso = Annotated[bool, typer.Option("--sso", help="Sign in with the browser of this machine.")]
_SsoPort = Annotated[int, typer.Option("--sso-port", help="Local port for the browser's redirect.")]
_Launch = Annotated[
    bool,
    typer.Option(
        "--sso-launch-browser/--no-sso-launch-browser",
        help="Open the browser, or only print the address.",
    ),
]
_Device = Annotated[
    bool, typer.Option("--device", help="Sign in with a code in a browser on another device.")
]
_Otp = Annotated[
    str, typer.Option("--otp", help="One-time code, for an account with a second factor.")
]
_Callback = Annotated[
    str,
    typer.Option(
        "--callback",
        help="Local host and port for the browser's redirect.",
    ),
]
_SkipTestTls = Annotated[
    bool, typer.Option("--skip-test-tls", help="Do not check the certificate first.")
]


@app.command()
def login(
    server: _Server,
    username: _Username = "",
    password: _Password = "",
    name: _Name = "",
    sso: _Sso = False,
    sso_port: _SsoPort = 0,
    launch: _Launch = True,
    device: _Device = False,
    otp: _Otp = "",
    callback: _Callback = "",
    skip_test_tls: _SkipTestTls = False,
) -> None:
    """Sign in to a hub and remember the session."""
    from hub.cli import client
    from hub.cli import login as signing

    if callback:
        sso_port = _port(callback)
    url = config.server_url(server, plaintext=config.FLAGS.plaintext)
    if not urlsplit(url).hostname:
        raise Problem(
            f"{server} is not the address of a hub: use a form such as hub.example or http://127.0.0.1:8000"
        )
    insecure = config.FLAGS.insecure if skip_test_tls else _checked(url)
    if sso or device:
        who = (
            signing.by_device(url, insecure=insecure, name=name)
            if device
            else signing.by_browser(url, insecure=insecure, port=sso_port, launch=launch, name=name)
        )
    else:
        who = username or typer.prompt("Username")
        secret = password or typer.prompt("Password", hide_input=True)
        client.login(url, who, secret, insecure=insecure, code=otp, name=name)
    print_line(f"'{who}' logged in successfully")
    print_line(f"Context '{name or url.partition('://')[2]}' updated")


def _port(callback: str) -> int:
    """Return the port of host:port.

    Raises: Problem for a host other than this machine: it would receive a token.
    """
    host, _, port = callback.rpartition(":")
    if host not in ("", "localhost", "127.0.0.1") or not port.isdigit():
        raise Problem(f"--callback {callback}: localhost and a port, such as localhost:8085")
    return int(port)


@app.command()
def configure(
    prompts: Annotated[
        bool | None,
        typer.Option(
            "--prompts-enabled/--no-prompts-enabled",
            help="Changes nothing: -y skips prompts.",
        ),
    ] = None,
) -> None:
    """Explain that -y skips questions, for scripts that configure prompts."""
    unsupported.note("--prompts-enabled", prompts is not None, "commands prompt only at a terminal")
    print_line("Commands prompt only at a terminal, and skip prompts with -y")


@app.command()
def relogin(
    password: Annotated[str, typer.Option(help="Password.", envvar="FLOTILLA_PASSWORD")] = "",
    sso_port: Annotated[
        int, typer.Option("--sso-port", help="Local port for the browser's redirect.")
    ] = 0,
    otp: Annotated[str, typer.Option("--otp", help="One-time code.")] = "",
) -> None:
    """Sign in again to the hub of the current context, as the same account."""
    import base64
    import json

    from hub.cli import client
    from hub.cli import login as signing

    found = config.current()
    try:
        part = found.token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        claims = {}
    who = str(claims.get("sub") or "").partition(":")[0]
    settings = Client(found.server, "", insecure=found.insecure, authority=found.authority).get(
        "/api/v1/settings"
    )
    if claims.get("iss") not in (None, "argocd") or not who or settings.get("userLoginsDisabled"):
        who = signing.by_browser(
            found.server, insecure=found.insecure, port=sso_port, launch=True, name=found.name
        )
    else:
        secret = password or typer.prompt(f"Password of {who}", hide_input=True)
        client.login(found.server, who, secret, insecure=found.insecure, code=otp, name=found.name)
    print_line(f"Context '{found.name}' updated")


@app.command()
def logout(
    context: Annotated[str, typer.Argument(help="Context; by default the current one.")] = "",
) -> None:
    """End the session of a context, also at the hub."""
    if context:
        config.FLAGS.context = context
    found = config.current()
    try:
        Client.from_disk().delete("/api/v1/session")
    except Problem as problem:
        # A session that has already expired is fine.
        if problem.status != 401:
            raise
    config.forget(found.name, whole=False)
    print_line(f"Logged out from '{found.name or found.server}'")


@app.command()
def context(
    name: Annotated[str, typer.Argument(help="Context to switch to; - is the previous one.")] = "",
    delete: Annotated[bool, typer.Option("--delete", help="Delete it instead.")] = False,
) -> None:
    """List contexts, or switch to another one."""
    document = config.load()
    names = [str(c["name"]) for c in document["contexts"]]
    if not name:
        current = document.get("current-context")
        table(
            ["CURRENT", "NAME", "SERVER"],
            [
                ["*" if c["name"] == current else "", c["name"], c["server"]]
                for c in document["contexts"]
            ],
        )
        return
    if name == "-":
        name = str(document.get("previous-context") or "")
    if name not in names:
        raise Problem(f"there is no context {name!r}; there are {', '.join(names) or 'none'}")
    if delete:
        config.forget(name, whole=True)
        print_line(f"Context '{name}' deleted")
        return
    if document.get("current-context") != name:
        document["previous-context"] = document.get("current-context")
        document["current-context"] = name
        config.save(document)
    print_line(f"Switched to context '{name}'")


@app.command()
def version(
    client_only: Annotated[
        bool, typer.Option("--client", help="Only the version of this program.")
    ] = False,
    short: Annotated[bool, typer.Option("--short", help="Only the numbers.")] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="json or yaml.")] = "wide",
) -> None:
    """Print the versions of this program and of the hub."""
    from importlib import metadata
    from platform import python_version

    own = {"Version": f"v{metadata.version('flotilla')}", "Compiler": f"python {python_version()}"}
    found = {"client": own}
    if not client_only:
        found["server"] = Client.from_disk().get("/api/version")
    if printed(found, output):
        return
    print_line(f"flotilla: {own['Version']}")
    if not short:
        print_line(f"  Compiler: {own['Compiler']}")
    if not client_only:
        print_line(f"flotilla-server: {found['server'].get('Version', '')}")
        for field in ("KustomizeVersion", "HelmVersion", "JsonnetVersion") if not short else ():
            if found["server"].get(field):
                print_line(f"  {field.removesuffix('Version')} Version: {found['server'][field]}")


@app.command()
def apply(
    file: Annotated[
        list[str],
        typer.Option("--filename", "-f", help="File, folder, URL, or -; may be repeated."),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change; store nothing.")
    ] = False,
) -> None:
    """Create or update Applications, AppProjects and ApplicationSets from manifests."""
    from hub.cli import files
    from hub.cli.installation import importer
    from hub.cli.installation.report import Report

    hub = Client.from_disk()
    report = Report(hub, dry_run=dry_run)
    for document in files.manifests(file):
        importer.take(report, document)
    report.show()


@app.command()
def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")],
) -> None:
    """Print a shell completion script: source <(flotilla completion bash)."""
    from typer._completion_shared import get_completion_script

    if shell not in ("bash", "zsh", "fish"):
        raise Problem(f"{shell}: there is completion for bash, zsh and fish")
    print_line(
        get_completion_script(prog_name="flotilla", complete_var="_FLOTILLA_COMPLETE", shell=shell)
    )
