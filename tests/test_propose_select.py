"""What may not be asked: held-out problems, what was asked before, and what is too alike, in whatever words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.near_copies import near_copies_of, near_copy_groups
from flywheel.propose import select
from flywheel.recipe import load_recipe
from flywheel.types import Split
from tests.proposing import SMALL, a_recipe, problem

STORY = (
    "Tom has {} apples and buys {} more at the market before he goes home, where he eats {} of them: how many are left?"
)


@pytest.mark.parametrize("split", [{"split": "dev"}, {"split": "test"}, {"split": "dev", "ood": "far"}])
def test_copies_of_held_out_problems_and_what_was_asked_are_refused_and_counted(split):
    frozen = [problem("h", STORY.format(3, 4, 2), **split), problem("t", "What is 2 + 3?")]
    frozen += [problem("s", "What is 9 - 4?", "test")]
    offered = [
        problem("1", "what is 9 - 4 ?"),
        problem("2", "What is 2 + 3?"),
        problem("3", STORY.format(3, 4, 2).replace("Tom", "Tim")),
        problem("4", "A tale. " + STORY.format(3, 4, 2) + " Say why, and then show all of your working."),
        problem("5", "What is 4 + 4?"),
        problem("6", "What is 4 + 4 ?"),
        problem("7", "What is 7 + 7?"),
        problem("8", "never looked at: there are enough"),
    ]
    selection = select(offered, a_recipe("propose.count=2"), 4, frozen=frozen, asked=frozen[1:2])
    assert [(p.id, p.prompt) for p in selection.problems] == [
        ("proposed-004-00000", "What is 4 + 4?"),
        ("proposed-004-00001", "What is 7 + 7?"),
    ]
    assert [(reason, p.id) for reason, p in selection.refused] == [
        ("held_out", "1"), ("known", "2"), ("held_out", "3"), ("held_out", "4"), ("known", "6"),
    ]  # fmt: skip
    assert selection.as_json()["refused"] == {"held_out": 3, "known": 2}


def test_a_verifier_of_its_own_is_no_proposed_problems():
    selection = select([problem("1", "What?", verifier="exact")], a_recipe(), 0, frozen=[], asked=[])
    assert selection.problems[0].verifier == ""


texts = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "1", "2", "+"]), max_size=14).map(" ".join)


@given(st.lists(texts, max_size=5), st.lists(texts, min_size=1, max_size=5), st.sampled_from([0.5, 0.8, 1.0]))
def test_a_near_copy_of_a_reference_is_in_its_group(offered, references, share):
    """What is near a reference stands in its group; the group's chains reach further, never less far."""
    rule = {"share": share, "n": 2, "template_share": 1.0}
    groups = near_copy_groups([*references, *offered], **rule)
    reached = {i for group in groups if group[0] < len(references) for i in group}
    for index, near in enumerate(near_copies_of(offered, references, **rule), len(references)):
        assert not near or index in reached
    assert all(near_copies_of(references, references, **rule))


def test_the_same_sum_in_other_words_is_known_or_held_out():
    recipe = load_recipe("self_play")
    frozen = [problem("h", "State the result of: 12 + 34 =", "test"), problem("t", "What is 5 + 6?")]
    said = [
        "Add them up: 12+34",
        "How much is 5 + 6?",
        "How much is 5 + 7 then?",
        "Well, how much is 5 + 7 then?",
        "8 - 1",
    ]
    offered = [problem(str(i), text) for i, text in enumerate(said)]
    selection = select(offered, recipe, 0, frozen=frozen, asked=frozen[1:])
    assert [p.prompt for p in selection.problems] == ["How much is 5 + 7 then?", "8 - 1"]
    assert [reason for reason, _ in selection.refused] == ["held_out", "known", "known"]


def test_a_held_out_problem_that_is_written_often_is_no_template():
    held = "Tom has three red apples and buys four more of them at the market, then gives Ann two. How many remain?"
    short = "Tom has three red apples and buys four more of them"
    frozen = [problem("dev", held, split=Split.DEV)] + [problem(f"t{i}", f"What is {i} + {i}?") for i in range(5)]
    recipe = load_recipe("toy", [*SMALL, "propose.kind=model"])
    for times in (1, 6):
        offered = [problem(str(i), f"{short} {name}?") for i, name in enumerate(["now", "today", "", "so", "here"])]
        found = select((offered * 2)[:times], recipe, 0, frozen=frozen, asked=frozen[1:])
        assert {reason for reason, _ in found.refused} == {"held_out"} and not found.problems


def test_what_is_too_alike_is_refused():
    recipe = load_recipe("self_play")
    story = "Ann has {} red marbles and finds {} more in a drawer at home"
    said = [story.format(3, 4), story.format(3, 5), "A train leaves the town of Ulm at noon"]
    selection = select([problem(str(i), text) for i, text in enumerate(said)], recipe, 0, frozen=[], asked=[])
    assert [(reason, p.id) for reason, p in selection.refused] == [("similar", "1")]
