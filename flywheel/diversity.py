"""Reasoning paths: when two right answers say the same thing, and how far apart two others are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import TypeVar

from flywheel.types import Outcome, Sample, Verdict

T = TypeVar("T")

_NUMBER = r"-?(?:\d[\d,]*\.?\d*|\.\d+)"
_OPERAND = rf"\(*\s*{_NUMBER}\s*%?\s*\)*"
_SIDE = rf"{_OPERAND}(?:\s*[-+*/^]\s*{_OPERAND})*"
_EQUATION = re.compile(rf"{_SIDE}(?:\s*=\s*{_SIDE})+")
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "$": " "})  # noqa: RUF001
_LATEX = ((re.compile(r"\\(?:times|cdot)\b"), "*"), (re.compile(r"\\div\b"), "/"), (re.compile(r"(?<=\d)\s*x\s*(?=\d)"), "*"))


def equations(text: str) -> tuple[str, ...]:
    """The arithmetic equations of a text in order, without spaces: `("12+5=17", "17-3=14")`.

    The reasoning path of rejection-sampling fine-tuning (Yuan et al. 2023, arXiv:2308.01825, section 3.3).
    `×`, `\\times`, `x` between digits and typographic minus signs count as the plain operators, and
    thousands separators are left out.
    """
    text = text.translate(_SIGNS)
    for pattern, sign in _LATEX:
        text = pattern.sub(sign, text)
    return tuple(re.sub(r"[\s,]", "", m.group()) for m in _EQUATION.finditer(text))


def normalised_text(text: str) -> str:
    """Lower case, one space between words, no punctuation at the ends of words."""
    words = (word.strip(".,;:!?*_`\"'") for word in text.lower().split())
    return " ".join(word for word in words if word)


def reasoning_path(text: str) -> str:
    """What two completions share when they reason alike: their equations, else their normalised text."""
    found = equations(text)
    return " ; ".join(found) if found else normalised_text(text)


def distance(a: str, b: str) -> float:
    """How different two texts are, from 0 (equal) to 1 (nothing in common): 1 - Ratcliff/Obershelp ratio."""
    return 1.0 - SequenceMatcher(None, a, b, autojunk=False).ratio()


def farthest_first(items: Sequence[T], texts: Sequence[str], count: int) -> list[T]:
    """`count` items whose texts lie far apart: the first, then each time the one farthest from all taken.

    The greedy 2-approximation of the k-centre problem (Gonzalez 1985); ties go to the earlier item.
    O(count · len(items)) distances.
    """
    if len(items) <= count:
        return list(items)
    taken = [0]
    nearest = [distance(text, texts[0]) for text in texts]
    while len(taken) < count:
        best = max((i for i in range(len(items)) if i not in taken), key=lambda i: (nearest[i], -i))
        taken.append(best)
        nearest = [min(old, distance(text, texts[best])) for old, text in zip(nearest, texts, strict=True)]
    return [items[i] for i in sorted(taken)]


def distinct_paths(samples: Iterable[Sample], verdicts: Mapping[str, Verdict]) -> int:
    """How many different reasoning paths the right answers took, summed over problems."""
    return len(
        {(s.problem_id, reasoning_path(s.completion)) for s in samples if verdicts[s.id].outcome == Outcome.CORRECT}
    )
