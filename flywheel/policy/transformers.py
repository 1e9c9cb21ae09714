"""Plain `generate` of the transformers library, for where vLLM is not installed: slower by several times."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from flywheel.errors import ModelError
from flywheel.policy import Completion, Request
from flywheel.policy.device import torch_device
from flywheel.policy.render import load_tokenizer, prompt_ids
from flywheel.recipe import ModelSection, TransformersOptions


class TransformersEngine:
    """Works on requests in batches of sequences with the same settings and prompts of like length."""

    def __init__(self, path: Path, model: ModelSection, options: dict[str, Any], *, max_model_len: int | None) -> None:
        import torch
        from transformers import AutoModelForCausalLM

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
        return refused + (self._generate(fitting) if fitting else [])

    def _generate(self, batch: list[tuple[Request, int, list[int]]]) -> list[Completion]:
        import torch

        request, width = batch[0][0], max(len(ids) for _, _, ids in batch)
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else self._stop_ids[0]
        rows = [[pad] * (width - len(ids)) + ids for _, _, ids in batch]
        masks = [[0] * (width - len(ids)) + [1] * len(ids) for _, _, ids in batch]
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=torch.tensor(rows, device=self._device),
                attention_mask=torch.tensor(masks, device=self._device),
                max_new_tokens=min(request.max_tokens, self._longest - width),
                pad_token_id=pad,
                eos_token_id=self._stop_ids,
                stop_strings=list(request.stop) or None,
                tokenizer=self._tokenizer if request.stop else None,
                **_sampling(request),
            )
        new = output[:, width:].tolist()
        return [self._completion(r, index, ids) for (r, index, _), ids in zip(batch, new, strict=True)]

    def _completion(self, request: Request, index: int, ids: list[int]) -> Completion:
        ends = [place for place, token in enumerate(ids) if token in self._stop_ids]
        kept = ids[: ends[0] + 1] if ends else ids
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        cuts = [text.index(stop) for stop in request.stop if stop in text]
        if cuts:
            return Completion(request.id, index, text[: min(cuts)], "stop", len(kept))
        return Completion(request.id, index, text, "stop" if ends else "length", len(kept))

    def busy(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self._waiting)

    def abort(self) -> None:
        """Forget everything that is not finished."""
        self._waiting.clear()


def _settings(request: Request) -> tuple[float, int, float, int, tuple[str, ...]]:
    return (request.temperature, request.max_tokens, request.top_p, request.top_k, request.stop)


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
