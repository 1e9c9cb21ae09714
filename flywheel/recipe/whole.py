"""The recipe as a whole, and what must fit together in it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from flywheel.recipe.conflicts import conflicts
from flywheel.recipe.data import DataSection, FilterSection, MixSection, VerifySection
from flywheel.recipe.decide import EvaluateSection, GateSection, StopSection
from flywheel.recipe.policy import ModelSection, PolicySection
from flywheel.recipe.problems import OodSet, ProblemsSection
from flywheel.recipe.propose import ProposeSection
from flywheel.recipe.sampling import CorrectionSection, HintsSection, SamplingSection
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
    propose: ProposeSection = ProposeSection()
    """Problems that come up as it goes on."""
    policy: PolicySection = PolicySection()
    """What samples."""
    sampling: SamplingSection = SamplingSection()
    """How it samples."""
    hints: HintsSection = HintsSection()
    """Hints for problems that nothing right came of."""
    correction: CorrectionSection = CorrectionSection()
    """Second attempts at what the policy got wrong."""
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
        for conflict in conflicts(self):
            raise ValueError(conflict)
        return self
