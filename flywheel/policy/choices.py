"""Answers out of a few allowed ones: how likely each is, exactly, instead of one that is drawn.

A sampler that is held to a list of answers chooses only where they part: among `1`, `2` and `10` at the first token,
and after `1` between the end and `0`. One token's distribution at each such fork is all there is to know, so engines
are asked for that and for nothing else:

    log P(answer) = sum over its forks of log softmax of the allowed next tokens' logits
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flywheel.errors import ModelError
from flywheel.policy import Completion, Request

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens = tuple[int, ...]


@dataclass
class Choosing:
    """A request with `choices` under way: what is still to be asked, and in the end how likely each choice is."""

    request: Request
    index: int
    answers: list[Tokens]
    """The choices' tokens, the end token included, in the order of `request.choices`."""
    told: dict[Tokens, Mapping[int, float]] = field(default_factory=dict)
    """For each fork, by the tokens before it: the log-probabilities (nats) of the tokens that may follow."""

    @classmethod
    def of(cls, request: Request, index: int, tokenizer: PreTrainedTokenizerBase) -> Choosing:
        """Raises ModelError where the tokenizer names no end token or cannot tell the choices apart."""
        end = tokenizer.eos_token_id
        if end is None:
            raise ModelError("the tokenizer names no end token, so it cannot be told where an allowed answer ends")
        answers = [(*tokenizer(choice, add_special_tokens=False)["input_ids"], end) for choice in request.choices]
        if len(set(answers)) < len(answers):
            raise ModelError(f"the tokenizer writes two of {', '.join(request.choices)} in the same way")
        return cls(request, index, answers)

    def forks(self) -> dict[Tokens, list[int]]:
        """Where answers part: the tokens before it, and those that may follow there."""
        nexts: dict[Tokens, set[int]] = {}
        for answer in self.answers:
            for place, token in enumerate(answer):
                nexts.setdefault(answer[:place], set()).add(token)
        return {before: sorted(tokens) for before, tokens in nexts.items() if len(tokens) > 1}

    def done(self) -> bool:
        """Whether every fork has been told."""
        return self.told.keys() >= self.forks().keys()

    def completion(self) -> Completion:
        """The likeliest choice, and how likely each is; the first of several that are equally likely."""
        logprobs = log_likelihoods(self.answers, self.told)
        best = max(range(len(logprobs)), key=logprobs.__getitem__)
        chosen = self.request.choices[best]
        tokens = len(self.answers[best])
        return Completion(self.request.id, self.index, chosen, "stop", tokens, None, tuple(logprobs))


def log_likelihoods(answers: Sequence[Tokens], told: Mapping[Tokens, Mapping[int, float]]) -> list[float]:
    """Each answer's log-probability (nats) among all of them; their probabilities sum to 1.

    `told` has, for the tokens before each fork, at least the allowed next tokens' log-probabilities up to a constant.
    """
    within = {before: _normalised(values) for before, values in told.items()}
    return [
        sum(within[answer[:place]][token] for place, token in enumerate(answer) if answer[:place] in within)
        for answer in answers
    ]


def _normalised(values: Mapping[int, float]) -> dict[int, float]:
    highest = max(values.values())
    total = highest + math.log(sum(math.exp(value - highest) for value in values.values()))
    return {token: value - total for token, value in values.items()}


# -- at an endpoint, which tells no likelihoods ---------------------------------------------------------


def response_format(choices: Sequence[str]) -> dict[str, Any]:
    """The `response_format` that holds an answer to `choices`: an enum in a strict JSON schema, which vLLM, SGLang,
    llama.cpp and OpenAI take alike."""
    answer = {"type": "string", "enum": list(choices)}
    schema = {
        "type": "object",
        "properties": {"answer": answer},
        "required": ["answer"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def named_in(text: str, choices: Sequence[str]) -> str:
    """The choice that an answer in the form of `response_format` names; the whole text where a server has another."""
    try:
        answer = json.loads(text)["answer"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return text
    return str(answer) if answer in choices else text
