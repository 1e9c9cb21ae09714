"""The balance score of B-STaR: enough right answers that differ, and few that repeat."""

from __future__ import annotations

import numpy as np


def balance(distinct: np.ndarray, selected: np.ndarray, *, target: int) -> np.ndarray:
    """min(n'/n*, 1) · n'/n of each problem; shape [problems], values in [0, 1].

    n' (`distinct`) is the number of distinct right answers, n (`selected`) of all that the verifier let through,
    n* (`target`) how many distinct ones are enough; 0 where nothing got through (Zeng et al. 2025, B-STaR,
    arXiv:2412.17256, section 4). Raises ValueError where `distinct` exceeds `selected` or `target` is under 1.
    """
    distinct, selected = np.asarray(distinct, float), np.asarray(selected, float)
    if target < 1 or (distinct > selected).any() or (distinct < 0).any():
        raise ValueError("a balance score needs 0 <= distinct <= selected and a target of at least 1")
    purity = np.divide(distinct, selected, out=np.zeros_like(distinct), where=selected > 0)
    return np.asarray(np.minimum(distinct / target, 1.0) * purity)
