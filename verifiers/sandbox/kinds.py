"""The names of the isolation levels."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """How strongly a program is kept from the machine, best first; docs/sandbox.md says what each does not stop."""

    NAMESPACES = "namespaces"
    """bubblewrap: own process, network, mount, user and ipc namespaces, sized scratch, seccomp, rlimits."""
    LANDLOCK = "landlock"
    """Landlock, seccomp and rlimits: also in containers that refuse user namespaces."""
    UNSAFE = "unsafe"
    """rlimits and a clean end only."""
