"""Child processes that cannot outlive the run: engines and trainers run under a small guard process.

`spawn` starts `guard.py` in a session of its own; the guard starts the command and stays its parent.
Whatever ends the run (Ctrl-C, a cancel, SIGTERM, SIGKILL, a crash), the kernel sends the guard SIGTERM
(PR_SET_PDEATHSIG), and the guard ends everything below it: SIGTERM first, SIGKILL after `GRACE_SECONDS`.
What left the session is found too, because the guard adopts its orphans (PR_SET_CHILD_SUBREAPER).

    run ──> guard (own session) ──> engine or trainer ──> its own workers
             └ pid file, log file, exit code

A pid file with the process's start time lets `reap` end what is left should the guard itself be killed.
Linux only. This file uses the standard library alone: it is also run as a script.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

GRACE_SECONDS = 3.0
"""From SIGTERM to SIGKILL."""
_GIVE_UP_SECONDS = 30.0  # a process in uninterruptible sleep survives even SIGKILL for a while
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

T = TypeVar("T")


# ---- in the run's process ------------------------------------------------------------------------


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
            return self.wait(GRACE_SECONDS + _GIVE_UP_SECONDS)
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
    guard = [sys.executable, "-I", "-S", __file__, f"--parent={os.getpid()}", f"--name={name}"]
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
        if place["host"] != _place()["host"] or (place == _place() and _lives(owner)):
            continue
        if place == _place() and _end_left(guard):
            ended.append(f"{entry['name']} (pid {guard['pid']})")
        file.unlink(missing_ok=True)
    return ended


def _end_left(guard: Mapping[str, int]) -> bool:
    if not _lives(guard):
        return _kill_below(guard["pid"], since=guard["start"])
    _signal(guard["pid"], signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS + 2
    while _lives(guard) and time.monotonic() < deadline:
        time.sleep(0.05)
    _kill_below(guard["pid"], since=guard["start"])
    if _lives(guard):  # it is stopped or stuck
        _signal(guard["pid"], signal.SIGKILL)
    return True


def _kill_below(guard: int, *, since: int) -> bool:
    """SIGKILL what a guard started, as far as it did not start before `since`; True if there was anything."""
    found = False
    deadline = time.monotonic() + _GIVE_UP_SECONDS
    while time.monotonic() < deadline:
        left = [p for p in _below(guard) if p.start >= since]
        if not left:
            break
        found = True
        for process in left:
            _signal(process.pid, signal.SIGKILL)
        time.sleep(0.02)
    return found


# ---- /proc ---------------------------------------------------------------------------------------


class _Process(NamedTuple):
    pid: int
    state: str
    parent: int
    session: int
    start: int  # clock ticks since boot


def _process(pid: int) -> _Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # a command's name may hold spaces and brackets
    return _Process(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def _processes() -> list[_Process]:
    found = (_process(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit())
    return [p for p in found if p is not None]


def _identity(pid: int) -> dict[str, int]:
    process = _process(pid)
    return {"pid": pid, "start": process.start if process else 0}


def _lives(identity: Mapping[str, int]) -> bool:
    process = _process(identity["pid"])
    return process is not None and process.state != "Z" and process.start == identity["start"]


def _place() -> dict[str, str]:
    """What a process id is relative to: machine, boot, and process namespace (container)."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"host": socket.gethostname(), "boot": boot, "namespace": str(Path("/proc/self/ns/pid").readlink())}


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


# ---- in the guard --------------------------------------------------------------------------------


def set_parent_death_signal(number: int) -> None:
    """Ask the kernel for signal `number` when the thread that started this process ends.

    The caller must then compare `os.getppid()` with the pid it expects: the parent may have died before.
    """
    _prctl(_PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed")


def main() -> int:
    """Guard one command; called with the options that `spawn` gives."""
    parser = argparse.ArgumentParser(
        prog="python -m flywheel.guard", description="Run a command that cannot outlive us."
    )
    parser.add_argument("--parent", type=int, required=True, help="process id of the run; 0 for any")
    parser.add_argument("--name", default="command", help="shown in the pid file")
    parser.add_argument("--pid-dir", type=Path, required=True, help="folder for the pid file")
    parser.add_argument("--close", default="", help="descriptors that only the command keeps, by comma")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    # Blocked and then waited for, so that there is no moment in which a signal finds the guard off its guard.
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    set_parent_death_signal(signal.SIGTERM)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if options.parent and os.getppid() != options.parent:
        return 128 + signal.SIGTERM
    pid_file = options.pid_dir / f"{options.name}-{os.getpid()}.json"
    try:
        _write_pid_file(pid_file, options.name, options.command)
        return _guard(options.command, [int(n) for n in options.close.split(",") if n])
    finally:
        pid_file.unlink(missing_ok=True)


def _write_pid_file(file: Path, name: str, command: Sequence[str]) -> None:
    entry = {"name": name, "command": list(command), "place": _place()}
    entry |= {"guard": _identity(os.getpid()), "owner": _identity(os.getppid())}
    part = file.with_suffix(".part")
    part.write_text(json.dumps(entry))
    part.replace(file)


def _guard(command: Sequence[str], close: Sequence[int]) -> int:
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        _become(command, guard)
    for descriptor in close:  # else the run would never see the end of its pipe
        os.close(descriptor)
    code: int | None = None
    while code is None:
        if signal.sigwait(_WATCHED) == signal.SIGCHLD:
            code = _collect(child)
        else:
            break
    swept = _sweep(child)
    return code if code is not None else swept


def _become(command: Sequence[str], guard: int) -> NoReturn:
    """In the forked child: turn into the command."""
    try:
        set_parent_death_signal(signal.SIGKILL)  # should the guard itself be killed
        if os.getppid() != guard:
            os._exit(128 + signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        os.execvp(command[0], list(command))
    except OSError as error:
        os.write(2, f"cannot start {command[0]!r}: {error}\n".encode())
    os._exit(127)


def _collect(child: int) -> int | None:
    """Bury every child that has ended; the exit code of `child` if it was among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == child:
            exit_code = os.waitstatus_to_exitcode(status)
            code = exit_code if exit_code >= 0 else 128 - exit_code


def _sweep(child: int) -> int:
    """End all below the guard and return the exit code of `child` (0 if it was collected before)."""
    started, code, told = time.monotonic(), 0, set[int]()
    while True:
        collected = _collect(child)
        code = code if collected is None else collected
        left = [p.pid for p in _below(os.getpid())]
        waited = time.monotonic() - started
        if not left or waited > _GIVE_UP_SECONDS:
            return code
        for pid in left:
            if waited > GRACE_SECONDS:
                _signal(pid, signal.SIGKILL)
            elif pid not in told:
                told.add(pid)
                _signal(pid, signal.SIGTERM)
        time.sleep(0.02)


def _below(guard: int) -> list[_Process]:
    """All living processes in the guard's session or descended from it, itself left out."""
    processes = _processes()
    family = {guard}
    grown = True
    while grown:
        more = {p.pid for p in processes if p.parent in family or p.session == guard} - family
        family |= more
        grown = bool(more)
    return [p for p in processes if p.pid in family and p.pid != guard and p.state != "Z"]


if __name__ == "__main__":
    sys.exit(main())
