"""How problems move between never solved, frontier and mastered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.measures.migration import LEVELS, level
from flywheel.measures.migration import migration as moved
from flywheel.report.chart import Chart, Series
from flywheel.report.held_out import dev_counts
from flywheel.types import Generation
from flywheel.view import RunView

NAMES = {"never": "never solved", "frontier": "frontier", "mastered": "mastered"}
"""The levels as the page calls them."""


def migration(run: RunView, generations: Sequence[Generation]) -> dict[str, Any] | None:
    """The shares of the levels in each generation, and who moved where; None where no problem was judged."""
    counts = {g.index: dev_counts(run, g) for g in generations}
    levels = {i: Counter(level(n, c) for n, c in of.values() if n) for i, of in counts.items()}
    if not any(levels.values()):
        return None
    chart = Chart(
        id="migration",
        title="Difficulty of the dev problems",
        kind="stack",
        x_title="generation",
        x=[_name(g) for g in generations],
        format="share",
        series=[Series(NAMES[name], [of[name] / max(of.total(), 1) for of in levels.values()]) for name in LEVELS],
        colours=("level-0", "level-1", "level-2"),
        note="Never solved: no completion was right. Mastered: all were. Frontier: what lies between.",
    )
    champion = run.champion().index
    tables = []
    if champion in counts and champion:
        tables.append(_table(f"dev, from the base to generation {champion}", moved(counts[0], counts[champion])))
    for generation in reversed(generations):
        if train := (generation.metrics.get("migration") or {}).get("train"):
            title = f"train, from earlier rounds to round {generation.index - 1}"
            tables.append(_table(title, train))
            break
    return {"chart": chart, "tables": [table for table in tables if table]}


def _table(title: str, moves: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Counts by level before (rows) and after (columns)."""
    if moves is None:
        return None
    rows = [{"from": NAMES[a], "to": [moves["counts"][a][b] for b in LEVELS]} for a in LEVELS]
    return {"title": title, "levels": [NAMES[name] for name in LEVELS], "rows": rows, "n_problems": moves["n_problems"]}


def _name(generation: Generation) -> str:
    return "base" if generation.index == 0 else f"{generation.index}{' (rejected)' * (generation.status == 'rejected')}"
