"""pass@k from counts, with bootstrap intervals over problems, alone and paired."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from flywheel.fingerprint import derive_seed
from flywheel.recipe import EvaluateSection
from flywheel.types import Outcome, Sample, Verdict

Counts = dict[str, tuple[int, int]]
"""Problem id → (completions judged, of which correct)."""

_AT_ONCE = 2_000_000
"""Resampled values held in memory together."""

_FEW_VALUES = 16
"""With so many problems a distinct value, drawing how often each value occurs is faster than drawing problems."""


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased chance that at least one of k completions is right, from c right ones among n.

    1 - C(n-c, k) / C(n, k), computed as a product (Chen et al. 2021, arXiv:2107.03374, section 2.1).
    Raises ValueError where k exceeds n.
    """
    if not 1 <= k <= n or not 0 <= c <= n:
        raise ValueError(f"pass@{k} of {c} right among {n}: needs 1 <= k <= n and 0 <= c <= n")
    if n - c < k:
        return 1.0
    return 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def count(samples: Iterable[Sample], verdicts: Mapping[str, Verdict]) -> Counts:
    """Judged and correct completions of each problem. Verifier errors are in neither."""
    counts: Counts = {}
    for sample in samples:
        outcome = verdicts[sample.id].outcome
        if outcome == Outcome.ERROR:
            continue
        n, c = counts.get(sample.problem_id, (0, 0))
        counts[sample.problem_id] = (n + 1, c + (outcome == Outcome.CORRECT))
    return counts


def counts_in(measured: Mapping[str, Any]) -> Counts:
    """The counts that the metrics of a set hold, as they come back from JSON."""
    return {problem: (n, c) for problem, (n, c) in measured["counts"].items()}


def ladder(n: int) -> list[int]:
    """The values of k that n samples allow: 1, 2, 4, … and n itself."""
    powers = [1 << i for i in range(n.bit_length()) if 1 << i <= n]
    return powers if powers[-1] == n else [*powers, n]


def values(counts: Counts, problem_ids: Iterable[str], k: int) -> np.ndarray:
    """pass@k of each problem that has k judged completions, in the order given; shape [problems]."""
    known: dict[tuple[int, int], float] = {}
    found = []
    for problem in problem_ids:
        n, c = counts[problem]
        if n >= k:
            if (n, c) not in known:
                known[n, c] = pass_at_k(n, c, k)
            found.append(known[n, c])
    return np.array(found)


def pass_rates(counts: Counts, section: EvaluateSection, *, seed: int) -> tuple[dict[str, float], dict[str, Any]]:
    """pass@k and its interval [low, high] for every k of the ladder, keyed by k as text.

    Problems with fewer than k judged completions are left out of pass@k; a k that no problem reaches is absent.
    """
    pass_at, intervals = {}, {}
    for k in ladder(section.samples):
        found = values(counts, sorted(counts), k)
        if len(found):
            pass_at[str(k)] = float(found.mean())
            intervals[str(k)] = list(interval(found, section, seed=seed))
    return pass_at, intervals


def interval(values: np.ndarray, section: EvaluateSection, *, seed: int) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of one value a problem (Efron 1979)."""
    means = _resampled_means(values, section.resamples, seed)
    tail = (1.0 - section.confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of as many problems drawn with replacement; shape [resamples]."""
    generator = np.random.default_rng(derive_seed(seed, "bootstrap"))
    distinct, times = np.unique(values, return_counts=True)
    if len(values) > _FEW_VALUES * len(distinct):
        # A mean does not ask which problems were drawn, only how many of each value: that is multinomial.
        drawn = generator.multinomial(len(values), times / len(values), size=resamples)
        return np.asarray(drawn @ distinct / len(values))
    at_once = max(1, _AT_ONCE // len(values))
    pieces = []
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        pieces.append(values[generator.integers(0, len(values), (rows, len(values)))].mean(axis=1))
    return np.concatenate(pieces)


def paired_difference(a: Counts, b: Counts, k: int, section: EvaluateSection, *, seed: int) -> dict[str, float]:
    """pass@k of `a` minus that of `b` on the problems both have, with its paired bootstrap interval.

    Pairing by problem takes out how hard the problems are, so the interval is narrower than the
    difference of two separate ones. Raises ValueError where no problem has k judged completions in both.
    """
    both = sorted(p for p in a.keys() & b.keys() if a[p][0] >= k and b[p][0] >= k)
    if not both:
        raise ValueError(f"no problem has {k} judged completions from both generations")
    difference = values(a, both, k) - values(b, both, k)
    low, high = interval(difference, section, seed=seed)
    return {"value": float(difference.mean()), "low": low, "high": high, "n_problems": float(len(both))}


def paired_differences(a: Counts, b: Counts, section: EvaluateSection, *, seed: int) -> dict[str, dict[str, float]]:
    """`paired_difference` for every k of the ladder that some problem allows, keyed by k as text."""
    most = max((min(a[p][0], b[p][0]) for p in a.keys() & b.keys()), default=0)
    ks = [k for k in ladder(section.samples) if k <= most]
    return {str(k): paired_difference(a, b, k, section, seed=seed) for k in ks}
