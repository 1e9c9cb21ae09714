"""How a generation is measured, what may replace the champion, and when a run ends."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from flywheel.recipe.section import Count, Section, Share, knob


class EvaluateSection(Section):
    """How a generation is measured on held-out problems."""

    samples: Annotated[int, Field(ge=1, le=4096)] = 8
    """Completions a held-out problem (n of the pass@k estimator)."""
    temperature: Annotated[float, Field(ge=0.0, le=5.0)] = 1.0
    """Temperature of evaluation."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Nucleus of evaluation."""
    resamples: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """Bootstrap resamples of the problems, for every interval."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """What the intervals cover."""
    rarefied_at: Count = 2
    """Distinct paths are compared as if every problem had so many right answers (rarefaction)."""
    balance_target: Count = 8
    """Distinct right answers a problem that are enough (n* of B-STaR's balance score)."""
    by: str | None = None
    """A field of the problems (a column that is none of ours, such as `difficulty`): accuracy is also told for each of
    its values."""
    text_samples: Annotated[int, Field(ge=100)] = 20_000
    """Completions that self-BLEU, distinct-n, repetition and layouts read, at most; beyond, problems are drawn."""


GateLine = Literal["pass_1", "pass_k", "paths", "markers", "ood", "cut_off", "missing_end"]


class GateSection(Section):
    """When a candidate may replace the champion.

    A line rejects only where the whole interval of what it compares lies beyond its limit.
    """

    enabled: bool = True
    """Off, every candidate is accepted (for ablations)."""
    lines: list[GateLine] = Field(
        ["pass_1", "pass_k", "paths", "markers", "ood", "cut_off", "missing_end"], min_length=1
    )
    """Which lines judge; leave one out to switch it off."""
    pass_1_margin: Share = 0.0
    """`pass_1`: points that dev pass@1 may fall below the champion's, beyond the paired interval."""
    pass_k_margin: Share = 0.02
    """`pass_k`: points that pass@k (k = samples evaluated) may fall below the base's, beyond the paired interval."""
    paths_ratio: Share = 0.7
    """`paths`: how varied right paths to a dev problem are (docs/collapse.md), at least, as a ratio to the base."""
    markers_ratio: Share = 0.7
    """`markers`: epistemic markers (wait, perhaps, check, …) a token on dev, at least as a ratio to the base."""
    markers_from: Annotated[float, Field(gt=0.0)] = 1.0
    """`markers` judges where the base has so many a completion; below that it says next to nothing."""
    ood_margin: Share = 0.02
    """`ood`: points that pass@1 on an out-of-distribution set may fall below the base's, beyond the paired interval."""
    max_cut_off: Share = 0.05
    """`cut_off`, `missing_end`: share of dev completions that may run into the token limit, or end without the end
    token; the base's own share if that is more."""
    repair: Literal["none", "interpolate"] = "none"
    """`interpolate`: before a candidate is rejected, its weights are mixed with the champion's and the mixtures
    measured; the best one that passes, and is not below the champion, takes its place."""
    alphas: list[Annotated[float, Field(gt=0.0, lt=1.0)]] = Field([0.25, 0.5, 0.75], min_length=1)
    """For `repair = "interpolate"`: the candidate's share in each mixture."""
    adjust: bool = True
    """After a rejection the next round is planned differently: smaller steps, another temperature, rows of the base."""
    delete_rejected: bool = knob(False)
    """Delete the weights of rejected candidates. Their samples and metrics stay."""

    @model_validator(mode="after")
    def _distinct(self) -> GateSection:
        for name, values in (("lines", self.lines), ("alphas", self.alphas)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} = {values} names one of them twice")
        return self


class StopSection(Section):
    """When a run ends."""

    max_rounds: Annotated[int, Field(ge=1, le=1000)] = 3
    """A hard cap on rounds, across resumes and schedules."""
    rejections: Count = 2
    """So many rejected candidates in a row end the run."""
    target_pass_1: Share | None = None
    """Enough: a champion with this dev pass@1 ends the run."""
    plateau: Count | None = 3
    """So many rounds that together raised the champion's dev pass@1 by less than `plateau_gain` end the run; None
    never does."""
    plateau_gain: Share = 0.005
    """Points of dev pass@1 that a plateau stays under."""
