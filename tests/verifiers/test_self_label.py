"""`self_label` looks at lengths and votes, and never at the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel import Outcome, PluginError, Problem, make_verifier
from flywheel.verifiers.self_label import SelfLabel

DIGITS = SelfLabel(pattern=r"\d", field="digits", longer=1)


def of(digits: object, answer: str = "a1") -> Problem:
    return Problem("p", "51a32b=a", answer, meta={"digits": digits})


def outcomes(verifier: SelfLabel, *completions: str) -> list[Outcome]:
    return [j.outcome for j in verifier.verify_group(of(2), completions)]


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("6b5", Outcome.CORRECT),
        ("6b5c1", Outcome.CORRECT),
        ("9b9", Outcome.CORRECT),  # wrong as a sum, and nothing here could know
        ("6", Outcome.WRONG),
        ("6b5c1d1", Outcome.WRONG),
        ("", Outcome.NO_ANSWER),
        ("abc", Outcome.NO_ANSWER),
    ],
)
def test_an_answer_has_as_many_digits_as_the_numbers_or_one_more(said: str, outcome: Outcome) -> None:
    assert DIGITS.verify(of(2), said).outcome == outcome


@given(st.text(max_size=12), st.text(max_size=12), st.lists(st.text("a123", max_size=6), min_size=1, max_size=5))
def test_the_reference_answer_changes_nothing(one: str, other: str, completions: list[str]) -> None:
    assert DIGITS.verify_group(of(2, one), completions) == DIGITS.verify_group(of(2, other), completions)


def test_the_answer_that_most_agree_on_wins_where_its_share_is_enough() -> None:
    assert outcomes(DIGITS, "6b5", "6b5", "7b5") == [Outcome.CORRECT, Outcome.CORRECT, Outcome.WRONG]
    strict = SelfLabel(pattern=r"\d", field="digits", min_share=0.7)
    assert set(outcomes(strict, "6b5", "6b5", "7b5")) == {Outcome.NO_ANSWER}
    assert set(outcomes(DIGITS, "6b5", "7b5")) == {Outcome.NO_ANSWER}  # a tie


def test_the_length_is_asked_of_the_winner_as_well() -> None:
    assert outcomes(DIGITS, "6", "6", "6b5") == [Outcome.WRONG] * 3


def test_a_field_that_is_not_there_is_an_error_of_the_recipe() -> None:
    with pytest.raises(ValueError, match="must name a whole number"):
        DIGITS.verify(of("two"), "6b5")


@pytest.mark.parametrize("options", [{"pattern": "("}, {"shorter": -1}, {"min_share": 1.5}])
def test_options_out_of_range(options: dict[str, object]) -> None:
    with pytest.raises(PluginError, match=str(next(iter(options)))):
        make_verifier("self_label", options)
