"""`flotilla proj windows`: sync windows of a project."""

from typing import Annotated, Any

import typer

from hub.cli.client import Client, path
from hub.cli.output import printed, table
from hub.cli.problem import Problem
from hub.cli.projects import change as change_project
from hub.cli.projects import dict_in_place, read

app = typer.Typer(help="Sync windows of a project.", no_args_is_help=True)

Project = Annotated[str, typer.Argument(metavar="PROJECT", help="Project.")]
Description = Annotated[str, typer.Option("--description", help="Description.")]
Output = Annotated[str, typer.Option("--output", "-o", help="wide, json, yaml or name.")]
_Names = Annotated[str, typer.Option(help="Patterns, separated by commas.")]
_Number = Annotated[int, typer.Argument(metavar="ID", help="Number that `windows list` shows.")]


@app.command("list")
def windows_list(name: Project, output: Output = "wide") -> None:
    """List windows."""
    hub = Client.from_disk()
    windows = read(hub, name)["spec"].get("syncWindows") or []
    if printed(windows, output):
        return
    active = hub.get(path("projects", name, "syncwindows")).get("windows") or []
    head = [
        "ID",
        "STATUS",
        "KIND",
        "SCHEDULE",
        "DURATION",
        "APPLICATIONS",
        "NAMESPACES",
        "CLUSTERS",
        "MANUALSYNC",
        "SYNCOVERRUN",
        "TIMEZONE",
        "USEANDOPERATOR",
    ]
    table(
        head,
        [
            [
                n,
                "Active" if w in active else "Inactive",
                w.get("kind", ""),
                w.get("schedule", ""),
                w.get("duration", ""),
                *(
                    ",".join(w.get(f) or []) or "-"
                    for f in ("applications", "namespaces", "clusters")
                ),
                "Enabled" if w.get("manualSync") else "Disabled",
                "Enabled" if w.get("syncOverrun") else "Disabled",
                w.get("timeZone") or "UTC",
                "Enabled" if w.get("andOperator") else "Disabled",
            ]
            for n, w in enumerate(windows)
        ],
    )


def _words(text: str) -> list[str]:
    return [w.strip() for w in text.split(",") if w.strip()]


@app.command("add")
def windows_add(
    name: Project,
    kind: Annotated[str, typer.Option("--kind", "-k", help="allow or deny.")],
    schedule: Annotated[str, typer.Option("--schedule", help="minute hour day month weekday.")],
    duration: Annotated[str, typer.Option("--duration", help="Such as 1h.")],
    applications: _Names = "",
    namespaces: _Names = "",
    clusters: _Names = "",
    manual_sync: Annotated[bool, typer.Option("--manual-sync", help="Allow manual syncs.")] = False,
    time_zone: Annotated[str, typer.Option("--time-zone", help="Such as Europe/Berlin.")] = "",
    use_and_operator: Annotated[
        bool,
        typer.Option(
            "--use-and-operator", help="Match only applications that meet all conditions."
        ),
    ] = False,
    sync_overrun: Annotated[
        bool, typer.Option("--sync-overrun", help="Let running syncs finish.")
    ] = False,
    description: Description = "",
) -> None:
    """Add a window."""
    entry = {
        "kind": kind,
        "schedule": schedule,
        "duration": duration,
        "applications": _words(applications),
        "namespaces": _words(namespaces),
        "clusters": _words(clusters),
        "manualSync": manual_sync,
        "timeZone": time_zone,
        "andOperator": use_and_operator,
        "syncOverrun": sync_overrun,
        "description": description,
    }
    change_project(
        name,
        lambda spec: spec.update(
            syncWindows=[*(spec.get("syncWindows") or []), {k: v for k, v in entry.items() if v}]
        ),
    )


def _window(spec: dict[str, Any], number: int) -> dict[str, Any]:
    windows = spec.get("syncWindows") or []
    if not 0 <= number < len(windows):
        raise Problem(f"the project has no window {number}: flotilla proj windows list shows them")
    return dict_in_place(windows[number])


@app.command("update")
def windows_update(
    name: Project,
    number: _Number,
    schedule: Annotated[
        str, typer.Option("--schedule", help="minute hour day month weekday.")
    ] = "",
    duration: Annotated[str, typer.Option("--duration", help="Such as 1h.")] = "",
    applications: _Names = "",
    namespaces: _Names = "",
    clusters: _Names = "",
    time_zone: Annotated[str, typer.Option("--time-zone", help="Such as Europe/Berlin.")] = "",
) -> None:
    """Update a window."""
    given = {
        "schedule": schedule,
        "duration": duration,
        "timeZone": time_zone,
        "applications": _words(applications),
        "namespaces": _words(namespaces),
        "clusters": _words(clusters),
    }
    changes = {k: v for k, v in given.items() if v}
    if not changes:
        raise Problem(
            "nothing to change: give --schedule, --duration, --applications, --namespaces, "
            "--clusters or --time-zone"
        )
    change_project(name, lambda spec: _window(spec, number).update(changes))


@app.command("delete")
def windows_delete(name: Project, number: _Number) -> None:
    """Delete a window."""

    def change(spec: dict[str, Any]) -> None:
        gone = _window(spec, number)
        spec["syncWindows"] = [w for w in spec["syncWindows"] if w is not gone]

    change_project(name, change)


def _switch(command: str, field: str, *, on: bool, text: str) -> None:
    def run(name: Project, number: _Number) -> None:
        change_project(name, lambda spec: _window(spec, number).update({field: on}))

    run.__doc__ = text
    app.command(command, help=text)(run)


_switch("enable-manual-sync", "manualSync", on=True, text="Allow manual syncs during a window.")
_switch("disable-manual-sync", "manualSync", on=False, text="Refuse manual syncs during a window.")
_switch(
    "enable-sync-overrun",
    "syncOverrun",
    on=True,
    text="Let syncs that began before a window finish.",
)
_switch(
    "disable-sync-overrun", "syncOverrun", on=False, text="Stop syncs that began before a window."
)
