"""`math`: whether a completion's final answer equals the reference answer, as mathematics and not as text.

A strict extractor finds the answer; equal text, then exact numbers decide what they can; only the rest goes to
sympy (through math-verify), behind vetoes for what it is known to call equal and is not. Nothing that a model
wrote is ever evaluated as code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from flywheel import Judgement, Outcome, Problem
from flywheel.verifiers import math_symbolic
from flywheel.verifiers.math_answer import LONGEST_ANSWER, find_answer, reference_text
from flywheel.verifiers.math_exact import NoValue, Number, assigned, compact, read_number, same_number, tidy

_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*[A-Za-z.!]")
_CHOICE = re.compile(r"\(?([A-J])\)?[.:)]?(?:\s.*)?", re.DOTALL)
EXACT = Fraction(0)
_NO_VALUE = {"nan", "undefined value", "none", "null", ""}


@dataclass(frozen=True)
class Math:
    """Judges numbers, expressions, equations, sets, intervals, matrices, choices and words."""

    name: ClassVar[str] = "math"
    version: ClassVar[str] = "1"

    last_number: bool = False
    """Where a completion marks no answer, its last number counts. For problems whose answers are plain numbers and
    models that answer in a sentence; elsewhere it lets any prose pass that happens to end in the right number."""
    last_maths: bool = False
    """Where a completion marks no answer, its last `$...$` counts."""
    tolerance: float = 0.0
    """How far a number may be from the reference, as a share of it; 0 is exact."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.tolerance < 1.0:
            raise ValueError(f"tolerance = {self.tolerance!r}; it is a share from 0 to under 1")

    def prepare(self) -> None:
        """Load sympy and math-verify, which only answers beyond plain numbers need."""
        math_symbolic.load()

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """CORRECT where the final answer equals the reference; ERROR where the reference has no readable value."""
        found = find_answer(completion, last_maths=self.last_maths, last_number=self.last_number)
        if found is None or not found.text.strip():
            return Judgement(Outcome.NO_ANSWER, 0.0, None, "the completion marks no answer")
        gold = reference_text(problem.answer)
        if tidy(gold).lower() in _NO_VALUE or len(gold) > LONGEST_ANSWER:
            return _error(f"the reference {problem.answer[:80]!r} has no value to compare with")
        ruling = self._compare(gold, found.text)
        if ruling.equal is None:
            return _error(ruling.why)
        return Judgement(
            Outcome.CORRECT if ruling.equal else Outcome.WRONG, float(ruling.equal), found.text, ruling.why
        )

    def _compare(self, gold: str, answer: str) -> math_symbolic.Ruling:
        wanted, given = tidy(gold), tidy(answer)
        try:
            ours = read_number(wanted)
        except NoValue as error:
            return math_symbolic.Ruling(None, f"the reference {gold!r} {error}")
        if compact(wanted) == compact(given):
            return math_symbolic.Ruling(True)
        names = assigned(wanted), assigned(given)
        if all(names) and names[0] != names[1]:
            return math_symbolic.Ruling(False, f"the reference gives {names[0]}, the answer {names[1]}")
        if (decided := self._by_words(wanted, given)) is not None:
            return decided
        if ours is not None and (decided := self._by_number(ours, given)) is not None:
            return decided
        self.prepare()
        return math_symbolic.rule(gold, answer, tolerance=self.tolerance)

    def _by_number(self, ours: Number, given: str) -> math_symbolic.Ruling | None:
        try:
            theirs = read_number(given)
        except NoValue as error:
            return math_symbolic.Ruling(False, f"the answer {error}")
        if theirs is None:
            return None
        return math_symbolic.Ruling(
            same_number(ours, theirs, tolerance=Fraction(self.tolerance) if self.tolerance else EXACT)
        )

    def _by_words(self, wanted: str, given: str) -> math_symbolic.Ruling | None:
        """Choices and words, which are no algebra: `(C)`, `Evelyn`, `no solution`."""
        choice = _CHOICE.fullmatch(wanted)
        if choice and len(wanted) <= 4:
            said = _CHOICE.fullmatch(given)
            return math_symbolic.Ruling(said.group(1) == choice.group(1)) if said else None
        if len(wanted) > 2 and _WORDS.fullmatch(wanted):
            return math_symbolic.Ruling(wanted.casefold().rstrip(".") == given.casefold().rstrip("."))
        return None


def _error(detail: str) -> Judgement:
    return Judgement(Outcome.ERROR, 0.0, None, detail)
