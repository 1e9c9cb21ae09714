"""Prompts: the words in which a problem is asked. What is trained on is always the plain conversation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypedDict

from flywheel.fingerprint import rng
from flywheel.types import Message, Problem

PLAIN = "{prompt}"
"""The template that changes nothing."""
_PLACEHOLDER = re.compile(r"\{(prompt|answer|solution)\}")


class Shot(TypedDict):
    """A worked example. `id` is that of the problem it comes from, "" where it comes from a file."""

    id: str
    prompt: str
    completion: str


def conversation(
    problem: Problem, system: str | None, variant: str = PLAIN, *, text: str | None = None, shots: Sequence[Shot] = ()
) -> list[Message]:
    """The messages that ask a problem: its own ones, or a user turn, behind the recipe's system turn.

    `variant` rewords the last user turn, whose words are `text` where one is given (a paraphrase); `shots`
    come before the first turn that is not the system's. A problem that brings a system turn keeps it.
    """
    messages: list[Message] = [{"role": m["role"], "content": m["content"]} for m in problem.messages or ()]
    if not messages:
        messages = [{"role": "user", "content": problem.prompt}]
    last = messages[-1]
    said = last["content"] if text is None else text
    messages[-1] = {"role": last["role"], "content": variant.replace(PLAIN, said)}
    if system is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    shown = [turn for shot in shots for turn in _turns(shot)]
    begin = int(messages[0]["role"] == "system")
    return [*messages[:begin], *shown, *messages[begin:]]


def _turns(shot: Shot) -> list[Message]:
    return [
        {"role": "user", "content": shot["prompt"]},
        {"role": "assistant", "content": shot["completion"]},
    ]


def hinted(problem: Problem, system: str | None, template: str) -> list[Message]:
    """The conversation that asks a problem with its answer or solution in sight.

    Only the template is searched for placeholders, never what is put in: a prompt may speak of `{answer}`.
    """
    values = {"answer": problem.answer, "solution": problem.solution or ""}
    messages = conversation(problem, system)
    values["prompt"] = messages[-1]["content"]
    filled = _PLACEHOLDER.sub(lambda found: values[found.group(1)], template)
    return [*messages[:-1], {"role": messages[-1]["role"], "content": filled}]


def second_attempt(problem: Problem, system: str | None, first: str, template: str) -> list[Message]:
    """The conversation that asks for a second attempt after the completion `first`, without a word on what is wrong."""
    messages = conversation(problem, system)
    asked = template.replace(PLAIN, messages[-1]["content"])
    return [*messages, {"role": "assistant", "content": first}, {"role": "user", "content": asked}]


def few_shot_blocks(
    pool: Sequence[Shot], *, count: int, orders: int, position: Sequence[str | int]
) -> list[list[Shot]]:
    """`orders` blocks of examples, each drawn and ordered by `position`.

    A block has one example more than is shown, so that a problem is never shown its own solution (`shown_to`).
    """
    return [rng(*position, order).sample(list(pool), min(count + 1, len(pool))) for order in range(orders)]


def shown_to(problem: Problem, block: Sequence[Shot], count: int) -> list[Shot]:
    """The examples of a block that a problem is shown: the first `count` that are not the problem itself."""
    others = [s for s in block if s["id"] != problem.id and s["prompt"] != problem.prompt]
    return others[:count]
