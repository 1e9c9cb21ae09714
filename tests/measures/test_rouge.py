"""ROUGE-L: the longest common subsequence by bits, and the index that finds texts too alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.measures.rouge import Alike, common_length, rouge_l, spoken


def by_table(one, other) -> int:
    """The textbook's table, row by row."""
    row = [0] * (len(other) + 1)
    for item in one:
        before = row[:]
        for j, theirs in enumerate(other):
            row[j + 1] = before[j] + 1 if item == theirs else max(row[j], before[j + 1])
    return row[-1]


words = st.lists(st.sampled_from(["a", "b", "c", "12", "é"]), max_size=80)


@given(words, words)
def test_the_common_subsequence_is_the_tables(one, other):
    assert common_length(one, other) == by_table(one, other) == common_length(other, one)


@given(words, words)
def test_rouge_l_is_a_share_and_one_for_equals_alone(one, other):
    value = rouge_l(one, other)
    assert 0.0 <= value <= 1.0
    assert (value == 1.0) == (one == other and bool(one))


def test_what_rouge_l_comes_to():
    # Lin 2004's example: "police killed the gunman" against "police kill the gunman" has three of four words.
    assert rouge_l(spoken("Police killed the gunman."), spoken("police kill the gunman")) == pytest.approx(0.75)
    assert rouge_l(spoken("the gunman kill police"), spoken("police killed the gunman")) == pytest.approx(0.5)
    assert spoken("What is 12 + 3,5?") == ["what", "is", "12", "3", "5"]


texts = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=8).map(" ".join), max_size=12)


@given(texts, st.sampled_from([0.3, 0.5, 0.7, 1.0]))
def test_the_index_finds_what_comparing_all_with_all_finds(texts, share):
    alike = Alike(texts, share=share)
    compared: list[list[str]] = []
    for text in texts:
        own = [w for w in spoken(text) if w not in alike._form] or spoken(text)
        assert alike.has_one_like(text) == any(rouge_l(own, other) > share for other in compared), text
        alike.add(text)
        compared.append(own)


def test_the_form_that_most_texts_have_says_nothing():
    form = "State the final answer to the following arithmetic problem: {} ="
    asked = [form.format(s) for s in ("12 + 34", "5 + 6", "77 - 8", "90 - 11", "41 + 2")]
    alike = Alike(asked, share=0.7)
    for text in asked:
        alike.add(text)
    assert not alike.has_one_like(form.format("12 + 35")), "one number in common is half of what is compared"
    assert alike.has_one_like(form.format("12 - 34")), "numbers alone are compared, not signs"
    assert Alike(["one two three", "one two three four"], share=0.7)._form == set(), "two texts have no form yet"
