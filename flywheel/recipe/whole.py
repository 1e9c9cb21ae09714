"""The recipe as a whole, and what must fit together in it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from flywheel.recipe.data import DataSection, FilterSection, MixSection, VerifySection
from flywheel.recipe.decide import EvaluateSection, GateSection, StopSection
from flywheel.recipe.policy import ModelSection, PolicySection
from flywheel.recipe.problems import OodSet, ProblemsSection
from flywheel.recipe.sampling import HintsSection, SamplingSection
from flywheel.recipe.section import Section
from flywheel.recipe.train import TrainSection


class Recipe(Section):
    """Everything that defines a run."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = "run"
    """The recipe's name, and that of its run's folder unless one is given."""
    description: str = ""
    """One line for `flywheel recipes`."""
    seed: int = 0
    """The run's seed; every random choice derives from it and from its position."""
    model: ModelSection = ModelSection()
    """The base model."""
    problems: ProblemsSection = ProblemsSection()
    """The problems and their split."""
    ood: list[OodSet] = Field(default_factory=list)
    """Out-of-distribution sets."""
    policy: PolicySection = PolicySection()
    """What samples."""
    sampling: SamplingSection = SamplingSection()
    """How it samples."""
    hints: HintsSection = HintsSection()
    """Hints for problems that nothing right came of."""
    verify: VerifySection = VerifySection()
    """What judges."""
    filter: FilterSection = FilterSection()
    """What is kept."""
    data: DataSection = DataSection()
    """Which rounds are trained on."""
    mix: MixSection = MixSection()
    """What is mixed in."""
    train: TrainSection = TrainSection()
    """How it trains."""
    evaluate: EvaluateSection = EvaluateSection()
    """How it is measured."""
    gate: GateSection = GateSection()
    """What may replace the champion."""
    stop: StopSection = StopSection()
    """When it ends."""

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        toy = {self.policy.name == "toy", self.train.backend == "toy"}
        if len(toy) == 2:
            raise ValueError(
                f"policy.name = {self.policy.name!r} with train.backend = {self.train.backend!r}: "
                "the toy policy and the toy trainer only work together"
            )
        if self.filter.fit is not None and self.train.backend == "toy":
            raise ValueError("filter.fit with train.backend = 'toy': the toy has no likelihoods to ask; leave fit out")
        if self.policy.name == "openai" and self.policy.openai.reload_command is None:
            raise ValueError(
                "policy.name = 'openai' without policy.openai.reload_command: the endpoints serve one fixed model, "
                "so no trained generation could be sampled; give the command that makes them serve {model}"
            )
        if self.gate.delete_rejected and self.train.start_from == "previous" and not self.gate.adjust:
            raise ValueError(
                "gate.delete_rejected with train.start_from = 'previous' and gate.adjust = false: a round could start "
                "from weights that are gone; leave gate.adjust on (it goes back to the champion), or keep them"
            )
        self._check_pairs()
        labels = [s.label for s in self.ood]
        if len(set(labels)) < len(labels):
            raise ValueError(f"ood: the labels {labels} are not distinct; give each set its own")
        return self

    def _check_pairs(self) -> None:
        """Raise ValueError where the objective needs pairs and nothing could give one."""
        if "dpo" not in self.train.stages:
            return
        asked = f"train.objective = {self.train.objective!r}"
        budget = self.sampling.budget
        most = (budget.most or self.sampling.k) if budget.mode == "adaptive" else self.sampling.k
        if most == 1:
            raise ValueError(
                f"{asked} with one completion a problem (sampling.k = {self.sampling.k}): a preference pair takes two; "
                "raise sampling.k, or set train.objective = 'sft'"
            )
        if self.filter.by != "verdict":
            raise ValueError(
                f"{asked} with filter.by = {self.filter.by!r}: pairs rest on verdicts, which this control does not "
                "ask; set train.objective = 'sft' for it"
            )
