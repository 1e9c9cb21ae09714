"""Texts against themselves and one another: nltk's and sacrebleu's BLEU, hand counts, bounds."""

from __future__ import annotations

import random
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.measures import text as measures
from flywheel.measures.text import ORDERS, SMOOTHING, split_words, text_measures

from .conftest import CALM

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=12), min_size=2, max_size=6)


def in_one_problem(texts):
    """The corpus of some texts, given as lists of words, and its n-grams."""
    words = pl.Series(list(texts), dtype=pl.List(pl.String))
    made = measures.corpus(words, pl.Series(["p"] * len(words), dtype=pl.String))
    return made, [measures.ngrams(made, n) for n in ORDERS]


def self_bleu(texts):
    values = measures.self_bleu(*in_one_problem(texts))
    return values[0] if len(values) else None


def distinct_n(texts):
    made, grams = in_one_problem(texts)
    found = [measures.distinct_n(made, of_order) for of_order in grams]
    return {str(n): v[0] if len(v) else None for n, v in zip(ORDERS, found, strict=True)}


def repetition(text):
    made, grams = in_one_problem([text])
    values = measures.repetition(made, grams[-1])
    return values[0] if len(values) else None


def some_texts(count=6, seed=0):
    chance = random.Random(seed)
    return [chance.choices("abcdefgh", k=chance.randint(5, 25)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(6))
def test_self_bleu_is_that_of_nltk(seed):
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    texts = some_texts(seed=seed)
    smooth = bleu.SmoothingFunction(epsilon=SMOOTHING).method1
    wanted = [
        bleu.sentence_bleu(texts[:i] + texts[i + 1 :], text, smoothing_function=smooth) for i, text in enumerate(texts)
    ]
    assert self_bleu(texts) == pytest.approx(sum(wanted) / len(wanted))


@pytest.mark.parametrize("seed", range(6))
def test_self_bleu_is_that_of_sacrebleu(seed):
    sacrebleu = pytest.importorskip("sacrebleu")
    texts = [" ".join(t) for t in some_texts(seed=seed)]
    scores = [
        sacrebleu.sentence_bleu(
            text,
            texts[:i] + texts[i + 1 :],
            smooth_method="floor",
            smooth_value=SMOOTHING,
            tokenize="none",
            use_effective_order=False,
        ).score
        for i, text in enumerate(texts)
    ]
    assert 100 * self_bleu([t.split() for t in texts]) == pytest.approx(sum(scores) / len(scores))


@CALM
@given(TEXTS)
def test_self_bleu_agrees_with_nltk_on_any_texts(texts):
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    smooth = bleu.SmoothingFunction(epsilon=SMOOTHING).method1
    wanted = [
        bleu.sentence_bleu(texts[:i] + texts[i + 1 :], text, smoothing_function=smooth) for i, text in enumerate(texts)
    ]
    assert self_bleu(texts) == pytest.approx(sum(wanted) / len(wanted))


@CALM
@given(TEXTS, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_values_are_shares(texts, chance):
    shuffled = chance.sample(texts, len(texts))
    score = self_bleu(texts)
    assert 0.0 <= score <= 1.0 + 1e-9
    assert self_bleu(shuffled) == pytest.approx(score)
    assert distinct_n(shuffled) == distinct_n(texts)
    assert all(value is None or 0.0 < value <= 1.0 for value in distinct_n(texts).values())
    for text in texts:
        assert repetition(text) is None or 0.0 <= repetition(text) < 1.0


def test_alike_is_one_and_nothing_in_common_is_zero():
    same, other = ["one", "two", "three", "four", "five"], ["six", "seven", "eight", "nine", "ten"]
    assert self_bleu([same, same, same]) == pytest.approx(1.0)
    assert self_bleu([same, other]) == 0.0
    assert self_bleu([same]) is None


def test_distinct_n_by_hand():
    assert distinct_n([["a", "b", "a", "b"], ["a", "b"]]) == {
        "1": pytest.approx(2 / 6),
        "2": pytest.approx(2 / 4),
        "3": 1.0,
        "4": 1.0,
    }
    assert distinct_n([]) == dict.fromkeys("1234")


def test_more_copies_of_a_text_make_a_set_less_distinct():
    text = ["the", "quick", "brown", "fox", "jumps"]
    for n in map(str, ORDERS):
        shares = [distinct_n([text] * copies)[n] for copies in range(1, 5)]
        assert all(a > b for a, b in pairwise(shares))


def test_repetition_of_a_loop():
    assert repetition(["a", "b", "c", "d", "e"]) == 0.0
    assert repetition(["so"] * 103) == pytest.approx(0.99)
    assert repetition(["a", "b", "c"]) is None


def test_problems_are_measured_apart_and_then_averaged():
    texts = pl.Series(["a b c d e", "1. x", "a b c d e", "plain words stand here", "a b c d e"])
    measured = text_measures(texts, pl.Series(["p", "q", "p", "q", "alone"]))
    assert measured["self_bleu"] == pytest.approx((1.0 + 0.0) / 2)
    assert measured["distinct_n"]["4"] == pytest.approx((0.5 + 1.0 + 1.0) / 3)
    assert measured["repetition"] == 0.0


@CALM
@given(st.lists(st.tuples(st.sampled_from("pqr"), st.text(alphabet="ab .", max_size=12)), max_size=10))
def test_all_problems_at_once_are_each_by_itself(answers):
    problems, texts = ([pair[i] for pair in answers] for i in (0, 1))
    together = text_measures(pl.Series(texts, dtype=pl.String), pl.Series(problems, dtype=pl.String))
    apart = [
        text_measures(pl.Series(own), pl.Series([problem] * len(own)))
        for problem in "pqr"
        if (own := [t for p, t in answers if p == problem])
    ]
    for name in ("self_bleu", "repetition"):
        known = [m[name] for m in apart if m[name] is not None]
        if name == "self_bleu":
            assert together[name] == pytest.approx(sum(known) / len(known) if known else None)
        assert (together[name] is None) == (not known)
    for n in map(str, ORDERS):
        known = [m["distinct_n"][n] for m in apart if m["distinct_n"][n] is not None]
        assert together["distinct_n"][n] == pytest.approx(sum(known) / len(known) if known else None)


def test_nothing_to_measure_is_none():
    nothing = pl.Series([], dtype=pl.String)
    assert text_measures(nothing, nothing) == {
        "distinct_n": dict.fromkeys("1234"),
        "self_bleu": None,
        "repetition": None,
    }


def test_signs_are_words():
    assert split_words(pl.Series(["12+5 = 17."]))[0].to_list() == ["12", "+", "5", "=", "17", "."]
