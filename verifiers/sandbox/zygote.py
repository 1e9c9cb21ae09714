"""A warm interpreter that starts functions of ours in fresh namespaces. Runs inside, never touches what they work on.

Jobs are forks, so starting one costs a clone and no imports. What a job reads (a completion, tests) comes to it by
descriptor and is never read here: a job's memory is a copy of this process's, and holds nothing of another job.

Requests, one datagram each: `{"do": "start", "role": "module:function", "limits": {...}}` with the job's descriptors
attached, answered `{"job": pid}`; `{"do": "end", "job": pid, "patience": seconds}`, answered `{"code", "cpu"}` when the
job and all it started are gone.
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

from flywheel.verifiers.sandbox import inside, system

LARGEST_REQUEST = 1 << 16
MOST_DESCRIPTORS = 8
FIRST_DESCRIPTOR = 3
"""A job finds its descriptors from here on, in the order in which they were given."""
_PROC_BYTES = 4096


def serve(config: dict[str, Any], status: int, leash: int) -> NoReturn:
    """Start and end jobs until the caller closes its end of the control socket or of the leash."""
    control = socket.socket(fileno=config["control"])
    os.environ.clear()
    os.environ.update(config["environment"])
    sys.path += config["paths"]
    os.chdir("/")
    roles = {name: _load(name) for name in config["preload"]}
    if config["landlock"]:
        config["ruleset"] = inside.files_ruleset(config)
    gc.collect()
    gc.freeze()  # a collection in a job then does not copy the pages of everything that is loaded here
    inside.report(status, {"ready": True})
    ready = select.poll()
    ready.register(control, select.POLLIN | select.POLLHUP)
    ready.register(leash, select.POLLIN | select.POLLHUP)
    jobs: set[int] = set()
    while True:
        if any(at == leash for at, _ in ready.poll()):
            break
        message, descriptors, _, _ = socket.recv_fds(control, LARGEST_REQUEST, MOST_DESCRIPTORS)
        if not message:
            break
        request = json.loads(message)
        try:
            if request["do"] == "start":
                job = _start(config, roles[request["role"]], request["limits"], descriptors)
                jobs.add(job)
                answer = {"job": job}
            else:
                jobs.remove(request["job"])
                answer = _end(config, request["job"], request["patience"], spare=jobs)
        except OSError as error:
            answer = {"error": str(error)}
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(json.dumps(answer).encode())
    for job in jobs:
        _end(config, job, 0.0, spare=jobs)
    os._exit(0)


def _load(role: str) -> Callable[[list[int]], None]:
    module, _, function = role.partition(":")
    loaded: Callable[[list[int]], None] = getattr(importlib.import_module(module), function)
    return loaded


def _start(config: dict[str, Any], role: Callable[[list[int]], None], bounds: dict[str, Any], given: list[int]) -> int:
    uid, gid, me = os.geteuid(), os.getegid(), os.getpid()
    if config["namespaces"]:
        job = system.clone(system.CLONE_NEWUSER | system.CLONE_NEWPID | system.CLONE_NEWNS)
    else:
        job = os.fork()
    if job:
        return job
    try:
        if config["namespaces"]:
            system.map_user(uid, gid)
            system.mount_tmpfs(config["scratch"], bounds["scratch_bytes"])
            os.chdir(config["scratch"])
            system.mount_tmpfs("/proc", _PROC_BYTES, system.MS_RDONLY)  # nothing of other processes to read
            system.set_capabilities(0)
        else:
            system.die_with_parent(me, signal.SIGKILL)
        inside.confine({**config, "limits": bounds, "drop": False}, ruleset=config.get("ruleset"))
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


def _end(config: dict[str, Any], job: int, patience: float, *, spare: set[int]) -> dict[str, Any]:
    pidfd = os.pidfd_open(job)
    waiting = select.poll()
    waiting.register(pidfd, select.POLLIN)
    if not waiting.poll(patience * 1000):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    _, code, usage = os.wait4(job, 0)
    if not config["namespaces"]:  # there, the end of process 1 was the end of all
        inside.end_strays(job, spare)
    return {"code": os.waitstatus_to_exitcode(code), "cpu": usage.ru_utime + usage.ru_stime}
