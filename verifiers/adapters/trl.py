"""`trl`: a reward function for TRL's GRPOTrainer, `f(prompts, completions, **columns) -> list[float | None]`.

It is called as the trainer calls it (trl 1.x, `GRPOTrainer._calculate_rewards`), with lists of one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from flywheel import Judgement, Problem
from flywheel.verifiers.adapters.base import Adapter, accepted, awaited, columns_of, conversation, error, reply


@dataclass(frozen=True)
class Trl(Adapter):
    """Judges by a TRL reward function, sync or async. Its None, "does not apply", is ERROR: nothing was judged."""

    name: ClassVar[str] = "trl"
    version: ClassVar[str] = "1"

    columns: dict[str, str] = field(default_factory=dict)
    """From the function's column names to places in a problem, e.g. `{solution = "answer"}`. Without it a function gets
    `answer`, `solution` where there is one, and all columns of the problem's row that flywheel did not use."""
    conversational: bool | None = None
    """Give prompts and completions as lists of messages; None does so where the problem has messages."""

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """Judge by the function's one reward."""
        function = self._loaded()
        messages = problem.messages is not None if self.conversational is None else self.conversational
        arguments: dict[str, Any] = {column: [value] for column, value in columns_of(problem, self.columns).items()}
        arguments |= {
            "prompts": [conversation(problem) if messages else problem.prompt],
            "completions": [reply(completion) if messages else completion],
            "trainer_state": None,
            "log_extra": _unheard,
            "log_metric": _unheard,
        }
        rewards = awaited(function(**accepted(function, arguments)))
        if isinstance(rewards, (str, bytes, dict)) or not hasattr(rewards, "__len__"):
            return error(f"{self.function} returned a {type(rewards).__name__} and no list of rewards")
        if len(rewards) != 1:
            return error(f"{self.function} returned {len(rewards)} rewards for one completion")
        if rewards[0] is None:
            return error(f"{self.function} returned None: it does not apply to this completion")
        return self._judged(rewards[0])


def _unheard(name: str, value: Any) -> None:
    """The trainer's logging calls, which lead nowhere here."""
