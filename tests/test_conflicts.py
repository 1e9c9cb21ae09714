"""Recipes that combine what cannot work are refused with the fields and the way out, before anything is loaded."""

from __future__ import annotations

import json

import pytest

from flywheel import models
from flywheel.errors import FlywheelError, PluginError, RecipeError
from flywheel.policy import own
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
    "a search at 0": (["sampling.sweep.temperatures=[0, 0]"], ["sampling.sweep.temperatures = [0.0, 0.0]", "k = 8"]),
    "lessons without own answers": (
        ["train.objective=privileged", TEACHER],
        ["train.objective = 'privileged'", "sampling.extra", "share = 1"],
    ),
    "second attempts at nothing": (["correction.k=1", TEACHER], ["correction.k = 1", "sampling.extra", "share = 1"]),
    "lessons from hints": (["train.objective=privileged", "hints.k=2"], ["'privileged'", "hints.k = 2", "leave"]),
    "pairs of hints": (["train.objective=dpo", "hints.k=2"], ["'dpo'", "hints.k = 2", "leave"]),
    "lessons from corrections": (
        ["train.objective=privileged", "correction.k=2"],
        ["'privileged'", "correction.k = 2"],
    ),
    "pairs of corrections": (["train.objective=dpo", "correction.k=2"], ["'dpo'", "correction.k = 2", "leave"]),
    "lessons and rows": (["train.objective=privileged", "mix.base=0.2"], ["'privileged'", "mix.base = 0.2", "leave"]),
    "pairs and rows": (["train.objective=dpo", "mix.human=0.2"], ["mix.human = 0.2", "'sft_then_dpo'"]),
    "lessons that are filtered": (["train.objective=privileged", "filter.fit={}"], ["'privileged'", "filter.fit"]),
    "a gate by sets that are not there": (['gate.lines=["ood"]'], ["gate.lines = ['ood']", "[[ood]]", "gate.enabled"]),
    "a gate by single answers": (
        ['gate.lines=["ood", "pass_k"]', "evaluate.samples=1"],
        ["gate.lines = ['ood', 'pass_k']", "[[ood]]", "evaluate.samples = 1"],
    ),
    "repair without rejection": (
        ["gate.enabled=false", "gate.repair=interpolate"],
        ["gate.enabled = false", "gate.repair = 'interpolate'"],
    ),
    "a second turn without words": (['correction.template=" "'], ["correction: template = ' '"]),
    "a second turn that would tell": (
        ['correction.template="{prompt} Is it {answer}?"'],
        ["correction: template", "has {answer}", "only {prompt} is filled in"],
    ),
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
    load_recipe("demo", ["sampling.sweep.temperatures=[0, 0.5]"])
    load_recipe("demo", ["sampling.sweep.temperatures=[0]", "sampling.k=1"])
    load_recipe("demo", ["train.objective=privileged", 'sampling.extra=[{model="big", share=0.5}]'])
    load_recipe("demo", ["train.objective=sft_then_dpo", "hints.k=2", "mix.base=0.2"])
    load_recipe("demo", ['gate.lines=["ood", "pass_1"]', "evaluate.samples=1"])
    load_recipe("demo", ['gate.lines=["ood"]', "gate.enabled=false"])
    load_recipe("demo", [r"correction.template='{prompt} Check it, and end in \boxed{answer}.'"])


METAMATH = ["problems.count=20", "mix.general_source.count=20"]
COMPARING = 'verify.options={rubric="r", model="m", endpoint="http://127.0.0.1:1/v1", mode="compare"}'
VOTES = ["verify.verifier=majority", "verify.held_out=math", "verify.options={max_share=0.9}"]
DEMANDS = {
    "a vote of one": ("toy", ["verify.verifier=majority", "sampling.k=1"], "min_votes.*sampling.k = 1"),
    "a held-out vote of one": ("toy", ["verify.verifier=majority", "evaluate.samples=1"], "evaluate.samples = 1"),
    "a vote that nobody wins": ("toy", [*VOTES, "sampling.k=2"], "'majority' with sampling.k = 2.*max_share = 0.9"),
    "a held-out vote that nobody wins": (
        "toy",
        ["verify.held_out=majority", "verify.held_out_options={max_share=0.9}", "evaluate.samples=2"],
        "verify.held_out = 'majority' with evaluate.samples = 2",
    ),
    "nothing to compare with": ("toy", ["verify.verifier=judge", COMPARING, "sampling.k=1"], "sampling.k = 1.*'rate'"),
    "hints without solutions": ("toy", ["hints.k=1", 'hints.template="{prompt} {solution}"'], "no train problem has"),
    "hints at a statement": (
        "proof_flywheel",
        [*METAMATH, "hints.k=1"],
        "hints.template shows {answer}.*'proof'.*show {solution}",
    ),
    "a teacher that is told a statement": (
        "proof_flywheel",
        [*METAMATH, "train.objective=privileged", "train.min_examples=1", "mix.general=0", "mix.general_least=0"],
        "train.privileged.template shows {answer}.*'proof'.*show {solution}",
    ),
    "human rows without solutions": ("toy", ["mix.human=0.2"], "mix.human is set but no problem has a solution"),
    "sums for a kernel": (
        "toy",
        ["verify.verifier=proof"],
        "verifier = 'proof' can judge none .*'chain_sum'",
    ),
    "sums without questions": ("toy", ["verify.verifier=self_edit"], "verifier = 'self_edit' can judge none"),
    "sums without tests": ("toy", ["verify.verifier=unit_tests"], "verifier = 'unit_tests' can judge none.*no tests"),
    "held-out sums that are none": ("toy", ["verify.held_out=proof"], "verify.held_out = 'proof' .* its 6 problems"),
    "observed sums that are none": ("toy", ["verify.observer=proof"], "verify.observer = 'proof' .* its 6 problems"),
    "statements of another kernel": (
        "proof_flywheel",
        [*METAMATH, 'verify.options={kernel="coq", command="/bin/true", min_level="unsafe"}'],
        "can judge none of its 20 problems .*kernel = 'coq'",
    ),
    "a field that no problem has": (
        "toy",
        ["evaluate.by=dificulty"],
        "evaluate.by = 'dificulty'.*they have index, task",
    ),
    "less than a step": (
        "grpo",
        ["sampling.problems=4", "train.grpo.batch_size=64"],
        "train.grpo.batch_size = 64 .*has 32: 4 problems with sampling.k = 8; lower",
    ),
    "a last round too hard": (
        "addition",
        ["mix.general_source.count=20", "stop.max_rounds=60"],
        "propose.start = 7 with propose.step = 1 .*digits = 66 .*stop.max_rounds = 60; lower one",
    ),
    "a teacher's folder": (
        "toy",
        ['sampling.extra=[{model="./nobody/here", share=0.5}]'],
        "there is no folder './nobody/here'.*sampling.extra.model",
    ),
    "a teacher's file": (
        "toy",
        ['sampling.extra=[{model="nobody.gguf", share=0.5}]'],
        "there is no file 'nobody.gguf'; sampling.extra.model takes",
    ),
}


@pytest.mark.parametrize(("recipe", "overrides", "words"), DEMANDS.values(), ids=DEMANDS)
def test_what_problems_and_verifiers_lack_is_told_before_a_model_is_resolved(
    recipe, overrides, words, tmp_path, monkeypatch
):
    for module in (models, own):  # the base's, and those that verifiers bring
        monkeypatch.setattr(module, "resolve_base", lambda *_, **__: pytest.fail("a model was resolved"))
    with pytest.raises(FlywheelError, match=words) as refusal:
        Run.open(load_recipe(recipe, [*SMALL, *overrides]), tmp_path / "run")
    assert "\n" not in str(refusal.value)


FINE = {
    "a vote of three": ("toy", [*VOTES, "sampling.k=3"]),
    "hints at a proof": ("proof_flywheel", [*METAMATH, "hints.k=1", 'hints.template="{prompt} {solution}"']),
    "a field that all have": ("toy", ["evaluate.by=index"]),
    "a step": ("grpo", ["sampling.problems=4", "train.grpo.batch_size=32"]),
    "a last round that need not come": (
        "addition",
        ["mix.general_source.count=20", "stop.max_rounds=60", "propose.advance=mastered"],
    ),
    "a teacher at the hub": ("toy", ['sampling.extra=[{model="somebody/something", share=0.5}]']),
}


@pytest.mark.parametrize(("recipe", "overrides"), FINE.values(), ids=FINE)
def test_what_has_all_it_needs_goes_on_to_its_base(recipe, overrides, tmp_path, monkeypatch):
    class Reached(Exception):
        """The base was asked for."""

    def reached(*_, **__):
        raise Reached

    monkeypatch.setattr(models, "resolve_base", reached)
    with pytest.raises(Reached):
        Run.open(load_recipe(recipe, [*SMALL, *overrides]), tmp_path / "run")


def test_a_proof_verifier_needs_its_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "resolve_base", lambda *_, **__: pytest.fail("the base was resolved"))
    statement = "Theorem goal : {n} + 1 = 1 + {n}.\nProof.\n{{{{proof}}}}\nQed.\n"
    rows = [{"prompt": f"Prove {n} + 1 = 1 + {n}.", "answer": statement.format(n=n)} for n in range(12)]
    (tmp_path / "coq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = ["problems.source=file", f"problems.path={tmp_path / 'coq.jsonl'}", "problems.near_copy=1.0"]
    coq = ["verify.verifier=proof", 'verify.options={kernel="coq", command="/nowhere/coqc", min_level="unsafe"}']
    with pytest.raises(PluginError, match=r"'proof' cannot judge here: .*'/nowhere/coqc'"):
        Run.open(load_recipe("toy", [*SMALL, *source, *coq]), tmp_path / "coq")
    with pytest.raises(PluginError, match="'proof' cannot judge here: .*/nowhere/set.mm"):
        Run.open(
            load_recipe("proof_flywheel", [*SMALL, *METAMATH, 'verify.options={database="/nowhere/set.mm"}']),
            tmp_path / "metamath",
        )


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
