"""Who judges completions, which become examples, and what a training set is made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from flywheel.recipe.problems import ProblemSource
from flywheel.recipe.section import Count, Seconds, Section, Share, knob


class VerifySection(Section):
    """Who judges completions, and under which limits."""

    verifier: str = "math"
    """A registered name, `pkg.mod:Name`, or `file.py:Name`; a problem's own verifier wins."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The verifier's own options."""
    held_out: str | None = None
    """Who judges dev, test and out-of-distribution problems; None takes `verifier`. Where that knows no answers
    (`majority`, `judge`), this can be one that does. A problem's own verifier wins here as well."""
    held_out_options: dict[str, Any] = Field(default_factory=dict)
    """The options of `held_out`."""
    observer: str | None = None
    """A verifier that judges a round's samples once more, for `metrics.json` alone: how far `verifier` agrees with one
    that knows the answers. Nothing is kept or dropped by it, and it sees no completion before TRAIN is done. Written
    problems have no answer; where one can be worked out from their text, the observer is given that."""
    observer_options: dict[str, Any] = Field(default_factory=dict)
    """The options of `observer`."""
    workers: Count = knob(2)
    """Worker processes."""
    deadline_seconds: Seconds | None = None
    """Wall time for one completion; then the worker is killed and the outcome is `timeout` (`error` where the verifier
    waits for a model). None takes what the verifier asks for, 3 where it asks for nothing."""
    memory_gib: Annotated[float, Field(gt=0.0)] = 1.0
    """Address space a worker may add to what it has after loading its verifier."""
    max_error_share: Share = 0.05
    """A round with more verifier errors than this stops: the verifier or the references are broken."""

    def options_of(self, name: str) -> dict[str, Any]:
        """The options that a verifier gets; one that only problems name has none."""
        given = {
            self.observer: self.observer_options,
            self.held_out: self.held_out_options,
            self.verifier: self.options,
        }
        return given.get(name, {})


class FitOptions(Section):
    """How well a completion fits the model to be trained: its instruction-following difficulty (IFD), the perplexity of
    the completion behind its prompt over its perplexity behind an empty one (Li et al. 2024, arXiv:2402.10110)."""

    high: Annotated[float, Field(gt=0.0)] = 1.0
    """Drop a completion above this. At 1 the prompt makes it no likelier: the model cannot see why one follows from the
    other."""
    low: Annotated[float, Field(ge=0.0)] = 0.0
    """Drop a completion below this: there is little left to learn."""
    keep: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Of what remains, the share that is kept, most difficult first."""
    origins: list[Literal["policy", "hinted", "teacher", "older_generation"]] = Field(default_factory=list)
    """Which completions are asked about; an empty list means all. The others pass."""
    batch_tokens: Count = knob(8192)
    """Tokens in one forward pass, padding included."""

    @model_validator(mode="after")
    def _order(self) -> FitOptions:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}; low must be the smaller one")
        return self


class FilterSection(Section):
    """Which samples become examples."""

    by: Literal["verdict", "none", "random"] = "verdict"
    """`verdict` keeps right answers. The others are controls with the same number of examples: `none` does not ask
    whether a sample is right but holds to all other rules, `random` holds to no rule at all. Verdicts are recorded and
    metrics rest on them either way."""
    rows: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    """For the controls: examples of round 0, 1, …; the last one holds for all further rounds. An empty list means as
    many as `by = "verdict"` would take from the same samples."""
    cap: Count = 4
    """Examples a problem and round, at most."""
    dedup: Literal["path", "text", "none"] = "path"
    """`path` keeps one of each reasoning path (the list of equations; without equations the normalised text), `text`
    one of each text."""
    select: Literal["first", "shortest", "spread", "best", "farthest"] = "spread"
    """Which ones stay when a problem has more than `cap`: the first sampled, the shortest, paths far apart, or the
    `best` by score (for reward models and judges). Of samples that take one path the first stays, with `best` the best,
    and with `farthest` the one whose text has the largest edit distance to the other paths' (rejection-sampling
    fine-tuning's own way; over the cap as `spread`)."""
    min_score: Share = 0.0
    """A verdict's score must reach this, beside being correct: for judges and reward models, stricter than their own
    threshold."""
    equations: Annotated[float, Field(ge=0.0)] | None = None
    """Drop a right answer that states an equation whose sides differ by more than this (1e-3 in rejection-sampling
    fine-tuning). What cannot be worked out passes; None asks nothing."""
    drop_always_right: bool = False
    """Leave out problems whose samples were all correct: nothing is learnt from them."""
    contamination: bool = True
    """Refuse examples that carry the text of a held-out or out-of-distribution problem: one of its 13-grams, or
    `contamination_share` of its 8-grams. What `problems.template_share` calls a template does not count."""
    contamination_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7
    """How much of a problem's 8-grams an example must have to count as carrying it."""
    max_tokens: Count | None = None
    """Leave out longer completions; None keeps any that ended by itself."""
    hinted_share: Share = 0.25
    """Share of the examples that may come from hinted samples, at most; 1 sets no limit."""
    hinted_markers: Share = 0.5
    """Drop a hinted sample whose epistemic markers a 1,000 tokens are under this share of the mean of its problem's
    unguided samples; 0 asks for nothing."""
    corrected_share: Share = 0.25
    """Share of the examples that may be second attempts (`correction`), at most; 1 sets no limit."""
    difficulty: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    """Weigh an example by (1 - pass rate of its problem) to this power in the loss; 0 weighs all alike. Within a
    training set the weights are scaled to a mean of 1."""
    fit: FitOptions | None = None
    """Ask the model to be trained how well each example fits it, and drop those that do not."""


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
    general: Share = 0.0
    """Share that is general data, which has nothing to do with the problems, so that the model stays able elsewhere.
    With too few rows at hand, all are taken."""
    general_source: ProblemSource | None = None
    """Where general data comes from: what is learnt is a row's `solution`, or its `answer` where it has none (map them
    with `columns`). Read once, when the run begins; rows that are problems of the run, or carry held-out ones, are left
    out."""
    general_least: Annotated[int, Field(ge=0)] = 0
    """General rows in a training set at least, however few examples there are: a warm start. With `train.min_examples =
    0` a round in which nothing was right trains on them alone."""
    floor: Share = 0.0
    """Least share of human and base rows together. With too few at hand they are repeated; where `repeats` does not
    allow enough of that, the round refuses to train."""
    repeats: Count = 4
    """How often a human or base row may stand in a training set, for `floor`. Up to four passes over the same rows are
    worth nearly as much as new ones (Muennighoff et al. 2023, arXiv:2305.16264)."""

    @property
    def added(self) -> float:
        """The share of the training set that is not the policy's own rows."""
        return self.human + self.base + self.general

    @model_validator(mode="after")
    def _room(self) -> MixSection:
        if self.floor > self.human + self.base:
            raise ValueError(f"floor is {self.floor:g} but human + base only {self.human + self.base:g}; raise these")
        if self.added >= 1.0:
            names = "human + base" + " + general" * bool(self.general)
            raise ValueError(f"{names} is {self.added:g}; leave room for the policy's own rows (under 1)")
        if self.general_least and not self.general:
            raise ValueError(f"general_least is {self.general_least} and general 0; give general a share as well")
        if self.general and self.general_source is None:
            raise ValueError(f"general is {self.general:g} without general_source; say where the rows come from")
        return self
