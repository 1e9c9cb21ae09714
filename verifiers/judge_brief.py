"""What every question to a judging model rests on, whether it rates or compares: rubric, task, reference, threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flywheel import Judgement, Outcome, Problem
from flywheel.verifiers.judge_model import Ask, Said


@dataclass(frozen=True, slots=True)
class Brief:
    """What a judge is told and held to. `ask` puts questions to the judging model and gives what it said to each."""

    rubric: str
    show_reference: bool
    threshold: float
    alternatives: Sequence[str]
    ask: Callable[[Sequence[Ask]], list[Said]]

    def reference(self, problem: Problem) -> str | None:
        """The reference answer, where there is one and the judge may see it."""
        return problem.answer if self.show_reference and problem.answer.strip() else None

    def scored(self, score: float, detail: str) -> Judgement:
        """CORRECT from the threshold on, else WRONG."""
        right = score >= self.threshold - 1e-9
        return Judgement(Outcome.CORRECT if right else Outcome.WRONG, score, None, detail)


def task(problem: Problem) -> str:
    """The task as the policy was given it."""
    if problem.messages:
        return "\n\n".join(f"{m['role']}: {m['content']}" for m in problem.messages)
    return problem.prompt


def could_not_judge(why: str) -> Judgement:
    """The judge could not judge."""
    return Judgement(Outcome.ERROR, 0.0, None, why)
