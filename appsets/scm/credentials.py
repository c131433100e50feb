"""The secrets and ConfigMaps of generators, and the servers that they may be sent to."""

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from appsets.generators.errors import GeneratorError
from appsets.models import ConfigMap, Secret
from appsets.scm.host import Host, HostError, origin
from projects.sources.app_tokens import signed

PUBLIC = (
    "https://api.github.com",
    "https://gitlab.com",
    "https://api.bitbucket.org",
    "https://dev.azure.com",
)
_APP_TOKENS: dict[tuple[str, str, str, int], tuple[Any, str]] = {}
_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets and ConfigMaps that sets of one namespace and project may use."""

    namespace: str
    project: str

    def secret(self, name: str, server: str, where: str) -> Mapping[str, str]:
        """Return the data of a secret that may be sent to a server.

        Raises: GeneratorError, the same for a missing secret and one of another project.
        """
        mine = Q(project__in=["", self.project]) if self.project else Q(project="")
        row = Secret.objects.filter(mine, namespace=self.namespace, name=name).first()
        if row is None:
            raise GeneratorError(
                f"{where}: there is no secret {name!r} for project '{self.project}'; create it "
                "with POST /api/v1/flotilla/secrets"
            )
        if server not in row.servers:
            raise GeneratorError(
                f"{where}: secret {name!r} is not for {server}, only for {', '.join(row.servers)}"
            )
        found: Mapping[str, str] = row.data
        return found

    def value(self, ref: Any, server: str, where: str) -> str:
        """Return the value of `{secretName, key}`; raises GeneratorError."""
        if not isinstance(ref, Mapping) or not ref.get("secretName") or not ref.get("key"):
            raise GeneratorError(f"{where} needs secretName and key")
        found = self.secret(str(ref["secretName"]), server, where).get(str(ref["key"]))
        if not found:
            raise GeneratorError(f"{where}: secret {ref['secretName']!r} has no key {ref['key']!r}")
        return found

    def config(self, name: str, where: str) -> Mapping[str, str]:
        """Return the data of a ConfigMap; raises GeneratorError."""
        row = ConfigMap.objects.filter(namespace=self.namespace, name=name).first()
        if row is None:
            raise GeneratorError(
                f"{where}: there is no ConfigMap {name!r}; create it with POST "
                "/api/v1/flotilla/configmaps"
            )
        found: Mapping[str, str] = row.data
        return found

    def trust(self, block: Mapping[str, Any], where: str) -> ssl.SSLContext | bool:
        """Return the trusted certificates; raises GeneratorError."""
        if block.get("insecure"):
            return False
        ref = block.get("caRef")
        if not ref:
            return True
        if not isinstance(ref, Mapping) or not ref.get("configMapName") or not ref.get("key"):
            raise GeneratorError(f"{where}.caRef needs configMapName and key")
        pem = self.config(str(ref["configMapName"]), f"{where}.caRef").get(str(ref["key"]), "")
        try:
            context = ssl.create_default_context()
            context.load_verify_locations(cadata=pem)
        except (ssl.SSLError, ValueError) as error:
            raise GeneratorError(
                f"{where}.caRef: {ref['key']!r} holds no certificates in PEM"
            ) from error
        return context


def check_server(server: str, where: str, *, has_secret: bool) -> None:
    """Check that generators may request a server: an allowed one, or one that a secret names.

    Raises: GeneratorError naming the next step.
    """
    if not settings.SCM_GENERATORS:
        raise GeneratorError(
            f"{where}: generators that ask hosts are switched off (HUB_SCM_GENERATORS)"
        )
    allowed = [origin(s) for s in settings.SCM_SERVERS]
    if server in (allowed or PUBLIC) or (has_secret and not allowed):
        return
    raise GeneratorError(
        f"{where}.api: {server} is not among the servers that sets may ask "
        f"({', '.join(allowed or PUBLIC)}); "
        + (
            "add it to HUB_SCM_SERVERS"
            if allowed
            else "add it to HUB_SCM_SERVERS, or name a secret that is for it"
        )
    )


def app_token(
    keys: Keys, name: str, base: str, where: str, trust: ssl.SSLContext | bool
) -> tuple[str, str]:
    """Return a token of a GitHub App's installation, and the name of its lasting identity.

    Raises: GeneratorError, HostError.
    """
    server = origin(base)
    data = keys.secret(name, server, where)
    fields = ("githubAppID", "githubAppInstallationID", "githubAppPrivateKey")
    for field in fields:
        if not data.get(field):
            raise GeneratorError(f"{where}: secret {name!r} has no key {field!r}")
    app, installation, private = (data[f] for f in fields)
    identity, now = f"app {app} {installation}", timezone.now()
    place = (base, app, installation, hash(private))
    with _LOCK:
        until, token = _APP_TOKENS.get(place, (None, ""))
    if until is not None and until > now:
        return token, identity
    try:
        assertion = signed({"iss": app}, private)
    except ValueError as error:
        raise GeneratorError(
            f"{where}: githubAppPrivateKey of secret {name!r} is not an RSA key in PEM"
        ) from error
    host = Host(
        base,
        where,
        headers={"Authorization": f"Bearer {assertion}"},
        trust=trust,
        identity=identity,
        project=keys.project,
    )
    try:
        answer = host.post(f"/app/installations/{installation}/access_tokens", {})
    finally:
        host.close()
    token = str(answer.get("token") or "") if isinstance(answer, Mapping) else ""
    if not token:
        raise HostError(f"{server} gave no token for the app's installation {installation}")
    with _LOCK:
        _APP_TOKENS[place] = (now + timedelta(minutes=50), token)
    return token, identity
