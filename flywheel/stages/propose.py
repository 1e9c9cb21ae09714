"""The stage PROPOSE: new train problems before a round, and what was refused."""

from __future__ import annotations

from typing import Any

from flywheel import store, writing
from flywheel.errors import EngineError, StageError
from flywheel.policy import Completion
from flywheel.propose import REASONS, Selection, accuracy_by_value, scheduled_problems, scheduled_value, select
from flywheel.scope import Scope
from flywheel.stages.keys import previous_round, round_index, sections
from flywheel.types import Origin, Problem, Sample, Split, Verdict

Offer = tuple[list[Problem], list[tuple[str, Problem]], dict[str, Any]]
"""Problems on offer, those refused before anything is compared, and what `propose.json` says of them."""


def propose_files(scope: Scope) -> tuple[str, ...]:
    """What was proposed and refused, and what the policy wrote."""
    written = ("proposals.parquet",) if scope.run.recipe.propose.kind == "model" else ()
    return ("problems.parquet", "propose.json", *written)


def propose_settings(scope: Scope) -> dict[str, Any]:
    """What is proposed and how, where problems come from, and what counts as a copy of a held-out one."""
    recipe = scope.run.recipe
    share = {"contamination_share": recipe.filter.contamination_share}
    asked = sections("model", "policy")(scope) if recipe.propose.kind == "model" else {}
    return {"propose": recipe.propose.key(), "problems": recipe.problems.key(), "filter": share, **asked}


def propose_inputs(scope: Scope) -> dict[str, Any]:
    """The problems that the run began with, what stood before the round, and the weights that write."""
    run = scope.run
    inputs: dict[str, Any] = {"problems": run.facts["problems"]["sha256"], "before": previous_round(scope)}
    if run.recipe.propose.kind == "model":
        inputs["model"] = run.model_digest(run.policy_generation(round_index(scope)))
    return inputs


def propose_stage(scope: Scope, key: str) -> dict[str, Any]:
    """The round's new problems, none of which is known from before or from a held-out set.

    Raises StageError where nothing on offer is of use.
    """
    run, index = scope.run, round_index(scope)
    offered, useless, told = _written(scope, key) if run.recipe.propose.kind == "model" else _scheduled(scope)
    before = [p for i, problems in run.proposed_problems.items() if i < index for p in problems]
    asked = _own_train_problems(scope) + before
    found = select(offered, run.recipe, index, frozen=run.frozen_problems, asked=asked)
    selection = Selection(found.problems, useless + found.refused)
    if not selection.problems:
        raise StageError(f"{scope.label}: {_nothing_left(selection, told)}")
    told |= selection.as_json()
    store.write_rows(scope.folder / "problems.parquet", Problem, selection.problems)
    store.write_json(scope.folder / "propose.json", told)
    return {name: value for name, value in told.items() if name != "refusals"}


def _own_train_problems(scope: Scope) -> list[Problem]:
    return [p for p in scope.run.frozen_problems if p.split == Split.TRAIN and not p.ood]


def _scheduled(scope: Scope) -> Offer:
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
    return scheduled_problems(run.recipe, index, told["value"]), [], told


def _written(scope: Scope, key: str) -> Offer:
    """What the policy writes. It is shown the run's own problems alone, or it would drift from copy to copy."""
    rows = _drawn(scope, key)
    writer, good, useless = scope.run.recipe.propose.writer, list[Problem](), list[tuple[str, Problem]]()
    for row in rows:
        completion = Completion(row.id, 0, row.completion, row.finish_reason, row.tokens)
        problem, reason = writing.written_problem(completion, writer, row.id)
        if reason:
            useless.append((reason, problem))
        else:
            good.append(problem)
    told = {
        "kind": "model",
        "generation": rows[0].generation,
        "written": len(rows),
        "tokens": sum(r.tokens for r in rows),
    }
    return good, useless, told


def _drawn(scope: Scope, key: str) -> list[Sample]:
    """The completions that write problems, in order; what an earlier attempt finished is not asked for again."""
    run, index, file = scope.run, round_index(scope), scope.folder / "proposals.parquet"
    parts = store.Parts(file.with_suffix(".parts"), Sample, key)
    rows: dict[int, Sample] = {row.index: row for row in parts.read()}
    asked = writing.requests(run.recipe, index, _own_train_problems(scope), set(rows))
    total, generation = len(rows) + len(asked), run.policy_generation(index)
    pending: list[Sample] = []
    try:
        policy = run.policy(generation, resumed=len(rows)) if asked else None
        for (completion,) in policy.generate(asked) if policy else ():
            pending.append(_row(scope, completion, generation.index))
            if len(pending) >= run.recipe.sampling.chunk_problems:
                parts.append(pending)
                rows |= {row.index: row for row in pending}
                pending = []
                run.reporter.progress(f"{scope.label} · write problems", len(rows), total, "problems")
        parts.append(pending)
    except EngineError:
        run.release_policy()  # a retry must not meet the dead engine again
        raise
    rows |= {row.index: row for row in pending}
    if len(rows) != total:
        raise StageError(
            f"{scope.label}: the policy wrote {len(rows)} problems where {total} were asked for; see "
            f"{run.directory / 'logs'} and run the same command again"
        )
    ordered = [rows[number] for number in sorted(rows)]
    store.write_rows(file, Sample, ordered)
    return ordered


def _row(scope: Scope, completion: Completion, generation: int) -> Sample:
    number, index = int(completion.request_id), round_index(scope)
    writer = scope.run.recipe.propose.writer
    return Sample(
        id=f"w{index:03d}/{number:05d}",
        problem_id="",
        round=index,
        generation=generation,
        index=number,
        completion=completion.text,
        finish_reason=completion.finish_reason,
        tokens=completion.tokens,
        temperature=writer.temperature,
        variant=writer.instruction,
        origin=Origin.POLICY,
        logprob=completion.logprob,
    )


def _nothing_left(selection: Selection, told: dict[str, Any]) -> str:
    counts = selection.as_json()["refused"]
    why = "; ".join(f"{count} {REASONS[reason]}" for reason, count in counts.items())
    at = f" with {told['parameter']} = {told['value']}" if "parameter" in told else ""
    return f"no problem of those on offer{at} is of use ({why or 'none was offered'}); change [propose] for this round"
