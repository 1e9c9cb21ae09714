"""What one sandboxed program may use, and how a process takes these limits on. Standard library only: runs inside."""

from __future__ import annotations

import resource
from dataclasses import dataclass

FEWEST_TASKS = 32
"""Threads count as processes to the kernel, so a program that may not fork still gets this many."""

MANY_TASKS = 1 << 20
"""Stands for "not counted": where fork is refused, only threads are left, and memory bounds those."""


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
    """Processes and threads at once. 1 forbids fork; threads stay possible (at most `FEWEST_TASKS`)."""
    output_bytes: int = 1 << 20
    """Kept of standard output, and of standard error; what is beyond is read and thrown away."""
    scratch_bytes: int = 64 << 20
    """Size of the scratch directory."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} = {getattr(self, name)!r}; a limit is above zero")


Bounds = list[tuple[int, tuple[int, int]]]


def bounds(limits: Limits, *, tasks_already: int = 0) -> Bounds:
    """`limits` as the kernel takes them, none above what this process is held to already.

    `tasks_already` is what this uid runs elsewhere, where it has no user namespace of its own to be counted in.
    """
    wanted = {
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: limits.descriptors,
        resource.RLIMIT_NPROC: max(limits.processes, FEWEST_TASKS) + tasks_already,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    found = []
    for which, bound in wanted.items():
        hard = resource.getrlimit(which)[1]
        lowered = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        found.append((which, (lowered, lowered)))
    return found


def apply(bounds: Bounds) -> None:
    """Hold this process and its children to `bounds`.

    Must come after the uid drop: the kernel does not hold uid 0 to a number of processes.
    """
    for which, pair in bounds:
        resource.setrlimit(which, pair)
