"""Writing: how the policy is asked for problems, and what of its answers is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.policy import Completion
from flywheel.recipe import WriterOptions, load_recipe
from flywheel.types import Problem
from flywheel.writing import requests, written_problem

WRITER = WriterOptions(longest=8)


def read(text: str, finish_reason: str = "stop") -> tuple[str, str | None]:
    problem, reason = written_problem(Completion("0", 0, text, finish_reason, 5), WRITER, "w")
    assert problem.answer == "" and problem.split == "train"
    return problem.prompt, reason


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("What is 3 + 4?", "What is 3 + 4?"),
        ("  Problem: What is 3 + 4?\n\nAnswer: 7", "What is 3 + 4?"),
        ("**Question 2:** What is 3 + 4?", "What is 3 + 4?"),
        ('"What is 3 + 4?"', "What is 3 + 4?"),
        ("1. What is 3 + 4?", "What is 3 + 4?"),
        ("3.5 + 4 =", "3.5 + 4 ="),
        ("Problem 7: 4 + 3 =", "4 + 3 ="),
        ("hm, sums.</think>What is 3 + 4?", "What is 3 + 4?"),
        ("Two\nlines", "Two\nlines"),
    ],
)
def test_a_completion_is_one_problem(said, problem):
    assert read(said) == (problem, None)


def test_what_is_none_is_refused_by_its_reason():
    assert [read(text)[1] for text in ("", " \n ", "??", "Problem:")] == ["empty"] * 4
    assert read("one two three four five six seven eight nine")[1] == "too_long"
    assert read("What is 3 + ", "length")[1] == "too_long"


@given(st.text(max_size=300))
def test_whatever_is_said_is_a_problem_or_refused(text):
    problem, reason = read(text)
    assert reason in (None, "empty", "too_long")
    if reason is None:
        assert problem.strip() == problem and any(c.isalnum() or c == "_" for c in problem)
        assert len(problem.split()) <= 8


def test_each_request_shows_other_problems_as_answers_to_the_same_instruction():
    recipe = load_recipe("self_play", ["propose.count=3", "propose.writer.completions=6", "model.system=Be brief."])
    shown = [Problem(f"p{i}", f"What is {i} + {i}?", str(2 * i)) for i in range(9)]
    asked = requests(recipe, 1, shown, set())
    assert [r.id for r in asked] == ["0", "1", "2", "3", "4", "5"] and len({r.seed for r in asked}) == 6
    messages = asked[0].messages
    assert [m["role"] for m in messages] == ["system", *["user", "assistant"] * 4, "user"]
    assert {m["content"] for m in messages if m["role"] == "user"} == {recipe.propose.writer.instruction}
    assert {m["content"] for m in messages if m["role"] == "assistant"} <= {p.prompt for p in shown}
    assert len({str(r.messages) for r in asked}) > 1
    assert requests(recipe, 1, shown, {0, 1, 2, 3, 5}) == [asked[4]], "what is there is not asked for again"
    assert requests(recipe, 2, shown, set())[0].seed != asked[0].seed
    assert "answer" not in str(messages).replace("assistant", ""), "no answers are shown"


def test_without_shots_the_instruction_stands_alone():
    recipe = load_recipe("self_play", ["propose.writer.shots=0"])
    (message,) = requests(recipe, 0, [], set())[0].messages
    assert message == {"role": "user", "content": "Write a short arithmetic problem."}
