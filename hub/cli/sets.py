"""Application sets from the command line: read, write, preview, confirm deletions."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import yaml

from hub.cli.client import Client, path, table
from hub.cli.files import manifests
from hub.cli.names import named, qualified
from hub.cli.problem import Problem
from hub.engine import line_diff
from hub.engine.counted import counted

API = "/api/v1/applicationsets"
OURS = "/api/v1/flotilla/applicationsets"
SECRETS = "/api/v1/flotilla/secrets"


def set_path(name: str, *more: str, at: str = "", ours: bool = False, **query: Any) -> str:
    """Return the path of a set, or of something below it.

    Shapes: `at` is its namespace; `ours` selects paths beyond Argo CD's.
    Raises: Problem for an invalid name, or one whose namespace differs from `at`.
    """
    where, own = qualified(name, at, "--appset-namespace")
    before = ("flotilla", "applicationsets") if ours else ("applicationsets",)
    return path(*before, own, *more, appsetNamespace=where, **query)


def read(files: Sequence[str]) -> list[dict[str, Any]]:
    """Return the sets of files or URLs; `-` is standard input, a file may hold several.

    Raises: Problem naming the file.
    """
    found = manifests(files)
    for document in found:
        if document.get("kind") not in (None, "ApplicationSet"):
            raise Problem(f"there is a {document.get('kind')} that is no ApplicationSet")
    return found


def read_for(files: Sequence[str], namespace: str) -> list[dict[str, Any]]:
    """Return the sets in files, in the namespace of a flag.

    Raises: Problem when a file has another one.
    """
    return [
        {**d, "metadata": named(d.get("metadata") or {}, "", namespace, "--appset-namespace")}
        for d in read(files)
    ]


def only(file: str) -> dict[str, Any]:
    """Return the only set in a file.

    Raises: Problem.
    """
    found = read([file])
    if len(found) != 1:
        raise Problem(f"{file} holds {len(found)} ApplicationSets; give one")
    return found[0]


def show_list(items: Sequence[dict[str, Any]]) -> None:
    """Print sets in Argo CD's columns."""
    head = ["NAME", "PROJECT", "SYNCPOLICY", "HEALTH", "CONDITIONS"]
    table(
        head,
        [
            [
                _qualified(i),
                i["spec"]["template"]["spec"].get("project") or "default",
                (i["spec"].get("syncPolicy") or {}).get("applicationsSync") or "nil",
                _health(i),
                _conditions(i),
            ]
            for i in items
        ],
    )


def _qualified(item: dict[str, Any]) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def _health(item: dict[str, Any]) -> str:
    return str((item["status"].get("health") or {}).get("status") or "Unknown")


def _conditions(item: dict[str, Any]) -> str:
    return ",".join(f"{c['type']}={c['status']}" for c in item["status"].get("conditions") or [])


def show_one(item: dict[str, Any]) -> None:
    """Print a set, its conditions and its applications."""
    for name, value in (
        ("Name", _qualified(item)),
        ("Project", item["spec"]["template"]["spec"].get("project") or "default"),
        ("Health Status", _health(item)),
        ("Applications", item["status"].get("resourcesCount", 0)),
    ):
        sys.stdout.write(f"{name + ':':<20}{value}\n")
    sys.stdout.write("\n")
    conditions = item["status"].get("conditions") or []
    table(
        ["CONDITION", "STATUS", "MESSAGE", "LAST TRANSITION"],
        [[c["type"], c["status"], c["message"], c["lastTransitionTime"]] for c in conditions],
    )
    resources = item["status"].get("resources") or []
    if resources:
        sys.stdout.write("\n")
        table(
            ["APPLICATION", "STATUS", "HEALTH"],
            [[r["name"], r["status"], r["health"]["status"]] for r in resources],
        )
    waiting = (item["status"].get("flotilla") or {}).get("deletionsWaiting") or []
    if waiting:
        verb = "waits" if len(waiting) == 1 else "wait"
        sys.stdout.write(
            f"\n{counted(len(waiting), 'deletion')} {verb} for "
            f"flotilla appset confirm-deletion {_qualified(item)}\n"
        )


_UNSEEN = "(one that you may not read)"


def show_preview(found: dict[str, Any], *, with_diff: bool) -> None:
    """Print the effect of saving a set."""
    rows = [["+", a["metadata"]["name"], "added", ""] for a in found["added"]]
    rows += [["~", c["name"], "changed", ""] for c in found["changed"]]
    rows += [["-", d["name"] or _UNSEEN, "deleted", _loss(d)] for d in found["deleted"]]
    rows += [
        ["!", d["name"] or _UNSEEN, "deleted once confirmed", _loss(d)] for d in found["waiting"]
    ]
    rows += [[" ", name or _UNSEEN, "not wanted any more, kept", ""] for name in found["kept"]]
    if rows:
        table(["", "APPLICATION", "WHAT", "LIVE RESOURCES"], rows)
    if with_diff:
        for change in found["changed"]:
            sys.stdout.writelines(_diff(change))
    sys.stdout.writelines(_problem_lines(found["problems"]))
    resources = sum(d["resources"] for d in found["deleted"])
    sys.stdout.write(
        f"{len(found['added'])} added, {len(found['changed'])} changed, "
        f"{len(found['deleted'])} deleted with {resources} live resources, "
        f"{len(found['waiting'])} waiting for a confirmation, {found['unchanged']} unchanged\n"
    )


def warn_of(problems: Sequence[dict[str, Any]]) -> None:
    """Print to standard error which parameters produce no application, and why."""
    sys.stderr.writelines(_problem_lines(problems))


def _problem_lines(problems: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f"problem: {p['application'] + ': ' if p['application'] else ''}{p['message']}\n"
        for p in problems
    ]


def _loss(entry: dict[str, Any]) -> str:
    return f"{entry['resources']} go too" if entry["cascade"] else "all stay"


def _diff(change: dict[str, Any]) -> list[str]:
    if "before" not in change:
        return [f"--- {change['name']}: you may not read this application\n"]
    now, then = (yaml.safe_dump(change[s]) for s in ("before", "after"))
    names = f"{change['name']} (now)", f"{change['name']} (then)"
    return [f"{line}\n" for line in line_diff.unified(now, then, names)]


def confirm(client: Client, name: str, wanted: Sequence[str], *, at: str = "") -> list[str]:
    """Confirm waiting deletions, by default all of them; return the names.

    Raises: Problem when none.
    """
    item = client.get(set_path(name, at=at))
    names = list(wanted) or list(
        (item["status"].get("flotilla") or {}).get("deletionsWaiting") or []
    )
    if not names:
        raise Problem(f"no deletion of {name} waits for a confirmation")
    client.post(set_path(name, "confirm-deletion", at=at, ours=True), {"applications": names})
    return names


def rollout(client: Client, name: str, action: str, *, at: str = "") -> dict[str, Any]:
    """Control the rollout of a set, and return the set; `status` only reads it."""
    if action == "status":
        found: dict[str, Any] = client.get(set_path(name, at=at))
    else:
        found = client.post(set_path(name, "rollout", at=at, ours=True), {"action": action})
    return found


def show_rollout(item: dict[str, Any]) -> None:
    """Print the rollout progress of a set's applications."""
    entries = item["status"].get("applicationStatus") or []
    rollout_status = (item["status"].get("flotilla") or {}).get("rollout") or {}
    if not entries:
        sys.stdout.write(
            f"{item['metadata']['name']} does not sync in steps, or has no applications\n"
        )
        return
    ordered = sorted(entries, key=lambda e: (int(e["step"]) < 0, int(e["step"]), e["application"]))
    table(
        ["STEP", "APPLICATION", "STATUS", "SINCE", "REVISION"],
        [
            [
                e["step"],
                e["application"],
                e["status"],
                e["lastTransitionTime"],
                ",".join(r[:8] for r in e["targetRevisions"]),
            ]
            for e in ordered
        ],
    )
    if rollout_status.get("paused"):
        sys.stdout.write(f"paused by {rollout_status.get('pausedBy')}\n")
    sys.stdout.write((rollout_status.get("waitsFor") or "the rollout has completed") + "\n")


_POLL_SECONDS, _WAIT_SECONDS = 1.0, 300


def wait_until_created(hub: Client, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return a set once its applications exist.

    Raises: Problem with the set's message when it cannot create them, or after five minutes.
    """
    where = path("applicationsets", metadata["name"], appsetNamespace=metadata.get("namespace"))
    for _ in range(int(_WAIT_SECONDS / _POLL_SECONDS)):
        found: dict[str, Any] = hub.get(where)
        states = {c["type"]: c for c in found["status"].get("conditions") or []}
        if (states.get("ErrorOccurred") or {}).get("status") == "True":
            raise Problem(
                f"ApplicationSet {metadata['name']}: {states['ErrorOccurred'].get('message')}"
            )
        if (states.get("ResourcesUpToDate") or {}).get("status") == "True":
            return found
        time.sleep(_POLL_SECONDS)
    raise Problem(f"timed out ({_WAIT_SECONDS}s) waiting for ApplicationSet {metadata['name']}")


def wait_until_deleted(hub: Client, where: str) -> None:
    """Wait until a set is deleted.

    Raises: Problem when it takes more than five minutes.
    """
    for _ in range(int(_WAIT_SECONDS / _POLL_SECONDS)):
        try:
            hub.get(where)
        except Problem as problem:
            if problem.status in (403, 404):
                return
            raise
        time.sleep(_POLL_SECONDS)
    raise Problem(
        f"timed out ({_WAIT_SECONDS}s) waiting for the deletion; it may wait for a confirmation"
    )


def show_params(item: dict[str, Any]) -> None:
    """Print the Helm parameters and Kustomize images of a set's template."""
    spec = item["spec"]["template"]["spec"]
    rows = []
    for source in spec.get("sources") or [spec.get("source") or {}]:
        rows += [
            [p.get("name", ""), str(p.get("value", ""))[:80]]
            for p in (source.get("helm") or {}).get("parameters") or []
        ]
        rows += [["image", i] for i in (source.get("kustomize") or {}).get("images") or []]
    table(["NAME", "VALUE"], rows)
