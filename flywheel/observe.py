"""`Observed`: any verifier, with what it does to the machine noted down. `flywheel check` runs verifiers behind it.

It sees, through Python's audit events (PEP 578), what Python code in the worker does: files opened for writing, made,
renamed or removed, addresses connected to or looked up, processes started. It does not see native code that makes its
own system calls, nor what a started process does; `flywheel.check` looks for what those leave behind.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from flywheel import plugins, protocols
from flywheel.types import Problem

Kind = Literal["file", "network", "process", "raised"]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
HARMLESS = ("/dev/null", "/dev/tty")
MOST = 100
"""Distinct effects that are noted of one process."""

_EVENTS: dict[Kind, str] = {
    "file": "os.mkdir os.rename os.remove os.rmdir os.link os.symlink os.truncate os.chmod os.chown os.utime",
    "network": "socket.connect socket.bind socket.sendto socket.sendmsg socket.getaddrinfo socket.gethostbyname "
    "socket.gethostbyaddr socket.getnameinfo",
    "process": "subprocess.Popen os.system os.exec os.posix_spawn os.spawn os.fork os.forkpty pty.spawn",
}
EVENTS: dict[str, Kind] = {event: kind for kind, events in _EVENTS.items() for event in events.split()}
"""What kind of effect an audit event tells of; `open` is one only for writing."""


class Recorder:
    """Writes down the effects that audit events tell of while it is `active`, at once, so that a kill loses none."""

    def __init__(self, log: str) -> None:
        self.active = 0
        self._main = threading.main_thread().ident
        self._seen: set[tuple[str, str]] = set()
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note effects while the verifier is at work, and what it raises."""
        self.active += 1
        try:
            yield
        except BaseException as error:
            self.note("raised", type(error).__name__)
            raise
        finally:
            self.active -= 1

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook: it must be quick and must not raise."""
        kind: Kind | None = "file" if event == "open" else EVENTS.get(event)
        if kind is None or not (self.active or threading.get_ident() != self._main):
            return
        if event == "open" and not _opens_for_writing(*arguments):
            return
        if event in ("socket.sendmsg", "socket.sendto") and arguments[0].family == socket.AF_UNIX:
            return  # between a verifier's own processes, on a pair or a connection that was noted when it was made
        self.note(kind, f"{event} {_shown(arguments)}")

    def note(self, kind: Kind, text: str) -> None:
        """Write an effect down, the first time."""
        effect = (kind, text)
        if effect not in self._seen and len(self._seen) < MOST:
            self._seen.add(effect)
            os.write(self._log, json.dumps(effect).encode() + b"\n")


_recorders: dict[str, Recorder] = {}


def _recorder(log: str) -> Recorder:
    """The one recorder of this process for a log: an audit hook cannot be taken away again."""
    if log not in _recorders:
        _recorders[log] = Recorder(log)
        sys.addaudithook(_recorders[log].hear)
    return _recorders[log]


@dataclass
class Observed:
    """The verifier `verifier` with its `options`; effects go to the file `log`, a JSON pair of kind and text a line."""

    verifier: str
    log: str
    options: dict[str, Any] = field(default_factory=dict)
    traits: dict[str, Any] = field(default_factory=dict)
    """How the verifier wants to be called (`protocols.Traits`): this one offers the same methods."""

    def __post_init__(self) -> None:
        self._made: Any = None
        given = protocols.Traits(**self.traits)
        self.exclusive, self.deadline_outcome = given.exclusive, given.deadline_outcome
        self.deadline_seconds = given.deadline_seconds
        self.batch_size = self.concurrency = given.at_once
        if given.group:
            self.verify_group = lambda *call: self._watched("verify_group", *call)
        if given.batch:
            self.verify_batch = lambda *call: self._watched("verify_batch", *call)
        if given.concurrent:
            self.verify = self._verify_async  # type: ignore[method-assign]

    def prepare(self) -> None:
        """Make the verifier, and have it prepare itself, under observation."""
        sys.dont_write_bytecode = True  # an import's cache is Python's doing, not the verifier's
        with _recorder(self.log).recording():
            made = plugins.make_verifier(self.verifier, self.options)
            if (prepare := getattr(made, "prepare", None)) is not None:
                prepare()
            self._made = made

    def verify(self, problem: Problem, completion: str) -> Any:
        """What the verifier says."""
        return self._watched("verify", problem, completion)

    async def _verify_async(self, problem: Problem, completion: str) -> Any:
        if self._made is None:
            self.prepare()
        with _recorder(self.log).recording():
            return await self._made.verify(problem, completion)

    def _watched(self, method: str, *call: Any) -> Any:
        if self._made is None:
            self.prepare()
        with _recorder(self.log).recording():
            return getattr(self._made, method)(*call)


def _opens_for_writing(path: Any = None, mode: Any = None, flags: Any = 0, *_: Any) -> bool:
    if isinstance(path, int) or path is None or os.fspath(path) in HARMLESS:
        return False
    return bool(isinstance(flags, int) and flags & WRITING) or bool(isinstance(mode, str) and set(mode) & set("wax+"))


def _shown(arguments: tuple[Any, ...]) -> str:
    """The first argument that says what was touched: a path, an address, a program."""
    for value in arguments:
        if isinstance(value, (str, bytes, tuple, os.PathLike)) and value:
            text = os.fsdecode(value) if not isinstance(value, tuple) else repr(value)
            return text.encode("utf-8", "replace").decode()[:200]
    return ""
