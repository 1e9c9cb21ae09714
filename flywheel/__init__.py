"""flywheel improves language models by expert iteration: sample, verify, filter, train, gate, repeat.

What a plug-in needs is here; importing it loads neither torch, vLLM, sympy nor Prefect. The names of `_LAZY`
are imported when they are first used.
"""

import importlib
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
    from flywheel.identity import verifier_identity
    from flywheel.judgeable import answer_is_question, undecidable, unfit_for
    from flywheel.judgements import to_judgement
    from flywheel.judging import judge_batch, judge_group, judge_one, seconds_left
    from flywheel.plugins import import_file, make_verifier
    from flywheel.policy import Completion, Policy, Request
    from flywheel.policy.device import torch_device
    from flywheel.policy.own import model_folder, model_identity, model_lack, open_policy
    from flywheel.protocols import DEADLINE_SECONDS, lack_of
    from flywheel.trl_reward import to_trl

__version__ = "0.1.0"

_LAZY = {
    "Completion": "flywheel.policy",
    "DEADLINE_SECONDS": "flywheel.protocols",
    "Policy": "flywheel.policy",
    "Request": "flywheel.policy",
    "answer_is_question": "flywheel.judgeable",
    "check_verifier": "flywheel.check",
    "import_file": "flywheel.plugins",
    "judge_batch": "flywheel.judging",
    "judge_group": "flywheel.judging",
    "judge_one": "flywheel.judging",
    "lack_of": "flywheel.protocols",
    "make_verifier": "flywheel.plugins",
    "model_folder": "flywheel.policy.own",
    "model_identity": "flywheel.policy.own",
    "model_lack": "flywheel.policy.own",
    "open_policy": "flywheel.policy.own",
    "seconds_left": "flywheel.judging",
    "to_judgement": "flywheel.judgements",
    "to_trl": "flywheel.trl_reward",
    "torch_device": "flywheel.policy.device",
    "undecidable": "flywheel.judgeable",
    "unfit_for": "flywheel.judgeable",
    "verifier_identity": "flywheel.identity",
}

__all__ = [
    "DEADLINE_SECONDS",
    "Completion",
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
    "Policy",
    "Problem",
    "ProblemError",
    "RecipeError",
    "Request",
    "RunError",
    "Sample",
    "Split",
    "StageError",
    "TrainingError",
    "UserError",
    "Verdict",
    "__version__",
    "answer_is_question",
    "check_verifier",
    "import_file",
    "judge_batch",
    "judge_group",
    "judge_one",
    "lack_of",
    "make_verifier",
    "model_folder",
    "model_identity",
    "model_lack",
    "open_policy",
    "seconds_left",
    "to_judgement",
    "to_trl",
    "torch_device",
    "undecidable",
    "unfit_for",
    "verifier_identity",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
