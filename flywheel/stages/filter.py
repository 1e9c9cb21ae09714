"""The stage FILTER: samples and verdicts in, examples out; everything else is dropped, with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from flywheel import store
from flywheel.diversity import distinct_paths
from flywheel.filter import filter_samples
from flywheel.fit import fit_scores
from flywheel.measures.contamination import HeldOut
from flywheel.run import Run
from flywheel.scope import Scope
from flywheel.stages.keys import key_of, round_index
from flywheel.stages.learn import held_out_text
from flywheel.stages.plan import read_plan
from flywheel.types import Dropped, Example, Sample, Verdict


def filter_inputs(scope: Scope) -> dict[str, Any]:
    """The verdicts, and the model to be trained where examples must fit it."""
    run = scope.run
    student = run.starting_generation(round_index(scope)) if run.recipe.filter.fit else None
    asked: dict[str, Any] = (
        {} if student is None else {"student": run.model_digest(student), "max_length": run.recipe.train.max_length}
    )
    if run.recipe.correction.k:
        asked["correction"] = run.recipe.correction.template  # an example is the whole conversation
    return {"verdicts": key_of(scope, "verify"), **asked}


def filter_stage(scope: Scope, key: str) -> dict[str, Any]:
    """Examples, and everything else with the reason it was dropped."""
    run = scope.run
    samples = store.read_rows(scope.folder / "samples.parquet", Sample)
    verdicts = {v.sample_id: v for v in store.read_rows(scope.folder / "verdicts.parquet", Verdict)}
    asked = {s.problem_id for s in samples}
    kinds = run.path_kinds(p for p in run.problems if p.id in asked)
    held_out = held_out_text(run)
    fit, score = run.recipe.filter.fit, None
    if fit is not None:
        score = partial(fit_scores, scope, student=run.starting_generation(round_index(scope)), options=fit)
    examples, dropped = filter_samples(
        samples,
        verdicts,
        run.problem_by_id,
        read_plan(scope).filtering(run.recipe.filter),
        system=run.recipe.model.system,
        seed=run.recipe.seed,
        kinds=kinds,
        held_out=held_out,
        score=score,
        correction=run.recipe.correction.template,
    )
    store.write_rows(scope.folder / "examples.parquet", Example, examples)
    store.write_rows(scope.folder / "dropped.parquet", Dropped, dropped)
    return {
        "examples": len(examples),
        "problems": len({e.problem_id for e in examples}),
        "distinct_paths": distinct_paths(samples, verdicts, kinds),
        "dropped": dict(sorted(Counter(d.reason for d in dropped).items())),
        "contamination": held_out and _contamination(run, held_out, samples, dropped),
    }


def _contamination(
    run: Run, held_out: HeldOut, samples: Sequence[Sample], dropped: Sequence[Dropped]
) -> dict[str, Any]:
    """How many examples were refused for what they carry, and of which sets."""
    refused = {d.sample_id for d in dropped if d.reason == "contaminated"}
    found = [held_out.carried(run.problem_by_id[s.problem_id], s.completion) for s in samples if s.id in refused]
    return {"refused": len(refused), "by": dict(sorted(Counter(str(name) for name in found).items()))}
