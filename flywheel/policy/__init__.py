"""Policies: what samples from a model. One protocol, each engine imported only when it is opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from flywheel.types import Message


@dataclass(frozen=True, slots=True)
class Request:
    """Ask for the completions `indices` of one conversation.

    `id` comes back with every completion. `seed` is used where the engine seeds by request (toy,
    openai, vLLM on a GPU); completion `indices[i]` draws from `derive_seed(seed, indices[i])`.
    Where there are `choices`, the completion is the likeliest of them, at any temperature.
    """

    id: str
    messages: list[Message]
    indices: tuple[int, ...]
    temperature: float
    max_tokens: int
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """One finished completion of a request. `tokens` counts generated tokens, the end token included;
    `finish_reason` is `stop`, `length` or `error`; `logprob` is the mean over tokens, in nats, under what they were
    drawn from (after temperature and nucleus), None where the policy cannot tell or nothing was drawn;
    `choice_logprobs` is how likely each of the request's choices was, in nats, None where the policy cannot tell."""

    request_id: str
    index: int
    text: str
    finish_reason: str
    tokens: int
    logprob: float | None = None
    choice_logprobs: tuple[float, ...] | None = None


class Policy(Protocol):
    """Serves one model until it is closed.

    A policy may also have `interrupt()`, for any thread to call: the `generate` under way then ends without the
    completions that are missing.
    """

    def generate(self, requests: Iterable[Request]) -> Iterator[list[Completion]]:
        """Yield the completions of one request at a time, in the order in which requests finish.

        All requests are taken in at once, so that the engine's batch never runs dry between them.
        Raises EngineError if the engine dies, EndpointError if no endpoint can be reached.
        """
        ...

    def close(self) -> None:
        """End the engine and give its memory back. Safe to call twice."""
        ...
