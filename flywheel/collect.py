"""Collect: sample a plan and have it judged, side by side where the verifier allows, keeping what is finished.

A verifier that judges groups sees all samples of a problem or none, so it begins when sampling has ended;
an exclusive one does as well, because the run's engine makes room for it. Verdicts are kept in parts, and
no part ever holds a piece of a group.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

from flywheel import store
from flywheel.errors import EngineError, StageError
from flywheel.plan import Plan
from flywheel.run import Run, Scope
from flywheel.sample import draw, planned_ids, requests
from flywheel.types import Outcome, Sample, Verdict

VERIFY_CHUNK = 256
"""Samples that are handed to the verifiers, and kept, at once where none are being drawn."""


class Alongside:
    """Verifies chunks of samples in worker processes while the policy goes on, and keeps each as a part."""

    def __init__(self, run: Run, parts: store.Parts) -> None:
        self.run, self.parts = run, parts
        self.done = {v.sample_id for v in parts.read()}
        self._pending: dict[Future[list[Verdict]], int] = {}

    def add(self, samples: Sequence[Sample]) -> None:
        """Hand over samples, and keep what has been judged meanwhile. Does not wait."""
        todo = [s for s in samples if s.id not in self.done]
        self.done |= {s.id for s in todo}
        if todo:
            future = self.run.pool.submit([self.run.problem_by_id[s.problem_id] for s in todo], todo)
            self._pending[future] = len(todo)
        self._keep({future for future in self._pending if future.done()})

    def finish(self, on_progress: Callable[[int], None] = lambda judged: None) -> list[Verdict]:
        """Wait for what is under way; all verdicts. `on_progress` gets the number judged so far."""
        while self._pending:
            on_progress(len(self.done) - sum(self._pending.values()))
            self._keep(set(wait(self._pending, return_when=FIRST_COMPLETED).done))
        on_progress(len(self.done))
        return self.parts.read()

    def _keep(self, finished: set[Future[list[Verdict]]]) -> None:
        for future in finished:
            del self._pending[future]
            self.parts.append(future.result())


def collect(scope: Scope, plan: Plan, *, files: tuple[str, str], key: str, verdict_key: str) -> list[Sample]:
    """Sample a plan and verify alongside; write the samples file, leave the verdicts as parts.

    `files` are the names of the samples' and the verdicts' file, without `.parquet`. What earlier
    attempts finished under the same key is kept and not asked for again. Returns when the last sample
    is there, whatever is still being verified: `judge` waits for that.
    """
    run, system = scope.run, scope.run.recipe.model.system

    def at_once(rows: Sequence[Sample]) -> list[Sample]:
        return [s for s in rows if not run.judged_afterwards(s.problem_id)]

    parts = store.Parts(scope.folder / f"{files[0]}.parts", Sample, key)
    alongside = Alongside(run, store.Parts(scope.folder / f"{files[1]}.parts", Verdict, verdict_key))
    samples: list[Sample] = parts.read()
    order = {sample_id: i for i, sample_id in enumerate(planned_ids(plan))}
    done = {s.id for s in samples}
    asked = requests(plan, run.problem_by_id, seed=run.recipe.seed, system=system, done=done)
    alongside.add(at_once(samples))
    doing = "sample" if plan.phase == "round" else f"evaluate generation {plan.generation} on {plan.phase}"
    label = f"{scope.label} · {doing}"
    run.reporter.progress(label, len(samples), len(order), "samples")
    if asked:
        policy = run.policy(scope.model(plan.generation), resumed=len(samples))
        try:
            for chunk in draw(policy, plan, asked, chunk=run.recipe.sampling.chunk_problems):
                parts.append(chunk)
                samples += chunk
                alongside.add(at_once(chunk))
                run.reporter.progress(label, len(samples), len(order), "samples")
        except EngineError:
            run.release_policy()  # a retry must not meet the dead engine again
            raise
    run.backlog[scope.folder / files[1]] = alongside
    samples.sort(key=lambda s: order[s.id])
    if [s.id for s in samples] != list(order):
        raise StageError(
            f"{scope.label}: the policy returned {len(samples)} samples where {len(order)} were planned; "
            f"see {run.directory / 'logs'} and run the same command again"
        )
    store.write_rows(scope.folder / f"{files[0]}.parquet", Sample, samples)
    return samples


def judge(scope: Scope, samples: Sequence[Sample], *, file: str, key: str) -> dict[str, Verdict]:
    """Verify the samples that have no verdict yet and write the verdicts' file, in the samples' order.

    Raises StageError when more than `verify.max_error_share` could not be judged; the verdicts that
    stand are kept, and the failed ones are tried again by the next run.
    """
    run = scope.run

    def tell(judged: int) -> None:
        run.reporter.progress(f"{scope.label} · verify", judged, len(samples), "verdicts")

    if backlog := run.backlog.pop(scope.folder / file, None):
        backlog.finish(tell)
    parts = store.Parts(scope.folder / f"{file}.parts", Verdict, key)
    kept = parts.read()
    if len(whole := _whole_groups(run, samples, kept)) < len(kept):
        parts.keep(whole)
    alongside = Alongside(run, parts)
    exclusive = any(run.traits(s.problem_id).exclusive for s in samples if s.id not in alongside.done)
    if exclusive:
        run.release_policy()
    try:
        for chunk in _chunks(samples):
            alongside.add(chunk)
        finished = alongside.finish(tell)
    finally:
        if exclusive:
            run.release_verifiers()  # the engine that is loaded next needs the memory
    verdicts = {v.sample_id: v for v in finished}
    errors = [v for v in verdicts.values() if v.outcome == Outcome.ERROR]
    if len(errors) > run.recipe.verify.max_error_share * len(samples):
        parts.keep(_whole_groups(run, samples, [v for v in verdicts.values() if v.outcome != Outcome.ERROR]))
        detail, times = Counter(v.detail for v in errors).most_common(1)[0]
        raise StageError(
            f"{scope.label}: {len(errors)} of {len(samples)} completions could not be judged (verify.max_error_share "
            f"is {run.recipe.verify.max_error_share:g}); most often ({times}): {detail}. Put the verifier or the "
            "references right and run the same command again"
        )
    store.write_rows(scope.folder / f"{file}.parquet", Verdict, [verdicts[s.id] for s in samples])
    return verdicts


def _chunks(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """Samples in pieces of about `VERIFY_CHUNK`, all those of a problem in the same one."""
    chunk: list[Sample] = []
    for group in _by_problem(samples).values():
        chunk += group
        if len(chunk) >= VERIFY_CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _whole_groups(run: Run, samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts that stand by themselves: of groups that were judged as one, only those with all members."""
    judged = {v.sample_id for v in verdicts}
    torn = {
        problem_id
        for problem_id, group in _by_problem(samples).items()
        if run.traits(problem_id).group and not all(s.id in judged for s in group)
    }
    return [v for v in verdicts if v.problem_id not in torn]


def _by_problem(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.problem_id].append(sample)
    return groups
