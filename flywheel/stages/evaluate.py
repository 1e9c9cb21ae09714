"""The stage EVALUATE: base or candidate on dev and OOD problems."""

from __future__ import annotations

from typing import Any

from flywheel import store
from flywheel.collect import collect, judge
from flywheel.plan import plan_evaluation
from flywheel.plan_types import Plan
from flywheel.scope import Scope
from flywheel.stages.keys import compared_with, held_out_keys, key_of, verifiers
from flywheel.stages.metrics import held_out_metrics
from flywheel.types import Sample, Split, Verdict


def evaluate_inputs(scope: Scope) -> dict[str, Any]:
    """What an evaluation rests on: problems, weights, verifiers; a candidate's also on its round and on its rivals."""
    run = scope.run
    inputs = {
        "problems": run.facts["problems"]["sha256"],
        "model": run.model_digest(scope.model(scope.generation)),
        "verifiers": verifiers(scope),
    }
    if scope.round is not None:
        compared = {name: key_of(run.evaluation_of(g), "evaluate") for name, g in compared_with(scope).items()}
        inputs |= {"round": key_of(scope.whole, "filter"), "compared": compared}
        if observer := run.recipe.verify.observer:
            inputs["observer"] = run.verifier_identity(observer)
    return inputs


def evaluate_stage(scope: Scope, key: str) -> dict[str, Any]:
    """Base or candidate on dev and OOD problems, and what the round's own samples were like."""
    run = scope.run
    problems = run.split(Split.DEV, with_ood=True)
    plan = plan_evaluation(run.recipe, "dev", scope.generation, problems)
    samples, verdicts = collect_and_judge(scope, plan, "dev")
    metrics = held_out_metrics(scope, samples, verdicts)
    store.write_json(scope.folder / "metrics.json", metrics)
    return {"samples": len(samples), "tokens": sum(s.tokens for s in samples), "pass_at": metrics["dev"]["pass_at"]}


def collect_and_judge(scope: Scope, plan: Plan, name: str) -> tuple[list[Sample], dict[str, Verdict]]:
    """What a plan outside the rounds' own asks for, and its verdicts, in files that begin with `name`."""
    files = (f"{name}_samples", f"{name}_verdicts")
    sample_key, verdict_key = held_out_keys(scope, plan)
    samples = collect(scope, plan, files=files, key=sample_key, verdict_key=verdict_key)
    return samples, judge(scope, samples, file=files[1], key=verdict_key)
