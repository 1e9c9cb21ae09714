"""Sweep: which temperature balances many right answers against variety among them.

The score is B-STaR's (Zeng et al. 2025, arXiv:2412.17256), `flywheel.measures.balance`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from flywheel.diversity import reasoning_path
from flywheel.measures.balance import balance
from flywheel.types import Outcome, PathKind, Sample, Verdict


def balance_table(
    samples: Sequence[Sample],
    verdicts: Mapping[str, Verdict],
    *,
    wanted: int,
    min_score: float,
    kinds: Mapping[str, PathKind] | None = None,
) -> list[dict[str, float]]:
    """One row a temperature, in the order in which the samples bring them.

    `balance` is the mean score over problems, those without a right completion at 0; `right` the share of
    judged completions that were right; `distinct` the mean number of distinct right paths a problem; `tokens`
    the mean length. Selected is what is right and scores at least `min_score`. Problems that nothing could
    be judged of are left out; `problems` is how many are left. `kinds` tells what their paths are.
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
        distinct = [len({_path(s, kinds) for s in group}) for group in chosen]
        judged = sum(map(len, problems.values()))
        scores = balance(np.array(distinct), np.array([len(group) for group in chosen]), target=wanted)
        table.append(
            {
                "temperature": temperature,
                "balance": float(scores.mean()),
                "right": sum(map(len, chosen)) / judged,
                "distinct": sum(distinct) / len(problems),
                "tokens": sum(s.tokens for group in problems.values() for s in group) / judged,
                "problems": len(problems),
            }
        )
    return table


def _path(sample: Sample, kinds: Mapping[str, PathKind] | None) -> str:
    return reasoning_path(sample.completion, (kinds or {}).get(sample.problem_id, PathKind.EQUATIONS))
