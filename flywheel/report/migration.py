"""How problems move between never solved, frontier and mastered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.report.chart import Chart, Series
from flywheel.types import Generation
from flywheel.view import RunView

LEVELS = ("never solved", "frontier", "mastered")
"""No completion right, some right, all right."""

Counts = Mapping[str, Sequence[int]]


def level(judged: int, correct: int) -> str:
    """Where a problem stands with `correct` right ones among `judged` completions."""
    return LEVELS[0] if correct == 0 else LEVELS[2] if correct == judged else LEVELS[1]


def dev_counts(run: RunView, generation: Generation) -> Counts:
    """Judged and correct completions of each dev problem: from the metrics, or from the rows in older runs."""
    counts: Counts | None = generation.metrics["dev"].get("counts")
    if counts is None:
        scope = run.baseline() if generation.index == 0 else run.round(generation.index - 1)
        counts = run.counts(scope)["dev"]
    return counts


def migration(run: RunView, generations: Sequence[Generation]) -> dict[str, Any] | None:
    """Shares of the levels in each generation, and who moved where between base and champion; None with no problems."""
    levels = {g.index: {p: level(n, c) for p, (n, c) in dev_counts(run, g).items() if n} for g in generations}
    if not any(levels.values()):
        return None
    shares = [Counter(levels[g.index].values()) for g in generations]
    totals = [max(len(levels[g.index]), 1) for g in generations]
    chart = Chart(
        id="migration",
        title="Difficulty of the dev problems",
        kind="stack",
        x_title="generation",
        x=[_name(g) for g in generations],
        format="share",
        series=[
            Series(name, [count[name] / total for count, total in zip(shares, totals, strict=True)]) for name in LEVELS
        ],
        colours=("level-0", "level-1", "level-2"),
        note="Never solved: no completion was right. Mastered: all were. Frontier: what lies between.",
    )
    champion = run.champion().index
    moves = None
    if champion in levels and champion:
        pairs = Counter((levels[0][p], levels[champion][p]) for p in levels[0].keys() & levels[champion].keys())
        moves = [{"from": a, "to": [pairs[a, b] for b in LEVELS]} for a in LEVELS]
    return {"chart": chart, "levels": LEVELS, "moves": moves, "champion": champion}


def _name(generation: Generation) -> str:
    return "base" if generation.index == 0 else f"{generation.index}{' (rejected)' * (generation.status == 'rejected')}"
