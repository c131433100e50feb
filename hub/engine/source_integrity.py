"""Source integrity: the commit signatures that a project requires.

Source: as Argo CD 3.6's `signatureKeys` and `sourceIntegrity.git`. Several policies for one
repository are an error, so that a mistake fails closed.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from hub.engine.errors import RuleError
from hub.engine.globs import GlobError, check, check_count, compiled
from hub.engine.project_restrictions import folded_url, normal_url

MODES = ("none", "head", "strict")


class SignatureRequirement(NamedTuple):
    """The signatures required for a repository's commits."""

    mode: str
    keys: tuple[str, ...]


def signature_requirement(spec: Mapping[str, Any], url: str) -> SignatureRequirement | None:
    """Return the signatures that a project requires for a repository, None if none.

    Raises: RuleError if several policies match the repository, or one of them is invalid.
    """
    try:
        policies = _policies(spec)
        found = [p for p in policies if _is_about(p, url)]
    except (GlobError, AttributeError, TypeError) as error:
        raise RuleError(
            f"spec.sourceIntegrity of the project is invalid, so no commit is trusted: {error}"
        ) from error
    if len(found) > 1:
        raise RuleError(f"{len(found)} source integrity policies match {url}: only one may match")
    if not found:
        return None
    gpg = found[0].get("gpg") or {}
    mode = str(gpg.get("mode") or "head")
    return (
        None
        if mode == "none"
        else SignatureRequirement(mode, tuple(key_name(k) for k in gpg.get("keys") or []))
    )


def _policies(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    integrity = spec.get("sourceIntegrity")
    if isinstance(integrity, Mapping) and isinstance(integrity.get("git"), Mapping):
        return list(integrity["git"].get("policies") or [])
    keys = [entry.get("keyID") for entry in spec.get("signatureKeys") or []]
    if not keys:
        return []
    return [{"repos": [{"url": "*"}], "gpg": {"mode": "head", "keys": keys}}]


def _is_about(policy: Mapping[str, Any], url: str) -> bool:
    hit = False
    for entry in policy.get("repos") or []:
        pattern = str(entry.get("url") or "")
        if pattern.startswith("!"):
            if compiled(normal_url(pattern[1:]))(normal_url(url)):
                return False
        elif pattern == "*" or compiled(folded_url(pattern))(folded_url(url)):
            # Requirements ignore case, exceptions do not, so that a spelling cannot evade them.
            hit = True
    return hit


def key_name(text: Any) -> str:
    """Return the short id of a key: the last 16 digits of its fingerprint, in upper case."""
    return str(text or "").replace(" ", "").upper().removeprefix("0X")[-16:]


def check_integrity(spec: Mapping[str, Any]) -> None:
    """Check a project's signature requirements.

    Raises: RuleError naming the field.
    """
    for number, entry in enumerate(spec.get("signatureKeys") or []):
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("keyID"), str)
            or not entry["keyID"]
        ):
            raise RuleError(f"spec.signatureKeys[{number}].keyID is required")
    integrity = spec.get("sourceIntegrity")
    if integrity is None:
        return
    policies = (integrity.get("git") or {}).get("policies") if isinstance(integrity, dict) else None
    if not isinstance(policies, list):
        raise RuleError("spec.sourceIntegrity.git.policies must be a list")
    check_count(policies, "spec.sourceIntegrity.git.policies")
    for number, policy in enumerate(policies):
        where = f"spec.sourceIntegrity.git.policies[{number}]"
        gpg = policy.get("gpg") if isinstance(policy, dict) else None
        if not isinstance(gpg, dict) or gpg.get("mode", "head") not in MODES:
            raise RuleError(f"{where}.gpg.mode must be none, head or strict")
        if not isinstance(policy.get("repos"), list) or not all(
            isinstance(r, dict) and r.get("url") for r in policy["repos"]
        ):
            raise RuleError(f"{where}.repos must be a list of {{url}}")
        check_count(policy["repos"], f"{where}.repos")
        for position, entry in enumerate(policy["repos"]):
            check(str(entry["url"]).removeprefix("!"), f"{where}.repos[{position}].url")
        keys = gpg.get("keys") or []
        if not isinstance(keys, list) or (gpg.get("mode", "head") != "none" and not keys):
            raise RuleError(f"{where}.gpg.keys must name the keys that may sign")
