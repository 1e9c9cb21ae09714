"""Doctor: what it looks at, and what it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from flywheel import doctor
from flywheel.cli import main


def test_it_looks_at_everything_a_run_needs():
    findings = {f.what: f for f in doctor.examine()}
    wanted = {"python", "packages", "engine", "gpu", "base", "workers", "sandbox", "disk", "prefect", "left over"}
    assert wanted <= set(findings)
    assert [f for f in findings.values() if f.mark == "bad" and f.what != "disk"] == []
    assert "vllm" in findings["engine"].text
    assert "prefect 3.7" in findings["packages"].text


LEAVER = """
import sys, time
from pathlib import Path
from flywheel import guard
folder = Path(sys.argv[1])
child = guard.spawn(["sleep", "300"], name="engine", log=folder / "logs/x.log", pid_dir=folder / "pids")
print(child.pid, flush=True)
time.sleep(300)
"""


def test_it_ends_what_a_run_left_whose_guard_was_killed_too(tmp_path, capsys):
    process = subprocess.Popen([sys.executable, "-c", LEAVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    guard_pid = int(process.stdout.readline())
    deadline = time.monotonic() + 20
    while not list((tmp_path / "pids").glob("*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = Path(f"/proc/{guard_pid}/task/{guard_pid}/children").read_text().split()
    os.kill(guard_pid, 9)
    process.kill()
    process.communicate()
    main(["doctor", str(tmp_path)])
    assert "left over" in capsys.readouterr().out
    assert list((tmp_path / "pids").glob("*.json")) == []
    for child in children:
        deadline = time.monotonic() + 10
        while _alive(int(child)):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_it_looks_into_runs_and_their_arms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    looked: list[str] = []
    monkeypatch.setattr(doctor.guard, "reap", lambda folder: looked.append(str(folder)) or [])
    for run in ("runs/demo", "runs/demo-arms/no_verifier"):
        Path(run, "pids").mkdir(parents=True)
    assert [finding.mark for finding in doctor._left_behind(None)] == ["ok"]
    assert looked == ["runs/demo/pids", "runs/demo-arms/no_verifier/pids"]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
