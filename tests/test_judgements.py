"""Whatever a plug-in returns becomes a judgement."""

from __future__ import annotations

import math
from typing import Any

import pytest

from flywheel import Judgement, Outcome
from flywheel.judgements import to_judgement


@pytest.mark.parametrize(
    ("returned", "outcome", "score"),
    [
        (True, Outcome.CORRECT, 1.0),
        (False, Outcome.WRONG, 0.0),
        (None, Outcome.NO_ANSWER, 0.0),
        (1, Outcome.CORRECT, 1.0),
        (0.999, Outcome.WRONG, 0.999),
        (0.0, Outcome.WRONG, 0.0),
        ({"score": 1.0, "answer": 7, "extra": object()}, Outcome.CORRECT, 1.0),
        ({"outcome": "correct", "score": 0.8}, Outcome.CORRECT, 0.8),
        ({"outcome": "wrong"}, Outcome.WRONG, 0.0),
        (Judgement(Outcome.TIMEOUT, 0.0), Outcome.TIMEOUT, 0.0),
        (math.nan, Outcome.ERROR, 0.0),
        (math.inf, Outcome.ERROR, 0.0),
        (1.5, Outcome.ERROR, 0.0),
        (-0.1, Outcome.ERROR, 0.0),
        (Judgement(Outcome.CORRECT, math.nan), Outcome.ERROR, 0.0),
        ({"outcome": "great"}, Outcome.ERROR, 0.0),
        ({"score": "1.0"}, Outcome.ERROR, 0.0),
        ({}, Outcome.ERROR, 0.0),
        ("correct", Outcome.ERROR, 0.0),
        ([True], Outcome.ERROR, 0.0),
    ],
)
def test_whatever_a_verifier_returns_becomes_a_judgement(returned: Any, outcome: Outcome, score: float) -> None:
    judgement = to_judgement(returned)
    assert (judgement.outcome, judgement.score) == (outcome, score)
    assert bool(judgement.detail) == (outcome == Outcome.ERROR)


def test_numpy_values_count_as_what_they_hold() -> None:
    numpy = pytest.importorskip("numpy")
    assert to_judgement(numpy.bool_(True)).outcome == Outcome.CORRECT
    assert to_judgement(numpy.float32(0.5)).score == 0.5
    assert to_judgement(numpy.array([1.0, 0.0])).outcome == Outcome.ERROR


def test_texts_come_back_short_and_writable() -> None:
    judgement = to_judgement({"score": 0.0, "answer": "a\ud800b\x00c\nd" + "x" * 10_000, "detail": "\udfff" * 9})
    assert judgement.answer is not None and len(judgement.answer) <= 500
    assert "\n" not in judgement.answer and "\x00" not in judgement.answer
    (judgement.answer + judgement.detail).encode("utf-8")
