"""The caller's end of a warm sandbox: an interpreter inside that starts functions of ours in milliseconds."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from flywheel.verifiers.sandbox import inside, zygote
from flywheel.verifiers.sandbox.cold import Cell, SandboxError
from flywheel.verifiers.sandbox.kinds import Level
from flywheel.verifiers.sandbox.limits import Limits

START_SECONDS = 60.0
"""After which the interpreter must be ready."""
ANSWER_SECONDS = 20.0
"""After which it must have answered; all it does takes milliseconds."""
_LARGEST_ANSWER = 1 << 16


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended: its exit code, negative for the signal that killed it, and the processor time it used."""

    code: int
    cpu_seconds: float


class Server:
    """An interpreter in a sandbox of its own, warm until it is closed; each job gets fresh namespaces.

    `roles` are the functions that jobs may be, as `module:function`; they get their descriptors' numbers and use
    only the standard library, `flywheel.verifiers` and `packages`. Safe to use from any thread, useless after a fork.
    Raises SandboxError where the level does not work here.
    """

    def __init__(self, level: Level, roles: Sequence[str], *, readable: Sequence[Path | str] = ()) -> None:
        self.level = level
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._jobs = 0
        self._kinds: dict[tuple[str, Limits], int] = {}
        self._cell = Cell(level, readable, Limits(), serve=True)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(ANSWER_SECONDS)
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        try:
            with theirs:
                config = self._cell.config | {
                    "control": theirs.fileno(),
                    "preload": list(roles),
                    "paths": sorted({str(Path(p).parent) for p in readable}),
                    "environment": self._cell.environment({}),
                }
                self._cell.start(
                    inside.pack(config, []), subprocess.DEVNULL, subprocess.DEVNULL, self._words.fileno(),
                    keep=[theirs.fileno()],
                )  # fmt: skip
            self._await_ready()
        except SandboxError:
            self.close()
            raise

    def _await_ready(self) -> None:
        if not select.select([self._cell.status], [], [], START_SECONDS)[0]:
            raise SandboxError(f"the sandbox was not ready within {START_SECONDS:g} s")
        self._cell.listen()
        message = self._cell.last_message()
        if "ready" not in message:
            self._words.seek(0)
            said = self._words.read().decode(errors="replace").strip().splitlines()
            why = message.get("error") or (said[-1] if said else "it ended without a word")
            raise SandboxError(f"the sandbox did not start: {why}")

    @property
    def usable(self) -> bool:
        """Whether this process made it, and it has not been closed or broken."""
        return self._owner == os.getpid() and self._control.fileno() >= 0

    def start(self, role: str, descriptors: Sequence[int], limits: Limits) -> int:
        """Start a job that works on `descriptors`, and may not fork; its number. Raises SandboxError.

        Whether it could be started is known when its end is asked for.
        """
        if limits.processes > 1:
            raise ValueError("a job may not fork; set processes = 1")
        with self._lock:
            kind = self._kinds.get((role, limits))
            if kind is None:
                kind = self._kinds[role, limits] = len(self._kinds)
                self._send(zygote.KIND + json.dumps({"role": role, "limits": asdict(limits)}).encode())
            self._jobs += 1
            self._send(zygote.JOB_AND_KIND.pack(zygote.START, self._jobs, kind), descriptors)
            return self._jobs

    def end(self, job: int, patience: float = 0.0) -> Ended:
        """Wait for a job's end, for `patience` seconds, then kill it; nothing of it is left. Raises SandboxError."""
        with self._lock:
            self._send(zygote.JOB_AND_SECONDS.pack(zygote.END, job, patience))
            try:
                self._control.settimeout(ANSWER_SECONDS + patience)
                answer = self._control.recv(_LARGEST_ANSWER)
            except OSError as error:
                raise self._broken(str(error)) from None
        if not answer:
            raise self._broken("it has ended")
        if answer.startswith(zygote.FAILED):
            raise SandboxError(f"the sandbox could not start a job: {answer.removeprefix(zygote.FAILED).decode()}")
        _, code, seconds = zygote.CODE_AND_SECONDS.unpack(answer)
        return Ended(code, seconds)

    def _send(self, request: bytes, descriptors: Sequence[int] = ()) -> None:
        try:
            if descriptors:
                socket.send_fds(self._control, [request], descriptors)
            else:
                self._control.send(request)
        except OSError as error:
            raise self._broken(str(error)) from None

    def _broken(self, why: str) -> SandboxError:
        self._words.seek(0)
        said = self._words.read().decode(errors="replace").strip().splitlines()
        self.close()
        return SandboxError(
            f"the sandbox's interpreter does not answer: {why}" + (f"; it wrote: {said[-1]}" if said else "")
        )

    def close(self) -> None:
        """End the interpreter and every job. In a fork of the process that made it, only give up the descriptors."""
        self._control.close()
        self._words.close()
        if self._owner == os.getpid():
            self._cell.close()
        else:
            self._cell.forget()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self.close()
