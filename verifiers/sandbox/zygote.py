"""A warm interpreter that starts functions of ours in fresh namespaces. Runs inside, never touches what they work on.

Jobs are forks, so starting one costs a clone and no imports. What a job reads (a completion, tests) comes to it by
descriptor and is never read here: a job's memory is a copy of this process's, and holds nothing of another job. A job
can write no file, and at level `namespaces` it is process 1 of a process namespace and nobody in a user namespace,
both its own.

Requests, one datagram each: `KIND` and the JSON `{"role": "module:function", "limits": {...}}`, which makes the next
number stand for such jobs; `START`, a job's number and its kind's, with the job's descriptors attached; `END`, a job's
number and the seconds to be patient. Only the last is answered: `ENDED`, the exit code and the processor time, when the
job and all it started are gone, or `FAILED` and why it could not be started.
"""

from __future__ import annotations

import _socket  # what `socket` is made of: its enumerations would be in the memory of every job
import gc
import importlib
import json
import os
import select
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from flywheel.verifiers.sandbox import inside, seccomp, system

KIND, START, END, ENDED, FAILED = b"kind", b"strt", b"end.", b"endd", b"fail"
JOB_AND_KIND, JOB_AND_SECONDS, CODE_AND_SECONDS = (struct.Struct(f"<4s{f}") for f in ("QI", "Qd", "id"))
LARGEST_REQUEST = 1 << 16
MOST_DESCRIPTORS = 8
_SPACE = _socket.CMSG_SPACE(MOST_DESCRIPTORS * struct.calcsize("i"))
FIRST_DESCRIPTOR = 3
"""A job finds its descriptors from here on, in the order in which they were given."""


def serve(config: dict[str, Any], status: int, leash: int) -> NoReturn:
    """Start and end jobs until the caller closes its end of the control socket or of the leash."""
    control = _socket.socket(fileno=config["control"])
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
    desk = _Desk(config, roles)
    while not any(at == leash for at, _ in ready.poll()):
        request, attached, _, _ = control.recvmsg(LARGEST_REQUEST, _SPACE)
        if not request:
            break
        answer = desk.serve(request, [number for _, _, data in attached for number in memoryview(data).cast("i")])
        if answer is not None:
            control.send(answer)
    desk.close()
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


class _Desk:
    """Where requests are served: the kinds of jobs, and those that run."""

    def __init__(self, config: dict[str, Any], roles: dict[str, Callable[[list[int]], None]]) -> None:
        self._config = config
        self._roles = roles
        self._ruleset = inside.files_ruleset(config) if config["landlock"] else None
        self._kinds: list[tuple[Callable[[list[int]], None], dict[str, Any], inside.Hold]] = []
        self._jobs: dict[int, int | OSError] = {}
        if config["namespaces"] or config["landlock"]:  # what all jobs are refused is put on once, and inherited
            common = seccomp.Policy(fork=False, namespaces=config["namespaces"], part=seccomp.Part.STARTER)
            seccomp.install(common)

    def serve(self, request: bytes, descriptors: list[int]) -> bytes | None:
        """Do what a request says; the answer, where it has one."""
        what = request[:4]
        if what == START:
            _, number, kind = JOB_AND_KIND.unpack(request)
            try:
                self._jobs[number] = self._start(kind, descriptors)
            except OSError as error:
                self._jobs[number] = error
            for descriptor in descriptors:
                os.close(descriptor)
        elif what == END:
            _, number, patience = JOB_AND_SECONDS.unpack(request)
            return self._end(number, patience)
        elif what == KIND:
            said = json.loads(request[4:])
            limits = said["limits"]
            self._kinds.append((self._roles[said["role"]], limits, self._hold(limits)))
        return None

    def _hold(self, limits: dict[str, Any]) -> inside.Hold:
        return inside.make_hold(self._config, limits, ruleset=self._ruleset, part=seccomp.Part.STARTED)

    def _start(self, kind: int, descriptors: list[int]) -> int:
        role, limits, hold = self._kinds[kind]
        if self._config["may_leave_strays"]:  # processes are counted there, and their number changes
            hold = self._hold(limits)
        return _start(self._config, role, hold, descriptors)

    def _end(self, number: int, patience: float) -> bytes:
        pid = self._jobs.pop(number)
        if isinstance(pid, OSError):
            return FAILED + str(pid).encode()
        if not (patience and _ends(pid, patience)):
            os.kill(pid, signal.SIGKILL)  # not waited for yet, so the number is still its own
        _, code, usage = os.wait4(pid, 0)
        if self._config["may_leave_strays"]:
            inside.end_strays(pid, {p for p in self._jobs.values() if isinstance(p, int)})
        seconds = usage.ru_utime + usage.ru_stime
        return CODE_AND_SECONDS.pack(ENDED, os.waitstatus_to_exitcode(code), seconds)

    def close(self) -> None:
        """End all jobs."""
        for number in list(self._jobs):
            self._end(number, 0.0)


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
        given = _keep_only(given)
        os.dup2(1, 2)  # nothing that a job writes stands anywhere: the next one could read it
        role(given)
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
