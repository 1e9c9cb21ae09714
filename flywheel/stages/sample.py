"""The stage SAMPLE: a round's plan in, samples out; their verification runs alongside."""

from __future__ import annotations

from collections import Counter
from typing import Any

from flywheel import samplers
from flywheel.collect import collect
from flywheel.manifest import stage_key
from flywheel.online import TRAINED, sample_online
from flywheel.scope import Scope
from flywheel.stages.keys import adjusted_sections, key_of, round_index, sections, verifiers
from flywheel.stages.plan import read_plan
from flywheel.types import Origin
from flywheel.waves import saving


def sampled_files(scope: Scope) -> tuple[str, ...]:
    """The files of the stage `sample`."""
    return ("samples.parquet", *([TRAINED] if scope.run.recipe.train.objective == "grpo" else []))


def sample_settings(scope: Scope) -> dict[str, Any]:
    """How a round samples; where sampling is training as well, how it trains and is rewarded."""
    settings = sections("model", "policy", "sampling")(scope)
    if scope.run.recipe.train.objective == "grpo":
        settings |= adjusted_sections("train", "verify")(scope)
        options = scope.recipe.train.grpo
        if options.loss == "bnpo":
            settings["micro_batch"] = options.micro_batch  # a mean over each forward pass's tokens
    return settings


def sample_inputs(scope: Scope) -> dict[str, Any]:
    """The plan and the weights that answer; the verifiers too, where what is asked next depends on them."""
    run = scope.run
    if run.recipe.train.objective == "grpo":
        start = run.model_digest(run.starting_generation(round_index(scope)))
        return {"plan": key_of(scope, "plan"), "start": start, "verifiers": verifiers(scope)}
    plan = read_plan(scope)
    inputs: dict[str, Any] = {
        "plan": key_of(scope, "plan"),
        "model": run.model_digest(run.policy_generation(round_index(scope))),
    }
    others = [
        samplers.identity(run.recipe, run.recipe.sampling.extra[source.extra])
        if source.extra >= 0
        else run.model_digest(run.generation(source.generation))
        for source in plan.sources[1:]
    ]
    if others:
        inputs["others"] = others
    if plan.decided_by_verdicts:
        inputs["verifiers"] = verifiers(scope)
    return inputs


def sample_stage(scope: Scope, key: str) -> dict[str, Any]:
    """The plan's samples; their verification runs alongside."""
    plan = read_plan(scope)
    if scope.run.recipe.train.objective == "grpo":
        samples, learnt = sample_online(scope, plan, key=key)
        return {"samples": len(samples), "tokens": sum(s.tokens for s in samples), "learnt": learnt}
    # VERIFY's key cannot be known before this stage's own is; both follow from the same ingredients.
    verdict_key = stage_key({"samples": key, "verifiers": verifiers(scope)})
    samples = collect(scope, plan, files=("samples", "verdicts"), key=key, verdict_key=verdict_key)
    others = Counter(s.origin for s in samples if s.origin != Origin.POLICY)
    return {
        "samples": len(samples),
        "tokens": sum(s.tokens for s in samples),
        **saving(plan, samples),
        **dict(sorted(others.items())),
    }
