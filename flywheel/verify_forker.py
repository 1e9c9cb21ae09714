"""The process that forks the workers of `flywheel.verify`. Run by the pool, not by hand.

It is started once (`python -m flywheel.verify_forker`), listens on a socket that it inherits, and never
runs a verifier's judgement. Its requests are JSON: `fork`, with the worker's socket attached, and `end`.

Nobody outlives the pool: the kernel tells this process when the pool's process has ended, however it
ended, and kills the workers when this process ends. What a worker started and left behind, in a session
of its own or by forking twice, becomes this process's child (PR_SET_CHILD_SUBREAPER) and is ended too.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from flywheel import plugins
from flywheel.guard_process import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl
from flywheel.verify_worker import Worker

LARGEST_REQUEST = 65536
"""Bytes of one request: a verifier's name and options."""
LOOK_SECONDS = 1.0
"""How often orphans that have ended are buried while nothing is asked."""
SWEEP_SECONDS = 5.0
"""After which a tree of processes that grows faster than it is killed is given up on."""


def die_with_parent(parent: int, how: signal.Signals) -> None:
    """Have the kernel send `how` to this process when its parent ends; end at once if that has happened already."""
    prctl(PR_SET_PDEATHSIG, how)
    if os.getppid() != parent:
        os._exit(0)


class Forker:
    """Answers the pool's requests."""

    def __init__(self, control: socket.socket, parent: int) -> None:
        self.control, self.parent = control, parent
        self.workers: set[int] = set()
        self.prepared: list[Any] = []

    def serve(self) -> None:
        """Answer until the pool closes its end."""
        self.control.settimeout(LOOK_SECONDS)
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self.control, LARGEST_REQUEST, 1)
            except TimeoutError:
                self.bury_orphans()
                continue
            except ConnectionResetError:
                return
            if not message:
                return
            request = json.loads(message)
            if request["do"] == "fork":
                answer: dict[str, Any] = {"pid": self.fork(descriptors[0], request)}
            else:
                answer = {"ended": self.end(request["pid"])}
            self.control.send(json.dumps(answer).encode())

    def fork(self, descriptor: int, request: dict[str, Any]) -> int:
        """Fork a worker that speaks through `descriptor`; its pid."""
        if request["prepare"] and request["prepare"] not in self.prepared:
            self.prepared.append(request["prepare"])
            # A library that hangs in C would keep the gentler signal from ever being heard.
            die_with_parent(self.parent, signal.SIGKILL)
            _prepare(*request["prepare"])
            die_with_parent(self.parent, signal.SIGTERM)
        me = os.getpid()
        pid = os.fork()
        if pid:
            os.close(descriptor)
            self.workers.add(pid)
            return pid
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            die_with_parent(me, signal.SIGKILL)
            self.control.close()
            os.setsid()
            os.dup2(1, 2)  # standard output leads nowhere already; a worker's words are its answers
            Worker(socket.socket(fileno=descriptor), request["memory"]).serve()
        finally:
            os._exit(0)

    def end(self, pid: int) -> str:
        """Kill a worker and all that it started, and say how it ended.

        One that was ending by itself keeps its own exit code; and since only this process reaps, the pid
        cannot be anyone else's yet.
        """
        if pid not in self.workers:
            return "ended before"
        self.workers.discard(pid)
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        self.kill_orphans()
        code = os.waitstatus_to_exitcode(status)
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def end_all(self) -> None:
        """Kill every worker and all that they started."""
        for pid in list(self.workers):
            self.end(pid)
        self.kill_orphans()

    # -- orphans: children of this process that it did not fork -----------------------------------------

    def kill_orphans(self) -> None:
        """Kill them until there are none: the children of one that is killed become orphans in turn."""
        give_up = time.monotonic() + SWEEP_SECONDS
        while (orphans := self.orphans()) and time.monotonic() < give_up:
            for pid in orphans:
                with contextlib.suppress(PermissionError):  # it became another user: not ours to end
                    os.kill(pid, signal.SIGKILL)
            for pid in orphans:
                if not os.waitpid(pid, os.WNOHANG)[0]:
                    time.sleep(0.001)

    def bury_orphans(self) -> None:
        """Take leave of those that have ended by themselves."""
        for pid in self.orphans():
            os.waitpid(pid, os.WNOHANG)

    def orphans(self) -> list[int]:
        """The pids of this process's children that are no workers, ended ones included."""
        return [pid for pid in children() if pid not in self.workers]


def children() -> list[int]:
    """The pids of this process's children."""
    me = os.getpid()
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{me}/children").read_text().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [int(p.parent.name) for p in Path("/proc").glob("[0-9]*/stat") if _parent(p) == me]


def _parent(stat: Path) -> int | None:
    try:
        return int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _prepare(verifier: str, options: dict[str, Any]) -> None:
    """Load here what a replaced worker had loaded, so that the workers forked from now on have it at birth."""
    try:
        prepare = getattr(plugins.make_verifier(verifier, options), "prepare", None)
        if prepare is not None:
            prepare()
    except Exception as error:  # noqa: BLE001 - a plug-in's edge; the worker meets the same fault and reports it
        sys.stderr.write(f"{verifier}: {type(error).__name__}: {error}\n")


def main() -> NoReturn:
    """Serve on the socket whose descriptor and parent pid are the arguments."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    die_with_parent(parent, signal.SIGTERM)
    control = socket.socket(fileno=descriptor)
    forker = Forker(control, parent)
    try:
        control.send(b'{"ready": true}')
        forker.serve()
    finally:
        forker.end_all()
        os._exit(0)


if __name__ == "__main__":
    main()
