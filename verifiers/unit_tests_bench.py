"""Where completions are tried: one warm sandbox, a judge that stays, a candidate's process for each."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flywheel.verifiers import sandbox
from flywheel.verifiers.sandbox import codec
from flywheel.verifiers.unit_tests_channel import framed, memory_file

CANDIDATE = "flywheel.verifiers.unit_tests_candidate:functions"
PROGRAM = "flywheel.verifiers.unit_tests_candidate:program"
JUDGE = "flywheel.verifiers.unit_tests_judge:judge"
_LARGEST_REPORT = 1 << 16
_AT_ONCE = 1 << 16
_FITS = 1 << 15
"""Bytes that a connection holds before anyone reads."""
_YEAR = 366 * 24 * 3600


class Bench:
    """Runs candidates at one level of isolation. Raises SandboxError where that does not work here."""

    def __init__(self, level: sandbox.Level, limits: sandbox.Limits, readable: Sequence[str | Path]) -> None:
        self.limits = limits
        self._owner = os.getpid()
        self._server = sandbox.Server(level, [CANDIDATE, PROGRAM, JUDGE], readable=readable)
        self._judge: _Judge | None = None

    @property
    def usable(self) -> bool:
        """Whether this process made it, and its sandbox lives."""
        return self._server.usable

    def try_functions(
        self, program: list[Any], tests: dict[str, Any], deadline: float
    ) -> tuple[bytes | None, sandbox.Ended]:
        """What the judge says of a program, None where it said nothing before the deadline; and the candidate's end.

        `program` is what `unit_tests_candidate.functions` is to read.
        """
        ours, theirs = socket.socketpair()
        given = [ours.fileno()]
        try:
            with ours, theirs:
                if not _sent(theirs, program):
                    given.append(memory_file(program))
                job = self._server.start(CANDIDATE, given, self.limits)
                ours.close()  # the judge must see it when the candidate ends
                if self._judge is None:
                    self._judge = _Judge(self._server, self.limits)
                self._judge.take(theirs, tests)
            said = self._judge.said(deadline)
        finally:
            for file in given[1:]:
                os.close(file)
        ended = self._server.end(job)
        if not said:
            self._judge.end()
            self._judge = None
        return said, ended

    def run_program(self, program: int, fed: bytes, deadline: float) -> tuple[bytes | None, bytes, sandbox.Ended]:
        """What a whole program prints (at most one byte more than may be), None past the deadline; its errors; its end.

        `program` is a descriptor of the file that `memory_file` made of it.
        """
        source = os.memfd_create("flywheel-input", os.MFD_CLOEXEC)
        output, output_end = os.pipe()
        errors, errors_end = os.pipe()
        try:
            try:
                with open(source, "wb", closefd=False) as file:
                    file.write(fed)
                os.lseek(source, 0, os.SEEK_SET)
                job = self._server.start(PROGRAM, [source, output_end, errors_end, program], self.limits)
            finally:
                for descriptor in (source, output_end, errors_end):
                    os.close(descriptor)
            printed = read_until(output, deadline, self.limits.output_bytes)
            flooded = printed is not None and len(printed) > self.limits.output_bytes
            ended = self._server.end(job, 0.0 if flooded else max(0.0, deadline - time.monotonic()))
            return printed, read_until(errors, time.monotonic(), 1 << 12) or b"", ended
        finally:
            os.close(output)
            os.close(errors)

    def close(self) -> None:
        """End the sandbox and all in it."""
        if self._judge is not None:
            self._judge.forget()
        self._server.close()


class _Judge:
    """The judge's process, and which tests it has."""

    def __init__(self, server: sandbox.Server, limits: sandbox.Limits) -> None:
        self._server = server
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._has: dict[str, Any] | None = None
        with theirs:
            # It serves many candidates, so processor time adds up; the clock that stops it is the caller's.
            self._job = server.start(JUDGE, [theirs.fileno()], replace(limits, cpu_seconds=_YEAR))

    def take(self, channel: socket.socket, tests: dict[str, Any]) -> None:
        descriptors = [channel.fileno()]
        file = -1
        try:
            if tests != self._has:
                file = memory_file(tests)
                descriptors.append(file)
                self._has = tests
            socket.send_fds(self._control, [b"judge"], descriptors)
        except OSError:
            pass  # it has ended: its silence says so, to the one who reads what it says
        finally:
            if file >= 0:
                os.close(file)

    def said(self, deadline: float) -> bytes | None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        try:
            return self._control.recv(_LARGEST_REPORT)
        except OSError:
            return b""

    def end(self) -> None:
        self.forget()
        self._server.end(self._job)

    def forget(self) -> None:
        self._control.close()


def _sent(connection: socket.socket, program: list[Any]) -> bool:
    """Whether a program is short enough to wait in a connection for its reader; then it does."""
    try:
        message = framed(program)
    except codec.CodecError:
        return False
    if len(message) > _FITS:
        return False
    connection.sendall(message)
    return True


def read_until(descriptor: int, deadline: float, bound: int) -> bytes | None:
    """All that arrives until the other end is closed, or one byte more than `bound`; None past the deadline."""
    found = bytearray()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    while len(found) <= bound:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        part = os.read(descriptor, min(_AT_ONCE, bound + 1 - len(found)))
        if not part:
            break
        found += part
    return bytes(found)
