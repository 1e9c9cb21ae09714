"""From what a judge said of a pair in both positions to points: who is better, whatever stood first.

Verdicts that are written must agree: a winner that turns with the position is none (Zheng et al. 2023,
arXiv:2306.05685). Where a judge wrote none and only its probabilities are known, a preference for a position is a
factor on them, the same in both orders, and cancels in their geometric mean (C. Zheng et al. 2023, arXiv:2309.03882,
with both permutations). What is left has to be clear to count as a win; else it is a tie, which passes no alternative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from flywheel.verifiers.judge_model import Said

CLEAR = 0.75
"""Points of a pair, a tie's counted half, from which probabilities name a winner."""
_SHOWN = {"A": 1.0, "B": 0.0, "TIE": 0.5}


@dataclass(frozen=True, slots=True)
class Points:
    """What one answer gets against another: 1, 0.5 or 0; or why that is not known, `torn` where the orders differ."""

    value: float = 0.0
    why: str = ""
    torn: bool = False


def of_pair(there: Said, back: Said) -> Points:
    """Points of the answer that stood first in `there` and second in `back`."""
    if why := there.why or back.why:
        return Points(why=why)
    first, second = _points(there.weights), 1.0 - _points(back.weights)
    if there.written or back.written:
        if _rounded(first) == _rounded(second):
            return Points(_rounded(first))
        why = f"inconsistent: {_likeliest(there)} in one order, {_likeliest(back)} in the other"
        return Points(why=why, torn=True)
    turned = {"A": "B", "B": "A", "TIE": "TIE"}
    joint = {word: math.sqrt(weight * back.weights[turned[word]]) for word, weight in there.weights.items()}
    total = sum(joint.values())
    return Points(_rounded(_points(joint) / total) if total else 0.5)


def _torn(there: Said, back: Said) -> Points:
    return Points(why=f"inconsistent: {_likeliest(there)} in one order, {_likeliest(back)} in the other", torn=True)


def _points(weights: Mapping[str, float]) -> float:
    return sum(_SHOWN[word] * weight for word, weight in weights.items())


def _rounded(points: float) -> float:
    return 1.0 if points >= CLEAR else 0.0 if points <= 1.0 - CLEAR else 0.5


def _likeliest(said: Said) -> str:
    return max(said.weights, key=said.weights.__getitem__)
