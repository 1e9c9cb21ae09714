"""A real server and a process worker: deploy, submit, cancel, kill, resume, and a schedule that fires."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from flywheel import guard
from flywheel.flows.local import _free_port
from flywheel.flows.submit import submit
from flywheel.recipe import load_recipe
from flywheel.run import Run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
TINY = ["problems.count=40", "problems.dev=8", "problems.test=8", "evaluate.resamples=100", "stop.max_rounds=2"]
SLOW = [*TINY, "policy.toy.delay_seconds=0.1", "sampling.chunk_problems=1"]

T = TypeVar("T")
PATIENCE = 300.0  # seconds, after which something hangs; a busy machine needs many times what a quiet one does


def wait_for(look: Callable[[], T], seconds: float, what: str) -> T:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"no {what} within {seconds:g} s"
        time.sleep(0.2)
    return found


@dataclass
class Lab:
    """A workspace with a server and a worker of its own. Everything it starts carries its mark in the environment."""

    folder: Path
    port: int = field(default_factory=_free_port)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: list[guard.Guarded] = field(default_factory=list)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        lines = (ROOT / "deploy" / "server.env").read_text().splitlines()
        server = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        home = self.folder / "home"
        return {
            **server,
            "FLYWHEEL_TEST_MARK": self.mark,
            "PWD": str(self.folder),
            "PREFECT_HOME": str(home),
            "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
            "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home / "storage"),
            "PREFECT_MEMO_STORE_PATH": str(home / "memo_store.toml"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }

    def start(self, name: str, command: list[str]) -> None:
        # The shell stays when its command is killed, so that the guard does not sweep what that command leaves behind.
        shell = ["sh", "-c", f'cd {self.folder} && "$@" & wait; sleep 3600', "sh", *command]
        log, pids = self.folder / f"{name}.log", self.folder / "pids"
        self.started.append(guard.spawn(shell, name=name, log=log, pid_dir=pids, env=self.environment))

    def prefect(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=self.folder,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start_worker(self) -> None:
        self.start("worker", [sys.executable, "-m", "prefect", "worker", "start", "--pool", "flywheel"])

    def request(self, method: str, path: str, **options: Any) -> Any:
        for _ in range(5):
            answer = httpx.request(method, f"{self.api}{path}", timeout=120, **options)
            if answer.status_code != 503:  # SQLite was locked; Prefect's own clients try again as well
                break
            time.sleep(1)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def state(self, flow_run: str) -> dict[str, Any]:
        return self.request("GET", f"/flow_runs/{flow_run}")["state"]

    def wait_for_state(self, flow_run: str, wanted: str, seconds: float = PATIENCE) -> dict[str, Any]:
        final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

        def ended() -> bool:
            return self.state(flow_run)["type"] in final

        wait_for(ended, seconds, f"end of the flow run (it should be {wanted})")
        state = self.state(flow_run)
        assert state["type"] == wanted, f"{state}\n{self.logs(flow_run)}"
        return state

    def logs(self, flow_run: str) -> str:
        found = self.request("POST", "/logs/filter", json={"logs": {"flow_run_id": {"any_": [flow_run]}}, "limit": 200})
        return "\n".join(f"{log['name']}: {log['message']}" for log in found)

    def processes(self) -> dict[int, str]:
        """Everything alive that descends from this lab: process id and command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if self.mark.encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (OSError, ValueError):
                continue
        return found

    def of_flows(self) -> dict[int, str]:
        """Flow processes and everything below them: what knows its flow run by the environment."""
        found = {}
        for pid, command in self.processes().items():
            try:
                if b"PREFECT__FLOW_RUN_ID=" in Path(f"/proc/{pid}/environ").read_bytes():
                    found[pid] = command
            except OSError:
                continue
        return found

    def flow_process(self) -> int:
        """The process that runs the flow itself: the one that has no parent among the flow's."""
        flows = self.of_flows()
        parents = {pid: int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) for pid in flows}
        (top,) = [pid for pid, parent in parents.items() if parent not in flows]
        return top

    def no_flow_left(self, seconds: float = 60) -> None:
        wait_for(lambda: not self.of_flows(), seconds, f"end of {self.of_flows()}")

    def submit(self, name: str, settings: list[str], rounds: int | None = None) -> str:
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: self.api}):
            return submit("toy", settings, run_dir=f"runs/{name}", rounds=rounds).rsplit("/", 1)[1]

    def sampling(self, name: str) -> None:
        parts = self.folder / "runs" / name / "rounds" / "000" / "samples.parts"
        wait_for(lambda: len(list(parts.glob("*.parquet"))) >= 3, PATIENCE, f"samples in {parts}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    shutil.copy(ROOT / "prefect.yaml", lab.folder)
    try:
        lab.start("server", [sys.executable, "-m", "prefect", "server", "start"])
        wait_for(lambda: _answers(lab), PATIENCE, f"server ({lab.folder / 'server.log'})")
        lab.prefect("work-pool", "create", "flywheel", "--type", "process")
        lab.prefect("deploy", "--all")
        lab.start_worker()
        yield lab
    finally:
        for process in reversed(lab.started):
            process.terminate()
        left = lab.processes()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert not left, f"left over: {left}"


def _answers(lab: Lab) -> bool:
    try:
        return bool(lab.request("GET", "/health"))
    except httpx.HTTPError:
        return False


def test_a_submitted_run_completes(lab):
    flow_run = lab.submit("whole", TINY)
    lab.wait_for_state(flow_run, "COMPLETED")
    run = Run.load(lab.folder / "runs" / "whole")
    assert run.ended()
    assert len(run.rounds()) == 2
    assert (run.directory / "report.html").exists()
    assert "flywheel.run: round 0 · sample · done" in lab.logs(flow_run)
    found = lab.request("POST", "/artifacts/filter", json={"flow_runs": {"id": {"any_": [flow_run]}}})
    assert {"whole-generations", "whole-gate", "whole-report"} <= {a["key"] for a in found}
    lab.no_flow_left()


def test_a_cancel_during_sampling_leaves_nothing_and_the_run_goes_on(lab):
    flow_run = lab.submit("cancelled", SLOW, rounds=1)
    lab.sampling("cancelled")
    assert len(lab.of_flows()) > 1, "the verifier's workers should be seen"
    lab.request("POST", f"/flow_runs/{flow_run}/set_state", json={"state": {"type": "CANCELLING"}})
    lab.wait_for_state(flow_run, "CANCELLED")
    lab.no_flow_left()
    parts = list((lab.folder / "runs" / "cancelled" / "rounds" / "000" / "samples.parts").glob("*.parquet"))
    assert parts, "finished chunks are kept"
    # The lock is free, and the knob `delay_seconds` may change: the same run goes on.
    again = lab.submit("cancelled", TINY, rounds=1)
    lab.wait_for_state(again, "COMPLETED")
    assert Run.load(lab.folder / "runs" / "cancelled").history()[0].accepted is not None


def test_a_killed_flow_leaves_nothing(lab):
    flow_run = lab.submit("killed", SLOW, rounds=1)
    lab.sampling("killed")
    os.kill(lab.flow_process(), signal.SIGKILL)
    lab.no_flow_left()
    lab.wait_for_state(flow_run, "CRASHED")
    Run.load(lab.folder / "runs" / "killed")


def test_a_flow_outlives_its_worker(lab):
    flow_run = lab.submit("orphaned", SLOW, rounds=1)
    lab.sampling("orphaned")
    workers = [
        pid for pid, command in lab.processes().items() if "prefect worker start" in command and "sh -c" not in command
    ]
    for pid in set(workers) - lab.of_flows().keys():
        if "guard.py" not in lab.processes()[pid]:
            os.kill(pid, signal.SIGKILL)
    lab.wait_for_state(flow_run, "COMPLETED")
    lab.no_flow_left()
    lab.start_worker()


def test_a_schedule_advances_a_run_by_a_round_and_stops_at_the_cap(lab):
    deployment = lab.request("GET", "/deployments/name/expert-iteration/nightly")
    recipe = load_recipe("toy", TINY).model_dump(mode="json")
    schedule = {
        "active": True,
        "schedule": {"interval": 15, "anchor_date": "2020-01-01T00:00:00Z"},
        "parameters": {"recipe": recipe, "run_dir": "runs/scheduled", "rounds": 1},
    }
    (made,) = lab.request("POST", f"/deployments/{deployment['id']}/schedules", json=[schedule])

    def completed() -> list[dict[str, Any]]:
        body = {
            "deployments": {"id": {"any_": [deployment["id"]]}},
            "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
        }
        return lab.request("POST", "/flow_runs/filter", json=body)

    try:
        wait_for(lambda: len(completed()) >= 3, PATIENCE, "third scheduled run")
    finally:
        lab.request("DELETE", f"/deployments/{deployment['id']}/schedules/{made['id']}")
    runs = sorted(completed(), key=lambda run: run["start_time"])[:3]
    assert all(run["auto_scheduled"] for run in runs)
    assert [lab.logs(run["id"]).count("gate · done") for run in runs] == [1, 1, 0]
    run = Run.load(lab.folder / "runs" / "scheduled")
    assert len(run.rounds()) == run.recipe.stop.max_rounds == 2
    lab.no_flow_left()
