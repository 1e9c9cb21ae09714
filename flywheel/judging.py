"""Calling a verifier: the one place where whatever a plug-in does or returns becomes a judgement.

What escapes here is only what no caller can mend inside the process: running out of memory.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from flywheel.judgements import broken, to_judgement
from flywheel.types import Judgement, Problem

if TYPE_CHECKING:
    import asyncio

CAUGHT = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit)
"""What a plug-in may raise at the cost of one completion. Anything stranger ends the worker, which costs the same."""


class _Call:
    """A call of a verifier that is under way, and when it is given up."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ends = time.monotonic() + seconds


_call: ContextVar[_Call | None] = ContextVar("_call", default=None)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Let what is called inside know that it is given up after `seconds` (`seconds_left`); nothing is stopped here."""
    token = _call.set(_Call(seconds))
    try:
        yield
    finally:
        _call.reset(token)


def restart_time_limit() -> None:
    """Begin the time of the call under way anew: a worker's clock does so when a verifier has loaded."""
    if (call := _call.get()) is not None:
        call.ends = time.monotonic() + call.seconds


def seconds_left() -> float | None:
    """Seconds until the verifier's call that is under way is given up; None where nobody has set it a limit.

    For a verifier that waits for something (an engine, a server) and would rather say ERROR in time than be
    killed with everything that it has loaded. A batch or a group has the time of as many single calls.
    """
    call = _call.get()
    return None if call is None else max(0.0, call.ends - time.monotonic())


class TogetherError(Exception):
    """A call for several completions failed as a whole; it does not say which of them was at fault."""


def judge_one(verifier: Any, problem: Problem, completion: str) -> Judgement:
    """One completion's judgement, whatever the verifier does. Raises MemoryError alone."""
    try:
        return to_judgement(settled(verifier.verify(problem, completion)))
    except MemoryError:
        raise
    except CAUGHT as error:
        return failure(error)


async def judge_async(verifier: Any, problem: Problem, completion: str) -> Judgement:
    """As `judge_one`, on the running event loop."""
    try:
        value = verifier.verify(problem, completion)
        return to_judgement(await value if inspect.isawaitable(value) else value)
    except MemoryError:
        raise
    except CAUGHT as error:
        return failure(error)


def judge_batch(verifier: Any, problems: Sequence[Problem], completions: Sequence[str]) -> list[Judgement]:
    """Judgements of a batch in its order; where the batch fails, its members are judged one at a time.

    Takes any verifier: one without `verify_batch` judges one after another. Raises MemoryError.
    """
    if callable(getattr(verifier, "verify_batch", None)) and len(completions) > 1:
        try:
            return together(verifier.verify_batch, list(problems), list(completions))
        except TogetherError:
            pass  # which of them it was, judging them alone will show
    return [judge_one(verifier, p, c) for p, c in zip(problems, completions, strict=True)]


def judge_group(verifier: Any, problem: Problem, completions: Sequence[str]) -> list[Judgement]:
    """Judgements of all samples of a problem, in their order; ERROR for all where the call fails.

    Takes any verifier: one without `verify_group` judges them as a batch. Raises MemoryError.
    """
    if not callable(getattr(verifier, "verify_group", None)):
        return judge_batch(verifier, [problem] * len(completions), completions)
    try:
        return together(verifier.verify_group, problem, list(completions))
    except TogetherError as error:
        return [broken(str(error))] * len(completions)


def together(call: Callable[..., Any], first: Any, completions: Sequence[str]) -> list[Judgement]:
    """What `verify_batch` or `verify_group` says of `completions`. Raises TogetherError and MemoryError."""
    try:
        values = settled(call(first, completions))
        values = values.tolist() if hasattr(values, "tolist") else list(values)
    except MemoryError:
        raise
    except CAUGHT as error:
        raise TogetherError(f"{type(error).__name__}: {text_of(error)}") from error
    if len(values) != len(completions):
        raise TogetherError(f"returned {len(values)} values for {len(completions)} completions")
    return [to_judgement(value) for value in values]


def failure(error: BaseException) -> Judgement:
    """ERROR, with the type and the text of what a verifier raised."""
    return broken(f"{type(error).__name__}: {text_of(error)}")


def text_of(error: BaseException) -> str:
    """An exception's text."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a plug-in's edge: an exception's own __str__ can raise
        return "(its text cannot be read)"


def settled(value: Any) -> Any:
    """`value`, or what it comes to where it is to be awaited. Must not be called on a running event loop."""
    return event_loop().run_until_complete(_awaited(value)) if inspect.isawaitable(value) else value


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


_loops: dict[int, asyncio.AbstractEventLoop] = {}


def event_loop() -> asyncio.AbstractEventLoop:
    """This process's loop for verifiers: one for all calls, so that a client they keep stays usable."""
    import asyncio  # only verifiers with async methods pay for it

    if os.getpid() not in _loops:  # a fork shares the loop's descriptors with its parent and may not use it
        _loops[os.getpid()] = asyncio.new_event_loop()
    return _loops[os.getpid()]
