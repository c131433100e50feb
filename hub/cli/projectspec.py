"""Flags of `proj create` and `proj set`, and how each changes a spec.

Pure functions: values in, values out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hub.cli.problem import Problem


@dataclass(frozen=True, slots=True)
class Given:
    """The values of a project's flags; None if not given."""

    dest: list[str] | None
    src: list[str] | None
    description: str
    spaces: list[str] | None
    keys: list[str] | None
    orphaned: bool | None
    warn: bool | None
    kinds: Mapping[str, list[str] | None]
    """By the field of the spec."""
    accounts: list[str] | None


def fields(spec: dict[str, Any], given: Given) -> None:
    """Change a spec as flags say."""
    if given.dest:
        spec["destinations"] = [destination(d) for d in given.dest]
    if given.src:
        spec["sourceRepos"] = given.src
    if given.description:
        spec["description"] = given.description
    if given.spaces:
        spec["sourceNamespaces"] = given.spaces
    if given.keys:
        spec["signatureKeys"] = [{"keyID": k} for k in given.keys]
    for field, listed in given.kinds.items():
        if listed:
            spec[field] = [_group_kind(text) for text in listed]
    if given.accounts:
        spec["destinationServiceAccounts"] = [_account(text) for text in given.accounts]
    if given.orphaned is False:
        spec.pop("orphanedResources", None)
    elif given.orphaned or given.warn is not None:
        spec["orphanedResources"] = {
            **(spec.get("orphanedResources") or {}),
            **({"warn": given.warn} if given.warn is not None else {}),
        }


def _group_kind(text: str) -> dict[str, str]:
    """Return GROUP/KIND, KIND for the core group, or GROUP/KIND/NAME, as a project lists it."""
    parts = text.split("/")
    if len(parts) == 1:
        parts = ["", *parts]
    if len(parts) > 3 or not parts[1] or (len(parts) == 3 and not parts[2]):
        raise Problem(f"{text}: write GROUP/KIND or GROUP/KIND/NAME, or KIND of the core group")
    return dict(zip(("group", "kind", "name"), parts, strict=False))


def _account(text: str) -> dict[str, str]:
    parts = text.split(",")
    if len(parts) != 3 or not all(parts):
        raise Problem(f"--dest-service-accounts {text}: write SERVER,NAMESPACE,ACCOUNT")
    return dict(zip(("server", "namespace", "defaultServiceAccount"), parts, strict=True))


def kinds_of(
    white: list[str] | None, black: list[str] | None, own: list[str] | None, out: list[str] | None
) -> dict[str, list[str] | None]:
    """Return permitted and denied kinds, cluster-scoped and namespaced, by field."""
    return {
        "clusterResourceWhitelist": white,
        "clusterResourceBlacklist": black,
        "namespaceResourceWhitelist": own,
        "namespaceResourceBlacklist": out,
    }


def destination(text: str) -> dict[str, str]:
    """Return the destination in SERVER,NAMESPACE; raises Problem for an invalid one."""
    server, comma, namespace = text.rpartition(",")
    if not comma or not server or not namespace:
        raise Problem(f"--dest {text}: write SERVER,NAMESPACE")
    return {
        "server"
        if "://" in server or server in ("*", "!*") or server.startswith("!http")
        else "name": server,
        "namespace": namespace,
    }
