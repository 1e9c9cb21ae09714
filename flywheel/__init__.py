"""flywheel improves language models by expert iteration: sample, verify, filter, train, gate, repeat.

What a plug-in needs is here; importing it loads neither torch, vLLM, sympy nor Prefect.
"""

from flywheel.errors import (
    EndpointError,
    EngineError,
    FlywheelError,
    ModelError,
    PluginError,
    ProblemError,
    RecipeError,
    RunError,
    StageError,
    TrainingError,
    UserError,
)
from flywheel.types import Example, Generation, Judgement, Message, Origin, Outcome, Problem, Sample, Split, Verdict

__version__ = "0.1.0"

__all__ = [
    "EndpointError",
    "EngineError",
    "Example",
    "FlywheelError",
    "Generation",
    "Judgement",
    "Message",
    "ModelError",
    "Origin",
    "Outcome",
    "PluginError",
    "Problem",
    "ProblemError",
    "RecipeError",
    "RunError",
    "Sample",
    "Split",
    "StageError",
    "TrainingError",
    "UserError",
    "Verdict",
    "__version__",
]
