"""`flotilla repocreds`: credentials for many repositories."""

from typing import Annotated

import typer

from hub.cli.client import Client, path
from hub.cli.commands import repo
from hub.cli.output import print_line, printed, table

app = typer.Typer(help="Credentials for many repositories.", no_args_is_help=True)


@app.command()
def add(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="What the repositories' URLs begin with.")
    ],
    type_: Annotated[str, typer.Option("--type", help="git, helm or oci.")] = "git",
    username: repo.User = "",
    password: repo.Password = "",
    bearer_token: repo.Bearer = "",
    ssh_private_key_path: repo.SSHKey = "",
    tls_client_cert_path: repo.TLSCert = "",
    tls_client_cert_key_path: repo.TLSKey = "",
    enable_oci: repo.OCI = False,
    insecure_oci_force_http: repo.HTTP = False,
    github_app_id: repo.AppID = 0,
    github_app_installation_id: repo.AppInstallation = 0,
    github_app_private_key_path: repo.AppKey = "",
    github_app_enterprise_base_url: repo.AppURL = "",
    gcp_service_account_key_path: repo.GCPKey = "",
    force_http_basic_auth: repo.Basic = False,
    proxy: repo.Proxy = "",
    no_proxy: repo.NoProxy = "",
    upsert: Annotated[bool, typer.Option("--upsert", help="Update existing ones.")] = False,
) -> None:
    """Store credentials for all repositories whose URL has a prefix."""
    body = {"url": url, "type": type_, **repo.secret(locals())}
    Client.from_disk().post(path("repocreds", upsert=upsert), body)
    print_line(f"Repository credentials for '{url}' added")


@app.command("list")
def list_(
    output: Annotated[
        str, typer.Option("--output", "-o", help="wide, json, yaml or url.")
    ] = "wide",
) -> None:
    """List credentials, without the secrets."""
    items = Client.from_disk().get(path("repocreds")).get("items") or []
    if printed(items, output, "url"):
        return
    if output == "url":
        for one in items:
            print_line(one["url"])
        return
    table(
        ["URL PATTERN", "USERNAME", "SSH_CREDS", "TLS_CREDS"],
        [
            [
                i["url"],
                i.get("username", "-") or "-",
                str(bool(i.get("hasSSHCreds"))).lower(),
                str(bool(i.get("hasTLSCreds"))).lower(),
            ]
            for i in items
        ],
    )


@app.command()
def rm(urls: Annotated[list[str], typer.Argument(metavar="URL...", help="URLs.")]) -> None:
    """Remove credentials."""
    hub = Client.from_disk()
    for url in urls:
        hub.delete(path("repocreds", url))
        print_line(f"Repository credentials for '{url}' removed")
