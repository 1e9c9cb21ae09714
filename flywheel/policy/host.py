"""The process in which an engine's weights lie: serves one engine over a socket, to `flywheel.policy.hosted`."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from flywheel.errors import FlywheelError
from flywheel.fingerprint import derive_seed, folder_digest
from flywheel.policy import Completion, Request
from flywheel.recipe import ModelSection


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
