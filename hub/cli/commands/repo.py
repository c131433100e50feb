"""`flotilla repo`: repositories."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hub.cli import unsupported
from hub.cli.client import Client, path
from hub.cli.output import print_line, printed, table
from hub.cli.problem import Problem

app = typer.Typer(help="Repositories.", no_args_is_help=True)
_Output = Annotated[str, typer.Option("--output", "-o", help="wide, json, yaml or url.")]


def content(file: str) -> str:
    """Return the content of a file with a secret.

    Raises: Problem.
    """
    try:
        return Path(file).read_text(encoding="utf-8") if file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{file} cannot be read: {error}") from error


def secret(given: dict[str, Any]) -> dict[str, Any]:
    """Return the credentials and options in flags as REST accepts them; files are read."""
    body = {
        "username": given["username"],
        "password": given["password"],
        "bearerToken": given["bearer_token"],
        "sshPrivateKey": content(given["ssh_private_key_path"]),
        "tlsClientCertData": content(given["tls_client_cert_path"]),
        "tlsClientCertKey": content(given["tls_client_cert_key_path"]),
        "githubAppID": given["github_app_id"] or None,
        "githubAppInstallationID": given["github_app_installation_id"] or None,
        "githubAppPrivateKey": content(given["github_app_private_key_path"]),
        "githubAppEnterpriseBaseUrl": given["github_app_enterprise_base_url"],
        "gcpServiceAccountKey": content(given["gcp_service_account_key_path"]),
        "enableOCI": given["enable_oci"],
        "forceHttpBasicAuth": given["force_http_basic_auth"],
        "insecureOCIForceHttp": given["insecure_oci_force_http"],
        "proxy": given["proxy"],
        "noProxy": given["no_proxy"],
    }
    if body["username"] and not (body["password"] or body["bearerToken"]):
        body["password"] = typer.prompt("Password", hide_input=True)
    return {k: v for k, v in body.items() if v}


User = Annotated[str, typer.Option("--username", help="User name.")]
Password = Annotated[
    str,
    typer.Option(
        "--password", help="Password or token; prompted for when only a user name is given."
    ),
]
Bearer = Annotated[str, typer.Option("--bearer-token", help="Bearer token.")]
SSHKey = Annotated[
    str, typer.Option("--ssh-private-key-path", help="File with an SSH private key.")
]
TLSCert = Annotated[
    str, typer.Option("--tls-client-cert-path", help="File with a client certificate.")
]
TLSKey = Annotated[
    str, typer.Option("--tls-client-cert-key-path", help="File with its private key.")
]
AppID = Annotated[int, typer.Option("--github-app-id", help="Id of a GitHub App.")]
AppInstallation = Annotated[
    int, typer.Option("--github-app-installation-id", help="Its installation.")
]
AppKey = Annotated[
    str, typer.Option("--github-app-private-key-path", help="File with its private key.")
]
AppURL = Annotated[
    str,
    typer.Option("--github-app-enterprise-base-url", help="API URL of a GitHub Enterprise server."),
]
GCPKey = Annotated[
    str,
    typer.Option("--gcp-service-account-key-path", help="File with a Google service account key."),
]
OCI = Annotated[bool, typer.Option("--enable-oci", help="Helm charts from an OCI registry.")]
Basic = Annotated[
    bool, typer.Option("--force-http-basic-auth", help="Send the password without a challenge.")
]
HTTP = Annotated[
    bool, typer.Option("--insecure-oci-force-http", help="Connect to the registry by HTTP.")
]
Proxy = Annotated[str, typer.Option("--proxy", help="Proxy for this repository.")]
NoProxy = Annotated[str, typer.Option("--no-proxy", help="Hosts without the proxy.")]


Url = Annotated[str, typer.Argument(metavar="REPOURL", help="URL.")]
Type = Annotated[str, typer.Option("--type", help="git, helm or oci.")]
Name = Annotated[str, typer.Option("--name", help="Name; Helm repositories need one.")]
Project = Annotated[str, typer.Option("--project", help="Project that the repository belongs to.")]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure-skip-server-verification",
        "--insecure-ignore-host-key",
        help="Do not verify the server's certificate or host key.",
    ),
]
EnableLfs = Annotated[bool, typer.Option("--enable-lfs", help="Fetch Git LFS files.")]
Depth = Annotated[int, typer.Option("--depth", help="Commits to fetch; 0 is all.")]
_Upsert = Annotated[bool, typer.Option("--upsert", help="Update a connected one.")]
_Azure = Annotated[
    list[str] | None,
    typer.Option(
        "--azure-active-directory-endpoint",
        "--azure-service-principal-client-id",
        "--azure-service-principal-client-secret",
        "--azure-service-principal-tenant-id",
        help="Not served: give --bearer-token or a password.",
    ),
]
_AzureIdentity = Annotated[bool, typer.Option("--use-azure-workload-identity", help="Not served.")]
_CacheWarm = Annotated[
    bool,
    typer.Option(
        "--webhook-manifest-cache-warm-disabled",
        help="Refused: unchanged files are never rendered again.",
    ),
]


@app.command()
def add(
    url: Url,
    type_: Type = "git",
    name: Name = "",
    project: Project = "",
    username: User = "",
    password: Password = "",
    bearer_token: Bearer = "",
    ssh_private_key_path: SSHKey = "",
    tls_client_cert_path: TLSCert = "",
    tls_client_cert_key_path: TLSKey = "",
    insecure: Insecure = False,
    enable_lfs: EnableLfs = False,
    enable_oci: OCI = False,
    insecure_oci_force_http: HTTP = False,
    github_app_id: AppID = 0,
    github_app_installation_id: AppInstallation = 0,
    github_app_private_key_path: AppKey = "",
    github_app_enterprise_base_url: AppURL = "",
    gcp_service_account_key_path: GCPKey = "",
    force_http_basic_auth: Basic = False,
    proxy: Proxy = "",
    no_proxy: NoProxy = "",
    depth: Depth = 0,
    upsert: _Upsert = False,
    azure: _Azure = None,
    azure_identity: _AzureIdentity = False,
    cache_warm: _CacheWarm = False,
) -> None:
    """Connect a repository after a connection test."""
    unsupported.refuse(
        "--webhook-manifest-cache-warm-disabled",
        cache_warm,
        "unchanged files are never rendered again",
    )
    if azure or azure_identity:
        raise Problem(
            "Azure's service principals and workload identities are not served: "
            "give --username and --password, a personal access token"
        )
    if type_ == "helm" and not name:
        raise Problem("--name is required for a Helm repository")
    body = {"repo": url, "type": type_, **secret(locals())}
    body |= {
        k: v
        for k, v in (
            ("name", name),
            ("project", project),
            ("insecure", insecure),
            ("enableLfs", enable_lfs),
            ("depth", depth),
        )
        if v
    }
    Client.from_disk().post(path("repositories", upsert=upsert), body)
    print_line(f"Repository '{url}' added")


@app.command("list")
def list_(
    output: _Output = "wide",
    refresh: Annotated[str, typer.Option("--refresh", help="hard: connect to each one.")] = "",
    project: Annotated[str, typer.Option("--project", help="Only those of this project.")] = "",
) -> None:
    """List repositories with their connection status."""
    hub = Client.from_disk()
    items = hub.get(path("repositories", appProject=project)).get("items") or []
    if refresh == "hard":
        items = [
            hub.get(
                path("repositories", i["repo"], forceRefresh=True, appProject=i.get("project", ""))
            )
            for i in items
        ]
    if printed(items, output, "url"):
        return
    if output == "url":
        for one in items:
            print_line(one["repo"])
        return
    table(
        ["TYPE", "NAME", "REPO", "INSECURE", "OCI", "LFS", "CREDS", "STATUS", "MESSAGE", "PROJECT"],
        [_row(i) for i in items],
    )


def _row(item: dict[str, Any]) -> list[str]:
    state = item.get("connectionState") or {}
    creds = (
        "inherited"
        if item.get("inheritedCreds")
        else str(bool(item.get("username") or item.get("hasCredentials"))).lower()
    )
    return [
        item.get("type", "git"),
        item.get("name", ""),
        item["repo"],
        *(str(bool(item.get(f))).lower() for f in ("insecure", "enableOCI", "enableLfs")),
        creds,
        state.get("status", ""),
        state.get("message", ""),
        item.get("project", ""),
    ]


@app.command()
def get(
    url: Annotated[str, typer.Argument(metavar="REPOURL", help="URL.")],
    output: _Output = "wide",
    refresh: Annotated[str, typer.Option("--refresh", help="hard: connect to it.")] = "",
    project: Annotated[str, typer.Option("--project", help="Only those of this project.")] = "",
) -> None:
    """Show a repository."""
    item = Client.from_disk().get(
        path("repositories", url, appProject=project, forceRefresh=refresh == "hard")
    )
    if not printed(item, output, "url"):
        table(
            [
                "TYPE",
                "NAME",
                "REPO",
                "INSECURE",
                "OCI",
                "LFS",
                "CREDS",
                "STATUS",
                "MESSAGE",
                "PROJECT",
            ],
            [_row(item)],
        )


@app.command()
def rm(
    urls: Annotated[list[str], typer.Argument(metavar="REPOURL...", help="URLs.")],
    project: Annotated[str, typer.Option("--project", help="Only those of this project.")] = "",
) -> None:
    """Disconnect repositories."""
    hub = Client.from_disk()
    for url in urls:
        hub.delete(path("repositories", url, appProject=project))
        print_line(f"Repository '{url}' removed")
