"""Standing: what earlier rounds came to, problem by problem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flywheel.guided import is_guided
from flywheel.types import Origin, Outcome, Sample, Verdict

MASTERED, SOLVED, UNSOLVED = "mastered", "solved", "unsolved"


def standing(rounds: Iterable[tuple[Sequence[Sample], Mapping[str, Verdict]]]) -> dict[str, str]:
    """Problem id → what earlier rounds came to: `mastered`, `solved` or `unsolved`.

    `rounds` are samples and verdicts, oldest first. Mastered: the policy was always right in the last round
    that asked the problem. Solved: something that answered the plain prompt was right in some round. A completion that
    could not be judged counts as not asked.
    """
    found: dict[str, str] = {}
    for samples, verdicts in rounds:
        own: dict[str, bool] = {}
        for sample in samples:
            outcome = verdicts[sample.id].outcome
            if outcome == Outcome.ERROR or is_guided(sample):
                continue
            right = outcome == Outcome.CORRECT
            if found.setdefault(sample.problem_id, UNSOLVED) == UNSOLVED and right:
                found[sample.problem_id] = SOLVED
            if sample.origin == Origin.POLICY:
                own[sample.problem_id] = own.get(sample.problem_id, True) and right
        for problem_id, always in own.items():
            if always:
                found[problem_id] = MASTERED
            elif found[problem_id] == MASTERED:
                found[problem_id] = SOLVED
    return found
