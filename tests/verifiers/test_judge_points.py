"""Points of a pair: written verdicts must agree, of probabilities the position's part cancels."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.verifiers.judge_model import Said
from flywheel.verifiers.judge_points import of_pair


def written(word: str) -> Said:
    return Said({word: 1.0}, written=True)


def likely(a: float, b: float, tie: float) -> Said:
    return Said({"A": a, "B": b, "TIE": tie})


@pytest.mark.parametrize(("there", "back", "points"), [("A", "B", 1.0), ("B", "A", 0.0), ("TIE", "TIE", 0.5)])
def test_written_verdicts_that_agree(there: str, back: str, points: float) -> None:
    assert of_pair(written(there), written(back)).value == points


@pytest.mark.parametrize(("there", "back"), [("A", "A"), ("B", "B"), ("A", "TIE"), ("TIE", "A")])
def test_written_verdicts_that_turn_with_the_position(there: str, back: str) -> None:
    assert of_pair(written(there), written(back)).why == f"inconsistent: {there} in one order, {back} in the other"


def test_why_there_is_no_verdict_is_passed_on() -> None:
    assert of_pair(written("A"), Said(why="cut off")).why == "cut off"


def test_one_written_verdict_holds_the_other_to_it() -> None:
    assert of_pair(written("A"), likely(0.1, 0.85, 0.05)).value == 1.0
    assert of_pair(written("A"), likely(0.5, 0.4, 0.1)).why


def test_a_judge_that_only_the_position_moves_finds_nothing_better() -> None:
    assert of_pair(likely(0.97, 0.02, 0.01), likely(0.96, 0.03, 0.01)).value == 0.5
    assert of_pair(likely(1.0, 0.0, 0.0), likely(1.0, 0.0, 0.0)).value == 0.5


def test_a_leaning_to_a_position_is_no_preference() -> None:
    assert of_pair(likely(0.7, 0.2, 0.1), likely(0.7, 0.2, 0.1)).value == 0.5
    # The same leaning with an answer that is preferred in both places.
    assert of_pair(likely(0.9, 0.03, 0.07), likely(0.4, 0.5, 0.1)).value == 1.0


@given(st.floats(-3, 3), st.floats(-6, 6))
def test_the_position_cancels(leaning: float, better: float) -> None:
    """With log-odds `better` for one answer and `leaning` for the first place, only the former counts."""

    def order(odds: float) -> Said:
        a = 1 / (1 + math.exp(-odds))
        return likely(a * 0.98, (1 - a) * 0.98, 0.02)

    found = of_pair(order(leaning + better), order(leaning - better))
    plain = of_pair(order(better), order(-better))
    if abs(abs(better) - 1.13) > 0.1:
        assert found.value == plain.value
