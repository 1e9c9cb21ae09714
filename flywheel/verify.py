"""Verification: completions in, verdicts out, in worker processes that can be killed.

A verifier is other people's code at work on what a model wrote, so it never runs in this process. One that
hangs, crashes, exits, prints without end or takes all memory costs the one sample it was at; its worker
is replaced and the others never notice. Deadlines are kept here, from outside, and end in SIGKILL.

Completions that are judged together (`verify_batch`, `async def verify`) are suspects together when it goes
wrong: each is then judged alone, and the guilty one shows itself.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from flywheel import plugins, protocols
from flywheel.errors import PluginError, StageError
from flywheel.judgements import broken
from flywheel.protocols import Traits
from flywheel.recipe import VerifySection
from flywheel.types import Judgement, Outcome, Problem, Sample, Verdict
from flywheel.verify_jobs import Heard, Job, Submission, jobs_of
from flywheel.verify_link import ForkerGone, ForkerLink, WorkerLink
from flywheel.verify_worker import timed_out

LARGEST_BATCH = 64
"""Jobs that a worker gets at once, unless its verifier takes more in one call."""
LARGEST_BATCH_CHARACTERS = 1_000_000
"""Characters of completions after which a batch is full."""
LOAD_SECONDS = 120.0
"""After which a verifier that has not loaded counts as hanging."""
EXCLUSIVE_LOAD_SECONDS = 1800.0
"""The same for an exclusive verifier, which may load a large model."""
WORKER_ENDED = "the worker ended in the middle of it"
"""How the detail of a verdict begins whose worker crashed or exited."""
RECYCLE_AFTER = 5_000
"""Completions after which a worker is replaced, so that a verifier's leaks and caches end with it."""


class VerifierPool:
    """Judges samples in `section.workers` processes until it is closed. Safe to use from any thread.

    An exclusive verifier has one more process to itself, whatever `section.workers` says. Raises PluginError
    where the section's verifier cannot be made, StageError where processes cannot be started. Workers
    import neither torch nor an engine of their own accord, and end with this process however it ends.
    """

    def __init__(self, section: VerifySection) -> None:
        self._section = section
        self._traits = {section.verifier: protocols.traits(plugins.make_verifier(section.verifier, section.options))}
        self._jobs: dict[bool, deque[Job]] = {False: deque(), True: deque()}  # by whether they are exclusive
        self._state = threading.Condition()
        self._submissions: dict[int, Submission] = {}
        self._closed = False
        self._failure: StageError | None = None
        self._prepared: list[Any] | None = None
        self._forker = ForkerLink()
        lanes = [False] * section.workers + [True]
        self._threads = [
            threading.Thread(target=self._serve, args=(exclusive,), name=f"verify-{i}", daemon=True)
            for i, exclusive in enumerate(lanes)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> VerifierPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(
        self, problems: Sequence[Problem], samples: Sequence[Sample], heard: Heard | None = None
    ) -> Future[list[Verdict]]:
        """Have every sample judged; the future's verdicts are in the samples' order.

        `heard` is told of verdicts as they are formed, with the seconds that each took: the time since its worker's
        last one, without loading. Verdicts that a call gives together share that call's time. It is called from the
        pool's threads, must be quick and must not raise.

        Samples of one problem whose verifier judges groups are judged as one group: submit them together.
        `problems` holds at least the problems that the samples belong to. Raises KeyError for a sample
        without its problem, StageError if the pool is closed or broken. The future raises StageError if the
        pool breaks, and is cancelled if it is closed before. Cancelling it yourself drops what has not begun.
        """
        submission = Submission(len(samples), heard)
        if not samples:
            submission.resolve()
            return submission.future
        jobs = jobs_of(submission, {p.id: p for p in problems}, samples, self._asked)
        with self._state:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise StageError("the verifier pool is closed")
            self._submissions[id(submission)] = submission
            for job in jobs:
                self._jobs[job.traits.exclusive].append(job)
            self._state.notify_all()
        return submission.future

    def _asked(self, problem: Problem) -> tuple[str, Traits]:
        """Who judges a problem, and how it wants to be called."""
        name = problem.verifier or self._section.verifier
        return name, self._traits_of(name)

    def _traits_of(self, verifier: str) -> Traits:
        if verifier not in self._traits:
            try:
                self._traits[verifier] = protocols.traits(plugins.make_verifier(verifier, self._options(verifier)))
            except PluginError:
                self._traits[verifier] = Traits()  # a worker meets the same fault, and reports it sample by sample
        return self._traits[verifier]

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

    def _serve(self, exclusive: bool) -> None:
        worker: WorkerLink | None = None
        try:
            while batch := self._take(exclusive):
                if worker is not None and exclusive and worker.labels and batch[0].verifier not in worker.labels:
                    self._let_go(worker)  # two large models side by side is one too many
                    worker = None
                worker = worker or self._forker.fork(int(self._section.memory_gib * 2**30), self._prepared)
                if not self._judge(worker, batch) or worker.judged >= RECYCLE_AFTER:
                    self._let_go(worker)
                    worker = None
        except ForkerGone as error:
            if not self._closed:
                self._abandon(StageError(f"the process that forks verifier workers ended; run again. {error}"))
        except BaseException as error:
            # Whatever it was, nobody may wait for ever on a future that this thread was to fill.
            self._abandon(StageError(f"verification failed: {type(error).__name__}: {error}"))
            raise

    def _let_go(self, worker: WorkerLink) -> None:
        self._forker.end(worker.pid)
        worker.close()

    def _take(self, exclusive: bool) -> list[Job]:
        """The next jobs for a worker: of one verifier, and few enough that all workers end at about the same time."""
        jobs = self._jobs[exclusive]
        with self._state:
            self._drop_cancelled(jobs)
            while not jobs and not self._closed:
                self._state.wait()
                self._drop_cancelled(jobs)
            batch: list[Job] = []
            if self._closed or self._failure is not None:
                return batch
            lanes = 1 if exclusive else self._section.workers
            share, at_once = min(LARGEST_BATCH, len(jobs) // (2 * lanes)), jobs[0].traits.at_once
            most = max(1, share // at_once) * at_once
            characters = 0
            while jobs and len(batch) < most and characters < LARGEST_BATCH_CHARACTERS:
                if batch and (jobs[0].verifier, jobs[0].alone) != (batch[0].verifier, batch[0].alone):
                    break
                batch.append(jobs.popleft())
                characters += sum(len(s.completion) for s in batch[-1].samples)
            return batch

    def _drop_cancelled(self, jobs: deque[Job]) -> None:
        while jobs and jobs[0].submission.future.cancelled():
            self._submissions.pop(id(jobs.popleft().submission), None)

    def _put_back(self, jobs: Sequence[Job]) -> None:
        with self._state:
            for job in reversed(jobs):
                self._jobs[job.traits.exclusive].appendleft(job)
            self._state.notify_all()

    def _judge(self, worker: WorkerLink, batch: Sequence[Job]) -> bool:
        """Have a batch judged; whether the worker can go on. What could not be judged goes back to the others."""
        name = batch[0].verifier
        left = dict(enumerate(batch))
        together: list[int] = []
        limit = 0.0
        worker.lap()
        head = {"verifier": name, "options": self._options(name), "alone": batch[0].alone}
        try:
            worker.send(
                {**head, "deadline": self._deadline(batch[0])},
                [(job.problem_json, [s.completion for s in job.samples]) for job in batch],
            )
        except OSError:
            if worker.judged:  # it ended between two batches, by nobody's fault in this one
                self._put_back(batch)
                return False
        try:
            spent = False
            while (left or together) and not spent:
                if not together:
                    limit = self._deadline(batch[0]) * len(next(iter(left.values())).samples)
                kind, *values = worker.receive(self._load_seconds(batch[0]) if worker.loading else limit)
                if kind == "result":
                    position, judgements, spent = values
                    self._finish(left.pop(position), worker, [Judgement(Outcome(o), *rest) for o, *rest in judgements])
                elif kind == "begin":
                    together, limit = values
                elif kind == "done":
                    again, spent = values
                    together = []
                    self._alone([left.pop(position) for position in again])
                elif kind != "alive":
                    self._note(worker, kind, batch[0], values)
        except TimeoutError:
            self._blame(worker, left, together, None)
            return False
        except (EOFError, OSError):
            if not self._closed:
                self._blame(worker, left, together, self._forker.end(worker.pid))
            return False
        self._put_back(list(left.values()))
        return not spent

    def _blame(self, worker: WorkerLink, left: dict[int, Job], together: list[int], ended: str | None) -> None:
        """A worker hung, or ended as `ended` says: find who it was, and put the innocent back.

        Of jobs that were worked on one after another it was the first that has no result. Of several that
        were worked on together it may have been any: all are judged again, alone.
        """
        suspects = [p for p in left if p in together] if together else list(left)[:1]
        jobs = [left.pop(position) for position in suspects]
        self._put_back(list(left.values()))
        if len(jobs) > 1 and not worker.loading:
            self._alone(jobs)
            return
        for job in jobs:
            if ended is not None:
                judgement = broken(f"{WORKER_ENDED} ({ended})")
            elif worker.loading:
                judgement = broken(f"the verifier did not load within {self._load_seconds(job):g} s")
            elif job.traits.group:
                seconds = self._deadline(job) * len(job.samples)
                judgement = broken(f"its problem's {len(job.samples)} samples were not judged within {seconds:g} s")
            else:
                judgement = timed_out(self._deadline(job), job.traits.deadline_outcome)
            self._finish(job, worker, [judgement] * len(job.samples))

    def _alone(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.alone = True
        self._put_back(jobs)

    def _note(self, worker: WorkerLink, kind: str, job: Job, values: list[Any]) -> None:
        worker.loading = kind == "loading"
        worker.lap()
        if kind == "loaded" and values[0] is not None:
            worker.labels[job.verifier] = (values[1], values[2], values[3])
        elif kind == "loaded" and not job.traits.exclusive:  # a model must not be loaded where processes are forked
            self._prepared = [job.verifier, self._options(job.verifier)]

    def _deadline(self, job: Job) -> float:
        """Seconds for one completion."""
        return self._section.deadline_seconds or job.traits.deadline_seconds

    @staticmethod
    def _load_seconds(job: Job) -> float:
        return EXCLUSIVE_LOAD_SECONDS if job.traits.exclusive else LOAD_SECONDS

    def _options(self, verifier: str) -> dict[str, Any]:
        """The recipe's options belong to the recipe's verifier; a problem's own one has its defaults."""
        return self._section.options_of(verifier)

    # -- results ------------------------------------------------------------------------------------

    def _finish(self, job: Job, worker: WorkerLink, judgements: Sequence[Judgement]) -> None:
        worker.judged += len(job.samples)
        verdicts = job.fill(judgements, worker.labels.get(job.verifier, (job.verifier, "", "worker")))
        submission, seconds = job.submission, worker.lap()
        if submission.heard is not None:
            submission.heard(verdicts, seconds / len(verdicts))
        with self._state:
            submission.missing -= len(job.samples)
            done = submission.missing == 0 and self._submissions.pop(id(submission), None) is not None
        if done:
            submission.resolve()

    def _abandon(self, failure: StageError | None) -> None:
        with self._state:
            self._failure = self._failure or failure
            left = list(self._submissions.values())
            self._submissions.clear()
            for jobs in self._jobs.values():
                jobs.clear()
            self._state.notify_all()
        for submission in left:
            if failure is None:
                submission.future.cancel()
            else:
                submission.resolve(failure)
