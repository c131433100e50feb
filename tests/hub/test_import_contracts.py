"""The contracts of imports name every part of the hub: none is left out by being new."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
# Imports nothing of the apps by contracts of their own, or nobody imports it.
APART = {"cli", "migrations", "settings"}


def parts(folder: Path) -> set[str]:
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return modules | {path.parent.name for path in folder.glob("*/__init__.py")}


def layers(contract: dict) -> set[str]:
    return {
        name.strip(" ()")
        for layer in contract["layers"]
        for name in layer.replace(":", "|").split("|")
    }


def test_every_part_of_the_hub_has_its_place_beside_the_apps():
    first = next(c for c in CONTRACTS if c["name"] == "Imports go down this list, never up")
    listed = {name.removeprefix("hub.") for name in layers(first) if name.startswith("hub.")}
    assert listed == parts(ROOT / "hub") - APART


def test_every_package_of_the_hub_and_every_app_lists_its_modules():
    exhaustive = {
        container
        for contract in CONTRACTS
        if contract.get("exhaustive")
        for container in contract["containers"]
    }
    packages = {path.parent.name for path in (ROOT / "hub").glob("*/__init__.py")}
    apart = {"cli", "engine", "management", "migrations", "templatetags"}
    wanted = {f"hub.{name}" for name in packages - apart} | {
        "hub",
        "clusters",
        "projects",
        "appsets",
    }
    assert wanted <= exhaustive
