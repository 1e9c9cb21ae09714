r"""`self_label`: a model's own completion is its problem's label, where its length is plausible and its samples agree.

The two filters of self-improvement without labels (Lee et al. 2025, arXiv:2502.01612, section 5): answers that are too
short are left out, since a model that goes beyond what it has learnt tends to skip or to stop early; and of several
completions the one that most agree on is taken. Neither looks at a reference answer, so held-out problems need
another verifier (`verify.held_out`).

    [verify]
    verifier = "self_label"
    options = { pattern = '\d', field = "digits", longer = 1 }
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from flywheel import Judgement, Outcome, Problem

_SLACK = 1e-9  # shares such as 0.7 are no exact binary numbers


@dataclass(frozen=True)
class SelfLabel:
    """CORRECT means: plausible, and what its problem's samples agree on. A completion of another length is WRONG.

    Where no text has the share that is asked for, or two lead, nothing is there to judge by: NO_ANSWER.
    """

    name: ClassVar[str] = "self_label"
    version: ClassVar[str] = "1"
    label_free: ClassVar[bool] = True
    path_kind: ClassVar[str] = "text"

    pattern: str = r"\S"
    """What is counted in a completion: matches of this regular expression."""
    field: str = ""
    """The field of `problem.meta` that says how many are expected; "" takes any number but none at all."""
    shorter: int = 0
    """By how many a completion may fall short."""
    longer: int = 1
    """By how many it may exceed."""
    min_share: float = 0.5
    """Share of the problem's samples that must say the same; a single sample agrees with itself."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern = {self.pattern!r} is no regular expression: {error}") from None
        if self.shorter < 0 or self.longer < 0:
            raise ValueError(f"shorter = {self.shorter!r} and longer = {self.longer!r}; both are at least 0")
        if not 0.0 <= self.min_share <= 1.0:
            raise ValueError(f"min_share = {self.min_share!r}; it is a share from 0 to 1")

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """Judge a single sample, by its length."""
        return self.verify_group(problem, [completion])[0]

    def verify_group(self, problem: Problem, completions: Sequence[str]) -> list[Judgement]:
        """Judge all samples of a problem: the length of each, then their vote, in which all take part."""
        texts = [completion.strip() for completion in completions]
        votes = Counter(texts)
        (winner, most), *others = votes.most_common(2)
        tied = bool(others) and others[0][1] == most
        no_quorum = tied or most < self.min_share * len(texts) - _SLACK
        says = f"{most} of {len(texts)} agree"
        judged = {text: self._judgement(problem, text, winner, "a tie" if tied else says, no_quorum) for text in votes}
        return [judged[text] for text in texts]

    def _judgement(self, problem: Problem, text: str, winner: str, says: str, no_quorum: bool) -> Judgement:
        count = sum(1 for _ in re.finditer(self.pattern, text))
        if not text or not count:
            return Judgement(Outcome.NO_ANSWER, 0.0, None, f"it holds nothing that {self.pattern!r} matches")
        if self.field:
            expected = self._expected(problem)
            if not expected - self.shorter <= count <= expected + self.longer:
                return Judgement(Outcome.WRONG, 0.0, text, f"{count} where {expected} are expected")
        if no_quorum:
            return Judgement(Outcome.NO_ANSWER, 0.0, text, says)
        return Judgement(Outcome.CORRECT if text == winner else Outcome.WRONG, float(text == winner), text, says)

    def _expected(self, problem: Problem) -> int:
        value = problem.meta.get(self.field)
        if not isinstance(value, int):
            raise ValueError(f"problem.meta[{self.field!r}] is {value!r}; self_label.field must name a whole number")
        return value
