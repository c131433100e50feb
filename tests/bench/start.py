"""Cost of the start of the command line, against a bare Python.

Run: python tests/bench/start.py [rounds]. Prints CPU and wall seconds of each command: the least and the median.
"""

import os
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    **{
        f"flotilla {words}": [
            os.path.join(os.path.dirname(sys.executable), "flotilla"),
            *words.split(),
        ]
        for words in ("version --client", "--help", "proj --help", "app --help", "app sync --help")
    },
}


def measured(command: list[str]) -> tuple[float, float]:
    """Return the CPU and wall seconds of a command."""
    # Compiled modules are kept, as an installation has them.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before, since = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    after = os.times()
    used = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return used, time.perf_counter() - since


def main() -> None:
    """Print a row for each command."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):
        for name, command in COMMANDS.items():
            found[name].append(measured(command))
    print(f"{'command':28}{'CPU s':>16}{'wall s':>16}")
    for name, figures in found.items():
        # The first round fills the caches.
        columns = [
            "{:.2f} / {:.2f}".format(min(c), statistics.median(c))
            for c in zip(*figures[1:], strict=True)
        ]
        print(f"{name:28}{columns[0]:>16}{columns[1]:>16}")


if __name__ == "__main__":
    main()
