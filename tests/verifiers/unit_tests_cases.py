"""What the tests of `unit_tests` share: outcomes by a letter, and problems by their tests."""

from __future__ import annotations

from typing import Any

from flywheel import Outcome, Problem

C, W, N, T, E = Outcome.CORRECT, Outcome.WRONG, Outcome.NO_ANSWER, Outcome.TIMEOUT, Outcome.ERROR


RIGHT = "def f(x):\n    return x + 1"


def problem(test: str, entry: str | None = "f", prompt: str = "Write f.", **meta: Any) -> Problem:
    named = {"entry_point": entry} if entry else {}
    return Problem("p", prompt, "x", meta={"test": test, **named, **meta})
