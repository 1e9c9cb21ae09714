"""`inspect_ai`: a scorer of UK AISI's Inspect, `async score(state: TaskState, target: Target) -> Score`.

Tried with inspect_ai 0.3.285. Where the library is not installed (a scorer without its decorator needs none of it),
the state and the target are plain objects with the attributes that its documentation promises to scorers.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import iscoroutinefunction
from types import SimpleNamespace
from typing import Any, ClassVar

from flywheel import Judgement, Outcome, PluginError, Problem
from flywheel.verifiers.adapters import source
from flywheel.verifiers.adapters.base import Adapter, awaited, conversation, error, value_at

WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""Texts that Inspect's `value_to_float` reads beside C, I, P, N and numbers."""


@dataclass(frozen=True)
class InspectAi(Adapter):
    """Judges by an Inspect scorer: C is CORRECT, I is WRONG, P is partial credit, N is NO_ANSWER, numbers are scores.

    An unscored sample (NaN, or no Score at all) is ERROR: it stands in no rate there either.
    """

    name: ClassVar[str] = "inspect_ai"
    version: ClassVar[str] = "1"

    arguments: dict[str, Any] = field(default_factory=dict)
    """What a scorer's factory is called with, e.g. `{numeric = true}` for `inspect_ai.scorer:match`."""
    target: str = "answer"
    """Where the target stands: `answer`, or `meta.x` for a column with a text or a list of texts."""
    key: str = ""
    """Of a score whose value is a dict: the entry that decides."""
    partial: float = 0.5
    """What P is worth, as a share of the way from `lowest` to `highest`."""

    def prepare(self) -> None:
        """Import the scorer and make it; `inspect_ai` takes seconds."""
        _scorer(self.function, json.dumps(self.arguments, sort_keys=True))

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """Judge by the value of the scorer's Score."""
        self.prepare()
        score = _scorer(self.function, json.dumps(self.arguments, sort_keys=True))
        given = value_at(problem, self.target)
        texts = [str(text) for text in given] if isinstance(given, list) else [str(given)]
        state, target = _state_and_target(problem, completion, texts)
        result = awaited(score(state, target))
        if not hasattr(result, "value"):
            return error(f"{self.function} returned a {type(result).__name__} and no Score")
        answer, detail = getattr(result, "answer", None), getattr(result, "explanation", None) or ""
        return self._from_value(result.value, answer, str(detail))

    def _from_value(self, value: Any, answer: Any, detail: str) -> Judgement:
        if isinstance(value, Mapping):
            if self.key not in value:
                names = ", ".join(str(name)[:40] for name in list(value)[:8])
                return error(f"{self.function} gives a value for each of {names}; set key to the one that decides")
            value = value[self.key]
        if not isinstance(value, str):
            return self._judged(value, answer, detail)
        if value == "N":
            return Judgement(Outcome.NO_ANSWER, 0.0, None, detail)
        share = {"C": 1.0, "P": self.partial, "I": 0.0}.get(value, WORDS.get(value.lower()))
        if share is not None:
            return self._judged(self.lowest + share * (self.highest - self.lowest), answer, detail)
        try:
            return self._judged(float(value), answer, detail)
        except ValueError:
            return error(f"{self.function} gave the value {value[:40]!r}, which is none of C, I, P, N and no number")


@lru_cache(maxsize=16)
def _scorer(function: str, arguments: str) -> Callable[[Any, Any], Any]:
    """The scorer: what the named factory makes, or the named coroutine function itself."""
    found: Callable[..., Any] = source.load(function)
    if iscoroutinefunction(found):
        return found
    made = found(**json.loads(arguments))
    if not callable(made):
        raise PluginError(f"{function} made a {type(made).__name__}, which is no scorer")
    return made


# -- what a scorer sees -----------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _installed() -> bool:
    return importlib.util.find_spec("inspect_ai") is not None


def _state_and_target(problem: Problem, completion: str, texts: list[str]) -> tuple[Any, Any]:
    if not _installed():
        target = PlainTarget(texts)
        return plain_state(problem, completion, target), target
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, ModelName, ModelOutput
    from inspect_ai.scorer import Target
    from inspect_ai.solver import TaskState

    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    asked = [kinds.get(m["role"], ChatMessageUser)(content=m["content"]) for m in conversation(problem)]
    state = TaskState(
        model=ModelName("flywheel/policy"),
        sample_id=problem.id,
        epoch=1,
        input=problem.prompt if problem.messages is None else asked,
        messages=[*asked, ChatMessageAssistant(content=completion)],
        target=Target(texts),
        output=ModelOutput.from_content("flywheel/policy", completion),
        metadata=dict(problem.meta),
        completed=True,
    )
    return state, Target(texts)


class PlainTarget(Sequence[str]):
    """Inspect's Target without Inspect: texts of which any may be met; `text` is all of them joined."""

    def __init__(self, texts: list[str]) -> None:
        self.target = texts

    def __getitem__(self, index: Any) -> Any:
        return self.target[index]

    def __len__(self) -> int:
        return len(self.target)

    @property
    def text(self) -> str:
        """The target as one text."""
        return "".join(self.target)


def plain_state(problem: Problem, completion: str, target: PlainTarget) -> SimpleNamespace:
    """Inspect's TaskState without Inspect: the attributes that scorers read."""
    asked = [SimpleNamespace(role=m["role"], content=m["content"], text=m["content"]) for m in conversation(problem)]
    said = SimpleNamespace(role="assistant", content=completion, text=completion)
    return SimpleNamespace(
        model="flywheel/policy",
        sample_id=problem.id,
        epoch=1,
        input=problem.prompt,
        input_text=problem.prompt,
        messages=[*asked, said],
        output=SimpleNamespace(model="flywheel/policy", completion=completion, message=said, stop_reason="stop"),
        metadata=dict(problem.meta),
        target=target,
        choices=[],
        completed=True,
    )
