"""Intervals of what is no mean of one value a problem: ratios of means, ratios of rates, shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from flywheel.fingerprint import derive_seed
from flywheel.recipe import EvaluateSection

Interval = tuple[float, float]

CEILING = 1000.0
"""What a ratio counts as where a bootstrap draw has nothing below the line: JSON knows no infinity."""


def ratio_of_means(
    a: Mapping[str, float], b: Mapping[str, float], problems: Sequence[str], section: EvaluateSection, *, seed: int
) -> tuple[float, Interval]:
    """The mean of `a` over the mean of `b`, with a percentile bootstrap interval over `problems` (Efron 1979).

    `a` and `b` hold one value a problem, and may lack problems: each mean is over those that it has. One
    draw of problems serves both, so what makes a problem hard does not widen the interval. Raises
    ValueError where one of them has no value or the mean of `b` is 0.
    """
    if not a or not b or not any(b.values()):
        raise ValueError("a ratio of means needs values on both sides, and one above 0 below")
    sides = np.array([[side.get(p, math.nan) for p in problems] for side in (a, b)])
    there, values = ~np.isnan(sides), np.nan_to_num(sides)
    generator = np.random.default_rng(derive_seed(seed, "ratio of means"))
    at_once = max(1, 1_000_000 // len(problems))
    ratios = []
    for start in range(0, section.resamples, at_once):
        drawn = generator.integers(0, len(problems), (min(at_once, section.resamples - start), len(problems)))
        with np.errstate(divide="ignore", invalid="ignore"):
            above, below = (v[drawn].sum(axis=1) / t[drawn].sum(axis=1) for v, t in zip(values, there, strict=True))
            ratios.append(np.minimum(above / below, CEILING))
    found = np.concatenate(ratios)
    found = found[~np.isnan(found)]  # draws without a problem that one side has say nothing about it
    tail = (1.0 - section.confidence) / 2.0
    low, high = np.quantile(found, [tail, 1.0 - tail])
    return float(np.mean(list(a.values())) / np.mean(list(b.values()))), (float(low), float(high))


def rate_ratio(a: float, a_of: float, b: float, b_of: float, confidence: float) -> tuple[float, Interval]:
    """The rate of `a` events in `a_of` units over that of `b` in `b_of`, with its log-normal interval.

    Events count as independent (Poisson), and half an event is added to both counts, so that none at all
    still has an interval (Haldane 1956; Rothman, Greenland and Lash, Modern Epidemiology, ch. 14). Raises
    ValueError where there are no units.
    """
    if a_of <= 0 or b_of <= 0:
        raise ValueError("a rate needs something that it is a rate of")
    ratio = (a + 0.5) / a_of * b_of / (b + 0.5)
    spread = _z(confidence) * math.sqrt(1.0 / (a + 0.5) + 1.0 / (b + 0.5))
    return ratio, (ratio * math.exp(-spread), ratio * math.exp(spread))


def share_interval(share: float, n: int, confidence: float) -> Interval:
    """Wilson's score interval of a share among n (Wilson 1927). Raises ValueError without any."""
    if n < 1:
        raise ValueError("a share needs something that it is a share of")
    z = _z(confidence)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2.0)
