"""A worker of `flywheel.verify`: judges batches of jobs from a socket, and says what it is at.

A job is a problem and one completion of it, or all of them where the verifier judges groups. Lines are
JSON. Pool to worker:

    {"verifier", "options", "alone", "deadline",
     "problems": [fields, …], "jobs": [[index of the problem, completions], …]}

Worker to pool:

    ["loading"]                                            the clock of the completion stands still
    ["loaded", verifier, name, version, isolation]         all null when it was `prepare()` that loaded
    ["unloaded"]                                           `prepare()` failed; the clock goes on
    ["begin", positions, seconds]                          works on these jobs together; never silent for longer
    ["alive"]
    ["result", position, [[outcome, score, answer, detail], …], spent]
    ["done", again, spent]                                 ends what `begin` began; `again` are to be judged alone

`spent` says that the worker ends with this one. Without a `begin`, jobs are done one after another.
"""

from __future__ import annotations

import json
import os
import resource
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel import judging, plugins, protocols
from flywheel.errors import PluginError
from flywheel.judgements import broken
from flywheel.types import Judgement, Outcome, Problem

if TYPE_CHECKING:
    import asyncio

BEATS = 8
"""Signs of life within a deadline from a worker that runs an event loop."""
HELD_UP = 0.1
"""Share of a deadline for which another coroutine may hold the loop before a time-out is put to the test alone."""
CANCEL_SECONDS = 1.0
"""What cancelled coroutines may take to end; a worker with one that does not is replaced."""

Job = tuple[Problem, list[str]]


def lines(connection: socket.socket) -> Iterator[bytes]:
    """The lines that arrive on a connection, until it is closed."""
    with connection.makefile("rb") as stream:
        yield from stream


@dataclass(frozen=True, slots=True)
class Loaded:
    """A verifier made once a worker, and how it wants to be called."""

    verifier: Any
    traits: protocols.Traits


class _Unmade:
    """Stands in for a verifier that cannot be made: it answers every job with why."""

    def __init__(self, why: str) -> None:
        self.judgement = broken(why)

    def verify(self, problem: Problem, completion: str) -> Judgement:
        return self.judgement


class Worker:
    """Judges batches from one connection until it is closed."""

    def __init__(self, connection: socket.socket, memory_bytes: int) -> None:
        self.connection = connection
        self.memory_bytes = memory_bytes
        self.unlimited = False
        self.loaded: dict[str, Loaded] = {}

    def serve(self) -> None:
        """Judge until the connection is closed, or this process is spent."""
        for line in lines(self.connection):
            batch = json.loads(line)
            loaded = self.verifier(batch["verifier"], batch["options"])
            problems = [Problem(**fields) for fields in batch["problems"]]
            jobs = [(problems[index], completions) for index, completions in batch["jobs"]]
            if not self.work(loaded, jobs, alone=batch["alone"], deadline=batch["deadline"]):
                return

    def work(self, loaded: Loaded, jobs: list[Job], *, alone: bool, deadline: float) -> bool:
        """Judge jobs in the way that fits the verifier; whether this process can go on."""
        if loaded.traits.group:
            return self.in_groups(loaded, jobs, deadline)
        if loaded.traits.batch and not alone and len(jobs) > 1:
            return self.in_batches(loaded, jobs, deadline)
        if loaded.traits.concurrent and not alone and len(jobs) > 1:
            return self.concurrently(loaded, jobs, deadline)
        return self.one_by_one(loaded, jobs, deadline)

    def send(self, *values: Any) -> None:
        """One message to the pool."""
        self.connection.sendall(json.dumps(values).encode() + b"\n")

    def result(self, position: int, judgements: Sequence[Judgement], *, spent: bool = False) -> None:
        """Tell the judgements of one job."""
        self.send("result", position, [(j.outcome, j.score, j.answer, j.detail) for j in judgements], spent)

    # -- ways of judging ----------------------------------------------------------------------------

    def one_by_one(self, loaded: Loaded, jobs: list[Job], deadline: float) -> bool:
        """Running out of memory is put to the completion's account, as running out of time is."""
        for position, (problem, (completion,)) in enumerate(jobs):
            try:
                with judging.time_limit(deadline):
                    judgement = judging.judge_one(loaded.verifier, problem, completion)
                self.result(position, [judgement])
            except MemoryError:
                detail = "ran out of memory (verify.memory_gib)"
                self.result(position, [Judgement(Outcome.TIMEOUT, 0.0, None, detail)], spent=True)
                return False
        return True

    def in_groups(self, loaded: Loaded, jobs: list[Job], deadline: float) -> bool:
        """One problem after another. What goes wrong is ERROR for all its samples: it is no single one's fault."""
        for position, (problem, completions) in enumerate(jobs):
            try:
                with judging.time_limit(deadline * len(completions)):
                    judgements = judging.judge_group(loaded.verifier, problem, completions)
                self.result(position, judgements)
            except MemoryError:
                failed = broken("ran out of memory (verify.memory_gib) over all samples of the problem")
                self.result(position, [failed] * len(completions), spent=True)
                return False
        return True

    def in_batches(self, loaded: Loaded, jobs: list[Job], deadline: float) -> bool:
        """As many at once as the verifier takes, in the time that one after another would have."""
        for start in range(0, len(jobs), loaded.traits.at_once):
            members = list(range(start, min(start + loaded.traits.at_once, len(jobs))))
            problems, completions = [jobs[i][0] for i in members], [jobs[i][1][0] for i in members]
            self.send("begin", members, deadline * len(members))
            try:
                with judging.time_limit(deadline * len(members)):
                    judgements = judging.together(loaded.verifier.verify_batch, problems, completions)
            except judging.TogetherError:
                self.send("done", members, False)
                continue
            except MemoryError:
                self.send("done", members, True)
                return False
            for position, judgement in zip(members, judgements, strict=True):
                self.result(position, [judgement])
            self.send("done", [], False)
        return True

    def concurrently(self, loaded: Loaded, jobs: list[Job], deadline: float) -> bool:
        """All side by side on one event loop, as far as the verifier's bound allows."""
        self.send("begin", list(range(len(jobs))), deadline)
        again, spent = judging.event_loop().run_until_complete(_Side(self, loaded, deadline).by_side(jobs))
        self.send("done", again, spent)
        return not spent

    # -- making verifiers ---------------------------------------------------------------------------

    def verifier(self, name: str, options: dict[str, Any]) -> Loaded:
        """A verifier, made when first asked for."""
        key = json.dumps([name, options], sort_keys=True)
        if key not in self.loaded:
            self.loaded[key] = self.load(name, options)
        return self.loaded[key]

    def load(self, name: str, options: dict[str, Any]) -> Loaded:
        """Import and make a verifier, and hold this process to its memory from here on."""
        self.send("loading")
        shown = [name, "", "worker"]
        try:
            made: Any = plugins.make_verifier(name, options)
            loaded = Loaded(made, protocols.traits(made))
            shown = [*protocols.label(type(made)), str(getattr(made, "isolation", "worker"))]
            if loaded.traits.exclusive:
                self.unlimited = True  # an engine's address space says little about its memory
                os.environ.pop("OMP_NUM_THREADS", None)
            self.announce_prepare(made)
        except PluginError as error:
            loaded = Loaded(_Unmade(str(error)), protocols.Traits())
        except judging.CAUGHT as error:
            loaded = Loaded(
                _Unmade(f"cannot be made: {type(error).__name__}: {judging.text_of(error)}"), protocols.Traits()
            )
        self.limit_memory()
        self.send("loaded", name, *shown)
        return loaded

    def announce_prepare(self, verifier: Any) -> None:
        """Have the verifier's own first call of `prepare()` tell the pool, which then stops the completion's clock."""
        prepare: Callable[[], Any] | None = getattr(verifier, "prepare", None)
        if prepare is None:
            return

        def announced() -> None:
            self.send("loading")
            self.limit_memory(resource.RLIM_INFINITY)
            try:
                prepare()
            except BaseException:
                self.limit_memory()
                judging.restart_time_limit()
                self.send("unloaded")
                raise
            self.limit_memory()
            judging.restart_time_limit()
            self.send("loaded", None, None, None, None)
            object.__setattr__(verifier, "prepare", prepare)

        object.__setattr__(verifier, "prepare", announced)  # the dataclass may be frozen

    def limit_memory(self, soft: int | None = None) -> None:
        """Allow the address space that is in use, and `memory_bytes` more."""
        if self.unlimited:
            soft = resource.RLIM_INFINITY
        if soft is None:
            with open("/proc/self/statm", "rb") as statm:
                soft = int(statm.read().split()[0]) * resource.getpagesize() + self.memory_bytes
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = soft if hard == resource.RLIM_INFINITY else hard if soft == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class _Side:
    """Jobs side by side on the event loop."""

    def __init__(self, worker: Worker, loaded: Loaded, deadline: float) -> None:
        self.worker, self.loaded, self.deadline = worker, loaded, deadline
        self.held_up = 0.0
        self.again: list[int] = []
        self.cancelled: set[asyncio.Task[Judgement]] = set()
        self.spent = False

    async def by_side(self, jobs: list[Job]) -> tuple[list[int], bool]:
        """Judge all; which are to be judged again, alone, and whether this process is spent."""
        import asyncio

        beat = asyncio.ensure_future(self.beat())
        gate = asyncio.Semaphore(self.loaded.traits.at_once)

        async def gated(position: int, job: Job) -> None:
            async with gate:
                await self.judge(position, job)

        await asyncio.gather(*(gated(position, job) for position, job in enumerate(jobs)))
        if self.cancelled:
            _, stubborn = await asyncio.wait(self.cancelled, timeout=CANCEL_SECONDS)
            self.spent = self.spent or bool(stubborn)
        beat.cancel()
        return self.again, self.spent

    async def judge(self, position: int, job: Job) -> None:
        """One job. A time-out that others may be to blame for does not count, but has to be shown alone."""
        import asyncio

        problem, (completion,) = job
        before = self.held_up
        with judging.time_limit(self.deadline):  # a task keeps the context that it is made in
            task = asyncio.ensure_future(judging.judge_async(self.loaded.verifier, problem, completion))
        done, _ = await asyncio.wait({task}, timeout=self.deadline)
        if not done:
            task.cancel()
            self.cancelled.add(task)
            if self.held_up - before > HELD_UP * self.deadline:
                self.again.append(position)
            else:
                self.worker.result(position, [timed_out(self.deadline, self.loaded.traits.deadline_outcome)])
        elif task.cancelled():
            self.worker.result(position, [broken("CancelledError: the verifier cancelled itself")])
        elif isinstance(task.exception(), MemoryError):
            self.again.append(position)
            self.spent = True
        else:
            self.worker.result(position, [task.result()])

    async def beat(self) -> None:
        """Tell the pool that the loop turns, and add up for how long it did not."""
        import asyncio

        loop, pause = asyncio.get_running_loop(), self.deadline / BEATS
        while True:
            due = loop.time() + pause
            await asyncio.sleep(pause)
            self.held_up += max(0.0, loop.time() - due)
            self.worker.send("alive")


def timed_out(deadline: float, outcome: Outcome) -> Judgement:
    """The judgement where time has run out; `outcome` says whether the completion is to blame."""
    return Judgement(outcome, 0.0, None, f"not judged within {deadline:g} s (verify.deadline_seconds)")
