"""`majority`: a problem's samples vote, by the mathematical equality of their answers; no reference is looked at.

The answer most samples agree on stands in for the missing label (self-consistency: Wang et al. 2022,
arXiv:2203.11171; as a training signal: Huang et al. 2022, arXiv:2210.11610; TTRL, Zuo et al. 2025,
arXiv:2504.16084). A vote is no proof: it makes a model surer of what it already tends to say, right or wrong,
so a band of shares and a margin keep out votes that carry little, and held-out problems should be
measured by a verifier that knows the answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from flywheel import Judgement, Outcome, Problem
from flywheel.verifiers.math import Math
from flywheel.verifiers.math_answer import find_answer

_PLAIN = re.compile(r"-?\d+(\.\d+)?")
_SLACK = 1e-9  # shares such as 0.7 are no exact binary numbers


@dataclass(frozen=True)
class Majority:
    """The winning answer's samples are CORRECT, those with another answer WRONG.

    Where no answer wins (a tie, a share outside the band, too thin a margin, too few votes), nothing is
    there to judge by, and all samples are NO_ANSWER: not wrong, since nobody knows, and no ERROR, since the
    verifier did its work. Shares are of all samples of the problem, so those that give no answer count
    against a quorum.
    """

    name: ClassVar[str] = "majority"
    version: ClassVar[str] = "1"
    label_free: ClassVar[bool] = True

    min_share: float = 0.5
    """The winner's share must reach this."""
    max_share: float = 1.0
    """A winner with a larger share is no news to the model, and teaches nothing."""
    min_margin: float = 0.0
    """By how large a share the winner must be ahead of the second; a tie never wins."""
    min_votes: int = 2
    """How many samples must give an answer."""
    last_number: bool = False
    """Where a completion marks no answer, its last number counts; as for `math`."""
    last_maths: bool = False
    """Where a completion marks no answer, its last `$...$` counts; as for `math`."""
    tolerance: float = 0.0
    """How far numbers may differ and still be the same vote, as a share of either."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_share <= self.max_share <= 1.0:
            raise ValueError(f"min_share = {self.min_share!r} and max_share = {self.max_share!r} are no band in [0, 1]")
        if not 0.0 <= self.min_margin <= 1.0:
            raise ValueError(f"min_margin = {self.min_margin!r}; it is a share from 0 to 1")
        if self.min_votes < 1:
            raise ValueError(f"min_votes = {self.min_votes!r}; at least one sample must answer")
        self._maths()  # it checks the tolerance

    def prepare(self) -> None:
        """Load what comparing answers beyond plain numbers needs."""
        self._maths().prepare()

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """The vote of a single sample, which reaches a quorum only where `min_votes` is 1."""
        return self.verify_group(problem, [completion])[0]

    def verify_group(self, problem: Problem, completions: Sequence[str]) -> list[Judgement]:
        """Judge all samples of a problem by their vote."""
        found = [find_answer(c, last_maths=self.last_maths, last_number=self.last_number) for c in completions]
        answers = [f.text if f is not None and f.text.strip() else None for f in found]
        classes = self._classes(answers)
        refusal = self._refusal([len(c) for c in classes], len(completions))
        winner = set(classes[0]) if classes and not refusal else set()
        says = _tally(answers, classes, len(completions))
        return [
            Judgement(Outcome.NO_ANSWER, 0.0, None, "the completion marks no answer")
            if answer is None
            else Judgement(Outcome.NO_ANSWER, 0.0, answer, f"{refusal}: {says}")
            if refusal
            else Judgement(Outcome.CORRECT if i in winner else Outcome.WRONG, float(i in winner), answer, says)
            for i, answer in enumerate(answers)
        ]

    def undecidable(self, samples: int) -> str | None:
        """Why no answer could win among so many samples: the band has no share of them, or the margin is too wide."""
        for first in range(1, samples + 1):
            for others in (0, samples - first):  # all others give no answer, or each another one
                if not self._refusal([first, *[1] * others], samples):
                    return None
        band = f"min_share = {self.min_share:g}, max_share = {self.max_share:g}, min_margin = {self.min_margin:g}"
        return f"no answer could win a vote of {samples} ({band}, min_votes = {self.min_votes})"

    def _refusal(self, classes: Sequence[int], samples: int) -> str:
        """Why the largest class does not win, from the sizes of all, largest first; "" where it does."""
        votes = sum(classes)
        if votes < self.min_votes:
            return f"no vote: {votes} of {samples} samples give an answer"
        first = classes[0]
        second = classes[1] if len(classes) > 1 else 0
        if first == second:
            return "a tie"
        if first < self.min_share * samples - _SLACK:
            return f"no quorum (min_share = {self.min_share:g})"
        if first > self.max_share * samples + _SLACK:
            return f"too sure to teach anything (max_share = {self.max_share:g})"
        if first - second < self.min_margin * samples - _SLACK:
            return f"too thin a margin (min_margin = {self.min_margin:g})"
        return ""

    def _classes(self, answers: Sequence[str | None]) -> list[list[int]]:
        """Positions of samples with the same answer, the largest class first, then the one that came first."""
        by_text: dict[str, list[int]] = {}
        for i, answer in enumerate(answers):
            if answer is not None:
                by_text.setdefault(answer.strip(), []).append(i)
        if not all(_PLAIN.fullmatch(text) for text in by_text):
            self.prepare()
        classes: list[tuple[str, list[int]]] = []
        for text, members in by_text.items():
            for representative, positions in classes:
                if self._same(representative, text):
                    positions += members
                    break
            else:
                classes.append((text, list(members)))
        return sorted((sorted(positions) for _, positions in classes), key=lambda p: (-len(p), p[0]))

    def _same(self, one: str, other: str) -> bool:
        """Whether each answer is right where the other is the reference: rules for references are not symmetric."""
        return self._right(one, other) and self._right(other, one)

    def _right(self, reference: str, answer: str) -> bool:
        asked = Problem(id="", prompt="", answer=f"\\boxed{{{reference}}}")
        return bool(self._maths().verify(asked, f"\\boxed{{{answer}}}").outcome == Outcome.CORRECT)

    def _maths(self) -> Math:
        # One hostile answer would cost the whole group its verdict if sympy were asked; what is not read without it
        # still counts as the same answer where it is the same text.
        return Math(tolerance=self.tolerance, algebra=False)


def _tally(answers: Sequence[str | None], classes: list[list[int]], samples: int) -> str:
    """`5 of 8 say 42, 2 say 41`: the two largest classes, for people."""
    said = [
        f"{len(c)} {f'of {samples} ' if i == 0 else ''}say {(answers[c[0]] or '')[:60]}"
        for i, c in enumerate(classes[:2])
    ]
    return ", ".join(said) or f"none of {samples} answers"
