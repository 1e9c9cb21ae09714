"""Fit: how well examples suit the model that will be trained on them."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.recipe import FitOptions
from flywheel.scope import Scope
from flywheel.training.likelihood import instruction_following_difficulty
from flywheel.types import Example, Generation


def fit_scores(
    scope: Scope, examples: Sequence[Example], *, student: Generation, options: FitOptions
) -> list[float | None]:
    """The instruction-following difficulty of each example for `student`, the generation that training starts from.

    None for examples that training leaves out as too long. The engine makes room on the device first.
    Raises StageError where the child process fails.
    """
    run = scope.run
    run.release_policy()
    label = f"{scope.label} · fit"
    return instruction_following_difficulty(
        examples,
        model_path=run.model_path(student),
        model=run.recipe.model,
        max_length=run.recipe.train.max_length,
        batch_tokens=options.batch_tokens,
        log=run.directory / "logs" / f"fit-{scope.round:03d}.log",
        pid_dir=run.directory / "pids",
        on_progress=lambda done, total: run.reporter.progress(label, done, total, "batches"),
    )
