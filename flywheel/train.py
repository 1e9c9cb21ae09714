"""Train: a candidate model from examples, through the backend that the recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flywheel import store, training
from flywheel.run import Run
from flywheel.scope import Scope
from flywheel.training import contract
from flywheel.types import Example, Lesson, Message, Pair


def train(
    scope: Scope,
    rows: Sequence[Example],
    start: Path,
    *,
    key: str,
    seed: int,
    pairs: Sequence[Pair] = (),
    lessons: Sequence[Lesson] = (),
    averaged: Sequence[Path] = (),
) -> dict[str, Any]:
    """Train `rows`, `pairs` or `lessons` from the weights in `start` into the scope's `model` folder; return metrics.

    The models in `averaged` are averaged in (`train.average`).

    Checkpoints lie in `train.parts` until the stage is done. Those of another key are deleted, so a
    changed recipe never goes on from them.
    """
    run = scope.run
    work = scope.folder / "train.parts"
    store.Parts(work, Example, key)
    label = f"{scope.label} · train"
    metrics = training.train(
        list(rows),
        pairs=pairs,
        lessons=lessons,
        model_path=start,
        output=scope.folder / "model",
        work=work,
        section=scope.recipe.train,
        model=run.recipe.model,
        seed=seed,
        log=run.directory / "logs" / f"train-{scope.round:03d}.log",
        pid_dir=run.directory / "pids",
        averaged=averaged,
        on_progress=lambda done, total: run.reporter.progress(label, done, total, "steps"),
    )
    store.remove(work)
    return metrics


def check(run: Run, messages: list[Message]) -> dict[str, Any]:
    """Check, before the first round, that what is trained on is what is sampled (see `training.contract`)."""
    base = run.model_path(run.generation(0))
    log, pid_dir = run.directory / "logs" / "contract.log", run.directory / "pids"
    return contract.check_contract(base, run.recipe.model, messages, log=log, pid_dir=pid_dir)
