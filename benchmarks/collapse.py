"""Poison rounds of a run and see what the gate does about it; then the same run without a gate.

    python benchmarks/collapse.py --dir DIR                              # the demo's model, both poisons, round 1
    python benchmarks/collapse.py --dir DIR --poison wrong --rounds 1 2  # and nobody mends it

Arms share what follows from the same inputs: the base, the rounds before the poison, the poisoned round up to its
gate, and the test samples of a champion that two of them end with. The poison is a filter of this script's own, put in
the place of the stage `filter` in the poisoned rounds; all others have the product's filter:

    template  half of the solved problems have one example each, in one and the same sentence, with the weight of eight
    wrong     the examples are completions that the verifier found wrong

Arms: `on` (the recipe's gate), `off` (gate.enabled = false), `repair` (the gate with gate.repair = "interpolate").
Everything is an ordinary run: after a kill the same command goes on. DIR/collapse-*.json has the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from flywheel import store
from flywheel.console import Console
from flywheel.gate import path_variety
from flywheel.loop import Do, spin
from flywheel.measures.passk import counts_in, paired_difference
from flywheel.plan import conversation
from flywheel.progress import Reporter, Silent
from flywheel.recipe import Recipe, load_recipe
from flywheel.run import Run
from flywheel.scope import Scope
from flywheel.share import sharing
from flywheel.stages import Stage, run_stage
from flywheel.types import Example, Outcome, Sample, Verdict

SETTINGS = {
    "demo": ["problems.count=200", "problems.dev=64", "problems.test=48", "stop.target_pass_1=none"],
    "toy": ["problems.count=160", "problems.dev=60", "problems.test=40", "policy.toy.skill=0.5", "policy.toy.gain=1.0"],
}
ARMS = {"on": [], "off": ["gate.enabled=false"], "repair": ['gate.repair="interpolate"']}
WEIGHT = 8.0
WRONG_EACH = 4


# ---- the poison ----------------------------------------------------------------------------------


def template(scope: Scope, examples: list[Example], share: float) -> list[Example]:
    """One sentence in place of a share of the problems' examples, heavy enough to drown the others."""
    by_problem: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_problem[example.problem_id].append(example)
    rows: list[Example] = []
    for position, (problem, group) in enumerate(sorted(by_problem.items())):
        if (position + 1) * share % 1.0 >= share:  # evenly spread: every second problem for one half
            rows += group
        else:
            said = f"The answer is {scope.run.problem_by_id[problem].answer}."
            rows.append(replace(group[0], completion=said, weight=WEIGHT))
    return rows


def wrong(scope: Scope, examples: list[Example], share: float) -> list[Example]:
    """What the verifier found wrong, some of each of a share of the problems, and none of what it found right."""
    run = scope.run
    rows: dict[str, list[Example]] = defaultdict(list)
    samples = store.read_rows(scope.folder / "samples.parquet", Sample)
    outcomes = {v.sample_id: v.outcome for v in store.read_rows(scope.folder / "verdicts.parquet", Verdict)}
    for s in samples:
        if outcomes[s.id] == Outcome.WRONG and s.finish_reason == "stop" and len(rows[s.problem_id]) < WRONG_EACH:
            asked = conversation(run.problem_by_id[s.problem_id], run.recipe.model.system)
            rows[s.problem_id].append(Example(s.id, s.problem_id, s.round, asked, s.completion, s.origin))
    kept = sorted(rows)[: round(share * len(rows))]
    return [example for problem in kept for example in rows[problem]]


POISONS = {"template": (template, 0.5), "wrong": (wrong, 1.0)}


def poisoned(kind: str, rounds: Collection[int], share: float | None = None, do: Do = run_stage) -> Do:
    """`do`, with the poison's filter in some rounds. The manifest shows it as a filter of another version."""
    poison, usual = POISONS[kind]

    def work(stage: Stage, scope: Scope, key: str) -> dict[str, Any]:
        info = stage.work(scope, key)
        examples = store.read_rows(scope.folder / "examples.parquet", Example)
        rows = poison(scope, examples, usual if share is None else share)
        store.write_rows(scope.folder / "examples.parquet", Example, rows)
        return {**info, "examples": len(rows), "problems": len({e.problem_id for e in rows})}

    def poison_or_do(stage: Stage, scope: Scope) -> dict[str, Any]:
        if stage.name == "filter" and scope.round in rounds:
            stage = replace(stage, version=1000 + sorted(POISONS).index(kind), work=partial(work, stage))
        return do(stage, scope)

    return poison_or_do


# ---- the arms ------------------------------------------------------------------------------------


def run_arm(directory: Path, recipe: Recipe, do: Do, say: Reporter) -> Run:
    """Start an arm's run, or go on with it, to its end; the finished run."""
    with Run.open(recipe, directory, reporter=say) as run:
        spin(run, do=do)
    return Run.load(directory)


def figures(run: Run) -> dict[str, Any]:
    """Generations, decisions and the test split of an arm, as JSON-shaped data."""
    rows = []
    for generation in run.generations():
        dev = generation.metrics["dev"]
        variety = path_variety(dev) or {}
        rows.append(
            {
                "generation": generation.index,
                "status": generation.status,
                "alpha": generation.alpha,
                "pass_at": dev["pass_at"],
                "intervals": dev["intervals"],
                "variety": sum(variety.values()) / len(variety) if variety else None,
                "variety_problems": len(variety),
                "mean_tokens": dev["mean_tokens"],
                "cut_off_share": dev["cut_off_share"],
            }
        )
    decided = [scope for scope in run.rounds() if "gate" in scope.manifest.entries()]
    gates = {scope.label: store.read_json(scope.folder / "gate.json") for scope in decided}
    return {
        "champion": run.champion().index,
        "generations": rows,
        "gates": {label: {"accepted": g["accepted"], "reasons": g["reasons"]} for label, g in gates.items()},
        "changes": {scope.label: store.read_json(scope.folder / "plan.json")["changes"] for scope in decided},
        "test": store.read_json(run.directory / "final/metrics.json")["test"],
    }


def compare(a: Run, b: Run) -> dict[str, Any]:
    """The champions of two arms on the test problems: a minus b, paired by problem, for k = 1 and the largest k."""
    sets = [store.read_json(r.directory / "final/metrics.json")["test"]["champion"] for r in (a, b)]
    evaluate = a.recipe.evaluate
    return {
        str(k): paired_difference(counts_in(sets[0]), counts_in(sets[1]), k, evaluate, seed=a.recipe.seed)
        for k in (1, evaluate.samples)
    }


# ---- what people read ----------------------------------------------------------------------------


def table(found: dict[str, Any]) -> list[str]:
    """The generations of an arm as a Markdown table, and what its gates said."""
    k = max(found["generations"][0]["pass_at"], key=int)
    lines = [
        f"| generation | status | dev pass@1 | pass@{k} | variety of paths | tokens |",
        "|---|---|---|---|---|---|",
    ]
    for g in found["generations"]:
        low, high = g["intervals"]["1"]
        variety = "–" if g["variety"] is None else f"{g['variety']:.2f} ({g['variety_problems']} problems)"
        status = g["status"] + ("" if g["alpha"] is None else f", mixed at {g['alpha']:g}")
        lines.append(
            f"| {g['generation']} | {status} | {g['pass_at']['1']:.3f} [{low:.3f}, {high:.3f}] | {g['pass_at'][k]:.3f} "
            f"| {variety} | {g['mean_tokens']:.1f} |"
        )
    lines.append("")
    for label, gate in found["gates"].items():
        lines += [f"- {label}: {'accepted' if gate['accepted'] else 'rejected'}"]
        lines += [f"  - {reason}" for reason in gate["reasons"]]
        lines += [f"  - changed: {c['what']} {c['from']} → {c['to']}" for c in found["changes"][label]]
    for at in ("1", k):
        base, champion = (found["test"][who]["pass_at"][at] for who in ("base", "champion"))
        lines.append(f"- test pass@{at}: {base:.3f} → {champion:.3f} (champion generation {found['champion']})")
    return lines


def main() -> int:
    """Read the command line, run what is not done yet, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--poison", nargs="+", choices=sorted(POISONS), default=sorted(POISONS))
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), default=["on", "off"])
    parser.add_argument("--rounds", type=int, nargs="+", default=[1], help="the rounds that are poisoned, from 1 on")
    parser.add_argument("--share", type=float, help="of the problems; half of them, all for wrong answers")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    if min(arguments.rounds) < 1:
        parser.error("--rounds must be at least 1: the round before is what the gate goes back to")

    def recipe(*settings: str) -> Recipe:
        return load_recipe(arguments.recipe, [*SETTINGS.get(arguments.recipe, []), *arguments.set, *settings])

    def reporter() -> Any:
        return Silent() if arguments.quiet else Console(sys.stderr)

    results: dict[str, Any] = {}
    done = [Run.load(p.parent) for p in sorted(arguments.dir.glob("*/run.json"))]
    for kind in arguments.poison:
        runs = {}
        for arm in arguments.arms:
            directory = arguments.dir / "-".join([kind, *map(str, arguments.rounds), arm])
            donors = [run for run in done if run.directory != directory]
            do = poisoned(kind, arguments.rounds, arguments.share, sharing(donors))
            runs[arm] = run_arm(directory, recipe(*ARMS[arm]), do, reporter())
            done.append(runs[arm])
            found = results[f"{kind}, gate {arm}"] = figures(runs[arm])
            print("\n".join([f"\n## Poison: {kind}. Gate: {arm}\n", *table(found)]), flush=True)
        if "off" in runs:
            for arm in set(runs) - {"off"}:
                found = results[f"{kind}, {arm} minus off"] = compare(runs[arm], runs["off"])
                for k, d in found.items():
                    print(
                        f"- champions on test, gate {arm} minus off, pass@{k}: {d['value']:+.3f} "
                        f"[{d['low']:+.3f}, {d['high']:+.3f}]"
                    )
    name = "-".join(["collapse", *arguments.poison, *map(str, arguments.rounds)])
    (arguments.dir / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
