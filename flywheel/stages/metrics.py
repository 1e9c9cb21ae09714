"""`metrics.json`: a generation on held-out problems, its round's own samples, and how difficulty has moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from flywheel import store
from flywheel.agreement import agreement, as_observed, proposed_measures
from flywheel.evaluate import measure, measure_round
from flywheel.guided import GUIDED
from flywheel.measures.by_field import accuracy_by
from flywheel.measures.migration import migration
from flywheel.measures.passk import Counts, counts_in
from flywheel.measures.table import counts, read_judged
from flywheel.scope import Scope
from flywheel.stages.keys import compared_with, round_index
from flywheel.types import Example, Origin, Sample, Verdict


def held_out_metrics(scope: Scope, samples: Sequence[Sample], verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    """The content of a generation's `metrics.json`; `round` and `migration` are None for the base."""
    run, recipe = scope.run, scope.run.recipe
    others: dict[str, dict[str, Counts]] = {}
    generations = {} if scope.round is None else compared_with(scope)
    for name, generation in generations.items():
        others[name] = _sets(store.read_json(run.evaluation_of(generation).folder / "metrics.json"))
    by_set: dict[str, list[Sample]] = {name: [] for name in ("dev", *(s.label for s in recipe.ood))}
    for sample in samples:
        by_set[run.problem_by_id[sample.problem_id].ood or "dev"].append(sample)
    measured = {}
    for name, rows in by_set.items():
        compared = {who: others[who][name] for who in ("base", "champion") if who in others}
        kinds = run.path_kinds({s.problem_id: run.problem_by_id[s.problem_id] for s in rows}.values())
        measured[name] = measure(rows, verdicts, recipe.evaluate, seed=recipe.seed, kinds=kinds, **compared)
        measured[name]["by"] = accuracy_by(
            counts_in(measured[name]), run.problem_by_id, recipe.evaluate, seed=recipe.seed
        )
    metrics: dict[str, Any] = {
        "dev": measured["dev"],
        "ood": {name: m for name, m in measured.items() if name != "dev"},
        "round": None,
        "migration": None,
    }
    if scope.round is not None:
        metrics["round"] = _round(scope.whole)
        metrics["migration"] = {
            name: {
                who: _moved(others[who][name], counts_in(measured[name]), generations[who].index)
                for who in ("base", "previous")
            }
            for name in measured
        } | {"train": _train_migration(scope.whole)}
    return metrics


def _sets(metrics: Mapping[str, Any]) -> dict[str, Counts]:
    return {name: counts_in(measured) for name, measured in {"dev": metrics["dev"], **metrics["ood"]}.items()}


def _moved(before: Counts, after: Counts, from_generation: int) -> dict[str, Any] | None:
    moved = migration(before, after)
    return moved and {"from_generation": from_generation, **moved}


def _round(scope: Scope) -> dict[str, Any]:
    """The round's own samples, and what became of them."""
    run, recipe = scope.run, scope.run.recipe
    samples = store.read_rows(scope.folder / "samples.parquet", Sample)
    verdicts = {v.sample_id: v for v in store.read_rows(scope.folder / "verdicts.parquet", Verdict)}
    examples = store.read_rows(scope.folder / "examples.parquet", Example)
    asked = {s.problem_id for s in samples}
    kinds = run.path_kinds(p for p in run.problems if p.id in asked)
    measured = measure_round(samples, verdicts, recipe.evaluate, seed=recipe.seed, kinds=kinds)
    info = scope.manifest.entries()["filter"].info
    hinted = sum(e.origin == Origin.HINTED for e in examples)
    observed, observer = observed_verdicts(scope, samples), recipe.verify.observer
    agreed = {"verifier": observer, **agreement(samples, verdicts, observed)} if observed is not None else None
    proposed = [p.id for p in run.proposed_problems.get(round_index(scope), [])]
    return measured | {
        "observed": agreed,
        "proposed": proposed_measures(proposed, samples, verdicts, observed or {}),
        "examples": len(examples),
        "hinted_examples_share": hinted / len(examples) if examples else None,
        "contamination": info.get("contamination"),
    }


def observed_verdicts(scope: Scope, samples: Sequence[Sample]) -> dict[str, Verdict] | None:
    """What `verify.observer` says of a round's samples, by id, without those of problems that have no answer; None
    where the recipe names none."""
    run, observer = scope.run, scope.run.recipe.verify.observer
    if observer is None:
        return None
    asked = {s.problem_id: as_observed(run.problem_by_id[s.problem_id], observer) for s in samples}
    problems = [p for p in asked.values() if p is not None]
    known = [s for s in samples if asked[s.problem_id] is not None]
    return {v.sample_id: v for v in run.pool.submit(problems, known).result()}


def _train_migration(scope: Scope) -> dict[str, Any] | None:
    """Train problems that an earlier round asked as well: the latest such round against this one, first attempts at the
    plain prompt alone."""
    now = _train_counts(scope)
    before: Counts = {}
    for index in range(round_index(scope)):
        before |= _train_counts(scope.run.round(index))
    return migration(before, now)


def _train_counts(scope: Scope) -> Counts:
    table = read_judged(scope.folder / "samples.parquet", scope.folder / "verdicts.parquet", texts=False)
    return counts(table.filter(~pl.col("origin").is_in([str(o) for o in GUIDED])))
