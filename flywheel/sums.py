"""Sums of two numbers as characters, the lowest digit first: problems whose length is their difficulty.

Reverse addition is the task of Lee et al. 2025 (self-improving transformers, arXiv:2502.01612, section 4): written from
the lowest digit on, each digit of the answer follows from two digits and a carry, so a model that has learnt short sums
can be right on one that is a little longer.

`rows` write 35 + 21 as `53+12=`, `columns` one place after the other as `5132=`; the answer is `65`. With `hints`, a
letter names each place (index hints: Zhou et al. 2024, arXiv:2310.16028): behind its digits in the question, before its
digit in the answer, so that it asks for what stands before its like. The question ends with the first letter:
`5a3b+1a2b=a`, or in columns `51a32b=a`, and the answer is `6b5`. The letters begin anywhere in the alphabet, so that a
model has met all of them before it meets long sums.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, Literal

ALPHABET = string.ascii_letters + "αβγδεζηθικλμνξπρστυφχψω" + "ΓΔΘΛΞΠΣΦΨΩ" + "бвгджзийклмнптфцчшщъыьэюя"
"""The letters that name places, in their order; after the last one comes the first again."""
CHARACTERS = string.digits + "+=" + ALPHABET
"""Every character that a sum can have."""
MOST_DIGITS = 100
Layout = Literal["rows", "columns"]
_REPEATS = 1000
"""So many sums in a row that came before: there are hardly any others."""


@dataclass(frozen=True, slots=True)
class Sum:
    """Two numbers of `digits` digits each, and their sum, as characters."""

    digits: int
    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Style:
    """How sums are written: the layout, and how many letters name places (0: none does)."""

    layout: Layout = "columns"
    hints: int = 32

    def letter(self, place: int) -> str:
        """The letter of a place, counted from the alphabet's first; nothing without hints."""
        return ALPHABET[place % self.hints] if self.hints else ""


def write(left: int, right: int, digits: int, style: Style, *, first: int = 0) -> Sum:
    """The sum of two numbers of `digits` digits; the lowest place has the letter `first`."""

    def written(*numbers: int) -> str:
        places = enumerate(zip(*(str(number)[::-1] for number in numbers), strict=True), first)
        return "".join("".join(said) + style.letter(place) for place, said in places)

    prompt = written(left, right) if style.layout == "columns" else f"{written(left)}+{written(right)}"
    answer = "".join(style.letter(place) + digit for place, digit in enumerate(str(left + right)[::-1], first))
    begin = len(style.letter(first))
    return Sum(digits, f"{prompt}={answer[:begin]}", answer[begin:])


def draw(digits: int, chance: Random, style: Style, *, first: int | None = None) -> Sum:
    """A sum of two numbers that have exactly `digits` digits, 1 to 9 where that is one. The letter of its lowest place
    is drawn as well, unless it is given."""
    low, high = 10 ** (digits - 1), 10**digits - 1
    if first is None:
        first = chance.randrange(style.hints) if style.hints else 0
    return write(chance.randint(low, high), chance.randint(low, high), digits, style, first=first)


@dataclass(frozen=True)
class Sums:
    """The generator `sums`: sums whose lengths take turns. Rows carry `digits`, the length of their numbers."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    digits: int | tuple[int, int] = (1, 6)
    """How many digits each number has: one length, or the shortest and the longest."""
    layout: Layout = "columns"
    """`rows` write one number after the other, `columns` one place after the other."""
    hints: int = 32
    """How many letters name the places of digits; 0 writes digits alone."""
    labelled: int = 0
    """Sums of at most so many digits have a solution, which training may use (`mix`); longer ones have none."""

    def __post_init__(self) -> None:
        low, high = self._ends()
        if not 1 <= low <= high <= MOST_DIGITS:
            raise ValueError(f"digits = {self.digits!r}; lengths are from 1 to {MOST_DIGITS}, the shortest first")
        if not 0 <= self.hints <= len(ALPHABET) or 0 < self.hints <= high:
            raise ValueError(
                f"hints = {self.hints!r} for sums of {high} digits, whose answers may have one more; 0, or more "
                f"letters than digits, up to {len(ALPHABET)}"
            )
        if self.labelled < 0:
            raise ValueError(f"labelled = {self.labelled!r}; it is a number of digits, or 0 for none")

    def rows(self, seed: int) -> Iterator[dict[str, Any]]:
        """Problems as rows, without end but where there are only so many sums."""
        low, high = self._ends()
        chance, style = Random(f"sums {low} {high} {seed}"), Style(self.layout, self.hints)
        seen: set[str] = set()
        repeats = 0
        while repeats < _REPEATS:
            for digits in range(low, high + 1):
                drawn = draw(digits, chance, style)
                repeats = repeats + 1 if drawn.prompt in seen else 0
                seen.add(drawn.prompt)
                solution = drawn.answer if digits <= self.labelled else None
                yield {"prompt": drawn.prompt, "answer": drawn.answer, "solution": solution, "digits": digits}

    def _ends(self) -> tuple[int, int]:
        return (self.digits, self.digits) if isinstance(self.digits, int) else self.digits
