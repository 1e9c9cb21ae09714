"""What all adapters share: their options, and how a reward is read as a judgement."""

from __future__ import annotations

import asyncio
import inspect
import math
import numbers
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from flywheel import Judgement, Message, Outcome, PluginError, Problem
from flywheel.verifiers.adapters import source

SLACK = 1e-9
"""By how much a reward may miss its threshold, for rewards that are sums of floats."""


@dataclass(frozen=True)
class Adapter:
    """The options that every adapter has.

    A reward is CORRECT from `threshold` on and WRONG below it. The score is the reward's place between `lowest` and
    `highest`, from 0 to 1. No number, NaN, or one outside that range is ERROR: the function is not what was assumed.
    """

    function: str
    """The function, as `file.py:name` or `pkg.mod:name`."""
    threshold: float = 1.0
    """The reward from which a completion is correct, in the function's own units."""
    lowest: float = 0.0
    """The smallest reward the function gives."""
    highest: float = 1.0
    """The largest reward the function gives."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lowest) and math.isfinite(self.highest)):
            raise ValueError(f"lowest = {self.lowest!r} and highest = {self.highest!r} must be finite")
        if not self.lowest < self.threshold <= self.highest:
            raise ValueError(
                f"threshold = {self.threshold!r} must be above lowest = {self.lowest!r} and not above "
                f"highest = {self.highest!r}"
            )
        source.check(self.function)

    def prepare(self) -> None:
        """Import the function's module."""
        source.load(self.function)

    def identity(self) -> dict[str, Any]:
        """The digest of the adapted function's source, for verdicts to be told apart by."""
        return source.digest(self.function)

    def _loaded(self) -> Callable[..., Any]:
        self.prepare()
        found: Callable[..., Any] = source.load(self.function)
        return found

    def _judged(self, reward: Any, answer: Any = None, detail: str = "") -> Judgement:
        value = as_number(reward)
        if value is None or not math.isfinite(value):
            what = f"returned {value}" if value is not None else f"returned a {type(reward).__name__}"
            return error(f"{self.function} {what}, which is no finite number")
        if not self.lowest - SLACK <= value <= self.highest + SLACK:
            return error(
                f"{self.function} returned {value:g}, outside {self.lowest:g} to {self.highest:g}; "
                "set lowest and highest to its range"
            )
        score = min(1.0, max(0.0, (value - self.lowest) / (self.highest - self.lowest)))
        outcome = Outcome.CORRECT if value >= self.threshold - SLACK else Outcome.WRONG
        return Judgement(outcome, score, None if answer is None else str(answer), detail)


def error(detail: str) -> Judgement:
    """Could-not-judge, and why."""
    return Judgement(Outcome.ERROR, 0.0, None, detail)


def as_number(value: Any) -> float | None:
    """A bool, a number, or an array of one element, as a float; None for anything else."""
    if type(value).__module__.split(".")[0] in ("numpy", "torch", "jax", "jaxlib"):
        try:
            value = value.item()
        except (ValueError, RuntimeError, TypeError, AttributeError):
            return None
    try:
        return float(value) if isinstance(value, numbers.Real) else None
    except (OverflowError, ValueError):
        return math.inf


# -- what functions are called with -----------------------------------------------------------------


def conversation(problem: Problem) -> list[Message]:
    """The prompt as a list of messages."""
    return problem.messages or [{"role": "user", "content": problem.prompt}]


def reply(completion: str) -> list[Message]:
    """The completion as the list of messages that follows the prompt's."""
    return [{"role": "assistant", "content": completion}]


def columns_of(problem: Problem, mapping: Mapping[str, str]) -> dict[str, Any]:
    """A problem as the row of a data set: its own columns, `answer`, `solution`, and those that `mapping` adds.

    `mapping` is from the function's name for a column to a place in the problem: `answer`, `prompt`, `solution`,
    `id`, `messages`, or `meta.x.y`. Raises PluginError for a place that is not there.
    """
    row: dict[str, Any] = {**problem.meta, "answer": problem.answer}
    if problem.solution is not None:
        row["solution"] = problem.solution
    return row | {column: value_at(problem, place) for column, place in mapping.items()}


def value_at(problem: Problem, place: str) -> Any:
    """What stands at `answer`, `prompt`, `solution`, `id`, `messages`, `meta` or `meta.x.y`. Raises PluginError."""
    first, *rest = place.split(".")
    if first not in ("id", "prompt", "answer", "solution", "messages", "meta") or (rest and first != "meta"):
        raise PluginError(f"{place!r} is no place in a problem; write answer, prompt, solution, id, messages or meta.x")
    value: Any = getattr(problem, first)
    for part in rest:
        if not isinstance(value, Mapping) or part not in value:
            raise PluginError(f"problem {problem.id!r} has no {place!r}")
        value = value[part]
    return value


def accepted(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a function names; all of them where it has `**kwargs`."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C
        return dict(arguments)
    if any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        return dict(arguments)
    return {name: value for name, value in arguments.items() if name in parameters}


def awaited(value: Any) -> Any:
    """`value`, or what it comes to if it is awaitable: functions may be sync or async."""
    if not inspect.isawaitable(value):
        return value

    async def wait() -> Any:
        return await value

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(wait())
    with ThreadPoolExecutor(1) as thread:  # called from inside somebody's loop, as in a notebook
        return thread.submit(_run_alone, wait()).result()


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return _loop().run_until_complete(coroutine)


def _run_alone(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    """One loop a process: a client that a function keeps between calls stays bound to it."""
    return asyncio.new_event_loop()
