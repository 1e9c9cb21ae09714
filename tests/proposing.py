"""Small runs whose problems come up as they go on, whole and killed in the middle."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from flywheel import store
from flywheel.fingerprint import file_digest
from flywheel.loop import spin
from flywheel.recipe import Recipe, load_recipe
from flywheel.run import Run
from flywheel.types import Problem

SMALL = ["problems.count=30", "problems.dev=8", "problems.test=4", "verify.workers=1", "evaluate.samples=2"]
SMALL += ["evaluate.resamples=100", "sampling.k=2", "policy.toy.skill=0.6"]
SCHEDULE = ["propose.kind=schedule", "propose.parameter=max_digits", "propose.start=3", "propose.count=10"]


def a_recipe(*overrides):
    return load_recipe("toy", [*SMALL, *SCHEDULE, *overrides])


def spun(recipe, directory: Path) -> Run:
    with Run.open(recipe, directory) as run:
        spin(run)
    return Run.load(directory)


def problem(id: str, prompt: str, split: str = "train", **more: str) -> Problem:
    return Problem(id, prompt, "5", split=split, **more)


def contents(directory: Path) -> dict[str, str]:
    """Digest of every file of a run that has no clock in it."""
    clocks = ("manifest.json", "run.json", "lock")
    files = (p for p in directory.rglob("*") if p.is_file() and p.name not in clocks and "logs" not in p.parts)
    return {p.relative_to(directory).as_posix(): file_digest(p) for p in files if "champion" not in p.parts}


def proposed(run: Run, index: int) -> list[Problem]:
    return store.read_rows(run.round(index).folder / "problems.parquet", Problem)


KILLED = """
import os, signal, sys
from flywheel import store
from flywheel.loop import spin
from flywheel.recipe import validate
from flywheel.run import Run

file, directory, recipe = sys.argv[1:]
write = store.replacing

def killed(path):
    if f"{path.parent.parent.name}/{path.parent.name}/{path.name}".endswith(file):
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path)

store.replacing = killed
with Run.open(validate(store.json.loads(recipe), where="test"), directory) as run:
    spin(run)
"""


def kill_a_run(recipe: Recipe, directory: Path, file: str) -> None:
    """Begin a run in a process of its own, which kills itself where it would write the `file`."""
    command = [sys.executable, "-c", KILLED, file, str(directory), recipe.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
