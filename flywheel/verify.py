"""Verification: completions in, verdicts out, in worker processes that can be killed.

A verifier is other people's code at work on what a model wrote, so it never runs in this process. One that
hangs, crashes, exits, prints without end or takes all memory costs the one sample it was at; its worker
is replaced and the others never notice. Deadlines are kept here, from outside, and end in SIGKILL.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

from flywheel import guard, plugins
from flywheel.errors import StageError
from flywheel.recipe import VerifySection
from flywheel.types import Judgement, Outcome, Problem, Sample, Verdict

LARGEST_BATCH = 64
"""Jobs that a worker gets at once."""
LARGEST_BATCH_CHARACTERS = 1_000_000
"""Characters of completions after which a batch is full."""
LOAD_SECONDS = 120.0
"""After which a verifier that has not loaded counts as hanging."""
START_SECONDS = 120.0
"""After which the forking process must have answered."""
RECYCLE_AFTER = 5_000
"""Completions after which a worker is replaced, so that a verifier's leaks and caches end with it."""

_PROBLEM_FIELDS = tuple(f.name for f in fields(Problem))


@dataclass(slots=True)
class _Submission:
    """One `submit`: verdicts fill up in the samples' order, the last one resolves the future."""

    future: Future[list[Verdict]]
    verdicts: list[Verdict | None]
    missing: int


@dataclass(slots=True)
class _Job:
    submission: _Submission
    position: int
    verifier: str
    problem_json: str
    sample: Sample


class VerifierPool:
    """Judges samples in `section.workers` processes until it is closed. Safe to use from any thread.

    Raises PluginError where the section's verifier cannot be made, StageError where processes cannot be
    started. Workers import neither torch nor an engine, and end with this process however it ends.
    """

    def __init__(self, section: VerifySection) -> None:
        plugins.make_verifier(section.verifier, section.options)
        self._section = section
        self._jobs: deque[_Job] = deque()
        self._state = threading.Condition()
        self._submissions: dict[int, _Submission] = {}
        self._closed = False
        self._failure: StageError | None = None
        self._prepared: list[Any] | None = None
        self._forker = _Forker()
        self._threads = [
            threading.Thread(target=self._serve, name=f"verify-{i}", daemon=True) for i in range(section.workers)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> VerifierPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, problems: Sequence[Problem], samples: Sequence[Sample]) -> Future[list[Verdict]]:
        """Have every sample judged; the future's verdicts are in the samples' order.

        `problems` holds at least the problems that the samples belong to. Raises KeyError for a sample
        without its problem, StageError if the pool is closed or broken. The future raises StageError if the
        pool breaks, and is cancelled if it is closed before.
        """
        known = {p.id: p for p in problems}
        as_json: dict[str, str] = {}
        submission = _Submission(Future(), [None] * len(samples), len(samples))
        jobs = []
        for position, sample in enumerate(samples):
            problem = known[sample.problem_id]
            if problem.id not in as_json:
                as_json[problem.id] = json.dumps({n: getattr(problem, n) for n in _PROBLEM_FIELDS}, default=str)
            verifier = problem.verifier or self._section.verifier
            jobs.append(_Job(submission, position, verifier, as_json[problem.id], sample))
        if not jobs:
            submission.future.set_result([])
            return submission.future
        with self._state:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise StageError("the verifier pool is closed")
            self._submissions[id(submission)] = submission
            self._jobs.extend(jobs)
            self._state.notify_all()
        return submission.future

    def close(self) -> None:
        """Kill the workers and end; what is not judged yet is cancelled. Safe to call twice."""
        with self._state:
            self._closed = True
            self._state.notify_all()
        self._forker.close()
        for thread in self._threads:
            thread.join()
        self._abandon(None)

    # -- the threads, one a worker ------------------------------------------------------------------

    def _serve(self) -> None:
        worker: _Worker | None = None
        try:
            while batch := self._take():
                while batch:
                    worker = worker or self._fork()
                    if not self._judge(worker, batch) or worker.judged >= RECYCLE_AFTER:
                        self._forker.end(worker.pid)
                        worker.close()
                        worker = None
        except _ForkerGone as error:
            if not self._closed:
                self._abandon(StageError(f"the process that forks verifier workers ended; run again. {error}"))
        except BaseException as error:
            # Whatever it was, nobody may wait for ever on a future that this thread was to fill.
            self._abandon(StageError(f"verification failed: {type(error).__name__}: {error}"))
            raise

    def _take(self) -> deque[_Job]:
        """The next jobs for a worker: of one verifier, and few enough that all workers end at about the same time."""
        with self._state:
            while not self._jobs and not self._closed:
                self._state.wait()
            batch: deque[_Job] = deque()
            if self._closed or self._failure is not None:
                return batch
            most = max(1, min(LARGEST_BATCH, len(self._jobs) // (2 * self._section.workers)))
            characters = 0
            while self._jobs and len(batch) < most and characters < LARGEST_BATCH_CHARACTERS:
                if batch and self._jobs[0].verifier != batch[0].verifier:
                    break
                batch.append(self._jobs.popleft())
                characters += len(batch[-1].sample.completion)
            return batch

    def _judge(self, worker: _Worker, batch: deque[_Job]) -> bool:
        """Have `batch` judged until it is empty or the worker is spent; whether the worker can go on."""
        name = batch[0].verifier
        try:
            worker.send(name, self._options(name), batch)
        except OSError:
            if worker.judged:  # it ended between two batches, by nobody's fault in this one
                return False
        try:
            while batch:
                kind, *values = worker.receive(LOAD_SECONDS if worker.loading else self._section.deadline_seconds)
                if kind != "result":
                    self._note(worker, kind, name, values)
                    continue
                outcome, score, answer, detail, spent = values
                worker.judged += 1
                self._finish(batch.popleft(), worker, Judgement(Outcome(outcome), score, answer, detail))
                if spent:
                    return False
        except TimeoutError:
            self._finish(batch.popleft(), worker, self._timeout(worker))
            return False
        except (EOFError, OSError):
            if self._closed:
                batch.clear()
                return False
            ended = self._forker.end(worker.pid)
            self._finish(batch.popleft(), worker, plugins.broken(f"the worker ended in the middle of it ({ended})"))
            return False
        return True

    def _note(self, worker: _Worker, kind: str, name: str, values: list[Any]) -> None:
        worker.loading = kind == "loading"
        if kind == "loaded" and values[0] is not None:
            worker.labels[name] = (values[1], values[2], values[3])
        elif kind == "loaded":
            self._prepared = [name, self._options(name)]

    def _timeout(self, worker: _Worker) -> Judgement:
        if worker.loading:
            return plugins.broken(f"the verifier did not load within {LOAD_SECONDS:g} s")
        detail = f"not judged within {self._section.deadline_seconds:g} s (verify.deadline_seconds)"
        return Judgement(Outcome.TIMEOUT, 0.0, None, detail)

    def _options(self, verifier: str) -> dict[str, Any]:
        """The recipe's options belong to the recipe's verifier; a problem's own one has its defaults."""
        return self._section.options if verifier == self._section.verifier else {}

    def _fork(self) -> _Worker:
        return self._forker.fork(int(self._section.memory_gib * 2**30), self._prepared)

    # -- results ------------------------------------------------------------------------------------

    def _finish(self, job: _Job, worker: _Worker, judgement: Judgement) -> None:
        shown, version, isolation = worker.labels.get(job.verifier, (job.verifier, "", "worker"))
        submission = job.submission
        submission.verdicts[job.position] = Verdict(
            sample_id=job.sample.id,
            problem_id=job.sample.problem_id,
            outcome=judgement.outcome.value,
            score=judgement.score,
            answer=judgement.answer,
            detail=judgement.detail,
            verifier=shown,
            version=version,
            isolation=isolation,
        )
        with self._state:
            submission.missing -= 1
            done = submission.missing == 0 and self._submissions.pop(id(submission), None) is not None
        if done:
            submission.future.set_result([v for v in submission.verdicts if v is not None])

    def _abandon(self, failure: StageError | None) -> None:
        with self._state:
            self._failure = self._failure or failure
            left = list(self._submissions.values())
            self._submissions.clear()
            self._jobs.clear()
            self._state.notify_all()
        for submission in left:
            if failure is None:
                submission.future.cancel()
            else:
                submission.future.set_exception(failure)


class _ForkerGone(Exception):
    """The forking process ended; the text is what it last wrote."""


class _Worker:
    """The pool's end of a worker process."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.judged = 0
        self.loading = False
        self.labels: dict[str, tuple[str, str, str]] = {}
        self._connection = connection
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._lines: deque[bytes] = deque()
        self._rest = b""

    def send(self, verifier: str, options: dict[str, Any], batch: Sequence[_Job] | deque[_Job]) -> None:
        """Hand over a batch. Raises OSError if the worker is gone."""
        problems: dict[str, int] = {}
        jobs = [(problems.setdefault(job.problem_json, len(problems)), job.sample.completion) for job in batch]
        head = json.dumps({"verifier": verifier, "options": options, "jobs": jobs})
        self._connection.sendall(f'{head[:-1]}, "problems": [{", ".join(problems)}]}}\n'.encode())

    def receive(self, seconds: float) -> list[Any]:
        """The worker's next message. Raises TimeoutError when none comes in time, EOFError when none will."""
        ends = time.monotonic() + seconds
        while not self._lines:
            # What has arrived counts even when this thread got to look at it late.
            if not self._poll.poll(max(0.0, ends - time.monotonic()) * 1000):
                raise TimeoutError
            arrived = self._connection.recv(1 << 16)
            if not arrived:
                raise EOFError
            *whole, self._rest = (self._rest + arrived).split(b"\n")
            self._lines.extend(whole)
        message: list[Any] = json.loads(self._lines.popleft())
        return message

    def close(self) -> None:
        """Give the descriptor back."""
        self._connection.close()


class _Forker:
    """The pool's end of the process that forks workers (see `flywheel.verify_worker`)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(START_SECONDS)
        command = [sys.executable, "-m", "flywheel.verify_worker", str(theirs.fileno()), str(os.getpid())]
        with theirs:
            # The kernel ties the child's life to the thread that spawns it, so it must be one that stays.
            self._process = guard.in_spawner(
                lambda: subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._log,
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                    start_new_session=True,
                )
            )
        try:
            self._receive()
        except _ForkerGone as error:
            self.close()
            raise StageError(f"verifier workers cannot be started: {error}") from None

    def fork(self, memory_bytes: int, prepare: list[Any] | None) -> _Worker:
        """A new worker. Raises _ForkerGone."""
        ours, theirs = socket.socketpair()
        request = json.dumps({"do": "fork", "memory": memory_bytes, "prepare": prepare}).encode()
        try:
            with theirs, self._lock:
                answer = self._ask(request, [theirs.fileno()])
        except _ForkerGone:
            ours.close()
            raise
        return _Worker(answer["pid"], ours)

    def end(self, pid: int) -> str:
        """Kill a worker if it still runs; how it ended. Raises _ForkerGone."""
        with self._lock:
            ended: str = self._ask(json.dumps({"do": "end", "pid": pid}).encode(), [])["ended"]
        return ended

    def close(self) -> None:
        """End the process, which ends its workers first."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._control.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _ask(self, request: bytes, descriptors: list[int]) -> dict[str, Any]:
        if self._closed:
            raise _ForkerGone("It was closed.")
        try:
            socket.send_fds(self._control, [request], descriptors)
        except OSError:
            raise _ForkerGone(self._last_words()) from None
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        try:
            answer = self._control.recv(1 << 16)
        except OSError as error:
            raise _ForkerGone(f"{error}. {self._last_words()}") from None
        if not answer:
            raise _ForkerGone(self._last_words())
        decoded: dict[str, Any] = json.loads(answer)
        return decoded

    def _last_words(self) -> str:
        with contextlib.suppress(ValueError, OSError):
            self._log.seek(0)
            lines = self._log.read().decode(errors="replace").strip().splitlines()
            return f"It last wrote: {lines[-1]}" if lines else "It wrote nothing."
        return ""


def _environment() -> dict[str, str]:
    """This process's environment, with its import path, one thread a worker, and sets in one order."""
    path = os.pathsep.join(p or str(Path.cwd()) for p in sys.path)
    fixed = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **fixed}
