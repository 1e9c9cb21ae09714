"""A warm interpreter that starts functions of ours in fresh namespaces. Runs inside, never touches what they work on.

Jobs are forks, so starting one costs a clone and no imports. What a job reads (a completion, tests) comes to it by
descriptor and is never read here: a job's memory is a copy of this process's, and holds nothing of another job. A job
can write no file, and at level `namespaces` it is process 1 of a process namespace and nobody in a user namespace,
both its own.

Requests, one datagram each: `{"do": "start", "job": number, "role": "module:function", "limits": {...}}` with the job's
descriptors attached, which is not answered; `{"do": "end", "job": number, "patience": seconds}`, answered
`{"code", "cpu"}` when the job and all it started are gone, or `{"error"}` where it could not be started.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from flywheel.verifiers.sandbox import inside, limits, system

LARGEST_REQUEST = 1 << 16
MOST_DESCRIPTORS = 8
FIRST_DESCRIPTOR = 3
"""A job finds its descriptors from here on, in the order in which they were given."""


def serve(config: dict[str, Any], status: int, leash: int) -> NoReturn:
    """Start and end jobs until the caller closes its end of the control socket or of the leash."""
    control = socket.socket(fileno=config["control"])
    os.environ.clear()
    os.environ.update(config["environment"])
    sys.path += config["paths"]
    os.chdir("/")
    roles = {name: _load(name) for name in config["preload"]}
    _rehearse(config["preload"])
    config["drop"] = False  # done
    # Where fork is refused, or the end of process 1 is the end of all, an ended job has left nothing to look for.
    config["may_leave_strays"] = not (config["namespaces"] or config["landlock"])
    gc.collect()
    gc.freeze()  # a collection in a job then does not copy the pages of everything that is loaded here
    inside.report(status, {"ready": True})
    ready = select.poll()
    ready.register(control, select.POLLIN | select.POLLHUP)
    ready.register(leash, select.POLLIN | select.POLLHUP)
    jobs: dict[int, int | OSError] = {}
    holds = _Holds(config)
    while not any(at == leash for at, _ in ready.poll()):
        message, descriptors, _, _ = socket.recv_fds(control, LARGEST_REQUEST, MOST_DESCRIPTORS)
        if not message:
            break
        request = json.loads(message)
        if request["do"] == "start":
            try:
                hold = holds.of(request["limits"])
                jobs[request["job"]] = _start(config, roles[request["role"]], hold, descriptors)
            except OSError as error:
                jobs[request["job"]] = error
            for descriptor in descriptors:
                os.close(descriptor)
        else:
            control.send(json.dumps(_end(config, jobs, request["job"], request["patience"])).encode())
    for number in list(jobs):
        _end(config, jobs, number, 0.0)
    os._exit(0)


def _load(role: str) -> Callable[[list[int]], None]:
    module, _, function = role.partition(":")
    loaded: Callable[[list[int]], None] = getattr(importlib.import_module(module), function)
    return loaded


def _rehearse(roles: list[str]) -> None:
    """Call `rehearse()` of the roles' modules that have it.

    It does with material of our own what jobs do, without effect. What the interpreter writes on the way (specialised
    code, caches of attributes, its heap's free places) jobs then find written: a page that a job writes is copied.
    """
    for name in dict.fromkeys(role.partition(":")[0] for role in roles):
        rehearse: Callable[[], None] | None = getattr(sys.modules[name], "rehearse", None)
        if rehearse is not None:
            rehearse()


class _Holds:
    """What holds jobs, by their limits; most jobs have the same."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._ruleset = inside.files_ruleset(config) if config["landlock"] else None
        self._made: dict[str, inside.Hold] = {}

    def of(self, bounds: dict[str, Any]) -> inside.Hold:
        """The hold for limits. Raises OSError."""
        name = str(bounds)
        if name not in self._made:
            hold = inside.make_hold(self._config, limits.Limits(**bounds), ruleset=self._ruleset)
            if self._config["may_leave_strays"]:  # processes are counted there, and their number changes
                return hold
            self._made[name] = hold
        return self._made[name]


def _start(config: dict[str, Any], role: Callable[[list[int]], None], hold: inside.Hold, given: list[int]) -> int:
    me = os.getpid()
    pid = system.clone(system.CLONE_NEWUSER | system.CLONE_NEWPID) if config["namespaces"] else os.fork()
    if pid:
        return pid
    try:
        if config["namespaces"]:
            system.drop_capabilities()
        else:
            system.die_with_parent(me, signal.SIGKILL)
        inside.confine(hold)
        role(_keep_only(given))
        code = 0
    except BaseException as error:  # noqa: BLE001 - a forked child must never return into its parent's code
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        code = 1
    os._exit(code)


def _keep_only(given: list[int]) -> list[int]:
    """Close every descriptor but the standard three and `given`, which get the numbers from `FIRST_DESCRIPTOR` on."""
    above = max(given, default=0) + FIRST_DESCRIPTOR + len(given)
    for offset, descriptor in enumerate(given):
        os.dup2(descriptor, above + offset)
    for offset in range(len(given)):
        os.dup2(above + offset, FIRST_DESCRIPTOR + offset)
    os.closerange(FIRST_DESCRIPTOR + len(given), 1 << 16)
    return list(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + len(given)))


def _ends(pid: int, patience: float) -> bool:
    pidfd = os.pidfd_open(pid)
    waiting = select.poll()
    waiting.register(pidfd, select.POLLIN)
    ended = waiting.poll(patience * 1000)
    os.close(pidfd)
    return bool(ended)


def _end(config: dict[str, Any], jobs: dict[int, int | OSError], number: int, patience: float) -> dict[str, Any]:
    pid = jobs.pop(number)
    if isinstance(pid, OSError):
        return {"error": str(pid)}
    if not (patience and _ends(pid, patience)):
        os.kill(pid, signal.SIGKILL)  # not waited for yet, so the number is still its own
    _, code, usage = os.wait4(pid, 0)
    if config["may_leave_strays"]:
        inside.end_strays(pid, {p for p in jobs.values() if isinstance(p, int)})
    return {"code": os.waitstatus_to_exitcode(code), "cpu": usage.ru_utime + usage.ru_stime}
