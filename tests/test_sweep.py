"""The balance score, and the table a temperature is chosen from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.sweep import balance_score, balance_table
from flywheel.types import Sample, Verdict


@pytest.mark.parametrize(
    ("distinct", "selected", "wanted", "score"),
    [(8, 8, 8, 1.0), (4, 8, 8, 0.25), (8, 16, 8, 0.5), (16, 16, 8, 1.0), (0, 0, 8, 0.0), (1, 1, 8, 0.125)],
)
def test_the_score_of_the_paper(distinct, selected, wanted, score):
    assert balance_score(distinct, selected, wanted) == score


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 20))
def test_the_score_lies_in_the_unit_interval_and_repeats_cost(distinct, repeats, wanted):
    selected = distinct + repeats
    score = balance_score(distinct, selected, wanted)
    assert 0.0 <= score <= 1.0
    assert balance_score(distinct, selected + 1, wanted) <= score


def test_the_table_has_one_row_a_temperature_and_unjudged_completions_are_in_none():
    said = [
        ("p", 0.5, "correct", "1 + 1 = 2"), ("p", 0.5, "correct", "1 + 1 = 2"), ("q", 0.5, "wrong", "3"),
        ("p", 1.0, "correct", "1 + 1 = 2"), ("p", 1.0, "correct", "two"), ("q", 1.0, "error", "?"),
    ]  # fmt: skip
    samples = [Sample(str(i), p, 0, 0, i, text, "stop", 4, t, "", "policy") for i, (p, t, _, text) in enumerate(said)]
    verdicts = {str(i): Verdict(str(i), p, o, 1.0, None, "", "", "", "") for i, (p, _, o, _) in enumerate(said)}
    low, high = balance_table(samples, verdicts, wanted=2, min_score=0.0)
    assert (low["temperature"], low["balance"], low["problems"]) == (0.5, (0.5 * 0.5 + 0.0) / 2, 2)
    assert (low["right"], low["distinct"], low["tokens"]) == (pytest.approx(2 / 3), 0.5, 4.0)
    assert (high["balance"], high["problems"]) == (1.0, 1)
    assert balance_table(samples, verdicts, wanted=2, min_score=1.1)[0]["balance"] == 0.0
    assert balance_table([], {}, wanted=2, min_score=0.0) == []
