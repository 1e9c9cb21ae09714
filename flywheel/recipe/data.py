"""Who judges completions, which become examples, and what a training set is made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from flywheel.recipe.section import Count, Seconds, Section, Share, knob


class VerifySection(Section):
    """Who judges completions, and under which limits."""

    verifier: str = "math"
    """A registered name, `pkg.mod:Name`, or `file.py:Name`; a problem's own verifier wins."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The verifier's own options."""
    workers: Count = knob(2)
    """Worker processes."""
    deadline_seconds: Seconds = 3.0
    """Wall time for one completion; then the worker is killed and the outcome is `timeout`."""
    memory_gib: Annotated[float, Field(gt=0.0)] = 1.0
    """Address space a worker may add to what it has after loading its verifier."""
    max_error_share: Share = 0.05
    """A round with more verifier errors than this stops: the verifier or the references are broken."""


class FilterSection(Section):
    """Which right answers become examples."""

    cap: Count = 4
    """Examples a problem and round, at most."""
    dedup: Literal["path", "text", "none"] = "path"
    """`path` keeps one of each reasoning path (the list of equations; without equations the normalised text), `text`
    one of each text."""
    select: Literal["first", "shortest", "spread"] = "spread"
    """Which ones stay when a problem has more than `cap`: the first sampled, the shortest, or paths far apart."""
    min_score: Share = 0.0
    """A verdict's score must reach this, beside being correct: for judges and reward models, stricter than their own
    threshold."""
    drop_always_right: bool = False
    """Leave out problems whose samples were all correct: nothing is learnt from them."""
    contamination: bool = True
    """Refuse examples that carry the text of a held-out or out-of-distribution problem: one of its 13-grams, or
    `contamination_share` of its 8-grams. What `problems.template_share` calls a template does not count."""
    contamination_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7
    """How much of a problem's 8-grams an example must have to count as carrying it."""
    max_tokens: Count | None = None
    """Leave out longer completions; None keeps any that ended by itself."""


class DataSection(Section):
    """Which rounds' examples a training set has."""

    keep: Literal["replace", "accumulate", "window"] = "accumulate"
    """`replace` trains on this round's, `accumulate` on all so far, `window` on the last `window` rounds."""
    window: Count = 2
    """For `keep = "window"`: how many rounds, this one included."""
    rejected: Literal["leave_out", "keep"] = "leave_out"
    """Whether later rounds train on the examples of a round whose candidate was rejected."""


class MixSection(Section):
    """Rows that did not come from the policy, against drift."""

    human: Share = 0.0
    """Share of the training set that is the problems' own human solutions."""
    base: Share = 0.0
    """Share that is right answers the base model gave, from round 0."""

    @model_validator(mode="after")
    def _room(self) -> MixSection:
        if self.human + self.base >= 1.0:
            share = self.human + self.base
            raise ValueError(f"human + base is {share:g}; leave room for the policy's own rows (under 1)")
        return self
