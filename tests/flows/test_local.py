"""`flywheel run` through Prefect, in this process: what comes back, and whose fault a failure is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flywheel import guard_process
from flywheel.errors import StageError, UserError
from flywheel.flows import local
from flywheel.progress import Silent
from flywheel.run import Run


def test_the_champion_comes_back(prefect_api, toy, tmp_path):
    champion = local.run_local(toy, tmp_path / "run", None, Silent())
    assert champion == Run.load(tmp_path / "run").champion()
    assert not (tmp_path / ".prefect").exists(), "the configured server is used"


def test_the_servers_process_has_a_guard_that_ends_it(prefect_api):
    port = prefect_api.rpartition(":")[2].partition("/")[0]
    (server,) = [p for p in guard_process.all_processes() if p.parent != os.getpid() and said(p.pid, "uvicorn", port)]
    assert said(server.parent, "guard_process")


def said(pid: int, *words: str) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return False
    return all(any(word in part for part in command) for word in words)


def test_our_errors_come_back_as_they_are(prefect_api, toy, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("not a run")
    with pytest.raises(UserError, match="letter"):
        local.run_local(toy, tmp_path / "run", None, Silent())


def test_a_defect_of_ours_is_not_laid_on_prefect(prefect_api, toy, tmp_path, monkeypatch):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("flywheel.stages.evaluate.plan_evaluation", broken)
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


def test_a_server_that_does_not_answer_is_a_users_error_before_anything_is_begun(prefect_api, toy, tmp_path):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    nobody = "http://127.0.0.1:9/api"  # the discard port
    with (
        temporary_settings({PREFECT_API_URL: nobody}),
        pytest.raises(UserError, match=rf"no Prefect server answers at {nobody} .*--no-prefect"),
    ):
        local.run_local(toy, tmp_path / "run", None, Silent())
    assert not (tmp_path / "run").exists()
