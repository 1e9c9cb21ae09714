"""Evaluate: pass@k from counts, with bootstrap intervals over problems, alone and paired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flywheel.diversity import distinct_paths, reasoning_path
from flywheel.fingerprint import derive_seed
from flywheel.recipe import EvaluateSection
from flywheel.types import Outcome, Sample, Verdict

Counts = dict[str, tuple[int, int]]
"""Problem id → (completions judged, of which correct)."""


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


def ladder(n: int) -> list[int]:
    """The values of k that n samples allow: 1, 2, 4, … and n itself."""
    powers = [1 << i for i in range(n.bit_length()) if 1 << i <= n]
    return powers if powers[-1] == n else [*powers, n]


def measure(
    samples: Sequence[Sample], verdicts: Mapping[str, Verdict], section: EvaluateSection, *, seed: int
) -> dict[str, Any]:
    """The metrics of one generation on one set of problems, as JSON-shaped data.

    `pass_at` and `intervals` are keyed by k as text; an interval is [low, high] from a percentile
    bootstrap over problems. Problems with fewer than k judged completions are left out of pass@k.
    """
    counts = count(samples, verdicts)
    pass_at, intervals = {}, {}
    for k in ladder(section.samples):
        values = _values(counts, sorted(counts), k)
        if len(values):
            pass_at[str(k)] = float(values.mean())
            intervals[str(k)] = list(interval(values, section, seed=seed))
    tokens = sum(s.tokens for s in samples)
    return {
        "n_problems": len({s.problem_id for s in samples}),
        "n_samples": len(samples),
        "correct": sum(c for _, c in counts.values()),
        "solved": sum(c > 0 for _, c in counts.values()),
        "counts": {p: list(counts[p]) for p in sorted(counts)},
        "rarefied": _rarefied(samples, verdicts),
        "rarefied_at": 2,
        "distinct_paths": distinct_paths(samples, verdicts),
        "pass_at": pass_at,
        "intervals": intervals,
        "tokens": tokens,
        "mean_tokens": tokens / len(samples) if samples else 0.0,
        "cut_off_share": sum(s.finish_reason == "length" for s in samples) / len(samples) if samples else 0.0,
        "errors": sum(verdicts[s.id].outcome == Outcome.ERROR for s in samples),
    }


def _rarefied(samples: Sequence[Sample], verdicts: Mapping[str, Verdict]) -> dict[str, float]:
    """Distinct paths expected among two right answers, by problem with two or more (Hurlbert 1971)."""
    paths: dict[str, Counter[str]] = {}
    for s in samples:
        if verdicts[s.id].outcome == Outcome.CORRECT:
            paths.setdefault(s.problem_id, Counter())[reasoning_path(s.completion)] += 1
    return {
        p: 2.0 - sum(t * (t - 1) for t in taken.values()) / (right * (right - 1))
        for p, taken in sorted(paths.items())
        if (right := taken.total()) > 1
    }


def _values(counts: Counts, problem_ids: Iterable[str], k: int) -> np.ndarray:
    return np.array([pass_at_k(*counts[p], k) for p in problem_ids if counts[p][0] >= k])


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(derive_seed(seed, "bootstrap"))
    at_once = max(1, 2_000_000 // len(values))
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        yield values[generator.integers(0, len(values), (rows, len(values)))].mean(axis=1)


def interval(values: np.ndarray, section: EvaluateSection, *, seed: int) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of one value a problem (Efron 1979)."""
    means = np.concatenate(list(_resampled_means(values, section.resamples, seed)))
    tail = (1.0 - section.confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)


def paired_difference(a: Counts, b: Counts, k: int, section: EvaluateSection, *, seed: int) -> dict[str, float]:
    """pass@k of `a` minus that of `b` on the problems both have, with its paired bootstrap interval.

    Pairing by problem takes out how hard the problems are, so the interval is narrower than the
    difference of two separate ones. Raises ValueError where no problem has k judged completions in both.
    """
    both = sorted(p for p in a.keys() & b.keys() if a[p][0] >= k and b[p][0] >= k)
    if not both:
        raise ValueError(f"no problem has {k} judged completions from both generations")
    difference = _values(a, both, k) - _values(b, both, k)
    low, high = interval(difference, section, seed=seed)
    return {"value": float(difference.mean()), "low": low, "high": high, "n_problems": float(len(both))}
