"""Agreement: how far the verifier that decides agrees with an observer that knows the answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flywheel.arithmetic import exact_value, stated_expression
from flywheel.types import Outcome, Problem, Sample, Verdict


def as_observed(problem: Problem, observer: str) -> Problem | None:
    """A problem as the observer gets it: with its reference answer, or with the value of the sum that it states; None
    where it has neither."""
    answer = problem.answer
    if not answer:
        expression = stated_expression(problem.prompt)
        answer = "" if expression is None else str(exact_value(expression))
    return replace(problem, answer=answer, verifier=observer) if answer else None


def agreement(
    samples: Sequence[Sample], verdicts: Mapping[str, Verdict], observed: Mapping[str, Verdict]
) -> dict[str, Any]:
    """The verdicts of a round against the observer's, by sample id; shares are None where nothing is there to share.

    `samples` on which both decided; `agree`: the share on which they said the same. `kept_right`: the observer's share
    of right ones among those that the verifier called correct, and `all_right`: among all that the observer could
    judge, which is what choosing at random would keep. `found`: of those that the observer found right, the share that
    the verifier called correct. `undecided` samples had no verdict but an error or nothing to judge by, `unobserved`
    ones no answer that the observer could go by.
    """
    right = {id: v.outcome == Outcome.CORRECT for id, v in observed.items() if v.outcome != Outcome.ERROR}
    said = {
        s.id: verdicts[s.id].outcome == Outcome.CORRECT
        for s in samples
        if verdicts[s.id].outcome in (Outcome.CORRECT, Outcome.WRONG)
    }
    both = [(said[id], right[id]) for id in said if id in right]
    return {
        "samples": len(both),
        "agree": _share(one == other for one, other in both),
        "kept_right": _share(good for kept, good in both if kept),
        "all_right": _share(right[s.id] for s in samples if s.id in right),
        "found": _share(said.get(id, False) for id, good in right.items() if good),
        "undecided": len(samples) - len(said),
        "unobserved": sum(s.id not in right for s in samples),
    }


def proposed_measures(
    proposed: Iterable[str], samples: Sequence[Sample], verdicts: Mapping[str, Verdict], observed: Mapping[str, Verdict]
) -> dict[str, Any] | None:
    """What became of the problems that were proposed for a round; None where none was asked.

    `in_band` are those of which some completions were judged correct and others not: with `majority` and a band that
    leaves out unanimous votes, those that have a label (1 < votes for it < all). `labels` are those of them whose label
    the observer could judge, `label_right` the share of these that is right.
    """
    ids = set(proposed)
    groups: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        if sample.problem_id in ids:
            groups[sample.problem_id].append(sample.id)
    if not groups:
        return None
    kept = {p: [i for i in members if verdicts[i].outcome == Outcome.CORRECT] for p, members in groups.items()}
    band = [p for p, correct in kept.items() if 0 < len(correct) < len(groups[p])]
    labels = [observed[kept[p][0]].outcome for p in band if kept[p][0] in observed]
    labels = [outcome for outcome in labels if outcome != Outcome.ERROR]
    return {
        "problems": len(groups),
        "in_band": len(band),
        "in_band_share": len(band) / len(groups),
        "labels": len(labels),
        "label_right": _share(outcome == Outcome.CORRECT for outcome in labels),
    }


def _share(flags: Iterable[bool]) -> float | None:
    found = list(flags)
    return sum(found) / len(found) if found else None
