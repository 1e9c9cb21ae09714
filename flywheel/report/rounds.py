"""The rounds: from samples to examples, why samples were dropped, what was trained on, and what the gate said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel import store
from flywheel.filter import REASONS
from flywheel.report.chart import Chart, Series
from flywheel.scope import Scope
from flywheel.types import Outcome

ORDER = ("check", "propose", "sweep", "plan", "sample", "verify", "filter", "train", "evaluate", "gate", "finale")
"""The stages as they run; a manifest is sorted by name."""

Infos = Mapping[str, Mapping[str, Any]]


def round_view(scope: Scope) -> dict[str, Any]:
    """One round as its files tell it; what has not happened yet is None or empty."""
    entries = scope.manifest.entries()
    infos = {name: entry.info for name, entry in entries.items()}
    plan = store.read_json(scope.folder / "plan.json") if "plan" in entries else {}
    gate = store.read_json(scope.folder / "gate.json") if "gate" in entries else None
    metrics = store.read_json(scope.folder / "metrics.json") if "evaluate" in entries else {}
    return {
        "index": scope.round,
        "generation": scope.generation,
        "policy": plan.get("generation"),
        "temperature": plan.get("temperature"),
        "changes": plan.get("changes") or [],
        "funnel": funnel(infos),
        "outcomes": {str(o): infos["verify"][o] for o in Outcome if o in infos["verify"]} if "verify" in infos else {},
        "dropped": dropped(infos),
        "drop_bars": [drop | {"name": drop["reason"].replace("_", " "), "kind": "drop"} for drop in dropped(infos)],
        "measured": training_samples(metrics.get("round")),
        "train": infos.get("train"),
        "gate": gate,
        "checks": [check_in_words(check) for check in gate["checks"]] if gate else [],
        "remarks": remarks(gate) if gate else [],
        "seconds": {name: entries[name].seconds for name in ORDER if name in entries},
    }


def funnel(infos: Infos) -> list[dict[str, Any]]:
    """The steps from samples to examples with their counts and their share of the samples."""
    steps: list[tuple[str, int | None]] = [
        ("sampled", infos.get("verify", infos.get("sample", {})).get("samples")),
        ("right", infos.get("verify", {}).get(Outcome.CORRECT)),
        ("distinct paths", infos.get("filter", {}).get("distinct_paths")),
        ("kept", infos.get("filter", {}).get("examples")),
    ]
    sampled = steps[0][1] or 0
    known = [(name, count) for name, count in steps if count is not None]
    return [{"name": n, "count": c, "share": c / sampled if sampled else 0.0, "kind": ""} for n, c in known]


def dropped(infos: Infos) -> list[dict[str, Any]]:
    """The reasons for drops, the commonest first."""
    counts = infos.get("filter", {}).get("dropped", {})
    total = sum(counts.values())
    return [
        {"reason": reason, "count": count, "share": count / total, "meaning": REASONS.get(reason, "")}
        for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def training_samples(measured: Mapping[str, Any] | None) -> list[tuple[str, Any, str]]:
    """What was measured on the round's own samples: label, value, format. Empty in runs of older versions."""
    if not measured:
        return []
    refused = (measured.get("contamination") or {}).get("refused")
    shown = [
        ("answer entropy (nats)", measured.get("answer_entropy"), "number"),
        ("self-BLEU", measured.get("self_bleu"), "number"),
        ("balance score", measured.get("balance"), "number"),
        ("hedging words per 1,000 tokens", (measured.get("markers") or {}).get("density"), "number"),
        ("mean tokens", (measured.get("length") or {}).get("mean"), "number"),
        ("hinted", measured.get("hinted_share"), "share"),
        ("could not be judged", measured.get("error_share"), "share"),
        ("refused as too near to held-out problems", refused, "count"),
    ]
    return [line for line in shown if line[1] is not None]


def check_in_words(check: Mapping[str, Any]) -> dict[str, Any]:
    """One comparison of the gate as a sentence, with whether it passed (None: it could not be judged)."""
    if "words" in check:
        return {"passed": check["passed"], "text": check["words"]}
    value, low, high = (f"{check[name] * 100:+.1f}" for name in ("value", "low", "high"))
    allowed = "no fall" if not check["margin"] else f"a fall of {check['margin'] * 100:g} points"
    verdict = "passed" if check["passed"] else "failed, worse beyond its interval"
    return {
        "passed": check["passed"],
        "text": f"{check['what']} against the {check['against']}: {value} points [{low}, {high}], where {allowed} is "
        f"allowed: {verdict}",
    }


def remarks(gate: Mapping[str, Any]) -> list[str]:
    """The reasons of a decision that are none of its checks: that it was repaired, or that the gate is off."""
    if any("words" not in check for check in gate["checks"]):  # of the first version, whose reasons are the checks
        return []
    words = {check["words"] for check in gate["checks"]}
    return [reason for reason in gate["reasons"] if reason not in words]


def funnel_chart(rounds: list[dict[str, Any]]) -> Chart | None:
    """All rounds' funnels side by side; None before two rounds can be compared."""
    with_funnel = [r for r in rounds if len(r["funnel"]) == 4]
    if len(with_funnel) < 2:
        return None
    names = [step["name"] for step in with_funnel[0]["funnel"]][1:]
    return Chart(
        id="funnel",
        title="From samples to examples, by round",
        kind="bars",
        x_title="round",
        x=[str(r["index"]) for r in with_funnel],
        format="share",
        series=[
            Series(name, [step["share"] for r in with_funnel for step in r["funnel"] if step["name"] == name])
            for name in names
        ],
        note="As shares of what was sampled.",
    )
