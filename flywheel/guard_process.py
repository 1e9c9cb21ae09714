"""The guard of a child process: runs a command, and ends all below it when its own parent ends. See `flywheel.guard`.

It is run as a script, isolated from everything installed, and so uses the standard library alone.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

GRACE_SECONDS = 3.0
"""From SIGTERM to SIGKILL."""
GIVE_UP_SECONDS = 30.0  # a process in uninterruptible sleep survives even SIGKILL for a while
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


# ---- /proc ---------------------------------------------------------------------------------------


class Process(NamedTuple):
    """A line of `/proc/PID/stat`, as far as it is needed."""

    pid: int
    state: str
    parent: int
    session: int
    start: int  # clock ticks since boot


def find_process(pid: int) -> Process | None:
    """The process with an id, from /proc; None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # a command's name may hold spaces and brackets
    return Process(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def all_processes() -> list[Process]:
    """Every process that this one can see."""
    found = (find_process(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit())
    return [p for p in found if p is not None]


def identity_of(pid: int) -> dict[str, int]:
    """What a process is told by later: ids are given again, start times are not."""
    process = find_process(pid)
    return {"pid": pid, "start": process.start if process else 0}


def lives(identity: Mapping[str, int]) -> bool:
    """Whether the process that `identity_of` told of still runs."""
    process = find_process(identity["pid"])
    return process is not None and process.state != "Z" and process.start == identity["start"]


def this_place() -> dict[str, str]:
    """What a process id is relative to: machine, boot, and process namespace (container)."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"host": socket.gethostname(), "boot": boot, "namespace": str(Path("/proc/self/ns/pid").readlink())}


def signal_to(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that has ended needs none."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


# ---- in the guard --------------------------------------------------------------------------------


def set_parent_death_signal(number: int) -> None:
    """Ask the kernel for signal `number` when the thread that started this process ends.

    The caller must then compare `os.getppid()` with the pid it expects: the parent may have died before.
    """
    prctl(PR_SET_PDEATHSIG, number)


def prctl(option: int, value: int) -> None:
    """Set a property of this process. Raises OSError where the kernel refuses."""
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
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    if options.parent and os.getppid() != options.parent:
        return 128 + signal.SIGTERM
    pid_file = options.pid_dir / f"{options.name}-{os.getpid()}.json"
    try:
        _write_pid_file(pid_file, options.name, options.command)
        return _guard(options.command, [int(n) for n in options.close.split(",") if n])
    finally:
        pid_file.unlink(missing_ok=True)


def _write_pid_file(file: Path, name: str, command: Sequence[str]) -> None:
    entry = {"name": name, "command": list(command), "place": this_place()}
    entry |= {"guard": identity_of(os.getpid()), "owner": identity_of(os.getppid())}
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
        left = [p.pid for p in below(os.getpid())]
        waited = time.monotonic() - started
        if not left or waited > GIVE_UP_SECONDS:
            return code
        for pid in left:
            if waited > GRACE_SECONDS:
                signal_to(pid, signal.SIGKILL)
            elif pid not in told:
                told.add(pid)
                signal_to(pid, signal.SIGTERM)
        time.sleep(0.02)


def below(guard: int) -> list[Process]:
    """All living processes in the guard's session or descended from it, itself left out."""
    processes = all_processes()
    family = {guard}
    grown = True
    while grown:
        more = {p.pid for p in processes if p.parent in family or p.session == guard} - family
        family |= more
        grown = bool(more)
    return [p for p in processes if p.pid in family and p.pid != guard and p.state != "Z"]


if __name__ == "__main__":
    sys.exit(main())
