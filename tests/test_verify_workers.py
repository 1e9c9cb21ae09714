"""What a worker leaves behind, how it is replaced, and what it tells its verifier."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel import StageError
from flywheel.judging import seconds_left
from tests.verify_plugins import (
    judged,
    outcomes,
    pool_of,
    writer,
)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], str]:
    return writer(tmp_path_factory.mktemp("plugins"))


# -- what a worker leaves behind -------------------------------------------------------------------

DAEMON = """
import os, time

class Daemon:
    def verify(self, problem, completion):
        word, note = completion.split(" ")
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                with open(note + ".part", "w") as out: out.write(f"{os.getpid()}")
                os.rename(note + ".part", note)
                time.sleep(600)
            os._exit(0)
        while not os.path.exists(note): time.sleep(0.01)
        if word == "hang": time.sleep(600)
        return True
"""


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int) -> bool:
    ends = time.monotonic() + 5.0
    while lives(pid) and time.monotonic() < ends:
        time.sleep(0.02)
    return not lives(pid)


@pytest.mark.parametrize("word", ["hang", "close", "die"])
def test_a_daemon_in_a_session_of_its_own_ends_with_its_worker(plugin, tmp_path: Path, word: str) -> None:
    note = tmp_path / "pid"
    pool = pool_of(plugin(DAEMON, "Daemon"))
    try:
        verdicts = judged(pool, f"{word} {note}")
        daemon = int(note.read_text())
        if word == "hang":
            assert outcomes(verdicts) == ["timeout"] and gone(daemon)
        elif word == "close":
            assert lives(daemon)
            pool.close()
            assert gone(daemon)
        else:  # as when the run's process is killed: the kernel sends this signal
            os.kill(pool._forker._process.pid, 15)
            assert gone(daemon)
            with pytest.raises(StageError):
                judged(pool, f"close {tmp_path / 'other'}")
                judged(pool, f"close {tmp_path / 'third'}")
    finally:
        pool.close()


# -- leaks -----------------------------------------------------------------------------------------

LEAKY = """
import os, resource
hoard = []

class Leaky:
    def verify(self, problem, completion):
        if completion == "leak": hoard.append(bytearray(48 << 20))
        return {"score": 1.0, "detail": f"{os.getpid()} {len(hoard)}"}
"""


def test_a_leak_ends_with_its_worker_and_costs_one_sample(plugin) -> None:
    """Memory that a verifier keeps is under the same limit; the completion that meets the limit pays, and no other."""
    with pool_of(plugin(LEAKY, "Leaky"), memory_gib=0.125) as pool:
        verdicts = judged(pool, *["leak"] * 3, "other", "other")
        assert outcomes(verdicts) == ["correct", "correct", "timeout", "correct", "correct"]
        assert verdicts[2].detail.startswith("ran out of memory")
        assert verdicts[3].detail.endswith(" 0")


def test_workers_are_replaced_after_a_while(plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flywheel.verify.RECYCLE_AFTER", 10)
    with pool_of(plugin(LEAKY, "Leaky")) as pool:
        verdicts = [judged(pool, "other")[0] for _ in range(25)]
    assert len({v.detail for v in verdicts}) == 3


def test_a_prepare_that_fails_is_an_error_and_leaves_the_deadline_in_force(plugin) -> None:
    source = """
import time
class Unprepared:
    def prepare(self):
        raise OSError("no such table")
    def verify(self, problem, completion):
        if completion == "hang": time.sleep(600)
        self.prepare()
"""
    with pool_of(plugin(source, "Unprepared")) as pool:
        verdicts = judged(pool, "x", "hang", "x")
        assert outcomes(verdicts) == ["error", "timeout", "error"]
        assert verdicts[0].detail == "OSError: no such table"


TELLS = """
import asyncio, time
from flywheel import seconds_left

def told():
    return {"score": 1.0, "detail": str(seconds_left())}

class Single:
    ready = False
    def prepare(self):
        time.sleep(1.5)
        self.ready = True
    def verify(self, problem, completion):
        if not self.ready: self.prepare()
        return told()

class Async:
    async def verify(self, problem, completion):
        await asyncio.sleep(0)
        return told()

class Batch(Single):
    def verify_batch(self, problems, completions):
        return [told() for _ in completions]

class Group(Single):
    def verify_group(self, problem, completions):
        return [told() for _ in completions]
"""


@pytest.mark.parametrize(("name", "calls"), [("Single", 1), ("Async", 1), ("Batch", 2), ("Group", 2)])
def test_a_verifier_knows_how_much_time_its_call_has_left(tmp_path: Path, name: str, calls: int) -> None:
    file = tmp_path / "tells.py"
    file.write_text(TELLS)
    assert seconds_left() is None
    with pool_of(f"{file}:{name}", workers=1, deadline_seconds=2.0) as pool:
        verdicts = judged(pool, *["x"] * 8)
    left = [float(v.detail) for v in verdicts]
    # A batch has the time of as many single calls, and loading is on nobody's clock.
    assert all(0.5 < seconds <= 16.0 for seconds in left), left
    assert max(left) > 2.0 if calls > 1 else max(left) <= 2.0
