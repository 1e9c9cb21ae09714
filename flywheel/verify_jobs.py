"""What a pool has to judge: submissions, cut into jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields

from flywheel.protocols import Traits
from flywheel.types import Judgement, Problem, Sample, Verdict

_PROBLEM_FIELDS = tuple(f.name for f in fields(Problem))


Heard = Callable[[Sequence[Verdict], float], None]
"""Told of verdicts as they are formed: those of one call of the verifier, and the seconds that each took."""


class Submission:
    """One `submit`: verdicts fill up in the samples' order, the last one resolves the future."""

    def __init__(self, samples: int, heard: Heard | None = None) -> None:
        self.future: Future[list[Verdict]] = Future()
        self.verdicts: list[Verdict | None] = [None] * samples
        self.missing = samples
        self.heard = heard

    def resolve(self, failure: BaseException | None = None) -> None:
        """Set the future's verdicts, or its failure; whoever has cancelled it in the meantime hears nothing."""
        if not self.future.set_running_or_notify_cancel():
            return
        if failure is None:
            self.future.set_result([v for v in self.verdicts if v is not None])
        else:
            self.future.set_exception(failure)


@dataclass(slots=True)
class Job:
    """What is judged by one call: a sample, or all samples of a problem where the verifier judges groups."""

    submission: Submission
    verifier: str
    traits: Traits
    problem_json: str
    positions: list[int] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    alone: bool = False
    """Whether it has been in a call with others that failed, and is therefore judged by itself."""

    def fill(self, judgements: Sequence[Judgement], label: tuple[str, str, str]) -> list[Verdict]:
        """Put the verdicts in their places, and return them; `label` is the verifier's name, version and isolation."""
        shown, version, isolation = label
        verdicts = []
        for position, sample, judgement in zip(self.positions, self.samples, judgements, strict=True):
            verdict = Verdict(
                sample_id=sample.id,
                problem_id=sample.problem_id,
                outcome=judgement.outcome.value,
                score=judgement.score,
                answer=judgement.answer,
                detail=judgement.detail,
                verifier=shown,
                version=version,
                isolation=isolation,
            )
            self.submission.verdicts[position] = verdict
            verdicts.append(verdict)
        return verdicts


def jobs_of(
    submission: Submission,
    problems: Mapping[str, Problem],
    samples: Sequence[Sample],
    asked: Callable[[Problem], tuple[str, Traits]],
) -> list[Job]:
    """A submission's jobs, in the order in which their first samples come. Raises KeyError for an unknown problem."""
    as_json: dict[str, str] = {}
    groups: dict[str, Job] = {}
    jobs: list[Job] = []
    for position, sample in enumerate(samples):
        problem = problems[sample.problem_id]
        if problem.id not in as_json:
            as_json[problem.id] = json.dumps({n: getattr(problem, n) for n in _PROBLEM_FIELDS}, default=str)
        job = groups.get(problem.id)
        if job is None:
            job = Job(submission, *asked(problem), as_json[problem.id])
            jobs.append(job)
            if job.traits.group:
                groups[problem.id] = job
        job.positions.append(position)
        job.samples.append(sample)
    return jobs
