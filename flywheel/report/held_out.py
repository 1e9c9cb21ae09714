"""Judged and correct completions by problem: from a generation's metrics, or from its rows where the run is older."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flywheel import store
from flywheel.measures.passk import Counts, counts_in
from flywheel.measures.table import counts, read_judged
from flywheel.types import Generation
from flywheel.view import RunView


def dev_counts(run: RunView, generation: Generation) -> Counts:
    """Of a generation on the dev problems."""
    scope = run.evaluation_of(generation)
    of_dev = {p.id for p in run.problems if not p.ood}
    return _counts(generation.metrics["dev"], scope.folder, "dev", of_dev)


def test_counts(run: RunView, metrics: dict[str, Any]) -> dict[str, Counts]:
    """Of the base and the champion on the test problems; `metrics` is the content of the finale's `metrics.json`."""
    of_test = {p.id for p in run.problems}
    indices = {"base": 0, "champion": metrics["champion"]}
    return {
        name: _counts(metrics["test"][name], run.finale().folder, f"generation_{index:03d}", of_test)
        for name, index in indices.items()
    }


def finale(run: RunView) -> dict[str, Any] | None:
    """The test figures of the run's champion; None before they are measured, and where another has become champion."""
    if "finale" not in run.finale().manifest.entries():
        return None
    metrics: dict[str, Any] = store.read_json(run.finale().folder / "metrics.json")
    return metrics if metrics["champion"] == run.champion().index else None


def _counts(measured: dict[str, Any], folder: Path, name: str, problems: set[str]) -> Counts:
    if "counts" in measured:
        return counts_in(measured)
    table = read_judged(folder / f"{name}_samples.parquet", folder / f"{name}_verdicts.parquet", texts=False)
    return {problem: pair for problem, pair in counts(table).items() if problem in problems}
