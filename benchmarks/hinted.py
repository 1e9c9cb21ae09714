"""What a hint does to the answers: samples written with the answer in sight beside those written without.

    python benchmarks/hinted.py RUN [RUN …]

Reads finished runs whose recipe has hints (`star`) and samples nothing. For all rounds of each run together: how long
completions are, how often they voice doubt (whole-word markers per 1,000 tokens, see docs/metrics.md), how many paths a
solved problem has, and what the filter's guard dropped, for unguided and for hinted samples, of all, of the right ones
and of those that became examples. Then each run's champion on the test split, where it has been measured.

Hinted samples answer the problems that no unguided one solved, so they differ in difficulty too: a run without the
guard (`--set filter.hinted_share=1.0 --set filter.hinted_markers=0`), beside one with it, shows what it is worth.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import polars as pl

from flywheel import store
from flywheel.figures import share
from flywheel.measures.markers import MARKERS, markers
from flywheel.measures.paths import distinct, path_counts
from flywheel.run import Run
from flywheel.types import Dropped, Example, Origin, Sample, Verdict

GUARD = ("few_markers", "over_hinted_share")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    for directory in parser.parse_args().runs:
        run = Run.load(directory)
        print(f"\n{directory}: {run.recipe.description}")
        print("\n".join(table(run)))
        print("\n".join(outcome(run)))


def table(run: Run) -> list[str]:
    """Unguided and hinted rows side by side, as Markdown."""
    frame = ledger(run)
    heads = ["samples", "rows", "tokens", "markers a 1,000 tokens", "with a marker", "paths a solved problem"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, rows in (("all", frame), ("right", frame.filter("correct")), ("examples", frame.filter("kept"))):
        for who in ("unguided", "hinted"):
            lines.append(f"| {name}, {who} | {row(rows.filter(pl.col('hinted') == (who == 'hinted')))} |")
    return lines


def row(rows: pl.DataFrame) -> str:
    """One line's figures."""
    if rows.is_empty():
        return "0 | | | | "
    said = markers(rows["completion"], int(rows["tokens"].sum()))
    doubts = pl.col("completion").str.to_lowercase().str.contains(rf"\b({'|'.join(MARKERS)})\b")
    length, voiced = rows.select(pl.col("tokens").mean(), doubts.mean()).row(0)
    ways = distinct(path_counts(rows, {}))
    a_problem = f"{sum(ways.values()) / len(ways):.2f}" if ways else ""
    return f"{rows.height:,} | {length:.1f} | {said['density']:.2f} | {share(voiced)} | {a_problem}"


def ledger(run: Run) -> pl.DataFrame:
    """All samples of all rounds with how they were judged and what became of them."""
    rows = []
    for scope in run.rounds():
        if "filter" not in scope.manifest.entries():
            continue
        verdicts = {v.sample_id: v for v in store.read_rows(scope.folder / "verdicts.parquet", Verdict)}
        kept = {e.sample_id for e in store.read_rows(scope.folder / "examples.parquet", Example)}
        rows += [
            {
                "problem_id": s.problem_id,
                "completion": s.completion,
                "tokens": s.tokens,
                "hinted": s.origin == Origin.HINTED,
                "correct": verdicts[s.id].outcome == "correct",
                "kept": s.id in kept,
            }
            for s in store.read_rows(scope.folder / "samples.parquet", Sample)
        ]
    return pl.DataFrame(rows)


def outcome(run: Run) -> list[str]:
    """What the guard dropped, and the champion on the test split."""
    reasons: Counter[str] = Counter()
    for scope in run.rounds():
        if "filter" in scope.manifest.entries():
            reasons.update(d.reason for d in store.read_rows(scope.folder / "dropped.parquet", Dropped))
    told = ", ".join(f"{reasons[name]} as {name}" for name in GUARD)
    lines = [f"the guard dropped {told}"]
    file = run.finale().folder / "metrics.json"
    if file.is_file():
        difference = store.read_json(file)["test"]["difference"]
        for k, d in difference.items():
            if k in ("1", max(difference, key=int)):
                lines.append(f"test pass@{k} − base: {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]")
    return lines


if __name__ == "__main__":
    main()
