"""Compare runs on the held-out problems that they share: champions, what each gained, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.errors import RunError
from flywheel.figures import duration, short
from flywheel.measures.passk import Counts, paired_differences, pass_rates
from flywheel.recipe import EvaluateSection
from flywheel.report import page
from flywheel.report.chart import Chart, Series
from flywheel.report.cost import tokens
from flywheel.report.held_out import dev_counts, finale, test_counts
from flywheel.types import Split
from flywheel.view import RunView

ByContent = dict[str, tuple[int, int]]
"""Counts by the digest of a problem's prompt and answer: two runs may call the same problem by other ids."""


def compare(runs: Mapping[str, RunView], *, shared: bool = False) -> dict[str, Any]:
    """Compare runs, named as the user named them, as JSON-shaped data; differences are against the first.

    The test split decides where all runs have measured their champion on it, else dev, which is said.
    Raises RunError where a run has measured nothing, and where the problems differ: with `shared` only
    those that all runs have count, and then it raises where there is none.
    """
    ends = {name: finale(run) for name, run in runs.items()}
    split = "test" if all(ends.values()) else "dev"
    counts = {name: _counts(name, run, ends[name] if split == "test" else None) for name, run in runs.items()}
    problems = _common_problems({name: of["champion"] for name, of in counts.items()}, split, shared=shared)
    counts = {n: {who: {p: c[p] for p in problems & c.keys()} for who, c in of.items()} for n, of in counts.items()}
    first = next(iter(runs))
    recipe = runs[first].recipe
    samples = min(run.recipe.evaluate.samples for run in runs.values())
    section = recipe.evaluate.model_copy(update={"samples": samples})
    rows = [_row(name, run, counts[name], section, recipe.seed) for name, run in runs.items()]
    for row in rows[1:]:
        of, other = counts[row["run"]]["champion"], counts[first]["champion"]
        row["against_first"] = paired_differences(of, other, section, seed=recipe.seed)
    return {
        "split": split,
        "n_problems": len(problems),
        "confidence": section.confidence,
        "ks": sorted({k for row in rows for k in row["champion"]["pass_at"]}, key=int),
        "runs": rows,
        "cautions": list(_cautions(runs, split, samples)),
    }


def _counts(name: str, run: RunView, metrics: dict[str, Any] | None) -> dict[str, ByContent]:
    """Counts of base and champion, on test if `metrics` of the finale are given, else on dev."""
    if metrics is not None:
        found: dict[str, Counts] = test_counts(run, metrics)
    else:
        base, champion = run.generation(0), run.champion()
        if not base.metrics:
            raise RunError(f"{name} has measured nothing yet; compare it once its base is evaluated")
        found = {"base": dev_counts(run, base), "champion": dev_counts(run, champion)}
    return {who: {run.problem_by_id[p].digest(): pair for p, pair in of.items()} for who, of in found.items()}


def _common_problems(counts: Mapping[str, ByContent], split: str, *, shared: bool) -> set[str]:
    first, *others = counts
    common = set(counts[first]).intersection(*(counts[name] for name in others))
    for name in others:
        both = len(counts[first].keys() & counts[name].keys())
        if counts[first].keys() == counts[name].keys() or (shared and common):
            continue
        most = max(len(counts[first]), len(counts[name]))
        way = " --shared compares on those alone" if both and not shared else ""
        raise RunError(
            f"{first} and {name} were measured on other {split} problems: {both} of {most} are shared, so their rates "
            f"say nothing about each other.{way}"
        )
    return common


def _row(
    name: str, run: RunView, counts: Mapping[str, ByContent], section: EvaluateSection, seed: int
) -> dict[str, Any]:
    rates = {}
    for who, of in counts.items():
        pass_at, intervals = pass_rates(of, section, seed=seed)
        rates[who] = {"pass_at": pass_at, "intervals": intervals}
    entries = [scope.manifest.entries() for scope in (run.baseline(), *run.rounds(), run.finale())]
    history = run.history()
    return {
        "run": name,
        "recipe": run.recipe.name,
        "generation": run.champion().index,
        "rounds": sum(record.accepted is not None for record in history),
        "accepted": sum(record.accepted is True for record in history),
        "ended": run.ended(),
        "base": rates["base"],
        "champion": rates["champion"],
        "gain": paired_differences(counts["champion"], counts["base"], section, seed=seed),
        "against_first": None,
        "examples": sum(record.examples or 0 for record in history),
        "sampled_tokens": sum(tokens(e, "sampled") or 0 for e in entries),
        "trained_tokens": sum(tokens(e, "trained") or 0 for e in entries),
        "seconds": sum(entry.seconds for of in entries for entry in of.values()),
    }


def _cautions(runs: Mapping[str, RunView], split: str, samples: int) -> list[str]:
    """What makes rates differ that are not the champions' doing."""
    found = []
    if split == "dev":
        found.append(
            "not every run has measured its champion on test; these are dev figures, by which champions are chosen"
        )
    first, *others = runs
    for name in others:
        pairs = zip(_measured_with(runs[first]).items(), _measured_with(runs[name]).values(), strict=True)
        for (what, there), here in pairs:
            if there != here:
                found.append(f"{name} differs from {first} in {what}: {_told(here)} against {_told(there)}")
    if any(run.recipe.evaluate.samples != samples for run in runs.values()):
        found.append(f"rates go up to pass@{samples}: not every run has more samples a problem")
    return found


def _measured_with(run: RunView) -> dict[str, Any]:
    recipe, known = run.recipe, run.facts.get("verifiers", {})
    held_out = (p for p in run.frozen_problems if p.split != Split.TRAIN or p.ood)
    judges = sorted({p.verifier or recipe.verify.verifier for p in held_out})
    return {
        "the base model": [recipe.model.base, str(run.facts["base"]["digest"])[:12]],
        "the temperature of evaluation": recipe.evaluate.temperature,
        "the nucleus of evaluation": recipe.evaluate.top_p,
        "the token limit": recipe.sampling.max_tokens,
        "the system prompt": recipe.model.system,
        "the verifiers of held-out problems": {name: known.get(name, {}).get("version") for name in judges},
        "the options of these verifiers": {name: recipe.verify.options_of(name) for name in judges},
    }


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# ---- for people ----------------------------------------------------------------------------------


def lines(comparison: Mapping[str, Any]) -> list[str]:
    """The comparison as lines of text: a table for pass@1, one for the largest k, one of costs, then the cautions."""
    percent = f"{comparison['confidence'] * 100:g} %"
    said = [
        f"{comparison['n_problems']} {comparison['split']} problems; [ ]: {percent} bootstrap intervals over problems"
    ]
    for k in dict.fromkeys((comparison["ks"][0], comparison["ks"][-1])):
        said += [
            "",
            *_aligned([[f"pass@{k}", "base", "champion", "gain", "against the first"], *_rates(comparison, k)]),
        ]
    cost = [
        [
            row["run"],
            f"{row['accepted']} of {row['rounds']}",
            f"{row['examples']:,}",
            short(row["sampled_tokens"]),
            short(row["trained_tokens"]),
            duration(row["seconds"]),
        ]
        for row in comparison["runs"]
    ]
    said += ["", *_aligned([["cost", "accepted", "examples", "sampled", "trained", "time"], *cost])]
    return [*said, *(["", *(f"! {caution}" for caution in comparison["cautions"])] if comparison["cautions"] else [])]


def _rates(comparison: Mapping[str, Any], k: str) -> list[list[str]]:
    rows = []
    for row in comparison["runs"]:
        low, high = row["champion"]["intervals"][k]
        rows.append(
            [
                row["run"],
                f"{row['base']['pass_at'][k]:.3f}",
                f"{row['champion']['pass_at'][k]:.3f} [{low:.3f}, {high:.3f}]",
                difference(row["gain"][k]),
                difference(row["against_first"][k]) if row["against_first"] else "",
            ]
        )
    return rows


def difference(d: Mapping[str, float]) -> str:
    """`+.050 [-.010, +.110]`"""
    return f"{d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def as_page(comparison: Mapping[str, Any]) -> str:
    """The comparison as an HTML page that stands alone."""
    ks = comparison["ks"]

    def series(name: str, rates: Mapping[str, Any], *, quiet: bool) -> Series:
        ends = [rates["intervals"].get(k) or (None, None) for k in ks]
        values = [rates["pass_at"].get(k) for k in ks]
        return Series(name, values, [low for low, _ in ends], [high for _, high in ends], quiet=quiet)

    chart = Chart(
        id="champions",
        title=f"pass@k of the champions on {comparison['split']}",
        kind="lines",
        x_title="k",
        x=[int(k) for k in ks],
        format="share",
        series=[series(row["run"], row["champion"], quiet=False) for row in comparison["runs"]],
        log_x=True,
        note="Bands are intervals. Whether two champions differ is better seen in the paired differences below.",
    )
    tables = [
        (f"pass@{k}", ["run", "base", "champion", "gain", "against the first"], _rates(comparison, k)) for k in ks
    ]
    return page("compare.html.jinja", charts=[chart], chart=chart, tables=tables, **comparison)
