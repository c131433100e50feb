"""Verify OpenPGP signatures of commits."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dulwich.objects import Commit
from pysequoia import Cert, Sig, verify

from hub.engine.errors import Invalid, RuleError, Stalled
from hub.engine.source_integrity import SignatureRequirement, key_name, signature_requirement
from hub.models import setting
from projects.sources import git
from projects.sources.commit_history import TooMany, commits
from projects.sources.credentials import credentials_for

SETTING = "gpg_keys"
MAX_COMMITS = 20_000
_MAX_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class Key:
    """A public key."""

    key_id: str
    fingerprint: str
    owner: str
    armored: str


def read_keys(text: str) -> list[Key]:
    """Parse the public keys in an armored text.

    Raises: Invalid if there is none, or a secret key.
    """
    if "PRIVATE KEY BLOCK" in text:
        raise Invalid("keydata contains a secret key: provide only the public key")
    try:
        certs = Cert.split_bytes(text.encode())
    except Exception as error:  # the library raises no specific class
        raise Invalid(f"keydata is not an armored OpenPGP key: {error}"[:300]) from error
    if not certs:
        raise Invalid("keydata has no OpenPGP key")
    return [
        Key(
            key_name(c.fingerprint),
            c.fingerprint.upper(),
            str(c.user_ids[0]) if c.user_ids else "",
            str(c),
        )
        for c in certs
    ]


def known_keys() -> dict[str, str]:
    """Return the armored keys by their short id."""
    return dict(setting(SETTING, {}))


def check_sources(
    sources: Sequence[Mapping[str, Any]],
    revisions: Sequence[str],
    project: str,
    spec: Mapping[str, Any],
) -> None:
    """Check that every commit is signed as its project requires.

    Raises: Stalled naming the commits that are not.
    """
    if not spec.get("signatureKeys") and not spec.get("sourceIntegrity"):
        return
    problems: list[str] = []
    for source, revision in zip(sources, revisions, strict=True):
        url = str(source.get("repoURL") or "")
        try:
            demand = signature_requirement(spec, url)
        except RuleError as error:
            raise Stalled("SourceIntegrity", str(error)) from error
        if demand is not None and git.is_commit(revision) and not source.get("chart"):
            problems += _problems(url, revision, project, demand)
    if problems:
        raise Stalled("SourceIntegrity", "; ".join(problems[:_MAX_PROBLEMS]))


def _problems(url: str, revision: str, project: str, demand: SignatureRequirement) -> list[str]:
    keys, problems, maximum = known_keys(), list[str](), 1
    credentials = credentials_for(url, project)
    if demand.mode == "strict":
        git.ensure_history(url, revision, credentials)
        maximum = MAX_COMMITS
    found = commits(git.repository_key(url, credentials), revision, maximum)
    try:
        for commit in found if maximum > 1 else itertools.islice(found, 1):
            reason = _problem(commit, demand, keys)
            if reason:
                problems.append(
                    f"Failed verifying revision {commit.id.decode()} "
                    f"by '{_author(commit)}': {reason}"
                )
            if len(problems) == _MAX_PROBLEMS:
                break
    except TooMany:
        return [f"{url} has more than {MAX_COMMITS} commits, the limit of mode strict: use head"]
    return problems


def _author(commit: Commit) -> str:
    return str((getattr(commit, "author", None) or b"").decode(errors="replace"))[:200]


def _problem(commit: Commit, demand: SignatureRequirement, keys: Mapping[str, str]) -> str:
    """Return why a commit's signature is not accepted, empty if it is."""
    if not commit.gpgsig:
        return "it is not signed"
    try:
        signature = Sig.from_bytes(commit.gpgsig)
    except Exception:  # the library raises no specific class
        return "its signature is not an OpenPGP signature"
    signer = key_name(signature.issuer_fingerprint or signature.issuer_key_id)
    allowed = [name for name in demand.keys if name in keys]
    certs = {name: Cert.from_bytes(keys[name].encode()) for name in allowed}
    try:
        found = verify(
            bytes=commit.raw_without_sig(),
            store=lambda _ids: list(certs.values()),
            signature=signature,
        )
    except Exception:  # the library raises no specific class
        found = None
    if found is None or not found.valid_sigs:
        if signer in keys and signer not in demand.keys:
            return f"signed with unallowed key (key_id={signer})"
        return f"unknown key or bad signature (key_id={signer})"
    if any(
        certs[name].is_revoked
        for name in allowed
        if certs[name].fingerprint.upper() == found.valid_sigs[0].certificate.upper()
    ):
        return f"the key was revoked (key_id={signer})"
    return ""
