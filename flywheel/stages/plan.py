"""The stage PLAN: history in, what a round asks out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flywheel import store
from flywheel.demands import examples_of
from flywheel.fingerprint import file_digest
from flywheel.plan import plan_round
from flywheel.plan_types import Plan
from flywheel.prompt_files import read_paraphrases
from flywheel.scope import Scope
from flywheel.stages.keys import key_of, previous_round, proposed, round_index, rounds_left_out, sections
from flywheel.standing import standing
from flywheel.types import Sample, Verdict


def plan_settings(scope: Scope) -> dict[str, Any]:
    """What a plan follows from: sampling and hints, and the filter's cap where it says how much is enough."""
    settings = sections("sampling", "hints", "correction")(scope)
    sampling = scope.run.recipe.sampling
    if sampling.budget.mode == "adaptive" and sampling.budget.enough is None:
        settings["filter"] = {"cap": scope.run.recipe.filter.cap}
    if scope.run.recipe.propose.kind:
        settings["propose"] = {"ask": scope.run.recipe.propose.ask}
    return settings


def plan_inputs(scope: Scope) -> dict[str, Any]:
    """The problems, what stood before the round, its sweep, and the files that reword prompts."""
    sampling = scope.run.recipe.sampling
    inputs: dict[str, Any] = {"problems": scope.run.facts["problems"]["sha256"], "before": previous_round(scope)}
    inputs |= proposed(scope)
    if sampling.sweep.temperatures:
        inputs["sweep"] = key_of(scope, "sweep")
    for name, path in (("paraphrases", sampling.paraphrases), ("few_shot", sampling.few_shot.path)):
        if path:
            inputs[name] = file_digest(Path(path))
    return inputs


def plan_stage(scope: Scope, key: str) -> dict[str, Any]:
    """What the round asks, how often, how hot, in which words, and of whom."""
    run, index = scope.run, round_index(scope)
    sampling, problems = run.recipe.sampling, scope.pool
    plan = plan_round(
        run.recipe,
        index,
        run.policy_generation(index).index,
        problems,
        lineage=[g.index for g in run.generations() if g.index <= index and g.status in ("base", "accepted")],
        standing=standing(_judged_rounds(scope)) if sampling.budget.mode == "adaptive" or run.recipe.hints.k else {},
        sweep=store.read_json(scope.folder / "sweep.json") if sampling.sweep.temperatures else (),
        paraphrases=read_paraphrases(sampling.paraphrases, problems) if sampling.paraphrases else {},
        examples=examples_of(run.recipe, scope.train_problems) if sampling.few_shot.count else (),
        rejected=run.rejected_before(index),
        base_rows=0 not in rounds_left_out(scope),
    )
    store.write_json(scope.folder / "plan.json", plan.as_json())
    for change in plan.changes:
        run.reporter.message(f"{scope.label} · {change['what']}: {change['from']} → {change['to']} ({change['why']})")
    return {
        "problems": len(plan.problems),
        "samples": len(plan.problems) * plan.k,
        "generation": plan.generation,
        "changes": plan.changes,
    }


def _judged_rounds(scope: Scope) -> Iterator[tuple[list[Sample], dict[str, Verdict]]]:
    """Samples and verdicts of the rounds before this one, oldest first."""
    for index in range(round_index(scope)):
        folder = scope.run.round(index).folder
        verdicts = store.read_rows(folder / "verdicts.parquet", Verdict)
        yield store.read_rows(folder / "samples.parquet", Sample), {v.sample_id: v for v in verdicts}


def read_plan(scope: Scope) -> Plan:
    """What the round asks."""
    return Plan.from_json(store.read_json(scope.folder / "plan.json"))
