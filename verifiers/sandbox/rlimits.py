"""How a process takes limits on. Standard library only: runs inside."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from typing import Any

FEWEST_TASKS = 32
"""Threads count as processes to the kernel, so a program that may not fork still gets this many."""

MANY_TASKS = 1 << 20
"""Stands for "not counted": where fork is refused, only threads are left, and memory bounds those."""

Bounds = list[tuple[int, tuple[int, int]]]


def bounds(limits: Mapping[str, Any], *, tasks_already: int = 0) -> Bounds:
    """`limits` (the fields of `Limits`) as the kernel takes them, none above what this process is held to already.

    `tasks_already` is what this uid runs elsewhere, where it has no user namespace of its own to be counted in.
    """
    wanted = {
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_CPU: limits["cpu_seconds"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NOFILE: limits["descriptors"],
        resource.RLIMIT_NPROC: max(limits["processes"], FEWEST_TASKS) + tasks_already,
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
