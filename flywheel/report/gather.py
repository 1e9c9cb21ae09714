"""What the report says, as plain data read from a run's files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flywheel import store
from flywheel.report import cost as costs
from flywheel.report import curves, lineage, migration, rounds
from flywheel.report.by_field import by_field
from flywheel.report.chart import Chart, Limit
from flywheel.report.held_out import finale
from flywheel.report.settings import settings
from flywheel.report.solved import solved_by_round, solved_chart
from flywheel.types import Generation
from flywheel.view import RunView


def view(run: RunView) -> dict[str, Any]:
    """Everything that the page shows but its samples."""
    champion = run.champion()
    measured = [g for g in run.generations() if g.metrics.get("dev")]
    told = [rounds.round_view(scope) for scope in run.rounds()]
    cost = costs.cost(run, told)
    moved = migration.migration(run, measured) if measured else None
    history = run.history()
    return {
        "name": run.recipe.name,
        "description": run.recipe.description,
        "directory": str(run.directory),
        "champion": champion.index,
        "model": str(run.directory / champion.path),
        "ended": run.ended(),
        "max_rounds": run.recipe.stop.max_rounds,
        "rounds_done": sum(record.accepted is not None for record in history),
        "rounds_accepted": sum(record.accepted is True for record in history),
        "k": run.recipe.evaluate.samples,
        "confidence": run.recipe.evaluate.confidence,
        "test": test_result(run),
        "generations": run.generation_rows(),
        "metrics": [without_problems(g) for g in measured],
        "rounds": told,
        "solved": (solved := solved_by_round(run)),
        "migration": moved,
        "lineage": lineage.lineage_rows(run),
        "cost": cost,
        "machine": run.facts.get("machine"),
        "settings": settings(run),
        "recipe": run.recipe.model_dump(mode="json"),
        "facts": run.facts,
        **charts(run, measured, told, cost, solved_chart(solved)),
    }


def charts(
    run: RunView,
    measured: Sequence[Generation],
    told: list[dict[str, Any]],
    cost: dict[str, Any],
    solved: Chart | None = None,
) -> dict[str, Any]:
    """The charts, and the names of what the run has not measured."""
    if not measured:
        return {"accuracy": [], "width": [], "text": [], "not_measured": [], "funnel": None, "seconds": None}
    limits = gate_limits(run, measured[0])
    width, unknown = curves.over_generations(curves.WIDTH, measured, limits)
    text, unknown_too = curves.over_generations(curves.TEXT, measured, limits)
    accuracy: list[Chart | None] = [
        curves.pass_by_generation(measured, limits.get("pass-by-generation", ())),
        curves.pass_by_k(measured, run.champion().index) if run.recipe.evaluate.samples > 1 else None,
        by_field(measured),
        curves.ood_by_generation(measured),
        solved,
    ]
    return {
        "accuracy": [chart for chart in accuracy if chart is not None],
        "width": width,
        "text": text,
        "not_measured": [*unknown, *unknown_too],
        "funnel": rounds.funnel_chart(told),
        "seconds": costs.cost_chart(cost["rows"]),
    }


def gate_limits(run: RunView, base: Generation) -> dict[str, list[Limit]]:
    """The lines that the gate draws on what is measured, by chart, as its newest decision has them.

    Runs of the first version have only margins of pass rates, which the rounds tell in words.
    """
    decided = [scope for scope in run.rounds() if "gate" in scope.manifest.entries()]
    if not decided:
        return {}
    limits: dict[str, list[Limit]] = {}
    for check in store.read_json(decided[-1].folder / "gate.json")["checks"]:
        limit, reference = check.get("limit"), check.get("reference")
        match check.get("line"):
            case "pass_k" if reference is not None:
                limits["pass-by-generation"] = [Limit(f"gate: {check['what'].removeprefix('dev ')}", reference + limit)]
            case "paths" if reference is not None and "rarefied_at" in base.metrics["dev"]:
                # The gate compares how many of the m - 1 paths beyond the first m right answers take.
                limits["paths-rarefied"] = [
                    Limit("gate", 1.0 + (base.metrics["dev"]["rarefied_at"] - 1) * limit * reference)
                ]
            case "markers" if reference is not None:
                limits["markers"] = [Limit("gate", limit * reference)]
            case "cut_off":
                limits["ends"] = [Limit("gate", limit)]
    return limits


def without_problems(generation: Generation) -> dict[str, Any]:
    """A generation's metrics without what is kept problem by problem."""

    def short(measured: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in measured.items() if name not in ("counts", "paths", "rarefied")}

    metrics = generation.metrics
    return {
        "generation": generation.index,
        "status": generation.status,
        "parent": generation.parent,
        "dev": short(metrics["dev"]),
        "ood": {label: short(measured) for label, measured in metrics.get("ood", {}).items()},
        "round": metrics.get("round"),
        "migration": metrics.get("migration"),
    }


def test_result(run: RunView) -> dict[str, Any] | None:
    """Base and champion on the untouched test split, for every k; None before they were measured there."""
    metrics = finale(run)
    if metrics is None:
        return None
    test = metrics["test"]
    ks = sorted(test["difference"], key=int)
    return {
        "champion": metrics["champion"],
        "n_problems": test["base"]["n_problems"],
        "n_samples": test["base"]["n_samples"],
        "lines": [
            {
                "k": k,
                "base": test["base"]["pass_at"][k],
                "champion": test["champion"]["pass_at"][k],
                **{name: test["difference"][k][name] for name in ("value", "low", "high")},
            }
            for k in ks
        ],
    }
