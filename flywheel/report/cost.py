"""What a run cost: seconds by stage, tokens by purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.manifest import Entry
from flywheel.report.chart import Chart, Series
from flywheel.report.rounds import ORDER
from flywheel.view import RunView

PURPOSES = {
    "sampled": ("propose", "sweep", "sample"),
    "measured": ("evaluate", "gate", "finale"),
    "trained": ("train",),
}
"""Which stages' tokens count under which word. Those of a search for a temperature and of problems that the policy
writes are spent on training samples, those of a gate that tries mixtures on measuring."""


def tokens(entries: Mapping[str, Entry], purpose: str) -> int | None:
    """The tokens of a round, of the base or of the finale for a purpose; None where no such stage has run."""
    told = [entries[name].info.get("tokens") for name in PURPOSES[purpose] if name in entries]
    known = [count for count in told if count is not None]
    return sum(known) if known else None


def cost(run: RunView, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds by stage and tokens by purpose, for the base, each round and the finale."""
    scopes = [run.baseline(), *run.rounds(), run.finale()]
    rows: list[dict[str, Any]] = []
    for scope in scopes:
        entries = scope.manifest.entries()
        if not entries:
            continue
        rows.append(
            {
                "label": scope.label,
                "seconds": {name: entries[name].seconds for name in ORDER if name in entries},
                **{f"{purpose}_tokens": tokens(entries, purpose) for purpose in PURPOSES},
            }
        )
    kept = sum(r["funnel"][3]["count"] for r in rounds if len(r["funnel"]) == 4)
    spent = {f"{purpose}_tokens": sum(row[f"{purpose}_tokens"] or 0 for row in rows) for purpose in PURPOSES}
    return {
        "rows": rows,
        "seconds": sum(sum(row["seconds"].values()) for row in rows),
        **spent,
        "tokens_per_example": spent["sampled_tokens"] / kept if kept else None,
    }


def cost_chart(rows: list[dict[str, Any]]) -> Chart | None:
    """Where the time went; None before anything is done."""
    stages = [name for name in ORDER if any(row["seconds"].get(name, 0.0) >= 0.5 for row in rows)]
    if not stages:
        return None
    return Chart(
        id="seconds",
        title="Time by stage",
        kind="stack",
        x_title="part",
        x=[row["label"] for row in rows],
        format="seconds",
        series=[Series(name, [row["seconds"].get(name, 0.0) for row in rows]) for name in stages],
        note="Stages under half a second are left out.",
    )
