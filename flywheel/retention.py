"""Retention: which weights of a run are deleted because nobody asks for them again."""

from __future__ import annotations

from flywheel import store
from flywheel.run import Run


def delete_unneeded_weights(run: Run) -> None:
    """Delete the mixtures that were not taken, and rejected candidates if `gate.delete_rejected` says so.

    Any call makes up for one that a kill cut short. Samples, verdicts and metrics stay, and `flywheel redo`
    makes the weights anew.
    """
    for scope in run.rounds():
        if "gate" not in scope.manifest.entries():
            continue
        generation = run.generation(scope.generation)
        for mixture in sorted(scope.folder.glob("repair/*/model")):
            if mixture != run.directory / generation.path:
                store.remove(mixture)
        replaced = generation.status == "rejected" or generation.alpha is not None
        if replaced and run.recipe.gate.delete_rejected:
            for weights in ("model", "trained"):
                store.remove(scope.folder / weights)
