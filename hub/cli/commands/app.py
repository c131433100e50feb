"""`flotilla app`: applications."""

import inspect
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from hub.cli import apps, appspec, files
from hub.cli.client import Client, path
from hub.cli.problem import FAILED, Problem
from hub.cli.show import as_yaml, printed, say, table

app = typer.Typer(help="Applications.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Application, or namespace/application.")]
Namespace = Annotated[str, typer.Option("--app-namespace", "-N", help="Namespace of the application.")]  # fmt: skip
Output = Annotated[str, typer.Option("--output", "-o", help="Form of the output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Kind = Annotated[str, typer.Option("--kind", help="Kind of the resource.")]
Group = Annotated[str, typer.Option("--group", help="API group of the resource.")]
ResourceName = Annotated[str, typer.Option("--resource-name", help="Name of the resource.")]
ResourceNamespace = Annotated[str, typer.Option("--namespace", help="Namespace of the resource.")]
Timeout = Annotated[int, typer.Option("--timeout", help="Seconds to wait at most; 0 waits for ever.")]  # fmt: skip
Revisions = Annotated[list[str] | None, typer.Option("--revisions", help="Revision of a source; may be repeated with --source-positions.")]  # fmt: skip
Positions = Annotated[list[int] | None, typer.Option("--source-positions", help="Position of a source, from 1.")]  # fmt: skip


def _hub() -> Client:
    return Client.from_disk()


def _names(hub: Client, given: Sequence[str] | None, selector: str, namespace: str, project: Sequence[str] = ()) -> list[str]:  # fmt: skip
    if given:
        return list(given)
    if not selector and not project:
        raise Problem("name an application, or choose some with --selector or --project")
    found = [apps.qualified(a) for a in apps.listed(hub, selector=selector, appNamespace=namespace, projects=list(project))]  # fmt: skip
    if not found:
        raise Problem("no application fits")
    return found


@app.command("list")
def list_(
    output: Output = "wide",
    project: Annotated[list[str] | None, typer.Option("--project", "-p", help="Of these projects.")] = None,
    repo: Annotated[str, typer.Option("--repo", "-r", help="With this repository.")] = "",
    path_: Annotated[str, typer.Option("--path", "-P", help="With this path.")] = "",
    cluster: Annotated[str, typer.Option("--cluster", "-c", help="On this cluster: name or server.")] = "",
    selector: Annotated[str, typer.Option("--selector", "-l", help="With these labels.")] = "",
    namespace: Namespace = "",
) -> None:  # fmt: skip
    """List applications."""
    found = apps.listed(_hub(), projects=project or [], repo=repo, selector=selector, appNamespace=namespace)  # fmt: skip
    if path_:
        found = [a for a in found if any(s.get("path") == path_ for s in apps.sources(a))]
    if cluster:
        found = [a for a in found if cluster in ((a["spec"].get("destination") or {}).get("server"), (a["spec"].get("destination") or {}).get("name"))]  # fmt: skip
    if printed(found, output, "name"):
        return
    if output == "name":
        for one in found:
            say(apps.qualified(one))
    else:
        apps.show_list(found)


@app.command()
def get(
    name: Name,
    output: Output = "wide",
    refresh: Annotated[bool, typer.Option("--refresh", help="Look at Git and the cluster first.")] = False,
    hard_refresh: Annotated[bool, typer.Option("--hard-refresh", help="And render anew.")] = False,
    show_operation: Annotated[bool, typer.Option("--show-operation", help="With the last operation.")] = False,
    show_params: Annotated[bool, typer.Option("--show-params", help="With parameters.")] = False,
    namespace: Namespace = "",
    source_position: Annotated[int, typer.Option("--source-position", help="Only this source, from 1.")] = 0,
    source_name: Annotated[str, typer.Option("--source-name", help="Only this source.")] = "",
    timeout: Timeout = 0,
) -> None:  # fmt: skip
    """Show an application, its conditions and its resources."""
    del timeout
    hub = _hub()
    found = apps.get(hub, name, namespace=namespace, refresh="hard" if hard_refresh else "normal" if refresh else "")  # fmt: skip
    if source_position or source_name:
        chosen = appspec.source_of({**found["spec"]}, source_position, source_name)
        found = {**found, "spec": {**{k: v for k, v in found["spec"].items() if k != "sources"}, "source": chosen}}  # fmt: skip
    if printed(found, output, "tree", "tree=detailed"):
        return
    apps.show_one(hub, found, operation=show_operation, params=show_params)
    if output.startswith("tree"):
        say()
        apps.show_tree(hub, found, detailed=output == "tree=detailed")


def _save(hub: Client, name: str, namespace: str, found: Mapping[str, Any], *, validate: bool = True) -> Any:  # fmt: skip
    return hub.put(apps.place(name, "spec", at=namespace, validate=str(validate).lower()), found["spec"])  # fmt: skip


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)  # fmt: skip


def _options(flags: Sequence[appspec.Flag]) -> list[inspect.Parameter]:
    """Return the parameters that flags of a table are; what is not given is None."""
    made = []
    for flag in flags:
        kind: Any = list[str] if flag.many else bool if flag.switch else int if flag.number else str
        names = [f"{flag.names[0]}/--no-{flag.names[0][2:]}", *flag.names[1:]] if flag.switch else flag.names  # fmt: skip
        made.append(_parameter(flag.key, Annotated[kind | None, typer.Option(*names, help=flag.help)], None))  # fmt: skip
    return made


def _command(name: str, text: str, call: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> None:  # fmt: skip
    """Add a command whose flags come from a table."""

    def run(**given: Any) -> None:
        call(**given)

    run.__signature__ = inspect.Signature(list(parameters))  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(name, help=text)(run)


def _create(name: str, namespace: str, source_name: str, file: str, *, upsert: bool, validate: bool, set_finalizer: bool, label: Sequence[str] | None, annotation: Sequence[str] | None, output: str, **given: Any) -> None:  # fmt: skip
    documents = files.manifests([file]) if file else [{}]
    if name and len(documents) > 1:
        raise Problem(f"{file} holds {len(documents)} objects: leave the name out")
    hub = _hub()
    for document in documents:
        if document.get("kind") not in (None, "Application"):
            raise Problem(f"{file} holds a {document.get('kind')}: flotilla apply -f takes everything")  # fmt: skip
        metadata = dict(document.get("metadata") or {})
        where, own = apps.split(name, namespace)
        if own:
            metadata["name"] = own
        if where:
            metadata["namespace"] = where
        if not metadata.get("name"):
            raise Problem("the application needs a name")
        if label:
            metadata["labels"] = {**(metadata.get("labels") or {}), **dict(appspec.pair(v, "--label") for v in label)}  # fmt: skip
        if annotation:
            metadata["annotations"] = {**(metadata.get("annotations") or {}), **dict(appspec.pair(v, "--annotations") for v in annotation)}  # fmt: skip
        if set_finalizer:
            metadata["finalizers"] = ["resources-finalizer.argocd.argoproj.io"]
        spec = appspec.apply(dict(document.get("spec") or {}), given, read=files.text_of)
        if source_name and isinstance(spec.get("source"), dict):
            spec["source"]["name"] = source_name
        spec.setdefault("project", "default")
        body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": metadata, "spec": spec}  # fmt: skip
        made = hub.post(path("applications", upsert=upsert, validate=str(validate).lower()), body)
        if output:
            printed(made, output)
        else:
            say(f"application '{metadata['name']}' {'saved' if upsert else 'created'}")


def _set(name: str, namespace: str, source_position: int, source_name: str, **given: Any) -> None:
    if not any(v not in (None, ()) and v != [] for v in given.values()):
        raise Problem("nothing to set: flotilla app set --help lists the flags")
    hub = _hub()
    found = apps.get(hub, name, namespace=namespace)
    appspec.apply(found["spec"], given, position=source_position, name=source_name, read=files.text_of)  # fmt: skip
    _save(hub, name, namespace, found)


def _unset(name: str, namespace: str, source_position: int, source_name: str, **given: Any) -> None:
    if not any(given.values()):
        raise Problem("nothing to unset: flotilla app unset --help lists the flags")
    hub = _hub()
    found = apps.get(hub, name, namespace=namespace)
    found["spec"] = appspec.unset(found["spec"], given, position=source_position, name=source_name)
    _save(hub, name, namespace, found)


def _is_of_source(key: str) -> bool:
    flag = next(f for f in appspec.FLAGS if f.key == key)
    return flag.to.startswith(".") or flag.special not in ("", "policy", "option")


def _add_source(name: str, namespace: str, source_name: str, **given: Any) -> None:
    hub = _hub()
    found = apps.get(hub, name, namespace=namespace)
    spec = found["spec"]
    fresh: dict[str, Any] = {"source": {}}
    appspec.apply(fresh, given, read=files.text_of)
    source = {**fresh["source"], **({"name": source_name} if source_name else {})}
    if not source.get("repoURL"):
        raise Problem("--repo is required")
    spec["sources"] = [*apps.sources(found), source]
    spec.pop("source", None)
    _save(hub, name, namespace, found)


_NAME = _parameter("name", Name, inspect.Parameter.empty)
_SPACE = _parameter("namespace", Namespace, "")
_SOURCE_NAME = _parameter("source_name", Annotated[str, typer.Option("--source-name", help="Source, by name.")], "")  # fmt: skip
_WHERE = (
    _NAME, _SPACE, _SOURCE_NAME,
    _parameter("source_position", Annotated[int, typer.Option("--source-position", help="Which source, from 1.")], 0),
)  # fmt: skip
_CREATE = (
    _parameter("name", Annotated[str, typer.Argument(metavar="[NAME]", help="Application, or namespace/application.")], ""), _SPACE, _SOURCE_NAME,
    _parameter("file", Annotated[str, typer.Option("--file", "-f", help="Manifest: a file, a URL, or -.")], ""),
    _parameter("upsert", Annotated[bool, typer.Option("--upsert", help="Change an application that exists.")], default=False),
    _parameter("validate", Annotated[bool, typer.Option("--validate/--no-validate", help="Check repository and cluster first.")], default=True),
    _parameter("set_finalizer", Annotated[bool, typer.Option("--set-finalizer", help="A deletion takes what runs along.")], default=False),
    _parameter("label", Annotated[list[str] | None, typer.Option("--label", "-l", help="key=value.")], None),
    _parameter("annotation", Annotated[list[str] | None, typer.Option("--annotations", help="key=value.")], None),
    _parameter("output", Annotated[str, typer.Option("--output", "-o", help="json or yaml: print what was made.")], ""),
)  # fmt: skip
_SOURCE_FLAGS = [f for f in appspec.FLAGS if _is_of_source(f.key)]
_command("create", "Create an application, by flags or from a file.", _create, [*_CREATE, *_options(appspec.FLAGS)])  # fmt: skip
_command("set", "Change fields of an application.", _set, [*_WHERE, *_options(appspec.FLAGS)])
_command("unset", "Take parameters out of an application.", _unset, [*_WHERE, *_options(appspec.UNSET)])  # fmt: skip
_command("add-source", "Add a source to an application.", _add_source, [_NAME, _SPACE, _SOURCE_NAME, *_options(_SOURCE_FLAGS)])  # fmt: skip


@app.command("remove-source")
def remove_source(
    name: Name, source_position: Annotated[int, typer.Option("--source-position", help="Which, from 1.")] = 0,
    source_name: Annotated[str, typer.Option("--source-name", help="Which, by name.")] = "", namespace: Namespace = "",
) -> None:  # fmt: skip
    """Remove a source from an application that has several."""
    hub = _hub()
    found = apps.get(hub, name, namespace=namespace)
    listed = apps.sources(found)
    if len(listed) < 2:
        raise Problem("the application has only one source")
    gone = appspec.source_of(found["spec"], source_position, source_name)
    found["spec"]["sources"] = [s for s in listed if s is not gone]
    _save(hub, name, namespace, found)


@app.command()
def edit(name: Name, namespace: Namespace = "") -> None:
    """Edit the spec of an application in $EDITOR."""
    hub = _hub()
    found = apps.get(hub, name, namespace=namespace)
    after = files.edited(found["spec"])
    if after == found["spec"]:
        say("Nothing was changed")
        return
    if not isinstance(after, dict):
        raise Problem("a spec is an object: nothing was changed")
    _save(hub, name, namespace, {"spec": after})


@app.command()
def patch(
    name: Name, patch_: Annotated[str, typer.Option("--patch", help="JSON or YAML.")],
    type_: Annotated[str, typer.Option("--type", help="json or merge.")] = "json", namespace: Namespace = "",
) -> None:  # fmt: skip
    """Patch an application."""
    body = {
        "name": apps.split(name)[1],
        "patch": appspec.patched(patch_, type_),
        "patchType": type_,
    }
    changed = _hub().patch(apps.place(name, at=namespace), body)
    sys.stdout.write(as_yaml(changed))


@app.command()
def delete(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Applications.")] = None,
    cascade: Annotated[bool, typer.Option("--cascade/--no-cascade", help="With what they run.")] = True,
    propagation: Annotated[str, typer.Option("--propagation-policy", "-p", help="foreground or background.")] = "foreground",
    yes: Yes = False,
    wait_: Annotated[bool, typer.Option("--wait", help="Until they are gone.")] = False,
    selector: Annotated[str, typer.Option("--selector", "-l", help="With these labels.")] = "",
    namespace: Namespace = "",
) -> None:  # fmt: skip
    """Delete applications, and what they run unless --no-cascade is given."""
    hub = _hub()
    for name in _names(hub, names, selector, namespace):
        if not yes:
            found = apps.get(hub, name, namespace=namespace)
            live = len((found.get("status") or {}).get("resources") or [])
            what = f"and its {live} resources" if cascade else "and keep what it runs"
            if not typer.confirm(f"Are you sure you want to delete '{name}' {what}?"):
                say(f"'{name}' was not deleted")
                continue
        hub.delete(apps.place(name, at=namespace, cascade=str(cascade).lower(), propagationPolicy=propagation if cascade else ""))  # fmt: skip
        say(f"application '{name}' deleted")
        if wait_:
            apps.wait_state(hub, name, namespace, {"delete": True}, timeout=0, watcher=apps.Watcher(quiet=True))  # fmt: skip


@app.command()
def sync(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Applications.")] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove what left Git.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Try only.")] = False,
    revision: Annotated[str, typer.Option("--revision", help="Another revision than the spec's.")] = "",
    revisions: Revisions = None, source_positions: Positions = None,
    resource: Annotated[list[str] | None, typer.Option("--resource", help="Only GROUP:KIND:[NAMESPACE/]NAME; may be repeated.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="Only resources with this label, key=value.")] = None,
    selector: Annotated[str, typer.Option("--selector", "-l", help="Applications with these labels.")] = "",
    project: Annotated[list[str] | None, typer.Option("--project", help="Applications of these projects.")] = None,
    strategy: Annotated[str, typer.Option("--strategy", help="hook or apply.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Delete and create anew on a conflict.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace instead of apply.")] = False,
    server_side: Annotated[bool, typer.Option("--server-side", help="Apply on the server's side.")] = False,
    only_drifted: Annotated[bool, typer.Option("--apply-out-of-sync-only", help="Only what differs.")] = False,
    asynchronous: Annotated[bool, typer.Option("--async", help="Do not wait for the end.")] = False,
    timeout: Timeout = 0,
    retry_limit: Annotated[int, typer.Option("--retry-limit", help="How often it is tried again.")] = 0,
    retry_backoff_duration: Annotated[str, typer.Option("--retry-backoff-duration", help="Wait before the first retry.")] = "5s",
    retry_backoff_factor: Annotated[int, typer.Option("--retry-backoff-factor", help="How the wait grows.")] = 2,
    retry_backoff_max: Annotated[str, typer.Option("--retry-backoff-max-duration", help="Longest wait.")] = "3m0s",
    local: Annotated[str, typer.Option("--local", help="Folder of plain manifests to apply instead of Git's.")] = "",
    info: Annotated[list[str] | None, typer.Option("--info", help="name=value kept with the operation.")] = None,
    preview: Annotated[bool, typer.Option("--preview-changes", help="Show the difference and ask first.")] = False,
    assume_yes: Annotated[bool, typer.Option("--assumeYes", "-y", help="Do not ask.")] = False,
    output: Output = "wide", namespace: Namespace = "",
) -> None:  # fmt: skip
    """Sync applications, and show what happens until the end."""
    hub = _hub()
    if strategy not in ("", "hook", "apply"):
        raise Problem(f"--strategy {strategy}: hook or apply")
    options = [f"{name}=true" for name, on in (("Replace", replace), ("ServerSideApply", server_side), ("ApplyOutOfSyncOnly", only_drifted)) if on]  # fmt: skip
    body: dict[str, Any] = {
        "prune": prune, "dryRun": dry_run, "revision": revision, "revisions": revisions or [], "sourcePositions": source_positions or [],
        "resources": [apps.resource_flag(r) for r in resource or []], "strategy": {strategy or "hook": {"force": force}},
        "infos": [dict(zip(("name", "value"), appspec.pair(i, "--info"), strict=True)) for i in info or []],
    }  # fmt: skip
    if options:
        body["syncOptions"] = {"items": options}
    if retry_limit:
        body["retryStrategy"] = {"limit": retry_limit, "backoff": {"duration": retry_backoff_duration, "factor": retry_backoff_factor, "maxDuration": retry_backoff_max}}  # fmt: skip
    if local:
        body["manifests"] = [as_yaml(m) for m in apps.local_manifests(local)]
    body = {k: v for k, v in body.items() if v not in ("", [], None)}
    failed = []
    for name in _names(hub, names, selector, namespace, project or ()):
        if label:
            body["resources"] = _labelled(hub, name, namespace, label)
        if preview and _previewed(hub, name, namespace, revision) and not assume_yes and not typer.confirm("Do you want to sync these changes?"):  # fmt: skip
            raise typer.Exit(FAILED)
        hub.post(apps.place(name, "sync", at=namespace), body)
        if asynchronous:
            say(f"application '{name}' is being synced")
            continue
        watcher = apps.Watcher(quiet=output != "wide")
        done = apps.wait_operation(hub, name, namespace, timeout, watcher)
        if not printed(done, output, "tree"):
            say()
            apps.show_one(hub, done, operation=True)
        problem = _outcome(done, prune=prune, dry_run=dry_run, whole=not resource and not label)
        if problem:
            failed.append(f"{name}: {problem}")
    if failed:
        raise Problem("; ".join(failed))


def _labelled(hub: Client, name: str, namespace: str, labels: Sequence[str]) -> list[dict[str, str]]:  # fmt: skip
    wanted = dict(appspec.pair(v, "--label") for v in labels)
    import json

    found = []
    for item in hub.get(apps.place(name, "managed-resources", at=namespace)).get("items") or []:  # fmt: skip
        target = json.loads(item.get("targetState") or "null") or {}
        own = (target.get("metadata") or {}).get("labels") or {}
        if all(own.get(k) == v for k, v in wanted.items()):
            found.append({"group": item.get("group", ""), "kind": item["kind"], "namespace": item.get("namespace", ""), "name": item["name"]})  # fmt: skip
    if not found:
        raise Problem(f"no resource of {name} has the labels {', '.join(labels)}")
    return found


def _previewed(hub: Client, name: str, namespace: str, revision: str) -> bool:
    found = hub.get(apps.place(name, "managed-resources", at=namespace, revision=revision))
    listed = list(apps.differences(found.get("items") or []))
    for one in listed:
        apps.print_diff(*one)
    if not listed:
        say("====== No differences found ======")
    return bool(listed)


def _outcome(found: apps.App, *, prune: bool, dry_run: bool, whole: bool) -> str:
    state = (found.get("status") or {}).get("operationState") or {}
    if state.get("phase") != "Succeeded":
        return f"Operation has completed with phase: {state.get('phase', 'Unknown')}: {state.get('message', '')}"  # fmt: skip
    left = sum(bool(r.get("requiresPruning")) for r in (found.get("status") or {}).get("resources") or [])  # fmt: skip
    if whole and not prune and not dry_run and left and apps.states(found)[0] == "OutOfSync":
        return f"{left} resources require pruning"
    return ""


@app.command()
def wait(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Applications.")] = None,
    sync_: Annotated[bool, typer.Option("--sync", help="Until Synced.")] = False,
    health: Annotated[bool, typer.Option("--health", help="Until Healthy.")] = False,
    operation: Annotated[bool, typer.Option("--operation", help="Until no operation runs.")] = False,
    suspended: Annotated[bool, typer.Option("--suspended", help="Until Suspended.")] = False,
    degraded: Annotated[bool, typer.Option("--degraded", help="Until Degraded.")] = False,
    delete_: Annotated[bool, typer.Option("--delete", help="Until it is gone.")] = False,
    resource: Annotated[list[str] | None, typer.Option("--resource", help="Only GROUP:KIND:[NAMESPACE/]NAME counts.")] = None,
    selector: Annotated[str, typer.Option("--selector", "-l", help="With these labels.")] = "",
    timeout: Timeout = 0, output: Output = "wide", namespace: Namespace = "",
) -> None:  # fmt: skip
    """Wait until applications are as wanted: Synced, Healthy and without an operation unless flags say."""
    hub = _hub()
    wanted = {"sync": sync_, "health": health, "operation": operation, "suspended": suspended, "degraded": degraded, "delete": delete_}  # fmt: skip
    chosen = [apps.resource_flag(r) for r in resource or []]
    for name in _names(hub, names, selector, namespace):
        if chosen:
            found = _wait_resources(hub, name, namespace, chosen, timeout)
        else:
            found = apps.wait_state(hub, name, namespace, wanted, timeout=timeout, watcher=apps.Watcher(quiet=output != "wide"))  # fmt: skip
        if found and not printed(found, output, "tree"):
            say()
            apps.show_one(hub, found, operation=True)


def _wait_resources(hub: Client, name: str, namespace: str, chosen: Sequence[Mapping[str, str]], timeout: int) -> apps.App:  # fmt: skip
    for found in apps.looks(hub, name, namespace, timeout):
        listed = (found.get("status") or {}).get("resources") or []
        here = [r for c in chosen for r in listed if apps.matches(r, group=c.get("group", ""), kind=c["kind"], name=c["name"], namespace=c.get("namespace", ""))]  # fmt: skip
        if len(here) >= len(chosen) and all(r.get("status") == "Synced" and (r.get("health") or {}).get("status", "Healthy") == "Healthy" for r in here):  # fmt: skip
            return found
    raise AssertionError


@app.command()
def diff(
    name: Name,
    refresh: Annotated[bool, typer.Option("--refresh", help="Look at Git and the cluster first.")] = False,
    hard_refresh: Annotated[bool, typer.Option("--hard-refresh", help="And render anew.")] = False,
    local: Annotated[str, typer.Option("--local", help="Folder of plain manifests to compare with.")] = "",
    revision: Annotated[str, typer.Option("--revision", help="Another revision than the spec's.")] = "",
    exit_code: Annotated[bool, typer.Option("--exit-code/--no-exit-code", help="End with a code when there is a difference.")] = True,
    diff_exit_code: Annotated[int, typer.Option("--diff-exit-code", help="That code.")] = 1,
    namespace: Namespace = "",
) -> None:  # fmt: skip
    """Show what differs between Git and the cluster; the exit code is 1 when something does, 2 for an error."""
    try:
        hub = _hub()
        if refresh or hard_refresh:
            apps.get(hub, name, namespace=namespace, refresh="hard" if hard_refresh else "normal")
        items = _local_items(hub, name, namespace, local) if local else hub.get(apps.place(name, "managed-resources", at=namespace, revision=revision)).get("items") or []  # fmt: skip
        found = list(apps.differences(items))
        for one in found:
            apps.print_diff(*one)
    except Problem as problem:
        problem.code = 2
        raise
    if found and exit_code:
        raise typer.Exit(diff_exit_code)


def _local_items(hub: Client, name: str, namespace: str, local: str) -> list[dict[str, Any]]:
    import json

    texts = [json.dumps(m) for m in apps.local_manifests(local)]
    items = hub.get(apps.place(name, "server-side-diff", at=namespace, targetManifests=texts)).get("items") or []  # fmt: skip
    return [{**i, "normalizedLiveState": i.get("liveState"), "predictedLiveState": i.get("targetState")} for i in items]  # fmt: skip


@app.command()
def manifests(
    name: Name, source: Annotated[str, typer.Option("--source", help="git or live.")] = "git",
    revision: Annotated[str, typer.Option("--revision", help="Another revision.")] = "", revisions: Revisions = None,
    source_positions: Positions = None, namespace: Namespace = "",
) -> None:  # fmt: skip
    """Print the manifests, as Git gives them or as they run."""
    import json

    if source not in ("git", "live"):
        raise Problem(f"--source {source}: git or live")
    hub = _hub()
    if source == "git":
        found = hub.get(apps.place(name, "manifests", at=namespace, revision=revision, revisions=revisions or [], sourcePositions=source_positions or []))  # fmt: skip
        texts = found.get("manifests") or []
    else:
        items = hub.get(apps.place(name, "managed-resources", at=namespace)).get("items") or []  # fmt: skip
        texts = [i["liveState"] for i in items if i.get("liveState") not in (None, "null")]
    for text in texts:
        sys.stdout.write("---\n" + as_yaml(json.loads(text)))


@app.command()
def history(name: Name, output: Output = "wide", namespace: Namespace = "") -> None:
    """List what was deployed."""
    found = apps.get(_hub(), name, namespace=namespace)
    entries = (found.get("status") or {}).get("history") or []
    if printed(entries, output, "id"):
        return
    if output == "id":
        for entry in entries:
            say(str(entry.get("id", 0)))
        return
    for number, source in enumerate(apps.sources(found)):
        say(f"SOURCE  {source.get('repoURL', '')}")
        rows = []
        for entry in entries:
            revision = str((entry.get("revisions") or [entry.get("revision", "")])[number] if entry.get("revisions") and number < len(entry["revisions"]) else entry.get("revision", ""))  # fmt: skip
            then = entry.get("sources") or [entry.get("source") or {}]
            target = (then[number] if number < len(then) else {}).get("targetRevision") or ""
            rows.append([entry.get("id", 0), entry.get("deployedAt", ""), f"{target} ({revision[:7]})" if len(revision) == 40 else revision or target])  # fmt: skip
        table(["ID", "DATE", "REVISION"], rows)
        say()


@app.command()
def rollback(
    name: Name, number: Annotated[int | None, typer.Argument(metavar="[ID]", help="Entry of the history; the one before the last when left out.")] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove what that revision does not have.")] = False,
    timeout: Timeout = 0, output: Output = "wide", namespace: Namespace = "",
) -> None:  # fmt: skip
    """Go back to something that was deployed before."""
    hub = _hub()
    if number is None:
        entries = ((apps.get(hub, name, namespace=namespace)).get("status") or {}).get("history") or []  # fmt: skip
        if len(entries) < 2:
            raise Problem(f"{name} has no deployment to go back to")
        number = int(entries[-2].get("id", 0))
    hub.post(apps.place(name, "rollback", at=namespace), {"id": number, "prune": prune})
    done = apps.wait_operation(hub, name, namespace, timeout, apps.Watcher(quiet=output != "wide"))
    if not printed(done, output):
        say()
        apps.show_one(hub, done, operation=True)
    problem = _outcome(done, prune=True, dry_run=False, whole=False)
    if problem:
        raise Problem(problem)


@app.command()
def resources(
    name: Name, output: Output = "wide", orphaned: Annotated[bool, typer.Option("--orphaned", help="Only those that are not in Git.")] = False,
    namespace: Namespace = "",
) -> None:  # fmt: skip
    """List the resources of an application."""
    hub = _hub()
    if output.startswith("tree"):
        apps.show_tree(hub, apps.get(hub, name, namespace=namespace), detailed=output == "tree=detailed")  # fmt: skip
        return
    found = hub.get(apps.place(name, "resource-tree", at=namespace))
    listed = [] if orphaned else [(n, "No") for n in found.get("nodes") or [] if not n.get("parentRefs")]  # fmt: skip
    listed += [(n, "Yes") for n in found.get("orphanedNodes") or []]
    if not printed([n for n, _ in listed], output, "tree", "tree=detailed"):
        table(["GROUP", "KIND", "NAMESPACE", "NAME", "ORPHANED"], [[n.get("group", ""), n["kind"], n.get("namespace", ""), n["name"], word] for n, word in listed])  # fmt: skip


@app.command("get-resource")
def get_resource(
    name: Name, kind: Kind, group: Group = "", resource_name: ResourceName = "", namespace_: ResourceNamespace = "",
    output: Output = "yaml", namespace: Namespace = "",
) -> None:  # fmt: skip
    """Print live resources of an application."""
    import json

    hub = _hub()
    for node in apps.nodes(hub, name, namespace, kind=kind, group=group, name_=resource_name, namespace_=namespace_):  # fmt: skip
        text = hub.get(apps.place(name, "resource", at=namespace, **apps.resource_query(node)))["manifest"]  # fmt: skip
        if output == "yaml":
            say("---")
        printed(json.loads(text), output)


@app.command("patch-resource")
def patch_resource(
    name: Name, patch_: Annotated[str, typer.Option("--patch", help="Patch, JSON.")], kind: Kind, group: Group = "",
    resource_name: ResourceName = "", namespace_: ResourceNamespace = "",
    patch_type: Annotated[str, typer.Option("--patch-type", help="MIME type of the patch.")] = "application/merge-patch+json",
    all_: Annotated[bool, typer.Option("--all", help="All that fit, not only one.")] = False, namespace: Namespace = "",
) -> None:  # fmt: skip
    """Patch a live resource of an application."""
    hub = _hub()
    for node in _chosen(hub, name, namespace, kind, group, resource_name, namespace_, every=all_):
        hub.post(apps.place(name, "resource", at=namespace, patchType=patch_type, **apps.resource_query(node)), patch_)  # fmt: skip
        say(f"{node['kind']} '{node['name']}' patched")


@app.command("delete-resource")
def delete_resource(
    name: Name, kind: Kind, group: Group = "", resource_name: ResourceName = "", namespace_: ResourceNamespace = "",
    force: Annotated[bool, typer.Option("--force", help="Without waiting for its end.")] = False,
    orphan: Annotated[bool, typer.Option("--orphan", help="Keep what it owns.")] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="Also what holds data.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="All that fit, not only one.")] = False, namespace: Namespace = "",
) -> None:  # fmt: skip
    """Delete a live resource of an application."""
    hub = _hub()
    for node in _chosen(hub, name, namespace, kind, group, resource_name, namespace_, every=all_):
        hub.delete(apps.place(name, "resource", at=namespace, force=force, orphan=orphan, confirm=confirm, **apps.resource_query(node)))  # fmt: skip
        say(f"{node['kind']} '{node['name']}' deleted")


def _chosen(hub: Client, name: str, namespace: str, kind: str, group: str, resource: str, where: str, *, every: bool) -> list[dict[str, Any]]:  # fmt: skip
    found = apps.nodes(hub, name, namespace, kind=kind, group=group, name_=resource, namespace_=where)  # fmt: skip
    if len(found) > 1 and not every:
        raise Problem(f"{len(found)} resources fit: name one with --resource-name, or take all with --all")  # fmt: skip
    return found


@app.command()
def logs(
    name: Name, group: Group = "", kind: Kind = "", namespace_: ResourceNamespace = "",
    resource_name: Annotated[str, typer.Option("--name", "--resource-name", help="Name of the resource.")] = "",
    container: Annotated[str, typer.Option("--container", "-c", help="Container.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines are written.")] = False,
    previous: Annotated[bool, typer.Option("--previous", help="Before the last restart.")] = False,
    tail: Annotated[int, typer.Option("--tail", help="At most so many lines.")] = 0,
    since_seconds: Annotated[int, typer.Option("--since-seconds", help="Not older than this.")] = 0,
    filter_: Annotated[str, typer.Option("--filter", help="Only lines with this; with ! in front those without.")] = "",
    match_case: Annotated[bool, typer.Option("--match-case", help="The filter minds upper and lower case.")] = False,
    namespace: Namespace = "",
) -> None:  # fmt: skip
    """Print what pods of an application write."""
    hub = _hub()
    query = {
        "group": group, "kind": kind, "namespace": namespace_, "resourceName": resource_name, "container": container, "follow": follow, "previous": previous,
        "tailLines": tail, "sinceSeconds": since_seconds, "filter": filter_, "matchCase": match_case,
    }  # fmt: skip
    pods: set[str] = set()
    while True:
        for entry in hub.lines(apps.place(name, "logs", at=namespace, **query)):
            if entry.get("last") or "content" not in entry:
                continue
            pods.add(str(entry.get("podName") or ""))
            mark = f"[{entry.get('podName')}] " if len(pods) > 1 else ""
            say(f"{mark}{entry['content']}")
            sys.stdout.flush()
        if not follow:
            return
        # The hub ended the stream, as at an update: it goes on with what is new.
        query |= {"sinceSeconds": 1, "tailLines": 0}
        time.sleep(1)


@app.command("terminate-op")
def terminate_op(name: Name, namespace: Namespace = "") -> None:
    """End the running operation."""
    _hub().delete(apps.place(name, "operation", at=namespace))
    say(f"Application '{name}' operation terminating")


@app.command("confirm-deletion")
def confirm_deletion(name: Name, namespace: Namespace = "") -> None:
    """Allow the deletions that wait for a confirmation."""
    hub = _hub()
    where, own = apps.split(name, namespace)
    hub.post(path("applications", own, "confirm-deletion", appNamespace=where), {})
    say(f"Application '{name}' updated successfully")


actions_app = typer.Typer(help="Actions of resources.", no_args_is_help=True)
app.add_typer(actions_app, name="actions")


@actions_app.command("list")
def actions_list(
    name: Name, kind: Kind = "", group: Group = "", resource_name: ResourceName = "", namespace_: ResourceNamespace = "",
    output: Output = "wide", namespace: Namespace = "",
) -> None:  # fmt: skip
    """List what can be done with resources of an application."""
    hub = _hub()
    rows: list[list[str]] = []
    found: list[Any] = []
    for node in apps.nodes(hub, name, namespace, kind=kind, group=group, name_=resource_name, namespace_=namespace_):  # fmt: skip
        try:
            offers = hub.get(apps.place(name, "resource", "actions", at=namespace, **apps.resource_query(node))).get("actions") or []  # fmt: skip
        except Problem:
            # A resource that is gone meanwhile, or that the cluster does not serve, has no actions.
            continue
        found += offers
        rows += [[node.get("group", ""), node["kind"], node["name"], o["name"], str(bool(o.get("disabled"))).lower()] for o in offers]  # fmt: skip
    if not printed(found, output):
        table(["GROUP", "KIND", "NAME", "ACTION", "DISABLED"], rows)


@actions_app.command("run")
def actions_run(
    name: Name, action: Annotated[str, typer.Argument(help="Action.")], kind: Kind, group: Group = "",
    resource_name: ResourceName = "", namespace_: ResourceNamespace = "",
    param: Annotated[list[str] | None, typer.Option("--param", help="name=value; may be repeated.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that fit, not only one.")] = False, namespace: Namespace = "",
) -> None:  # fmt: skip
    """Run an action on a resource of an application."""
    hub = _hub()
    given = [dict(zip(("name", "value"), appspec.pair(p, "--param"), strict=True)) for p in param or []]  # fmt: skip
    for node in _chosen(hub, name, namespace, kind, group, resource_name, namespace_, every=all_):
        body = {"action": action, **apps.resource_query(node), "resourceActionParameters": given}
        hub.post(apps.place(name, "resource", "actions", "v2", at=namespace), body)
        say(f"{node['kind']} '{node['name']}': {action} done")
