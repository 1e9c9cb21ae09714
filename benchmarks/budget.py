"""Tokens for each kept example: an adaptive budget against a fixed K, on the demo recipe's model and problems.

    python benchmarks/budget.py [--recipe demo] [--rounds 2] [--set section.field=value …] [--directory FOLDER]

Runs the recipe with `sampling.budget.mode = "adaptive"` for some rounds. Before each round is sampled, its policy (the
same weights, by the same engine) answers the same problems with the fixed budget of `sampling.k`, is judged by the same
verifier and filtered by the same rules. So each round compares two ways of spending on one model; what is kept from the
fixed budget is counted and not trained on. Kept examples are distinct: the recipe's filter drops equal paths. Sampled
tokens are counted, prompts are not. Held-out problems are asked once each and the gate is off.

Prints a line a round and the ratio over all rounds. Run again with the same `--directory`, it goes on where it stopped.

    python benchmarks/budget.py --replay RUN [--set sampling.budget.field=value …]

takes a finished run with a fixed budget and samples nothing: it goes through the waves with the completions that stand
there, of which an adaptive budget would have seen the first ones. Both budgets then have the same luck, and it takes
seconds; problems cannot get more than the run's K. The models of later rounds are those that the fixed budget trained.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from flywheel import store
from flywheel.collect import collect, judge
from flywheel.filter import filter_samples
from flywheel.loop import spin
from flywheel.manifest import stage_key
from flywheel.plan import budget_of
from flywheel.plan_types import Plan
from flywheel.recipe import apply_overrides, load_recipe, validate
from flywheel.run import Run
from flywheel.sample import wave_ids
from flywheel.scope import Scope
from flywheel.stages import PLAN, Stage, run_stage
from flywheel.standing import standing
from flywheel.types import Dropped, Example, Outcome, Sample, Verdict
from flywheel.waves import Ledger, legs, next_wave

QUICK = [
    "sampling.budget.mode=adaptive",
    "evaluate.samples=1",
    "evaluate.resamples=100",
    "stop.target_pass_1=none",
]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="section.field=value")
    parser.add_argument("--directory", type=Path, help="keep the run here; default: a folder that goes at the end")
    parser.add_argument("--replay", type=Path, metavar="RUN", help="a finished run whose completions are used again")
    options = parser.parse_args()
    if options.replay:
        report(replayed(Run.load(options.replay), options.set))
        return
    settings = [*QUICK, f"stop.max_rounds={options.rounds}", "gate.enabled=false", *options.set]
    recipe = load_recipe(options.recipe, settings)
    with (
        tempfile.TemporaryDirectory(prefix="flywheel-budget-") as scratch,
        Run.open(recipe, options.directory or Path(scratch) / "run") as run,
    ):
        spin(run, do=also_fixed)
        report([comparison(scope) for scope in run.rounds()])


def also_fixed(stage: Stage, scope: Scope) -> dict[str, Any]:
    """A stage of the run; after a plan, the same round under a fixed budget as well. No finale."""
    if stage.name == "finale":
        return {}
    info = run_stage(stage, scope)
    if stage is PLAN and not (scope.folder / "fixed.json").exists():
        store.write_json(scope.folder / "fixed.json", fixed_budget(scope))
    return info


def fixed_budget(scope: Scope) -> dict[str, int]:
    """What `sampling.k` completions of every problem of a planned round cost and give."""
    run = scope.run
    plan = replace(Plan.from_json(store.read_json(scope.folder / "plan.json")), budget=None)
    key = stage_key({"plan": plan.as_json(), "model": run.model_digest(run.generation(plan.generation))})
    samples = collect(scope, plan, files=("fixed_samples", "fixed_verdicts"), key=key, verdict_key=key)
    return counted(scope, samples, judge(scope, samples, file="fixed_verdicts", key=key))


def counted(scope: Scope, samples: list[Sample], verdicts: dict[str, Verdict]) -> dict[str, int]:
    """Tokens, completions, right ones, problems solved, and what the filter keeps."""
    run = scope.run
    kept: tuple[list[Example], list[Dropped]] = filter_samples(
        samples, verdicts, run.problem_by_id, run.recipe.filter, system=run.recipe.model.system
    )
    right = [s for s in samples if verdicts[s.id].outcome == Outcome.CORRECT]
    return {
        "samples": len(samples),
        "tokens": sum(s.tokens for s in samples),
        "right": len(right),
        "solved": len({s.problem_id for s in right}),
        "kept": len(kept[0]),
    }


def replayed(run: Run, settings: list[str]) -> list[dict[str, dict[str, int]]]:
    """Both budgets of each round of a finished run with a fixed budget, from the completions that it drew."""
    raw = run.recipe.model_dump(mode="json")
    recipe = validate(apply_overrides(raw, ["sampling.budget.mode=adaptive", *settings]))
    rounds = []
    history: list[tuple[list[Sample], dict[str, Verdict]]] = []
    for scope in run.rounds():
        samples = store.read_rows(scope.folder / "samples.parquet", Sample)
        verdicts = {v.sample_id: v for v in store.read_rows(scope.folder / "verdicts.parquet", Verdict)}
        plan = Plan.from_json(store.read_json(scope.folder / "plan.json"))
        if plan.decided_by_verdicts:
            raise SystemExit(
                f"{run.directory} has an adaptive budget or hints already; replay a run with a fixed budget"
            )
        adaptive = replace(plan, budget=budget_of(recipe), standing=standing(history))
        chosen = first_ones(adaptive, samples, verdicts)
        history.append((chosen, verdicts))
        rounds.append({"fixed": counted(scope, samples, verdicts), "adaptive": counted(scope, chosen, verdicts)})
    return rounds


def first_ones(plan: Plan, samples: list[Sample], verdicts: dict[str, Verdict]) -> list[Sample]:
    """Those of a round's completions that the waves of an adaptive budget ask for."""
    by_id = {s.id: s for s in samples}
    [leg] = legs(plan)
    ledger = Ledger()
    chosen: list[Sample] = []
    while wave := next_wave(plan, leg, plan.problems, ledger, begun=bool(chosen)):
        drawn = [by_id[sample_id] for sample_id in wave_ids(plan, wave)]
        ledger.ask(wave)
        ledger.enter(drawn, verdicts)
        chosen += drawn
    return chosen


def comparison(scope: Scope) -> dict[str, dict[str, int]]:
    """Both budgets of a finished round, counted alike."""
    samples = store.read_rows(scope.folder / "samples.parquet", Sample)
    verdicts = {v.sample_id: v for v in store.read_rows(scope.folder / "verdicts.parquet", Verdict)}
    return {"fixed": store.read_json(scope.folder / "fixed.json"), "adaptive": counted(scope, samples, verdicts)}


def report(rounds: list[dict[str, dict[str, int]]]) -> None:
    """One line a round and budget, then both over all rounds, and their ratio."""
    totals = {name: dict(sum((Counter(r[name]) for r in rounds), Counter())) for name in ("fixed", "adaptive")}
    for label, row in [*((f"round {i}", r) for i, r in enumerate(rounds)), ("all", totals)]:
        for name in ("fixed", "adaptive"):
            c = row[name]
            print(
                f"{label:8} {name:9} {c['samples']:6,} completions {c['tokens']:8,} tokens {c['solved']:5} solved "
                f"{c['kept']:5} kept {c['tokens'] / c['kept']:7.1f} tokens a kept example",
                flush=True,
            )
        costs = {name: row[name]["tokens"] / row[name]["kept"] for name in row}
        kept = row["adaptive"]["kept"] / row["fixed"]["kept"]
        print(
            f"{label:8} ratio     {costs['adaptive'] / costs['fixed']:.3f}, with {kept:.1%} of the examples", flush=True
        )
    print(json.dumps({"rounds": rounds, "all": totals}))


if __name__ == "__main__":
    main()
