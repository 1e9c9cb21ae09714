"""The stage FINALE: base and champion on the untouched test split."""

from __future__ import annotations

from typing import Any

from flywheel import store
from flywheel.evaluate import measure
from flywheel.measures.by_field import accuracy_by
from flywheel.measures.passk import Counts, count, paired_differences
from flywheel.plan import plan_evaluation
from flywheel.scope import Scope
from flywheel.stages.evaluate import collect_and_judge
from flywheel.types import Split


def finale_files(scope: Scope) -> tuple[str, ...]:
    """What the finale leaves: metrics, and the rows of base and champion."""
    measured = sorted({0, scope.run.champion().index})
    names = [f"generation_{g:03d}_{rows}.parquet" for g in measured for rows in ("samples", "verdicts")]
    return ("metrics.json", *names)


def finale_stage(scope: Scope, key: str) -> dict[str, Any]:
    """Base and champion on the untouched test split; the champion first, whose engine may be warm."""
    run = scope.run
    champion = run.champion()
    problems = run.split(Split.TEST)
    metrics: dict[str, Any] = {"champion": champion.index, "test": {"base": {}, "champion": {}, "difference": {}}}
    counts: dict[int, Counts] = {}
    tokens = 0
    for index in dict.fromkeys([champion.index, 0]):
        plan = plan_evaluation(run.recipe, "test", index, problems)
        samples, verdicts = collect_and_judge(scope, plan, f"generation_{index:03d}")
        measured = measure(samples, verdicts, run.recipe.evaluate, seed=run.recipe.seed, kinds=run.path_kinds(problems))
        counts[index] = count(samples, verdicts)
        measured["by"] = accuracy_by(counts[index], run.problem_by_id, run.recipe.evaluate, seed=run.recipe.seed)
        tokens += measured["tokens"]
        if index == 0:
            metrics["test"]["base"] = measured
        if index == champion.index:
            metrics["test"]["champion"] = measured
    metrics["test"]["difference"] = paired_differences(
        counts[champion.index], counts[0], run.recipe.evaluate, seed=run.recipe.seed
    )
    store.write_json(scope.folder / "metrics.json", metrics)
    return {"champion": champion.index, "tokens": tokens, "difference": metrics["test"]["difference"]}
