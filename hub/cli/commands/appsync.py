"""`flotilla app`: sync, wait, diff, manifests, history, rollback."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from hub.cli import apps, appspec, unsupported
from hub.cli.client import Client
from hub.cli.commands.appflags import (
    Local,
    LocalInclude,
    LocalPosition,
    LocalRoot,
    Name,
    Namespace,
    Output,
    Positions,
    Revisions,
    SourceNames,
    Timeout,
    app,
    chosen_names,
    current_hub,
    positions,
)
from hub.cli.output import as_yaml, print_line, printed, table
from hub.cli.problem import FAILED, Problem
from hub.engine.resource import ResourceKey
from hub.engine.resource_selection import Selection, key_of, selection_problem

_Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Applications.")]
_Prune = Annotated[
    bool, typer.Option("--prune", help="Delete resources that are no longer in Git.")
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only test the sync; change nothing.")]
_Revision = Annotated[str, typer.Option("--revision", help="Another revision than the spec's.")]
_Resource = Annotated[
    list[str] | None,
    typer.Option(
        "--resource",
        help=(
            "Only GROUP:KIND:[NAMESPACE/]NAME, with * for any; "
            "!GROUP:KIND:NAME excludes; may be repeated."
        ),
    ),
]
_Label = Annotated[
    list[str] | None, typer.Option("--label", help="Only resources with this label, key=value.")
]
_Selector = Annotated[str, typer.Option("--selector", "-l", help="Applications with these labels.")]
_Project = Annotated[
    list[str] | None, typer.Option("--project", help="Applications of these projects.")
]
_Strategy = Annotated[str, typer.Option("--strategy", help="hook or apply.")]
_Force = Annotated[bool, typer.Option("--force", help="Delete and recreate on a conflict.")]
_Replace = Annotated[bool, typer.Option("--replace", help="Replace instead of apply.")]
_ServerSide = Annotated[bool, typer.Option("--server-side", help="Use server-side apply.")]
_OnlyDrifted = Annotated[
    bool, typer.Option("--apply-out-of-sync-only", help="Sync only resources that are out of sync.")
]
_Asynchronous = Annotated[bool, typer.Option("--async", help="Do not wait for the end.")]
_RetryRefresh = Annotated[
    bool, typer.Option("--retry-refresh", help="Retry with the newest revision.")
]
_RetryLimit = Annotated[int, typer.Option("--retry-limit", help="Number of retries.")]
_RetryBackoffDuration = Annotated[
    str, typer.Option("--retry-backoff-duration", help="Wait before the first retry.")
]
_RetryBackoffFactor = Annotated[
    int, typer.Option("--retry-backoff-factor", help="Factor between the waits of retries.")
]
_RetryBackoffMax = Annotated[
    str, typer.Option("--retry-backoff-max-duration", help="Longest wait between retries.")
]
_Info = Annotated[
    list[str] | None, typer.Option("--info", help="name=value kept with the operation.")
]
_Preview = Annotated[
    bool, typer.Option("--preview-changes", help="Show the difference and ask first.")
]
_AssumeYes = Annotated[bool, typer.Option("--assumeYes", "-y", help="Do not ask.")]


@app.command()
def sync(
    names: _Names = None,
    prune: _Prune = False,
    dry_run: _DryRun = False,
    revision: _Revision = "",
    revisions: Revisions = None,
    source_positions: Positions = None,
    source_names: SourceNames = None,
    resource: _Resource = None,
    label: _Label = None,
    selector: _Selector = "",
    project: _Project = None,
    strategy: _Strategy = "",
    force: _Force = False,
    replace: _Replace = False,
    server_side: _ServerSide = False,
    only_drifted: _OnlyDrifted = False,
    asynchronous: _Asynchronous = False,
    timeout: Timeout = 0,
    retry_refresh: _RetryRefresh = False,
    retry_limit: _RetryLimit = 0,
    retry_backoff_duration: _RetryBackoffDuration = "5s",
    retry_backoff_factor: _RetryBackoffFactor = 2,
    retry_backoff_max: _RetryBackoffMax = "3m0s",
    local: Local = "",
    local_root: LocalRoot = "",
    info: _Info = None,
    preview: _Preview = False,
    assume_yes: _AssumeYes = False,
    output: Output = "wide",
    namespace: Namespace = "",
) -> None:
    """Sync applications, and show the progress until the end."""
    hub = current_hub()
    if strategy not in ("", "hook", "apply"):
        raise Problem(f"--strategy {strategy}: hook or apply")
    body = _request(locals())
    failed = []
    for name in chosen_names(hub, names, selector, namespace, project or ()):
        if label:
            body["resources"] = _labelled(hub, name, namespace, label)
        if preview and not _confirmed(hub, name, namespace, revision, assume_yes=assume_yes):
            raise typer.Exit(FAILED)
        if local:
            body["manifests"] = _local_manifests(hub, name, namespace, local, local_root)
        if source_names:
            where = positions(hub, name, namespace, source_positions, source_names)
            body["sourcePositions"] = where
        hub.post(apps.application_path(name, "sync", at=namespace), body)
        if asynchronous:
            print_line(f"application '{name}' is being synced")
            continue
        done = _finished(hub, name, namespace, timeout, output)
        problem = _outcome(done, prune=prune, dry_run=dry_run, whole=not resource and not label)
        if problem:
            failed.append(f"{name}: {problem}")
    if failed:
        raise Problem("; ".join(failed))


def _confirmed(hub: Client, name: str, namespace: str, revision: str, *, assume_yes: bool) -> bool:
    has_changes = _previewed(hub, name, namespace, revision)
    return not has_changes or assume_yes or typer.confirm("Do you want to sync these changes?")


def _local_manifests(hub: Client, name: str, namespace: str, local: str, root: str) -> list[Any]:
    from hub.cli import local as local_files

    return local_files.manifests(_local(hub, name, namespace, local, root))


def _finished(hub: Client, name: str, namespace: str, timeout: int, output: str) -> apps.App:
    watcher = apps.Watcher(quiet=output != "wide")
    done = apps.wait_operation(hub, name, namespace, timeout, watcher)
    if not printed(done, output, "tree"):
        print_line()
        apps.show_one(hub, done, operation=True)
    return done


def _request(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request body for the flags of a sync."""
    options = [
        f"{name}=true"
        for name, on in (
            ("Replace", given["replace"]),
            ("ServerSideApply", given["server_side"]),
            ("ApplyOutOfSyncOnly", given["only_drifted"]),
        )
        if on
    ]
    body: dict[str, Any] = {
        "prune": given["prune"],
        "dryRun": given["dry_run"],
        "revision": given["revision"],
        "revisions": given["revisions"] or [],
        "sourcePositions": given["source_positions"] or [],
        "resources": [apps.resource_flag(r) for r in given["resource"] or []],
        "strategy": {given["strategy"] or "hook": {"force": given["force"]}},
        "infos": [
            dict(zip(("name", "value"), appspec.pair(i, "--info"), strict=True))
            for i in given["info"] or []
        ],
    }
    if options:
        body["syncOptions"] = {"items": options}
    if given["retry_limit"]:
        body["retryStrategy"] = {
            **({"refresh": True} if given["retry_refresh"] else {}),
            "limit": given["retry_limit"],
            "backoff": {
                "duration": given["retry_backoff_duration"],
                "factor": given["retry_backoff_factor"],
                "maxDuration": given["retry_backoff_max"],
            },
        }
    return {k: v for k, v in body.items() if v not in ("", [], None)}


def _local(
    hub: Client, name: str, namespace: str, local: str, root: str, **more: Any
) -> dict[str, Any]:
    # Argo CD's default is /, which stands for no root.
    from hub.cli import local as local_files

    return local_files.render(hub, name, namespace, local, root="" if root == "/" else root, **more)


def _managed(
    hub: Client,
    name: str,
    namespace: str,
    revision: str,
    revisions: Sequence[str] | None,
    where: Sequence[int],
    *,
    server_side: bool = False,
) -> list[dict[str, Any]]:
    query = {
        "revision": revision,
        "revisions": list(revisions or []),
        "sourcePositions": list(where),
        "serverSideDiff": "true" if server_side else "",
    }
    found: list[dict[str, Any]] = (
        hub.get(apps.application_path(name, "managed-resources", at=namespace, **query)).get(
            "items"
        )
        or []
    )
    return found


def _labelled(
    hub: Client, name: str, namespace: str, labels: Sequence[str]
) -> list[dict[str, str]]:
    wanted = dict(appspec.pair(v, "--label") for v in labels)
    found = []
    for item in (
        hub.get(apps.application_path(name, "managed-resources", at=namespace)).get("items") or []
    ):
        target = json.loads(item.get("targetState") or "null") or {}
        own = (target.get("metadata") or {}).get("labels") or {}
        if all(own.get(k) == v for k, v in wanted.items()):
            found.append(
                {
                    "group": item.get("group", ""),
                    "kind": item["kind"],
                    "namespace": item.get("namespace", ""),
                    "name": item["name"],
                }
            )
    if not found:
        raise Problem(f"no resource of {name} has the labels {', '.join(labels)}")
    return found


def _previewed(hub: Client, name: str, namespace: str, revision: str) -> bool:
    found = hub.get(
        apps.application_path(name, "managed-resources", at=namespace, revision=revision)
    )
    listed = list(apps.differences(found.get("items") or []))
    for one in listed:
        apps.print_diff(*one)
    if not listed:
        print_line("====== No differences found ======")
    return bool(listed)


def _outcome(found: apps.App, *, prune: bool, dry_run: bool, whole: bool) -> str:
    state = (found.get("status") or {}).get("operationState") or {}
    if state.get("phase") != "Succeeded":
        message = f"{state.get('phase', 'Unknown')}: {state.get('message', '')}"
        return f"Operation has completed with phase: {message}"
    left = sum(
        bool(r.get("requiresPruning")) for r in (found.get("status") or {}).get("resources") or []
    )
    if whole and not prune and not dry_run and left and apps.states(found)[0] == "OutOfSync":
        return f"{left} resources require pruning"
    return ""


_Sync = Annotated[bool, typer.Option("--sync", help="Until Synced.")]
_Health = Annotated[bool, typer.Option("--health", help="Until Healthy.")]
_Operation = Annotated[bool, typer.Option("--operation", help="Until no operation runs.")]
_Suspended = Annotated[bool, typer.Option("--suspended", help="Until Suspended.")]
_Degraded = Annotated[bool, typer.Option("--degraded", help="Until Degraded.")]
_Delete = Annotated[bool, typer.Option("--delete", help="Until it is deleted.")]
_Hydrated = Annotated[
    bool,
    typer.Option(
        "--hydrated",
        help="Until the hydrator is done; applications without one always are.",
    ),
]
_ResourceWait = Annotated[
    list[str] | None,
    typer.Option(
        "--resource",
        help=("Only GROUP:KIND:[NAMESPACE/]NAME, with * for any; ! excludes; may be repeated."),
    ),
]
_SelectorWait = Annotated[str, typer.Option("--selector", "-l", help="With these labels.")]


@app.command()
def wait(
    names: _Names = None,
    sync_: _Sync = False,
    health: _Health = False,
    operation: _Operation = False,
    suspended: _Suspended = False,
    degraded: _Degraded = False,
    delete_: _Delete = False,
    hydrated: _Hydrated = False,
    resource: _ResourceWait = None,
    selector: _SelectorWait = "",
    timeout: Timeout = 0,
    output: Output = "wide",
    namespace: Namespace = "",
) -> None:
    """Wait until applications are Synced, Healthy and without an operation, or as flags say."""
    hub = current_hub()
    wanted = {
        "sync": sync_,
        "health": health,
        "operation": operation,
        "suspended": suspended,
        "degraded": degraded,
        "delete": delete_,
        "hydrated": hydrated,
    }
    chosen = [apps.resource_flag(r) for r in resource or []]
    for name in chosen_names(hub, names, selector, namespace):
        if chosen:
            found = _wait_resources(hub, name, namespace, chosen, wanted, timeout)
        else:
            found = apps.wait_state(
                hub,
                name,
                namespace,
                wanted,
                timeout=timeout,
                watcher=apps.Watcher(quiet=output != "wide"),
            )
        if found and not printed(found, output, "tree"):
            print_line()
            apps.show_one(hub, found, operation=True)


def _wait_resources(
    hub: Client,
    name: str,
    namespace: str,
    chosen: Sequence[Mapping[str, Any]],
    wanted: Mapping[str, bool],
    timeout: int,
) -> apps.App:
    checks = {check for check, on in wanted.items() if on} or {"sync", "health", "operation"}
    # Refresh first: the desired state in Git may be newer than the cached one, and match the
    # selection.
    wrong = selection_problem(
        chosen, _keys(apps.get(hub, name, namespace=namespace, refresh="normal"))
    )
    if wrong:
        raise Problem(f"application '{name}': {wrong}")
    for found in apps.watch_application(hub, name, namespace, timeout):
        listed = (found.get("status") or {}).get("resources") or []
        selection = Selection(chosen)
        here = [r for r in listed if selection.has(key_of(r))]
        if here and apps.are_reached(found, checks, here):
            return found
    raise AssertionError


def _keys(found: apps.App) -> list[ResourceKey]:
    return [key_of(r) for r in (found.get("status") or {}).get("resources") or []]


_Refresh = Annotated[bool, typer.Option("--refresh", help="Refresh first.")]
_HardRefresh = Annotated[
    bool, typer.Option("--hard-refresh", help="Refresh without the manifest cache first.")
]
_ServerSideGenerate = Annotated[
    bool,
    typer.Option(
        "--server-side-generate",
        help="With --local: the hub renders the folder, as it always does.",
    ),
]
_ServerSideDiff = Annotated[
    bool,
    typer.Option(
        "--server-side-diff",
        help="Compare with the result of a server-side dry run.",
    ),
]
_Concurrency = Annotated[
    int,
    typer.Option(
        "--server-side-diff-concurrency",
        help="Changes nothing: the hub bounds its requests to a cluster.",
    ),
]
_MaxBatch = Annotated[
    int,
    typer.Option(
        "--server-side-diff-max-batch-kb",
        help="No effect: the hub runs one dry run per resource.",
    ),
]
_JqTimeout = Annotated[
    str,
    typer.Option(
        "--ignore-normalizer-jq-execution-timeout",
        help="No effect: the hub limits jq on its own.",
    ),
]
_ExitCode = Annotated[
    bool,
    typer.Option("--exit-code/--no-exit-code", help="Exit with a code when there is a difference."),
]
_DiffExitCode = Annotated[int, typer.Option("--diff-exit-code", help="That code.")]


@app.command()
def diff(
    name: Name,
    refresh: _Refresh = False,
    hard_refresh: _HardRefresh = False,
    local: Local = "",
    local_root: LocalRoot = "",
    local_include: LocalInclude = None,
    position: LocalPosition = 0,
    server_side_generate: _ServerSideGenerate = False,
    server_side_diff: _ServerSideDiff = False,
    concurrency: _Concurrency = -1,
    max_batch: _MaxBatch = 250,
    jq_timeout: _JqTimeout = "1s",
    revision: _Revision = "",
    revisions: Revisions = None,
    source_positions: Positions = None,
    source_names: SourceNames = None,
    exit_code: _ExitCode = True,
    diff_exit_code: _DiffExitCode = 1,
    namespace: Namespace = "",
) -> None:
    """Show the difference between Git and the cluster.

    The exit code is 1 when there is one, and 2 for an error.
    """
    _note_unused(concurrency, max_batch, jq_timeout)
    if server_side_generate and not local:
        raise Problem("--server-side-generate goes with --local: name the folder")
    if server_side_diff and local:
        raise Problem("--server-side-diff compares what Git has: leave --local out")
    try:
        hub = current_hub()
        if refresh or hard_refresh:
            apps.get(hub, name, namespace=namespace, refresh="hard" if hard_refresh else "normal")
        if local:
            more = {"position": position, "include": local_include or (), "compare": True}
            items = _local(hub, name, namespace, local, local_root, **more)["items"]
        else:
            where = positions(hub, name, namespace, source_positions, source_names)
            items = _managed(
                hub, name, namespace, revision, revisions, where, server_side=server_side_diff
            )
        found = list(apps.differences(items))
        for one in found:
            apps.print_diff(*one)
    except Problem as problem:
        problem.code = 2
        raise
    if found and exit_code:
        raise typer.Exit(diff_exit_code)


def _note_unused(concurrency: int, max_batch: int, jq_timeout: str) -> None:
    unsupported.note(
        "--server-side-diff-concurrency",
        concurrency != -1,
        "the hub bounds its requests to a cluster",
    )
    unsupported.note(
        "--server-side-diff-max-batch-kb",
        max_batch != 250,
        "the hub runs one dry run per resource",
    )
    unsupported.note(
        "--ignore-normalizer-jq-execution-timeout",
        jq_timeout != "1s",
        "the hub bounds jq by itself",
    )


@app.command()
def manifests(
    name: Name,
    source: Annotated[str, typer.Option("--source", help="git or live.")] = "git",
    revision: Annotated[str, typer.Option("--revision", help="Another revision.")] = "",
    revisions: Revisions = None,
    source_positions: Positions = None,
    source_names: SourceNames = None,
    local: Local = "",
    local_root: LocalRoot = "",
    namespace: Namespace = "",
) -> None:
    """Print the desired or the live manifests."""
    if source not in ("git", "live"):
        raise Problem(f"--source {source}: git or live")
    hub = current_hub()
    if local:
        texts = _local(hub, name, namespace, local, local_root)["manifests"]
    elif source == "git":
        found = hub.get(
            apps.application_path(
                name,
                "manifests",
                at=namespace,
                revision=revision,
                revisions=revisions or [],
                sourcePositions=positions(hub, name, namespace, source_positions, source_names),
            )
        )
        texts = found.get("manifests") or []
    else:
        items = (
            hub.get(apps.application_path(name, "managed-resources", at=namespace)).get("items")
            or []
        )
        texts = [i["liveState"] for i in items if i.get("liveState") not in (None, "null")]
    for text in texts:
        sys.stdout.write("---\n" + as_yaml(json.loads(text)))


@app.command()
def history(name: Name, output: Output = "wide", namespace: Namespace = "") -> None:
    """List previous deployments."""
    found = apps.get(current_hub(), name, namespace=namespace)
    entries = (found.get("status") or {}).get("history") or []
    if printed(entries, output, "id"):
        return
    if output == "id":
        for entry in entries:
            print_line(str(entry.get("id", 0)))
        return
    for number, source in enumerate(apps.sources(found)):
        print_line(f"SOURCE  {source.get('repoURL', '')}")
        rows = []
        for entry in entries:
            revision = str(
                (entry.get("revisions") or [entry.get("revision", "")])[number]
                if entry.get("revisions") and number < len(entry["revisions"])
                else entry.get("revision", "")
            )
            then = entry.get("sources") or [entry.get("source") or {}]
            target = (then[number] if number < len(then) else {}).get("targetRevision") or ""
            rows.append(
                [
                    entry.get("id", 0),
                    entry.get("deployedAt", ""),
                    f"{target} ({revision[:7]})" if len(revision) == 40 else revision or target,
                ]
            )
        table(["ID", "DATE", "REVISION"], rows)
        print_line()


@app.command()
def rollback(
    name: Name,
    number: Annotated[
        int | None,
        typer.Argument(metavar="[ID]", help="Entry of the history; by default the last but one."),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove what that revision does not have.")
    ] = False,
    timeout: Timeout = 0,
    output: Output = "wide",
    namespace: Namespace = "",
) -> None:
    """Roll back to a previous deployment."""
    hub = current_hub()
    if number is None:
        entries = ((apps.get(hub, name, namespace=namespace)).get("status") or {}).get(
            "history"
        ) or []
        if len(entries) < 2:
            raise Problem(f"{name} has no deployment to go back to")
        number = int(entries[-2].get("id", 0))
    hub.post(apps.application_path(name, "rollback", at=namespace), {"id": number, "prune": prune})
    done = apps.wait_operation(hub, name, namespace, timeout, apps.Watcher(quiet=output != "wide"))
    if not printed(done, output):
        print_line()
        apps.show_one(hub, done, operation=True)
    problem = _outcome(done, prune=True, dry_run=False, whole=False)
    if problem:
        raise Problem(problem)
