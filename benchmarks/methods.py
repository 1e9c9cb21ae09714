"""The methods on the demo's model and problems with equal sampling budgets: one table of what each came to.

    python benchmarks/methods.py [--recipes rft,rest_em,…] [--directory DIR] [--set section.field=value …] [--json]

Each recipe may ask every train problem 24 times over all its rounds, hints and temperature searches included
(tests/test_methods.py holds them to that); an adaptive budget may ask less. Each run is an ordinary one in a folder of
its own below the directory (runs/methods), so the same command goes on where it was stopped, and adds recipes to those
that are done. Stages with equal keys are linked from the runs before, so the base is measured once.

The table has, for the base and each champion, test pass@1 and pass@8 with bootstrap intervals over problems, and the
paired difference to the base; the tokens sampled in rounds, searches included; the rows trained on; and the seconds of
the rounds' stages. Measuring the base and the finale, alike for all, is in neither. One seed each: an interval says how
sure a figure is for these problems and this model, not what another seed would give.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from flywheel import store
from flywheel.console import Console
from flywheel.figures import duration, share, short, whole
from flywheel.loop import spin
from flywheel.recipe import load_recipe
from flywheel.report.cost import tokens
from flywheel.run import Run
from flywheel.share import sharing

METHODS = ["rft", "rest_em", "star", "raft", "bstar", "dart", "dart_difficulty", "self_consistency", "self_correction"]
CONTROLS = ["no_verifier", "random_filter", "one_round", "grpo"]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--recipes", default=",".join(METHODS + CONTROLS), metavar="A,B")
    parser.add_argument("--directory", type=Path, default=Path("runs/methods"))
    parser.add_argument("--set", action="append", default=[], metavar="section.field=value", help="for all runs")
    parser.add_argument("--json", action="store_true", help="the rows as JSON on stdout; progress goes to stderr")
    options = parser.parse_args()
    names = list(dict.fromkeys(name.strip() for name in options.recipes.split(",") if name.strip()))
    recipes = {
        name: load_recipe(name, options.set) for name in names
    }  # a wrong name is told before hours of the others
    rows: list[dict[str, Any]] = []
    done: list[Run] = []
    with Console(sys.stderr) as reporter:
        for name, recipe in recipes.items():
            reporter.message(f"{name}: {recipe.description}")
            with Run.open(recipe, options.directory / name, reporter=reporter) as run:
                spin(run, do=sharing(done))
            done.append(Run.load(options.directory / name))
            if not rows:
                rows.append(base_row(done[0]))
            rows.append(row(name, done[-1]))
            store.write_json(options.directory / "methods.json", rows)
    print(json.dumps(rows, indent=2) if options.json else "\n".join(table(rows)))


def row(name: str, run: Run) -> dict[str, Any]:
    """What a run came to on the test split, and what it cost."""
    entries = [scope.manifest.entries() for scope in run.rounds()]
    test = store.read_json(run.finale().folder / "metrics.json")["test"]
    return {
        "name": name,
        "rounds": sum("gate" in e for e in entries),
        "champion": run.champion().index,
        "samples": sum(e[s].info["samples"] for e in entries for s in ("sweep", "sample") if s in e),
        "tokens": sum(tokens(e, "sampled") or 0 for e in entries),
        "rows": sum(e["train"].info["rows"] for e in entries if "train" in e),
        "seconds": round(sum(entry.seconds for e in entries for entry in e.values()), 1),
        "pass_at": test["champion"]["pass_at"],
        "intervals": test["champion"]["intervals"],
        "against_base": test["difference"],
        "ended": run.ended(),
    }


def base_row(run: Run) -> dict[str, Any]:
    """The base of a run on the test split."""
    base = store.read_json(run.finale().folder / "metrics.json")["test"]["base"]
    costs = dict.fromkeys(("rounds", "champion", "samples", "tokens", "rows"), 0)
    shown = {"pass_at": base["pass_at"], "intervals": base["intervals"], "against_base": {}}
    return {"name": "base", **costs, "seconds": 0.0, **shown, "ended": None}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as a Markdown table, as docs/recipes has it."""
    k = max((key for r in rows for key in r["pass_at"]), key=int)
    ks = list(dict.fromkeys(["1", k]))
    heads = ["recipe", "rounds", "samples", "tokens", "rows", "time"]
    for k in ks:
        heads += [f"test pass@{k}", "− base"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for r in rows:
        cells = [r["name"], str(r["rounds"]), whole(r["samples"]), short(r["tokens"]), whole(r["rows"])]
        cells.append(duration(r["seconds"]))
        for k in ks:
            low, high = r["intervals"].get(k, (None, None))
            cells.append(f"{share(r['pass_at'].get(k))} [{share(low)}, {share(high)}]")
            d = r["against_base"].get(k)
            cells.append(f"{d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" if d else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
