"""Where accuracy ends: by the values of a field that problems carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.report.chart import Chart, Series
from flywheel.types import Generation


def by_field(generations: Sequence[Generation]) -> Chart | None:
    """pass@1 on dev by the values of `evaluate.by`, a curve a generation; None where the run names no field."""
    measured = [g for g in generations if g.metrics["dev"].get("by")]
    if not measured:
        return None
    told = [{row["value"]: row for row in g.metrics["dev"]["by"]["values"]} for g in measured]
    x = list(dict.fromkeys(value for rows in told for value in rows))
    field = measured[0].metrics["dev"]["by"]["field"]

    def curve(generation: Generation, rows: Mapping[Any, Mapping[str, Any]]) -> Series:
        ends = [rows[value]["interval"] if value in rows else (None, None) for value in x]
        name = "base" if generation.index == 0 else f"generation {generation.index}"
        return Series(
            name + " (rejected)" * (generation.status == "rejected"),
            [rows[value]["pass_1"] if value in rows else None for value in x],
            [low for low, _ in ends],
            [high for _, high in ends],
            quiet=generation not in (measured[0], measured[-1]),
        )

    return Chart(
        id="by-field",
        title=f"pass@1 on dev, by {field}",
        kind="lines",
        x_title=field,
        x=x,
        format="share",
        series=[curve(g, rows) for g, rows in zip(measured, told, strict=True)],
        colours=["good" if g is measured[-1] else "series-5" if g is measured[0] else "series-0" for g in measured],
        note="The first and the last generation with their intervals, those between them behind.",
    )
