"""How a generation is measured, what may replace the champion, and when a run ends."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flywheel.recipe.section import Count, Section, Share


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
    text_samples: Annotated[int, Field(ge=100)] = 20_000
    """Completions that self-BLEU, distinct-n, repetition and layouts read, at most; beyond, problems are drawn."""


class GateSection(Section):
    """When a candidate may replace the champion."""

    enabled: bool = True
    """Off, every candidate is accepted (for ablations)."""
    pass_1_margin: Share = 0.0
    """Points that dev pass@1 may fall below the champion's, beyond the paired interval."""
    pass_k_margin: Share = 0.02
    """Points that pass@k (k = samples evaluated) may fall below the base's, beyond the paired interval."""
    ood_margin: Share = 0.02
    """Points that pass@1 on an out-of-distribution set may fall below the base's, beyond the paired interval."""


class StopSection(Section):
    """When a run ends."""

    max_rounds: Annotated[int, Field(ge=1, le=1000)] = 3
    """A hard cap on rounds, across resumes and schedules."""
    rejections: Count = 2
    """So many rejected candidates in a row end the run."""
    target_pass_1: Share | None = None
    """Enough: a champion with this dev pass@1 ends the run."""
