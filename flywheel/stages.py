"""The stages: one table that ties files to functions, and `run_stage`, which runs one and keeps its work.

The functions that do the thinking (plan, sample, filter, mix, evaluate, gate) are pure and live in
modules of those names; what is here reads their rows from disk and writes what they return.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flywheel import store
from flywheel.collect import collect, judge
from flywheel.diversity import distinct_paths
from flywheel.errors import RunError
from flywheel.evaluate import Counts, count, ladder, measure, paired_difference
from flywheel.filter import filter_samples
from flywheel.fingerprint import derive_seed
from flywheel.gate import decide
from flywheel.mix import rounds_kept, training_set
from flywheel.models import model_digest
from flywheel.plan import Plan, conversation, plan_evaluation, plan_round
from flywheel.recipe import differing_fields
from flywheel.run import Run, Scope
from flywheel.train import check, train
from flywheel.types import Dropped, Example, Generation, Outcome, Sample, Split, Verdict


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
    key = store.stage_key(ingredients)
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
        files = {name: store.describe(scope.folder / name) for name in stage.outputs(scope)}
        manifest.record(
            stage.name,
            store.Entry(
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
    if stage.name == "gate" or (stage.name == "evaluate" and scope.phase == "base"):
        run.save_generations()
        for row in run.generation_rows():
            # A run that goes on never comes back to the rounds it has decided: their rows follow the base's.
            if row["generation"] == scope.generation or (scope.phase == "base" and row["status"] != "candidate"):
                run.reporter.row(row)


# -- the work of each stage ------------------------------------------------------------------------


def _check(scope: Scope, key: str) -> dict[str, Any]:
    run = scope.run
    example = next((p for p in run.split(Split.TRAIN)), None)
    report = check(run, conversation(example, run.recipe.model.system) if example else [])
    store.write_json(scope.folder / "contract.json", report)
    return report


def _plan(scope: Scope, key: str) -> dict[str, Any]:
    run, index = scope.run, _round(scope)
    plan = plan_round(run.recipe, index, run.policy_generation(index).index, run.split(Split.TRAIN))
    store.write_json(scope.folder / "plan.json", plan.as_json())
    return {"problems": len(plan.problems), "samples": len(plan.problems) * plan.k, "generation": plan.generation}


def _read_plan(scope: Scope) -> Plan:
    return Plan(**store.read_json(scope.folder / "plan.json"))


def _sample(scope: Scope, key: str) -> dict[str, Any]:
    plan = _read_plan(scope)
    # VERIFY's key cannot be known before this stage's own is; both follow from the same ingredients.
    verdict_key = store.stage_key({"samples": key, "verifiers": _verifiers(scope)})
    samples = collect(scope, plan, files=("samples", "verdicts"), key=key, verdict_key=verdict_key)
    return {"samples": len(samples), "tokens": sum(s.tokens for s in samples)}


def _verify(scope: Scope, key: str) -> dict[str, Any]:
    samples = store.read_rows(scope.folder / "samples.parquet", Sample)
    sample_key = scope.manifest.entries()["sample"].key
    verdict_key = store.stage_key({"samples": sample_key, "verifiers": _verifiers(scope)})
    verdicts = judge(scope, samples, file="verdicts", key=verdict_key)
    outcomes = Counter(str(v.outcome) for v in verdicts.values())
    return {"samples": len(samples), **{str(o): outcomes[o] for o in Outcome}}


def _filter(scope: Scope, key: str) -> dict[str, Any]:
    run = scope.run
    samples = store.read_rows(scope.folder / "samples.parquet", Sample)
    verdicts = {v.sample_id: v for v in store.read_rows(scope.folder / "verdicts.parquet", Verdict)}
    examples, dropped = filter_samples(
        samples, verdicts, run.problem_by_id, run.recipe.filter, system=run.recipe.model.system
    )
    store.write_rows(scope.folder / "examples.parquet", Example, examples)
    store.write_rows(scope.folder / "dropped.parquet", Dropped, dropped)
    return {
        "examples": len(examples),
        "problems": len({e.problem_id for e in examples}),
        "distinct_paths": distinct_paths(samples, verdicts),
        "dropped": dict(sorted(Counter(d.reason for d in dropped).items())),
    }


def _train(scope: Scope, key: str) -> dict[str, Any]:
    run, index = scope.run, _round(scope)
    wanted = {*rounds_kept(run.recipe, index), *([0] if run.recipe.mix.base else [])}
    by_round = {i: store.read_rows(run.round(i).folder / "examples.parquet", Example) for i in sorted(wanted)}
    rows = training_set(run.recipe, index, by_round, run.split(Split.TRAIN))
    store.write_rows(scope.folder / "training_set.parquet", Example, rows)
    start = run.starting_generation(index)
    run.release_policy()
    seed = derive_seed(run.recipe.seed, "train", index)
    metrics = train(scope, rows, run.model_path(start), key=key, seed=seed)
    origins = Counter(r.origin for r in rows)
    return {
        "parent": start.index,
        "rows": len(rows),
        "origins": dict(sorted(origins.items())),
        "digest": model_digest(scope.folder / "model"),
        **metrics,
    }


def _evaluate(scope: Scope, key: str) -> dict[str, Any]:
    """Base or candidate on dev and OOD problems."""
    run = scope.run
    problems = run.split(Split.DEV, with_ood=True)
    plan = plan_evaluation(run.recipe, "dev", scope.generation, problems)
    samples, verdicts = _collect_and_judge(scope, plan, "dev")
    metrics: dict[str, Any] = {"dev": {}, "ood": {}}
    for name in ["dev", *[s.label for s in run.recipe.ood]]:
        rows = [s for s in samples if (run.problem_by_id[s.problem_id].ood or "dev") == name]
        measured = measure(rows, verdicts, run.recipe.evaluate, seed=run.recipe.seed)
        if name == "dev":
            metrics["dev"] = measured
        else:
            metrics["ood"][name] = measured
    store.write_json(scope.folder / "metrics.json", metrics)
    return {"samples": len(samples), "tokens": sum(s.tokens for s in samples), "pass_at": metrics["dev"]["pass_at"]}


def _collect_and_judge(scope: Scope, plan: Plan, name: str) -> tuple[list[Sample], dict[str, Verdict]]:
    run, files = scope.run, (f"{name}_samples", f"{name}_verdicts")
    model = run.model_digest(run.generation(plan.generation))
    # Test samples of a generation stay valid when another becomes the champion; so does their key.
    sample_key = store.stage_key({"plan": plan.as_json(), "model": model, "seed": run.recipe.seed})
    verdict_key = store.stage_key({"samples": sample_key, "verifiers": _verifiers(scope)})
    samples = collect(scope, plan, files=files, key=sample_key, verdict_key=verdict_key)
    return samples, judge(scope, samples, file=files[1], key=verdict_key)


def _finale(scope: Scope, key: str) -> dict[str, Any]:
    """Base and champion on the untouched test split; the champion first, whose engine may be warm."""
    run = scope.run
    champion = run.champion()
    problems = run.split(Split.TEST)
    metrics: dict[str, Any] = {"champion": champion.index, "test": {"base": {}, "champion": {}, "difference": {}}}
    counts: dict[int, Counts] = {}
    tokens = 0
    for index in dict.fromkeys([champion.index, 0]):
        plan = plan_evaluation(run.recipe, "test", index, problems)
        samples, verdicts = _collect_and_judge(scope, plan, f"generation_{index:03d}")
        measured = measure(samples, verdicts, run.recipe.evaluate, seed=run.recipe.seed)
        counts[index] = count(samples, verdicts)
        tokens += measured["tokens"]
        if index == 0:
            metrics["test"]["base"] = measured
        if index == champion.index:
            metrics["test"]["champion"] = measured
    for k in ladder(run.recipe.evaluate.samples):
        metrics["test"]["difference"][str(k)] = paired_difference(
            counts[champion.index], counts[0], k, run.recipe.evaluate, seed=run.recipe.seed
        )
    store.write_json(scope.folder / "metrics.json", metrics)
    return {"champion": champion.index, "tokens": tokens, "difference": metrics["test"]["difference"]}


def _gate(scope: Scope, key: str) -> dict[str, Any]:
    run, index = scope.run, _round(scope)
    champion = run.policy_generation(index)
    decision = decide(
        run.counts(scope),
        run.counts(_evaluated(run, champion)),
        run.counts(run.baseline()),
        k=run.recipe.evaluate.samples,
        gate=run.recipe.gate,
        evaluate=run.recipe.evaluate,
        seed=run.recipe.seed,
    )
    store.write_json(scope.folder / "gate.json", {**decision.as_json(), "champion_before": champion.index})
    return {"accepted": decision.accepted, "reasons": decision.reasons}


# -- keys ------------------------------------------------------------------------------------------


def _round(scope: Scope) -> int:
    if scope.round is None:
        raise ValueError(f"{scope.label} is not a round")
    return scope.round


def _evaluated(run: Run, generation: Generation) -> Scope:
    return run.baseline() if generation.index == 0 else run.round(generation.index - 1)


def _key_of(scope: Scope, stage: str) -> str | None:
    entry = scope.manifest.get(stage)
    return entry.key if entry else None


def _verifiers(scope: Scope) -> dict[str, Any]:
    """Identities of the verifiers in use, as they are now: an edited verifier makes a new key."""
    run = scope.run
    names = {p.verifier or run.recipe.verify.verifier for p in run.problems}
    return {name: run.verifier_identity(name) for name in sorted(names)}


def _sections(*names: str) -> Callable[[Scope], dict[str, Any]]:
    def settings(scope: Scope) -> dict[str, Any]:
        return {name: getattr(scope.run.recipe, name).key() for name in names}

    return settings


def _previous_gate(scope: Scope) -> str | None:
    index = _round(scope)
    return _key_of(scope.run.round(index - 1), "gate") if index else _key_of(scope.run.baseline(), "evaluate")


def _train_inputs(scope: Scope) -> dict[str, Any]:
    run, index = scope.run, _round(scope)
    rounds = {*rounds_kept(run.recipe, index), *([0] if run.recipe.mix.base else [])}
    return {
        "examples": {str(i): _key_of(run.round(i), "filter") for i in sorted(rounds)},
        "start": run.model_digest(run.starting_generation(index)),
    }


def _evaluate_inputs(scope: Scope) -> dict[str, Any]:
    run = scope.run
    return {
        "problems": run.facts["problems"]["sha256"],
        "model": run.model_digest(run.generation(scope.generation)),
        "verifiers": _verifiers(scope),
    }


def _sampling_settings(scope: Scope) -> dict[str, Any]:
    """How held-out problems are asked; `sampling` counts only where it is shared with rounds."""
    settings = _sections("model", "policy", "evaluate")(scope)
    sampling = scope.run.recipe.sampling
    return {**settings, "sampling": {"max_tokens": sampling.max_tokens, "stop": sampling.stop}}


def _finale_files(scope: Scope) -> tuple[str, ...]:
    measured = sorted({0, scope.run.champion().index})
    names = [f"generation_{g:03d}_{rows}.parquet" for g in measured for rows in ("samples", "verdicts")]
    return ("metrics.json", *names)


CHECK = Stage(
    "check", 1, lambda _: ("contract.json",), _sections("model"),
    lambda s: {"model": s.run.facts["base"]["digest"], "problems": s.run.facts["problems"]["sha256"]}, _check,
)  # fmt: skip
PLAN = Stage(
    "plan", 1, lambda _: ("plan.json",), _sections("sampling"),
    lambda s: {"problems": s.run.facts["problems"]["sha256"], "before": _previous_gate(s)}, _plan,
)  # fmt: skip
SAMPLE = Stage(
    "sample", 1, lambda _: ("samples.parquet",), _sections("model", "policy", "sampling"),
    lambda s: {"plan": _key_of(s, "plan"), "model": s.run.model_digest(s.run.policy_generation(_round(s)))}, _sample,
)  # fmt: skip
VERIFY = Stage(
    "verify", 1, lambda _: ("verdicts.parquet",), _sections("verify"),
    lambda s: {"samples": _key_of(s, "sample"), "verifiers": _verifiers(s)}, _verify,
)  # fmt: skip
FILTER = Stage(
    "filter", 1, lambda _: ("examples.parquet", "dropped.parquet"), _sections("filter"),
    lambda s: {"verdicts": _key_of(s, "verify")}, _filter,
)  # fmt: skip
TRAIN = Stage(
    "train", 1, lambda _: ("training_set.parquet", "model"), _sections("data", "mix", "train"), _train_inputs, _train
)
EVALUATE = Stage(
    "evaluate", 1, lambda _: ("dev_samples.parquet", "dev_verdicts.parquet", "metrics.json"), _sampling_settings,
    _evaluate_inputs, _evaluate,
)  # fmt: skip
GATE = Stage(
    "gate", 1, lambda _: ("gate.json",), _sections("gate", "evaluate"),
    lambda s: {
        "candidate": _key_of(s, "evaluate"),
        "champion": _key_of(_evaluated(s.run, s.run.policy_generation(_round(s))), "evaluate"),
        "base": _key_of(s.run.baseline(), "evaluate"),
    }, _gate,
)  # fmt: skip
FINALE = Stage(
    "finale", 1, _finale_files, _sampling_settings,
    lambda s: {
        "problems": s.run.facts["problems"]["sha256"],
        "champion": s.run.model_digest(s.run.champion()),
        "verifiers": _verifiers(s),
    }, _finale,
)  # fmt: skip

ROUND: tuple[Stage, ...] = (PLAN, SAMPLE, VERIFY, FILTER, TRAIN, EVALUATE, GATE)
"""The stages of a round, in order."""
STAGES: dict[str, Stage] = {s.name: s for s in (CHECK, *ROUND, FINALE)}
"""All stages by name."""
