"""Settings that an objective cannot learn from or has no place for: told from the recipe alone, as all conflicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flywheel.recipe.whole import Recipe


def objective_conflicts(recipe: Recipe) -> Iterator[str]:
    """What `train.objective` cannot work with, one line each."""
    yield from _pairs(recipe)
    yield from _lessons(recipe)
    yield from _without_examples(recipe)
    yield from _online(recipe)


def _pairs(recipe: Recipe) -> Iterator[str]:
    """Where the objective needs preference pairs and nothing could give one."""
    if "dpo" not in recipe.train.stages:
        return
    asked = f"train.objective = {recipe.train.objective!r}"
    budget = recipe.sampling.budget
    most = (budget.most or recipe.sampling.k) if budget.mode == "adaptive" else recipe.sampling.k
    if most == 1:
        yield (
            f"{asked} with one completion a problem (sampling.k = {recipe.sampling.k}): a preference pair takes two; "
            "raise sampling.k, or set train.objective = 'sft'"
        )
    if recipe.filter.by != "verdict":
        yield (
            f"{asked} with filter.by = {recipe.filter.by!r}: pairs rest on verdicts, which this control does not "
            "ask; set train.objective = 'sft' for it"
        )


def _lessons(recipe: Recipe) -> Iterator[str]:
    """Where a policy that learns from its own answers would give none."""
    if recipe.train.objective != "privileged":
        return
    asked = "train.objective = 'privileged'"
    if not recipe.sampling.own:
        yield (
            f"{asked} with sampling.extra of share = 1: lessons are the policy's own completions, and a teacher that "
            "answers everything leaves it none; take a share under 1, or set train.objective = 'sft'"
        )
    if recipe.filter.fit is not None:
        yield f"{asked} with filter.fit: lessons are samples, which no filter of examples drops; leave fit out"


def _without_examples(recipe: Recipe) -> Iterator[str]:
    """What only examples could bring into a training set, where nothing is learnt from examples."""
    objective, mix = recipe.train.objective, recipe.mix
    if objective not in ("dpo", "privileged"):
        return
    asked = f"train.objective = {objective!r}"
    learnt = {"dpo": "pairs of completions", "privileged": "the policy's own completions"}[objective]
    guided = {"hints.k": recipe.hints.k, "correction.k": recipe.correction.k}
    for name, k in guided.items():
        if k:
            yield (
                f"{asked} with {name} = {k}: it learns from {learnt} to the plain prompt, so these would be sampled in "
                f"vain; leave {name} out"
            )
    for name in ("human", "base", "general"):
        if share := getattr(mix, name):
            way_out = "leave it out" + ", or set train.objective = 'sft_then_dpo'" * (objective == "dpo")
            yield f"{asked} with mix.{name} = {share:g}: it learns from {learnt}, not from rows; {way_out}"


def _online(recipe: Recipe) -> Iterator[str]:
    """What a trainer that samples by itself has no place for."""
    if recipe.train.objective != "grpo":
        return
    sampling, options = recipe.sampling, recipe.train.grpo
    asked = "train.objective = 'grpo'"
    if sampling.k < 2 or options.batch_size % sampling.k:
        yield (
            f"{asked} compares the completions of a problem within a step: sampling.k = {sampling.k} must be at least "
            f"2 and divide train.grpo.batch_size = {options.batch_size}; change one of them"
        )
    others = {
        "sampling.budget.mode = 'adaptive'": sampling.budget.mode == "adaptive",
        "hints.k": bool(recipe.hints.k),
        "correction.k": bool(recipe.correction.k),
        "sampling.sweep.temperatures": bool(sampling.sweep.temperatures),
        "sampling.extra": bool(sampling.extra),
        "sampling.variants": len(sampling.variants) > 1,
        "sampling.paraphrases": sampling.paraphrases is not None,
        "sampling.few_shot.count": bool(sampling.few_shot.count),
        "sampling.spread": bool(sampling.spread),
        "sampling.stop": bool(sampling.stop),
    }
    for lever in (name for name, on in others.items() if on):
        yield f"{asked} samples by itself, each problem sampling.k times with its plain prompt; leave {lever} out"
    learnt = {
        "mix": any((recipe.mix.human, recipe.mix.base, recipe.mix.general)),
        "filter.by": recipe.filter.by != "verdict",
        "filter.fit": recipe.filter.fit is not None,
        "train.average": recipe.train.average is not None,
    }
    for setting in (name for name, on in learnt.items() if on):
        yield f"{asked} learns from its own completions as they are rewarded, not from rows; leave {setting} out"
