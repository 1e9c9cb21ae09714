"""Spread: which few of many texts lie far apart. Time is linear in the texts' length and number, but for
`farthest_of_each`, which is rejection-sampling fine-tuning's own way."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

_TOKEN = re.compile(r"\d+|[^\W\d_]+|[^\w\s]|_")


def shingles(text: str) -> frozenset[str]:
    """The words, numbers and signs of a text, each by itself and with the one that follows it."""
    tokens = _TOKEN.findall(text)
    return frozenset([*tokens, *(f"{a} {b}" for a, b in pairwise(tokens))])


def distance(a: frozenset[str], b: frozenset[str]) -> float:
    """How different two sets of shingles are, from 0 (equal) to 1 (nothing in common): the Jaccard distance.

    Shingles stand in for the edit distance of rejection-sampling fine-tuning, whose time is the product of
    two texts' lengths (Broder 1997, "On the resemblance and containment of documents", section 2).
    """
    if not a and not b:
        return 0.0
    common = len(a & b)
    return 1.0 - common / (len(a) + len(b) - common)


def farthest_first(items: Sequence[T], texts: Sequence[str], count: int) -> list[T]:
    """`count` items whose texts lie far apart: the first, then each time the one farthest from all taken.

    The greedy 2-approximation of the k-centre problem (Gonzalez 1985); ties go to the earlier item.
    O(count · len(items)) distances.
    """
    if len(items) <= count:
        return list(items)
    if count < 1:
        return []
    sets = [shingles(text) for text in texts]
    taken = [0]
    nearest = [distance(other, sets[0]) for other in sets]
    while True:
        nearest[taken[-1]] = -1.0  # under every distance, so that it is not taken again
        if len(taken) == count:
            return [items[i] for i in sorted(taken)]
        newest = max(range(len(sets)), key=nearest.__getitem__)
        taken.append(newest)
        nearest = [min(old, distance(other, sets[newest])) for old, other in zip(nearest, sets, strict=True)]


def farthest_of_each(items: Sequence[T], texts: Sequence[str], groups: Sequence[Hashable]) -> list[T]:
    """One item of each group, in the order of the groups' first ones: that whose text is far from the other groups'.

    An item takes its group's place when the sum of its edit distances to what then stands for the other groups is
    greater (Yuan et al. 2023, arXiv:2308.01825, "Algorithm 1: reasoning path selection"). Time grows with items times
    groups times the product of two texts' lengths, though the last factor is worked through a machine word at a time.
    """
    known: dict[tuple[int, int], int] = {}

    def apart(a: int, b: int) -> int:
        pair = (min(a, b), max(a, b))
        if pair not in known:
            known[pair] = edit_distance(texts[a], texts[b])
        return known[pair]

    standing: dict[Hashable, int] = {}
    for newcomer, group in enumerate(groups):
        if group not in standing:
            standing[group] = newcomer
            continue
        others = [i for name, i in standing.items() if name != group]
        before = sum(apart(standing[group], i) for i in others)
        if sum(apart(newcomer, i) for i in others) > before:
            standing[group] = newcomer
    return [items[i] for i in standing.values()]


def edit_distance(a: str, b: str) -> int:
    """How many characters must be put in, left out or replaced to make one text of the other (Levenshtein 1966).

    A column of the table at a time, its differences as the bits of two integers (H. Hyyrö 2003, "A bit-vector algorithm
    for computing Levenshtein and Damerau edit distances", after Myers 1999).
    """
    if not a or not b:
        return len(a) or len(b)
    places: dict[str, int] = {}
    for place, letter in enumerate(a):
        places[letter] = places.get(letter, 0) | 1 << place
    everywhere, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    up, down, cost = everywhere, 0, len(a)  # where a cell is one more, or one less, than the cell above it
    for letter in b:
        equal = places.get(letter, 0)
        diagonal = (((equal & up) + up) ^ up) | equal | down
        more, less = down | (everywhere & ~(diagonal | up)), diagonal & up  # against the column before
        cost += bool(more & last) - bool(less & last)
        more, less = (more << 1 | 1) & everywhere, less << 1 & everywhere
        up, down = less | (everywhere & ~(diagonal | more)), diagonal & more
    return cost
