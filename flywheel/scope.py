"""Where a stage works: folder, manifest, recipe and problems of the base, of one round, or of the finale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel import store
from flywheel.adjust import applied
from flywheel.manifest import Manifest
from flywheel.recipe import Recipe
from flywheel.types import Generation, Problem, Split

if TYPE_CHECKING:
    from flywheel.run import Run


@dataclass(frozen=True)
class Scope:
    """Where a stage works: the base's evaluation, one round, or the finale."""

    run: Run
    phase: str
    """base | round | final"""
    round: int | None = None
    alpha: float | None = None
    """Where a rejected candidate is tried mixed with the champion: its share."""

    @property
    def folder(self) -> Path:
        """The folder that the stage's files and manifest lie in."""
        if self.round is None:
            return self.run.directory / self.phase
        folder = self.run.directory / f"rounds/{self.round:03d}"
        return folder if self.alpha is None else folder / f"repair/{self.alpha:g}"

    @property
    def manifest(self) -> Manifest:
        """What is done here."""
        return Manifest(self.folder)

    @property
    def generation(self) -> int:
        """The generation that is evaluated here: the base, or the round's candidate."""
        return 0 if self.round is None else self.round + 1

    @property
    def label(self) -> str:
        """`base`, `round 1`, `round 1 · mixture 0.5` or `final`, for people."""
        if self.round is None:
            return self.phase
        return f"round {self.round}" + ("" if self.alpha is None else f" · mixture {self.alpha:g}")

    @property
    def whole(self) -> Scope:
        """The round that a mixture belongs to; any other scope is itself."""
        return replace(self, alpha=None)

    @property
    def recipe(self) -> Recipe:
        """The run's recipe, with what the round's plan changed after a rejection."""
        plan = self.whole.folder / "plan.json"
        changes = store.read_json(plan).get("changes", []) if plan.is_file() else []
        return applied(self.run.recipe, changes)

    @property
    def train_problems(self) -> list[Problem]:
        """The train problems as they stand here: in a round, with what was proposed up to it and nothing later."""
        until = -1 if self.round is None else self.round
        proposed = (p for index, problems in self.run.proposed_problems.items() if index <= until for p in problems)
        return [*(p for p in self.run.frozen_problems if p.split == Split.TRAIN and not p.ood), *proposed]

    @property
    def pool(self) -> list[Problem]:
        """The train problems that a round may ask (`propose.ask`)."""
        section = self.run.recipe.propose
        if section.kind and section.ask == "new" and self.round is not None:
            return self.run.proposed_problems.get(self.round, [])
        return self.train_problems

    def model(self, generation: int) -> Generation:
        """A generation as this scope has it: a mixture stands in for the candidate while it is tried."""
        if self.alpha is None or generation != self.generation:
            return self.run.generation(generation)
        path = (self.folder / "model").relative_to(self.run.directory).as_posix()
        parent = self.run.policy_generation(generation - 1).index
        return Generation(generation, path, parent, "candidate", alpha=self.alpha)
