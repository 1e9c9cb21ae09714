"""`exact`: the answer must be the reference answer, character by character, after light tidying."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from flywheel import Judgement, Outcome, Problem


@dataclass(frozen=True)
class Exact:
    """Compares text. What counts as the answer is the whole completion, or what `pattern` finds in it."""

    name: ClassVar[str] = "exact"
    version: ClassVar[str] = "1"

    pattern: str | None = None
    """A regular expression; the answer is group 1 of its last match. None takes the whole completion."""
    ignore_case: bool = False
    """Compare without regard to case."""
    collapse_space: bool = True
    """Runs of white space count as one space, and none at the ends."""

    def __post_init__(self) -> None:
        try:
            groups = 1 if self.pattern is None else re.compile(self.pattern).groups
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r} is no regular expression: {error}") from None
        if groups < 1:
            raise ValueError(f"pattern {self.pattern!r} has no group; put the answer's part in parentheses")

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """CORRECT where the answer's tidied text is the reference's."""
        wanted = self._tidy(problem.answer)
        if not wanted:
            return Judgement(Outcome.ERROR, 0.0, None, f"the reference answer {problem.answer!r} is empty")
        found = self._answer(completion.rpartition("</think>")[2])
        if not found:
            return Judgement(Outcome.NO_ANSWER, 0.0, None, "the completion has no answer")
        right = found == wanted
        return Judgement(Outcome.CORRECT if right else Outcome.WRONG, float(right), found)

    def _answer(self, text: str) -> str:
        if self.pattern is None:
            return self._tidy(text)
        matches = [m.group(1) or "" for m in re.finditer(self.pattern, text)]
        return self._tidy(matches[-1]) if matches else ""

    def _tidy(self, text: str) -> str:
        tidied = " ".join(text.split()) if self.collapse_space else text
        return tidied.casefold() if self.ignore_case else tidied
