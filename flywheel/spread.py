"""Spread: which few of many texts lie far apart. Time is linear in the texts' length and number."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
