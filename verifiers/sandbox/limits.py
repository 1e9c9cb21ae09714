"""What one sandboxed program may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds for one program; what goes beyond fails or is killed, and never slows the others down."""

    wall_seconds: float = 10.0
    """From start to end by the clock; kept from outside, ends in SIGKILL for the program and all it started."""
    cpu_seconds: int = 10
    """Processor time of each process, in whole seconds."""
    memory_bytes: int = 1 << 30
    """Address space of each process."""
    file_bytes: int = 16 << 20
    """Largest file that can be written."""
    descriptors: int = 64
    """Open files of each process."""
    processes: int = 32
    """Processes and threads at once. 1 forbids fork; threads stay possible (at most `rlimits.FEWEST_TASKS`)."""
    output_bytes: int = 1 << 20
    """Kept of standard output, and of standard error; what is beyond is read and thrown away."""
    scratch_bytes: int = 64 << 20
    """Size of the scratch directory."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} = {getattr(self, name)!r}; a limit is above zero")
