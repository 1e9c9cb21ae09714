"""Every error flywheel raises on purpose.

    FlywheelError
    ├── UserError            the caller can put it right: one line, exit code 2, no traceback
    │   ├── RecipeError      a recipe's field is unknown, out of range, or at odds with another
    │   ├── ProblemError     a problem file is missing, empty, malformed, or leaves nothing held out
    │   ├── ModelError       a model cannot be found, fetched or read
    │   ├── PluginError      a verifier or policy name does not lead to a class
    │   ├── RunError         a run's directory is of another recipe, locked, or not a run at all
    │   └── EndpointError    a model server refuses, or is not there
    └── StageError           a stage could not finish: the engine died, the trainer failed, too many
                             verifier errors. What was done is kept; the same command goes on from it.
        ├── EngineError
        └── TrainingError

A message says what happened, with which value, and what to do next.
"""

from __future__ import annotations


class FlywheelError(Exception):
    """The root of all errors raised on purpose."""


class UserError(FlywheelError):
    """Something the caller can put right. The CLI prints it as one line and exits with 2."""


class RecipeError(UserError):
    """A recipe's field is unknown, out of range, or at odds with another."""


class ProblemError(UserError):
    """A problem source is missing, empty, malformed, or leaves nothing held out."""


class ModelError(UserError):
    """A model cannot be found, fetched or read."""


class PluginError(UserError):
    """A name does not lead to a verifier or policy class."""


class RunError(UserError):
    """A run's directory belongs to another recipe, is locked by another process, or is no run."""


class EndpointError(UserError):
    """A model server refuses, or is not there."""


class StageError(FlywheelError):
    """A stage could not finish. What it finished is kept; running again goes on from there."""


class EngineError(StageError):
    """The process that serves the policy died or answered with an error."""


class TrainingError(StageError):
    """The trainer's process ended without a model."""
