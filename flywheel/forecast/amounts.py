"""Numbers of a forecast: at most and expected, and what an expectation rests on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What an expectation rests on: the share of completions that are right, their mean length as a share of
    `sampling.max_tokens`, and tokens a prompt."""

    right: float = 0.5
    length: float = 0.5
    prompt_tokens: int = 100


@dataclass(frozen=True, slots=True)
class Problems:
    """How many problems of each kind a run has."""

    train: int
    dev: int
    test: int
    ood: int = 0


@dataclass(frozen=True, slots=True)
class Amount:
    """A number as it can be at most, and as it is expected."""

    most: int
    expected: int

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.most + other.most, self.expected + other.expected)

    def times(self, most: float, expected: float | None = None) -> Amount:
        """Both numbers multiplied."""
        return Amount(math.ceil(self.most * most), round(self.expected * (most if expected is None else expected)))

    def each(self, function: Callable[[int], int]) -> Amount:
        """The function of both numbers."""
        return Amount(function(self.most), function(self.expected))


ZERO = Amount(0, 0)
