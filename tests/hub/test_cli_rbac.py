"""Policies are asked offline, as people who keep them in Git do."""

import os
import subprocess
import sys

import pytest

CSV = "p, role:team, applications, sync, team/*, allow\ng, alice, role:team\n"
CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-rbac-cm}
data:
  policy.default: role:readonly
  policy.csv: |
    p, role:team, applications, sync, team/*, allow
  policy.more.csv: |
    g, alice, role:team
"""


def rbac(tmp_path, text, *argv):
    path = tmp_path / "policy"
    path.write_text(text)
    command = [
        sys.executable,
        "-m",
        "hub.cli.main",
        "admin",
        "settings",
        "rbac",
        *argv,
        "--policy-file",
        str(path),
    ]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HUB_", "DJANGO"))}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        pytest.param(CSV, ["alice", "sync", "applications", "team/web"], "Yes", id="by role"),
        pytest.param(CSV, ["alice", "delete", "applications", "team/web"], "No", id="not given"),
        pytest.param(CSV, ["bob", "get", "applications", "team/web"], "No", id="nobody"),
        pytest.param(
            CSV,
            ["bob", "get", "applications", "team/web", "--default-role", "role:readonly"],
            "Yes",
            id="default role",
        ),
        pytest.param(
            CSV, ["role:admin", "delete", "clusters", "https://a"], "Yes", id="built-in role"
        ),
        pytest.param(
            CSV,
            ["role:admin", "delete", "clusters", "https://a", "--no-use-builtin-policy"],
            "No",
            id="without the built-in roles",
        ),
        pytest.param(
            CONFIG_MAP, ["alice", "sync", "applications", "team/web"], "Yes", id="ConfigMap"
        ),
        pytest.param(
            CONFIG_MAP, ["bob", "get", "projects"], "Yes", id="default role of the ConfigMap"
        ),
    ],
)
def test_can(tmp_path, text, question, answer):
    result = rbac(tmp_path, text, "can", *question)
    assert result.stdout.strip() == answer
    assert result.returncode == (0 if answer == "Yes" else 1)


def test_validate(tmp_path):
    assert rbac(tmp_path, CSV, "validate").stdout.strip() == "Policy is valid."
    bad = rbac(tmp_path, CSV + "p, a, applications, get\n", "validate")
    assert bad.returncode == 1
    assert "policy:3: invalid RBAC policy" in bad.stderr
    assert "role:nope" in rbac(tmp_path, CSV + "g, bob, role:nope\n", "validate").stderr


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (["a", "get", "aplications"], "is not a resource"),
        (["a", "look", "applications"], "is not an action"),
    ],
)
def test_bad_questions(tmp_path, question, words):
    result = rbac(tmp_path, CSV, "can", *question)
    assert result.returncode == 20
    assert words in result.stderr
    assert "Traceback" not in result.stderr
