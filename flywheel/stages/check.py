"""The stage CHECK: the training text is the sampling text, told before any costly hour."""

from __future__ import annotations

from typing import Any

from flywheel import store
from flywheel.mix import check_mix
from flywheel.prompts import conversation
from flywheel.scope import Scope
from flywheel.train import check
from flywheel.types import Split


def check_stage(scope: Scope, key: str) -> dict[str, Any]:
    """The training text of the first problem against its sampling text."""
    run = scope.run
    check_mix(run.recipe.mix, run.split(Split.TRAIN))
    example = next((p for p in run.split(Split.TRAIN)), None)
    report = check(run, conversation(example, run.recipe.model.system) if example else [])
    store.write_json(scope.folder / "contract.json", report)
    return report
