"""`flywheel run` through a server of its own: it comes, works, and is gone however the run ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from flywheel.errors import StageError, UserError
from flywheel.flows import local
from flywheel.progress import Silent
from flywheel.run import Run

TINY = ["problems.count=40", "problems.dev=8", "problems.test=8", "evaluate.resamples=100", "stop.max_rounds=2"]


def test_the_champion_comes_back(prefect_api, toy, tmp_path):
    champion = local.run_local(toy, tmp_path / "run", None, Silent())
    assert champion == Run.load(tmp_path / "run").champion()
    assert not (tmp_path / ".prefect").exists(), "the configured server is used"


def test_our_errors_come_back_as_they_are(prefect_api, toy, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("not a run")
    with pytest.raises(UserError, match="letter"):
        local.run_local(toy, tmp_path / "run", None, Silent())


def test_a_defect_of_ours_is_not_laid_on_prefect(prefect_api, toy, tmp_path, monkeypatch):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("flywheel.stages.plan_evaluation", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        local.run_local(toy, tmp_path / "run", None, Silent())


class Lines(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def broken_end(monkeypatch) -> Any:
    """A flow engine that fails as Prefect does when its server has gone: before or after the work."""
    import httpx

    from flywheel.flows import expert_iteration as module

    real = module.expert_iteration

    def break_it(*, after_the_work: bool) -> None:
        def flow(**parameters: Any) -> None:
            if after_the_work:
                real(**parameters)
            raise httpx.ConnectError("all connection attempts failed")

        monkeypatch.setattr(module, "expert_iteration", flow)

    return break_it


def test_a_server_gone_after_the_work_is_no_failure(prefect_api, toy, tmp_path, broken_end):
    broken_end(after_the_work=True)
    reporter = Lines()
    champion = local.run_local(toy, tmp_path / "run", None, reporter)
    assert champion.index == Run.load(tmp_path / "run").champion().index
    assert any("its files are complete" in line for line in reporter.lines)


def test_a_server_gone_before_the_work_is_one_line_with_a_way_on(prefect_api, toy, tmp_path, broken_end):
    broken_end(after_the_work=False)
    with pytest.raises(StageError, match="--no-prefect"):
        local.run_local(toy, tmp_path / "run", None, Silent())


@pytest.fixture
def launch(tmp_path) -> Any:
    """Start `flywheel run` in its own session; ends it, and says what of it is still alive."""
    mark = uuid.uuid4().hex
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment |= {"HOME": str(tmp_path), "FLYWHEEL_TEST_MARK": mark}
    processes: list[subprocess.Popen[str]] = []

    def start(*settings: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flywheel.cli", "run", "toy", "--run-dir", "runs/toy"]
        for setting in (*TINY, *settings):
            command += ["--set", setting]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        processes.append(process)
        return process

    def alive() -> dict[int, str]:
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    yield start, alive
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def wait_until(look: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.slow
def test_a_run_with_a_server_of_its_own(launch, tmp_path):
    start, alive = launch
    process = start()
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    assert "champion" in output
    assert "prefect" not in output.lower(), "Prefect's own lines stay out of the terminal"
    assert (tmp_path / "runs" / ".prefect" / "prefect.db").exists()
    assert not (tmp_path / ".prefect").exists(), "nothing in the user's home"
    assert wait_until(lambda: not alive(), 10), alive()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_no_process_is_left_however_the_run_ends(launch, tmp_path, number, code):
    start, alive = launch
    process = start("policy.toy.delay_seconds=0.1", "sampling.chunk_problems=1")
    parts = tmp_path / "runs" / "toy" / "rounds" / "000" / "samples.parts"
    assert wait_until(lambda: any(parts.glob("*.parquet")) or process.poll() is not None, 120)
    assert process.poll() is None, process.stdout.read()
    assert any("uvicorn" in command for command in alive().values())
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert "Traceback" not in output
    assert wait_until(lambda: not alive(), 15), alive()
