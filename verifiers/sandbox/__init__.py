"""A sandbox for programs that a model wrote: levels of isolation, limits, one-off runs and a warm server.

`choose` finds the best level that works on this machine, `run` runs one program, `Server` keeps an interpreter warm
that starts functions of ours in fresh namespaces in milliseconds. docs/sandbox.md says what each level stops.
"""

from flywheel.verifiers.sandbox.cold import Finished, SandboxError, run
from flywheel.verifiers.sandbox.kinds import Level
from flywheel.verifiers.sandbox.levels import choose, describe, self_test
from flywheel.verifiers.sandbox.limits import Limits
from flywheel.verifiers.sandbox.warm import Ended, Server

__all__ = [
    "Ended",
    "Finished",
    "Level",
    "Limits",
    "SandboxError",
    "Server",
    "choose",
    "describe",
    "run",
    "self_test",
]
