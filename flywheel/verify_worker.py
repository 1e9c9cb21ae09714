"""The processes behind `flywheel.verify`: one that forks, and the workers it forks. Run by the pool, not by hand.

The forking process is started once (`python -m flywheel.verify_worker`), listens on a socket that it
inherits, and never runs a verifier's judgement. A worker reads batches of jobs, judges one completion
after another, and sends each judgement as soon as it has it, so the pool knows which one it is at.

Nobody outlives the pool: the kernel kills the forking process when the pool's process ends, however it
ends, and kills the workers when the forking process ends.

Lines are JSON. Pool to worker: `{"verifier", "options", "problems": [fields, …], "jobs": [[index of the
problem, completion], …]}`. Worker to pool: `["loading"]`, `["loaded", verifier, name, version, isolation]`
(all null when it was `prepare()` that loaded), and `["result", outcome, score, answer, detail, spent]`,
where `spent` says that the worker ends with this one.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from flywheel import plugins
from flywheel.errors import PluginError
from flywheel.types import Judgement, Outcome, Problem

PR_SET_PDEATHSIG = 1
LARGEST_REQUEST = 65536
"""Bytes of one request to the forking process: a verifier's name and options."""


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; end at once if that has happened already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def lines(connection: socket.socket) -> Iterator[bytes]:
    """The lines that arrive on a connection, until it is closed."""
    with connection.makefile("rb") as stream:
        yield from stream


# -- the forking process ----------------------------------------------------------------------------


class Forker:
    """Answers the pool's requests: `fork` (with the worker's socket attached) and `end` (kill and reap)."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.children: set[int] = set()
        self.prepared: list[Any] = []

    def serve(self) -> None:
        """Answer until the pool closes its end, then kill what is left."""
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self.control, LARGEST_REQUEST, 1)
            except ConnectionResetError:
                message, descriptors = b"", []
            if not message:
                break
            request = json.loads(message)
            if request["do"] == "fork":
                answer: dict[str, Any] = {"pid": self.fork(descriptors[0], request)}
            else:
                answer = {"ended": self.end(request["pid"])}
            self.control.send(json.dumps(answer).encode())
        for pid in list(self.children):
            self.end(pid)

    def fork(self, descriptor: int, request: dict[str, Any]) -> int:
        """Fork a worker that speaks through `descriptor`; its pid."""
        if request["prepare"] and request["prepare"] not in self.prepared:
            self.prepared.append(request["prepare"])
            _prepare(*request["prepare"])
        me = os.getpid()
        pid = os.fork()
        if pid:
            os.close(descriptor)
            self.children.add(pid)
            return pid
        try:
            die_with_parent(me)
            self.control.close()
            os.setsid()
            os.dup2(1, 2)  # standard output leads nowhere already; a worker's words are its answers
            Worker(socket.socket(fileno=descriptor), request["memory"]).serve()
        finally:
            os._exit(0)

    def end(self, pid: int) -> str:
        """Kill a worker and everything in its process group, reap it, and say how it ended.

        One that was ending by itself keeps its own exit code; and since only this process reaps, the pid
        cannot be anyone else's yet.
        """
        if pid not in self.children:
            return "ended before"
        self.children.discard(pid)
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _prepare(verifier: str, options: dict[str, Any]) -> None:
    """Load here what a replaced worker had loaded, so that the workers forked from now on have it at birth."""
    try:
        prepare = getattr(plugins.make_verifier(verifier, options), "prepare", None)
        if prepare is not None:
            prepare()
    except Exception as error:  # noqa: BLE001 - a plug-in's edge; the worker meets the same fault and reports it
        sys.stderr.write(f"{verifier}: {type(error).__name__}: {error}\n")


# -- a worker ---------------------------------------------------------------------------------------


class Worker:
    """Judges batches from one connection until it is closed."""

    def __init__(self, connection: socket.socket, memory_bytes: int) -> None:
        self.connection = connection
        self.memory_bytes = memory_bytes
        self.verifiers: dict[str, Any] = {}

    def serve(self) -> None:
        """Judge until the connection is closed, or this process is spent."""
        for line in lines(self.connection):
            batch = json.loads(line)
            verify = self.verifier(batch["verifier"], batch["options"])
            problems = [Problem(**fields) for fields in batch["problems"]]
            for index, completion in batch["jobs"]:
                judgement, spent = judge(verify, problems[index], completion)
                self.send("result", judgement.outcome, judgement.score, judgement.answer, judgement.detail, spent)
                if spent:
                    return

    def send(self, *values: Any) -> None:
        """One message to the pool."""
        self.connection.sendall(json.dumps(values).encode() + b"\n")

    def verifier(self, name: str, options: dict[str, Any]) -> Callable[[Problem, str], Any]:
        """The `verify` of a verifier made once a worker; one that cannot be made answers every job with why."""
        key = json.dumps([name, options], sort_keys=True)
        if key not in self.verifiers:
            self.verifiers[key] = self.load(name, options)
        return self.verifiers[key]

    def load(self, name: str, options: dict[str, Any]) -> Callable[[Problem, str], Any]:
        """Import and make a verifier, and hold this process to its memory from here on."""
        self.send("loading")
        shown = [name, "", "worker"]
        verify: Callable[[Problem, str], Any]
        try:
            made = plugins.make_verifier(name, options)
            self.announce_prepare(made)
            verify, shown = made.verify, [*plugins.label(type(made)), getattr(made, "isolation", "worker")]
        except PluginError as error:
            failed = plugins.broken(str(error))
            verify = lambda problem, completion: failed  # noqa: E731
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in's edge
            failed = plugins.broken(f"cannot be made: {type(error).__name__}: {error}")
            verify = lambda problem, completion: failed  # noqa: E731
        self.limit_memory()
        self.send("loaded", name, *shown)
        return verify

    def announce_prepare(self, verifier: Any) -> None:
        """Have the verifier's own first call of `prepare()` tell the pool, which then stops the completion's clock."""
        prepare = getattr(verifier, "prepare", None)
        if prepare is None:
            return

        def announced() -> None:
            self.send("loading")
            self.limit_memory(resource.RLIM_INFINITY)
            prepare()
            self.limit_memory()
            self.send("loaded", None, None, None, None)
            object.__setattr__(verifier, "prepare", prepare)

        object.__setattr__(verifier, "prepare", announced)  # the dataclass may be frozen

    def limit_memory(self, soft: int | None = None) -> None:
        """Allow the address space that is in use, and `memory_bytes` more."""
        if soft is None:
            with open("/proc/self/statm", "rb") as statm:
                soft = int(statm.read().split()[0]) * resource.getpagesize() + self.memory_bytes
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = soft if hard == resource.RLIM_INFINITY else hard if soft == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def judge(verify: Callable[[Problem, str], Any], problem: Problem, completion: str) -> tuple[Judgement, bool]:
    """One judgement, whatever the verifier does; and whether this process is spent.

    Running out of memory is put to the completion's account, as running out of time is.
    """
    try:
        return plugins.to_judgement(verify(problem, completion)), False
    except MemoryError:
        return Judgement(Outcome.TIMEOUT, 0.0, None, "ran out of memory (verify.memory_gib)"), True
    except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:  # noqa: BLE001 - a plug-in's edge
        return plugins.broken(f"{type(error).__name__}: {_text_of(error)}"), False


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a plug-in's edge: an exception's own __str__ can raise
        return "(its text cannot be read)"


def main() -> NoReturn:
    """Serve on the socket whose descriptor and parent pid are the arguments."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with_parent(parent)
    control = socket.socket(fileno=descriptor)
    control.send(b'{"ready": true}')
    Forker(control).serve()
    os._exit(0)


if __name__ == "__main__":
    main()
