"""When a judge that finds a completion right is not believed: it also lets an answer pass that fits any problem."""

from __future__ import annotations

from dataclasses import dataclass

from flywheel import Judgement, Outcome
from flywheel.verifiers.judge_model import Said

BETTER = 0.05
"""A score that exceeds that of an alternative which passes by no more than this is no better than it."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a judge's CORRECT is not believed on a problem: an alternative that passes there, with its score."""

    why: str
    text: str = ""
    score: float = 0.0
    weighed: bool = False
    """Whether the score was read from likelihoods."""


def is_weighed(rated: tuple[Said, Said]) -> bool:
    """Whether both ratings were read from likelihoods."""
    return not any(said.written for said in rated)


def doubted(judgement: Judgement, rated: tuple[Said, Said], doubt: Doubt) -> Judgement:
    """What becomes of a CORRECT where an alternative passes too.

    Where both were read from likelihoods, one that is no better than the alternative is WRONG, as in a comparison: the
    judge has said how good it finds the two. Else the judge is not believed.
    """
    if doubt.weighed and is_weighed(rated) and judgement.score <= doubt.score + BETTER:
        return Judgement(Outcome.WRONG, 0.0, None, f"{judgement.detail}, no better than {doubt.text[:60]!r}")
    return Judgement(Outcome.ERROR, 0.0, None, doubt.why)
