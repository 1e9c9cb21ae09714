"""The stage SWEEP: policy at several temperatures, and how well each balances right and varied."""

from __future__ import annotations

from typing import Any

from flywheel import store
from flywheel.plan import plan_sweep
from flywheel.scope import Scope
from flywheel.stages.evaluate import collect_and_judge
from flywheel.stages.keys import previous_round, proposed, round_index, sections, verifiers
from flywheel.sweep import balance_table
from flywheel.types import Split


def sweep_settings(scope: Scope) -> dict[str, Any]:
    """How temperatures are tried, and what counts as a right and distinct completion."""
    recipe = scope.run.recipe
    names = ("sweep", "top_p", "top_k", "max_tokens", "stop")
    asked = {name: value for name, value in recipe.sampling.key().items() if name in names}
    kept = {name: value for name, value in recipe.filter.key().items() if name in ("cap", "min_score")}
    pool = (
        {"propose": {"ask": recipe.propose.ask}}
        if recipe.propose.kind and recipe.sampling.sweep.split == "train"
        else {}
    )
    return {**sections("model", "policy")(scope), "sampling": asked, "filter": kept, **pool}


def sweep_inputs(scope: Scope) -> dict[str, Any]:
    """The problems, what stood before the round, the weights and the verifiers."""
    run = scope.run
    return {
        "problems": run.facts["problems"]["sha256"],
        "before": previous_round(scope),
        "model": run.model_digest(run.policy_generation(round_index(scope))),
        "verifiers": verifiers(scope),
        **proposed(scope),
    }


def sweep_stage(scope: Scope, key: str) -> dict[str, Any]:
    """Which temperature and threshold balance right and varied answers best, tried on a few problems."""
    run, index = scope.run, round_index(scope)
    section, kept = run.recipe.sampling.sweep, run.recipe.filter
    problems = scope.pool if section.split == "train" else run.split(Split(section.split))
    plan = plan_sweep(run.recipe, index, run.policy_generation(index).index, problems)
    samples, verdicts = collect_and_judge(scope, plan, "sweep")
    kinds = run.path_kinds(problems)
    thresholds = section.min_scores or [kept.min_score]
    table = balance_table(samples, verdicts, wanted=section.wanted or kept.cap, min_scores=thresholds, kinds=kinds)
    store.write_json(scope.folder / "sweep.json", table)
    several = len(thresholds) > 1
    balance = {
        f"{row['temperature']:g}" + (f", score {row['min_score']:g}" if several else ""): row["balance"]
        for row in table
    }
    return {"samples": len(samples), "tokens": sum(s.tokens for s in samples), "balance": balance}
