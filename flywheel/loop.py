"""The method on one screen: sample, verify, train on what was right; repeat. Neither Prefect nor torch here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flywheel.run import Run
from flywheel.scope import Scope
from flywheel.stages import (
    CHECK,
    EVALUATE,
    FILTER,
    FINALE,
    GATE,
    PLAN,
    PROPOSE,
    SAMPLE,
    SWEEP,
    TRAIN,
    VERIFY,
    Stage,
    run_stage,
)
from flywheel.types import Generation

Do = Callable[[Stage, Scope], dict[str, Any]]


def spin(run: Run, *, rounds: int | None = None, do: Do = run_stage) -> Generation:
    """Sample, verify, filter, train on what was right; repeat. Return the champion.

    Goes on from whatever stands on disk. `rounds` bounds how many rounds this call works on (a nightly
    schedule gives 1); the recipe's `stop.max_rounds` bounds the run, however often it is called.
    """
    do(CHECK, run.baseline())     # the training text is the sampling text, before any costly hour
    do(EVALUATE, run.baseline())  # the base on dev and OOD problems
    for rnd in run.remaining_rounds(at_most=rounds):  # never past stop.max_rounds
        if run.stop_reason():
            break
        if run.recipe.propose.kind:
            do(PROPOSE, rnd)  # new problems, harder by schedule or written by the policy
        if run.recipe.sampling.sweep.temperatures:
            do(SWEEP, rnd) # policy at several temperatures -> how well each balances right and varied
        do(PLAN, rnd)      # history -> what to ask, how often, how hot
        do(SAMPLE, rnd)    # policy -> samples           (verification runs alongside, chunk by chunk)
        do(VERIFY, rnd)    # samples -> verdicts
        do(FILTER, rnd)    # right, varied, within the cap -> examples; everything else -> dropped, with a reason
        if run.stop_reason():
            break          # nothing was right, so there is nothing to train on
        do(TRAIN, rnd)     # examples -> candidate model
        do(EVALUATE, rnd)  # candidate on dev and OOD problems -> metrics
        do(GATE, rnd)      # accept: the candidate becomes champion and policy; reject: roll back
    if run.ended() and run.has_test():
        do(FINALE, run.finale())  # base and champion on the untouched test split
    return run.champion()
