"""Lessons: the policy's own samples, each with the prompt that it answered and the one that tells the solution."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from flywheel.measures.contamination import HeldOut
from flywheel.prompts import conversation, hinted
from flywheel.recipe import PrivilegedOptions
from flywheel.types import Lesson, Origin, Outcome, Problem, Sample, Verdict

REASONS = {
    "not_own": "another model gave it, or it was hinted",
    "cut_off": "it did not end by itself",
    "no_solution": "its problem has no solution to tell",
    "not_asked": "train.privileged.samples asks for others",
    "contaminated": "it carries the text of a held-out or out-of-distribution problem",
    "over_cap": "its problem has train.privileged.cap lessons",
}
"""Why a sample gives no lesson."""


def lessons_of(
    samples: Sequence[Sample],
    verdicts: Mapping[str, Verdict],
    problems: Mapping[str, Problem],
    options: PrivilegedOptions,
    *,
    system: str | None,
    held_out: HeldOut | None = None,
) -> tuple[list[Lesson], dict[str, int]]:
    """The lessons that a round's samples give, in their order, and why others give none (see `REASONS`).

    `verdicts` is keyed by sample id, `problems` by problem id; what carries the text of `held_out` is left out.
    """
    lessons: list[Lesson] = []
    without: Counter[str] = Counter()
    given: dict[str, int] = defaultdict(int)
    for sample in samples:
        problem = problems[sample.problem_id]
        reason = _reason(sample, problem, verdicts[sample.id], options)
        if reason is None and held_out is not None and held_out.carried(problem, sample.completion):
            reason = "contaminated"
        if reason is None and given[problem.id] == options.cap:
            reason = "over_cap"
        if reason is not None:
            without[reason] += 1
            continue
        given[problem.id] += 1
        lessons.append(
            Lesson(
                sample_id=sample.id,
                problem_id=problem.id,
                round=sample.round,
                messages=conversation(problem, system),
                told=hinted(problem, system, options.template),
                completion=sample.completion,
            )
        )
    return lessons, dict(sorted(without.items()))


def _reason(sample: Sample, problem: Problem, verdict: Verdict, options: PrivilegedOptions) -> str | None:
    if sample.origin != Origin.POLICY:
        return "not_own"
    if sample.finish_reason != "stop":
        return "cut_off"
    if "{solution}" in options.template and not problem.solution:
        return "no_solution"
    right = verdict.outcome == Outcome.CORRECT
    wrong = verdict.outcome in (Outcome.WRONG, Outcome.NO_ANSWER)
    if {"all": False, "right": not right, "wrong": not wrong}[options.samples]:
        return "not_asked"
    return None
