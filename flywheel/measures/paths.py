"""Reasoning paths of right answers: how many a problem has, and how many it would have with fewer right answers."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from flywheel.diversity import reasoning_path
from flywheel.types import PathKind


def path_counts(table: pl.DataFrame, kinds: Mapping[str, PathKind]) -> pl.DataFrame:
    """How often each path was taken by right answers: columns problem_id, path, times; sorted.

    `kinds` says by problem id what a path is; a problem that is not in it has equations.
    """
    right = table.filter("correct").select("problem_id", "completion")
    paths = [
        reasoning_path(completion, kinds.get(problem, PathKind.EQUATIONS)) for problem, completion in right.iter_rows()
    ]
    taken = right.select("problem_id").with_columns(path=pl.Series("path", paths, pl.String))
    return taken.group_by("problem_id", "path").agg(times=pl.len()).sort("problem_id", "path")


def distinct(counted: pl.DataFrame) -> dict[str, int]:
    """Problem id → distinct paths of its right answers, from `path_counts`; problems with none are absent."""
    found = counted.group_by("problem_id").agg(pl.len()).sort("problem_id")
    return dict(found.iter_rows())


def rarefied(counted: pl.DataFrame, m: int) -> dict[str, float]:
    """Problem id → expected number of distinct paths among m of its right answers, where it has m or more.

    The sum over paths of 1 - C(N - n, m) / C(N, m), N right answers of which n took the path (Hurlbert 1971,
    Ecology 52:577, equation 4). It lies in [1, m], so a model that is right more often is not wider for that alone.
    Raises ValueError for m under 1.
    """
    if m < 1:
        raise ValueError(f"rarefied to {m} right answers; needs at least 1")
    total = pl.col("times").sum().over("problem_id")
    missed = pl.lit(1.0)  # the chance that m draws without replacement all miss the path
    for drawn in range(m):
        left = (total - pl.col("times") - drawn).clip(lower_bound=0)
        missed = missed * left / (total - drawn)
    enough = counted.filter(total >= m)
    found = enough.select("problem_id", seen=1.0 - missed).group_by("problem_id").agg(pl.col("seen").sum())
    return dict(found.sort("problem_id").iter_rows())
