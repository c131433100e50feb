"""The lock files hold a version for every dependency, and one that pyproject.toml accepts."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def name_of(text):
    return re.sub(r"[-_.]+", "-", text).lower()


def locked(file):
    lines = (ROOT / file).read_text().splitlines()
    pins = [line.split(" ")[0].split("==") for line in lines if re.match(r"^[A-Za-z0-9].*==", line)]
    return {name_of(name.split("[")[0]): version for name, version in pins}


@pytest.mark.parametrize(
    ("file", "requirements"),
    [
        pytest.param("requirements.lock", EXTRAS["keyring"], id="production"),
        pytest.param("requirements-dev.lock", EXTRAS["dev"], id="development"),
    ],
)
def test_the_lock_satisfies_every_requirement(file, requirements):
    versions = locked(file)

    for text in PROJECT["dependencies"] + requirements:
        requirement = Requirement(text)
        version = versions.get(name_of(requirement.name))
        assert version, f"{file} has no version of {requirement.name}: run `make lock`"
        assert requirement.specifier.contains(version), (
            f"{file} has {requirement.name} {version}, pyproject.toml wants "
            f"{requirement.specifier}: run `make lock`"
        )
