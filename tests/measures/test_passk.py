"""Evaluate: pass@k against its definition, intervals that cover, pairing that narrows."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.evaluate import measure
from flywheel.measures.passk import count, interval, ladder, paired_difference, pass_at_k
from flywheel.recipe import EvaluateSection
from flywheel.types import Outcome, Sample, Verdict

SECTION = EvaluateSection(samples=4, resamples=2000)


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(nck):
    n, c, k = nck
    draws = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


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
    metrics = measure(samples, verdicts, SECTION, seed=0)
    assert metrics["errors"] == 1
    assert metrics["pass_at"]["1"] == pytest.approx(1 / 3)
    assert "4" not in metrics["pass_at"]


def test_measure_counts_what_it_says():
    samples, verdicts = rows({"a": [Outcome.CORRECT] * 4, "b": [Outcome.WRONG] * 4})
    metrics = measure(samples, verdicts, SECTION, seed=0)
    assert (metrics["n_problems"], metrics["n_samples"], metrics["correct"], metrics["solved"]) == (2, 8, 4, 1)
    assert metrics["distinct_paths"] == 4
    assert metrics["pass_at"] == {"1": 0.5, "2": 0.5, "4": 0.5}
    assert metrics["intervals"]["1"] == [0.0, 1.0]
    assert metrics == measure(samples, verdicts, SECTION, seed=0)


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
