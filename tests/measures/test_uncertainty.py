"""Entropies of answers and tokens, and lengths."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.measures.lengths import lengths
from flywheel.measures.table import judged
from flywheel.measures.uncertainty import answer_entropy, mean_logprob, token_entropy
from flywheel.types import Outcome

from .conftest import CALM, judged_rows

ANSWERS = st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=8)


def table(answers_by_problem, outcome=Outcome.WRONG, **options):
    return judged(*judged_rows({p: [("x", outcome, a) for a in g] for p, g in answers_by_problem.items()}, **options))


def test_answers_by_hand():
    assert answer_entropy(table({"a": ["1", "1"], "b": ["1", "2"]})) == pytest.approx(math.log(2) / 2)
    assert answer_entropy(table({"a": ["1", "1", "1"]})) == 0.0
    assert answer_entropy(table({"a": [None, None]})) is None
    assert answer_entropy(table({"a": ["1", "2"]}, outcome=Outcome.ERROR)) is None, "errors have no say"


@CALM
@given(st.dictionaries(st.sampled_from("abc"), ANSWERS, min_size=1), st.randoms(use_true_random=False))
def test_answer_entropy_is_bounded_and_blind_to_order(answers, chance):
    value = answer_entropy(table(answers))
    shuffled = {p: chance.sample(g, len(g)) for p, g in reversed(answers.items())}
    assert answer_entropy(table(shuffled)) == pytest.approx(value)
    if value is not None:
        assert 0.0 <= value <= math.log(3) + 1e-9


def test_tokens_weigh_alike_in_the_entropy_and_samples_in_the_log_probability():
    short, _ = judged_rows({"a": [("x", Outcome.WRONG, None)]}, tokens=10, logprob=-2.0)
    long, _ = judged_rows({"b": [("x", Outcome.WRONG, None)]}, tokens=90, logprob=-1.0)
    _, verdicts = judged_rows({"a": [("x", Outcome.WRONG, None)], "b": [("x", Outcome.WRONG, None)]})
    both = judged([*short, *long], verdicts)
    assert mean_logprob(both) == pytest.approx(-1.5)
    assert token_entropy(both) == pytest.approx(1.1)
    assert mean_logprob(table({"a": ["1"]})) is None
    assert token_entropy(table({"a": ["1"]})) is None


def test_the_surprisal_of_draws_estimates_the_entropy():
    """Tokens drawn from a known distribution, as a policy would report them."""
    import numpy as np

    chance = np.random.default_rng(0)
    weights = np.array([0.5, 0.25, 0.125, 0.125])
    drawn = np.log(weights[chance.choice(4, size=(2000, 20), p=weights)]).mean(axis=1)
    samples, verdicts = judged_rows({"a": [("x", Outcome.WRONG, None)] * 2000}, tokens=20)
    from dataclasses import replace

    reported = [replace(s, logprob=float(v)) for s, v in zip(samples, drawn, strict=True)]
    entropy = -(weights * np.log(weights)).sum()
    assert token_entropy(judged(reported, verdicts)) == pytest.approx(entropy, abs=0.02)


def test_lengths_by_hand():
    samples, verdicts = judged_rows({"a": [("x", Outcome.CORRECT, "1")] * 2}, tokens=10)
    more, others = judged_rows({"b": [("x", Outcome.WRONG, "1"), ("x", Outcome.ERROR, None)]}, tokens=40)
    measured = lengths(judged([*samples, *more], verdicts | others))
    assert measured == {
        "mean": 25.0,
        "median": 25.0,
        "p90": 40.0,
        "p99": 40.0,
        "right": 10.0,
        "wrong": 40.0,
    }
    assert set(lengths(judged([], {})).values()) == {None}
