"""The work of each stage: read rows from disk, call the pure function, write what it returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from flywheel import store
from flywheel.collect import collect, judge
from flywheel.demands import examples_of
from flywheel.diversity import distinct_paths
from flywheel.evaluate import measure
from flywheel.filter import filter_samples
from flywheel.fingerprint import derive_seed
from flywheel.fit import fit_scores
from flywheel.manifest import stage_key
from flywheel.measures.by_field import accuracy_by
from flywheel.measures.contamination import HeldOut
from flywheel.measures.passk import Counts, count, paired_differences
from flywheel.mix import check_mix, training_set
from flywheel.models import model_digest
from flywheel.online import sample_online
from flywheel.plan import Plan, conversation, plan_evaluation, plan_round, plan_sweep
from flywheel.prompt_files import read_paraphrases
from flywheel.run import Run
from flywheel.scope import Scope
from flywheel.stages.keys import (
    generations_to_average,
    held_out_keys,
    round_index,
    rounds_left_out,
    rounds_to_learn,
    verifiers,
)
from flywheel.stages.learn import general_rows, pairs_of, problems_with_solutions, read_lessons, take_trained
from flywheel.stages.metrics import held_out_metrics
from flywheel.standing import standing
from flywheel.sweep import balance_table
from flywheel.train import check, train
from flywheel.types import Dropped, Example, Lesson, Origin, Outcome, Pair, Sample, Split, Verdict
from flywheel.waves import saving


def check_stage(scope: Scope, key: str) -> dict[str, Any]:
    """The training text of the first problem against its sampling text."""
    run = scope.run
    check_mix(run.recipe.mix, run.split(Split.TRAIN))
    example = next((p for p in run.split(Split.TRAIN)), None)
    report = check(run, conversation(example, run.recipe.model.system) if example else [])
    store.write_json(scope.folder / "contract.json", report)
    return report


def sweep_stage(scope: Scope, key: str) -> dict[str, Any]:
    """Which temperature and threshold balance right and varied answers best, tried on a few problems."""
    run, index = scope.run, round_index(scope)
    section, kept = run.recipe.sampling.sweep, run.recipe.filter
    problems = scope.pool if section.split == "train" else run.split(Split(section.split))
    plan = plan_sweep(run.recipe, index, run.policy_generation(index).index, problems)
    samples, verdicts = _collect_and_judge(scope, plan, "sweep")
    kinds = run.path_kinds(problems)
    thresholds = section.min_scores or [kept.min_score]
    table = balance_table(samples, verdicts, wanted=section.wanted or kept.cap, min_scores=thresholds, kinds=kinds)
    store.write_json(scope.folder / "sweep.json", table)
    several = len(thresholds) > 1
    balance = {
        f"{row['temperature']:g}" + (f", score {row['min_score']:g}" if several else ""): row["balance"]
        for row in table
    }
    return {"samples": len(samples), "tokens": sum(s.tokens for s in samples), "balance": balance}


def plan_stage(scope: Scope, key: str) -> dict[str, Any]:
    """What the round asks, how often, how hot, in which words, and of whom."""
    run, index = scope.run, round_index(scope)
    sampling, problems = run.recipe.sampling, scope.pool
    plan = plan_round(
        run.recipe,
        index,
        run.policy_generation(index).index,
        problems,
        lineage=[g.index for g in run.generations() if g.index <= index and g.status in ("base", "accepted")],
        standing=standing(_judged_rounds(scope)) if sampling.budget.mode == "adaptive" or run.recipe.hints.k else {},
        sweep=store.read_json(scope.folder / "sweep.json") if sampling.sweep.temperatures else (),
        paraphrases=read_paraphrases(sampling.paraphrases, problems) if sampling.paraphrases else {},
        examples=examples_of(run.recipe, scope.train_problems) if sampling.few_shot.count else (),
        rejected=run.rejected_before(index),
        base_rows=0 not in rounds_left_out(scope),
    )
    store.write_json(scope.folder / "plan.json", plan.as_json())
    for change in plan.changes:
        run.reporter.message(f"{scope.label} · {change['what']}: {change['from']} → {change['to']} ({change['why']})")
    return {
        "problems": len(plan.problems),
        "samples": len(plan.problems) * plan.k,
        "generation": plan.generation,
        "changes": plan.changes,
    }


def _judged_rounds(scope: Scope) -> Iterator[tuple[list[Sample], dict[str, Verdict]]]:
    """Samples and verdicts of the rounds before this one, oldest first."""
    for index in range(round_index(scope)):
        folder = scope.run.round(index).folder
        verdicts = store.read_rows(folder / "verdicts.parquet", Verdict)
        yield store.read_rows(folder / "samples.parquet", Sample), {v.sample_id: v for v in verdicts}


def _read_plan(scope: Scope) -> Plan:
    return Plan.from_json(store.read_json(scope.folder / "plan.json"))


def sample_stage(scope: Scope, key: str) -> dict[str, Any]:
    """The plan's samples; their verification runs alongside."""
    plan = _read_plan(scope)
    if scope.run.recipe.train.objective == "grpo":
        samples, learnt = sample_online(scope, plan, key=key)
        return {"samples": len(samples), "tokens": sum(s.tokens for s in samples), "learnt": learnt}
    # VERIFY's key cannot be known before this stage's own is; both follow from the same ingredients.
    verdict_key = stage_key({"samples": key, "verifiers": verifiers(scope)})
    samples = collect(scope, plan, files=("samples", "verdicts"), key=key, verdict_key=verdict_key)
    others = Counter(s.origin for s in samples if s.origin != Origin.POLICY)
    return {
        "samples": len(samples),
        "tokens": sum(s.tokens for s in samples),
        **saving(plan, samples),
        **dict(sorted(others.items())),
    }


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
            run.frozen_problems,
            share=run.recipe.filter.contamination_share,
            template_share=run.recipe.problems.template_share,
        )
    fit, score = run.recipe.filter.fit, None
    if fit is not None:
        score = partial(fit_scores, scope, student=run.starting_generation(round_index(scope)), options=fit)
    examples, dropped = filter_samples(
        samples,
        verdicts,
        run.problem_by_id,
        _read_plan(scope).filtering(run.recipe.filter),
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


def train_stage(scope: Scope, key: str) -> dict[str, Any]:
    """The candidate's weights from the training set."""
    run, index = scope.run, round_index(scope)
    if scope.recipe.train.objective == "grpo":
        return take_trained(scope)
    by_round = {i: store.read_rows(run.round(i).folder / "examples.parquet", Example) for i in rounds_to_learn(scope)}
    problems = scope.train_problems
    section, given = scope.recipe.train, dict[str, Any]()
    rows: list[Example] = []
    pairs: list[Pair] = []
    if "sft" in section.stages:
        general, refused = general_rows(scope)
        solved, carrying = problems_with_solutions(scope)
        rows = training_set(scope.recipe, index, by_round, solved, kinds=run.path_kinds(problems), general=general)
        if refused:
            given["general_refused"] = refused
        if carrying:
            given["human_refused"] = carrying
    store.write_rows(scope.folder / "training_set.parquet", Example, rows)
    if "dpo" in section.stages:
        pairs, without = pairs_of(scope)
        store.write_rows(scope.folder / "pairs.parquet", Pair, pairs)
        given["pairs"] = {"pairs": len(pairs), "of_this_round": sum(p.round == index for p in pairs), "none": without}
    lessons: list[Lesson] = []
    if "privileged" in section.stages:
        lessons, without = read_lessons(scope)
        store.write_rows(scope.folder / "lessons.parquet", Lesson, lessons)
        given["lessons_none"] = without
    start, averaged = run.starting_generation(index), generations_to_average(scope)
    if averaged:
        given["averaged"] = [g.index for g in averaged]
    run.release_policy()
    metrics = train(
        scope,
        rows,
        run.model_path(start),
        key=key,
        seed=derive_seed(run.recipe.seed, "train", index),
        pairs=pairs,
        lessons=lessons,
        averaged=[run.model_path(g) for g in averaged],
    )
    origins = Counter(r.origin for r in rows)
    return {
        "parent": start.index,
        "rows": len(rows),
        "origins": dict(sorted(origins.items())),
        **given,
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
    files = (f"{name}_samples", f"{name}_verdicts")
    sample_key, verdict_key = held_out_keys(scope, plan)
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
        measured["by"] = accuracy_by(counts[index], run.problem_by_id, run.recipe.evaluate, seed=run.recipe.seed)
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
