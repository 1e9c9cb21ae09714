"""Plans: schedules, sources, budgets, hints, and the reasons they give."""

from __future__ import annotations

import json

import pytest

from flywheel.errors import RecipeError
from flywheel.plan import plan_evaluation, plan_round, plan_sweep
from flywheel.plan_types import Plan
from flywheel.recipe import FilterSection, validate
from flywheel.types import Problem

PROBLEMS = [Problem(f"p{i}", f"{i} + 1 =", str(i + 1), solution=f"{i} + 1 = {i + 1}") for i in range(6)]


def planned(sampling: dict, round_index: int = 0, **kwargs) -> Plan:
    recipe = validate({"sampling": sampling, **kwargs.pop("recipe", {})})
    return plan_round(recipe, round_index, kwargs.pop("generation", round_index), PROBLEMS, **kwargs)


def test_rounds_see_problems_in_another_order_and_schedules_follow_their_lists():
    plans = [planned({"problems": 3, "temperatures": [0.7, 1.2], "top_p": [1.0, 0.9]}, i) for i in range(3)]
    assert [p.temperature for p in plans] == [0.7, 1.2, 1.2]
    assert [p.top_p for p in plans] == [1.0, 0.9, 0.9]
    assert [len(p.problems) for p in plans] == [3, 3, 3]
    assert plans[0].problems != plans[1].problems or plans[1].problems != plans[2].problems
    assert plans[0] == planned({"problems": 3, "temperatures": [0.7, 1.2], "top_p": [1.0, 0.9]})


def test_a_spread_is_taken_by_turns_and_never_falls_below_zero():
    assert planned({"temperatures": [0.8], "spread": 0.2}).temperatures == [0.8, 1.0, pytest.approx(0.6)]
    assert planned({"temperatures": [0.1], "spread": 0.5}).temperatures == [0.1, 0.6, 0.0]
    assert planned({}).temperatures == [1.0]


def test_held_out_problems_are_asked_plainly():
    recipe = validate({"sampling": {"variants": ["Hm. {prompt}"]}, "evaluate": {"samples": 3}})
    plan = plan_evaluation(recipe, "dev", 2, PROBLEMS)
    assert (plan.variants, plan.k, plan.sample_id("p1", 0)) == (["{prompt}"], 3, "d002/p1/000")


def test_a_plan_survives_its_file():
    settings = {
        "budget": {"mode": "adaptive"},
        "extra": [{"generation": 0, "share": 0.25}, {"model": "owner/big", "share": 0.2}],
        "few_shot": {"count": 1, "orders": 2},
    }
    shots = [{"id": p.id, "prompt": p.prompt, "completion": p.solution} for p in PROBLEMS]
    plan = planned(
        settings, 2, recipe={"hints": {"k": 1}}, lineage=[0, 1, 2], standing={"p1": "mastered"}, examples=shots,
        paraphrases={"p2": ["two and one"], "gone": ["x"]}, sweep=[{"temperature": 0.7, "balance": 0.5}],
    )  # fmt: skip
    assert Plan.from_json(json.loads(json.dumps(plan.as_json()))) == plan
    assert plan.paraphrases == {"p2": ["two and one"]}
    assert "1 problems were always right when last asked: they begin with 1" in plan.reasons


def test_a_sweep_decides_the_temperature_and_says_why():
    table = [{"temperature": t, "balance": b} for t, b in ((0.5, 0.2), (0.7, 0.4), (0.9, 0.4))]
    plan = planned({"temperatures": [1.0]}, sweep=table)
    assert plan.temperature == 0.7 and plan.sweep == table
    assert plan.reasons[0] == "temperature 0.7: balance score 0.400, the highest of 3 tried"
    nothing = planned({"temperatures": [1.0]}, sweep=[{"temperature": 0.5, "balance": 0.0}])
    assert nothing.temperature == 1.0 and "nothing right at any temperature" in nothing.reasons[0]


def test_a_sweep_decides_the_threshold_with_the_temperature():
    table = [{"temperature": t, "min_score": m, "balance": t * m} for t in (0.5, 0.7) for m in (0.6, 0.8)]
    recipe = {"temperatures": [1.0], "sweep": {"temperatures": [0.5, 0.7], "min_scores": [0.6, 0.8]}}
    plan = planned(recipe, sweep=table)
    assert (plan.temperature, plan.min_score) == (0.7, 0.8) and plan.reasons[0].startswith(
        "temperature 0.7 and scores from 0.8: balance score 0.560"
    )
    section = FilterSection(min_score=0.3, cap=7)
    assert Plan.from_json(plan.as_json()).filtering(section) == FilterSection(min_score=0.8, cap=7)
    nothing = planned(recipe, sweep=[{**row, "balance": 0.0} for row in table])
    assert nothing.min_score is None and nothing.filtering(section) is section
    untried = planned({"temperatures": [1.0], "sweep": {"temperatures": [0.5, 0.7]}}, sweep=table)
    assert untried.min_score is None


def test_a_sweep_asks_few_problems_at_every_temperature():
    recipe = validate({"sampling": {"sweep": {"temperatures": [0.5, 1.0], "problems": 4, "samples": 3}}})
    plan = plan_sweep(recipe, 1, 1, PROBLEMS)
    assert (len(plan.problems), plan.k, plan.temperatures) == (4, 6, [0.5, 1.0])
    assert plan.problems != plan_sweep(recipe, 2, 1, PROBLEMS).problems
    assert plan.sample_id("p1", 0) == "s001/p1/000"


@pytest.mark.parametrize(
    ("wanted", "generation", "lineage", "found"),
    [(-1, 3, [0, 2, 3], 2), (-2, 3, [0, 2, 3], 0), (-3, 3, [0, 2, 3], None), (0, 3, [0, 2, 3], 0), (0, 0, [0], None),
     (1, 3, [0, 2, 3], None)],
)  # fmt: skip
def test_older_generations_are_found_or_left_out(wanted, generation, lineage, found):
    plan = planned(
        {"k": 8, "extra": [{"generation": wanted, "share": 0.25}]}, 3, generation=generation, lineage=lineage
    )
    assert [(s.origin, s.k, s.generation) for s in plan.sources] == (
        [("policy", 8, generation)] if found is None else [("policy", 6, generation), ("older_generation", 2, found)]
    )
    assert any("no such older generation" in r for r in plan.reasons) == (found is None)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([{"share": 0.5}], "exactly one of the two"),
        ([{"share": 0.5, "model": "m", "generation": 0}], "exactly one of the two"),
        ([{"share": 0.9, "model": "m"}, {"share": 0.3, "model": "n"}], "leave the policy at least one"),
    ],
)
def test_samplers_that_do_not_fit_are_refused(extra, message):
    with pytest.raises(RecipeError, match=message):
        validate({"sampling": {"extra": extra}})


def test_a_budget_takes_its_defaults_from_k_and_cap():
    budget = planned({"k": 8, "budget": {"mode": "adaptive"}}, recipe={"filter": {"cap": 3}}).budget
    assert (budget.first, budget.enough, budget.most, budget.most_unsolved) == (2, 3, 8, 4)
    assert planned({"k": 8}).budget is None


def test_hints_need_a_hint_and_a_solution_where_they_show_one():
    plan = planned({}, recipe={"hints": {"k": 1, "problems": "never"}}, standing={"p1": "solved", "p2": "unsolved"})
    assert set(plan.hints.problems) == {"p0", "p2", "p3", "p4", "p5"}
    for template, message in (("Q", "has no {prompt}"), ("{prompt} please", "has no hint")):
        with pytest.raises(RecipeError, match=message):
            validate({"hints": {"k": 1, "template": template}})
    bare = [Problem("q", "1 + 1 =", "2"), PROBLEMS[0]]
    recipe = validate({"hints": {"k": 1, "template": "{prompt} {solution}"}})
    assert plan_round(recipe, 0, 0, bare).hints.problems == ["p0"]
