"""Import of Secrets: clusters, repositories and their templates."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from hub.cli.client import path
from hub.cli.installation import own_objects
from hub.cli.installation.report import OMITTED, SECRET_TYPE, Document, Report
from hub.cli.problem import Problem

REPOSITORY_SWITCHES = (
    "insecure",
    "insecureIgnoreHostKey",
    "enableLfs",
    "enableOCI",
    "insecureOCIForceHttp",
    "forceHttpBasicAuth",
    "passCredentials",
)
_NUMBERS = ("githubAppID", "githubAppInstallationID", "depth")


_PROGRAMS = ("execProviderConfig", "awsAuthConfig")
"""Fields of a cluster's config that name a program, which the hub never runs."""


def take_secret(report: Report, document: Document, name: str) -> None:
    """Import a cluster, a repository, a template or a generator's Secret."""
    kind = str((document["metadata"].get("labels") or {}).get(SECRET_TYPE) or "")
    data = _decoded(document)
    keep = bool((document["metadata"].get("annotations") or {}).get(OMITTED))
    if kind == "cluster":
        _cluster(report, document, data, keep=keep)
    elif kind in ("repository", "repo-creds"):
        _repository(report, data, template=kind == "repo-creds", keep=keep)
    elif kind == own_objects.GENERATOR_SECRET:
        own_objects.take_secret(report, document, data)
    elif name == "argocd-secret":
        for key in data:
            note = "sessions and passwords of another server do not count here"
            if key.startswith("webhook."):
                variable = f"HUB_{key.upper().replace('.', '_')}"
                note = f"the hub takes it from its environment: {variable}"
            report.line(f"Secret {name} {key}", "kept back", note)
    else:
        report.line(
            f"Secret {name}",
            "kept back",
            "no cluster or repository; set generators' tokens with flotilla appset set-secret",
        )


def _cluster(report: Report, document: Document, data: Mapping[str, str], *, keep: bool) -> None:
    server = data.get("server", "").rstrip("/")
    labels = {
        k: v for k, v in (document["metadata"].get("labels") or {}).items() if k != SECRET_TYPE
    }
    annotations = {
        k: v
        for k, v in (document["metadata"].get("annotations") or {}).items()
        if k not in (OMITTED, "managed-by", "kubectl.kubernetes.io/last-applied-configuration")
    }
    body: dict[str, Any] = {
        "server": server,
        "name": data.get("name") or server,
        "labels": labels,
        "annotations": annotations,
        "project": data.get("project", ""),
        "namespaces": [n.strip() for n in data.get("namespaces", "").split(",") if n.strip()],
        "clusterResources": data.get("clusterResources") == "true",
    }
    found = report.read(path("clusters", server))
    shown = ("name", "labels", "annotations", "namespaces", "project", "clusterResources")
    before = {k: found.get(k) or type(body[k])() for k in shown} if found else None
    wanted = {k: body[k] for k in shown}
    if keep:
        if found is None:
            report.line(
                f"cluster {body['name']}",
                "failed",
                "the export has no credentials for it: register it with flotilla cluster add",
            )
            return
        report.write(
            f"cluster {body['name']}",
            before,
            wanted,
            lambda: report.hub.put(path("clusters", server, updatedFields=list(shown)), body),
        )
        return
    try:
        body["config"] = json.loads(data.get("config") or "{}")
    except ValueError as error:
        raise Problem(f"cluster {body['name']}: its config is not JSON") from error
    program = next((field for field in _PROGRAMS if body["config"].get(field)), None)
    if program is not None:
        report.line(
            f"cluster {body['name']}",
            "kept back",
            f"its config.{program} would run a program on the hub: "
            "register it with a service-account token, flotilla cluster add",
        )
        return
    # The hub does not return credentials, so they cannot be compared: they are written again.
    report.write(
        f"cluster {body['name']}",
        before if found is None else {**(before or {}), "config": None},
        {**wanted, "config": body["config"]},
        lambda: report.hub.post(path("clusters", upsert=True), body),
    )


def _repository(report: Report, data: Mapping[str, str], *, template: bool, keep: bool) -> None:
    url, word = data.get("url", ""), "repocreds" if template else "repository"
    where = (
        path("repocreds")
        if template
        else path("repositories", url, appProject=data.get("project", ""))
    )
    listed = report.read(where)
    found = (
        next((i for i in (listed or {}).get("items") or [] if i["url"] == url), None)
        if template
        else listed
    )
    if keep:
        report.line(
            f"{word} {url}",
            "unchanged" if found else "failed",
            ""
            if found
            else "the export has no credentials for it: connect it with flotilla repo add",
        )
        return
    body: dict[str, Any] = {("url" if template else "repo"): url}
    for key, value in data.items():
        if key == "url":
            continue
        body[key] = (
            value == "true"
            if key in REPOSITORY_SWITCHES
            else int(value)
            if key in _NUMBERS and value.isdigit()
            else value
        )
    call = (
        path("repocreds", upsert=True)
        if template
        else path("repositories", upsert=True, credsOnly=True)
    )
    report.write(
        f"{word} {url}",
        None if found is None else False,
        True,
        lambda: report.hub.post(call, body),
    )


def _decoded(document: Document) -> dict[str, str]:
    """Return the values of a secret as text.

    Raises: Problem naming the key.
    """
    found = {}
    for key, value in (document.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(str(value), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Problem(
                f"Secret {document['metadata'].get('name')}: data.{key} is not base64 of text"
            ) from error
    return {**found, **{k: str(v) for k, v in (document.get("stringData") or {}).items()}}
