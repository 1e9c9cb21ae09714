"""Epistemic markers: counts made by hand, in both ways of counting."""

from __future__ import annotations

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.measures.markers import MARKERS, markers

from .conftest import CALM

BY_HAND = [
    # text, substrings as Kim 2026 counts them, whole words
    ("Wait, let me check. Hmm, perhaps not.", 4, 4),
    ("He was checkmated while waiting.", 2, 0),
    ("It seems likely; it might be, MAYBE it actually is. Alternatively: unlikely.", 7, 6),
    ("wait wait wait", 3, 3),
    ("hmmm", 1, 0),
    ("almighty rechecking actually,actually", 4, 2),
    ("", 0, 0),
    ("12 + 5 = 17", 0, 0),
]


@pytest.mark.parametrize(("text", "substrings", "whole"), BY_HAND)
def test_a_text_counted_by_hand(text, substrings, whole):
    measured = markers(pl.Series([text]), tokens=1000)
    assert measured["count_per_response"] == substrings
    assert measured["density"] == whole
    assert sum(measured["by_word"].values()) == whole


def test_means_over_responses_and_tokens():
    measured = markers(pl.Series([text for text, *_ in BY_HAND]), tokens=500)
    assert measured["count_per_response"] == pytest.approx(sum(n for _, n, _ in BY_HAND) / len(BY_HAND))
    assert measured["density"] == pytest.approx(1000 * sum(n for *_, n in BY_HAND) / 500)


@CALM
@given(st.lists(st.text(alphabet="waitchekm \n,.", max_size=40) | st.sampled_from(MARKERS), min_size=1, max_size=5))
def test_counting_is_that_of_plain_python(texts):
    measured = markers(pl.Series(texts, dtype=pl.String), tokens=1000)
    assert measured["count_per_response"] * len(texts) == pytest.approx(
        sum(text.lower().count(word) for text in texts for word in MARKERS)
    )
    whole = sum(len(re.findall(rf"\b{word}\b", text.lower())) for text in texts for word in MARKERS)
    assert measured["density"] == pytest.approx(whole)
    assert measured["density"] <= measured["count_per_response"] * len(texts) + 1e-9


def test_nothing_to_count_is_none():
    assert markers(pl.Series([], dtype=pl.String), 0)["count_per_response"] is None
    assert markers(pl.Series(["wait"]), 0)["density"] is None
