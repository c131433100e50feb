"""Names of applications and sets in commands: NAME, or NAMESPACE/NAME."""

from collections.abc import Mapping
from typing import Any

from hub.cli.problem import Problem


def qualified(text: str, namespace: str = "", flag: str = "--app-namespace") -> tuple[str, str]:
    """Return (namespace, name) of a command's argument; an empty namespace is the hub's own.

    Shapes: `namespace` is the value of `flag`. An empty text stays empty: some commands need no
        name.
    Raises: Problem for any other form, and when the name and the flag have different namespaces.
    """
    before, slash, name = text.partition("/")
    if not slash:
        return namespace, text
    if not before or not name or "/" in name:
        raise Problem(f"{text}: write NAME or NAMESPACE/NAME")
    if namespace not in ("", before):
        raise Problem(f"{text} is in namespace '{before}', and {flag} says '{namespace}': give one")
    return before, name


def named(metadata: Mapping[str, Any], name: str, namespace: str, flag: str) -> dict[str, Any]:
    """Return the metadata of a file with a command's name and namespace.

    Raises: Problem when the file has another namespace.
    """
    where, own = qualified(name, namespace, flag)
    stated = metadata.get("namespace")
    if where and stated not in (None, "", where):
        raise Problem(
            f"{metadata.get('name')} is for namespace '{stated}', and the command says '{where}'"
        )
    given = {"name": own, "namespace": where}
    return {**metadata, **{field: value for field, value in given.items() if value}}
