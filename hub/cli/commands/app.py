"""`flotilla app`: applications."""

import inspect
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from hub.cli import apps, appspec, files
from hub.cli.client import Client, path
from hub.cli.commands import appsync
from hub.cli.commands.appflags import (
    Group,
    Kind,
    Name,
    Namespace,
    Output,
    ResourceName,
    ResourceNamespace,
    Timeout,
    Validate,
    Yes,
    app,
    chosen_names,
    current_hub,
)
from hub.cli.names import named, qualified
from hub.cli.output import as_yaml, print_line, printed, table
from hub.cli.problem import Problem

__all__ = ["app", "appsync"]


@app.command("list")
def list_(
    output: Output = "wide",
    project: Annotated[
        list[str] | None,
        typer.Option("--project", "-p", help="Only applications of these projects."),
    ] = None,
    repo: Annotated[
        str, typer.Option("--repo", "-r", help="Only applications with this repository.")
    ] = "",
    path_: Annotated[
        str, typer.Option("--path", "-P", help="Only applications with this path.")
    ] = "",
    cluster: Annotated[
        str,
        typer.Option("--cluster", "-c", help="Only applications on this cluster: name or server."),
    ] = "",
    selector: Annotated[
        str, typer.Option("--selector", "-l", help="Only applications with these labels.")
    ] = "",
    namespace: Namespace = "",
) -> None:
    """List applications."""
    found = apps.listed(
        current_hub(), projects=project or [], repo=repo, selector=selector, appNamespace=namespace
    )
    if path_:
        found = [a for a in found if any(s.get("path") == path_ for s in apps.sources(a))]
    if cluster:
        found = [
            a
            for a in found
            if cluster
            in (
                (a["spec"].get("destination") or {}).get("server"),
                (a["spec"].get("destination") or {}).get("name"),
            )
        ]
    if printed(found, output, "name"):
        return
    if output == "name":
        for one in found:
            print_line(apps.qualified(one))
    else:
        apps.show_list(found)


@app.command()
def get(
    name: Name,
    output: Output = "wide",
    refresh: Annotated[bool, typer.Option("--refresh", help="Refresh first.")] = False,
    hard_refresh: Annotated[
        bool, typer.Option("--hard-refresh", help="Refresh without the manifest cache first.")
    ] = False,
    show_operation: Annotated[
        bool, typer.Option("--show-operation", help="Show the last operation.")
    ] = False,
    show_params: Annotated[bool, typer.Option("--show-params", help="Show parameters.")] = False,
    namespace: Namespace = "",
    source_position: Annotated[
        int, typer.Option("--source-position", help="Only this source, from 1.")
    ] = 0,
    source_name: Annotated[str, typer.Option("--source-name", help="Only this source.")] = "",
    timeout: Timeout = 0,
) -> None:
    """Show an application, its conditions and its resources."""
    hub = current_hub()
    hub.wait_at_most(timeout)
    found = apps.get(
        hub,
        name,
        namespace=namespace,
        refresh="hard" if hard_refresh else "normal" if refresh else "",
    )
    if source_position or source_name:
        chosen = appspec.source_of({**found["spec"]}, source_position, source_name)
        found = {
            **found,
            "spec": {
                **{k: v for k, v in found["spec"].items() if k != "sources"},
                "source": chosen,
            },
        }
    if printed(found, output, "tree", "tree=detailed"):
        return
    apps.show_one(hub, found, operation=show_operation, params=show_params)
    if output.startswith("tree"):
        print_line()
        apps.show_tree(hub, found, detailed=output == "tree=detailed")


def _save(
    hub: Client, name: str, namespace: str, found: Mapping[str, Any], *, validate: bool
) -> Any:
    return hub.put(
        apps.application_path(name, "spec", at=namespace, validate=str(validate).lower()),
        found["spec"],
    )


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _options(flags: Sequence[appspec.Flag]) -> list[inspect.Parameter]:
    """Return the signature's parameters for a table of flags; flags that are not given are None."""
    made = []
    for flag in flags:
        kind: Any = list[str] if flag.many else bool if flag.switch else int if flag.number else str
        names = (
            [f"{flag.names[0]}/--no-{flag.names[0][2:]}", *flag.names[1:]]
            if flag.switch
            else flag.names
        )
        made.append(
            _parameter(flag.key, Annotated[kind | None, typer.Option(*names, help=flag.help)], None)
        )
    return made


def _command(
    name: str, text: str, call: Callable[..., None], parameters: Sequence[inspect.Parameter]
) -> None:
    """Add a command whose flags come from a table."""

    def run(**given: Any) -> None:
        call(**given)

    run.__signature__ = inspect.Signature(list(parameters))  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(name, help=text)(run)


def _create(
    name: str,
    namespace: str,
    source_name: str,
    file: str,
    *,
    upsert: bool,
    validate: bool,
    set_finalizer: bool,
    label: Sequence[str] | None,
    annotation: Sequence[str] | None,
    output: str,
    **given: Any,
) -> None:
    documents = files.manifests([file]) if file else [{}]
    if name and len(documents) > 1:
        raise Problem(f"{file} holds {len(documents)} objects: leave the name out")
    hub = current_hub()
    for document in documents:
        if document.get("kind") not in (None, "Application"):
            raise Problem(
                f"{file} holds a {document.get('kind')}: flotilla apply -f takes everything"
            )
        metadata = named(document.get("metadata") or {}, name, namespace, "--app-namespace")
        if not metadata.get("name"):
            raise Problem("the application needs a name")
        if label:
            metadata["labels"] = {
                **(metadata.get("labels") or {}),
                **dict(appspec.pair(v, "--label") for v in label),
            }
        if annotation:
            metadata["annotations"] = {
                **(metadata.get("annotations") or {}),
                **dict(appspec.pair(v, "--annotations") for v in annotation),
            }
        if set_finalizer:
            metadata["finalizers"] = ["resources-finalizer.argocd.argoproj.io"]
        spec = appspec.apply(dict(document.get("spec") or {}), given, read=files.text_of)
        if source_name and isinstance(spec.get("source"), dict):
            spec["source"]["name"] = source_name
        spec.setdefault("project", "default")
        body = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": metadata,
            "spec": spec,
        }
        made = hub.post(path("applications", upsert=upsert, validate=str(validate).lower()), body)
        if output:
            printed(made, output)
        else:
            print_line(f"application '{metadata['name']}' {'saved' if upsert else 'created'}")


def _set(
    name: str,
    namespace: str,
    source_position: int,
    source_name: str,
    *,
    validate: bool,
    **given: Any,
) -> None:
    if not any(v not in (None, ()) and v != [] for v in given.values()):
        raise Problem("nothing to set: flotilla app set --help lists the flags")
    hub = current_hub()
    found = apps.get(hub, name, namespace=namespace)
    appspec.apply(
        found["spec"], given, position=source_position, name=source_name, read=files.text_of
    )
    _save(hub, name, namespace, found, validate=validate)


def _unset(
    name: str,
    namespace: str,
    source_position: int,
    source_name: str,
    *,
    validate: bool,
    **given: Any,
) -> None:
    if not any(given.values()):
        raise Problem("nothing to unset: flotilla app unset --help lists the flags")
    hub = current_hub()
    found = apps.get(hub, name, namespace=namespace)
    found["spec"] = appspec.unset(found["spec"], given, position=source_position, name=source_name)
    _save(hub, name, namespace, found, validate=validate)


def _is_of_source(key: str) -> bool:
    flag = next(f for f in appspec.FLAGS if f.key == key)
    return flag.to.startswith(".") or flag.special not in ("", "policy", "option")


def _add_source(
    name: str, namespace: str, source_name: str, *, validate: bool, **given: Any
) -> None:
    hub = current_hub()
    found = apps.get(hub, name, namespace=namespace)
    spec = found["spec"]
    fresh: dict[str, Any] = {"source": {}}
    appspec.apply(fresh, given, read=files.text_of)
    source = {**fresh["source"], **({"name": source_name} if source_name else {})}
    if not source.get("repoURL"):
        raise Problem("--repo is required")
    spec["sources"] = [*apps.sources(found), source]
    spec.pop("source", None)
    _save(hub, name, namespace, found, validate=validate)


_NAME = _parameter("name", Name, inspect.Parameter.empty)
_SPACE = _parameter("namespace", Namespace, "")
_SOURCE_NAME = _parameter(
    "source_name", Annotated[str, typer.Option("--source-name", help="Source, by name.")], ""
)
_VALIDATE = _parameter("validate", Validate, default=True)
_WHERE = (
    _VALIDATE,
    _NAME,
    _SPACE,
    _SOURCE_NAME,
    _parameter(
        "source_position",
        Annotated[int, typer.Option("--source-position", help="Position of the source, from 1.")],
        0,
    ),
)
_CREATE = (
    _parameter(
        "name",
        Annotated[
            str, typer.Argument(metavar="[NAME]", help="Application, or namespace/application.")
        ],
        "",
    ),
    _SPACE,
    _SOURCE_NAME,
    _parameter(
        "file",
        Annotated[str, typer.Option("--file", "-f", help="Manifest: a file, a URL, or -.")],
        "",
    ),
    _parameter(
        "upsert",
        Annotated[bool, typer.Option("--upsert", help="Update an existing application.")],
        default=False,
    ),
    _VALIDATE,
    _parameter(
        "set_finalizer",
        Annotated[
            bool,
            typer.Option(
                "--set-finalizer", help="Delete its resources when the application is deleted."
            ),
        ],
        default=False,
    ),
    _parameter(
        "label", Annotated[list[str] | None, typer.Option("--label", "-l", help="key=value.")], None
    ),
    _parameter(
        "annotation",
        Annotated[list[str] | None, typer.Option("--annotations", help="key=value.")],
        None,
    ),
    _parameter(
        "output",
        Annotated[
            str, typer.Option("--output", "-o", help="json or yaml: print the created application.")
        ],
        "",
    ),
)
_SOURCE_FLAGS = [f for f in appspec.FLAGS if _is_of_source(f.key)]
_command(
    "create",
    "Create an application, by flags or from a file.",
    _create,
    [*_CREATE, *_options(appspec.FLAGS)],
)
_command("set", "Change fields of an application.", _set, [*_WHERE, *_options(appspec.FLAGS)])
_command(
    "unset", "Take parameters out of an application.", _unset, [*_WHERE, *_options(appspec.UNSET)]
)
_command(
    "add-source",
    "Add a source to an application.",
    _add_source,
    [_VALIDATE, _NAME, _SPACE, _SOURCE_NAME, *_options(_SOURCE_FLAGS)],
)


@app.command("remove-source")
def remove_source(
    name: Name,
    source_position: Annotated[
        int, typer.Option("--source-position", help="Position of the source, from 1.")
    ] = 0,
    source_name: Annotated[str, typer.Option("--source-name", help="Name of the source.")] = "",
    namespace: Namespace = "",
    validate: Validate = True,
) -> None:
    """Remove a source from an application that has several."""
    hub = current_hub()
    found = apps.get(hub, name, namespace=namespace)
    listed = apps.sources(found)
    if len(listed) < 2:
        raise Problem("the application has only one source")
    gone = appspec.source_of(found["spec"], source_position, source_name)
    found["spec"]["sources"] = [s for s in listed if s is not gone]
    _save(hub, name, namespace, found, validate=validate)


@app.command()
def edit(name: Name, namespace: Namespace = "", validate: Validate = True) -> None:
    """Edit the spec of an application in $EDITOR."""
    hub = current_hub()
    found = apps.get(hub, name, namespace=namespace)
    after = files.edited(found["spec"])
    if after == found["spec"]:
        print_line("Nothing was changed")
        return
    if not isinstance(after, dict):
        raise Problem("a spec is an object: nothing was changed")
    _save(hub, name, namespace, {"spec": after}, validate=validate)


@app.command()
def patch(
    name: Name,
    patch_: Annotated[str, typer.Option("--patch", help="JSON or YAML.")],
    type_: Annotated[str, typer.Option("--type", help="json or merge.")] = "json",
    namespace: Namespace = "",
    validate: Validate = True,
) -> None:
    """Patch an application."""
    body = {
        "name": qualified(name, namespace)[1],
        "patch": appspec.patched(patch_, type_),
        "patchType": type_,
    }
    changed = current_hub().patch(
        apps.application_path(name, at=namespace, validate=str(validate).lower()), body
    )
    sys.stdout.write(as_yaml(changed))


@app.command()
def delete(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Applications.")
    ] = None,
    cascade: Annotated[
        bool, typer.Option("--cascade/--no-cascade", help="Also delete their resources.")
    ] = True,
    propagation: Annotated[
        str, typer.Option("--propagation-policy", "-p", help="foreground or background.")
    ] = "foreground",
    yes: Yes = False,
    wait_: Annotated[bool, typer.Option("--wait", help="Wait until they are deleted.")] = False,
    selector: Annotated[
        str, typer.Option("--selector", "-l", help="Only applications with these labels.")
    ] = "",
    namespace: Namespace = "",
) -> None:
    """Delete applications, and their resources unless --no-cascade is given."""
    hub = current_hub()
    for name in chosen_names(hub, names, selector, namespace):
        if not yes:
            found = apps.get(hub, name, namespace=namespace)
            live = len((found.get("status") or {}).get("resources") or [])
            what = f"and its {live} resources" if cascade else "and keep what it runs"
            if not typer.confirm(f"Are you sure you want to delete '{name}' {what}?"):
                print_line(f"'{name}' was not deleted")
                continue
        hub.delete(
            apps.application_path(
                name,
                at=namespace,
                cascade=str(cascade).lower(),
                propagationPolicy=propagation if cascade else "",
            )
        )
        print_line(f"application '{name}' deleted")
        waits = apps.wait_for_deletion(hub, name, namespace)
        if waits:
            typer.echo(
                f"flotilla: {name} stays for now, {waits}: "
                f"run flotilla app confirm-deletion {name} to allow it",
                err=True,
            )
        if wait_:
            apps.wait_state(
                hub, name, namespace, {"delete": True}, timeout=0, watcher=apps.Watcher(quiet=True)
            )


@app.command()
def resources(
    name: Name,
    output: Output = "wide",
    orphaned: Annotated[bool, typer.Option("--orphaned", help="Only orphaned resources.")] = False,
    project: Annotated[str, typer.Option("--project", help="Project of the application.")] = "",
    namespace: Namespace = "",
) -> None:
    """List the resources of an application."""
    hub = current_hub()
    if output.startswith("tree"):
        apps.show_tree(
            hub, apps.get(hub, name, namespace=namespace), detailed=output == "tree=detailed"
        )
        return
    found = hub.get(apps.application_path(name, "resource-tree", at=namespace, project=project))
    listed = (
        [] if orphaned else [(n, "No") for n in found.get("nodes") or [] if not n.get("parentRefs")]
    )
    listed += [(n, "Yes") for n in found.get("orphanedNodes") or []]
    if not printed([n for n, _ in listed], output, "tree", "tree=detailed"):
        table(
            ["GROUP", "KIND", "NAMESPACE", "NAME", "ORPHANED"],
            [
                [n.get("group", ""), n["kind"], n.get("namespace", ""), n["name"], word]
                for n, word in listed
            ],
        )


@app.command("get-resource")
def get_resource(
    name: Name,
    kind: Kind,
    group: Group = "",
    resource_name: ResourceName = "",
    namespace_: ResourceNamespace = "",
    filter_fields: Annotated[
        list[str] | None,
        typer.Option("--filter-fields", help="Only these dotted fields; may be repeated."),
    ] = None,
    show_managed_fields: Annotated[
        bool, typer.Option("--show-managed-fields", help="Include metadata.managedFields.")
    ] = False,
    output: Output = "yaml",
    namespace: Namespace = "",
) -> None:
    """Print live resources of an application."""
    import json

    fields = [f for text in filter_fields or [] for f in text.split(",") if f]
    rows: list[list[Any]] = []
    hub = current_hub()
    for node in apps.nodes(
        hub, name, namespace, kind=kind, group=group, name_=resource_name, namespace_=namespace_
    ):
        text = hub.get(
            apps.application_path(name, "resource", at=namespace, **apps.resource_query(node))
        )["manifest"]
        manifest = json.loads(text)
        if not show_managed_fields:
            (manifest.get("metadata") or {}).pop("managedFields", None)
        shown = apps.only_fields(manifest, fields) if fields else manifest
        if output == "wide":
            rows += apps.field_rows(shown, node["name"])
            continue
        if output == "yaml":
            print_line("---")
        printed(shown, output)
    if output == "wide":
        table(["FIELD", "RESOURCE NAME", "VALUE"], rows)


@app.command("patch-resource")
def patch_resource(
    name: Name,
    patch_: Annotated[str, typer.Option("--patch", help="Patch, JSON.")],
    kind: Kind,
    group: Group = "",
    resource_name: ResourceName = "",
    namespace_: ResourceNamespace = "",
    patch_type: Annotated[
        str, typer.Option("--patch-type", help="MIME type of the patch.")
    ] = "application/merge-patch+json",
    all_: Annotated[
        bool, typer.Option("--all", help="All matching resources instead of one.")
    ] = False,
    namespace: Namespace = "",
) -> None:
    """Patch a live resource of an application."""
    hub = current_hub()
    for node in _chosen(hub, name, namespace, kind, group, resource_name, namespace_, every=all_):
        hub.post(
            apps.application_path(
                name, "resource", at=namespace, patchType=patch_type, **apps.resource_query(node)
            ),
            patch_,
        )
        print_line(f"{node['kind']} '{node['name']}' patched")


@app.command("delete-resource")
def delete_resource(
    name: Name,
    kind: Kind,
    group: Group = "",
    resource_name: ResourceName = "",
    namespace_: ResourceNamespace = "",
    force: Annotated[
        bool, typer.Option("--force", help="Delete immediately, without a grace period.")
    ] = False,
    orphan: Annotated[bool, typer.Option("--orphan", help="Keep its dependents.")] = False,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Also delete resources that hold data.")
    ] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="All matching resources instead of one.")
    ] = False,
    namespace: Namespace = "",
) -> None:
    """Delete a live resource of an application."""
    hub = current_hub()
    for node in _chosen(hub, name, namespace, kind, group, resource_name, namespace_, every=all_):
        hub.delete(
            apps.application_path(
                name,
                "resource",
                at=namespace,
                force=force,
                orphan=orphan,
                confirm=confirm,
                **apps.resource_query(node),
            )
        )
        print_line(f"{node['kind']} '{node['name']}' deleted")


def _chosen(
    hub: Client,
    name: str,
    namespace: str,
    kind: str,
    group: str,
    resource: str,
    where: str,
    *,
    every: bool,
) -> list[dict[str, Any]]:
    found = apps.nodes(
        hub, name, namespace, kind=kind, group=group, name_=resource, namespace_=where
    )
    if len(found) > 1 and not every:
        raise Problem(
            f"{len(found)} resources fit: name one with --resource-name, or take all with --all"
        )
    return found


@app.command()
def logs(
    name: Name,
    group: Group = "",
    kind: Kind = "",
    namespace_: ResourceNamespace = "",
    resource_name: Annotated[
        str, typer.Option("--name", "--resource-name", help="Name of the resource.")
    ] = "",
    container: Annotated[str, typer.Option("--container", "-c", help="Container.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow new lines.")] = False,
    previous: Annotated[
        bool, typer.Option("--previous", help="Logs of the previous container.")
    ] = False,
    tail: Annotated[int, typer.Option("--tail", help="Largest number of lines.")] = 0,
    since_seconds: Annotated[
        int, typer.Option("--since-seconds", help="Only lines of this many last seconds.")
    ] = 0,
    until_time: Annotated[
        str,
        typer.Option(
            "--until-time", help="Only lines until this time, such as 2026-01-31T08:00:00Z."
        ),
    ] = "",
    filter_: Annotated[
        str, typer.Option("--filter", help="Only lines with this text; a leading ! inverts it.")
    ] = "",
    match_case: Annotated[
        bool, typer.Option("--match-case", help="The filter is case-sensitive.")
    ] = False,
    namespace: Namespace = "",
) -> None:
    """Print the logs of an application's pods."""
    hub = current_hub()
    query = {
        "group": group,
        "kind": kind,
        "namespace": namespace_,
        "resourceName": resource_name,
        "container": container,
        "follow": follow,
        "previous": previous,
        "tailLines": tail,
        "sinceSeconds": since_seconds,
        "untilTime": until_time,
        "filter": filter_,
        "matchCase": match_case,
    }
    marked = not resource_name and _has_several_pods(hub, name, namespace)
    while True:
        for entry in hub.lines(apps.application_path(name, "logs", at=namespace, **query)):
            if entry.get("last") or "content" not in entry:
                continue
            mark = f"[{entry.get('podName')}] " if marked else ""
            print_line(f"{mark}{entry['content']}")
            sys.stdout.flush()
        if not follow:
            return
        # The hub ended the stream, for example during an update: reconnect for newer lines.
        query |= {"sinceSeconds": 1, "tailLines": 0}
        time.sleep(1)


def _has_several_pods(hub: Client, name: str, namespace: str) -> bool:
    found = hub.get(apps.application_path(name, "resource-tree", at=namespace)).get("nodes") or []
    return len([n for n in found if n.get("kind") == "Pod"]) > 1


@app.command("terminate-op")
def terminate_op(name: Name, namespace: Namespace = "") -> None:
    """End the running operation."""
    current_hub().delete(apps.application_path(name, "operation", at=namespace))
    print_line(f"Application '{name}' operation terminating")


@app.command("confirm-deletion")
def confirm_deletion(name: Name, namespace: Namespace = "") -> None:
    """Confirm deletions that wait for it."""
    current_hub().post(apps.application_path(name, "confirm-deletion", at=namespace), {})
    print_line(f"Application '{name}' updated successfully")


actions_app = typer.Typer(help="Actions of resources.", no_args_is_help=True)
app.add_typer(actions_app, name="actions")


@actions_app.command("list")
def actions_list(
    name: Name,
    kind: Kind = "",
    group: Group = "",
    resource_name: ResourceName = "",
    namespace_: ResourceNamespace = "",
    output: Output = "wide",
    namespace: Namespace = "",
) -> None:
    """List the actions on resources of an application."""
    hub = current_hub()
    rows: list[list[str]] = []
    found: list[Any] = []
    for node in apps.nodes(
        hub, name, namespace, kind=kind, group=group, name_=resource_name, namespace_=namespace_
    ):
        try:
            offers = (
                hub.get(
                    apps.application_path(
                        name, "resource", "actions", at=namespace, **apps.resource_query(node)
                    )
                ).get("actions")
                or []
            )
        except Problem:
            # A resource that was deleted since, or that the cluster does not serve, has no
            # actions.
            continue
        found += offers
        rows += [
            [
                node.get("group", ""),
                node["kind"],
                node["name"],
                o["name"],
                str(bool(o.get("disabled"))).lower(),
            ]
            for o in offers
        ]
    if not printed(found, output):
        table(["GROUP", "KIND", "NAME", "ACTION", "DISABLED"], rows)


@actions_app.command("run")
def actions_run(
    name: Name,
    action: Annotated[str, typer.Argument(help="Action.")],
    kind: Kind,
    group: Group = "",
    resource_name: ResourceName = "",
    namespace_: ResourceNamespace = "",
    param: Annotated[
        list[str] | None, typer.Option("--param", help="name=value; may be repeated.")
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="All matching resources instead of one.")
    ] = False,
    namespace: Namespace = "",
) -> None:
    """Run an action on a resource of an application."""
    hub = current_hub()
    given = [
        dict(zip(("name", "value"), appspec.pair(p, "--param"), strict=True)) for p in param or []
    ]
    for node in _chosen(hub, name, namespace, kind, group, resource_name, namespace_, every=all_):
        body = {"action": action, **apps.resource_query(node), "resourceActionParameters": given}
        hub.post(apps.application_path(name, "resource", "actions", "v2", at=namespace), body)
        print_line(f"{node['kind']} '{node['name']}': {action} done")
