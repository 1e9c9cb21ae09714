"""Likelihoods of allowed answers: from the tokens at their forks, as an engine tells them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import ModelError
from flywheel.policy import Request
from flywheel.policy.choices import Choosing, log_likelihoods, named_in, response_format

END = 0


class Letters:
    """A tokenizer of one token a character."""

    eos_token_id: int | None = END

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


def choosing(*choices: str, tokenizer: Any = None) -> Choosing:
    request = Request("r", [], (3,), 0.0, 8, choices=choices)
    return Choosing.of(request, 3, tokenizer or Letters())


def test_forks_are_where_answers_part() -> None:
    one, two = ord("1"), ord("2")
    assert choosing("1", "2", "10", "107").forks() == {
        (): [one, two],
        (one,): [END, ord("0")],
        (one, ord("0")): [END, ord("7")],
    }
    assert choosing("TIE").forks() == {}


def test_the_likeliest_choice_with_all_likelihoods() -> None:
    asked = choosing("1", "2", "10")
    asked.told[()] = {ord("1"): math.log(0.03), ord("2"): math.log(0.01)}
    assert not asked.done()
    asked.told[(ord("1"),)] = {END: math.log(0.2), ord("0"): math.log(0.6)}
    assert asked.done()
    found = asked.completion()
    assert (found.request_id, found.index, found.text, found.finish_reason, found.tokens) == ("r", 3, "10", "stop", 3)
    assert [round(math.exp(value), 6) for value in found.choice_logprobs or ()] == [0.1875, 0.25, 0.5625]


def test_what_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(ModelError, match="writes two of A, A"):
        choosing("A", "A")
    tokenizer = Letters()
    tokenizer.eos_token_id = None
    with pytest.raises(ModelError, match="no end token"):
        choosing("A", "B", tokenizer=tokenizer)


@given(
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=8, unique=True),
    st.integers(0, 2**32),
)
def test_probabilities_of_all_choices_sum_to_one(choices: list[str], seed: int) -> None:
    asked = choosing(*choices)
    told = {
        before: {token: -((seed * 31 + token * 7 + len(before)) % 97) / 7.0 for token in tokens}
        for before, tokens in asked.forks().items()
    }
    values = log_likelihoods(asked.answers, told)
    assert math.isclose(sum(map(math.exp, values)), 1.0, abs_tol=1e-9)


def test_an_endpoint_names_its_choice_in_json() -> None:
    schema = response_format(["A", "B"])["json_schema"]["schema"]
    assert schema["properties"]["answer"]["enum"] == ["A", "B"]
    assert named_in('{"answer": "B"}', ["A", "B"]) == "B"
    for text in ('{"answer": "C"}', "B is better", "[1]", '{"answer": 1}', "[" * 100_000, ""):
        assert named_in(text, ["A", "B"]) == text
