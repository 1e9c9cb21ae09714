"""Mix: which rows a round trains on."""

from __future__ import annotations

from collections import Counter

import pytest

from flywheel.errors import RecipeError
from flywheel.mix import rounds_kept, training_set
from flywheel.recipe import validate
from flywheel.types import Example, Problem


def a_recipe(**sections):
    return validate(sections)


def rows(round_index, count, origin="policy", text="{i} + {r} = 9"):
    return [
        Example(f"r{round_index:03d}/p{i}/000", f"p{i}", round_index, [], text.format(i=i, r=round_index), origin)
        for i in range(count)
    ]


@pytest.mark.parametrize(("keep", "expected"), [("replace", [3]), ("accumulate", [0, 1, 2, 3]), ("window", [2, 3])])
def test_rounds_that_are_kept(keep, expected):
    assert list(rounds_kept(a_recipe(data={"keep": keep, "window": 2}), 3)) == expected


def test_a_path_found_twice_is_trained_on_once():
    same = {0: rows(0, 5, text="{i} + 1 = 9"), 1: rows(1, 5, text="{i} + 1 = 9")}
    found = training_set(a_recipe(data={"keep": "accumulate"}), 1, same, [])
    assert Counter(e.round for e in found) == {1: 5}


def test_shares_of_human_and_base_rows_are_kept_to():
    problems = [Problem(f"p{i}", "q", "9", solution=f"it is {i}") for i in range(100)]
    recipe = a_recipe(mix={"human": 0.25, "base": 0.25}, data={"keep": "replace"})
    found = training_set(recipe, 2, {2: rows(2, 20), 0: rows(0, 50)}, problems)
    assert Counter(e.origin for e in found) == {"policy": 20, "human": 10, "base": 10}


def test_human_rows_need_solutions():
    with pytest.raises(RecipeError, match=r"mix.human.*problems.columns.solution"):
        training_set(a_recipe(mix={"human": 0.5}), 0, {0: rows(0, 2)}, [Problem("p", "q", "9")])


def test_the_order_is_shuffled_and_the_same_each_time():
    first = training_set(a_recipe(seed=1), 0, {0: rows(0, 30)}, [])
    assert first == training_set(a_recipe(seed=1), 0, {0: rows(0, 30)}, [])
    assert first != training_set(a_recipe(seed=2), 0, {0: rows(0, 30)}, [])
    assert sorted(e.sample_id for e in first) == sorted(e.sample_id for e in rows(0, 30))
