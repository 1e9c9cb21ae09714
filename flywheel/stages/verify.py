"""The stage VERIFY: samples in, verdicts out."""

from __future__ import annotations

from collections import Counter
from typing import Any

from flywheel import store
from flywheel.collect import judge
from flywheel.manifest import stage_key
from flywheel.scope import Scope
from flywheel.stages.keys import verifiers
from flywheel.types import Origin, Outcome, Sample


def verify_stage(scope: Scope, key: str) -> dict[str, Any]:
    """The verdicts of the round's samples, those that sampling left over included."""
    samples = store.read_rows(scope.folder / "samples.parquet", Sample)
    sample_key = scope.manifest.entries()["sample"].key
    verdict_key = stage_key({"samples": sample_key, "verifiers": verifiers(scope)})
    verdicts = judge(scope, samples, file="verdicts", key=verdict_key)
    outcomes = Counter(str(v.outcome) for v in verdicts.values())
    second = [verdicts[s.id].outcome == Outcome.CORRECT for s in samples if s.origin == Origin.CORRECTED]
    counts = {"samples": len(samples), **{str(o): outcomes[o] for o in Outcome}}
    return counts | ({"second_attempts": len(second), "put_right": sum(second)} if second else {})
