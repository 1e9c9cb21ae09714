"""`flywheel run` as a process of its own with its own Prefect server: nothing is left however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TINY = ["problems.count=40", "problems.dev=8", "problems.test=8", "evaluate.resamples=100", "stop.max_rounds=2"]


class Workspace:
    """A folder to run in, as a user without settings of their own; all that starts there carries its mark."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *settings: str) -> subprocess.Popen[str]:
        """`flywheel run` in a session of its own."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        environment |= {"HOME": str(self.folder), "FLYWHEEL_TEST_MARK": self.mark}
        command = [sys.executable, "-m", "flywheel.cli", "run", "toy", "--run-dir", "runs/toy"]
        for setting in (*TINY, *settings):
            command += ["--set", setting]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def alive(self) -> dict[int, str]:
        """What of it lives: process id and command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and self.mark.encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def wait_until(look: Callable[[], Any], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Iterator[tuple[Workspace, int, str]]:
    """A workspace after its first run: with the run's exit code and output."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    process = workspace.start()
    output, _ = process.communicate(timeout=300)
    yield workspace, process.returncode, output
    workspace.close()


@pytest.fixture
def workspace(finished, tmp_path) -> Iterator[Workspace]:
    """A workspace that was used before: Prefect's database, which takes as long to make as a run, is there."""
    shutil.copytree(finished[0].folder / "runs" / ".prefect", tmp_path / "runs" / ".prefect")
    workspace = Workspace(tmp_path)
    yield workspace
    workspace.close()


@pytest.mark.slow
def test_a_run_with_a_server_of_its_own(finished):
    workspace, code, output = finished
    assert code == 0, output
    assert "champion" in output
    assert "prefect" not in output.lower(), "Prefect's own lines stay out of the terminal"
    assert (workspace.folder / "runs" / ".prefect" / "prefect.db").exists()
    assert not (workspace.folder / ".prefect").exists(), "nothing in the user's home"
    assert wait_until(lambda: not workspace.alive(), 60), workspace.alive()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_no_process_is_left_however_the_run_ends(workspace, number, code):
    process = workspace.start("policy.toy.delay_seconds=0.1", "sampling.chunk_problems=1")
    parts = workspace.folder / "runs" / "toy" / "rounds" / "000" / "samples.parts"
    assert wait_until(lambda: any(parts.glob("*.parquet")) or process.poll() is not None, 240)
    assert process.poll() is None, process.stdout.read()
    assert any("uvicorn" in command for command in workspace.alive().values())
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code, output
    assert "Traceback" not in output
    assert wait_until(lambda: not workspace.alive(), 60), workspace.alive()
