"""Intervals: against figures worked out elsewhere, and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.intervals import rate_ratio, ratio_of_means, share_interval
from flywheel.recipe import EvaluateSection

SECTION = EvaluateSection(resamples=2000)


def test_wilsons_interval():
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3 (score, no continuity correction)."""
    assert share_interval(81 / 263, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert share_interval(15 / 148, 148, 0.95) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert share_interval(0.0, 20, 0.95) == pytest.approx((0.0, 0.1611), abs=5e-5)
    with pytest.raises(ValueError, match="share"):
        share_interval(0.0, 0, 0.95)


def test_rate_ratio_is_symmetric_and_narrows_with_counts():
    ratio, (low, high) = rate_ratio(50, 1000, 100, 1000, 0.95)
    assert ratio == pytest.approx(50.5 / 100.5)
    back, (low_back, high_back) = rate_ratio(100, 1000, 50, 1000, 0.95)
    assert (back, low_back, high_back) == pytest.approx((1 / ratio, 1 / high, 1 / low))
    assert rate_ratio(500, 10_000, 1000, 10_000, 0.95)[1][0] > low
    assert 0.2 < rate_ratio(0, 1000, 30, 1000, 0.95)[1][1] < 0.3, "none at all has an interval too"


def test_ratio_of_means_covers_the_truth():
    """Of 100 draws of two groups with a true ratio of .5, about 95 intervals hold it."""
    draw, held = np.random.default_rng(0), 0
    problems = [f"p{i}" for i in range(40)]
    for seed in range(100):
        b = {p: float(draw.beta(8, 2)) for p in problems[:25]}
        a = {p: float(draw.beta(4, 6)) for p in problems[5:]}
        _, (low, high) = ratio_of_means(a, b, problems, EvaluateSection(resamples=300), seed=seed)
        held += low <= 0.5 <= high
    assert 88 <= held <= 100


def test_ratio_of_means_is_the_ratio_and_the_same_each_time():
    a, b = {"x": 0.2, "y": 0.4}, {"x": 0.5, "y": 0.7, "z": 0.6}
    first = ratio_of_means(a, b, ["x", "y", "z", "w"], SECTION, seed=1)
    assert first[0] == pytest.approx(0.5)
    assert first[1][0] <= 0.5 <= first[1][1]
    assert first == ratio_of_means(a, b, ["x", "y", "z", "w"], SECTION, seed=1)


@pytest.mark.parametrize(("a", "b"), [({}, {"x": 1.0}), ({"x": 1.0}, {}), ({"x": 1.0}, {"x": 0.0})])
def test_a_ratio_to_nothing_is_refused(a, b):
    with pytest.raises(ValueError, match="ratio of means"):
        ratio_of_means(a, b, ["x"], SECTION, seed=0)


def test_a_draw_with_nothing_below_the_line_stays_finite():
    """Half of the draws from two problems miss the one in which `b` is above 0."""
    _, (low, high) = ratio_of_means({"x": 1.0, "y": 1.0}, {"x": 0.0, "y": 0.5}, ["x", "y"], SECTION, seed=0)
    assert 2.0 <= low < high <= 1000.0
