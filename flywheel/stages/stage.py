"""A stage: its key, its files, its work; and `run_stage`, which runs one and keeps what it made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flywheel import store
from flywheel.card import write_card
from flywheel.errors import RunError
from flywheel.manifest import Entry, describe, stage_key
from flywheel.recipe import differing_fields
from flywheel.retention import delete_unneeded_weights
from flywheel.scope import Scope


@dataclass(frozen=True)
class Stage:
    """A step of the loop. `settings` and `inputs` make its key, `work` makes its files and returns counts.

    Raise `version` when the same inputs give other rows than before.
    """

    name: str
    version: int
    outputs: Callable[[Scope], tuple[str, ...]]
    settings: Callable[[Scope], dict[str, Any]]
    inputs: Callable[[Scope], dict[str, Any]]
    work: Callable[[Scope, str], dict[str, Any]]

    def ingredients(self, scope: Scope) -> dict[str, Any]:
        """All that the stage's result follows from."""
        return {
            "stage": self.name,
            "version": self.version,
            "settings": self.settings(scope),
            "seed": scope.run.recipe.seed,
            "inputs": self.inputs(scope),
        }


def run_stage(stage: Stage, scope: Scope) -> dict[str, Any]:
    """Run a stage unless its manifest entry says that it is done; return its counts.

    Raises RunError where it was done with other ingredients, naming them. The one exception is the
    finale, which follows from the champion and is made anew when another generation has become it.
    """
    manifest, report = scope.manifest, scope.run.reporter
    ingredients = stage.ingredients(scope)
    key = stage_key(ingredients)
    entry = manifest.get(stage.name)
    if entry is not None and entry.key == key:
        _tell(stage, scope, "kept", entry.info)
        return entry.info
    if entry is not None and scope.phase != "final":
        place = "" if scope.round is None else f" --round {scope.round}"
        raise RunError(
            f"{stage.name} of {scope.label} in {scope.run.directory} was made with other inputs: "
            f"{', '.join(differing_fields(entry.ingredients, ingredients))}. "
            f"`flywheel redo {stage.name} {scope.run.directory}{place}` makes it anew"
        )
    report.stage(stage.name, scope.round, "start", {})
    with store.disk_errors(scope.folder):
        scope.folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        info = stage.work(scope, key)
        files = {name: describe(scope.folder / name) for name in stage.outputs(scope)}
        manifest.record(
            stage.name,
            Entry(
                key=key,
                ingredients=ingredients,
                files=files,
                info=info,
                seconds=round(time.monotonic() - started, 3),
                finished=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
        )
    for leftover in scope.folder.glob("*.parts"):
        if leftover.with_suffix(".parquet").name in files:
            store.remove(leftover)
    _tell(stage, scope, "done", info)
    return info


def _tell(stage: Stage, scope: Scope, state: str, info: dict[str, Any]) -> None:
    run = scope.run
    run.reporter.stage(stage.name, scope.round, state, info)
    if stage.name == "propose":
        run.look_at_problems_again()
    if stage.name == "gate" or (stage.name == "evaluate" and scope.phase == "base"):
        run.save_generations()
        delete_unneeded_weights(run)
        for row in run.generation_rows():
            # A run that goes on never comes back to the rounds it has decided: their rows follow the base's.
            if row["generation"] == scope.generation or (scope.phase == "base" and row["status"] != "candidate"):
                run.reporter.row(row)
    if stage.name in ("gate", "finale"):
        write_card(run)
