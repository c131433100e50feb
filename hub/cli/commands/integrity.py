"""`flotilla proj source-integrity git policies`: the required signatures of commits."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from hub.cli.client import Client
from hub.cli.output import printed, table
from hub.cli.problem import Problem
from hub.cli.projects import Spec, change, read

app = typer.Typer(help="Required signatures of sources.", no_args_is_help=True)
git_app = typer.Typer(help="Git repositories.", no_args_is_help=True)
policies_app = typer.Typer(help="Policies: repositories and their keys.", no_args_is_help=True)
app.add_typer(git_app, name="git")
git_app.add_typer(policies_app, name="policies")

Project = Annotated[str, typer.Argument(metavar="PROJECT", help="Project.")]
Number = Annotated[int, typer.Argument(metavar="ID", help="Number that `list` shows.")]
Repos = Annotated[
    list[str] | None,
    typer.Option(
        "--repo-url", help="Glob of repositories; a leading ! excludes them; may be repeated."
    ),
]
Mode = Annotated[str, typer.Option("--gpg-mode", help="none, head or strict.")]
Keys = Annotated[
    list[str] | None, typer.Option("--gpg-key", help="Id of a key that may sign; may be repeated.")
]


def _policies(spec: Spec) -> list[dict[str, Any]]:
    return list(((spec.get("sourceIntegrity") or {}).get("git") or {}).get("policies") or [])


def _change(name: str, alter: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    def change_spec(spec: Spec) -> None:
        policies = alter(_policies(spec))
        spec["sourceIntegrity"] = {"git": {"policies": policies}} if policies else None

    change(name, change_spec)


def _policy(
    before: dict[str, Any], repos: list[str] | None, mode: str, keys: list[str] | None
) -> dict[str, Any]:
    gpg = dict(before.get("gpg") or {})
    if mode:
        gpg["mode"] = mode
    if keys:
        gpg["keys"] = keys
    return {
        **before,
        "repos": [{"url": u} for u in repos] if repos else before.get("repos") or [],
        "gpg": gpg,
    }


def _at(policies: list[dict[str, Any]], number: int) -> dict[str, Any]:
    if not 0 <= number < len(policies):
        raise Problem(
            f"the project has no policy {number}: "
            "flotilla proj source-integrity git policies list shows them"
        )
    return policies[number]


@policies_app.command("list")
def list_(
    name: Project,
    output: Annotated[str, typer.Option("--output", "-o", help="wide, json or yaml.")] = "wide",
) -> None:
    """List policies."""
    policies = _policies(read(Client.from_disk(), name)["spec"])
    if not printed(policies, output):
        table(
            ["ID", "GPG-MODE", "GPG-KEYS", "REPO-URLS"],
            [
                [
                    n,
                    (p.get("gpg") or {}).get("mode", "head"),
                    ",".join((p.get("gpg") or {}).get("keys") or []) or "-",
                    ",".join(r["url"] for r in p.get("repos") or []),
                ]
                for n, p in enumerate(policies)
            ],
        )


@policies_app.command("add")
def add(name: Project, repos: Repos = None, mode: Mode = "head", keys: Keys = None) -> None:
    """Add a policy."""
    if not repos:
        raise Problem("--repo-url is required: the repositories that the policy is about")
    _change(name, lambda policies: [*policies, _policy({}, repos, mode, keys)])


@policies_app.command("update")
def update(
    name: Project, number: Number, repos: Repos = None, mode: Mode = "", keys: Keys = None
) -> None:
    """Update a policy."""
    if not (repos or mode or keys):
        raise Problem("nothing to change: give --repo-url, --gpg-mode or --gpg-key")

    def changed(policies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        policies[number] = _policy(_at(policies, number), repos, mode, keys)
        return policies

    _change(name, changed)


@policies_app.command("delete")
def delete(name: Project, number: Number) -> None:
    """Delete a policy."""

    def without(policies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        _at(policies, number)
        del policies[number]
        return policies

    _change(name, without)
