"""Recipes that combine what cannot work are refused with the fields and the way out, before anything is loaded."""

from __future__ import annotations

import pytest

from flywheel import models
from flywheel.errors import PluginError, RecipeError
from flywheel.problems import load_problems
from flywheel.recipe import load_recipe
from flywheel.run import Run
from flywheel.types import Split

SMALL = ["problems.count=12", "problems.dev=3", "problems.test=3"]
TEACHER = 'sampling.extra=[{model="big", share=1}]'
REFUSED = {
    "waves without a policy": ([TEACHER, "sampling.budget.mode=adaptive"], ["share = 1", "'adaptive'"]),
    "thresholds of no search": (["sampling.sweep.min_scores=[0.5]"], ["sampling.sweep.min_scores without"]),
    "a search without a policy": ([TEACHER, "sampling.sweep.temperatures=[0.5, 1]"], ["share = 1", "sampling.sweep"]),
    "greedy twice": (["sampling.temperatures=[0]", "sampling.k=4"], ["sampling.temperatures", "k = 4", "k = 1"]),
    "a budget that is never enough": (
        ["sampling.budget.mode=adaptive", "sampling.budget.enough=9"],
        ["sampling.budget.enough = 9", "sampling.k = 8"],
    ),
    "no room for a prompt": (
        ["policy.vllm.max_model_len=48"],
        ["policy.vllm.max_model_len = 48", "sampling.max_tokens"],
    ),
    "one process to shard over": (["train.fsdp=true"], ["train.fsdp", "train.processes"]),
    "weights without a loss for them": (
        ["filter.difficulty=1", "train.objective=dpo"],
        ["filter.difficulty = 1", "train.objective = 'dpo'"],
    ),
    "hints for nothing": (["hints.k=1", "filter.hinted_share=0"], ["hints.k = 1", "filter.hinted_share"]),
    "one name for two": (["verify.held_out=math"], ["verify.held_out", "verify.verifier"]),
    "options of nobody": (["verify.held_out_options={last_number=true}"], ["verify.held_out_options"]),
}


@pytest.mark.parametrize(("overrides", "words"), REFUSED.values(), ids=REFUSED)
def test_settings_that_cannot_work_together_are_refused_by_the_recipe(overrides, words):
    with pytest.raises(RecipeError) as refusal:
        load_recipe("demo", overrides)
    for word in words:
        assert word in str(refusal.value)


def test_their_neighbours_are_not():
    load_recipe("demo", ["sampling.temperatures=[0]", "sampling.k=1"])
    load_recipe("demo", ["sampling.temperatures=[0]", 'sampling.variants=["{prompt}", "{prompt} Think."]'])
    load_recipe("demo", ["sampling.temperatures=[0, 1]"])
    load_recipe("demo", ["sampling.budget.mode=adaptive", "sampling.budget.enough=8"])
    load_recipe("demo", ["train.fsdp=true", "train.processes=2"])


DEMANDS = {
    "a vote of one": (["verify.verifier=majority", "sampling.k=1"], "min_votes.*sampling.k = 1"),
    "a held-out vote of one": (["verify.verifier=majority", "evaluate.samples=1"], "evaluate.samples = 1"),
    "hints without solutions": (["hints.k=1", 'hints.template="{prompt} {solution}"'], "no train problem has one"),
    "human rows without solutions": (["mix.human=0.2"], "mix.human is set but no problem has a solution"),
}


@pytest.mark.parametrize(("overrides", "words"), DEMANDS.values(), ids=DEMANDS)
def test_what_problems_and_verifiers_lack_is_told_before_a_model_is_resolved(overrides, words, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "resolve_base", lambda *_, **__: pytest.fail("the base was resolved"))
    with pytest.raises(RecipeError, match=words):
        Run.open(load_recipe("toy", [*SMALL, *overrides]), tmp_path / "run")


def test_a_proof_verifier_needs_its_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "resolve_base", lambda *_, **__: pytest.fail("the base was resolved"))
    coq = ["verify.verifier=proof", 'verify.options={kernel="coq", command="/nowhere/coqc", min_level="unsafe"}']
    with pytest.raises(PluginError, match=r"'proof' cannot judge here: .*'/nowhere/coqc'"):
        Run.open(load_recipe("toy", [*SMALL, *coq]), tmp_path / "coq")
    database = ["verify.verifier=proof", 'verify.options={database="/nowhere/set.mm"}']
    with pytest.raises(PluginError, match="/nowhere/set.mm"):
        Run.open(load_recipe("toy", [*SMALL, *database]), tmp_path / "metamath")


def test_held_out_problems_can_have_a_verifier_of_their_own():
    recipe = load_recipe(
        "toy",
        [*SMALL, "verify.verifier=majority", "verify.held_out=math", "verify.held_out_options={last_number=true}"],
    )
    judges = {(p.split == Split.TRAIN, p.verifier) for p in load_problems(recipe).problems}
    assert judges == {(True, ""), (False, "math")}
    assert recipe.verify.options_of("math") == {"last_number": True}
    assert recipe.verify.options_of("majority") == recipe.verify.options
    assert recipe.verify.options_of("exact") == {}
