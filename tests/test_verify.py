"""A verifier that misbehaves costs one sample, and nothing that verification starts outlives it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flywheel import PluginError, Problem, Sample, StageError, Verdict
from flywheel.recipe import VerifySection
from flywheel.verify import VerifierPool

# Does what the completion tells it to, so that a test can misbehave at will.
OBEDIENT = """
import ctypes, os, subprocess, sys, time, threading
from dataclasses import dataclass

class Odd(BaseException):
    pass

class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no")

@dataclass
class Obedient:
    name = "obedient"
    version = "3"
    isolation = "none at all"
    greeting: str = "hello"

    def verify(self, problem, completion):
        word, _, rest = completion.partition(" ")
        if word == "right": return True
        if word == "wrong": return False
        if word == "hang": time.sleep(600)
        if word == "spin":
            while True: pass
        if word == "hang_in_c": ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock
        if word == "raise": raise ValueError("a\\nreason")
        if word == "raise_odd": raise Odd
        if word == "raise_unprintable": raise Unprintable
        if word == "nan": return float("nan")
        if word == "exit": sys.exit(0)
        if word == "hard_exit": os._exit(7)
        if word == "segfault": ctypes.string_at(0)
        if word == "memory":
            hoard = []
            while True: hoard.append(bytearray(64 << 20))
        if word == "print":
            for _ in range(64): print("x" * (1 << 20)); sys.stderr.write("x" * (1 << 20))
            os.write(1, b"y" * 1000); os.write(2, b"y" * 1000)
            return True
        if word == "print_a_gigabyte":
            for _ in range(1024): os.write(1, b"x" * (1 << 20))
            sys.stderr.write("x" * (1 << 20))
            return True
        if word == "child":
            child = subprocess.Popen(["sleep", "600"])
            with open(rest, "w") as out: out.write(str(child.pid))
            time.sleep(600)
        if word == "say": return {"score": 1.0, "answer": problem.answer, "detail": self.greeting + problem.meta["tail"]}
        if word == "pid": return {"score": 1.0, "detail": str(os.getpid())}
        if word == "modules": return {"score": 1.0, "detail": ",".join(m for m in ("torch", "vllm", "sympy", "prefect", "pydantic") if m in sys.modules)}
"""  # noqa: E501 - a program

SLOW_START = """
import time

class SlowStart:
    prepared = False

    def prepare(self):
        time.sleep(0.8)
        SlowStart.prepared = True
        with open(__file__ + ".prepared", "a") as note:
            note.write("once more\\n")

    def verify(self, problem, completion):
        if not SlowStart.prepared:
            self.prepare()
        if completion == "hang":
            time.sleep(600)
        return True
"""

PROBLEM = Problem(id="p", prompt="?", answer="forty-two", meta={"tail": " there"})


def sample(index: int, completion: str, problem_id: str = "p") -> Sample:
    return Sample(f"s{index}", problem_id, 0, 0, index, completion, "stop", 1, 1.0, "", "policy")


def judged(pool: VerifierPool, *completions: str, problem: Problem = PROBLEM) -> list[Verdict]:
    samples = [sample(i, c, problem.id) for i, c in enumerate(completions)]
    verdicts = pool.submit([problem], samples).result(60)
    assert [v.sample_id for v in verdicts] == [s.id for s in samples]
    return verdicts


def outcomes(verdicts: list[Verdict]) -> list[str]:
    return [v.outcome for v in verdicts]


@pytest.fixture(scope="module")
def obedient(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("plugin") / "obedient.py"
    path.write_text(OBEDIENT)
    return f"{path}:Obedient"


def pool_of(name: str, **settings: Any) -> VerifierPool:
    return VerifierPool(
        VerifySection.model_validate({"verifier": name, "workers": 2, "deadline_seconds": 1.0} | settings)
    )


def children_of(pid: int) -> list[int]:
    """The live descendants of a process."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            content = stat.read_text()
        except OSError:
            continue
        fields = content.rpartition(")")[2].split()
        if fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, ahead = [], [pid]
    while ahead:
        below = parents.get(ahead.pop(), [])
        found += below
        ahead += below
    return found


def grown_to(number: int, pid: int, before: Collection[int] = ()) -> list[int]:
    """Wait until a process has so many live descendants beside those of `before`; they."""
    ends = time.monotonic() + 30
    while len(found := [p for p in children_of(pid) if p not in before]) < number:
        assert time.monotonic() < ends, found
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone_within(seconds: float, pids: list[int]) -> bool:
    ends = time.monotonic() + seconds
    while any(alive(p) for p in pids) and time.monotonic() < ends:
        time.sleep(0.02)
    return not any(alive(p) for p in pids)


def test_verdicts_are_in_the_samples_order_and_carry_their_provenance(obedient: str) -> None:
    with pool_of(obedient, options={"greeting": "good day"}) as pool:
        verdicts = judged(pool, *["right", "wrong", "say"] * 100)
        assert outcomes(verdicts) == ["correct", "wrong", "correct"] * 100
        said = verdicts[2]
        assert (said.answer, said.detail) == ("forty-two", "good day there")
        assert (said.verifier, said.version, said.isolation) == ("obedient", "3", "none at all")
        assert pool.submit([PROBLEM], []).result(1) == []


@pytest.mark.parametrize(
    ("word", "outcome", "detail"),
    [
        ("hang", "timeout", "not judged within 1 s"),
        ("spin", "timeout", "not judged within 1 s"),
        ("hang_in_c", "timeout", "not judged within 1 s"),
        ("raise", "error", "ValueError: a reason"),
        ("raise_odd", "error", "the worker ended in the middle of it (exit code 0)"),
        ("raise_unprintable", "error", "Unprintable: (its text cannot be read)"),
        ("nan", "error", "returned the score nan"),
        ("exit", "error", "SystemExit: 0"),
        ("hard_exit", "error", "the worker ended in the middle of it (exit code 7)"),
        ("segfault", "error", "the worker ended in the middle of it (signal SIGSEGV)"),
        ("memory", "timeout", "ran out of memory"),
        ("print", "correct", ""),
        ("nothing", "no_answer", ""),
    ],
)
def test_misbehaviour_costs_exactly_one_sample(obedient: str, word: str, outcome: str, detail: str) -> None:
    with pool_of(obedient, workers=1, memory_gib=0.25) as pool:
        around = ["right", "wrong"] * 5
        verdicts = judged(pool, *around, word, *around, word, *around)
        clean = ["correct", "wrong"] * 5
        assert outcomes(verdicts) == [*clean, outcome, *clean, outcome, *clean]
        assert detail in verdicts[10].detail and "\n" not in verdicts[10].detail
        assert outcomes(judged(pool, "right")) == ["correct"]


def test_a_gigabyte_of_output_leads_nowhere(obedient: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pool_of(obedient, workers=1, deadline_seconds=60.0) as pool:
        assert outcomes(judged(pool, "print_a_gigabyte", "right")) == ["correct", "correct"]
        assert os.fstat(pool._forker._log.fileno()).st_size == 0
    assert capfd.readouterr() == ("", "")


def test_a_problems_own_verifier_wins_and_has_its_own_options(obedient: str) -> None:
    with pool_of(obedient, options={"greeting": "good day"}) as pool:
        own = Problem(id="q", prompt="?", answer="7", verifier="exact")
        samples = [sample(0, "right"), sample(1, "7", "q"), sample(2, "8", "q"), sample(3, "wrong")]
        verdicts = pool.submit([PROBLEM, own], samples).result(60)
        assert outcomes(verdicts) == ["correct", "correct", "wrong", "wrong"]
        assert [v.verifier for v in verdicts] == ["obedient", "exact", "exact", "obedient"]


def test_an_unknown_verifier_of_a_problem_is_an_error_of_its_samples_only(obedient: str) -> None:
    with pool_of(obedient) as pool:
        lost = Problem(id="q", prompt="?", answer="7", verifier="mth")
        verdicts = pool.submit([PROBLEM, lost], [sample(0, "right"), sample(1, "7", "q")]).result(60)
        assert outcomes(verdicts) == ["correct", "error"]
        assert "unknown verifier 'mth'" in verdicts[1].detail


def test_the_recipes_verifier_is_checked_at_once() -> None:
    with pytest.raises(PluginError, match="unknown verifier 'mth'"):
        VerifierPool(VerifySection(verifier="mth"))
    with pytest.raises(PluginError, match="no option 'last_nmber'"):
        VerifierPool(VerifySection(verifier="math", options={"last_nmber": True}))


def test_any_text_can_be_judged(obedient: str) -> None:
    nasty = ["", "\x00", "\ud800 \udfff", "right \u2028\n\r", "x" * 1_000_000, "right " + "é" * 500_000]
    with pool_of(obedient) as pool:
        expected = ["no_answer", "no_answer", "no_answer", "correct", "no_answer", "correct"]
        assert outcomes(judged(pool, *nasty)) == expected


def test_workers_are_light(obedient: str) -> None:
    with pool_of(obedient) as pool:
        assert judged(pool, "modules")[0].detail == ""


def test_a_samples_problem_must_be_there(obedient: str) -> None:
    with pool_of(obedient) as pool, pytest.raises(KeyError):
        pool.submit([PROBLEM], [sample(0, "right", "elsewhere")])


def test_slow_preparation_is_not_the_completions_fault_and_is_kept_for_replacements(tmp_path: Path) -> None:
    path = tmp_path / "slow_start.py"
    path.write_text(SLOW_START)
    with pool_of(f"{path}:SlowStart", workers=1, deadline_seconds=0.5) as pool:
        assert outcomes(judged(pool, "", "hang", "")) == ["correct", "timeout", "correct"]
        prepared = (tmp_path / "slow_start.py.prepared").read_text()
        assert outcomes(judged(pool, "hang", "")) == ["timeout", "correct"]
        assert (tmp_path / "slow_start.py.prepared").read_text() == prepared, "a replacement has it at birth"


def test_it_works_from_threads_and_asyncio_alike(obedient: str) -> None:
    with pool_of(obedient) as pool:
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda _: outcomes(judged(pool, "right", "wrong", "raise")), range(40)))
        assert found == [["correct", "wrong", "error"]] * 40

        async def awaited() -> list[list[Verdict]]:
            futures = [pool.submit([PROBLEM], [sample(i, "right")]) for i in range(20)]
            return await asyncio.gather(*(asyncio.wrap_future(f) for f in futures))

        assert [outcomes(v) for v in asyncio.run(awaited())] == [["correct"]] * 20


def test_closing_cancels_what_is_left_and_ends_all_processes(obedient: str) -> None:
    before = set(children_of(os.getpid()))
    pool = pool_of(obedient, deadline_seconds=60.0)
    future = pool.submit([PROBLEM], [sample(i, "hang") for i in range(4)])
    started = grown_to(3, os.getpid(), before)  # the forking process and two workers
    pool.close()
    pool.close()
    assert gone_within(30.0, started)
    with pytest.raises(CancelledError):
        future.result(1)
    with pytest.raises(StageError, match="closed"):
        pool.submit([PROBLEM], [sample(0, "right")])


def test_what_a_killed_verifier_started_dies_with_it(obedient: str, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pool_of(obedient, workers=1) as pool:
        assert outcomes(judged(pool, f"child {note}", "right")) == ["timeout", "correct"]
        assert gone_within(30.0, [int(note.read_text())])


def test_a_forking_process_that_is_killed_is_an_error_of_the_stage_and_no_hang(obedient: str) -> None:
    with pool_of(obedient, deadline_seconds=60.0) as pool:
        future = pool.submit([PROBLEM], [sample(i, "hang") for i in range(8)])
        forker = pool._forker._process.pid
        grown_to(2, forker)
        os.kill(forker, signal.SIGKILL)
        with pytest.raises(StageError, match="the process that forks verifier workers ended"):
            future.result(30)
        with pytest.raises(StageError):
            pool.submit([PROBLEM], [sample(0, "right")])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_die_with_their_parent(obedient: str, how: signal.Signals) -> None:
    program = f"""
import sys, threading, time
from flywheel import Problem, Sample
from flywheel.recipe import VerifySection
from flywheel.verify import VerifierPool
def start():
    global pool
    pool = VerifierPool(VerifySection(verifier={obedient!r}, workers=2, deadline_seconds=600))
    samples = [Sample(f"s{{i}}", "p", 0, 0, i, "spin", "stop", 1, 1.0, "", "policy") for i in range(4)]
    pool.submit([Problem(id="p", prompt="", answer="")], samples)
thread = threading.Thread(target=start)  # a thread that ends must not take the workers with it
thread.start()
thread.join()
print("up", flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None
    try:
        assert parent.stdout.readline() == b"up\n"
        started = grown_to(3, parent.pid)
        parent.send_signal(how)
        parent.wait(60)
        assert gone_within(30.0, started)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_throughput_of_easy_work_leaves_the_policy_waiting_for_nothing() -> None:
    """Far below what is measured (docs), far above what any policy samples on two cores."""
    with pool_of("math", options={"last_number": True}) as pool:
        problem = Problem(id="p", prompt="", answer="12")
        samples = [sample(i, f"First 4 + 5 = 9, and then 9 + {i % 7} = {9 + i % 7}.") for i in range(4000)]
        pool.submit([problem], samples[:8]).result(60)
        begun = time.monotonic()
        verdicts = pool.submit([problem], samples).result(60)
        assert len(samples) / (time.monotonic() - begun) > 500
        assert outcomes(verdicts)[:4] == ["wrong", "wrong", "wrong", "correct"]


def test_verdicts_are_told_as_they_are_formed_with_their_seconds(obedient: str) -> None:
    told: list[tuple[str, float]] = []
    samples = [sample(i, text) for i, text in enumerate(["right", "wrong", "raise", "hang"])]
    with pool_of(obedient) as pool:
        heard = pool.submit(
            [PROBLEM], samples, lambda verdicts, each: told.extend((v.sample_id, each) for v in verdicts)
        )
        assert outcomes(heard.result(60)) == ["correct", "wrong", "error", "timeout"]
    seconds = dict(told)
    assert sorted(seconds) == ["s0", "s1", "s2", "s3"] and len(told) == 4
    assert seconds["s3"] >= 1.0  # its deadline


def test_a_submission_that_is_cancelled_is_dropped_and_the_pool_goes_on(obedient: str) -> None:
    with pool_of(obedient, workers=1) as pool:
        hanging = pool.submit([PROBLEM], [sample(i, "hang") for i in range(600)])
        assert hanging.cancel()
        # What has begun is waited for; all six hundred would take ten minutes.
        assert outcomes(judged(pool, "right", "wrong")) == ["correct", "wrong"]
        assert hanging.cancelled()
