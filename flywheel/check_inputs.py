"""What `flywheel check` tries a verifier on: right answers, hostile texts, answers of other problems."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flywheel import protocols
from flywheel.errors import PluginError, ProblemError
from flywheel.fingerprint import rng
from flywheel.types import Problem

MOST_PROBLEMS = 20
"""Problems that a check looks at."""
FEW_PROBLEMS = 4
"""The same for a verifier that asks a model (`exclusive`, `uses_network`), where each judgement may take seconds."""
MOST_PAIRS = 200
"""Pairs of one problem's reference and another's answer that are tried."""

Job = tuple[Problem, str]
"""A problem, and a completion of it."""

HOSTILE = {
    "empty": "",
    "blank": " \n\t ",
    "junk": "".join(
        rng("check", "junk").choices("abcdefghijklmnopqrstuvwxyz{}[]()<>\\$^_&%#@!?*+-=/,.;:'\" \n", k=4000)
    ),
    "1 MB of one letter": "z" * 1_000_000,
    "1 MB of open boxes": "\\boxed{" * 150_000,
    "NUL": "\x00\x00 zz \x00",
    "surrogates": "\ud800 zz \udfff\udc00",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a verifier says of itself by its attributes, and so which invariants apply; see `protocols.Verifier`."""

    label_free: bool
    uses_network: bool
    unsure_is_error: bool
    isolation: str
    traits: protocols.Traits

    @classmethod
    def of(cls, made: protocols.Verifier) -> Facts:
        """Read them from an instance: options may decide."""
        return cls(
            label_free=bool(getattr(made, "label_free", False)),
            uses_network=bool(getattr(made, "uses_network", False)),
            unsure_is_error=bool(getattr(made, "unsure_is_error", False)),
            isolation=str(getattr(made, "isolation", "worker")),
            traits=protocols.traits(made),
        )

    @property
    def costly(self) -> bool:
        """Whether it asks a model, so that each judgement may take seconds."""
        return self.traits.exclusive or self.uses_network


def choose_problems(verifier: str, made: object, facts: Facts, problems: Sequence[Problem] | None) -> list[Problem]:
    """The problems to try: those given, else the verifier's own `problems()`, else sums; not too many.

    Raises ProblemError where there is none, PluginError where the verifier's own cannot be had.
    """
    chosen = list(problems if problems is not None else _own_problems(made))
    if not chosen:
        raise ProblemError(f"there is no problem to check {verifier!r} with; give --problems FILE")
    most = FEW_PROBLEMS if facts.costly else MOST_PROBLEMS
    return rng("check", len(chosen)).sample(chosen, most) if len(chosen) > most else chosen


def _own_problems(made: object) -> Sequence[Problem]:
    offered = getattr(made, "problems", None)
    if not callable(offered):
        return [
            Problem(id=f"sum-{i}", prompt=f"What is {i * 7} + {i + 3}?", answer=str(i * 8 + 3)) for i in range(1, 13)
        ]
    found: list[Problem] = list(_edge(offered, "problems()"))
    return found


def candidates(made: object, problem: Problem) -> list[str]:
    """Completions that ought to give the reference answer: the verifier's own word for it, else the usual forms."""
    offered = getattr(made, "example", None)
    if callable(offered):
        return [str(_edge(lambda: offered(problem), "example()"))]
    answer = problem.answer
    forms = [f"\\boxed{{{answer}}}", answer, f"<answer>{answer}</answer>", f"#### {answer}", f"The answer is {answer}."]
    return [*forms, *([problem.solution] if problem.solution else [])]


def _edge(call: Callable[[], Any], what: str) -> Any:
    try:
        return call()
    except Exception as error:
        raise PluginError(f"the verifier's {what} failed: {type(error).__name__}: {error}") from error


def pairs_of(references: Sequence[Job]) -> list[Job]:
    """References of one problem against answers of another whose reference differs, in a fixed shuffle."""
    pairs = [
        (problem, text)
        for problem, _ in references
        for other, text in references
        if problem.id != other.id and _told_apart(problem) != _told_apart(other)
    ]
    return rng("check", "pairs").sample(pairs, min(MOST_PAIRS, len(pairs)))


def _told_apart(problem: Problem) -> str:
    """What makes a right answer right: the reference, or where there is none the tests and whatever else there is."""
    return problem.answer.strip() or json.dumps([problem.prompt, problem.meta], default=str, sort_keys=True)
