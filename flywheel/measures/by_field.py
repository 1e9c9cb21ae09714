"""Accuracy apart, by a field that problems carry: their difficulty, their length, where they come from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from flywheel.measures.passk import Counts, interval, values
from flywheel.recipe import EvaluateSection
from flywheel.types import Problem


def accuracy_by(
    counts: Counts, problems: Mapping[str, Problem], section: EvaluateSection, *, seed: int
) -> dict[str, Any] | None:
    """pass@1 of the problems with each value of `meta[section.by]`; None where nothing is asked for.

    Returns the field's name and, in the values' order, for each: value, n_problems, pass_1, interval [low, high].
    Problems without the field are left out, and a value whose problems could not be judged is absent.
    """
    if section.by is None:
        return None
    groups: dict[str | float, Counts] = defaultdict(dict)
    for problem_id, pair in counts.items():
        value = problems[problem_id].meta.get(section.by)
        if isinstance(value, (str, int, float)):
            groups[value][problem_id] = pair
    rows = [_group(value, groups[value], section, seed=seed) for value in _ordered(groups)]
    return {"field": section.by, "values": [row for row in rows if row is not None]}


def _group(value: str | float, counts: Counts, section: EvaluateSection, *, seed: int) -> dict[str, Any] | None:
    right = values(counts, sorted(counts), 1)
    if not len(right):
        return None
    low, high = interval(right, section, seed=seed)
    return {"value": value, "n_problems": len(right), "pass_1": float(right.mean()), "interval": [low, high]}


def _ordered(found: Iterable[str | float]) -> list[str | float]:
    """Numbers by size, then words by the alphabet."""
    return sorted(found, key=lambda value: (isinstance(value, str), value if isinstance(value, str) else "", value))
