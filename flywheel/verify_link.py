"""The pool's end of its processes: a link to each worker, and one to the process that forks them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from flywheel import guard
from flywheel.errors import StageError

START_SECONDS = 120.0
"""After which the forking process must have answered."""


class ForkerGone(Exception):
    """The forking process ended; the text is what it last wrote."""


class WorkerLink:
    """The pool's end of a worker process."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.judged = 0
        self.loading = False
        self.labels: dict[str, tuple[str, str, str]] = {}
        """Name, version and isolation of each verifier that has been loaded."""
        self._lap_begun = time.monotonic()
        self._connection = connection
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._lines: deque[bytes] = deque()
        self._rest = b""

    def send(self, head: Mapping[str, Any], jobs: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Hand over a batch; a job is a problem (as JSON) and completions. Raises OSError if the worker is gone."""
        problems: dict[str, int] = {}
        body = json.dumps({**head, "jobs": [(problems.setdefault(p, len(problems)), texts) for p, texts in jobs]})
        self._connection.sendall(f'{body[:-1]}, "problems": [{", ".join(problems)}]}}\n'.encode())

    def receive(self, seconds: float) -> list[Any]:
        """The worker's next message. Raises TimeoutError when none comes in time, EOFError when none will."""
        ends = time.monotonic() + seconds
        while not self._lines:
            # What has arrived counts even when this thread got to look at it late.
            if not self._poll.poll(max(0.0, ends - time.monotonic()) * 1000):
                raise TimeoutError
            arrived = self._connection.recv(1 << 16)
            if not arrived:
                raise EOFError
            *whole, self._rest = (self._rest + arrived).split(b"\n")
            self._lines.extend(whole)
        message: list[Any] = json.loads(self._lines.popleft())
        return message

    def lap(self) -> float:
        """Seconds since the last call of this."""
        begun, self._lap_begun = self._lap_begun, time.monotonic()
        return self._lap_begun - begun

    def close(self) -> None:
        """Give the descriptor back."""
        self._connection.close()


class ForkerLink:
    """The pool's end of the process that forks workers (see `flywheel.verify_forker`)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(START_SECONDS)
        command = [sys.executable, "-m", "flywheel.verify_forker", str(theirs.fileno()), str(os.getpid())]
        with theirs:
            # The kernel ties the child's life to the thread that spawns it, so it must be one that stays.
            self._process = guard.in_spawner(
                lambda: subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._log,
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                    start_new_session=True,
                )
            )
        try:
            self._receive()
        except ForkerGone as error:
            self.close()
            raise StageError(f"verifier workers cannot be started: {error}") from None

    def fork(self, memory_bytes: int, prepare: list[Any] | None) -> WorkerLink:
        """A new worker. Raises ForkerGone."""
        ours, theirs = socket.socketpair()
        request = json.dumps({"do": "fork", "memory": memory_bytes, "prepare": prepare}).encode()
        try:
            with theirs, self._lock:
                answer = self._ask(request, [theirs.fileno()])
        except ForkerGone:
            ours.close()
            raise
        return WorkerLink(answer["pid"], ours)

    def end(self, pid: int) -> str:
        """Kill a worker if it still runs; how it ended. Raises ForkerGone."""
        with self._lock:
            ended: str = self._ask(json.dumps({"do": "end", "pid": pid}).encode(), [])["ended"]
        return ended

    def close(self) -> None:
        """End the process, which ends its workers first."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._control.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _ask(self, request: bytes, descriptors: list[int]) -> dict[str, Any]:
        if self._closed:
            raise ForkerGone("It was closed.")
        try:
            socket.send_fds(self._control, [request], descriptors)
        except OSError:
            raise ForkerGone(self._last_words()) from None
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        try:
            answer = self._control.recv(1 << 16)
        except OSError as error:
            raise ForkerGone(f"{error}. {self._last_words()}") from None
        if not answer:
            raise ForkerGone(self._last_words())
        decoded: dict[str, Any] = json.loads(answer)
        return decoded

    def _last_words(self) -> str:
        with contextlib.suppress(ValueError, OSError):
            self._log.seek(0)
            lines = self._log.read().decode(errors="replace").strip().splitlines()
            return f"It last wrote: {lines[-1]}" if lines else "It wrote nothing."
        return ""


def _environment() -> dict[str, str]:
    """This process's environment, with its import path, one thread a worker, and sets in one order."""
    path = os.pathsep.join(p or str(Path.cwd()) for p in sys.path)
    fixed = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **fixed}
