"""`exact` compares text and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from flywheel import Outcome, Problem
from flywheel.verifiers.exact import Exact


@pytest.mark.parametrize(
    ("options", "answer", "completion", "outcome"),
    [
        ({}, "42", " 42\n", Outcome.CORRECT),
        ({}, "a b", "a\n  b", Outcome.CORRECT),
        ({"collapse_space": False}, "a b", "a  b", Outcome.WRONG),
        ({}, "Yes", "yes", Outcome.WRONG),
        ({"ignore_case": True}, "Yes", "yes", Outcome.CORRECT),
        ({}, "42", "42.", Outcome.WRONG),
        ({}, "42", "<think>41? no</think> 42", Outcome.CORRECT),
        ({}, "42", "  ", Outcome.NO_ANSWER),
        ({}, " ", "42", Outcome.ERROR),
        ({"pattern": r"#### (.+)"}, "42", "#### 41\n#### 42", Outcome.CORRECT),
        ({"pattern": r"#### (.+)"}, "42", "42", Outcome.NO_ANSWER),
    ],
)
def test_verdicts(options: dict[str, Any], answer: str, completion: str, outcome: Outcome) -> None:
    assert Exact(**options).verify(Problem(id="p", prompt="", answer=answer), completion).outcome == outcome


def test_a_pattern_must_say_which_part_is_the_answer() -> None:
    with pytest.raises(ValueError, match="has no group"):
        Exact(pattern="####")
    with pytest.raises(ValueError, match="is no regular expression"):
        Exact(pattern="((")
