"""How a command ends that is interrupted: one line on stderr and exit code 130, by whichever signal."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn


def interrupts_by_any_signal() -> None:
    """From here on SIGTERM and SIGHUP (a closed terminal) raise KeyboardInterrupt, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)


def interrupted(said: str) -> int:
    """Print one line for a KeyboardInterrupt that was caught; return the exit code, 130.

    CPython marks an interrupt that leaves an `exec` or `eval` of a string (the standard library makes its data classes
    and named tuples so, while modules load) and ends by that mark with SIGINT's code instead of ours, although the
    exception was caught. Running one more string takes the mark away.
    """
    exec("")
    print(said, file=sys.stderr)
    return 130


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
