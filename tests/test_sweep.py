"""The table a temperature is chosen from."""

from __future__ import annotations

import pytest

from flywheel.sweep import balance_table
from flywheel.types import PathKind, Sample, Verdict


def test_the_table_has_one_row_a_temperature_and_unjudged_completions_are_in_none():
    said = [
        ("p", 0.5, "correct", "1 + 1 = 2"), ("p", 0.5, "correct", "1 + 1 = 2"), ("q", 0.5, "wrong", "3"),
        ("p", 1.0, "correct", "1 + 1 = 2"), ("p", 1.0, "correct", "two"), ("q", 1.0, "error", "?"),
    ]  # fmt: skip
    samples = [Sample(str(i), p, 0, 0, i, text, "stop", 4, t, "", "policy") for i, (p, t, _, text) in enumerate(said)]
    verdicts = {str(i): Verdict(str(i), p, o, 1.0, None, "", "", "", "") for i, (p, _, o, _) in enumerate(said)}
    low, high = balance_table(samples, verdicts, wanted=2, min_scores=[0.0])
    assert (low["temperature"], low["balance"], low["problems"]) == (0.5, (0.5 * 0.5 + 0.0) / 2, 2)
    assert (low["right"], low["distinct"], low["tokens"]) == (pytest.approx(2 / 3), 0.5, 4.0)
    assert (high["balance"], high["problems"]) == (1.0, 1)
    assert balance_table(samples, verdicts, wanted=2, min_scores=[1.1])[0]["balance"] == 0.0
    assert balance_table([], {}, wanted=2, min_scores=[0.0]) == []


def test_paths_are_what_the_verifier_says():
    texts = ["def f():\n    return 1  # one", "def f():\n    return 1"]
    samples = [Sample(str(i), "p", 0, 0, i, text, "stop", 4, 1.0, "", "policy") for i, text in enumerate(texts)]
    verdicts = {str(i): Verdict(str(i), "p", "correct", 1.0, None, "", "", "", "") for i in range(2)}
    [as_words] = balance_table(samples, verdicts, wanted=2, min_scores=[0.0])
    [as_code] = balance_table(samples, verdicts, wanted=2, min_scores=[0.0], kinds={"p": PathKind.CODE})
    assert (as_words["distinct"], as_code["distinct"]) == (2.0, 1.0)


def test_thresholds_are_tried_with_each_temperature_on_the_same_completions():
    said = [
        (0.5, 0.9, "1 + 1 = 2"),
        (0.5, 0.6, "2 = 1 + 1"),
        (0.5, 0.6, "2 = 1 + 1"),
        (1.0, 0.6, "two"),
        (1.0, 0.6, "2"),
    ]
    samples = [Sample(str(i), "p", 0, 0, i, text, "stop", 4, t, "", "policy") for i, (t, _, text) in enumerate(said)]
    verdicts = {str(i): Verdict(str(i), "p", "correct", s, None, "", "", "", "") for i, (_, s, _) in enumerate(said)}
    table = balance_table(samples, verdicts, wanted=2, min_scores=[0.5, 0.8])
    assert [(row["temperature"], row["min_score"]) for row in table] == [(0.5, 0.5), (0.5, 0.8), (1.0, 0.5), (1.0, 0.8)]
    assert [row["balance"] for row in table] == [pytest.approx(2 / 3), 0.5, 1.0, 0.0]
    assert [row["right"] for row in table] == [1.0, pytest.approx(1 / 3), 1.0, 0.0]
