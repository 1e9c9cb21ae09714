"""Arms: controls and levers are valid variants of any recipe, and the shipped controls are those of demo."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.arms import CONTROLS, LEVERS, Reference, control_arms, lever_arms
from flywheel.errors import RecipeError
from flywheel.recipe import deep_merge, differing_fields, load_recipe, shipped_recipes

REFERENCE = Reference(rounds=3, examples=[30, 40, 50])


@pytest.mark.parametrize("name", CONTROLS)
def test_the_shipped_controls_are_what_the_command_makes_of_demo(name):
    (arm,) = control_arms(load_recipe("demo"), REFERENCE, [name])
    made, shipped = arm.recipe.model_dump(mode="json"), load_recipe(name).model_dump(mode="json")
    # The command knows how many examples the recipe's own run kept; a recipe by itself counts them each round.
    differing = {line.split(" ")[0] for line in differing_fields(made, shipped)}
    assert differing <= {"name", "description", "filter.rows", "stop.target_pass_1", "stop.plateau"}


def test_controls_have_the_samples_and_numbers_of_the_recipes_own_run():
    recipe = load_recipe("toy", ["sampling.k=5", "filter.cap=2"])
    arms = {arm.name: arm.recipe for arm in control_arms(recipe, REFERENCE, list(CONTROLS))}
    assert arms["no_verifier"].filter.by == "none"
    assert arms["random_filter"].filter.by == "random"
    for name in ("no_verifier", "random_filter"):
        assert arms[name].filter.rows == [30, 40, 50]
        assert not arms[name].gate.enabled
        assert arms[name].sampling == recipe.sampling
        assert arms[name].stop.max_rounds == 3
    assert arms["one_round"].stop.max_rounds == 1
    assert (arms["one_round"].sampling.k, arms["one_round"].filter.cap) == (15, 6)
    assert arms["one_round"].gate == recipe.gate
    with pytest.raises(RecipeError, match="unknown control 'no_verifer'; known: no_verifier"):
        control_arms(recipe, REFERENCE, ["no_verifer"])


def test_one_round_may_have_of_a_problem_what_all_rounds_have():
    def one_round(name, *settings):
        return control_arms(load_recipe(name, settings), REFERENCE, ["one_round"])[0].recipe

    adaptive = one_round("toy", "sampling.budget.mode=adaptive", "sampling.budget.enough=2", "sampling.budget.most=4")
    assert (adaptive.sampling.budget.enough, adaptive.sampling.budget.most) == (6, 12)
    assert one_round("toy", "correction.k=2").correction.k == 6
    llama3 = load_recipe("llama3")
    assert one_round("llama3").train.dpo == llama3.train.dpo.model_copy(update={"cap": 3 * llama3.train.dpo.cap})


def test_controls_of_a_recipe_with_pairs_train_on_examples_alone():
    arms = {arm.name: arm.recipe.train for arm in control_arms(load_recipe("llama3"), REFERENCE, list(CONTROLS))}
    assert [arms[name].objective for name in ("no_verifier", "random_filter", "one_round")] == [
        "sft",
        "sft",
        "sft_then_dpo",
    ]


@pytest.mark.parametrize("name", LEVERS)
@pytest.mark.parametrize("recipe", shipped_recipes())
def test_every_lever_can_be_turned_and_turned_back(name, recipe):
    lever, own = LEVERS[name], load_recipe(recipe)
    if name == "fit" and own.train.backend == "toy":
        with pytest.raises(RecipeError, match="the toy has no likelihoods"):
            lever_arms(own, REFERENCE, [name])
        return
    taught = any(e.share == 1.0 for e in own.sampling.extra)
    if (name == "older_generations" and own.sampling.k == 1) or (taught and name in ("adaptive", "sweep")):
        with pytest.raises(RecipeError, match=r"leave the policy at least one|share = 1"):
            lever_arms(own, REFERENCE, [name])
        return
    if name in refused(own):
        with pytest.raises(RecipeError, match="leave .* out|set "):
            lever_arms(own, REFERENCE, [name])
        return
    (arm,) = lever_arms(own, REFERENCE, [name])
    assert arm.name == f"{name}-{'off' if lever.is_on(own) else 'on'}"
    assert lever.is_on(arm.recipe) != lever.is_on(own)
    changed = {line.split(" ")[0] for line in differing_fields(own.key(), arm.recipe.key())}
    mine = {
        line.split(" ")[0]
        for line in differing_fields({}, flat(deep_merge(lever.settings(own, on=False), lever.settings(own, on=True))))
    }
    assert changed - {"name", "stop.max_rounds", "stop.rejections", "stop.target_pass_1", "stop.plateau"} <= mine


def refused(own):
    """The levers that a recipe's method cannot have."""
    if own.train.objective == "grpo":
        sampled_otherwise = {"sweep", "variants", "few_shot", "older_generations", "adaptive", "hints"}
        return {"fit", "human", "base_rows", "difficulty"} | sampled_otherwise
    unweighted = set() if "sft" in own.train.stages else {"difficulty", "human", "base_rows", "hints"}
    unweighted |= {"fit"} if own.train.objective == "privileged" else set()
    return unweighted | ({"hints"} if own.correction.k or own.propose.kind == "model" else set())


def flat(settings, prefix=""):
    """Dotted names, each with a value that no recipe has there."""
    found = {}
    for name, value in settings.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": True}
    return found


def test_every_control_and_lever_is_documented():
    text = (Path(__file__).parents[1] / "docs/controls.md").read_text()
    for name in [*CONTROLS, *LEVERS]:
        assert f"| `{name}` |" in text, name


def test_any_setting_is_a_lever():
    recipe = load_recipe("toy")
    arms = lever_arms(recipe, REFERENCE, ["filter.cap=1", "sampling.temperatures=[0.7]"])
    assert [arm.name for arm in arms] == ["filter-cap-1", "sampling-temperatures--0-7"]
    assert arms[0].recipe.filter.cap == 1
    with pytest.raises(RecipeError, match="is what recipe 'toy' does anyway"):
        lever_arms(recipe, REFERENCE, ["filter.cap=4"])
    with pytest.raises(RecipeError, match="unknown lever 'gait'; known: gate"):
        lever_arms(recipe, REFERENCE, ["gait"])
    with pytest.raises(RecipeError, match=r"filter\.cap = 0"):
        lever_arms(recipe, REFERENCE, ["filter.cap=0"])
