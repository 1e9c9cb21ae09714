"""Problems solved so far only grow, and a problem counts once however often it is solved."""

from __future__ import annotations

from flywheel import store
from flywheel.loop import spin
from flywheel.recipe import load_recipe
from flywheel.report.gather import view
from flywheel.report.solved import solved_by_round, solved_chart
from flywheel.run import Run
from flywheel.types import Verdict

SMALL = ["problems.count=20", "problems.dev=4", "problems.test=0", "evaluate.samples=1", "evaluate.resamples=100"]


def test_solved_problems_are_counted_once_over_rounds(tmp_path):
    asked = load_recipe("toy", [*SMALL, "sampling.k=2", "stop.max_rounds=3", "stop.plateau=none", "gate.enabled=false"])
    with Run.open(asked, tmp_path / "run") as run:
        spin(run)
    run = Run.load(tmp_path / "run")
    rows, so_far = solved_by_round(run), set()
    assert [row["round"] for row in rows] == list(range(len(rows))) and len(rows) > 1
    for row in rows:
        verdicts = store.read_rows(run.round(row["round"]).folder / "verdicts.parquet", Verdict)
        solved = {v.problem_id for v in verdicts if v.outcome == "correct"}
        so_far |= solved
        assert row == {"round": row["round"], "asked": 16, "solved": len(solved), "so_far": len(so_far)}
    shown = view(run)
    assert shown["solved"] == rows
    chart = next(c for c in shown["accuracy"] if c.id == "solved")
    assert list(chart.series[0].values) == [row["so_far"] for row in rows]
    assert solved_chart(rows[:1]) is None
