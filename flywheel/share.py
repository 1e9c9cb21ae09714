"""Share: take a stage's result from another run that made it under the same key, instead of making it again.

A key holds all that a result follows from, so whoever has the key has the result. The files are hard links where both
runs lie on one file system; that is safe because flywheel replaces files and never writes into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flywheel import store
from flywheel.loop import Do
from flywheel.manifest import stage_key
from flywheel.plan import plan_evaluation
from flywheel.run import Run
from flywheel.scope import Scope
from flywheel.stages import Stage, run_stage
from flywheel.stages.keys import held_out_keys
from flywheel.types import Sample, Split, Verdict

SHARED = "shared_with"
"""The field of a manifest entry's info that names the run which a result was taken from."""
REPAIR = "repair"
"""The folder of a round's mixtures, which have manifests of their own."""


def sharing(donors: Sequence[Run]) -> Do:
    """`run_stage` for `spin` that first looks whether one of `donors` has the stage's result under the same key."""

    def do(stage: Stage, scope: Scope) -> dict[str, Any]:
        for donor in donors:
            if stage.name == "finale":
                share_test_samples(scope, donor)
            elif take(stage, scope, donor):
                break
        return run_stage(stage, scope)

    return do


def take(stage: Stage, scope: Scope, donor: Run) -> bool:
    """Take a stage's files and manifest entry from the same place in `donor`; False where it has none of this key."""
    theirs = donor.baseline() if scope.round is None else donor.round(scope.round)
    entry = theirs.manifest.get(stage.name)
    if entry is None or scope.manifest.get(stage.name) is not None:
        return False
    if stage.name == "plan" and scope.round is not None and scope.run.rejected_before(scope.round):
        return False  # what it changes then follows from settings of other stages, which its key leaves out
    if entry.key != stage_key(stage.ingredients(scope)):
        return False
    for name in entry.files:
        store.link(theirs.folder / name, scope.folder / name)
    if stage.name == "gate" and (theirs.folder / REPAIR).is_dir():
        store.link(theirs.folder / REPAIR, scope.folder / REPAIR)  # the mixture that it took is the generation
    info = {**entry.info, SHARED: entry.info.get(SHARED, donor.directory.name)}
    scope.manifest.record(stage.name, replace(entry, info=info))
    for name in entry.files:  # of own work that was interrupted before the donor came this far
        store.remove((scope.folder / name).with_suffix(".parts"))
    return True


def share_test_samples(scope: Scope, donor: Run) -> None:
    """Lay the test samples that both runs have in common beside the finale as finished parts, which it goes on from."""
    theirs = donor.finale()
    if "finale" not in theirs.manifest.entries():
        return
    problems = scope.run.split(Split.TEST)
    for index in dict.fromkeys([0, scope.run.champion().index]):
        name = f"generation_{index:03d}"
        if not (theirs.folder / f"{name}_samples.parquet").exists():
            continue
        plan = plan_evaluation(scope.run.recipe, "test", index, problems)
        keys = held_out_keys(scope, plan)
        if keys != held_out_keys(theirs, plan_evaluation(donor.recipe, "test", index, donor.split(Split.TEST))):
            continue
        for file, row_type, key in zip((f"{name}_samples", f"{name}_verdicts"), (Sample, Verdict), keys, strict=True):
            if (scope.folder / f"{file}.parquet").exists():
                continue
            parts = store.Parts(scope.folder / f"{file}.parts", row_type, key)
            if not parts.read():
                parts.append(store.read_rows(theirs.folder / f"{file}.parquet", row_type))


def shared_stages(run: Run) -> list[str]:
    """What a run took from others: `base evaluate`, `round 0 sample`, …"""
    return [
        f"{scope.label} {name}"
        for scope in [run.baseline(), *run.rounds()]
        for name, entry in scope.manifest.entries().items()
        if SHARED in entry.info
    ]
