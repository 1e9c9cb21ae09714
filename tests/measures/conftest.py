"""Judged samples, made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import settings

from flywheel.types import Outcome, Sample, Verdict

CALM = settings(deadline=None, max_examples=40)
"""For properties whose single example takes milliseconds on a busy machine."""

Row = tuple[str, Outcome, str | None]
"""Completion, outcome, and the answer that the verifier read."""


@pytest.fixture
def rows() -> Callable[..., Any]:
    """Makes samples with their verdicts; sample j of problem p is `p000/p/j`, or `h000/p/j` where it had a hint."""
    return judged_rows


def judged_rows(
    by_problem: Mapping[str, Sequence[Row]],
    *,
    tokens: int = 10,
    finish: str = "stop",
    origin: str = "policy",
    logprob: float | None = None,
) -> tuple[list[Sample], dict[str, Verdict]]:
    samples: list[Sample] = []
    verdicts: dict[str, Verdict] = {}
    for problem, group in by_problem.items():
        for j, (text, outcome, answer) in enumerate(group):
            sample = Sample(
                f"{origin[0]}000/{problem}/{j}",
                problem,
                0,
                0,
                j,
                text,
                finish,
                tokens,
                1.0,
                "{prompt}",
                origin,
                logprob,
            )
            samples.append(sample)
            verdicts[sample.id] = Verdict(sample.id, problem, outcome, 1.0, answer, "", "math", "1", "worker")
    return samples, verdicts
