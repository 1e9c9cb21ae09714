"""A run in a few lines of Markdown, for places that show no HTML."""

from __future__ import annotations

from typing import Any

from flywheel.report.chart import points
from flywheel.report.gather import test_result
from flywheel.report.rounds import round_view
from flywheel.scope import Scope
from flywheel.view import RunView


def markdown(run: RunView) -> str:
    """The champion, its test figures, and what each round came to."""
    champion = run.champion()
    name = "The base" if champion.index == 0 else f"Generation {champion.index}"
    ended = run.ended()
    lines = [
        f"## {name} is the champion{'' if ended else ' so far'}",
        "",
        f"Ended: {ended}." if ended else "Not ended.",
    ]
    if (test := test_result(run)) and champion.index:
        lines += [
            "",
            f"On {test['n_problems']:,} test problems:",
            "",
            "| | base | champion | gain in points |",
            "|---|---|---|---|",
        ]
        for line in test["lines"]:
            gain = f"{line['value'] * 100:+.1f} [{line['low'] * 100:+.1f}, {line['high'] * 100:+.1f}]"
            lines.append(f"| pass@{line['k']} | {points(line['base'])} | {points(line['champion'])} | {gain} |")
    for scope in run.rounds():
        told = round_view(scope)
        verdict = "not decided" if told["gate"] is None else "accepted" if told["gate"]["accepted"] else "**rejected**"
        steps = " → ".join(f"{step['count']:,} {step['name']}" for step in told["funnel"])
        lines += ["", f"**Round {scope.round}**, {verdict}: {steps}."]
    return "\n".join(lines)


def funnel_rows(scope: Scope) -> list[dict[str, Any]]:
    """A round's funnel and its reasons for drops as rows of a table."""
    told = round_view(scope)
    rows = [{"": step["name"], "samples": step["count"], "share": points(step["share"])} for step in told["funnel"]]
    sampled = told["funnel"][0]["count"] if told["funnel"] else 0
    return rows + [
        {
            "": f"dropped: {drop['reason'].replace('_', ' ')}",
            "samples": drop["count"],
            "share": points(drop["count"] / sampled if sampled else None),
        }
        for drop in told["dropped"]
    ]
