"""Look back: where a sample went, and start a stage over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq

from flywheel import store
from flywheel.errors import RunError
from flywheel.recipe import Recipe, differing_fields
from flywheel.run import Run
from flywheel.scope import Scope
from flywheel.stages import FINALE, ROUND, STAGES, Stage
from flywheel.stages.keys import verifiers
from flywheel.types import Dropped, Example, Generation, Lesson, Pair, Sample, Verdict

Row = TypeVar("Row")

FROZEN = ("problems.", "ood ", "seed ", "model.base ", "model.characters.", "mix.general_source", "verify.held_out ")
"""Beginnings of the fields, as `differing_fields` shows them, that a run reads once, when it begins."""


def trace(run: Run, sample_id: str) -> list[str]:
    """Lines that tell which problem a sample answered, how it was judged, and which generations learnt from it.

    Raises RunError where the run has no such sample.
    """
    sample, scope = _find_sample(run, sample_id)
    problem = run.problem_by_id[sample.problem_id]
    drawn_by = f"generation {sample.generation}" if sample.generation >= 0 else f"model {sample.sampler}"
    lines = [
        f"sample      {sample.id} · {drawn_by} · T {sample.temperature:g} · {sample.tokens} tokens",
        f"problem     {problem.id} ({problem.ood or problem.split}) · answer {problem.answer!r}",
        f"prompt      {problem.prompt!r}",
        f"completion  {sample.completion!r}",
    ]
    verdict = _row(scope.folder, "*verdicts", Verdict, "sample_id", sample_id)
    if verdict is None:
        return [*lines, "verdict     none yet"]
    lines.append(
        f"verdict     {verdict.outcome} · score {verdict.score:g} · read {verdict.answer!r} · "
        f"{verdict.verifier} {verdict.version} ({verdict.isolation}){verdict.detail and ' · '}{verdict.detail}"
    )
    if not sample_id.startswith("r"):
        return [*lines, "example     never: it measures a generation"]
    if dropped := _row(scope.folder, "dropped", Dropped, "sample_id", sample_id):
        return [*lines, f"example     no: dropped as {dropped.reason}", *_learners(run, sample_id)]
    if _row(scope.folder, "examples", Example, "sample_id", sample_id) is None:
        return [*lines, f"example     not decided: the filter of {scope.label} has not run"]
    lines.append(f"example     yes, in {scope.label}")
    return lines + list(_learners(run, sample_id))


def _learners(run: Run, sample_id: str) -> Iterator[str]:
    lineage = {g.index: g for g in run.generations()}
    champion = run.champion()
    for scope in run.rounds():
        if scope.generation not in lineage or "train" not in scope.manifest.entries():
            continue
        generation = lineage[scope.generation]
        role = " · champion" if generation.index == champion.index else ""
        name = f"generation {generation.index} ({generation.status}{role})"
        if row := _row(scope.folder, "training_set", Example, "sample_id", sample_id):
            yield f"trained     {name} as {row.origin}, from {_parent(generation)}"
        if _row(scope.folder, "lessons", Lesson, "sample_id", sample_id):
            yield f"lesson      in {name}, from {_parent(generation)} told the solution"
        if pair := _row(scope.folder, "pairs", Pair, "chosen_id", sample_id):
            yield f"preferred   in {name}, to {pair.rejected_id}"
        if pair := _row(scope.folder, "pairs", Pair, "rejected_id", sample_id):
            yield f"rejected    in {name}, for {pair.chosen_id}"


def _parent(generation: Generation) -> str:
    return "the base" if generation.parent == 0 else f"generation {generation.parent}"


def _find_sample(run: Run, sample_id: str) -> tuple[Sample, Scope]:
    taken = [run.evaluation_of(g) for g in run.generations() if g.alpha is not None]
    scopes = [*taken, *run.rounds(), run.baseline(), run.finale()]
    for scope in scopes:
        if sample := _row(scope.folder, "*samples", Sample, "id", sample_id):
            return sample, scope
    raise RunError(
        f"{run.directory} has no sample {sample_id!r}; ids look like r000/PROBLEM/003 (round), d001/… (dev) or "
        "t001/… (test), and stand in the `id` column of samples.parquet"
    )


def _row(folder: Path, pattern: str, row_type: type[Row], column: str, value: str) -> Row | None:
    """The row whose column has a value, from a finished file or from the parts of an unfinished one."""
    for path in sorted([*folder.glob(f"{pattern}.parquet"), *folder.glob(f"{pattern}.parts/*.parquet")]):
        table = pq.read_table(path, schema=store.arrow_schema(row_type), filters=[(column, "=", value)])
        if table.num_rows:
            return store.from_table(row_type, table)[0]
    return None


def redo(run: Run, stage_name: str, round_index: int | None, recipe: Recipe) -> list[str]:
    """Forget a stage and all that follows from it; return what was forgotten, in words.

    `recipe` is the run's, or one with other settings for what is made anew: it becomes the run's.
    `round_index` None means the base's stages (check, evaluate) or the finale. Raises RunError for a
    stage that is not there, and where a stage that stays was made with a setting that `recipe` changes.
    """
    if stage_name not in STAGES:
        raise RunError(f"unknown stage {stage_name!r}; known: {', '.join(STAGES)}")
    following = list(_from(run, stage_name, round_index))
    if not any(stage.name in scope.manifest.entries() for stage, scope in following[:1]):
        if round_index is None and any(stage.name == stage_name for stage in ROUND):
            raise RunError(f"{stage_name} is a stage of a round; say which: give --round N")
        where = "the base" if round_index is None else f"round {round_index}"
        raise RunError(f"{stage_name} of {where} has not been done in {run.directory}; there is nothing to do over")
    _check_what_is_frozen(run.recipe, recipe)
    changed = Run(run.directory, recipe, run.reporter)
    judges = verifiers(changed.baseline()) if recipe.verify != run.recipe.verify else None
    _check_what_stays(changed, {(scope.folder, stage.name) for stage, scope in following}, judges)
    forgotten = []
    for stage, scope in reversed(following):
        if stage.name in scope.manifest.entries():
            forgotten.append(f"{stage.name} of {scope.label}")
            scope.manifest.forget([stage.name])
        for name in stage.outputs(scope):
            store.remove((scope.folder / name).with_suffix(".parts"))
        if stage.name == "train":
            store.remove(scope.folder / "train.parts")
        if stage.name == "evaluate":
            store.remove(scope.folder / "repair")  # the mixtures were measured by the same settings
    store.write_json(run.directory / "recipe.json", recipe.model_dump(mode="json"))
    run.save_generations()
    return forgotten[::-1]


def _from(run: Run, stage_name: str, round_index: int | None) -> Iterator[tuple[Stage, Scope]]:
    """A stage and all stages after it, in the order in which they run."""
    order: list[tuple[Stage, Scope]] = [(STAGES["check"], run.baseline()), (STAGES["evaluate"], run.baseline())]
    order += [(stage, scope) for scope in run.rounds() for stage in ROUND]
    order.append((FINALE, run.finale()))
    found = False
    for stage, scope in order:
        found = found or (stage.name == stage_name and (scope.round == round_index))
        if found:
            yield stage, scope


def _check_what_is_frozen(before: Recipe, after: Recipe) -> None:
    """Raise RunError for what was read once, when the run began: no stage that is made anew would see the change."""
    for change in differing_fields(before.key(), after.key()):
        if change.startswith(FROZEN):
            raise RunError(f"{change}: settled when the run began, and no stage reads it again; start a new run")


def _check_what_stays(run: Run, going: set[tuple[Path, str]], judges: dict[str, Any] | None) -> None:
    """Raise RunError where a stage that stays was made with other settings, or with other verifiers than `judges`."""
    for scope in [run.baseline(), *run.rounds()]:
        for name, entry in scope.manifest.entries().items():
            if (scope.folder, name) in going:
                continue
            made, now = entry.ingredients["settings"], STAGES[name].settings(scope)
            if judges is not None and "verifiers" in entry.ingredients["inputs"]:
                made = {**made, "verifiers": entry.ingredients["inputs"]["verifiers"]}
                now = {**now, "verifiers": judges}
            if differences := differing_fields(made, now):
                place = "" if scope.round is None else f" --round {scope.round}"
                raise RunError(
                    f"{name} of {scope.label} was made with another setting ({', '.join(differences)}) and would stay; "
                    f"do it over from there: `flywheel redo {name}{place} …`"
                )
