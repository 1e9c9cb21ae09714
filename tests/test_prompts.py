"""Prompts: templates, paraphrases, worked examples and hints in one conversation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flywheel.prompts import conversation, few_shot_blocks, hinted, shown_to
from flywheel.types import Problem

SHOTS = [{"id": f"p{i}", "prompt": f"Q{i}", "completion": f"A{i}"} for i in range(5)]


def test_conversations():
    own = Problem("p", "", "", messages=[{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}])
    assert conversation(own, "ignored", "So: {prompt}") == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "So: Q"},
    ]
    plain = Problem("p", "Q {x}", "")
    assert conversation(plain, None) == [{"role": "user", "content": "Q {x}"}]
    assert conversation(plain, "")[0] == {"role": "system", "content": ""}


def test_paraphrases_take_the_place_of_the_prompt_and_examples_follow_the_system_turn():
    asked = conversation(Problem("p", "Q", ""), "S", "So: {prompt}", text="Q'", shots=SHOTS[:1])
    assert [(m["role"], m["content"]) for m in asked] == [
        ("system", "S"), ("user", "Q0"), ("assistant", "A0"), ("user", "So: Q'"),
    ]  # fmt: skip


@given(st.text(), st.text(min_size=1), st.text())
def test_a_hint_puts_in_what_it_is_given_and_nothing_more(prompt, answer, solution):
    problem = Problem("p", prompt, answer, solution=solution)
    [turn] = hinted(problem, None, "{prompt}|{answer}|{solution}|{other}")
    assert turn["content"] == f"{prompt}|{answer}|{solution}|{{other}}"


def test_a_prompt_that_speaks_of_answers_is_left_alone():
    [turn] = hinted(Problem("p", "What does {answer} mean?", "42"), None, "{prompt} Hint: {answer}")
    assert turn["content"] == "What does {answer} mean? Hint: 42"


@given(st.integers(1, 4), st.integers(1, 5), st.sampled_from(["p0", "p3", "elsewhere"]))
def test_blocks_differ_by_position_and_leave_the_problem_itself_out(count, orders, asked):
    blocks = few_shot_blocks(SHOTS, count=count, orders=orders, position=(0, "shots", 1))
    assert blocks == few_shot_blocks(SHOTS, count=count, orders=orders, position=(0, "shots", 1))
    assert len(blocks) == orders
    for block in blocks:
        shown = shown_to(Problem(asked, "Q", ""), block, count)
        assert len(shown) == count and asked not in {s["id"] for s in shown}
        assert len({s["id"] for s in block}) == len(block)


def test_the_same_prompt_under_another_id_is_left_out_too():
    block = [{"id": "", "prompt": "Q", "completion": "A"}, SHOTS[0]]
    assert shown_to(Problem("p", "Q", ""), block, 1) == [SHOTS[0]]
