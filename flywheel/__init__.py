"""flywheel improves language models by expert iteration: sample, verify, filter, train, gate, repeat.

What a plug-in needs is here; importing it loads neither torch, vLLM, sympy nor Prefect.
"""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from flywheel.check import check_verifier
    from flywheel.trl_reward import to_trl

__version__ = "0.1.0"

_LAZY = {"check_verifier": "flywheel.check", "to_trl": "flywheel.trl_reward"}


def __getattr__(name: str) -> Any:
    """What starts processes is imported when it is first asked for: a plug-in's own import stays light."""
    if name not in _LAZY:
        raise AttributeError(f"module 'flywheel' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


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
    "check_verifier",
    "to_trl",
]
