"""Prepare a cluster for the hub: read a kubeconfig, create a service account, role and token."""

import base64
import os
import ssl
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from hub.cli.problem import Problem

WAIT_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Context:
    """The settings in a context of a kubeconfig."""

    server: str
    authority: str
    insecure: bool
    server_name: str
    token: str
    certificate: str
    key: str


def parse_labels(items: Sequence[str]) -> dict[str, str]:
    """Return labels from texts such as key=value."""
    labels = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise Problem(f"--label {item!r} must be written key=value")
        labels[key] = value
    return labels


def read_context(path: str, name: str) -> Context:
    """Return a context of a kubeconfig.

    Raises: Problem when it is missing, or authenticates with a program, which the hub does not run.
    """
    file = Path(
        path
        or os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
        or Path.home() / ".kube" / "config"
    )
    try:
        config = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise Problem(f"{file} cannot be read; name another with --kubeconfig") from error
    contexts = _named(config, "contexts", "context")
    if name not in contexts:
        raise Problem(
            f"context {name!r} is not in {file}; it has {', '.join(sorted(contexts)) or 'none'}"
        )
    cluster = _named(config, "clusters", "cluster").get(str(contexts[name].get("cluster")), {})
    user = _named(config, "users", "user").get(str(contexts[name].get("user")), {})
    if user.get("exec") or user.get("auth-provider"):
        raise Problem(
            f"context {name!r} signs in by a program (exec or auth-provider); "
            "use a context with a token or a client certificate"
        )
    return Context(
        server=str(cluster.get("server", "")).rstrip("/"),
        authority=_data(cluster, "certificate-authority", file.parent),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        server_name=str(cluster.get("tls-server-name") or ""),
        token=str(user.get("token") or ""),
        certificate=_data(user, "client-certificate", file.parent),
        key=_data(user, "client-key", file.parent),
    )


def _named(config: Any, field: str, inner: str) -> dict[str, dict[str, Any]]:
    entries = (config or {}).get(field) or []
    return {str(e.get("name")): e.get(inner) or {} for e in entries if isinstance(e, dict)}


def _data(entry: dict[str, Any], field: str, folder: Path) -> str:
    if entry.get(f"{field}-data"):
        return base64.b64decode(entry[f"{field}-data"]).decode()
    if entry.get(field):
        return (folder / str(entry[field])).read_text()
    return ""


def _client(context: Context) -> httpx.Client:
    tls = ssl.create_default_context(cadata=context.authority or None)
    if context.insecure:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    if context.certificate:
        with tempfile.TemporaryDirectory() as folder:
            pair = Path(folder) / "pair.pem"
            descriptor = os.open(pair, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(context.certificate + "\n" + context.key)
            tls.load_cert_chain(pair)
    headers = {"Authorization": f"Bearer {context.token}"} if context.token else {}
    return httpx.Client(
        base_url=context.server, verify=tls, headers=headers, timeout=30, trust_env=False
    )


def install(context: Context, namespace: str, account: str, namespaces: Sequence[str]) -> str:
    """Create the service account, role and token in a cluster, and return the token.

    With `namespaces` the account may do everything there and nothing elsewhere.
    Raises: Problem with the cluster's own message.
    """
    with _client(context) as client:
        for manifest in _manifests(namespace, account, namespaces):
            _apply(client, manifest)
        return _token(client, namespace, account)


def _manifests(namespace: str, account: str, namespaces: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Return the service account, roles and bindings.

    With `namespaces`, there is a role in each namespace, else one for the cluster.
    """
    yield {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": account, "namespace": namespace},
    }
    subjects = [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    if not namespaces:
        rules.append({"nonResourceURLs": ["*"], "verbs": ["*"]})
    group, prefix, name = (
        "rbac.authorization.k8s.io",
        "" if namespaces else "Cluster",
        f"{account}-role",
    )
    reference = {"apiGroup": group, "kind": f"{prefix}Role", "name": name}
    for place in namespaces or [""]:
        where = {"namespace": place} if place else {}
        yield {
            "apiVersion": f"{group}/v1",
            "kind": f"{prefix}Role",
            "metadata": {"name": name, **where},
            "rules": rules,
        }
        yield {
            "apiVersion": f"{group}/v1",
            "kind": f"{prefix}RoleBinding",
            "metadata": {"name": f"{name}-binding", **where},
            "roleRef": reference,
            "subjects": subjects,
        }


def _apply(client: httpx.Client, manifest: dict[str, Any]) -> None:
    version, metadata = manifest["apiVersion"], manifest["metadata"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    place = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    where = f"{base}{place}/{manifest['kind'].lower()}s/{metadata['name']}"
    _call(
        client,
        "PATCH",
        f"{where}?fieldManager=flotilla&force=true",
        manifest,
        "application/apply-patch+yaml",
    )


def _call(
    client: httpx.Client,
    method: str,
    path: str,
    body: Any = None,
    content_type: str = "application/json",
) -> Any:
    try:
        answer = (
            client.request(method, path, json=body, headers={"Content-Type": content_type})
            if body is not None
            else client.request(method, path)
        )
    except httpx.HTTPError as error:
        raise Problem(
            f"cluster {client.base_url} does not answer ({type(error).__name__})"
        ) from error
    data = answer.json() if answer.content else {}
    if answer.status_code >= 400:
        raise Problem(f"the cluster refuses: {data.get('message', answer.status_code)}")
    return data


def _token(client: httpx.Client, namespace: str, account: str) -> str:
    name = f"{account}-token"
    path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/service-account-token",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {"kubernetes.io/service-account.name": account},
        },
    }
    _apply(client, manifest)
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        data = _call(client, "GET", path).get("data") or {}
        if data.get("token"):
            return base64.b64decode(data["token"]).decode()
        time.sleep(0.2)
    raise Problem("the cluster did not fill in a token for the service account within 15 seconds")


def registration(
    context: Context, token: str, name: str, labels: dict[str, str], namespaces: Sequence[str]
) -> dict[str, Any]:
    """Return the body that registers the cluster with the hub."""
    tls: dict[str, Any] = (
        {"insecure": True}
        if context.insecure
        else {"caData": base64.b64encode(context.authority.encode()).decode()}
    )
    if context.server_name:
        tls["serverName"] = context.server_name
    return {
        "server": context.server,
        "name": name,
        "labels": labels,
        "namespaces": list(namespaces),
        "config": {"bearerToken": token, "tlsClientConfig": {k: v for k, v in tls.items() if v}},
    }


def endpoint(context: Context, wanted: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the changes to a registration for the address that the hub uses.

    Raises: Problem for a word other than kubeconfig, kube-public and internal, or a cluster that
        publishes no address.
    """
    config = body["config"]
    if wanted == "kubeconfig":
        return {}
    if wanted == "internal":
        tls = {**config["tlsClientConfig"], "serverName": "kubernetes.default.svc"}
        return {
            "server": "https://kubernetes.default.svc",
            "config": {**config, "tlsClientConfig": tls},
        }
    if wanted != "kube-public":
        raise Problem(f"--cluster-endpoint {wanted}: kubeconfig, kube-public or internal")
    with _client(context) as client:
        found = _call(client, "GET", "/api/v1/namespaces/kube-public/configmaps/cluster-info")
    text = (found.get("data") or {}).get("kubeconfig") or ""
    published = next(iter(_named(yaml.safe_load(text), "clusters", "cluster").values()), {})
    if not published.get("server"):
        raise Problem("the cluster publishes no address in kube-public/cluster-info")
    authority = (
        {"caData": published["certificate-authority-data"]}
        if published.get("certificate-authority-data")
        else {}
    )
    return {
        "server": str(published["server"]).rstrip("/"),
        "config": {**config, "tlsClientConfig": {**config["tlsClientConfig"], **authority}},
    }
