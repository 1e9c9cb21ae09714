"""Opens policies; runs those with weights in a child process that cannot outlive the run.

    run's process                      guarded child (`python -m flywheel.policy.host`)
    HostedPolicy ── socket, JSON lines ──> engine: vLLM or transformers

The child takes all requests of a call in at once and feeds the engine without a pause; completions
come back as they finish. When the child ends, so does the socket; when the run ends, so does the
child (`flywheel.guard`), and with it all memory that the engine held.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from flywheel import errors, guard
from flywheel.errors import EngineError, FlywheelError, PluginError
from flywheel.fingerprint import derive_seed, folder_digest
from flywheel.plugins import known_names
from flywheel.policy import Completion, Policy, Request
from flywheel.policy.theirs import TheirPolicy, check_theirs
from flywheel.recipe import ModelSection, PolicySection

HOSTED = ("vllm", "transformers")
BUILT_IN = (*HOSTED, "openai", "toy")
_WINDOW = 2  # with several engines each has this many batches in hand: enough to stay full, little enough to share


def open_policy(
    policy: PolicySection,
    model: ModelSection,
    model_path: Path,
    *,
    seed: int,
    max_model_len: int | None,
    log: Path,
    pid_dir: Path,
) -> Policy:
    """Start serving the model in `model_path` and return when it can be sampled.

    `max_model_len` is the longest prompt plus completion that will be asked for, in tokens. An engine
    writes to `log` alone. The policy's `digest` is that of the folder which was loaded (None where an
    endpoint serves it). Raises EngineError, ModelError or EndpointError where it does not start.
    """
    if policy.name == "toy":
        from flywheel.policy.toy import ToyPolicy

        return ToyPolicy(model_path, delay_seconds=policy.toy.delay_seconds)
    if policy.name == "openai":
        from flywheel.policy.openai import OpenAIPolicy

        return OpenAIPolicy(policy.openai, model_path)
    if policy.name in HOSTED:
        job = {"engine": policy.name, "model": model.model_dump(), "path": str(model_path), "seed": seed}
        job |= {"options": getattr(policy, policy.name).model_dump(), "max_model_len": max_model_len}
        return HostedPolicy(job, _places(policy), log=log, pid_dir=pid_dir)
    check_policy(policy)
    return TheirPolicy(policy.name, model_path, seed, policy.options)


def check_policy(policy: PolicySection) -> None:
    """Raise PluginError where a recipe names a policy that is not there, or does not take its options."""
    if policy.name in BUILT_IN:
        return
    if ":" not in policy.name and policy.name not in known_names("policy"):
        known = ", ".join([*BUILT_IN, *known_names("policy")])
        raise PluginError(
            f"unknown policy {policy.name!r}; known: {known}. For your own give 'pkg.mod:Name' or 'file.py:Name'"
        )
    check_theirs(policy.name, policy.options)


def _places(policy: PolicySection) -> list[dict[str, str]]:
    """The environment of each engine process: what it must find set before Python starts, and its devices."""
    if policy.name == "vllm":
        from flywheel.policy.vllm import environments

        return environments(policy.vllm)
    return [{"HF_HUB_OFFLINE": "1"}]


# ---- in the run's process ------------------------------------------------------------------------


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
    """A policy whose engines run in guarded child processes; see `open_policy`."""

    def __init__(
        self, job: Mapping[str, Any], places: Iterable[Mapping[str, str]], *, log: Path, pid_dir: Path
    ) -> None:
        name = job["engine"]
        self._seed = job["seed"]
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


# ---- in the engine's process ---------------------------------------------------------------------


class Engine(Protocol):
    """What the host drives. `sequences` is how many it works on at a time."""

    sequences: int

    def add(self, requests: list[Request]) -> None:
        """Take requests in."""

    def step(self) -> list[Completion]:
        """Work for a moment and return what has finished."""

    def busy(self) -> bool:
        """Whether there is anything left to do."""

    def abort(self) -> None:
        """Forget everything that is not finished."""


def load_engine(job: Mapping[str, Any]) -> Engine:
    """The engine that a job names, with its weights loaded."""
    model, path = ModelSection.model_validate(job["model"]), Path(job["path"])
    if job["engine"] == "vllm":
        from flywheel.policy.vllm import VllmEngine

        return VllmEngine(path, model, job["options"], seed=job["seed"], max_model_len=job["max_model_len"])
    from flywheel.policy.transformers import TransformersEngine

    return TransformersEngine(path, model, job["options"], max_model_len=job["max_model_len"])


class Host:
    """Serves one engine over a socket until the other side is gone."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._open: dict[str, tuple[Request, list[Completion]]] = {}
        self._call = 0

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one message."""
        with self._sending:
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def serve(self) -> None:
        """Load the engine and answer requests, for ever."""
        threading.Thread(target=self._read, daemon=True).start()
        job = self._inbox.get()
        engine = load_engine(job)
        self.send({"ready": engine.sequences})
        # Hashing takes seconds on a large model; it runs while the first tokens are made.
        threading.Thread(target=lambda: self.send({"digest": folder_digest(Path(job["path"]))}), daemon=True).start()
        while True:
            while not (engine.busy() and self._inbox.empty()):
                self._take(self._inbox.get(), engine, job["seed"])
            for completion in engine.step():
                self._collect(completion)

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                self._inbox.put(json.loads(line))
        os._exit(0)  # the run is gone, or wants no more

    def _take(self, message: dict[str, Any], engine: Engine, seed: int) -> None:
        if "abort" in message:
            engine.abort()
            self._open.clear()
            return
        requests = [_request(fields) for fields in message["requests"]]
        if not self._open:
            _reseed(derive_seed(seed, *(f"{r.id} {r.seed} {r.indices}" for r in requests)))
        self._call = message["call"]
        self._open |= {r.id: (r, []) for r in requests}
        engine.add(requests)

    def _collect(self, completion: Completion) -> None:
        request, done = self._open[completion.request_id]
        done.append(completion)
        if len(done) < len(request.indices):
            return
        del self._open[request.id]
        fields = [
            [c.index, c.text, c.finish_reason, c.tokens, c.logprob, c.choice_logprobs]
            for c in sorted(done, key=lambda c: c.index)
        ]
        self.send({"call": self._call, "request": request.id, "completions": fields})


def _request(fields: dict[str, Any]) -> Request:
    return Request(**fields | {name: tuple(fields[name]) for name in ("indices", "stop", "choices")})


def _completion(request_id: str, fields: list[Any]) -> Completion:
    index, text, reason, tokens, logprob, choices = fields
    likely = None if choices is None else tuple(choices)
    return Completion(request_id, index, text, reason, tokens, logprob, likely)


def _reseed(seed: int) -> None:
    """Seed what draws from torch's global generator: the same requests then get the same completions."""
    import torch

    torch.manual_seed(seed)


def main() -> None:
    """Serve the engine that the first message names, over the socket whose descriptor is the argument."""
    host = Host(socket.socket(fileno=int(sys.argv[1])))
    try:
        host.serve()
    except FlywheelError as error:
        host.send({"error": type(error).__name__, "text": str(error)})
    except Exception:  # noqa: BLE001  whatever an engine raises; the run reads it from the log's end
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)  # engines leave threads behind that keep a process from ending


if __name__ == "__main__":
    main()
