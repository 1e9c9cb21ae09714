"""From whatever a verifier returned to a judgement: the one place that reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from flywheel.types import Judgement, Outcome

LONGEST_TEXT = 500
"""Characters of an answer or a detail that are kept: verdicts are rows, not documents."""

RIGHT = 1.0 - 1e-9
"""A bare number is a right answer from here on; partial credit stays partial."""


def to_judgement(value: Any) -> Judgement:
    """A judgement from whatever a verifier returned.

    True is correct, False wrong, None nothing to judge. A number in [0, 1] is a score, and correct only
    where it is 1: a verifier for which less is enough says so with a Judgement or a mapping. A mapping has
    `outcome` or `score` (or both), and may have `answer` and `detail`. NaN, infinities, scores outside
    [0, 1] and all other values are ERROR, with the value in `detail`.
    """
    if isinstance(value, Judgement):
        return _judgement(value.outcome, value.score, value.answer, value.detail)
    if value is None:
        return Judgement(Outcome.NO_ANSWER, 0.0)
    if isinstance(value, bool):
        return Judgement(Outcome.CORRECT if value else Outcome.WRONG, 1.0 if value else 0.0)
    if isinstance(value, (int, float)):
        return _from_score(value, None, "")
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if type(value).__module__ in ("numpy", "torch"):
        return _from_array(value)
    return broken(f"returned {type(value).__name__} {_short(repr(value))}, which is no judgement")


def broken(detail: str) -> Judgement:
    """The judgement for a verifier that failed: ERROR, never "wrong"."""
    return Judgement(Outcome.ERROR, 0.0, None, clean(detail))


def clean(text: str) -> str:
    """One short line that any file format can carry: no line breaks, NULs or lone surrogates."""
    kept = text[: LONGEST_TEXT + 1].encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
    return _short(" ".join(kept.split()))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _from_array(value: Any) -> Judgement:
    try:
        return to_judgement(value.item())
    except (ValueError, RuntimeError) as error:  # more than one element
        return broken(f"returned {type(value).__name__}, which is no single number: {error}")


def _from_mapping(value: Mapping[Any, Any]) -> Judgement:
    answer, detail = value.get("answer"), value.get("detail", "")
    if "outcome" in value:
        outcome = value["outcome"]
        default = 1.0 if outcome == Outcome.CORRECT else 0.0
        return _judgement(outcome, value.get("score", default), answer, detail)
    if "score" in value:
        return _from_score(value["score"], answer, detail)
    return broken(f"returned a mapping with neither 'outcome' nor 'score': {_short(repr(sorted(map(str, value))))}")


def _from_score(score: Any, answer: Any, detail: Any) -> Judgement:
    right = isinstance(score, (int, float)) and score >= RIGHT
    return _judgement(Outcome.CORRECT if right else Outcome.WRONG, score, answer, detail)


def _judgement(outcome: Any, score: Any, answer: Any, detail: Any) -> Judgement:
    try:
        known = Outcome(outcome)
    except ValueError:
        return broken(f"returned the outcome {outcome!r}; known: {', '.join(Outcome)}")
    if not isinstance(score, (int, float)) or not math.isfinite(score) or not 0.0 <= score <= 1.0:
        return broken(f"returned the score {score!r}; a score is a number from 0 to 1")
    shown = None if answer is None else clean(str(answer))
    return Judgement(known, float(score), shown, clean(str(detail)))
