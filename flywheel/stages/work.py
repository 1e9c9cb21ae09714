"""The work of each stage: read rows from disk, call the pure function, write what it returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from flywheel import store
from flywheel.collect import collect, judge
from flywheel.diversity import distinct_paths
from flywheel.evaluate import measure
from flywheel.filter import filter_samples
from flywheel.fingerprint import derive_seed
from flywheel.measures.contamination import HeldOut
from flywheel.measures.passk import Counts, count, paired_differences
from flywheel.mix import training_set
from flywheel.models import model_digest
from flywheel.plan import Plan, conversation, plan_evaluation, plan_round
from flywheel.run import Run, Scope
from flywheel.stages.keys import round_index, rounds_to_learn, verifiers
from flywheel.stages.metrics import held_out_metrics
from flywheel.train import check, train
from flywheel.types import Dropped, Example, Outcome, Sample, Split, Verdict


def check_stage(scope: Scope, key: str) -> dict[str, Any]:
    """The training text of the first problem against its sampling text."""
    run = scope.run
    example = next((p for p in run.split(Split.TRAIN)), None)
    report = check(run, conversation(example, run.recipe.model.system) if example else [])
    store.write_json(scope.folder / "contract.json", report)
    return report


def plan_stage(scope: Scope, key: str) -> dict[str, Any]:
    """What the round asks, how often, how hot."""
    run, index = scope.run, round_index(scope)
    asked, policy = run.split(Split.TRAIN), run.policy_generation(index)
    plan = plan_round(run.recipe, index, policy.index, asked, run.rejected_before(index))
    store.write_json(scope.folder / "plan.json", plan.as_json())
    for change in plan.changes:
        run.reporter.message(f"{scope.label} · {change['what']}: {change['from']} → {change['to']} ({change['why']})")
    return {
        "problems": len(plan.problems),
        "samples": len(plan.problems) * plan.k,
        "generation": plan.generation,
        "changes": plan.changes,
    }


def _read_plan(scope: Scope) -> Plan:
    return Plan(**store.read_json(scope.folder / "plan.json"))


def sample_stage(scope: Scope, key: str) -> dict[str, Any]:
    """The plan's samples; their verification runs alongside."""
    plan = _read_plan(scope)
    # VERIFY's key cannot be known before this stage's own is; both follow from the same ingredients.
    verdict_key = store.stage_key({"samples": key, "verifiers": verifiers(scope)})
    samples = collect(scope, plan, files=("samples", "verdicts"), key=key, verdict_key=verdict_key)
    return {"samples": len(samples), "tokens": sum(s.tokens for s in samples)}


def verify_stage(scope: Scope, key: str) -> dict[str, Any]:
    """The verdicts of the round's samples, those that sampling left over included."""
    samples = store.read_rows(scope.folder / "samples.parquet", Sample)
    sample_key = scope.manifest.entries()["sample"].key
    verdict_key = store.stage_key({"samples": sample_key, "verifiers": verifiers(scope)})
    verdicts = judge(scope, samples, file="verdicts", key=verdict_key)
    outcomes = Counter(str(v.outcome) for v in verdicts.values())
    return {"samples": len(samples), **{str(o): outcomes[o] for o in Outcome}}


def filter_stage(scope: Scope, key: str) -> dict[str, Any]:
    """Examples, and everything else with the reason it was dropped."""
    run = scope.run
    samples = store.read_rows(scope.folder / "samples.parquet", Sample)
    verdicts = {v.sample_id: v for v in store.read_rows(scope.folder / "verdicts.parquet", Verdict)}
    asked = {s.problem_id for s in samples}
    kinds = run.path_kinds(p for p in run.problems if p.id in asked)
    held_out = None
    if run.recipe.filter.contamination:
        held_out = HeldOut(
            run.problems,
            share=run.recipe.filter.contamination_share,
            template_share=run.recipe.problems.template_share,
        )
    examples, dropped = filter_samples(
        samples,
        verdicts,
        run.problem_by_id,
        run.recipe.filter,
        system=run.recipe.model.system,
        kinds=kinds,
        held_out=held_out,
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


def train_stage(scope: Scope, key: str) -> dict[str, Any]:
    """The candidate's weights from the training set."""
    run, index = scope.run, round_index(scope)
    by_round = {i: store.read_rows(run.round(i).folder / "examples.parquet", Example) for i in rounds_to_learn(scope)}
    rows = training_set(scope.recipe, index, by_round, run.split(Split.TRAIN))
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


def evaluate_stage(scope: Scope, key: str) -> dict[str, Any]:
    """Base or candidate on dev and OOD problems, and what the round's own samples were like."""
    run = scope.run
    problems = run.split(Split.DEV, with_ood=True)
    plan = plan_evaluation(run.recipe, "dev", scope.generation, problems)
    samples, verdicts = _collect_and_judge(scope, plan, "dev")
    metrics = held_out_metrics(scope, samples, verdicts)
    store.write_json(scope.folder / "metrics.json", metrics)
    return {"samples": len(samples), "tokens": sum(s.tokens for s in samples), "pass_at": metrics["dev"]["pass_at"]}


def _collect_and_judge(scope: Scope, plan: Plan, name: str) -> tuple[list[Sample], dict[str, Verdict]]:
    run, files = scope.run, (f"{name}_samples", f"{name}_verdicts")
    model = run.model_digest(scope.model(plan.generation))
    # Test samples of a generation stay valid when another becomes the champion; so does their key.
    sample_key = store.stage_key({"plan": plan.as_json(), "model": model, "seed": run.recipe.seed})
    verdict_key = store.stage_key({"samples": sample_key, "verifiers": verifiers(scope)})
    samples = collect(scope, plan, files=files, key=sample_key, verdict_key=verdict_key)
    return samples, judge(scope, samples, file=files[1], key=verdict_key)


def finale_stage(scope: Scope, key: str) -> dict[str, Any]:
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
        measured = measure(samples, verdicts, run.recipe.evaluate, seed=run.recipe.seed, kinds=run.path_kinds(problems))
        counts[index] = count(samples, verdicts)
        tokens += measured["tokens"]
        if index == 0:
            metrics["test"]["base"] = measured
        if index == champion.index:
            metrics["test"]["champion"] = measured
    metrics["test"]["difference"] = paired_differences(
        counts[champion.index], counts[0], run.recipe.evaluate, seed=run.recipe.seed
    )
    store.write_json(scope.folder / "metrics.json", metrics)
    return {"champion": champion.index, "tokens": tokens, "difference": metrics["test"]["difference"]}
