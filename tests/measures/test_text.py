"""Texts against themselves and one another: nltk's and sacrebleu's BLEU, hand counts, bounds."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.measures.text import ORDERS, SMOOTHING, distinct_n, layout, ngrams, repetition, self_bleu, text_measures
from flywheel.measures.text import words as words_of

from .conftest import CALM

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=12), min_size=2, max_size=6)


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
    assert self_bleu([ngrams(t) for t in texts]) == pytest.approx(sum(wanted) / len(wanted))


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
    assert 100 * self_bleu([ngrams(t.split()) for t in texts]) == pytest.approx(sum(scores) / len(scores))


@CALM
@given(TEXTS)
def test_self_bleu_agrees_with_nltk_on_any_texts(texts):
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    smooth = bleu.SmoothingFunction(epsilon=SMOOTHING).method1
    wanted = [
        bleu.sentence_bleu(texts[:i] + texts[i + 1 :], text, smoothing_function=smooth) for i, text in enumerate(texts)
    ]
    assert self_bleu([ngrams(t) for t in texts]) == pytest.approx(sum(wanted) / len(wanted))


@CALM
@given(TEXTS, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_values_are_shares(texts, chance):
    grams = [ngrams(t) for t in texts]
    shuffled = chance.sample(grams, len(grams))
    score = self_bleu(grams)
    assert 0.0 <= score <= 1.0 + 1e-9
    assert self_bleu(shuffled) == pytest.approx(score)
    assert distinct_n(shuffled) == distinct_n(grams)
    assert all(value is None or 0.0 < value <= 1.0 for value in distinct_n(grams).values())
    for text in grams:
        assert repetition(text) is None or 0.0 <= repetition(text) < 1.0


def test_alike_is_one_and_nothing_in_common_is_zero():
    same, other = ngrams(["one", "two", "three", "four", "five"]), ngrams(["six", "seven", "eight", "nine", "ten"])
    assert self_bleu([same, same, same]) == pytest.approx(1.0)
    assert self_bleu([same, other]) == 0.0
    assert self_bleu([same]) is None


def test_distinct_n_by_hand():
    assert distinct_n([ngrams(["a", "b", "a", "b"]), ngrams(["a", "b"])]) == {
        "1": pytest.approx(2 / 6),
        "2": pytest.approx(2 / 4),
        "3": 1.0,
        "4": 1.0,
    }
    assert distinct_n([]) == dict.fromkeys("1234")


def test_more_copies_of_a_text_make_a_set_less_distinct():
    text = ngrams(["the", "quick", "brown", "fox", "jumps"])
    for n in map(str, ORDERS):
        shares = [distinct_n([text] * copies)[n] for copies in range(1, 5)]
        assert all(a > b for a, b in pairwise(shares))


def test_repetition_of_a_loop():
    assert repetition(ngrams(["a", "b", "c", "d", "e"])) == 0.0
    assert repetition(ngrams(["so"] * 103)) == pytest.approx(0.99)
    assert repetition(ngrams(["a", "b", "c"])) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 + 3 = 5", "equation"),
        ("We add two and three. The answer is 5.", "prose, said"),
        ("# Plan\n1. add\n2. check\n\nSo $\\boxed{5}$", "heading > list > prose, boxed"),
        ("```python\nx = 1\n\ny = 2\n```", "code"),
        ("Natalia sold 24.\n#### 72", "prose > heading, hashes"),
        ("", "empty"),
    ],
)
def test_layouts(text, expected):
    assert layout(text) == expected


def test_wording_and_length_are_no_layout():
    assert layout("I think so.\n- one\n- two") == layout("Well.\nIndeed.\n- a\n- b\n- c\n- d")


def test_measures_of_two_problems():
    measured = text_measures({"p": ["a b c d e", "a b c d e"], "q": ["1. x", "plain words stand here"]})
    assert measured["self_bleu"] == pytest.approx((1.0 + 0.0) / 2)
    assert measured["formats"] == 2 and measured["format_share"] == 0.75
    assert measured["distinct_n"]["4"] == pytest.approx((0.5 + 1.0) / 2)
    assert measured["repetition"] == 0.0


def test_nothing_to_measure_is_none():
    assert text_measures({}) == {
        "distinct_n": dict.fromkeys("1234"),
        "self_bleu": None,
        "repetition": None,
        "formats": None,
        "format_share": None,
    }


def test_signs_are_words():
    assert words_of("12+5 = 17.") == ["12", "+", "5", "=", "17", "."]
