"""Difficulty migration: which problems a model never solves, sometimes solves, always solves, before and after."""

from __future__ import annotations

from typing import Any

from flywheel.measures.passk import Counts

LEVELS = ("never", "frontier", "mastered")
"""None of a problem's judged completions was right, some were, or all."""


def level(n: int, c: int) -> str:
    """The level of a problem with c right completions among n. Raises ValueError where nothing was judged."""
    if not 0 <= c <= n or n == 0:
        raise ValueError(f"{c} right among {n} judged completions; needs 0 <= c <= n and n >= 1")
    return "never" if c == 0 else "mastered" if c == n else "frontier"


def migration(before: Counts, after: Counts) -> dict[str, Any] | None:
    """Where the problems that both have went, or None where they share none.

    `counts[a][b]` problems went from level a to level b, `shares` are the same over all of them, `before` and
    `after` count the levels by themselves.
    """
    both = sorted(p for p in before.keys() & after.keys() if before[p][0] and after[p][0])
    if not both:
        return None
    moved = {a: dict.fromkeys(LEVELS, 0) for a in LEVELS}
    for problem in both:
        moved[level(*before[problem])][level(*after[problem])] += 1
    return {
        "n_problems": len(both),
        "counts": moved,
        "shares": {a: {b: times / len(both) for b, times in row.items()} for a, row in moved.items()},
        "before": {a: sum(moved[a].values()) for a in LEVELS},
        "after": {b: sum(moved[a][b] for a in LEVELS) for b in LEVELS},
    }
