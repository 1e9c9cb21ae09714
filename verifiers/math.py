"""`math`: whether a completion's final answer equals the reference answer, as mathematics and not as text.

A strict extractor finds the answer. Equal text, exact numbers, and structure (lists, sets, tuples, intervals,
equations, matrices) decide what they can; values are compared as exact fractions, or worked out to 50 digits and more,
at several points where there are free symbols. Only what our own reader does not know goes to sympy through math-verify, behind
vetoes for what that is known to call equal and is not. Nothing that a model wrote is ever evaluated as code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

from flywheel import Judgement, Outcome, Problem
from flywheel.verifiers import math_symbolic
from flywheel.verifiers.math_answer import LONGEST_ANSWER, find_answer, reference_text
from flywheel.verifiers.math_compare import Comparison, Rules, Unjudged
from flywheel.verifiers.math_exact import NoValue
from flywheel.verifiers.math_text import tidy

_NO_VALUE = {"nan", "undefined value", "none", "null", ""}


@dataclass(frozen=True)
class Math:
    """Judges numbers, expressions, equations, sets, intervals, matrices, choices and words."""

    name: ClassVar[str] = "math"
    version: ClassVar[str] = "2"

    last_number: bool = False
    """Where a completion marks no answer, its last number counts. For problems whose answers are plain numbers and
    models that answer in a sentence; elsewhere it lets any prose pass that happens to end in the right number."""
    last_maths: bool = False
    """Where a completion marks no answer, its last `$...$` counts."""
    tolerance: float = 0.0
    """How far a number may be from the reference, as a share of it; 0 is exact."""
    units: Literal["optional", "required", "ignored"] = "optional"
    """A unit may be left out, or added where the reference has none, and two units must agree or convert exactly
    (`optional`); the reference's unit must be there (`required`); units are not looked at (`ignored`)."""
    percent: Literal["value", "sign", "ignored"] = "value"
    """10 % is 0.1, and the sign may be left out where the reference has it (`value`); the sign stands where the
    reference has it and nowhere else (`sign`); 10 % is 10 (`ignored`)."""
    containers: Literal["strict", "loose"] = "strict"
    """Whether (1, 2), [1, 2] and {1, 2} are three things (`strict`) or lists of the same two numbers (`loose`)."""
    references: Literal["any", "all"] = "any"
    """What several references, a list in the problem's `meta["answers"]`, mean: one of them is right (`any`), or the
    answer is a list of them all, in any order (`all`)."""
    algebra: bool = True
    """Whether what our own reader does not know (integrals, limits) goes to sympy. The work there has no bound of its
    own and wants a worker that can be killed, as `flywheel.verify` gives it. Without it every check is bounded."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.tolerance < 1.0:
            raise ValueError(f"tolerance = {self.tolerance!r}; it is a share from 0 to under 1")
        for option, known in (
            ("units", ("optional", "required", "ignored")), ("percent", ("value", "sign", "ignored")),
            ("containers", ("strict", "loose")), ("references", ("any", "all")),
        ):  # fmt: skip
            if getattr(self, option) not in known:
                raise ValueError(f"{option} = {getattr(self, option)!r}; known: {', '.join(known)}")

    def prepare(self) -> None:
        """Load sympy and math-verify, which only what our own reader does not know needs."""
        math_symbolic.load()

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """CORRECT where the final answer equals the reference; ERROR where the reference has no readable value."""
        found = find_answer(completion, last_maths=self.last_maths, last_number=self.last_number)
        if found is None or not found.text.strip():
            return Judgement(Outcome.NO_ANSWER, 0.0, None, "the completion marks no answer")
        answers = problem.meta.get("answers") if problem.meta else None
        golds = (
            [str(a) for a in answers]
            if isinstance(answers, Sequence) and answers and not isinstance(answers, str)
            else []
        )
        return self._judge(golds or [problem.answer], found.text)

    def _judge(self, references: list[str], answer: str) -> Judgement:
        golds = []
        for reference in references:
            gold = _reference(reference)
            if isinstance(gold, Judgement):
                return gold
            golds.append(gold)
        if self.references == "all" and len(golds) > 1:
            golds = ["; ".join(golds)]
        rules = Rules(self.units, self.percent, self.containers, self.tolerance, self.algebra)
        why = ""
        for gold in golds:
            try:
                if Comparison(rules, self.prepare).same(gold, tidy(answer)):
                    return Judgement(Outcome.CORRECT, 1.0, answer)
            except NoValue as error:
                why = f"the answer {error}"
            except Unjudged as error:
                return _error(str(error))
        return Judgement(Outcome.WRONG, 0.0, answer, why)


def _references(problem: Problem) -> list[str]:
    """The problem's reference answers: the list in `meta["answers"]` where there is one, else its `answer` alone."""
    answers = problem.meta.get("answers") if problem.meta else None
    if isinstance(answers, Sequence) and not isinstance(answers, str) and answers:
        return [str(a) for a in answers]
    return [problem.answer]


@lru_cache(maxsize=4096)
def _reference(reference: str) -> Any:
    """A reference tidied, or the ERROR that says why it is none."""
    gold = reference_text(reference)
    tidied = tidy(gold)
    if tidied.lower() in _NO_VALUE or len(gold) > LONGEST_ANSWER:
        return _error(f"the reference {reference[:80]!r} has no value to compare with")
    try:
        Comparison(Rules(algebra=False)).check(tidied)
    except NoValue as error:
        return _error(f"the reference {gold[:80]!r} {error}")
    return tidied


def _error(detail: str) -> Judgement:
    return Judgement(Outcome.ERROR, 0.0, None, detail)
