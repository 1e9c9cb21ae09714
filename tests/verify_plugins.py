"""Verifiers that misbehave on demand, and pools to judge with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flywheel import Problem, Sample, Verdict
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

class Hurried(Waiting):
    deadline_seconds = 0.3

class Confused(Waiting):
    deadline_outcome = "wrong"
"""

PROBLEM = Problem(id="p", prompt="?", answer="right")


def writer(folder: Path) -> Callable[[str, str], str]:
    """What writes a class's source into `folder` and gives its name as a verifier."""

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
