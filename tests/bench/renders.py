"""What a project waits for its renders alone, and beside one whose renders never end.

Run: python tests/bench/renders.py [renders] [hostile threads] [seconds of a render]. Prints milliseconds: the wall time of
a look at the sources, and in it the wait for a place to render.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("HUB_DATA_DIR", tempfile.mkdtemp(prefix="flotilla-bench-"))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")

import django

django.setup()

from datetime import timedelta

from django.conf import settings
from django.core.management import call_command
from support import renders
from support.gitserver import GitServer

from projects.sources import jsonnet


def served(count: int) -> str:
    """Return the URL of a repository of small renders and of such that never end."""
    root = Path(tempfile.mkdtemp(prefix="flotilla-bench-git-"))
    folder = root / "bench"
    for path, text in renders.files(2 * count + 10, 1000).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    git = ["git", "-C", str(folder), "-c", "user.name=bench", "-c", "user.email=bench@example.com"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "bench"]):
        subprocess.run([*git, *words], check=True)
    return f"{GitServer(root).url}/bench/.git"


def line(title: str, values: list[float]) -> str:
    """Return the median, the 95th percentile and the largest, in milliseconds."""
    parts = " ".join(f"{renders.part(values, p) * 1000:8.1f}" for p in (0.5, 0.95, 1.0))
    return f"{title:28}{parts}"


def main(count: int, threads: int, seconds: float) -> None:
    """Print the figures."""
    call_command("migrate", verbosity=0)
    settings.EXEC_TIMEOUT = timedelta(seconds=seconds)
    waits = renders.Waits()
    jsonnet.renderer = renders.pool(waits)
    url = served(count)
    revision = renders.revision_of(url, "quiet")
    renders.revision_of(url, "hostile")
    quiet = [f"quiet/{n}" for n in range(2 * count + 10)]
    renders.walls(url, "quiet", revision, quiet[:10])
    alone = renders.walls(url, "quiet", revision, quiet[10 : count + 10], 0.1)
    waits_alone, waits.found["quiet"] = waits.found["quiet"][10:], []
    with renders.hostile(url, revision, (f"hostile/{n}" for n in range(1000)), threads) as ended:
        beside = renders.walls(url, "quiet", revision, quiet[count + 10 :], 0.1)
    jsonnet.renderer.close()
    print(
        (
            f"{settings.RENDERERS} renderers; {threads} hostile threads: "
            f"{len(waits.found['hostile'])} renders began, {len(ended)} ended"
        )
    )
    print(f"{'milliseconds':28}     p50      p95      max")
    print(line("look alone", alone))
    print(line("look beside", beside))
    print(line("wait for a place, alone", waits_alone))
    print(line("wait for a place, beside", waits.found["quiet"]))


if __name__ == "__main__":
    main(
        int((sys.argv[1:] or ["100"])[0]),
        int((sys.argv[2:] or ["8"])[0]),
        float((sys.argv[3:] or ["3"])[0]),
    )
