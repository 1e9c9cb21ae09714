"""Kill a run with SIGKILL at random moments of its stages, go on with the same command, and check what is left.

    python benchmarks/kill.py                      # toy policy, ten kills, a minute or two
    python benchmarks/kill.py --recipe demo        # the real engine and trainer

After each kill of the run's whole process group: every process of the run has gone within a few seconds.
In the end: the run is complete, every planned sample is there once, and every row that stood on disk when
a kill came is in the finished files as it was, so no finished chunk was sampled twice. Exit code 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from flywheel import store
from flywheel.manifest import Manifest
from flywheel.run import Run
from flywheel.types import Sample, Split

MARK = "FLYWHEEL_KILL_BENCHMARK"
STAGES = ("sample", "verify", "train", "evaluate")
PATIENCE_SECONDS = {"toy": 3.0}
"""How long a kill waits for the stage it aims at; then it strikes whatever works. Three minutes for real models."""
GONE_SECONDS = 20.0
SLOW_VERIFIER = '''
import time
from flywheel.verifiers.math import Math

class Slow(Math):
    """The maths verifier, slow enough to be hit while it works."""
    def verify(self, problem, completion):
        time.sleep({seconds})
        return super().verify(problem, completion)
'''
VERIFY_SECONDS = {"toy": 0.02}
"""How long the slow verifier takes for a completion; a quarter of a second where a real model samples meanwhile."""


def main() -> int:
    """Read the command line, kill, report; 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="toy")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prefect", action="store_true", help="through the Prefect flow, `flywheel run`'s default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flywheel-kill-") as folder:
        return Killer(arguments, Path(folder)).work()


class Killer:
    """One run, killed again and again."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.folder, self.directory = folder, folder / "run"
        self.kills = arguments.kills
        self.patience = PATIENCE_SECONDS.get(arguments.recipe, 180.0)
        self.random = random.Random(arguments.seed)
        self.token = f"{os.getpid()}-{arguments.seed}"
        overrides = list(arguments.set)
        slow = folder / "slow.py"
        slow.write_text(SLOW_VERIFIER.format(seconds=VERIFY_SECONDS.get(arguments.recipe, 0.25)))
        overrides.append(f"verify.verifier={slow}:Slow")
        if arguments.recipe == "toy":
            overrides.append("policy.toy.delay_seconds=0.06")
        self.command = [sys.executable, "-m", "flywheel.cli", "run", arguments.recipe, "--run-dir", str(self.directory)]
        self.command += [] if arguments.prefect else ["--no-prefect"]
        self.command += [part for setting in overrides for part in ("--set", setting)]
        self.seen: dict[str, Sample] = {}
        self.bad: list[str] = []

    def work(self) -> int:
        """Kill, check, finish, check."""
        for number in range(self.kills):
            target = STAGES[number % len(STAGES)]
            self._kill_once(number, target)
        finished = subprocess.run(self.command, env=self._environment(), capture_output=True, text=True, check=False)
        if finished.returncode:
            self.bad.append(f"the last command ended with {finished.returncode}: {finished.stderr.strip()[-500:]}")
        else:
            self._check_files()
        for line in self.bad:
            print(f"BAD  {line}")
        print(f"{self.kills} kills, {len(self.seen)} samples stood on disk at a kill, {len(self.bad)} things wrong")
        return 1 if self.bad else 0

    def _environment(self) -> dict[str, str]:
        return {**os.environ, MARK: self.token}

    def _kill_once(self, number: int, target: str) -> None:
        with (self.folder / f"run-{number}.log").open("w") as log:
            process = subprocess.Popen(
                self.command,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            reached = self._wait_for(process, target)
            time.sleep(self.random.uniform(0, 0.3))
            stage = self._stage() or "between stages"
            if process.poll() is not None:
                tail = (self.folder / f"run-{number}.log").read_text()[-300:]
                if process.returncode:
                    self.bad.append(f"kill {number}: the run ended by itself with {process.returncode}: {tail}")
                print(f"kill {number}: the run had ended before {target} came", flush=True)
                return
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = self._until_gone(number)
        before = len(self.seen)
        self._remember()
        print(
            f"kill {number} during {stage}{'' if reached else f' ({target} was not reached)'}: "
            f"all processes gone after {seconds:.1f} s, {len(self.seen) - before} more samples on disk",
            flush=True,
        )

    def _wait_for(self, process: subprocess.Popen[bytes], target: str) -> bool:
        deadline = float("inf")
        while time.monotonic() < deadline and process.poll() is None:
            stage = self._stage()
            if stage == target:
                return True
            if stage is not None:  # it has begun to work: from here on patience is finite
                deadline = min(deadline, time.monotonic() + self.patience)
            time.sleep(0.005)
        return False

    def _stage(self) -> str | None:
        """The stage that works now, read from the run's folder."""
        if not (self.directory / "run.json").exists():
            return None
        base = self.directory / "base"
        if list(base.glob("dev_samples.parts/0*")) and not (base / "dev_samples.parquet").exists():
            return "evaluate"
        for folder in sorted((self.directory / "rounds").glob("[0-9]*"), reverse=True)[:1]:
            done = Manifest(folder).entries()
            if "train" in done:
                return "evaluate" if "evaluate" not in done and list(folder.glob("dev_samples.parts/0*")) else None
            if "filter" in done:
                return "train" if (folder / "train.parts").exists() else None
            if "sample" in done:
                return "verify" if "verify" not in done else None
            return "sample" if list(folder.glob("samples.parts/0*")) else None
        return None

    def _until_gone(self, number: int) -> float:
        started = time.monotonic()
        while left := self._marked():
            if time.monotonic() - started > GONE_SECONDS:
                self.bad.append(f"kill {number}: still there after {GONE_SECONDS:g} s: {left}")
                break
            time.sleep(0.05)
        return time.monotonic() - started

    def _marked(self) -> list[str]:
        """Command lines of living processes that carry this benchmark's mark in their environment."""
        mark, found = f"{MARK}={self.token}".encode(), []
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(f"{process.name} {(process / 'cmdline').read_bytes()[:80]!r}")
            except OSError:  # it has ended meanwhile, or is a zombie
                continue
        return found

    def _remember(self) -> None:
        parts = (path for folder in self.directory.rglob("*samples.parts") for path in folder.glob("0*.parquet"))
        for path in sorted([*parts, *self.directory.rglob("*samples.parquet")]):
            for row in store.read_rows(path, Sample):
                if self.seen.setdefault(row.id, row) != row:
                    self.bad.append(f"{row.id} was sampled twice")

    def _check_files(self) -> None:
        if left := self._marked():
            self.bad.append(f"left after the end: {left}")
        run = Run.load(self.directory)
        if run.ended() is None:
            self.bad.append("the run has not ended")
        rows: dict[str, Sample] = {}
        for path in sorted(self.directory.rglob("*samples.parquet")):
            for row in store.read_rows(path, Sample):
                if row.id in rows:
                    self.bad.append(f"{row.id} is there twice")
                rows[row.id] = row
        recipe = run.recipe
        measured = {0, run.champion().index}
        train = min(recipe.sampling.problems or 10**9, len(run.split(Split.TRAIN)))
        expected = (
            len(run.rounds()) * train * recipe.sampling.k
            + len(run.generations()) * len(run.split(Split.DEV, with_ood=True)) * recipe.evaluate.samples
            + len(measured) * len(run.split(Split.TEST)) * recipe.evaluate.samples
        )
        if len(rows) != expected:
            self.bad.append(f"{len(rows)} samples where {expected} were planned")
        changed = [i for i, row in self.seen.items() if rows.get(i) != row]
        if changed:
            self.bad.append(f"{len(changed)} samples that stood on disk were lost or sampled again: {changed[:3]}")
        print(f"finished: {len(rows)} samples, each once; champion generation {run.champion().index}")


if __name__ == "__main__":
    sys.exit(main())
