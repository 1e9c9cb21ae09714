"""Spread: which few of many texts lie far apart."""

from __future__ import annotations

import itertools
import random
from difflib import SequenceMatcher

from hypothesis import given
from hypothesis import strategies as st

from flywheel.spread import distance, farthest_first, shingles

TEXTS = st.text(alphabet="ab1 +=.", max_size=8)


def test_farthest_first_prefers_the_different_one():
    texts = ["1+2=3", "1+2=3 ", "completely different words", "1+2=3."]
    assert farthest_first(texts, texts, 2) == ["1+2=3", "completely different words"]


@given(st.lists(TEXTS, min_size=1, max_size=12), st.integers(0, 12))
def test_farthest_first_gives_so_many_in_their_order(texts, count):
    chosen = farthest_first(range(len(texts)), texts, count)
    assert len(chosen) == min(count, len(texts))
    assert chosen == sorted(set(chosen))


@given(st.lists(TEXTS, min_size=3, max_size=7, unique=True), st.integers(2, 3))
def test_the_nearest_two_are_at_least_half_as_far_apart_as_in_the_best_choice(texts, count):
    """Gonzalez' guarantee, for the smallest distance among what is chosen."""

    def nearest(chosen):
        return min(distance(shingles(a), shingles(b)) for a, b in itertools.combinations(chosen, 2))

    best = max(nearest(chosen) for chosen in itertools.combinations(texts, count))
    if len(texts) > count:
        assert nearest(farthest_first(texts, texts, count)) >= best / 2 - 1e-12


@given(TEXTS, TEXTS, TEXTS)
def test_distance_is_a_metric(a, b, c):
    one, two, three = shingles(a), shingles(b), shingles(c)
    assert distance(one, one) == 0.0
    assert 0.0 <= distance(one, two) == distance(two, one) <= 1.0
    assert distance(one, three) <= distance(one, two) + distance(two, three) + 1e-12


def test_distance_is_one_for_disjoint_and_sees_order():
    assert distance(shingles("3 + 4"), shingles("five")) == 1.0
    assert 0.0 < distance(shingles("1+2=3 ; 3+4=7"), shingles("3+4=7 ; 1+2=3")) < 0.5


def test_what_is_chosen_lies_as_far_apart_by_edit_distance_as_the_edit_distances_own_choice():
    """Shingles stand in for an edit distance: 40 groups of worked sums, each written in several ways."""
    chance = random.Random(0)
    ours = theirs = first = 0.0
    for _ in range(40):
        texts = [worked_sum(chance) for _ in range(12)]
        ours += edit_spread(farthest_first(texts, texts, 3))
        theirs += edit_spread(by_edit_distance(texts, 3))
        first += edit_spread(texts[:3])
    assert ours > first + 0.5 * (theirs - first)


def worked_sum(chance):
    a, b, c = (chance.randrange(2, 99) for _ in range(3))
    total = f"{a}+{b}={a + b} ; {a + b}+{c}={a + b + c}"
    other = f"{b}+{c}={b + c} ; {a}+{b + c}={a + b + c}"
    return chance.choice([total, other, f"{a}+{b}+{c}={a + b + c}", f"{total} ; {a + b + c}-{c}={a + b}"])


def edit(a, b):
    return 1.0 - SequenceMatcher(None, a, b, autojunk=False).ratio()


def edit_spread(texts):
    return sum(edit(a, b) for a, b in itertools.combinations(texts, 2)) / 3


def by_edit_distance(texts, count):
    taken = [texts[0]]
    while len(taken) < count:
        taken.append(max((t for t in texts if t not in taken), key=lambda t: min(edit(t, o) for o in taken)))
    return taken
