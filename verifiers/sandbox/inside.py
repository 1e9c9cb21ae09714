"""The first program in the sandbox: takes on its bounds, starts the real one, and sees to its end. Runs inside.

Started as `python -I -S -c BOOT`, with the standard library alone. It gives up root, then forks; the child takes on
limits, Landlock and seccomp and becomes the program, the parent waits for it. The parent also holds one end of a
leash: when the other end, which only the caller has, is closed, all is killed, so nothing outlives the caller.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from flywheel.verifiers.sandbox import landlock, rlimits, seccomp, system

BOOT = """
import sys, types
place = sys.argv[1]
own = place + "/sandbox"
for name, path in ("flywheel", []), ("flywheel.verifiers", [place]), ("flywheel.verifiers.sandbox", [own]):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = path
from flywheel.verifiers.sandbox import inside
inside.main()
"""
"""Makes the modules here importable under their own names without `flywheel` itself, which is not in the sandbox."""


def pack(config: dict[str, Any], blobs: list[bytes]) -> bytes:
    """A configuration and the files' contents that go with it, for `main` to read."""
    head = json.dumps(config).encode()
    return b"".join([len(head).to_bytes(8, "little"), head, *blobs])


def main() -> NoReturn:
    """Run what the configuration says. Arguments: descriptors of configuration, status and leash."""
    config_at, status, leash = map(int, sys.argv[2:5])
    for descriptor in (config_at, status, leash):
        os.set_inheritable(descriptor, False)
    with open(config_at, "rb") as stream:
        config = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        blobs = [stream.read(size) for _, size in config["files"]]
    try:
        if config["drop"]:
            system.drop_user(keep_search=not config["namespaces"])
        if not config["namespaces"]:
            system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)
        if config["serve"]:
            from flywheel.verifiers.sandbox import zygote

            zygote.serve(config, status, leash)
        write_files(config["scratch"], [name for name, _ in config["files"]], blobs)
        supervise(config, status, leash)
    except OSError as error:
        report(status, {"error": str(error)})
    os._exit(0)


def report(status: int, message: dict[str, Any]) -> None:
    """One line to the caller."""
    with contextlib.suppress(BrokenPipeError):
        os.write(status, json.dumps(message).encode() + b"\n")


def write_files(scratch: str, names: list[str], blobs: list[bytes]) -> None:
    """The caller's files, below the scratch directory. Raises OSError."""
    from pathlib import Path  # not in a server, where each page of memory counts: jobs are forks of it

    for name, blob in zip(names, blobs, strict=True):
        path = Path(scratch) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob)


def supervise(config: dict[str, Any], status: int, leash: int) -> None:
    """Fork the program, wait for its end or for the leash's, and leave nothing of it."""
    me = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            system.die_with_parent(me, signal.SIGKILL)
            confine(make_hold(config, config["limits"]))
            os.chdir(config["scratch"])
            os.closerange(3, status)
            os.closerange(status + 1, 1 << 16)
            os.execvpe(config["argv"][0], config["argv"], config["environment"])
        except (OSError, ValueError) as error:
            report(status, {"error": f"{config['argv'][0]!r} cannot be started: {error}"})
        os._exit(127)
    system.prctl(system.PR_SET_DUMPABLE, 0)  # same uid: keeps the program out of this process's /proc files
    pidfd = os.pidfd_open(child)
    ready = select.poll()
    ready.register(pidfd, select.POLLIN)
    ready.register(leash, select.POLLIN | select.POLLHUP)
    ended = any(descriptor == pidfd for descriptor, _ in ready.poll())
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, code, usage = os.wait4(child, 0)
    if not config["namespaces"]:
        end_strays(child, set())
    code = os.waitstatus_to_exitcode(code)
    report(status, {"code": code, "cpu": usage.ru_utime + usage.ru_stime})
    if not ended and not config["namespaces"]:  # the caller may be gone, and its scratch directory is a real one
        os.execv("/bin/rm", ["rm", "-rf", "--one-file-system", "--", config["scratch"]])


class Hold(NamedTuple):
    """What holds a program, made ready before the fork, which then has little to do."""

    bounds: rlimits.Bounds
    own_users: bool
    """Whether it gets a user namespace of its own, to be counted apart from all else that runs as nobody."""
    ruleset: int | None
    """Landlock's rules."""
    refusals: seccomp.Policy | None
    packed: seccomp.Packed | None
    """The filter for `refusals`; None where these depend on the process's number, or there are none."""


def make_hold(
    config: dict[str, Any],
    limits: Mapping[str, Any],
    *,
    ruleset: int | None = None,
    part: seccomp.Part = seccomp.Part.WHOLE,
) -> Hold:
    """What is to hold a child of this process, which holds itself to the rest of seccomp's part. Raises OSError."""
    namespaces, tasks = config["namespaces"], 0
    if not namespaces:
        counted = limits["processes"] > 1 or not config["landlock"]
        tasks = system.tasks_of_this_user() if counted else rlimits.MANY_TASKS
    if config["landlock"] and ruleset is None:
        ruleset = files_ruleset(config)
    policy = packed = None
    if namespaces or config["landlock"]:
        policy = seccomp.Policy(fork=limits["processes"] > 1, namespaces=namespaces, part=part)
        alone = config["landlock"] and landlock.version() < landlock.SCOPED_SIGNALS
        packed = None if alone else seccomp.Packed(policy)
    return Hold(rlimits.bounds(limits, tasks_already=tasks), namespaces and config["drop"], ruleset, policy, packed)


def confine(hold: Hold) -> None:
    """Take on everything that holds this process and its children, in the order that works. Raises OSError."""
    os.setsid()  # signals to the own process group reach nobody else: a namespace's process 1 shares its parent's group
    if hold.own_users:
        system.enter_user_namespace()
    rlimits.apply(hold.bounds)
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
    if hold.ruleset is not None:
        landlock.restrict(hold.ruleset)
    if hold.packed is not None:
        seccomp.take_on(hold.packed)
    elif hold.refusals is not None:
        seccomp.install(hold.refusals._replace(only_pid=os.getpid()))


def files_ruleset(config: dict[str, Any]) -> int:
    """Landlock's rules for a configuration. Raises OSError."""
    writable = [config["scratch"]] if config["scratch"] else []
    return landlock.make_ruleset(config["readable"], writable, config["devices"], config["listable"])


def end_strays(group: int, spare: set[int]) -> None:
    """Kill what a program has left: its process group, and whatever else has become our child, but for `spare`."""
    while True:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        strays = [pid for pid in _children() if pid not in spare]
        if not strays:
            return
        for pid in strays:  # theirs become ours in turn
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _children() -> list[int]:
    me, found = os.getpid(), []
    for folder in os.scandir("/proc"):
        if folder.name.isdigit():
            with contextlib.suppress(OSError), open(f"{folder.path}/stat", errors="replace") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == me:
                    found.append(int(folder.name))
    return found
