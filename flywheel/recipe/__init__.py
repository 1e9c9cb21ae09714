"""The recipe: every setting of a run, typed, ranged and documented once.

A recipe is one TOML file. `load_recipe` reads it, `apply_overrides` deep-merges `section.field=value`
settings into it, and `Recipe` validates the result. Fields marked as knobs (batch sizes, workers,
memory) cannot change a row of the result and are in no stage's key.
"""

from flywheel.recipe.characters import CharactersOptions
from flywheel.recipe.data import DataSection, FilterSection, FitOptions, MixSection, VerifySection
from flywheel.recipe.decide import EvaluateSection, GateSection, StopSection
from flywheel.recipe.load import (
    apply_overrides,
    deep_merge,
    differences,
    differing_fields,
    load_recipe,
    parse_value,
    read_recipe,
    shipped_recipes,
    validate,
)
from flywheel.recipe.policy import (
    ModelSection,
    OpenAIOptions,
    PolicySection,
    ToyOptions,
    TransformersOptions,
    VllmOptions,
)
from flywheel.recipe.problems import OodSet, ProblemSource, ProblemsSection
from flywheel.recipe.propose import ProposeSection, WriterOptions
from flywheel.recipe.sampling import (
    BudgetSection,
    CorrectionSection,
    FewShotSection,
    HintsSection,
    SamplerSection,
    SamplingSection,
    SweepSection,
)
from flywheel.recipe.section import Section
from flywheel.recipe.train import (
    AverageOptions,
    DpoOptions,
    GrpoOptions,
    LoraOptions,
    PrivilegedOptions,
    TrainingStage,
    TrainSection,
)
from flywheel.recipe.whole import Recipe

__all__ = [
    "AverageOptions",
    "BudgetSection",
    "CharactersOptions",
    "CorrectionSection",
    "DataSection",
    "DpoOptions",
    "EvaluateSection",
    "FewShotSection",
    "FilterSection",
    "FitOptions",
    "GateSection",
    "GrpoOptions",
    "HintsSection",
    "LoraOptions",
    "MixSection",
    "ModelSection",
    "OodSet",
    "OpenAIOptions",
    "PolicySection",
    "PrivilegedOptions",
    "ProblemSource",
    "ProblemsSection",
    "ProposeSection",
    "Recipe",
    "SamplerSection",
    "SamplingSection",
    "Section",
    "StopSection",
    "SweepSection",
    "ToyOptions",
    "TrainSection",
    "TrainingStage",
    "TransformersOptions",
    "VerifySection",
    "VllmOptions",
    "WriterOptions",
    "apply_overrides",
    "deep_merge",
    "differences",
    "differing_fields",
    "load_recipe",
    "parse_value",
    "read_recipe",
    "shipped_recipes",
    "validate",
]
