"""How a round samples: how much, how hot, in which words, and who answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from flywheel.recipe.policy import PolicySection
from flywheel.recipe.section import Count, Section, Share, knob, sent_as_it_stands

Temperature = Annotated[float, Field(ge=0.0, le=5.0)]
Nucleus = Annotated[float, Field(gt=0.0, le=1.0)]


class BudgetSection(Section):
    """How many completions a problem gets: the same for all, or as many as it needs."""

    mode: Literal["fixed", "adaptive"] = "fixed"
    """`fixed` asks every problem `sampling.k` times. `adaptive` asks in waves; a problem that has
    enough after one leaves."""
    first: Count = 2
    """Adaptive: completions a problem in the first wave."""
    step: Count = 2
    """Adaptive: completions a problem in every further wave."""
    count: Literal["paths", "right"] = "paths"
    """What is counted towards `enough`: distinct right reasoning paths, or right completions."""
    enough: Count | None = None
    """So many stop a problem; None takes `filter.cap`."""
    target: Literal["uniform", "difficulty"] = "uniform"
    """`uniform` wants `enough` of every problem; `difficulty` wants `enough` times its share of wrong completions (at
    least 1), so that hard problems get more examples than easy ones."""
    most: Count | None = None
    """Completions a problem and round at most; None takes `sampling.k`, so that no problem gets more than under a
    fixed budget."""
    most_unsolved: Count | None = None
    """The same for a problem without a right completion in this round; None takes half of `most`, rounded up."""
    probe: Count | None = 1
    """First wave of a problem that was always right in the last round that asked it; if that is right too, it leaves.
    None treats it like any other."""


class SweepSection(Section):
    """A search for the round's temperature and score threshold, by B-STaR's balance score (Zeng et al. 2025,
    arXiv:2412.17256)."""

    temperatures: list[Temperature] = Field(default_factory=list)
    """What is tried before each round; the best one takes the place of `sampling.temperatures`. Empty: no sweep."""
    min_scores: list[Share] = Field(default_factory=list)
    """Thresholds that are tried with each temperature, on the same completions; that of the best pair takes the place
    of `filter.min_score` in its round. For verifiers with graded scores (judges, reward models): where scores are 0 and
    1 all thresholds above 0 are the same, and the first one stays. Empty: `filter.min_score`."""
    problems: Count = 20
    """Problems it is tried on, others each round."""
    samples: Count = 8
    """Completions a problem and temperature."""
    split: Literal["dev", "train"] = "dev"
    """Where the problems come from. The gate decides on dev, so `train` keeps dev untouched by the choice."""
    wanted: Count | None = None
    """Distinct right paths a problem is to have (n* of the balance score); None takes `filter.cap`."""


class FewShotSection(Section):
    """Worked examples before the problem, as turns of the conversation. The training row is without them."""

    count: Annotated[int, Field(ge=0, le=64)] = 0
    """Examples shown; 0 shows none."""
    orders: Count = 1
    """Different blocks a round, each with its own choice and order of examples, taken by turns."""
    path: str | None = None
    """A JSONL file with `prompt` and `completion`; None takes train problems with their human solutions."""


class SamplerSection(Section):
    """Another model that answers a share of the completions: an older generation of the run, or one of your choice."""

    share: Annotated[float, Field(gt=0.0, le=1.0)]
    """Share of `sampling.k` that it answers (at least one completion a problem). A single model may answer all: 1 makes
    it the teacher of a student that never samples for training."""
    generation: int | None = None
    """A generation of this run: 0 is the base, -1 the champion before the current one. A round that has no such older
    generation leaves it out."""
    model: str | None = None
    """A hub id, a folder or a `.gguf` file; at an endpoint, the name it serves."""
    policy: PolicySection | None = None
    """What samples from `model`; without it the run's own policy does."""
    chat_template: str | None = None
    """A Jinja template in place of that model's own."""

    @model_validator(mode="after")
    def _one_of(self) -> SamplerSection:
        if (self.generation is None) == (self.model is None):
            raise ValueError("an extra sampler is either a generation or a model; give exactly one of the two")
        if self.generation is not None and self.policy is not None:
            raise ValueError("policy goes with model: a generation is sampled by the run's own policy")
        return self


class HintsSection(Section):
    """Problems that nothing right came of are asked again with a hint (rationalization, Zelikman et al. 2022)."""

    k: Annotated[int, Field(ge=0, le=4096)] = 0
    """Hinted completions a problem; 0 asks none. Their origin is `hinted`; the training row has the plain prompt."""
    template: str = "{prompt}\n\nThe answer is {answer}. Show how to get there."
    """The user turn: `{prompt}`, and `{answer}` or `{solution}` (the human one) where you want them."""
    problems: Literal["wrong", "never"] = "wrong"
    """`wrong`: those without a right completion in this round; `never`: those without one in any round so far."""

    @model_validator(mode="after")
    def _hints_at_something(self) -> HintsSection:
        if "{prompt}" not in self.template:
            raise ValueError(f"template {self.template!r} has no {{prompt}}; put it where the problem goes")
        if "{answer}" not in self.template and "{solution}" not in self.template:
            raise ValueError(f"template {self.template!r} has no hint; put {{answer}} or {{solution}} into it")
        if wrong := sent_as_it_stands(self.template, ("prompt", "answer", "solution")):
            raise ValueError(f"template {wrong}")
        return self


class CorrectionSection(Section):
    """Self-correction in two turns: the policy's own wrong answers of this round are asked again, in the conversation
    that they ended, and nothing is told but that there may be an error."""

    k: Annotated[int, Field(ge=0, le=4096)] = 0
    """Wrong first attempts a problem that are asked again, at most; 0 asks none. The second attempt's origin is
    `corrected`; its training row is the whole conversation, of which the second attempt is learnt."""
    template: str = "There may be an error in this answer. Check it, and give the whole answer again."
    """The second user turn; `{prompt}` puts the problem into it once more."""

    @model_validator(mode="after")
    def _says_something(self) -> CorrectionSection:
        if not self.template.strip():
            raise ValueError(f"template = {self.template!r} says nothing; ask for a second attempt in words")
        if wrong := sent_as_it_stands(self.template, ("prompt",)):
            raise ValueError(f"template {wrong}; what is right is not told (that would be hints)")
        return self


class SamplingSection(Section):
    """How many completions a round draws, and how."""

    k: Annotated[int, Field(ge=1, le=4096)] = 8
    """Completions a problem and round."""
    problems: Count | None = None
    """Train problems a round; None samples all of them."""
    temperatures: list[Temperature] = Field([1.0], min_length=1)
    """The temperature of round 0, 1, …; the last one holds for all further rounds."""
    spread: Annotated[float, Field(ge=0.0, le=2.0)] = 0.0
    """Within a round: samples take the temperature, that plus `spread`, and that minus `spread`, by turns."""
    top_p: Nucleus | list[Nucleus] = 1.0
    """Nucleus sampling: the smallest set of tokens with this much probability. A list gives round 0, 1, … theirs, as
    with `temperatures`."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Only the k likeliest tokens; 0 takes all."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Longest completion, in tokens."""
    stop: list[str] = Field(default_factory=list)
    """Strings that end a completion, beside the model's own end token."""
    variants: list[str] = Field(["{prompt}"], min_length=1)
    """Prompt templates with `{prompt}` in them, and no other name in braces. Sample j of a problem is asked with
    variant j mod n; the training row has the plain prompt."""
    paraphrases: str | None = None
    """A JSONL file with `paraphrases` (a list of texts) for the problem with this `id`, or this `prompt`. The problem's
    own prompt and its paraphrases take turns; the training row has the problem's own."""
    chunk_problems: Count = knob(16)
    """Problems in a chunk: what a kill can cost at most, and what verification gets at once."""
    few_shot: FewShotSection = FewShotSection()
    """Worked examples in the prompt."""
    budget: BudgetSection = BudgetSection()
    """How many completions each problem gets."""
    sweep: SweepSection = SweepSection()
    """Which temperature, found by trial."""
    extra: list[SamplerSection] = Field(default_factory=list)
    """Further samplers."""

    @model_validator(mode="after")
    def _templates(self) -> SamplingSection:
        for variant in self.variants:
            if "{prompt}" not in variant:
                raise ValueError(f"variants: {variant!r} has no {{prompt}}; put it where the problem goes")
            if wrong := sent_as_it_stands(variant, ("prompt",)):
                raise ValueError(f"variants: {wrong}; to tell an answer is for `hints`")
        if isinstance(self.top_p, list) and not self.top_p:
            raise ValueError("top_p = []: give a number, or one for each round")
        taught = len(self.extra) == 1 and self.extra[0].model is not None and self.extra[0].share == 1.0
        if self.extra and not taught and self.k <= (others := sum(self.share_of(e) for e in self.extra)):
            raise ValueError(
                f"extra: {others} of k = {self.k} completions go to other samplers; leave the policy at least one"
            )
        return self

    @property
    def own(self) -> int:
        """How many of a problem's `k` completions are left to the policy."""
        return self.k - sum(self.share_of(extra) for extra in self.extra)

    def share_of(self, extra: SamplerSection) -> int:
        """How many of a problem's `k` completions an extra sampler answers."""
        return max(1, round(self.k * extra.share))
