"""What changes from generation to generation: accuracy, width, length, style, each against the gate's line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flywheel.report.chart import Chart, Limit, Series, has_values
from flywheel.types import Generation

Metrics = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Measure:
    """A measured thing and how it is shown: `parts` are the paths into a set's metrics and the name of each line."""

    id: str
    title: str
    parts: Sequence[tuple[str, str]]
    format: Literal["share", "number"]
    note: str
    from_zero: bool = True


WIDTH = (
    Measure(
        "paths",
        "Distinct right paths per solved problem",
        [("paths_per_solved", "found")],
        "number",
        "In how many ways a solved problem was solved.",
    ),
    Measure(
        "paths-rarefied",
        "Paths among equally many right samples",
        [("paths_rarefied", "expected")],
        "number",
        "So that being right more often does not look like being wider.",
        from_zero=False,
    ),
    Measure(
        "entropy",
        "Answer entropy",
        [("answer_entropy", "answers"), ("token_entropy", "tokens")],
        "number",
        "In nats. How much the answers to one problem, and each next token, still vary.",
    ),
    Measure(
        "distinct-n",
        "Distinct n-grams",
        [
            ("distinct_n.1", "1-grams"),
            ("distinct_n.2", "2-grams"),
            ("distinct_n.3", "3-grams"),
            ("distinct_n.4", "4-grams"),
        ],
        "share",
        "The share of n-grams that are unlike each other.",
    ),
    Measure(
        "self-bleu",
        "Self-BLEU",
        [("self_bleu", "self-BLEU")],
        "number",
        "How much the completions of one problem resemble each other; rises as they become one text.",
    ),
    Measure(
        "formats",
        "Layouts",
        [("format_share", "share of the most common layout")],
        "share",
        "Rises as every completion is laid out alike.",
    ),
    Measure(
        "balance",
        "Balance score",
        [("balance", "balance")],
        "number",
        "B-STaR's balance of exploration and exploitation, from 0 to 1.",
    ),
    Measure(
        "logprob",
        "Mean log-probability of a token",
        [("mean_logprob", "mean")],
        "number",
        "In nats; nearer to zero is surer of itself.",
        from_zero=False,
    ),
)
"""Signs that a model narrows."""

TEXT = (
    Measure(
        "length",
        "Length of a completion",
        [("length.mean", "mean"), ("length.median", "median"), ("length.p90", "90th percentile")],
        "number",
        "In tokens.",
    ),
    Measure(
        "length-verdict",
        "Length by verdict",
        [("length.right", "right"), ("length.wrong", "wrong")],
        "number",
        "Mean tokens of right and of wrong completions.",
    ),
    Measure(
        "ends",
        "Cut off, or without an end",
        [("cut_off_share", "cut off"), ("missing_end_share", "no end of text")],
        "share",
        "Completions that ran into the token limit, and those that did not end by themselves.",
    ),
    Measure(
        "repetition",
        "Repetition",
        [("repetition", "repeated 4-grams")],
        "share",
        "The share of 4-grams that a completion has said before.",
    ),
    Measure(
        "markers",
        "Hedging words",
        [("markers.density", "per 1,000 tokens")],
        "number",
        "“Wait”, “perhaps”, “check” and the like, counted as words. A model that hedges less checks itself less.",
    ),
    Measure(
        "marker-count",
        "Hedging words, as substrings",
        [("markers.count_per_response", "a completion")],
        "number",
        "The count of the literature, which grows with length.",
    ),
    Measure(
        "errors",
        "Could not be judged",
        [("error_share", "of completions")],
        "share",
        "The verifier's or the reference's fault; these stand in no rate.",
    ),
)
"""What the completions look like."""


def found(metrics: Metrics, path: str) -> float | None:
    """A value by its dotted path, None where it was not measured."""
    value: Any = metrics
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None and path in _OLDER:
        return _OLDER[path](metrics)
    return value if isinstance(value, (int, float)) else None


_OLDER: dict[str, Callable[[Metrics], float | None]] = {
    "paths_per_solved": lambda m: m["distinct_paths"] / m["solved"] if m.get("solved") else None,
    "length.mean": lambda m: m.get("mean_tokens"),
}
"""How runs of the first version tell what has a name of its own now."""


def over_generations(
    measures: Sequence[Measure], generations: Sequence[Generation], limits: Mapping[str, Sequence[Limit]]
) -> tuple[list[Chart], list[str]]:
    """The charts of what was measured, and the titles of what was not (runs of older versions lack some)."""
    charts, missing = [], []
    for measure in measures:
        series = [Series(name, [found(g.metrics["dev"], path) for g in generations]) for path, name in measure.parts]
        chart = _chart(
            measure.id,
            measure.title,
            generations,
            [s for s in series if any(v is not None for v in s.values)],
            format=measure.format,
            note=measure.note,
            limits=limits.get(measure.id, ()),
            from_zero=measure.from_zero,
        )
        if has_values(chart):
            charts.append(chart)
        else:
            missing.append(measure.title.lower())
    return charts, missing


def _chart(id: str, title: str, generations: Sequence[Generation], series: Sequence[Series], **options: Any) -> Chart:
    return Chart(
        id=id,
        title=title,
        kind="lines",
        x_title="generation",
        x=[g.index for g in generations],
        series=series,
        rejected=[g.status == "rejected" for g in generations],
        **options,
    )


def _rate(name: str, sets: Sequence[Metrics], k: str, *, quiet: bool = False) -> Series:
    ends = [metrics.get("intervals", {}).get(k) or (None, None) for metrics in sets]
    values = [metrics.get("pass_at", {}).get(k) for metrics in sets]
    return Series(name, values, [low for low, _ in ends], [high for _, high in ends], quiet)


def pass_by_generation(generations: Sequence[Generation], limits: Sequence[Limit]) -> Chart:
    """pass@1, the largest k and what lies between, on dev."""
    sets = [g.metrics["dev"] for g in generations]
    ks = sorted({k for metrics in sets for k in metrics["pass_at"]}, key=int)
    between = ks[1:-1]
    series = [_rate(f"pass@{k}", sets, k, quiet=k in between) for k in ks]
    return _chart(
        "pass-by-generation",
        "pass@k on dev, by generation",
        generations,
        series,
        limits=limits,
        format="share",
        note="Bars are intervals; hollow points were rejected, and the line goes past them.",
    )


def pass_by_k(generations: Sequence[Generation], champion: int) -> Chart:
    """The whole pass@k curve of each generation: base and champion with their intervals, the others behind them."""
    ks = sorted({k for g in generations for k in g.metrics["dev"]["pass_at"]}, key=int)

    def curve(generation: Generation) -> Series:
        dev = generation.metrics["dev"]
        ends = [dev.get("intervals", {}).get(k) or (None, None) for k in ks]
        name = "base" if generation.index == 0 else f"generation {generation.index}"
        mark = " ★" if generation.index == champion else " (rejected)" if generation.status == "rejected" else ""
        return Series(
            name + mark,
            [dev["pass_at"].get(k) for k in ks],
            [low for low, _ in ends],
            [high for _, high in ends],
            quiet=generation.index not in (0, champion),
        )

    return Chart(
        id="pass-by-k",
        title="pass@k on dev, by k",
        kind="lines",
        x_title="k",
        x=[int(k) for k in ks],
        format="share",
        series=[curve(g) for g in generations],
        log_x=True,
        colours=["good" if g.index == champion else "series-5" if g.index == 0 else "series-0" for g in generations],
        note="A curve that rises at the left and sinks at the right is a model that narrows. Bands are intervals.",
    )


def ood_by_generation(generations: Sequence[Generation]) -> Chart | None:
    """pass@1 on each out-of-distribution set; None where the run has none."""
    measured = [g for g in generations if g.metrics.get("ood")]
    labels = list(dict.fromkeys(label for g in measured for label in g.metrics["ood"]))
    if not labels:
        return None
    series = [_rate(label, [g.metrics["ood"].get(label, {}) for g in measured], "1") for label in labels]
    return _chart(
        "ood",
        "pass@1 on problems of other kinds",
        measured,
        series,
        format="share",
        note="Out-of-distribution sets: nothing like them was trained on.",
    )
