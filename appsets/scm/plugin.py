"""The generator `plugin`: request parameters from a plugin."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from appsets.generators.base import Params
from appsets.generators.errors import GeneratorError
from appsets.scm.credentials import Keys
from appsets.scm.host import Host, HostError, origin
from hub.engine.parsing import parse_digits

GENERATE = "/api/v1/getparams.execute"
SECRET = "argocd-secret"


def check_plugin(block: Mapping[str, Any], where: str) -> str:
    """Return the name of the ConfigMap that a block refers to; raises GeneratorError."""
    ref = block.get("configMapRef")
    name = ref.get("name") if isinstance(ref, Mapping) else ref
    if not isinstance(name, str) or not name:
        raise GeneratorError(f"{where}.configMapRef is required")
    return name


def plugin(block: Mapping[str, Any], keys: Keys, set_name: str) -> list[Params]:
    """Return the parameters of a plugin, with the input that it received.

    Source: as Argo CD 3.6's plugin generators.
    Raises: GeneratorError, HostError.
    """
    if not settings.SCM_GENERATORS:
        raise GeneratorError(
            "plugin: generators that ask hosts are switched off (HUB_SCM_GENERATORS)"
        )
    name = check_plugin(block, "plugin")
    config = keys.config(name, "plugin.configMapRef")
    base = str(config.get("baseUrl") or "")
    if not base:
        raise GeneratorError(f"plugin: ConfigMap {name!r} has no key 'baseUrl'")
    inner = block.get("input")
    given = inner.get("parameters") if isinstance(inner, Mapping) else None
    given = given if isinstance(given, Mapping) else {}
    token = _token(str(config.get("token") or ""), keys, origin(base), name)
    timeout = parse_digits(str(config.get("requestTimeout") or "30"))
    host = Host(
        base,
        f"ConfigMap {name}: baseUrl",
        headers={"Authorization": f"Bearer {token}"},
        timeout=30 if timeout is None else min(timeout, 300),
        project=keys.project,
    )
    try:
        answer = host.post(
            GENERATE, {"applicationSetName": set_name, "input": {"parameters": given}}
        )
    finally:
        host.close()
    output = answer.get("output") if isinstance(answer, Mapping) else None
    found = output.get("parameters") if isinstance(output, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(p, Mapping) for p in found):
        raise HostError(
            f"the plugin at {origin(base)} did not answer with output.parameters, a list of objects"
        )
    return [{**p, "generator": {"input": {"parameters": dict(given)}}} for p in found]


def _token(text: str, keys: Keys, server: str, name: str) -> str:
    """Return the value of `$key` (of argocd-secret) or `$secret:key`; a plain token is refused."""
    if not text.startswith("$"):
        raise GeneratorError(f"plugin: token of ConfigMap {name!r} must be $key or $secret:key")
    secret, separator, key = text[1:].partition(":")
    ref = {"secretName": secret, "key": key} if separator else {"secretName": SECRET, "key": secret}
    return keys.value(ref, server, f"plugin: token of ConfigMap {name}")
