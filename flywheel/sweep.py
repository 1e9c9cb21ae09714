"""Sweep: which temperature and which score threshold balance many right answers against variety among them.

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
    min_scores: Sequence[float],
    kinds: Mapping[str, PathKind] | None = None,
) -> list[dict[str, float]]:
    """One row a temperature, in the order in which the samples bring them, and threshold of `min_scores`.

    Selected is what is right and scores at least `min_score`. `balance` is the mean score over problems, those without
    a selected completion at 0; `right` the share of judged completions that were selected; `distinct` the mean number
    of distinct selected paths a problem; `tokens` the mean length. Problems that nothing could be judged of are left
    out; `problems` is how many are left. `kinds` tells what their paths are.
    """
    groups: dict[float, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        if verdicts[sample.id].outcome != Outcome.ERROR:
            groups[sample.temperature][sample.problem_id].append(sample)

    table = []
    for temperature, problems in groups.items():
        judged = sum(map(len, problems.values()))
        right = [[s for s in group if verdicts[s.id].outcome == Outcome.CORRECT] for group in problems.values()]
        paths = {s.id: _path(s, kinds) for group in right for s in group}
        for min_score in min_scores:
            chosen = [[s for s in group if verdicts[s.id].score >= min_score] for group in right]
            distinct = [len({paths[s.id] for s in group}) for group in chosen]
            scores = balance(np.array(distinct), np.array([len(group) for group in chosen]), target=wanted)
            table.append(
                {
                    "temperature": temperature,
                    "min_score": min_score,
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
