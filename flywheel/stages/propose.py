"""The stage PROPOSE: new train problems before a round, and what was refused."""

from __future__ import annotations

from typing import Any

from flywheel import store
from flywheel.errors import StageError
from flywheel.propose import REASONS, Selection, accuracy_by_value, scheduled_problems, scheduled_value, select
from flywheel.run import Scope
from flywheel.stages.keys import round_index
from flywheel.types import Problem, Split, Verdict


def propose_stage(scope: Scope, key: str) -> dict[str, Any]:
    """The round's new problems, none of which is known from before or from a held-out set.

    Raises StageError where nothing on offer is of use.
    """
    run, index = scope.run, round_index(scope)
    offered, told = _scheduled(scope)
    before = [p for i, problems in run.proposed_problems.items() if i < index for p in problems]
    asked = [p for p in run.frozen_problems if p.split == Split.TRAIN and not p.ood] + before
    selection = select(offered, run.recipe, index, frozen=run.frozen_problems, asked=asked)
    if not selection.problems:
        raise StageError(f"{scope.label}: {_nothing_left(selection, told)}")
    told |= selection.as_json()
    store.write_rows(scope.folder / "problems.parquet", Problem, selection.problems)
    store.write_json(scope.folder / "propose.json", told)
    return {name: value for name, value in told.items() if name != "refusals"}


def _scheduled(scope: Scope) -> tuple[list[Problem], dict[str, Any]]:
    run, index, section = scope.run, round_index(scope), scope.run.recipe.propose
    assert section.parameter is not None
    told: dict[str, Any] = {"kind": "schedule", "parameter": section.parameter}
    accuracy = None
    if section.advance == "mastered":
        measured = run.evaluation_of(run.policy_generation(index))
        verdicts = store.read_rows(measured.folder / "dev_verdicts.parquet", Verdict)
        accuracy = accuracy_by_value(section.parameter, run.problem_by_id, verdicts)
        told["accuracy"] = {str(value): share for value, share in accuracy.items()}
    told["value"] = scheduled_value(section, index, accuracy)
    return scheduled_problems(run.recipe, index, told["value"]), told


def _nothing_left(selection: Selection, told: dict[str, Any]) -> str:
    counts = selection.as_json()["refused"]
    why = "; ".join(f"{count} {REASONS[reason]}" for reason, count in counts.items())
    at = f" with {told['parameter']} = {told['value']}" if "parameter" in told else ""
    return f"no problem of those on offer{at} is of use ({why or 'none was offered'}); change [propose] for this round"
