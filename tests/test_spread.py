"""Spread: which few of many texts lie far apart."""

from __future__ import annotations

import itertools
import random
from difflib import SequenceMatcher

from hypothesis import given
from hypothesis import strategies as st

from flywheel.spread import distance, edit_distance, farthest_first, farthest_of_each, shingles

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


def by_table(a: str, b: str) -> int:
    """The edit distance as its definition has it: the whole table, cell by cell."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


@given(TEXTS, TEXTS)
def test_the_edit_distance_is_that_of_its_definition(a, b):
    assert edit_distance(a, b) == edit_distance(b, a) == by_table(a, b)


def test_the_edit_distance_of_long_texts():
    assert edit_distance("kitten" * 100, "sitting" * 100) == by_table("kitten" * 100, "sitting" * 100)
    assert edit_distance("x" * 3000, "y" * 2000) == 3000


def test_of_each_path_the_text_farthest_from_the_other_paths_stays():
    texts = ["5 = 2 + 3.", "The sum is 5 = 2 + 3, as anyone can see.", "So 5 = 2 + 3", "5 = 1 + 4."]
    assert farthest_of_each(range(4), texts, "aaab") == [0, 3]  # nothing to be far from while only one path is known
    assert farthest_of_each(range(4), [texts[i] for i in (3, 0, 1, 2)], "baaa") == [0, 2]
    assert farthest_of_each([], [], "") == []


@given(st.lists(st.tuples(TEXTS, st.sampled_from("abc")), max_size=10))
def test_one_of_each_group_stays(rows):
    texts, groups = [t for t, _ in rows], [g for _, g in rows]
    staying = farthest_of_each(range(len(rows)), texts, groups)
    assert [groups[i] for i in staying] == list(dict.fromkeys(groups))
