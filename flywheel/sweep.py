"""Sweep: which temperature balances many right answers against variety among them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from flywheel.diversity import reasoning_path
from flywheel.types import Outcome, Sample, Verdict


def balance_score(distinct: int, selected: int, wanted: int) -> float:
    """How well one problem's selected completions serve training, in [0, 1].

    `min(n' / n*, 1) * n' / n` with n' distinct right completions among n selected ones and n* wanted: the
    first factor grows with how many there are, the second falls with how much they repeat each other (Zeng
    et al. 2025, arXiv:2412.17256, section 4). 0 where nothing is selected.
    """
    return min(distinct / wanted, 1.0) * distinct / selected if selected else 0.0


def balance_table(
    samples: Sequence[Sample], verdicts: Mapping[str, Verdict], *, wanted: int, min_score: float
) -> list[dict[str, float]]:
    """One row a temperature, in the order in which the samples bring them.

    `balance` is the mean score over problems, those without a right completion at 0; `right` the share of
    judged completions that were right; `distinct` the mean number of distinct right paths a problem; `tokens`
    the mean length. Selected is what is right and scores at least `min_score`. Problems that nothing could
    be judged of are left out; `problems` is how many are left.
    """
    groups: dict[float, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        if verdicts[sample.id].outcome != Outcome.ERROR:
            groups[sample.temperature][sample.problem_id].append(sample)

    def selected(sample: Sample) -> bool:
        verdict = verdicts[sample.id]
        return verdict.outcome == Outcome.CORRECT and verdict.score >= min_score

    table = []
    for temperature, problems in groups.items():
        chosen = [[s for s in group if selected(s)] for group in problems.values()]
        distinct = [len({reasoning_path(s.completion) for s in group}) for group in chosen]
        judged = sum(map(len, problems.values()))
        scores = [balance_score(d, len(group), wanted) for d, group in zip(distinct, chosen, strict=True)]
        table.append(
            {
                "temperature": temperature,
                "balance": sum(scores) / len(problems),
                "right": sum(map(len, chosen)) / judged,
                "distinct": sum(distinct) / len(problems),
                "tokens": sum(s.tokens for group in problems.values() for s in group) / judged,
                "problems": len(problems),
            }
        )
    return table
