"""Read, change and write a project."""

from collections.abc import Callable
from typing import Any

from hub.cli.client import Client, path
from hub.cli.problem import Problem

Spec = dict[str, Any]
ATTEMPTS = 5  # attempts, if others change the project at the same time


def read(hub: Client, name: str) -> dict[str, Any]:
    """Return a project."""
    found: dict[str, Any] = hub.get(path("projects", name))
    return found


def save(hub: Client, found: dict[str, Any]) -> None:
    """Write a project; refused with 409 if it was changed since it was read."""
    spec = {k: v for k, v in found["spec"].items() if v not in ([], None)}
    metadata = {
        k: found["metadata"][k]
        for k in ("name", "resourceVersion", "labels", "annotations")
        if found["metadata"].get(k)
    }
    hub.put(
        path("projects", found["metadata"]["name"]),
        {"project": {"metadata": metadata, "spec": spec}},
    )


def change(name: str, alter: Callable[[Spec], None]) -> None:
    """Change the spec of a project, and retry if it was changed at the same time."""
    hub = Client.from_disk()
    for attempt in range(ATTEMPTS):
        found = read(hub, name)
        alter(found["spec"])
        try:
            save(hub, found)
        except Problem as error:
            if error.status != 409 or attempt == ATTEMPTS - 1:
                raise
        else:
            return


def toggle(field: str, entry: Any, *, add: bool) -> Callable[[dict[str, Any]], None]:
    """Return a change of a spec that adds or removes an entry of a list."""

    def alter(spec: dict[str, Any]) -> None:
        listed = list(spec.get(field) or [])
        if add:
            if entry in listed:
                raise Problem(f"it is in {field} already")
            listed.append(entry)
        else:
            if entry not in listed:
                raise Problem(f"it is not in {field}")
            listed.remove(entry)
        spec[field] = listed

    return alter


def dict_in_place(value: Any) -> dict[str, Any]:
    """Return a nested object, which the caller changes in place."""
    if not isinstance(value, dict):
        raise Problem("the project has an entry that is not an object")
    return value
