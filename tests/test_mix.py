"""Mix: which rows a round trains on."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import RecipeError
from flywheel.mix import check_mix, rounds_kept, training_set
from flywheel.recipe import load_recipe, validate
from flywheel.stages.learn import problems_with_solutions
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


@pytest.mark.parametrize(
    ("filtered", "trained"),
    [
        ({"dedup": "path"}, {1: 5}),
        ({"dedup": "text"}, {0: 5, 1: 10}),  # the five that both have are taken from round 1
        ({"dedup": "none"}, {0: 10, 1: 10}),
        ({"by": "random"}, {0: 10, 1: 10}),
    ],
)
def test_what_a_round_may_have_twice_is_trained_on_twice(filtered, trained):
    def found(index: int, *texts: str):
        return [e for text in texts for e in rows(index, 5, text=text)]

    def told(examples):
        return [replace(e, sample_id=f"{e.sample_id}/{i}") for i, e in enumerate(examples)]

    by_round = {
        0: told(found(0, "so {i} + 1 = 9", "we know: {i} + 1 = 9")),
        1: told(found(1, "so {i} + 1 = 9", "since {i} + 1 = 9")),
    }
    if filtered.get("dedup") == "path":  # within a round the filter has left one of each path
        by_round = {index: examples[:5] for index, examples in by_round.items()}
    mixed = training_set(a_recipe(data={"keep": "accumulate"}, filter=filtered), 1, by_round, [])
    assert Counter(e.round for e in mixed) == trained


def test_shares_of_human_and_base_rows_are_kept_to():
    problems = [Problem(f"p{i}", "q", "9", solution=f"it is {i}") for i in range(100)]
    recipe = a_recipe(mix={"human": 0.25, "base": 0.25}, data={"keep": "replace"})
    found = training_set(recipe, 2, {2: rows(2, 20), 0: rows(0, 50)}, problems)
    assert Counter(e.origin for e in found) == {"policy": 20, "human": 10, "base": 10}


def test_what_a_teacher_said_in_round_0_is_no_base_row():
    recipe = a_recipe(mix={"base": 0.25}, data={"keep": "replace"})
    first = rows(0, 50, "teacher", "teacher: {i} + 7 = 9") + rows(0, 3, text="base: {i} + 8 = 9")
    found = training_set(recipe, 2, {2: rows(2, 20), 0: first}, [])
    assert Counter(e.origin for e in found) == {"policy": 20, "base": 3}
    assert all(e.completion.startswith("base: ") for e in found if e.origin == "base")


def test_general_rows_make_up_their_share_of_the_whole():
    """3:1, as DeepSeek-R1's distillation mixes reasoning with general data."""
    general = rows(0, 50, "general", "a poem about {i}")
    source = {"general_source": {"source": "file", "path": "g.jsonl"}}
    recipe = a_recipe(mix={"general": 0.25, **source}, data={"keep": "replace"})
    drawn = [training_set(recipe, r, {r: rows(r, 60)}, [], general=general) for r in (0, 1)]
    for found in drawn:
        assert Counter(e.origin for e in found) == {"policy": 60, "general": 20}
    assert {e.completion for e in drawn[0]} != {e.completion for e in drawn[1]}
    few = training_set(recipe, 0, {0: rows(0, 60)}, [], general=general[:5])
    assert Counter(e.origin for e in few) == {"policy": 60, "general": 5}
    with_human = a_recipe(mix={"general": 0.25, "human": 0.25, **source}, data={"keep": "replace"})
    problems = [Problem(f"p{i}", "q", "9", solution=f"it is {i}") for i in range(100)]
    found = training_set(with_human, 0, {0: rows(0, 20)}, problems, general=general)
    assert Counter(e.origin for e in found) == {"policy": 20, "human": 10, "general": 10}


def test_general_data_needs_a_source_and_room():
    with pytest.raises(RecipeError, match="without general_source"):
        a_recipe(mix={"general": 0.25})
    with pytest.raises(RecipeError, match=r"human \+ base \+ general is 1"):
        a_recipe(mix={"general": 0.5, "human": 0.5, "general_source": {}})


def test_a_human_solution_that_carries_a_held_out_problem_is_refused():
    text = "A farmer near the old mill keeps seventeen brown goats and sells four of them at the spring market in June"
    problems = [
        Problem("dev", text, "13", split="dev", solution="not taught anyway"),
        Problem("clean", "What is 2 + 2?", "4", solution="It is 4."),
        Problem("told", "What is 2 + 3?", "5", solution=f"Like this one: {text}. It is 5."),
        Problem("asked", f"Answer quickly. {text}", "13", solution="It is 13."),
    ]

    def taught(*settings):
        recipe = load_recipe("toy", ["mix.human=0.5", *settings])
        run = SimpleNamespace(recipe=recipe, frozen_problems=problems)
        found, refused = problems_with_solutions(SimpleNamespace(run=run, recipe=recipe, train_problems=problems[1:]))
        return [p.id for p in found], refused

    assert taught() == (["clean"], 2)
    assert taught("filter.contamination=false") == (["clean", "told", "asked"], 0)


def test_human_rows_need_solutions():
    with pytest.raises(RecipeError, match=r"mix.human.*problems.columns.solution"):
        training_set(a_recipe(mix={"human": 0.5}), 0, {0: rows(0, 2)}, [Problem("p", "q", "9")])


def test_the_order_is_shuffled_and_the_same_each_time():
    first = training_set(a_recipe(seed=1), 0, {0: rows(0, 30)}, [])
    assert first == training_set(a_recipe(seed=1), 0, {0: rows(0, 30)}, [])
    assert first != training_set(a_recipe(seed=2), 0, {0: rows(0, 30)}, [])
    assert sorted(e.sample_id for e in first) == sorted(e.sample_id for e in rows(0, 30))


def human_problems(count):
    return [Problem(f"p{i}", "q", "9", solution=f"it is {i}") for i in range(count)]


def test_the_floor_holds_by_repeating_human_rows():
    recipe = a_recipe(mix={"human": 0.2, "floor": 0.2, "repeats": 4})
    found = training_set(recipe, 0, {0: rows(0, 40)}, human_problems(3))
    assert Counter(e.origin for e in found) == {"policy": 40, "human": 10}
    times = Counter(e.sample_id.partition("#")[0] for e in found if e.origin == "human")
    assert sorted(times.values()) == [3, 3, 4]
    assert len({e.sample_id for e in found}) == len(found)


def test_a_floor_that_repeats_cannot_reach_is_refused_with_what_would_do():
    recipe = a_recipe(mix={"human": 0.2, "floor": 0.2, "repeats": 2})
    with pytest.raises(RecipeError, match=r"asks for 10 .* beside 40 others, and there are 3, so 6 .* to 0\.13"):
        training_set(recipe, 0, {0: rows(0, 40)}, human_problems(3))
    reachable = a_recipe(mix={"human": 0.2, "floor": 0.13, "repeats": 2})
    assert len(training_set(reachable, 0, {0: rows(0, 40)}, human_problems(3))) == 46


def test_round_0_is_the_bases_own_and_meets_a_floor_of_base_rows_by_itself():
    recipe = a_recipe(mix={"base": 0.3, "floor": 0.3}, data={"keep": "replace"})
    assert Counter(e.origin for e in training_set(recipe, 0, {0: rows(0, 10)}, [])) == {"policy": 10}
    later = training_set(recipe, 1, {0: rows(0, 2), 1: rows(1, 14)}, [])
    assert Counter(e.origin for e in later) == {"policy": 14, "base": 6}


@given(
    st.integers(1, 60), st.integers(1, 30), st.floats(0.0, 0.6), st.integers(1, 6), st.sampled_from(["human", "base"])
)
def test_the_floor_holds_or_is_refused(own, others, floor, repeats, kind):
    recipe = a_recipe(mix={kind: floor, "floor": floor, "repeats": repeats}, data={"keep": "replace"})
    try:
        found = training_set(recipe, 1, {0: rows(0, others), 1: rows(1, own)}, human_problems(others))
    except RecipeError:
        assert others * repeats < math.ceil(floor / (1 - floor) * own)
        return
    steady = sum(e.origin == kind for e in found)
    assert steady >= floor * len(found) - 1e-6
    assert max(Counter(e.sample_id.partition("#")[0] for e in found).values()) <= repeats


def test_weights_of_own_rows_average_to_one_and_others_weigh_one():
    own = [replace(e, weight=w) for e, w in zip(rows(0, 4), (0.1, 0.1, 0.2, 0.4), strict=True)]
    found = training_set(a_recipe(mix={"human": 0.5}), 0, {0: own}, human_problems(4))
    assert {e.sample_id: e.weight for e in found if e.origin == "policy"} == pytest.approx(
        {"r000/p0/000": 0.5, "r000/p1/000": 0.5, "r000/p2/000": 1.0, "r000/p3/000": 2.0}
    )
    assert {e.weight for e in found if e.origin == "human"} == {1.0}


def test_a_path_found_both_ways_stays_unguided_and_the_hinted_share_holds_over_all_rounds():
    early = rows(0, 6, text="{i} + 1 = 9")
    late = rows(1, 6, origin="hinted", text="{i} + 1 = 9") + [
        Example(f"r001/q{i}/000", f"q{i}", 1, [], f"{i} - 1 = 9", "hinted") for i in range(9)
    ]
    found = training_set(a_recipe(data={"keep": "accumulate"}), 1, {0: early, 1: late}, [])
    assert Counter(e.origin for e in found) == {"policy": 6, "hinted": 2}


def test_human_rows_are_asked_for_before_the_run_costs_anything():
    recipe = a_recipe(mix={"human": 0.5})
    check_mix(recipe.mix, human_problems(1))
    with pytest.raises(RecipeError, match=r"mix.human.*problems.columns.solution"):
        check_mix(recipe.mix, [Problem("p", "q", "9")])


def test_a_floor_above_the_shares_is_refused():
    with pytest.raises(RecipeError, match=r"floor is 0\.3 but human \+ base only 0\.2"):
        a_recipe(mix={"human": 0.2, "floor": 0.3})
