"""Problems solved: how many train problems a right completion was found for, round by round and so far."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.report.chart import Chart, Series
from flywheel.types import Outcome
from flywheel.view import RunView


def solved_by_round(run: RunView) -> list[dict[str, Any]]:
    """Of each judged round: problems asked, those with a right completion in it, and those with one so far.

    "So far" counts from round 0 on, whatever became of a round's candidate: a right completion stays right.
    """
    rows: list[dict[str, Any]] = []
    so_far: set[str] = set()
    for scope in run.rounds():
        if "verify" not in scope.manifest.entries():
            break
        table = pq.read_table(scope.folder / "verdicts.parquet", columns=["problem_id", "outcome"])
        right = table.filter(pc.equal(table["outcome"], Outcome.CORRECT.value))
        solved = set(right["problem_id"].unique().to_pylist())
        so_far |= solved
        asked = len(table["problem_id"].unique())
        rows.append({"round": scope.round, "asked": asked, "solved": len(solved), "so_far": len(so_far)})
    return rows


def solved_chart(rows: list[dict[str, Any]]) -> Chart | None:
    """The problems solved over rounds; None before a second round is judged."""
    if len(rows) < 2:
        return None
    return Chart(
        id="solved",
        title="Train problems solved",
        kind="lines",
        x_title="round",
        x=[row["round"] for row in rows],
        format="count",
        series=[
            Series("so far", [row["so_far"] for row in rows]),
            Series("in the round", [row["solved"] for row in rows]),
        ],
        note=f"Of {max(row['asked'] for row in rows):,} asked; solved is a problem with a right completion.",
    )
