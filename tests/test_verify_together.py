"""Verifiers that judge several completions in one call: the innocent get their verdict, the guilty one pays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flywheel import PluginError, Problem, Sample, StageError, Verdict
from flywheel.judging import seconds_left
from flywheel.plugins import Traits, make_verifier, traits
from flywheel.recipe import VerifySection
from flywheel.verify import VerifierPool

MISBEHAVE = """
import asyncio, os, sys, time

def act(word, note=""):
    if word == "hang": time.sleep(600)
    if word == "slow": time.sleep(0.6)
    if word == "raise": raise ValueError("a reason")
    if word == "hard_exit": os._exit(7)
    if word == "nan": return float("nan")
    if word == "wrong": return False
    if word == "memory":
        hoard = []
        while True: hoard.append(bytearray(64 << 20))
    return True
"""

BATCHED = (
    MISBEHAVE
    + """
class Batched:
    version = "2"
    batch_size = 8

    def verify(self, problem, completion):
        value = act(completion)
        return {"score": float(value), "detail": "alone"} if isinstance(value, bool) else value

    def verify_batch(self, problems, completions):
        assert len(problems) == len(completions) <= self.batch_size
        values = [act(c) for c in completions]
        if "short" in completions: return values[:-1]
        if "none" in completions: return None
        return [{"score": float(v), "detail": f"with {len(completions)}"} if isinstance(v, bool) else v for v in values]

class AsyncBatched:
    async def verify(self, problem, completion):
        return True
    async def verify_batch(self, problems, completions):
        await asyncio.sleep(0)
        return [c == problem.answer for problem, c in zip(problems, completions)]
"""
)

CONCURRENT = (
    MISBEHAVE
    + """
class Concurrent:
    concurrency = 16
    running = most = 0

    async def verify(self, problem, completion):
        word, _, rest = completion.partition(" ")
        cls = type(self)
        cls.running += 1
        cls.most = max(cls.most, cls.running)
        try:
            if word == "wait":
                await asyncio.sleep(float(rest))
                return {"score": 1.0, "detail": f"most {cls.most}"}
            if word == "await_for_ever": await asyncio.sleep(600)
            if word == "stubborn":
                while True:
                    try: await asyncio.sleep(600)
                    except asyncio.CancelledError: pass
            if word == "cancel": raise asyncio.CancelledError
            if word == "exit": sys.exit(3)
            return act(word)
        finally:
            cls.running -= 1

class Bounded(Concurrent):
    concurrency = 2
"""
)

GROUPED = (
    MISBEHAVE
    + """
class Grouped:
    def verify(self, problem, completion):
        return self.verify_group(problem, [completion])[0]

    def verify_group(self, problem, completions):
        for c in completions:
            act(c)
        if "short" in completions: return []
        if "strange" in completions: return ["?" if c == "strange" else True for c in completions]
        return [{"score": 1.0, "detail": f"{i} of {','.join(completions)}"} for i, c in enumerate(completions)]
"""
)

EXCLUSIVE = """
import os, resource

class Exclusive:
    exclusive = True
    def verify(self, problem, completion):
        unlimited = resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
        return {"score": 1.0, "detail": f"{os.getpid()} {unlimited} {os.environ.get('OMP_NUM_THREADS')}"}

class Another(Exclusive):
    pass
"""

WAITING = """
import asyncio, time

class Waiting:
    deadline_outcome = "error"
    def verify(self, problem, completion):
        time.sleep(600)

class AsyncWaiting:
    deadline_outcome = "error"
    async def verify(self, problem, completion):
        await asyncio.sleep(600)

class Confused(Waiting):
    deadline_outcome = "wrong"
"""

PROBLEM = Problem(id="p", prompt="?", answer="right")


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], str]:
    folder = tmp_path_factory.mktemp("plugins")

    def write(source: str, name: str) -> str:
        path = folder / f"{name.lower()}.py"
        path.write_text(source)
        return f"{path}:{name}"

    return write


def pool_of(name: str, **settings: Any) -> VerifierPool:
    return VerifierPool(
        VerifySection.model_validate({"verifier": name, "workers": 1, "deadline_seconds": 1.0} | settings)
    )


def sample(index: int, completion: str, problem_id: str = "p") -> Sample:
    return Sample(f"s{index}", problem_id, 0, 0, index, completion, "stop", 1, 1.0, "", "policy")


def judged(pool: VerifierPool, *completions: str) -> list[Verdict]:
    samples = [sample(i, c) for i, c in enumerate(completions)]
    verdicts = pool.submit([PROBLEM], samples).result(60)
    assert [v.sample_id for v in verdicts] == [s.id for s in samples]
    return verdicts


def outcomes(verdicts: list[Verdict]) -> list[str]:
    return [v.outcome for v in verdicts]


def test_traits_are_read_from_the_instance(plugin) -> None:
    assert traits(make_verifier("exact", {})) == Traits()
    assert traits(make_verifier(plugin(BATCHED, "Batched"), {})) == Traits(batch=True, at_once=8)
    assert traits(make_verifier(plugin(CONCURRENT, "Bounded"), {})) == Traits(concurrent=True, at_once=2)
    assert traits(make_verifier(plugin(GROUPED, "Grouped"), {})) == Traits(group=True)
    assert traits(make_verifier(plugin(EXCLUSIVE, "Exclusive"), {})) == Traits(exclusive=True)


# -- batches ---------------------------------------------------------------------------------------


def test_a_batch_is_judged_in_one_call(plugin) -> None:
    with pool_of(plugin(BATCHED, "Batched")) as pool:
        verdicts = judged(pool, *["right", "wrong"] * 10)
        assert outcomes(verdicts) == ["correct", "wrong"] * 10
        assert {v.detail for v in verdicts} == {"with 8", "with 4"}
        assert verdicts[0].version == "2"
        assert judged(pool, "right")[0].detail == "alone"


@pytest.mark.parametrize(
    ("word", "outcome", "detail"),
    [
        ("raise", "error", "ValueError: a reason"),
        ("hard_exit", "error", "the worker ended in the middle of it (exit code 7)"),
        ("memory", "timeout", "ran out of memory"),
        ("short", "correct", "alone"),
        ("none", "correct", "alone"),
    ],
)
def test_of_a_batch_only_the_guilty_completion_pays(plugin, word: str, outcome: str, detail: str) -> None:
    with pool_of(plugin(BATCHED, "Batched"), memory_gib=0.25) as pool:
        verdicts = judged(pool, "right", "wrong", word, "right", "wrong", "right")
        assert outcomes(verdicts) == ["correct", "wrong", outcome, "correct", "wrong", "correct"]
        assert detail in verdicts[2].detail
        assert {v.detail for v in verdicts if v is not verdicts[2]} == {"alone"}
        assert {v.detail for v in judged(pool, "right", "right")} == {"with 2"}


def test_a_value_that_is_no_judgement_is_an_error_of_its_own_completion(plugin) -> None:
    with pool_of(plugin(BATCHED, "Batched")) as pool:
        verdicts = judged(pool, "right", "nan", "right")
        assert outcomes(verdicts) == ["correct", "error", "correct"]
        assert {v.detail for v in verdicts} == {"with 3", "returned the score nan; a score is a number from 0 to 1"}


def test_a_batch_has_the_deadline_of_as_many_single_calls_and_then_each_has_its_own(plugin) -> None:
    with pool_of(plugin(BATCHED, "Batched"), deadline_seconds=0.8) as pool:
        verdicts = judged(pool, "slow", "slow", "slow")  # 1.8 s together, 0.6 s each
        assert {v.detail for v in verdicts} == {"with 3"}
        verdicts = judged(pool, "right", "hang", "wrong")
        assert outcomes(verdicts) == ["correct", "timeout", "wrong"]
        assert verdicts[1].detail == "not judged within 0.8 s (verify.deadline_seconds)"


def test_a_batch_method_may_be_async(plugin) -> None:
    with pool_of(plugin(BATCHED, "AsyncBatched")) as pool:
        assert outcomes(judged(pool, "right", "wrong", "right")) == ["correct", "wrong", "correct"]


# -- async -----------------------------------------------------------------------------------------


def test_calls_run_side_by_side_up_to_their_bound(plugin) -> None:
    waits = ["wait 0.3"] * 8
    with pool_of(plugin(CONCURRENT, "Concurrent")) as pool:
        assert "most 8" in {v.detail for v in judged(pool, *waits)}
    with pool_of(plugin(CONCURRENT, "Bounded")) as pool:
        assert {v.detail for v in judged(pool, *waits)} <= {"most 1", "most 2"}


@pytest.mark.parametrize(
    ("word", "outcome", "detail"),
    [
        ("await_for_ever", "timeout", "not judged within 1 s"),
        ("stubborn", "timeout", "not judged within 1 s"),
        ("hang", "timeout", "not judged within 1 s"),  # it holds the loop, and the others with it
        ("raise", "error", "ValueError: a reason"),
        ("exit", "error", "SystemExit: 3"),
        ("cancel", "error", "CancelledError"),
        ("hard_exit", "error", "the worker ended in the middle of it (exit code 7)"),
        ("memory", "timeout", "ran out of memory"),
        ("nan", "error", "returned the score nan"),
    ],
)
def test_on_one_loop_only_the_guilty_completion_pays(plugin, word: str, outcome: str, detail: str) -> None:
    with pool_of(plugin(CONCURRENT, "Concurrent"), memory_gib=0.25) as pool:
        verdicts = judged(pool, "wait 0.2", "wrong", word, "wait 0.4", "right")
        assert outcomes(verdicts) == ["correct", "wrong", outcome, "correct", "correct"]
        assert detail in verdicts[2].detail
        assert outcomes(judged(pool, "right", "wrong")) == ["correct", "wrong"]


def test_one_that_holds_the_loop_costs_the_others_no_time_out(plugin) -> None:
    with pool_of(plugin(CONCURRENT, "Concurrent")) as pool:
        # Each takes 0.6 s of the loop; whoever waits beside them is past its deadline when they are done.
        verdicts = judged(pool, "wait 0.5", "slow", "slow", "slow", "wait 0.7", "await_for_ever")
        assert outcomes(verdicts) == ["correct"] * 5 + ["timeout"]


EXPECTED = {
    "right": "correct",
    "wrong": "wrong",
    "raise": "error",
    "hard_exit": "error",
    "nan": "error",
    "hang": "timeout",
}


@pytest.mark.parametrize(("source", "name"), [(BATCHED, "Batched"), (CONCURRENT, "Concurrent")])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_the_mixture_each_completion_gets_its_own_verdict(plugin, source: str, name: str, seed: int) -> None:
    words = Random(seed).choices(list(EXPECTED), [40, 20, 4, 2, 4, 0], k=70)
    words[Random(-seed).randrange(70)] = "hang"
    with pool_of(plugin(source, name), workers=2, deadline_seconds=0.25) as pool:
        assert outcomes(judged(pool, *words)) == [EXPECTED[word] for word in words]


# -- groups ----------------------------------------------------------------------------------------


def groups(*sizes: int) -> tuple[list[Problem], list[Sample]]:
    problems = [Problem(id=f"q{n}", prompt="", answer="") for n in range(len(sizes))]
    rows = [(k, n) for n, size in enumerate(sizes) for k in range(size)]
    rows.sort()  # the problems' samples lie between one another
    return problems, [sample(i, f"{n}{'abcdefgh'[k]}", f"q{n}") for i, (k, n) in enumerate(rows)]


def test_a_group_is_all_samples_of_a_problem(plugin) -> None:
    problems, samples = groups(3, 1, 2)
    with pool_of(plugin(GROUPED, "Grouped"), workers=2) as pool:
        verdicts = pool.submit(problems, samples).result(60)
    assert [v.sample_id for v in verdicts] == [s.id for s in samples]
    assert {s.completion: v.detail for s, v in zip(samples, verdicts, strict=True)} == {
        **{"0a": "0 of 0a,0b,0c", "0b": "1 of 0a,0b,0c", "0c": "2 of 0a,0b,0c"},
        **{"1a": "0 of 1a", "2a": "0 of 2a,2b", "2b": "1 of 2a,2b"},
    }


@pytest.mark.parametrize(
    ("word", "detail"),
    [
        ("hang", "its problem's 3 samples were not judged within 1.5 s"),
        ("raise", "ValueError: a reason"),
        ("hard_exit", "the worker ended in the middle of it (exit code 7)"),
        ("memory", "ran out of memory (verify.memory_gib) over all samples of the problem"),
        ("short", "returned 0 values for 3 completions"),
    ],
)
def test_a_group_that_cannot_be_judged_is_an_error_as_a_whole_and_of_no_other(plugin, word: str, detail: str) -> None:
    problems, samples = groups(3, 2)
    samples[2] = sample(2, word, "q0")
    with pool_of(plugin(GROUPED, "Grouped"), deadline_seconds=0.5, memory_gib=0.25) as pool:
        verdicts = pool.submit(problems, samples).result(60)
    assert [(v.outcome, v.problem_id) for v in verdicts].count(("error", "q0")) == 3
    assert outcomes([v for v in verdicts if v.problem_id == "q1"]) == ["correct", "correct"]
    assert {v.detail for v in verdicts if v.problem_id == "q0"} == {detail}


def test_a_value_that_is_no_judgement_is_an_error_of_its_own_sample(plugin) -> None:
    with pool_of(plugin(GROUPED, "Grouped")) as pool:
        assert outcomes(judged(pool, "a", "strange", "b")) == ["correct", "error", "correct"]


# -- exclusive -------------------------------------------------------------------------------------


def test_an_exclusive_verifier_has_one_process_all_processors_and_its_own_memory(plugin) -> None:
    with pool_of(plugin(EXCLUSIVE, "Exclusive"), workers=4) as pool:
        found = {v.detail for v in judged(pool, *["x"] * 200)}
        assert len(found) == 1
        assert found.pop().endswith("True None")


def test_two_exclusive_verifiers_are_never_loaded_side_by_side(plugin) -> None:
    name = plugin(EXCLUSIVE, "Exclusive")
    other = Problem(id="q", prompt="", answer="", verifier=name.replace("Exclusive", "Another"))
    with pool_of(name) as pool:
        (first,) = judged(pool, "x")
        (second,) = pool.submit([other], [sample(0, "x", "q")]).result(60)
        pids = [int(v.detail.split()[0]) for v in (first, second)]
        assert pids[0] != pids[1] and second.verifier == "Another"
        assert not Path(f"/proc/{pids[0]}").exists()


@pytest.mark.parametrize("name", ["Waiting", "AsyncWaiting"])
def test_a_verifier_that_waits_for_others_does_not_blame_the_completion(plugin, name: str) -> None:
    with pool_of(plugin(WAITING, name), deadline_seconds=0.3) as pool:
        verdicts = judged(pool, "x", "y")
        assert outcomes(verdicts) == ["error", "error"]
        assert verdicts[0].detail == "not judged within 0.3 s (verify.deadline_seconds)"


def test_a_path_is_of_a_known_kind() -> None:
    class Odd:
        path_kind = ("a file of its own",)

        def verify(self, problem: Problem, completion: str) -> bool:
            return True

    with pytest.raises(PluginError, match=r"path_kind = .* of Odd; known: equations, code, text"):
        traits(Odd())


def test_a_deadline_is_missed_in_one_of_two_ways(plugin) -> None:
    with pytest.raises(PluginError, match="deadline_outcome = 'wrong'"):
        pool_of(plugin(WAITING, "Confused"))


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
