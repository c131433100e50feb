"""The command line as a person runs it."""

import os
import subprocess
import sys


class Command:
    """`flotilla` with a folder of its own."""

    def __init__(self, folder, **environment):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLOTILLA_", "ARGOCD_"))}
        self.environment = {
            **kept,
            "FLOTILLA_CONFIG_DIR": str(folder),
            "FLOTILLA_KEYRING": "off",
            **environment,
        }

    def run(self, *argv, stdin="", code=0, **environment):
        found = subprocess.run(
            [sys.executable, "-m", "hub.cli.main", *argv],
            capture_output=True,
            text=True,
            input=stdin,
            check=False,
            timeout=90,
            env={**self.environment, **environment},
        )
        assert "Traceback" not in found.stderr, found.stderr
        assert code is None or found.returncode == code, (
            f"{argv}: {found.returncode}\n{found.stdout}\n{found.stderr}"
        )
        return found

    def __call__(self, *argv, **how):
        return self.run(*argv, **how).stdout

    def refused(self, *argv, code=20, **how):
        found = self.run(*argv, code=code, **how)
        assert found.stderr.startswith("flotilla: ") and found.stderr.count("\n") == 1, found.stderr
        return found.stderr
