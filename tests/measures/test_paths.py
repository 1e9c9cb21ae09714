"""Paths of right answers, and what is left of them with fewer right answers."""

from __future__ import annotations

from itertools import combinations, pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.measures.paths import distinct, path_counts, rarefied
from flywheel.measures.table import judged
from flywheel.types import Outcome, PathKind

from .conftest import CALM

TAKEN = st.lists(st.integers(1, 5), min_size=1, max_size=5)


def counted(times, problem="p"):
    return pl.DataFrame({"problem_id": problem, "path": [str(i) for i in range(len(times))], "times": times})


def test_only_right_answers_have_paths(rows):
    samples, verdicts = rows(
        {
            "a": [
                ("1 + 2 = 3", Outcome.CORRECT, "3"),
                ("So 1+2=3.", Outcome.CORRECT, "3"),
                ("2 = 3", Outcome.WRONG, "3"),
            ],
            "b": [("2 + 2 = 5", Outcome.WRONG, "5"), ("2 + 2 = 4", Outcome.ERROR, None)],
            "c": [("x = 1", Outcome.CORRECT, None), ("y  =  1", Outcome.CORRECT, None)],
        }
    )
    assert distinct(path_counts(judged(samples, verdicts), {"c": PathKind.CODE})) == {"a": 1, "c": 1}
    assert distinct(path_counts(judged(samples, verdicts), {})) == {"a": 1, "c": 2}


@CALM
@given(TAKEN, st.integers(1, 6))
def test_rarefaction_is_the_mean_over_all_draws(times, m):
    right = [path for path, n in enumerate(times) for _ in range(n)]
    found = rarefied(counted(times), m)
    if len(right) < m:
        assert found == {}
    elif len(right) <= 14:
        draws = [len(set(draw)) for draw in combinations(right, m)]
        assert found == {"p": pytest.approx(sum(draws) / len(draws))}


@CALM
@given(TAKEN)
def test_rarefied_paths_grow_with_m_up_to_all_of_them(times):
    values = [rarefied(counted(times), m)["p"] for m in range(1, sum(times) + 1)]
    assert values[0] == pytest.approx(1.0)
    assert values[-1] == pytest.approx(len(times))
    assert all(a <= b + 1e-9 for a, b in pairwise(values))
    assert all(1.0 - 1e-9 <= value <= m + 1e-9 for m, value in enumerate(values, 1))


def test_being_right_more_often_is_not_being_wider():
    """The same mix of paths, three times as often right."""
    few, often = rarefied(counted([20, 20]), 2)["p"], rarefied(counted([60, 60]), 2)["p"]
    assert few == pytest.approx(often, abs=0.02)


def test_rarefying_to_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        rarefied(counted([1]), 0)
