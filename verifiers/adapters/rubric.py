"""`rubric`: a reward function of Prime Intellect's `verifiers` library, which asks for arguments by parameter name.

Known names (verifiers 0.1, `Rubric.score_objects`): prompt, completion, answer, state, task, info, parser, and the
columns of the data set's row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from flywheel import Judgement, PluginError, Problem
from flywheel.verifiers.adapters import source
from flywheel.verifiers.adapters.base import Adapter, accepted, awaited, columns_of, conversation, reply

GROUP = {"prompts", "completions", "answers", "states", "tasks", "infos"}
"""Parameters by which the library knows a function that compares several rollouts."""


@dataclass(frozen=True)
class Rubric(Adapter):
    """Judges by one reward function of a rubric, sync or async. What it raises is ERROR, where the library says 0."""

    name: ClassVar[str] = "rubric"
    version: ClassVar[str] = "1"

    conversational: bool = True
    """Give prompt and completion as lists of messages; false gives texts."""
    parser: str = ""
    """Where functions ask for `parser`: `file.py:make_parser`, called without arguments. Without it a parser that
    takes the whole reply for the answer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parser:
            source.check(self.parser)

    def identity(self) -> dict[str, Any]:
        """The digests of the function's and the parser's source."""
        found = super().identity()
        return found | {"parser": source.digest(self.parser)} if self.parser else found

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """Judge by the function's reward."""
        function = self._loaded()
        _refuse_group(function, self.function)
        said: Any = reply(completion) if self.conversational else completion
        asked: Any = conversation(problem) if self.conversational else problem.prompt
        row = columns_of(problem, {})
        info = problem.meta.get("info")
        common = {
            "prompt": asked,
            "completion": said,
            "answer": problem.answer,
            "task": problem.meta.get("task", "default"),
            "info": info if isinstance(info, dict) else dict(problem.meta),
        }
        state = {**common, "turn": 1, "responses": [], "trajectory": [], "timing": {}, "is_completed": True}
        arguments = {**row, **common, "state": state, "parser": self._made_parser()}
        return self._judged(awaited(function(**accepted(function, arguments))))

    def _made_parser(self) -> Any:
        return source.load(self.parser)() if self.parser else WholeReply()


class WholeReply:
    """A parser for functions that ask for one: the answer is the last reply, all of it."""

    def parse(self, text: str) -> str:
        """The text itself."""
        return text

    def parse_answer(self, completion: Any) -> str | None:
        """The text of the last message, or the completion if it is text."""
        if isinstance(completion, str):
            return completion
        return str(completion[-1]["content"]) if completion else None


def _refuse_group(function: Callable[..., Any], name: str) -> None:
    try:
        group = GROUP & set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return
    if group:
        raise PluginError(f"{name} compares several completions (it asks for {', '.join(sorted(group))}), not one")
