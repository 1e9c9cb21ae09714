"""OpenAI-compatible endpoints: `vllm serve` on other hosts, or any server that speaks `/chat/completions`.

Every completion is a request of its own, so that a resumed run asks only for what is missing. What
may pass by itself (no connection, time-outs, 408, 409, 429, 5xx) is tried again with exponential
back-off, at another endpoint where there is one; anything else ends the call at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import queue
import random
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx

from flywheel.errors import EndpointError
from flywheel.fingerprint import derive_seed
from flywheel.policy import Completion, Request
from flywheel.policy.choices import named_in, response_format
from flywheel.recipe import OpenAIOptions

_FIRST_WAIT = 0.5  # seconds before the first repetition; doubled each time
_LONGEST_WAIT = 30.0
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504}
_REFUSED = {400, 422}
_SEED_BITS = 53  # what every JSON reader keeps exact


class OpenAIPolicy:
    """Samples from endpoints that serve the model. They hold the weights, so there is no digest to compare.

    Opening runs `reload_command`, where there is one, and asks each endpoint what it serves. Raises
    EndpointError where one is not there, refuses, or does not serve the model.
    """

    digest = None

    def __init__(self, options: OpenAIOptions, model_path: Path, *, first_wait: float = _FIRST_WAIT) -> None:
        self._options = options
        self._logprobs = options.logprobs
        self._first_wait = first_wait
        key = os.environ.get(options.api_key_env)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        if options.reload_command:
            _reload(options.reload_command, model_path)
        urls = [url.rstrip("/") for url in options.endpoints]
        self._models = asyncio.run(self._served(urls))
        self._load = dict.fromkeys(urls, 0)
        self._stop: Callable[[], None] = lambda: None

    # -- what is served --

    async def _served(self, urls: list[str]) -> dict[str, str]:
        async with self._client() as client:
            return {url: await self._model_at(client, url) for url in urls}

    def _client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(
            max_connections=self._options.in_flight, max_keepalive_connections=self._options.in_flight
        )
        return httpx.AsyncClient(headers=self._headers, timeout=self._options.timeout_seconds, limits=limits)

    async def _model_at(self, client: httpx.AsyncClient, url: str) -> str:
        response = await self._persist(client, "GET", [f"{url}/models"], None)
        wanted = self._options.model
        if response.status_code in (404, 405) and wanted:
            return wanted  # some gateways have no list
        self._check(response)
        names = [str(entry["id"]) for entry in _json(response).get("data", [])]
        if wanted:
            if wanted not in names:
                raise EndpointError(
                    f"{url} serves {', '.join(names) or 'nothing'}, not {wanted!r}; set policy.openai.model"
                )
            return wanted
        if len(names) != 1:
            raise EndpointError(
                f"{url} serves {len(names)} models ({', '.join(names)}); name one as policy.openai.model"
            )
        return names[0]

    # -- sampling --

    def generate(self, requests: Iterable[Request]) -> Iterator[list[Completion]]:
        """Yield the completions of one request at a time, in the order in which requests finish."""
        asked = {request.id: request for request in requests}
        done: dict[str, list[Completion]] = {name: [] for name in asked}
        results: queue.SimpleQueue[Completion | BaseException | None] = queue.SimpleQueue()
        loop = asyncio.new_event_loop()
        work = loop.create_task(self._work(asked.values(), results))
        self._stop = lambda: _cancel(loop, work)
        thread = threading.Thread(target=_run, args=(loop, work, results), name="flywheel-openai", daemon=True)
        thread.start()
        try:
            while (result := results.get()) is not None:
                if isinstance(result, BaseException):
                    raise result
                finished = done[result.request_id]
                finished.append(result)
                if len(finished) == len(asked[result.request_id].indices):
                    yield sorted(done.pop(result.request_id), key=lambda c: c.index)
        finally:
            _cancel(loop, work)
            thread.join()

    def interrupt(self) -> None:
        """End the `generate` that is under way; to be called from another thread."""
        self._stop()

    async def _work(self, requests: Iterable[Request], results: queue.SimpleQueue[Any]) -> None:
        wanted = ((request, index) for request in requests for index in request.indices)

        async def worker(client: httpx.AsyncClient) -> None:
            for request, index in wanted:  # one generator for all workers: each takes the next
                results.put(await self._complete(client, request, index))

        async with self._client() as client:
            workers = [asyncio.ensure_future(worker(client)) for _ in range(self._options.in_flight)]
            try:
                await asyncio.gather(*workers)
            finally:
                for task in workers:
                    task.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _complete(self, client: httpx.AsyncClient, request: Request, index: int) -> Completion:
        body: dict[str, Any] = {
            "messages": request.messages,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
        }
        if self._options.request_seeds:
            body["seed"] = derive_seed(request.seed, index) % 2**_SEED_BITS
        if request.top_k:
            body["top_k"] = request.top_k  # not OpenAI's own, but vLLM, SGLang and llama.cpp take it
        if request.stop:
            body["stop"] = list(request.stop)
        if request.choices:
            body["response_format"] = response_format(request.choices)
        elif self._logprobs and request.temperature:
            body["logprobs"] = True
        response = await self._persist(client, "POST", list(self._models), body)
        if response.status_code in _REFUSED and "logprobs" in body and "logprob" in response.text.lower():
            self._logprobs = False  # some models and gateways have none; what they say is the same without
            del body["logprobs"]
            response = await self._persist(client, "POST", list(self._models), body)
        # A server that cannot be held to choices refuses their request alone, and not what else it is asked.
        if response.status_code in _REFUSED and (request.choices or "context length" in response.text):
            return Completion(request.id, index, "", "error", 0)
        self._check(response)
        try:
            answer = _json(response)
            choice = answer["choices"][0]
            reason = choice["finish_reason"] if choice["finish_reason"] in ("stop", "length") else "error"
            tokens = int(answer["usage"]["completion_tokens"])
            text = choice["message"]["content"] or ""
            text = named_in(text, request.choices) if request.choices else text
            return Completion(request.id, index, text, reason, tokens, _mean_logprob(choice.get("logprobs")))
        except (KeyError, IndexError, TypeError) as error:
            raise EndpointError(
                f"{response.url} does not answer as /chat/completions does: {error!r} missing"
            ) from None

    async def _persist(
        self, client: httpx.AsyncClient, method: str, targets: list[str], body: dict[str, Any] | None
    ) -> httpx.Response:
        """The first answer that is not a passing failure. A POST goes to the least loaded endpoint each time."""
        failed: list[str] = []
        wait = self._first_wait
        for attempt in range(self._options.retries + 1):
            if attempt:
                await asyncio.sleep(wait * random.uniform(0.75, 1.25))  # so that many do not come back at once
                wait = min(2 * wait, _LONGEST_WAIT)
            target = targets[0] if body is None else self._least_loaded(failed)
            try:
                response = await self._send(client, method, target, body)
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
            except httpx.InvalidURL as error:
                raise EndpointError(f"{target!r} is no URL ({error}); set policy.openai.endpoints") from None
            else:
                if response.status_code not in _PASSING:
                    return response
                reason = f"status {response.status_code}: {_said(response)}"
                wait = max(wait, _retry_after(response))
            failed.append(target)
        raise EndpointError(
            f"no answer from {target} after {self._options.retries + 1} tries ({reason}); "
            "is a server running there (`vllm serve MODEL`)? See policy.openai.endpoints"
        )

    def _least_loaded(self, failed: list[str]) -> str:
        return min(self._load, key=lambda url: (failed.count(url), self._load[url]))

    async def _send(
        self, client: httpx.AsyncClient, method: str, target: str, body: dict[str, Any] | None
    ) -> httpx.Response:
        if body is None:
            return await client.request(method, target)
        self._load[target] += 1
        try:
            return await client.post(f"{target}/chat/completions", json={"model": self._models[target], **body})
        finally:
            self._load[target] -= 1

    def _check(self, response: httpx.Response) -> None:
        if response.status_code in (401, 403):
            raise EndpointError(
                f"{response.url} refuses the key in ${self._options.api_key_env} (status {response.status_code}); "
                "set the variable, or name another as policy.openai.api_key_env"
            )
        if not response.is_success:
            raise EndpointError(f"{response.url} answered {response.status_code}: {_said(response)}")

    def close(self) -> None:
        """Nothing is held between calls."""


def _cancel(loop: asyncio.AbstractEventLoop, work: asyncio.Task[None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended by itself
        loop.call_soon_threadsafe(work.cancel)


def _run(loop: asyncio.AbstractEventLoop, work: asyncio.Task[None], results: queue.SimpleQueue[Any]) -> None:
    """Run `work` to its end on this thread and pass its failure on; None marks the end."""
    try:
        loop.run_until_complete(work)
    except asyncio.CancelledError:
        pass  # the caller wants no more
    except Exception as error:  # noqa: BLE001  it is raised again in the caller's thread
        results.put(error)
    finally:
        loop.close()
        results.put(None)


def _reload(command: str, model_path: Path) -> None:
    words = [word.replace("{model}", str(model_path)) for word in shlex.split(command)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise EndpointError(f"policy.openai.reload_command = {command!r} cannot be run: {error}") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it said nothing"]
        raise EndpointError(f"policy.openai.reload_command = {command!r} ended with {done.returncode}: {said[0]}")


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        content = response.json()
    except json.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise EndpointError(
            f"{response.url} answered no JSON object: {response.text[:120]!r}; is it an OpenAI-compatible API?"
        )
    return content


def _mean_logprob(told: object) -> float | None:
    """The mean of the tokens' log-probabilities (nats), where an answer has them."""
    tokens = told.get("content") if isinstance(told, dict) else None
    values = [entry.get("logprob") for entry in tokens or [] if isinstance(entry, dict)]
    numbers = [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def _said(response: httpx.Response) -> str:
    return " ".join(response.text.split())[:200] or response.reason_phrase


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait, as far as it says so in seconds."""
    value = response.headers.get("retry-after", "")
    return min(float(value), _LONGEST_WAIT) if value.isdigit() else 0.0
