"""No signal to the run leaves anything behind that it started under a guard."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel import guard, guard_process

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) > 2:  # a grandchild in a session of its own
    subprocess.Popen([sys.executable, __file__, sys.argv[1]], start_new_session=True)
open(f"{sys.argv[1]}/{os.getpid()}.up", "w").close()
time.sleep(300)
"""

OWNER = """
import sys, threading, time
from pathlib import Path
from flywheel import guard
folder = Path(sys.argv[1])
def start():
    guard.spawn([sys.executable, str(folder / "stubborn.py"), str(folder), "with child"],
                name="engine", log=folder / "log", pid_dir=folder / "pids")
thread = threading.Thread(target=start); thread.start(); thread.join()
time.sleep(300)
"""


def until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def alive(pids: list[int]) -> list[int]:
    found = [guard_process.find_process(pid) for pid in pids]
    return [p.pid for p in found if p and p.state != "Z"]


def ups(folder: Path) -> list[int]:
    return [int(p.stem) for p in folder.glob("*.up")]


@pytest.fixture
def owner(tmp_path: Path):
    """A run that started a command and its grandchild from a thread that has ended; neither heeds SIGTERM."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], start_new_session=True)
    assert until(lambda: len(ups(tmp_path)) == 2), "the command under the guard did not start"
    yield process
    process.kill()
    process.wait()
    for pid in alive(ups(tmp_path)):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_the_run(owner: subprocess.Popen, tmp_path: Path, number: signal.Signals) -> None:
    pids = ups(tmp_path)
    assert len(alive(pids)) == 2, "the death of the starting thread must not end the command"
    os.killpg(owner.pid, number)
    owner.wait()
    assert until(lambda: not alive(pids)), "processes survived their run"
    assert until(lambda: not list((tmp_path / "pids").iterdir()))


def test_reap_ends_what_a_killed_guard_left(owner: subprocess.Popen, tmp_path: Path) -> None:
    (file,) = (tmp_path / "pids").glob("*.json")
    entry = json.loads(file.read_text())
    assert guard.reap(tmp_path / "pids") == [], "the run lives, so nothing is left over"
    os.kill(owner.pid, signal.SIGSTOP)  # the run must not tidy up after its guard
    os.kill(entry["guard"]["pid"], signal.SIGSTOP)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    time.sleep(0.2)
    assert alive(ups(tmp_path)), "with its guard stopped the command goes on"
    assert guard.reap(tmp_path / "pids") == [f"engine (pid {entry['guard']['pid']})"]
    assert not alive(ups(tmp_path))
    assert not file.exists()


def test_reap_spares_a_process_that_took_the_pid(tmp_path: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        gone = {"pid": 2**22 - 1, "start": 1}
        entry = {"name": "engine", "command": [], "place": guard_process.this_place(), "owner": gone}
        entry["guard"] = {"pid": bystander.pid, "start": guard_process.identity_of(bystander.pid)["start"] + 1}
        (tmp_path / "engine-1.json").write_text(json.dumps(entry))
        assert guard.reap(tmp_path) == []
        assert bystander.poll() is None
        assert not list(tmp_path.iterdir())
    finally:
        bystander.kill()
        bystander.wait()


def test_reap_leaves_another_machine_alone(tmp_path: Path) -> None:
    elsewhere = {**guard_process.this_place(), "host": "elsewhere.example"}
    identity = {"pid": 1, "start": 1}
    file = tmp_path / "engine-1.json"
    file.write_text(json.dumps({"name": "e", "place": elsewhere, "owner": identity, "guard": identity}))
    assert guard.reap(tmp_path) == []
    assert file.exists()


def run(tmp_path: Path, code: str, **options) -> guard.Guarded:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return guard.spawn(command, name="job", log=tmp_path / "logs" / "job.log", pid_dir=tmp_path / "pids", **options)


def test_exit_code_output_and_environment(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    child = run(tmp_path, "import os; print('said', os.environ['WORD']); raise SystemExit(7)", env={"WORD": "hello"})
    assert child.wait(60) == 7
    assert child.returncode == 7
    assert guard.last_lines(child.log) == "said hello"
    assert capfd.readouterr() == ("", "")
    assert not list((tmp_path / "pids").iterdir())


def test_a_signal_shows_as_128_plus_n(tmp_path: Path) -> None:
    assert run(tmp_path, "import os; os.kill(os.getpid(), 9)").wait(60) == 137


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    child = guard.spawn(["/no/such/program"], name="job", log=tmp_path / "log", pid_dir=tmp_path / "pids")
    assert child.wait(60) == 127
    assert "cannot start '/no/such/program'" in guard.last_lines(tmp_path / "log")


def test_wait_times_out_and_terminate_ends(tmp_path: Path) -> None:
    child = run(tmp_path, "import time; time.sleep(300)")
    with pytest.raises(TimeoutError, match="still runs"):
        child.wait(0.1)
    assert child.terminate() == 128 + signal.SIGTERM, "SIGTERM was enough"
    assert child.terminate() == 128 + signal.SIGTERM


def test_what_a_finished_command_leaves_is_ended(tmp_path: Path) -> None:
    child = run(
        tmp_path,
        """
        import subprocess, sys
        print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True).pid)
        """,
    )
    assert child.wait(60) == 0
    assert not alive([int(guard.last_lines(child.log))])


def test_descriptors_reach_the_command_and_close_with_it(tmp_path: Path) -> None:
    read, write = os.pipe()
    child = run(tmp_path, f"import os; os.write({write}, b'through')", pass_fds=[write])
    os.close(write)
    assert os.read(read, 100) == b"through"
    assert os.read(read, 100) == b"", "the guard must not keep the pipe open"
    os.close(read)
    child.wait(60)


def test_the_spawner_is_one_thread_and_passes_errors_on() -> None:
    names = {guard.in_spawner(lambda: threading.current_thread().name) for _ in range(3)}
    assert names == {"flywheel-spawner"}
    with pytest.raises(ZeroDivisionError):
        guard.in_spawner(lambda: 1 // 0)
