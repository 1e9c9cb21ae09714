"""Writing: how a policy is asked for problems, and what of its answer is one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flywheel.fingerprint import derive_seed, rng
from flywheel.policy import Completion, Request
from flywheel.recipe import Recipe, WriterOptions
from flywheel.types import Message, Problem

EMPTY = "empty"
TOO_LONG = "too_long"

_LABEL = re.compile(r"^(?:(?:new )?(?:problem|question|task|exercise)(?: \d+)?[:.]|\d+[.)](?=\s))\s*", re.IGNORECASE)
_WRAPPING = "\"'“”*_` \t"


def requests(
    recipe: Recipe, round_index: int, shown: Sequence[Problem], done: frozenset[int] | set[int]
) -> list[Request]:
    """What to ask the policy for: one problem a request, but for those whose number is in `done`.

    Each request shows other problems of `shown`, as answers that were given before: a small model learns from turns
    what it does not from a description. The id of a request is its number.
    """
    writer, seed = recipe.propose.writer, recipe.seed
    wanted = writer.completions or 2 * recipe.propose.count
    asked = []
    for number in range(wanted):
        if number in done:
            continue
        shots = rng(seed, "write", round_index, number).sample(list(shown), min(writer.shots, len(shown)))
        asked.append(
            Request(
                id=str(number),
                messages=conversation(writer, shots, recipe.model.system),
                indices=(0,),
                temperature=writer.temperature,
                max_tokens=writer.max_tokens,
                top_p=writer.top_p,
                seed=derive_seed(seed, "write", round_index, number),
            )
        )
    return asked


def conversation(writer: WriterOptions, shots: Sequence[Problem], system: str | None) -> list[Message]:
    """The instruction, answered by each of the `shots` in turn, and asked once more."""
    messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    for shot in shots:
        messages.append({"role": "user", "content": writer.instruction})
        messages.append({"role": "assistant", "content": shot.prompt})
    return [*messages, {"role": "user", "content": writer.instruction}]


def written_problem(completion: Completion, writer: WriterOptions, id: str) -> tuple[Problem, str | None]:
    """The problem that a completion writes, and why it is none (`EMPTY`, `TOO_LONG`); it has no reference answer.

    It is the first paragraph behind the reasoning, without a label such as `Problem:` and without quotation marks.
    """
    text = completion.text.rpartition("</think>")[2].strip()
    text = re.split(r"\n\s*\n", text, maxsplit=1)[0].strip(_WRAPPING)
    text = _LABEL.sub("", text).strip(_WRAPPING).strip()
    problem = Problem(id, text, "")
    if completion.finish_reason != "stop" or len(text.split()) > writer.longest:
        return problem, TOO_LONG
    return problem, None if re.search(r"\w", text) else EMPTY
