"""A policy whose weights lie in child processes that cannot outlive the run; this is the run's side of it.

    run's process                      guarded child (`python -m flywheel.policy.host`)
    HostedPolicy ── socket, JSON lines ──> engine: vLLM or transformers

The child takes all requests of a call in at once and feeds the engine without a pause; completions
come back as they finish. When the child ends, so does the socket; when the run ends, so does the
child (`flywheel.guard`), and with it all memory that the engine held.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flywheel import errors, guard
from flywheel.errors import EngineError, FlywheelError
from flywheel.policy import Completion, Request

_WINDOW = 2  # with several engines each has this many batches in hand: enough to stay full, little enough to share

_Inbox = queue.SimpleQueue["tuple[_Child, dict[str, Any] | FlywheelError] | None"]
"""What engines say; None ends the call that reads it."""


class _Child:
    """One engine process: a socket to it, and a thread that sorts what it says."""

    def __init__(self, job: Mapping[str, Any], env: Mapping[str, str], *, name: str, log: Path, pid_dir: Path) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "flywheel.policy.host", str(theirs.fileno())]
            self.guarded = guard.spawn(
                command, name=name, log=log, pid_dir=pid_dir, env=env, pass_fds=[theirs.fileno()]
            )
        self.socket = ours
        self.sequences: Future[int] = Future()
        self.digest: Future[str] = Future()
        self.in_hand = 0
        self.finished: _Inbox | None = None
        self._failure: FlywheelError | None = None
        self._sending = threading.Lock()
        self._log = log
        threading.Thread(target=self._listen, name=f"flywheel-{name}", daemon=True).start()
        with contextlib.suppress(OSError):  # it is gone already; the listening thread finds out why
            self.send(job)

    def send(self, message: Mapping[str, Any]) -> None:
        with self._sending:
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self.socket.makefile("rb") as lines:  # a reset is an end as well
            for line in lines:
                self._take(json.loads(line))
        if self._failure is None:
            code = self.guarded.wait()
            reason = guard.last_lines(self._log, 3) or "it said nothing"
            self._fail(EngineError(f"the engine ended with exit code {code}: {reason} (more in {self._log})"))

    def _take(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self.sequences.set_result(message["ready"])
        elif "digest" in message:
            self.digest.set_result(message["digest"])
        elif "error" in message:
            self._fail(getattr(errors, message["error"])(message["text"]))
        elif self.finished is not None:
            self.finished.put((self, message))

    def _fail(self, error: FlywheelError) -> None:
        self._failure = error
        for future in (self.sequences, self.digest):
            if not future.done():
                future.set_exception(error)
        if self.finished is not None:
            self.finished.put((self, error))

    def listen_to(self, inbox: _Inbox) -> None:
        """Have what finishes from now on put into `inbox`; a failure that was before comes at once."""
        self.finished = inbox
        if self._failure is not None:
            inbox.put((self, self._failure))

    def close(self) -> None:
        if self._failure is None:
            self._fail(EngineError("the policy was closed"))
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.guarded.terminate()
        self.socket.close()


class HostedPolicy:
    """A policy whose engines run in guarded child processes; see `flywheel.policy.opening`."""

    def __init__(
        self, job: Mapping[str, Any], places: Iterable[Mapping[str, str]], *, log: Path, pid_dir: Path
    ) -> None:
        name = job["engine"]
        self._call = 0
        self._inbox: _Inbox = queue.SimpleQueue()
        self._children: list[_Child] = []
        try:
            for number, env in enumerate(places):
                file = log if number == 0 else log.with_stem(f"{log.stem}-{number}")
                self._children.append(_Child(job, env, name=f"{name}-{number}", log=file, pid_dir=pid_dir))
            for child in self._children:
                child.sequences.result()
        except BaseException:
            self.close()
            raise

    @property
    def digest(self) -> str:
        """The digest of the model folder that the engines loaded. Waits until they have told it."""
        found = {child.digest.result() for child in self._children}
        if len(found) > 1:
            raise EngineError(f"the engines loaded different models ({', '.join(sorted(found))}); start again")
        return found.pop()

    def generate(self, requests: Iterable[Request]) -> Iterator[list[Completion]]:
        """Yield the completions of one request at a time, in the order in which requests finish."""
        self._call += 1
        waiting = deque(requests)
        left = len(waiting)
        inbox = self._inbox = queue.SimpleQueue()
        for child in self._children:
            child.in_hand = 0
            child.listen_to(inbox)
        try:
            for child in self._children:
                self._feed(child, waiting)
            while left:
                if (arrived := inbox.get()) is None:
                    return
                child, message = arrived
                if isinstance(message, FlywheelError):
                    raise message
                if message["call"] != self._call:
                    continue  # it finished before an earlier call's abort arrived
                left -= 1
                completions = [_completion(message["request"], fields) for fields in message["completions"]]
                child.in_hand -= len(completions)
                self._feed(child, waiting)
                yield completions
        finally:
            if left:
                for child in self._children:
                    with contextlib.suppress(OSError):  # a dead engine has nothing to stop
                        child.send({"abort": True})

    def _feed(self, child: _Child, waiting: deque[Request]) -> None:
        """Hand requests to an engine: all of them to a single one, else as much as keeps it full."""
        limit = _WINDOW * child.sequences.result()
        batch = []
        while waiting and (len(self._children) == 1 or child.in_hand < limit):
            request = waiting.popleft()
            child.in_hand += len(request.indices)
            batch.append(request)
        if batch:
            with contextlib.suppress(OSError):  # the listening thread reports why it is gone
                child.send({"call": self._call, "requests": [asdict(r) for r in batch]})

    def interrupt(self) -> None:
        """End the `generate` that is under way, and the engines' work for it; to be called from another thread."""
        self._inbox.put(None)

    def close(self) -> None:
        """End the engines; their memory is free when this returns."""
        for child in self._children:
            child.close()


def _completion(request_id: str, fields: list[Any]) -> Completion:
    index, text, reason, tokens, logprob, choices = fields
    likely = None if choices is None else tuple(choices)
    return Completion(request_id, index, text, reason, tokens, logprob, likely)
