"""Guided samples: how far hinted ones are let in.

Training on right answers that were written with the solution in sight can cost most of a model's accuracy, and what
goes first is that it voices doubt (Kim et al. 2026, arXiv:2603.24472: 54.8 to 20.2 on AIME24 after 800 such traces,
51.0 after unguided ones). So their share is bounded, and one that hardly voices doubt where the model by itself does is
not learnt from.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from flywheel.measures.markers import MARKERS
from flywheel.types import Origin, Sample

_MARKER = re.compile(rf"\b(?:{'|'.join(MARKERS)})\b")


class Row(Protocol):
    """A sample or an example."""

    @property
    def problem_id(self) -> str:
        """The problem it answers."""

    @property
    def origin(self) -> str:
        """Where it came from."""


R = TypeVar("R", bound=Row)


GUIDED = (Origin.HINTED, Origin.CORRECTED)
"""Origins of what answers another prompt than the problem's own: no figure of what the policy does alone counts it."""


def is_hinted(row: Row) -> bool:
    """Whether a row was written with the answer or the solution in sight."""
    return row.origin == Origin.HINTED


def is_corrected(row: Row) -> bool:
    """Whether a row is a second attempt, behind a wrong first one."""
    return row.origin == Origin.CORRECTED


def is_guided(row: Row) -> bool:
    """Whether a row answers another prompt than the problem's own: one with a hint, or with a wrong first attempt."""
    return row.origin in GUIDED


def far_below_unguided(hinted: Sequence[Sample], unguided: Iterable[Sample], ratio: float) -> list[Sample]:
    """The hinted samples of a problem whose density of epistemic markers is under `ratio` times the mean of its
    unguided samples'; none where those have no marker at all."""
    densities = [_density(sample) for sample in unguided]
    if not densities:
        return []
    line = ratio * sum(densities) / len(densities)
    return [sample for sample in hinted if _density(sample) < line]


def _density(sample: Sample) -> float:
    """Epistemic markers a 1,000 tokens."""
    return 1000.0 * len(_MARKER.findall(sample.completion.lower())) / max(1, sample.tokens)


def within_share(rows: Sequence[R], share: float, of: Callable[[Row], bool] = is_hinted) -> list[R]:
    """`rows` without those `of` a kind (the hinted ones) that would make up more than `share` of what remains.

    Problems give up their second and third such rows before any gives up its only one.
    """
    bounded = [row for row in rows if of(row)]
    others = len(rows) - len(bounded)
    if share >= 1.0 or not bounded:
        return list(rows)
    room = math.floor(others * share / (1.0 - share) + 1e-9)
    turn: dict[str, int] = defaultdict(int)
    turns = []
    for row in bounded:
        turns.append(turn[row.problem_id])
        turn[row.problem_id] += 1
    first = sorted(range(len(bounded)), key=lambda i: turns[i])[:room]
    staying = {id(bounded[i]) for i in first}
    return [row for row in rows if not of(row) or id(row) in staying]
