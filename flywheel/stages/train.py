"""The stage TRAIN: examples in, candidate model out."""

from __future__ import annotations

from collections import Counter
from typing import Any

from flywheel import store
from flywheel.fingerprint import derive_seed
from flywheel.mix import training_set
from flywheel.models import model_digest
from flywheel.online import TRAINED
from flywheel.scope import Scope
from flywheel.stages.keys import key_of, round_index, rounds_to_learn
from flywheel.stages.learn import general_rows, pairs_of, problems_with_solutions, read_lessons
from flywheel.train import train
from flywheel.types import Example, Generation, Lesson, Pair


def learnt_files(scope: Scope) -> tuple[str, ...]:
    """The files of the stage `train`."""
    beside = {"dpo": "pairs.parquet", "privileged": "lessons.parquet"}
    return ("training_set.parquet", *(beside[s] for s in scope.recipe.train.stages if s in beside), "model")


def train_inputs(scope: Scope) -> dict[str, Any]:
    """The examples a round trains on, and the weights it starts from."""
    run, index = scope.run, round_index(scope)
    if scope.recipe.train.objective == "grpo":
        return {"samples": key_of(scope, "sample")}
    averaged = [run.model_digest(g) for g in generations_to_average(scope)]
    return {
        "examples": {str(i): key_of(run.round(i), "filter") for i in rounds_to_learn(scope)},
        "start": run.model_digest(run.starting_generation(index)),
        **({"averaged": averaged} if averaged else {}),
        **({"general": run.facts.get("general")} if scope.recipe.mix.general else {}),
    }


def generations_to_average(scope: Scope) -> list[Generation]:
    """The accepted generations that a round's candidate is averaged with, the newest first."""
    average = scope.recipe.train.average
    others = average.generations - 1 if average else 0
    before = [g for g in scope.run.generations() if g.index <= round_index(scope) and g.status == "accepted"]
    return before[::-1][:others]


def train_stage(scope: Scope, key: str) -> dict[str, Any]:
    """The candidate's weights from the training set."""
    run, index = scope.run, round_index(scope)
    if scope.recipe.train.objective == "grpo":
        return _take_trained(scope)
    by_round = {i: store.read_rows(run.round(i).folder / "examples.parquet", Example) for i in rounds_to_learn(scope)}
    problems = scope.train_problems
    section, given = scope.recipe.train, dict[str, Any]()
    rows: list[Example] = []
    pairs: list[Pair] = []
    if "sft" in section.stages:
        general, refused = general_rows(scope)
        solved, carrying = problems_with_solutions(scope)
        rows = training_set(scope.recipe, index, by_round, solved, kinds=run.path_kinds(problems), general=general)
        if refused:
            given["general_refused"] = refused
        if carrying:
            given["human_refused"] = carrying
    store.write_rows(scope.folder / "training_set.parquet", Example, rows)
    if "dpo" in section.stages:
        pairs, without = pairs_of(scope)
        store.write_rows(scope.folder / "pairs.parquet", Pair, pairs)
        given["pairs"] = {"pairs": len(pairs), "of_this_round": sum(p.round == index for p in pairs), "none": without}
    lessons: list[Lesson] = []
    if "privileged" in section.stages:
        lessons, without = read_lessons(scope)
        store.write_rows(scope.folder / "lessons.parquet", Lesson, lessons)
        given["lessons_none"] = without
    start, averaged = run.starting_generation(index), generations_to_average(scope)
    if averaged:
        given["averaged"] = [g.index for g in averaged]
    run.release_policy()
    metrics = train(
        scope,
        rows,
        run.model_path(start),
        key=key,
        seed=derive_seed(run.recipe.seed, "train", index),
        pairs=pairs,
        lessons=lessons,
        averaged=[run.model_path(g) for g in averaged],
    )
    origins = Counter(r.origin for r in rows)
    return {
        "parent": start.index,
        "rows": len(rows),
        "origins": dict(sorted(origins.items())),
        **given,
        "digest": model_digest(scope.folder / "model"),
        **metrics,
    }


def _take_trained(scope: Scope) -> dict[str, Any]:
    """The weights that an online round's sampling has left, as its candidate; there are no rows to train on."""
    info = scope.manifest.entries()["sample"].info
    store.write_rows(scope.folder / "training_set.parquet", Example, [])
    store.link(scope.folder / TRAINED, scope.folder / "model")
    metrics = info["learnt"]
    return {
        "parent": scope.run.starting_generation(round_index(scope)).index,
        "rows": metrics["completions"],
        "origins": {},
        "digest": model_digest(scope.folder / "model"),
        **metrics,
    }
