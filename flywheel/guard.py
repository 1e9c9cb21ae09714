"""Child processes that cannot outlive the run: engines and trainers run under a small guard process.

`spawn` starts `guard_process.py` in a session of its own; the guard starts the command and stays its parent.
Whatever ends the run (Ctrl-C, a cancel, SIGTERM, SIGKILL, a crash), the kernel sends the guard SIGTERM
(PR_SET_PDEATHSIG), and the guard ends everything below it: SIGTERM first, SIGKILL after `GRACE_SECONDS`.
What left the session is found too, because the guard adopts its orphans (PR_SET_CHILD_SUBREAPER).

    run ──> guard (own session) ──> engine or trainer ──> its own workers
             └ pid file, log file, exit code

A pid file with the process's start time lets `reap` end what is left should the guard itself be killed.
Linux only.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from flywheel import guard_process
from flywheel.guard_process import GIVE_UP_SECONDS, GRACE_SECONDS, below, lives, signal_to, this_place

T = TypeVar("T")


class _Spawner:
    """A thread that lives as long as its process and starts all children.

    PR_SET_PDEATHSIG fires when the *thread* that forked ends, so a child started from a worker thread
    of a pool would be killed when the pool shrinks.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="flywheel-spawner", daemon=True).start()

    def _work(self) -> None:
        while True:
            future, call = self._calls.get()
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001  it belongs to the caller, who gets it from the future
                future.set_exception(error)

    def run(self, call: Callable[[], T]) -> T:
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future.result()


_spawner: _Spawner | None = None
_spawner_lock = threading.Lock()


def in_spawner(call: Callable[[], T]) -> T:
    """Run `call` on the one thread that never ends, and return or raise what it does.

    Start every child that asks for a parent-death signal from here.
    """
    global _spawner
    with _spawner_lock:
        if _spawner is None or _spawner.pid != os.getpid():  # a fork copies the object but not its thread
            _spawner = _Spawner()
    return _spawner.run(call)


class Guarded:
    """A command that runs under a guard. Its exit code is the command's (128 + n after signal n)."""

    def __init__(self, guard: subprocess.Popen[bytes], *, name: str, log: Path, pid_dir: Path) -> None:
        self.name = name
        self.log = log
        self._guard = guard
        self._pid_file = pid_dir / f"{name}-{guard.pid}.json"

    @property
    def pid(self) -> int:
        """The guard's process id, which is also the id of the session."""
        return self._guard.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or None while the command runs."""
        code = self._guard.poll()
        return None if code is None else self._ended(code)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code. Raises TimeoutError after `timeout` seconds."""
        try:
            code = self._guard.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} (pid {self.pid}) still runs after {timeout:g} s") from None
        return self._ended(code)

    def terminate(self) -> int:
        """End the command and all below it, wait until they are gone, and return the exit code."""
        if self._guard.poll() is None:
            self._guard.send_signal(signal.SIGTERM)
        try:
            return self.wait(GRACE_SECONDS + GIVE_UP_SECONDS)
        except TimeoutError:
            self._guard.kill()
            return self.wait()

    def _ended(self, code: int) -> int:
        if code < 0 and self._pid_file.exists():  # the guard itself was killed, so it could not do its work
            _kill_below(self.pid, since=0)
        self._pid_file.unlink(missing_ok=True)
        return code if code >= 0 else 128 - code


def spawn(
    command: Sequence[str],
    *,
    name: str,
    log: Path,
    pid_dir: Path,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Guarded:
    """Start `command` so that it ends when this process does, however that comes about.

    Output goes to the end of `log`, nothing to the terminal; there is no standard input. `env` is laid
    over this process's environment. `pass_fds` stay open in the command under the same numbers.
    A command that cannot be started exits with 127 and says why in the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    pid_dir.mkdir(parents=True, exist_ok=True)
    # -I and -S: the guard needs nothing but the standard library, and starts in 20 ms.
    guard = [sys.executable, "-I", "-S", guard_process.__file__, f"--parent={os.getpid()}", f"--name={name}"]
    guard += [f"--pid-dir={pid_dir.resolve()}", f"--close={','.join(map(str, pass_fds))}", "--", *command]
    with open(log, "ab") as output:
        process = in_spawner(
            lambda: subprocess.Popen(
                guard,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
        )
    return Guarded(process, name=name, log=log, pid_dir=pid_dir.resolve())


def last_lines(log: Path, count: int = 12) -> str:
    """The last non-empty lines of a log file, for an error message; "" if there is none."""
    try:
        with open(log, "rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - 65536))
            text = handle.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-count:])


def reap(pid_dir: Path) -> list[str]:
    """End what a dead run left running, and say what it was: `engine (pid 4711)`.

    Reads the pid files in `pid_dir`. Left alone are processes whose run still lives, those of another
    machine, and any that took over a process id in the meantime (told by the start time).
    """
    ended = []
    for file in sorted(pid_dir.glob("*.json")):
        try:
            entry = json.loads(file.read_text())
            place, owner, guard = entry["place"], entry["owner"], entry["guard"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it is being written or removed at this moment, or is no pid file
        if place["host"] != this_place()["host"] or (place == this_place() and lives(owner)):
            continue
        if place == this_place() and _end_left(guard):
            ended.append(f"{entry['name']} (pid {guard['pid']})")
        file.unlink(missing_ok=True)
    return ended


def _end_left(guard: Mapping[str, int]) -> bool:
    if not lives(guard):
        return _kill_below(guard["pid"], since=guard["start"])
    signal_to(guard["pid"], signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS + 2
    while lives(guard) and time.monotonic() < deadline:
        time.sleep(0.05)
    _kill_below(guard["pid"], since=guard["start"])
    if lives(guard):  # it is stopped or stuck
        signal_to(guard["pid"], signal.SIGKILL)
    return True


def _kill_below(guard: int, *, since: int) -> bool:
    """SIGKILL what a guard started, as far as it did not start before `since`; True if there was anything."""
    found = False
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while time.monotonic() < deadline:
        left = [p for p in below(guard) if p.start >= since]
        if not left:
            break
        found = True
        for process in left:
            signal_to(process.pid, signal.SIGKILL)
        time.sleep(0.02)
    return found
