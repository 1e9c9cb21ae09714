"""Collect: sample a plan and have it judged, side by side where the verifier allows, keeping what is finished.

A verifier that judges groups sees all samples of a problem or none, so it begins when sampling has ended;
an exclusive one does as well, because the run's engine makes room for it. Verdicts are kept in parts, and
no part ever holds a piece of a group.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

from flywheel import store
from flywheel.errors import EngineError, StageError
from flywheel.plan_types import Plan
from flywheel.run import Run
from flywheel.sample import draw, requests
from flywheel.scope import Scope
from flywheel.types import Outcome, Sample, Verdict
from flywheel.waves import Ledger, Wave, cohorts, legs, needs_verdicts, next_wave

VERIFY_CHUNK = 256
"""Samples that are handed to the verifiers, and kept, at once where none are being drawn."""
EXCLUSIVE_CHUNK = 16
"""The same where a verifier is exclusive: one with a model of its own may take a minute for each."""


class Alongside:
    """Verifies chunks of samples in worker processes while the policy goes on, and keeps each as a part."""

    def __init__(self, run: Run, parts: store.Parts) -> None:
        self.run, self.parts = run, parts
        self.verdicts: dict[str, Verdict] = {v.sample_id: v for v in parts.read()}
        self.done = set(self.verdicts)
        """Samples that are judged or under way."""
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

    def wait_for(self, samples: Sequence[Sample]) -> None:
        """Wait until all of `samples`, which were handed over before, are judged."""
        while self._pending and any(s.id not in self.verdicts for s in samples):
            self._keep(set(wait(self._pending, return_when=FIRST_COMPLETED).done))

    def _keep(self, finished: set[Future[list[Verdict]]]) -> None:
        for future in finished:
            del self._pending[future]
            judged = future.result()
            self.verdicts |= {v.sample_id: v for v in judged}
            self.parts.append(judged)


def collect(scope: Scope, plan: Plan, *, files: tuple[str, str], key: str, verdict_key: str) -> list[Sample]:
    """Sample a plan wave by wave and verify alongside; write the samples file, leave the verdicts as parts.

    `files` are the names of the samples' and the verdicts' file, without `.parquet`. What earlier
    attempts finished under the same key is kept and not asked for again. Returns when the last sample
    is there, whatever is still being verified: `judge` waits for that. Raises StageError where what is
    asked next depends on verdicts and too many completions could not be judged.
    """
    gathering = _Gathering(scope, plan, files, key, verdict_key)
    for leg in legs(plan):
        turns = deque((cohort, False) for cohort in cohorts(plan))
        while turns:
            cohort, begun = turns.popleft()
            if needs_verdicts(plan, leg, begun=begun):
                gathering.settle(cohort)
            wave = next_wave(plan, leg, cohort, gathering.ledger, begun=begun)
            if wave is not None:
                gathering.sample(wave)
                turns.append((cohort, True))
    return gathering.finish()


class _Gathering:
    """The samples of a plan as they come in: those that stand on disk from earlier attempts, then new ones."""

    def __init__(self, scope: Scope, plan: Plan, files: tuple[str, str], key: str, verdict_key: str) -> None:
        self.scope, self.run, self.plan, self.files = scope, scope.run, plan, files
        self.ledger = Ledger(lambda problem_id: self.run.traits(problem_id).path_kind)
        self._parts = store.Parts(scope.folder / f"{files[0]}.parts", Sample, key)
        self._alongside = Alongside(self.run, store.Parts(scope.folder / f"{files[1]}.parts", Verdict, verdict_key))
        self._samples: dict[str, Sample] = {s.id: s for s in self._parts.read()}
        self._planned: dict[str, list[str]] = defaultdict(list)
        self._unsettled: dict[str, list[str]] = defaultdict(list)
        self._settled: set[str] = set()
        """Samples whose verdicts are in the ledger: what was asked since follows from them, errors included."""
        doing = {"round": "sample", "sweep": "sweep"}.get(plan.phase)
        doing = doing or f"evaluate generation {plan.generation} on {plan.phase}"
        self._label = f"{scope.label} · {doing}"
        self._verify(list(self._samples.values()))

    def sample(self, wave: Wave) -> None:
        """Have a wave's completions, asking for those that are not there yet."""
        run, plan = self.run, self.plan
        self.ledger.ask(wave)
        for problem_id, first, end in wave.asked:
            ids = [plan.sample_id(problem_id, index) for index in range(first, end)]
            self._planned[problem_id] += ids
            self._unsettled[problem_id] += ids
        self._tell()
        system = run.recipe.model.system
        asked = requests(plan, wave, run.problem_by_id, seed=run.recipe.seed, system=system, done=self._samples)
        if not asked:
            return
        source = wave.leg.source
        try:
            if source.extra < 0:
                policy = run.policy(self.scope.model(source.generation), resumed=len(self._samples))
            else:
                policy = run.extra_policy(source.extra, resumed=len(self._samples))
            for chunk in draw(policy, plan, wave.leg, asked, chunk=run.recipe.sampling.chunk_problems):
                self._parts.append(chunk)
                self._samples |= {s.id: s for s in chunk}
                self._verify(chunk)
                self._tell()
        except EngineError:
            run.release_policy()  # a retry must not meet the dead engine again
            raise

    def settle(self, problems: Sequence[str]) -> None:
        """Enter all verdicts of `problems` into the ledger, waiting for those that are not there yet."""
        ids = [sample_id for p in problems for sample_id in self._unsettled.pop(p, ())]
        samples = [self._samples[sample_id] for sample_id in ids if sample_id in self._samples]
        alongside = self._alongside
        alongside.wait_for(samples)
        _refuse_errors(
            self.scope, alongside.parts, list(self._samples.values()), alongside.verdicts, settled=self._settled
        )
        self.ledger.enter(samples, alongside.verdicts)
        self._settled |= {s.id for s in samples}

    def finish(self) -> list[Sample]:
        """Write the samples' file; its rows, problem by problem. Raises StageError where any is missing."""
        scope, files = self.scope, self.files
        self.run.backlog[scope.folder / files[1]] = self._alongside
        ids = [sample_id for problem_id in self.plan.problems for sample_id in self._planned[problem_id]]
        if len(self._samples) != len(ids) or any(i not in self._samples for i in ids):
            raise StageError(
                f"{scope.label}: the policy returned {len(self._samples)} samples where {len(ids)} were planned; "
                f"see {self.run.directory / 'logs'} and run the same command again"
            )
        samples = [self._samples[sample_id] for sample_id in ids]
        store.write_rows(scope.folder / f"{files[0]}.parquet", Sample, samples)
        return samples

    def _verify(self, samples: Sequence[Sample]) -> None:
        self._alongside.add([s for s in samples if not self.run.judged_afterwards(s.problem_id)])

    def _tell(self) -> None:
        total = max(len(self._samples), sum(map(len, self._planned.values())))
        self.run.reporter.progress(self._label, len(self._samples), total, "samples")


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
        for chunk in _chunks(samples, EXCLUSIVE_CHUNK if exclusive else VERIFY_CHUNK):
            alongside.add(chunk)
        finished = alongside.finish(tell)
    finally:
        if exclusive:
            run.release_verifiers()  # the engine that is loaded next needs the memory
    verdicts = {v.sample_id: v for v in finished}
    _refuse_errors(scope, parts, samples, verdicts)
    store.write_rows(scope.folder / f"{file}.parquet", Verdict, [verdicts[s.id] for s in samples])
    return verdicts


def _refuse_errors(
    scope: Scope,
    parts: store.Parts,
    samples: Sequence[Sample],
    verdicts: Mapping[str, Verdict],
    *,
    settled: Collection[str] = (),
) -> None:
    """Raise StageError when too many of `samples` could not be judged; what was judged is kept in `parts`.

    Errors are kept only of samples that are `settled` (by id): judged otherwise, they would ask for another next wave
    than the one that stands on disk.
    """
    errors = [v for v in verdicts.values() if v.outcome == Outcome.ERROR]
    if len(errors) <= scope.run.recipe.verify.max_error_share * len(samples):
        return
    kept = [v for v in verdicts.values() if v.outcome != Outcome.ERROR or v.sample_id in settled]
    parts.keep(_whole_groups(scope.run, samples, kept))
    detail, times = Counter(v.detail for v in errors).most_common(1)[0]
    raise StageError(
        f"{scope.label}: {len(errors)} of {len(samples)} completions could not be judged (verify.max_error_share "
        f"is {scope.run.recipe.verify.max_error_share:g}); most often ({times}): {detail}. Put the verifier or the "
        "references right and run the same command again"
    )


def _chunks(samples: Sequence[Sample], size: int) -> Iterator[list[Sample]]:
    """Samples in pieces of about `size`, all those of a problem in the same one."""
    chunk: list[Sample] = []
    for group in _by_problem(samples).values():
        chunk += group
        if len(chunk) >= size:
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
