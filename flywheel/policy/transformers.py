"""Plain `generate` of the transformers library, for where vLLM is not installed: slower by several times."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.errors import ModelError
from flywheel.policy import Completion, Request
from flywheel.policy.choices import Choosing
from flywheel.policy.device import torch_device
from flywheel.policy.render import load_tokenizer, prompt_ids
from flywheel.recipe import ModelSection, TransformersOptions

if TYPE_CHECKING:
    import torch


class TransformersEngine:
    """Works on requests in batches of sequences with the same settings and prompts of like length."""

    def __init__(self, path: Path, model: ModelSection, options: dict[str, Any], *, max_model_len: int | None) -> None:
        import torch
        from transformers import AutoModelForCausalLM, GenerationConfig

        settings = TransformersOptions.model_validate(options)
        self.sequences = settings.batch_size
        self._device = torch_device(settings.device)
        self._tokenizer = load_tokenizer(path, model.chat_template)
        try:
            loaded = AutoModelForCausalLM.from_pretrained(
                path, dtype=getattr(torch, model.dtype), local_files_only=True
            )
            self._model = loaded.to(self._device).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{path} cannot be loaded: {' '.join(str(error).split())[:300]}") from None
        self._longest = max_model_len or self._model.config.max_position_embeddings
        self._stop_ids = _stop_ids(self._model.generation_config.eos_token_id, self._tokenizer.eos_token_id)
        # What else a model recommends (a repetition penalty, min_p) is in no recipe, and vLLM is not asked for it.
        self._model.generation_config = GenerationConfig()
        self._waiting: list[tuple[Request, int, list[int]]] = []

    def add(self, requests: list[Request]) -> None:
        """Take requests in, in an order that batches well: the same settings together, long prompts first."""
        for request in requests:
            ids = prompt_ids(self._tokenizer, request.messages)
            self._waiting += [(request, index, ids) for index in request.indices]
        self._waiting.sort(key=lambda entry: (_settings(entry[0]), -len(entry[2])))

    def step(self) -> list[Completion]:
        """Work through one batch."""
        _, group = next(groupby(self._waiting, key=lambda entry: _settings(entry[0])))
        batch = [entry for entry, _ in zip(group, range(self.sequences), strict=False)]
        self._waiting = self._waiting[len(batch) :]
        fitting = [entry for entry in batch if len(entry[2]) < self._longest]
        refused = [Completion(r.id, index, "", "error", 0) for r, index, ids in batch if len(ids) >= self._longest]
        if batch[0][0].choices:
            return refused + [self._chosen(*entry) for entry in fitting]
        return refused + (self._generate(fitting) if fitting else [])

    def _generate(self, batch: list[tuple[Request, int, list[int]]]) -> list[Completion]:
        request, width = batch[0][0], max(len(ids) for _, _, ids in batch)
        drawn = _Drawn(request) if request.temperature else None
        output = self._answered(
            [ids for _, _, ids in batch],
            max_new_tokens=min(request.max_tokens, self._longest - width),
            stop_strings=list(request.stop) or None,
            tokenizer=self._tokenizer if request.stop else None,
            logits_processor=[drawn] if drawn else None,
            **_sampling(request),
        )
        new = output[:, width:].tolist()
        logprobs = drawn.told(output).tolist() if drawn else [[] for _ in batch]
        return [self._completion(r, i, *told) for (r, i, _), *told in zip(batch, new, logprobs, strict=True)]

    def _answered(self, prompts: list[list[int]], **arguments: Any) -> Any:
        """What `generate` returns for prompts of any lengths, which it gets filled up from the left."""
        import torch

        width = max(map(len, prompts))
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else self._stop_ids[0]
        rows = [[pad] * (width - len(ids)) + ids for ids in prompts]
        masks = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
        with torch.inference_mode():
            return self._model.generate(
                input_ids=torch.tensor(rows, device=self._device),
                attention_mask=torch.tensor(masks, device=self._device),
                pad_token_id=pad,
                eos_token_id=self._stop_ids,
                **arguments,
            )

    def _completion(self, request: Request, index: int, ids: list[int], logprobs: list[float]) -> Completion:
        ends = [place for place, token in enumerate(ids) if token in self._stop_ids]
        kept = ids[: ends[0] + 1] if ends else ids
        logprob = sum(logprobs[: len(kept)]) / len(kept) if logprobs and kept else None
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        cuts = [text.index(stop) for stop in request.stop if stop in text]
        if cuts:
            return Completion(request.id, index, text[: min(cuts)], "stop", len(kept), logprob)
        return Completion(request.id, index, text, "stop" if ends else "length", len(kept), logprob)

    def _chosen(self, request: Request, index: int, ids: list[int]) -> Completion:
        """The likeliest of a request's choices, from the distribution of one token at each place where they part."""
        choosing = Choosing.of(request, index, self._tokenizer)
        forks = choosing.forks()
        if len(ids) + max(map(len, forks), default=0) >= self._longest:
            return Completion(request.id, index, "", "error", 0)
        if forks:
            output = self._answered(
                [[*ids, *before] for before in forks],
                max_new_tokens=1,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
            for (before, tokens), logits in zip(forks.items(), output.logits[0].float(), strict=True):
                choosing.told[before] = dict(zip(tokens, logits[tokens].tolist(), strict=True))
        return choosing.completion()

    def busy(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self._waiting)

    def abort(self) -> None:
        """Forget everything that is not finished."""
        self._waiting.clear()


class _Drawn:
    """Among the processors of `generate`: keeps the log-probability of each token that is drawn, changing nothing.

    Processors see logits before temperature, top_k and top_p, so these are applied here once more, to a copy.
    """

    def __init__(self, request: Request) -> None:
        from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        self._steps: list[torch.Tensor] = []
        self._last: torch.Tensor | None = None
        self._warpers: list[Callable[..., torch.Tensor]] = [TemperatureLogitsWarper(float(request.temperature))]
        self._warpers += [TopKLogitsWarper(request.top_k)] if request.top_k else []
        self._warpers += [TopPLogitsWarper(request.top_p)] if request.top_p < 1.0 else []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._take(input_ids)
        warped = scores
        for warper in self._warpers:
            warped = warper(input_ids, warped)
        self._last = warped.log_softmax(-1)
        return scores

    def _take(self, ids: torch.Tensor) -> None:
        if self._last is not None:
            self._steps.append(self._last.gather(1, ids[:, -1:]).squeeze(1))

    def told(self, output: torch.Tensor) -> torch.Tensor:
        """For the finished sequences: nats, of shape [sequences, tokens drawn]; rows that ended early go on anyhow."""
        import torch

        self._take(output)
        return torch.stack(self._steps, dim=1)


_Settings = tuple[float, int, float, int, tuple[str, ...], bool]


def _settings(request: Request) -> _Settings:
    plain = (request.temperature, request.max_tokens, request.top_p, request.top_k, request.stop)
    return (*plain, bool(request.choices))


def _sampling(request: Request) -> dict[str, Any]:
    """`generate`'s sampling arguments; temperature 0 is its greedy search. 0 as top_k takes all tokens."""
    if request.temperature == 0:
        return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    return {
        "do_sample": True,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
    }


def _stop_ids(configured: int | list[int] | None, tokenizer_end: int | None) -> list[int]:
    """The tokens that end a completion: those of the generation config, else the tokenizer's."""
    ids = configured if configured is not None else tokenizer_end
    if ids is None:
        raise ModelError("neither generation_config.json nor the tokenizer names an end token; add eos_token_id")
    return ids if isinstance(ids, list) else [ids]
