"""Applications from the command line: show, sync, wait, diff."""

import json
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hub.cli.client import Client, path
from hub.cli.names import qualified as qualified_name
from hub.cli.output import as_yaml, facts, print_line, table
from hub.cli.problem import Problem
from hub.engine import line_diff
from hub.engine.deletion_guard import needs_confirmation

App = dict[str, Any]
_LISTEN_SECONDS = 20.0
"""The interval without a change after which the application is read again: a stream can end
unnoticed.
"""
_PAUSE_SECONDS = 1.0
_MISSES = 30
_DELETION_POLLS, _DELETION_POLL_SECONDS = 5, 0.2  # seconds; the user waits for this


def application_path(name: str, *more: str, at: str = "", **query: Any) -> str:
    """Return the path of an application, or of something below it; `at` is its namespace."""
    where, own = qualified_name(name, at)
    return path("applications", own, *more, appNamespace=where, **query)


def get(hub: Client, name: str, *, namespace: str = "", refresh: str = "") -> App:
    """Return an application."""
    found: App = hub.get(application_path(name, at=namespace, refresh=refresh))
    return found


def listed(hub: Client, **query: Any) -> list[App]:
    """Return applications."""
    found: list[App] = hub.get(path("applications", **query)).get("items") or []
    return found


def sources(app: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all sources."""
    spec = app["spec"]
    return list(spec.get("sources") or ([spec["source"]] if spec.get("source") else []))


def policy_word(spec: Mapping[str, Any]) -> str:
    """Return Manual, Auto or Auto-Prune."""
    automated = (spec.get("syncPolicy") or {}).get("automated")
    if automated is None or automated.get("enabled") is False:
        return "Manual"
    return "Auto-Prune" if automated.get("prune") else "Auto"


def conditions_word(app: Mapping[str, Any]) -> str:
    """Return the types of conditions with their counts."""
    counts: dict[str, int] = {}
    for condition in (app.get("status") or {}).get("conditions") or []:
        counts[condition["type"]] = counts.get(condition["type"], 0) + 1
    return ",".join(t if n == 1 else f"{t}({n})" for t, n in counts.items()) or "<none>"


def qualified(app: Mapping[str, Any]) -> str:
    """Return namespace/name."""
    return f"{app['metadata'].get('namespace') or 'argocd'}/{app['metadata']['name']}"


def states(app: Mapping[str, Any]) -> tuple[str, str]:
    """Return sync and health."""
    status = app.get("status") or {}
    return str((status.get("sync") or {}).get("status") or "Unknown"), str(
        (status.get("health") or {}).get("status") or "Unknown"
    )


def show_list(apps: Sequence[App]) -> None:
    """Print applications in Argo CD's columns."""
    rows = []
    for app in apps:
        first = next(iter(sources(app)), {})
        sync, health = states(app)
        to = app["spec"].get("destination") or {}
        rows.append(
            [
                qualified(app),
                to.get("server") or to.get("name") or "",
                to.get("namespace") or "",
                app["spec"].get("project") or "default",
                sync,
                health,
                policy_word(app["spec"]),
                conditions_word(app),
                first.get("repoURL", ""),
                first.get("path") or first.get("chart") or "",
                first.get("targetRevision", ""),
            ]
        )
    table(
        [
            "NAME",
            "CLUSTER",
            "NAMESPACE",
            "PROJECT",
            "STATUS",
            "HEALTH",
            "SYNCPOLICY",
            "CONDITIONS",
            "REPO",
            "PATH",
            "TARGET",
        ],
        rows,
    )


def show_one(hub: Client, app: App, *, operation: bool = False, params: bool = False) -> None:
    """Print an application: its head, conditions and resources."""
    spec, (sync, health) = app["spec"], states(app)
    to = spec.get("destination") or {}
    facts(
        [
            ("Name", qualified(app)),
            ("Project", spec.get("project") or "default"),
            ("Server", to.get("server") or to.get("name") or ""),
            ("Namespace", to.get("namespace") or ""),
            ("URL", f"{hub.server}/applications/{qualified(app)}"),
        ]
    )
    _show_sources(app)
    _show_windows(hub, app)
    word = policy_word(spec)
    facts(
        [
            (
                "Sync Policy",
                {"Auto": "Automated", "Auto-Prune": "Automated (Prune)"}.get(word, word),
            ),
            ("Sync Status", _sync_words(app, sync)),
            ("Health Status", health),
        ]
    )
    conditions = (app.get("status") or {}).get("conditions") or []
    if conditions:
        print_line()
        table(
            ["CONDITION", "MESSAGE", "LAST TRANSITION"],
            [[c["type"], c["message"], c.get("lastTransitionTime", "")] for c in conditions],
        )
    if operation:
        print_line()
        show_operation(app)
    if params:
        print_line()
        _show_params(app)
    show_resources(app)


def _show_sources(app: App) -> None:
    listed_ = sources(app)
    print_line("Source:" if len(listed_) == 1 else "Sources:")
    for source in listed_:
        helm, kustomize = source.get("helm") or {}, source.get("kustomize") or {}
        print_line(f"- Repo:             {source.get('repoURL', '')}")
        for label, value in (
            ("Target", source.get("targetRevision")),
            ("Path", source.get("path")),
            ("Chart", source.get("chart")),
            ("Ref", source.get("ref")),
            ("Helm Values", ",".join(helm.get("valueFiles") or [])),
            ("Name Prefix", kustomize.get("namePrefix")),
        ):
            if value:
                print_line(f"  {label + ':':<18}{value}")


def _show_windows(hub: Client, app: App) -> None:
    try:
        found = hub.get(application_path(qualified(app), "syncwindows"))
    except Problem:
        return
    assigned = found.get("assignedWindows") or []
    active = found.get("activeWindows") or []
    word = "Sync Allowed" if found.get("canSync") else "Sync Denied"
    if (
        found.get("canSync")
        and active
        and all(w.get("manualSync") for w in active if w.get("kind") == "deny")
        and any(w.get("kind") == "deny" for w in active)
    ):
        word = "Manual Allowed"
    facts([("SyncWindow", word)])
    if assigned:
        facts(
            [
                (
                    "Assigned Windows",
                    ",".join(f"{w['kind']}:{w['schedule']}:{w['duration']}" for w in assigned),
                )
            ]
        )


def _sync_words(app: App, sync: str) -> str:
    status = (app.get("status") or {}).get("sync") or {}
    revision = str(status.get("revision") or next(iter(status.get("revisions") or []), ""))
    target = next((s.get("targetRevision") or "" for s in sources(app)), "")
    if sync == "Synced":
        return f"Synced to {target} ({revision[:7]})"
    return f"OutOfSync from {target} ({revision[:7]})" if sync == "OutOfSync" else sync


def show_operation(app: App) -> None:
    """Print the last operation."""
    state = (app.get("status") or {}).get("operationState")
    if not state:
        print_line("No operation ran yet.")
        return
    result = state.get("syncResult") or {}
    started, ended = state.get("startedAt", ""), state.get("finishedAt", "")
    facts(
        [
            ("Operation", "Sync"),
            ("Sync Revision", result.get("revision") or ",".join(result.get("revisions") or [])),
            ("Phase", state.get("phase", "")),
            ("Start", started),
            ("Finished", ended),
            ("Duration", _duration(started, ended)),
            ("Message", state.get("message", "")),
        ]
    )


def _duration(started: str, ended: str) -> str:
    try:
        first = datetime.fromisoformat(started)
        last = datetime.fromisoformat(ended) if ended else datetime.now(UTC)  # noqa: TID251 - the clock of this machine is what the person sees
    except ValueError:
        return ""
    return f"{max(0, int((last - first).total_seconds()))}s"


def _show_params(app: App) -> None:
    rows = []
    for source in sources(app):
        for entry in (source.get("helm") or {}).get("parameters") or []:
            rows.append([entry.get("name", ""), str(entry.get("value", ""))[:80]])
        rows += [["image", i] for i in (source.get("kustomize") or {}).get("images") or []]
    table(["NAME", "VALUE"], rows)


def resource_rows(app: App) -> list[list[str]]:
    """Return the rows of resources: those of the last operation first, as Argo CD prints them."""
    status = app.get("status") or {}
    messages = {}
    for result in ((status.get("operationState") or {}).get("syncResult") or {}).get(
        "resources"
    ) or []:
        key = tuple(str(result.get(f) or "") for f in ("group", "kind", "namespace", "name"))
        messages[key] = (
            str(result.get("status") or result.get("hookPhase") or ""),
            str(result.get("hookType") or ""),
            str(result.get("message") or ""),
        )
    rows, seen = [], set()
    for entry in status.get("resources") or []:
        key = tuple(str(entry.get(f) or "") for f in ("group", "kind", "namespace", "name"))
        seen.add(key)
        _word, hook, message = messages.get(key, ("", "", ""))
        health = entry.get("health") or {}
        rows.append(
            [
                *key,
                str(entry.get("status") or ""),
                str(health.get("status") or ""),
                hook,
                (message or str(health.get("message") or "")).replace("\n", " "),
            ]
        )
    for key, (word, hook, message) in messages.items():
        if key not in seen and hook:
            rows.append([*key, word, "", hook, message.replace("\n", " ")])
    return rows


def show_resources(app: App) -> None:
    """Print the resources."""
    rows = resource_rows(app)
    if rows:
        print_line()
        table(["GROUP", "KIND", "NAMESPACE", "NAME", "STATUS", "HEALTH", "HOOK", "MESSAGE"], rows)


def show_tree(hub: Client, app: App, *, detailed: bool) -> None:
    """Print the resources below their owners."""
    found = hub.get(application_path(qualified(app), "resource-tree"))
    nodes = found.get("nodes") or []
    sync = {
        tuple(str(r.get(f) or "") for f in ("group", "kind", "namespace", "name")): str(
            r.get("status") or ""
        )
        for r in (app.get("status") or {}).get("resources") or []
    }
    known = {n.get("uid") for n in nodes if n.get("uid")}
    below: dict[str, list[Any]] = {}
    for node in nodes:
        owner = next((p["uid"] for p in node.get("parentRefs") or [] if p.get("uid") in known), "")
        below.setdefault(owner, []).append(node)
    rows: list[list[str]] = []

    def walk(owner: str, indent: str) -> None:
        children = below.get(owner, [])
        for number, node in enumerate(children):
            last = number == len(children) - 1
            mark = "" if not owner else indent + ("└─" if last else "├─")
            key = tuple(str(node.get(f) or "") for f in ("group", "kind", "namespace", "name"))
            health = node.get("health") or {}
            row = [
                f"{mark}{node['kind']}/{node['name']}",
                sync.get(key, ""),
                str(health.get("status") or ""),
            ]
            reason = next(
                (i["value"] for i in node.get("info") or [] if i["name"] == "Status Reason"), ""
            )
            message = str(health.get("message") or "")
            rows.append(
                [*row, str(node.get("createdAt", "")), message, reason]
                if detailed
                else [*row, message]
            )
            if node.get("uid"):
                walk(node["uid"], indent + ("" if not owner else "  " if last else "│ "))

    walk("", "")
    for node in found.get("orphanedNodes") or []:
        rows.append(
            [f"{node['kind']}/{node['name']}", "Orphaned", "", *([""] * (3 if detailed else 1))]
        )
    head = ["KIND/NAME", "STATUS", "HEALTH"]
    table([*head, "AGE", "MESSAGE", "REASON"] if detailed else [*head, "MESSAGE"], rows)


class Watcher:
    """Prints each resource of an application whose state changed, as it changes."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._seen: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._quiet, self._is_headed = quiet, False

    def show(self, app: App) -> None:
        """Print the changes."""
        for row in resource_rows(app):
            key, state = tuple(row[:4]), tuple(row[4:])
            if self._seen.get(key) == state or self._quiet:
                self._seen[key] = state
                continue
            self._seen[key] = state
            if not self._is_headed:
                print_line(
                    f"{'TIMESTAMP':<27}{'GROUP':<12}{'KIND':<14}{'NAMESPACE':<22}{'NAME':<24}{'STATUS':<11}{'HEALTH':<13}{'HOOK':<9}MESSAGE"
                )
                self._is_headed = True
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            print_line(
                f"{stamp:<27}{row[0]:<12}{row[1]:<14}{row[2]:<22}{row[3]:<24}{row[4]:<11}{row[5]:<13}{row[6]:<9}{row[7]}".rstrip()
            )


def watch_application(hub: Client, name: str, namespace: str, timeout: float) -> Iterator[App]:
    """Yield an application now and whenever it changes, until the caller stops.

    Raises: Problem on a timeout, when the hub refuses, or when it stays unreachable.
    """
    until = time.monotonic() + timeout if timeout else None
    where, own = qualified_name(name, namespace)
    missed, found = 0, App()
    while True:
        try:
            found = get(hub, name, namespace=namespace)
            yield found
            missed = 0
            left = min(_LISTEN_SECONDS, until - time.monotonic()) if until else _LISTEN_SECONDS
            stream = path(
                "stream",
                "applications",
                name=own,
                appNamespace=where or found["metadata"].get("namespace", ""),
            )
            for event in hub.lines(stream, idle_seconds=max(0.1, left)):
                if event["type"] == "DELETED":
                    break
                found = event["application"]
                yield found
                if until is not None and time.monotonic() > until:
                    break
        except Problem as problem:
            missed += 1
            if problem.status or missed > _MISSES:
                raise
            time.sleep(_PAUSE_SECONDS)
        if until is not None and time.monotonic() > until:
            why = f": {why_not(found)}" if why_not(found) else ""
            raise Problem(
                f'timed out ({int(timeout)}s) waiting for app "{name}" match desired state{why}'
            )


def wait_operation(hub: Client, name: str, namespace: str, timeout: float, watcher: Watcher) -> App:
    """Return the application once its operation has ended, as of the next refresh."""
    for app in watch_application(hub, name, namespace, timeout):
        watcher.show(app)
        state = (app.get("status") or {}).get("operationState") or {}
        if not app.get("operation") and state.get("phase") not in ("Running", "Terminating"):
            return _after_refresh(hub, app)
    raise AssertionError


def _after_refresh(hub: Client, done: App) -> App:
    found = get(hub, qualified(done), refresh="normal")
    # An automated sync may have started since; this reports how the requested one ended.
    return {
        **found,
        "status": {
            **found.get("status", {}),
            "operationState": (done.get("status") or {}).get("operationState"),
        },
    }


def why_not(app: App) -> str:
    """Return what an application waits for or why it fails, empty if neither."""
    status = app.get("status") or {}
    waiting = [
        c
        for c in status.get("conditions") or []
        if c["type"] == "DeletionWaiting" or c["type"].endswith("Error")
    ]
    if waiting:
        return f"{waiting[0]['type']}: {waiting[0]['message']}"
    state = status.get("operationState") or {}
    if state.get("phase") in ("Running", "Terminating", "Failed", "Error"):
        return f"operation {state['phase']}: {state.get('message', '')}".rstrip(": ")
    return str((status.get("health") or {}).get("message") or "")


def wait_for_deletion(hub: Client, name: str, namespace: str) -> str:
    """Return why a requested deletion waits for a confirmation, empty if it does not."""
    for _ in range(_DELETION_POLLS):
        try:
            found = get(hub, name, namespace=namespace)
        except Problem as problem:
            if problem.status in (403, 404):
                return ""
            raise
        for condition in (found.get("status") or {}).get("conditions") or []:
            # Other deletions end by themselves.
            if condition["type"] == "DeletionWaiting" and needs_confirmation(condition["message"]):
                return str(condition["message"])
        time.sleep(_DELETION_POLL_SECONDS)
    return ""


def wait_state(
    hub: Client,
    name: str,
    namespace: str,
    wanted: Mapping[str, bool],
    *,
    timeout: float,
    watcher: Watcher,
) -> App:
    """Return the application once it has the wanted state.

    Shapes: `wanted` has sync, health, operation, suspended, degraded, delete; if all are false, it
        means the first three.
    Raises: Problem when it becomes Degraded from something better, or on a timeout.
    """
    checks = {k for k, v in wanted.items() if v} or {"sync", "health", "operation"}
    before = ""
    try:
        for app in watch_application(hub, name, namespace, timeout):
            watcher.show(app)
            sync, health = states(app)
            if _is_reached(app, checks, sync, health):
                return app
            if "health" in checks and "degraded" not in checks:
                _not_worse(name, before, health)
            before = health
    except Problem as problem:
        if "delete" in checks and problem.status in (403, 404):
            return {}
        raise
    raise AssertionError


def _not_worse(name: str, before: str, health: str) -> None:
    if health == "Degraded" and before not in ("", "Degraded"):
        raise Problem(
            f"application '{name}' health state has transitioned from {before} to Degraded"
        )


def are_reached(app: App, checks: set[str], resources: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether all resources pass `checks`; one without a health counts as Healthy."""
    states_ = [
        (r.get("status") or "", (r.get("health") or {}).get("status", "Healthy")) for r in resources
    ]
    return all(_is_reached(app, checks, sync, health) for sync, health in states_)


def _is_reached(app: App, checks: set[str], sync: str, health: str) -> bool:
    if "delete" in checks:
        return False
    healths = {"health": "Healthy", "suspended": "Suspended", "degraded": "Degraded"}
    wanted = {word for check, word in healths.items() if check in checks}
    if wanted and health not in wanted:
        return False
    if "sync" in checks and sync != "Synced":
        return False
    if "hydrated" in checks and not _is_hydrated(app):
        return False
    state = ((app.get("status") or {}).get("operationState") or {}).get("phase")
    return not (
        "operation" in checks and (app.get("operation") or state in ("Running", "Terminating"))
    )


def _is_hydrated(app: App) -> bool:
    state = (app.get("status") or {}).get("sourceHydrator") or {}
    running = state.get("currentOperation") or {}
    if not (app.get("spec") or {}).get("sourceHydrator"):
        return True
    return running.get("phase") == "Hydrated"


def differences(items: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Yield (title, live, wanted) of each resource that differs, as YAML."""
    for item in items:
        live = json.loads(item.get("normalizedLiveState") or "null")
        predicted = json.loads(item.get("predictedLiveState") or "null")
        target = json.loads(item.get("targetState") or "null")
        wanted = None if target is None else predicted if predicted is not None else target
        if item.get("modified") or (live is None) != (wanted is None):
            gvk = f"{item.get('group', '')}/{item['kind']}"
            title = f"===== {gvk} {item.get('namespace', '')}/{item['name']} ======"
            yield (
                title,
                as_yaml(live) if live is not None else "",
                as_yaml(wanted) if wanted is not None else "",
            )


def unified(live: str, wanted: str) -> Iterator[str]:
    """Return the lines of a unified difference."""
    return line_diff.unified(live, wanted, ("live", "target"))


def print_diff(title: str, live: str, wanted: str) -> None:
    """Print one difference, with the program in KUBECTL_EXTERNAL_DIFF if it is set."""
    print_line(title)
    program = os.environ.get("KUBECTL_EXTERNAL_DIFF", "")
    if not program:
        for line in unified(live, wanted):
            print_line(line)
        return
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / n for n in ("live.yaml", "target.yaml")]
        for file, text in zip(files, (live, wanted), strict=True):
            file.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(program), *map(str, files)], check=False)
        except OSError as error:
            raise Problem(f"KUBECTL_EXTERNAL_DIFF={program} cannot be run: {error}") from error


def matches(
    node: Mapping[str, Any], *, group: str = "", kind: str = "", name: str = "", namespace: str = ""
) -> bool:
    """Return whether a resource matches the flags; empty ones match everything."""
    return all(
        not want or str(node.get(f) or "") == want
        for f, want in (("group", group), ("kind", kind), ("name", name), ("namespace", namespace))
    )


def nodes(hub: Client, app: str, app_namespace: str, **which: str) -> list[dict[str, Any]]:
    """Return the resources of an application's tree that match the flags.

    Shapes: `which` has kind, group, name_ and namespace_.
    Raises: Problem when there is none.
    """
    found = hub.get(application_path(app, "resource-tree", at=app_namespace)).get("nodes") or []
    fields = {k.rstrip("_"): v for k, v in which.items()}
    chosen = [n for n in found if matches(n, **fields)]
    if not chosen:
        words = " ".join(v for v in which.values() if v)
        raise Problem(f"{app} has no resource {words}: flotilla app resources {app} lists them")
    return chosen


def resource_query(node: Mapping[str, Any]) -> dict[str, str]:
    """Return the query parameters that identify a resource."""
    return {
        "group": str(node.get("group") or ""),
        "version": str(node.get("version") or ""),
        "kind": str(node["kind"]),
        "namespace": str(node.get("namespace") or ""),
        "resourceName": str(node["name"]),
    }


def resource_flag(text: str) -> dict[str, Any]:
    """Return the selection in --resource GROUP:KIND:[NAMESPACE/]NAME.

    Shapes: the parts are globs; a leading ! excludes.
    Raises: Problem.
    """
    parts = text.removeprefix("!").split(":")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise Problem(
            f"--resource {text}: write GROUP:KIND:NAME or GROUP:KIND:NAMESPACE/NAME, "
            "with * for any, and ! before it to leave it out"
        )
    namespace, _, name = parts[2].rpartition("/")
    entry: dict[str, Any] = {"group": parts[0], "kind": parts[1], "name": name}
    if namespace:
        entry["namespace"] = namespace
    return {**entry, "exclude": True} if text.startswith("!") else entry


def only_fields(manifest: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Return a manifest reduced to dotted fields."""
    found: dict[str, Any] = {}
    for path_ in fields:
        value: Any = manifest
        for step in path_.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is not None:
            place_: dict[str, Any] = found
            *steps, last = path_.split(".")
            for step in steps:
                place_ = place_.setdefault(step, {})
            place_[last] = value
    return found


def field_rows(value: Any, name: str, where: str = "") -> list[list[str]]:
    """Return (field, resource, value) of every leaf of a manifest."""
    if isinstance(value, Mapping):
        return [
            row
            for key, inner in value.items()
            for row in field_rows(inner, name, f"{where}.{key}" if where else str(key))
        ]
    if isinstance(value, list):
        return [
            row
            for number, inner in enumerate(value)
            for row in field_rows(inner, name, f"{where}[{number}]")
        ]
    return [[where, name, "" if value is None else str(value)]]
