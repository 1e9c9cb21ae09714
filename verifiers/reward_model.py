"""`reward_model`: a sequence-classification model scores prompt and completion (Ouyang et al. 2022, arXiv:2203.02155).

The conversation, with the completion as the assistant's last turn, goes through the model's own chat template.
The head's output is mapped to a score in [0, 1], and the raw output stands in the verdict's detail:

    one output      sigmoid((raw - centre) / spread): with the defaults the Bradley-Terry chance that the completion
                    beats one of reward 0
    more outputs    the softmax probability of output `label` (the last one by default)

A reward model is a learnt proxy: optimised against, it is exploited (Gao et al. 2022, arXiv:2210.10760). Best behind
a verifier that checks: `all_of` with `math` first.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from flywheel import (
    Judgement,
    Message,
    ModelError,
    Outcome,
    Problem,
    model_folder,
    model_identity,
    model_lack,
    seconds_left,
    torch_device,
)

LARGEST_FORWARD = 8192
"""Tokens of one forward pass, padding included, unless a single completion has more: memory and time per step."""
SPARE_SHARE = 0.3
"""Share of the call's time that must be left for another forward pass: a call that is late loses the loaded model."""
LATE = "not scored in time: raise verify.deadline_seconds, or lower max_length or batch_size"

_Row = tuple[int, list[int], str]  # a completion's place in the batch, its token ids, what to say of them


@dataclass
class RewardModel:
    """CORRECT from `threshold` on, with the score kept. `filter.min_score` can ask for more, and must not ask for 1."""

    name: ClassVar[str] = "reward_model"
    version: ClassVar[str] = "2"
    exclusive: ClassVar[bool] = True
    deadline_seconds: ClassVar[float] = 60.0
    deadline_outcome: ClassVar[str] = "error"
    label_free: ClassVar[bool] = True

    model: str = ""
    """A hub id or a folder with a sequence-classification model. Needed."""
    threshold: float = 0.5
    """The score from which a completion is CORRECT."""
    centre: float = 0.0
    """The raw output that becomes the score 0.5."""
    spread: float = 1.0
    """How many units of raw output take the score from 0.5 to 0.73."""
    label: int = -1
    """For a head with several outputs: which one's probability is the score."""
    batch_size: int = 16
    """Completions in one forward pass."""
    max_length: int = 4096
    """Tokens; of a longer text the beginning is cut off, and the detail says so. Never more than the model has
    positions for."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The model's precision. In the shorter ones a score depends a little on what else is in the batch."""

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("model is needed: a hub id or a folder with a sequence-classification model")
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold = {self.threshold!r}; it is a score from 0 to 1")
        if self.spread <= 0.0:
            raise ValueError(f"spread = {self.spread!r}; it is positive")
        for option in ("batch_size", "max_length"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} = {getattr(self, option)!r}; it is at least 1")
        self._loaded: tuple[Any, Any] | None = None
        self._longest = self.max_length

    def lacks(self) -> str | None:
        """Why its model is not to be had, where it is not."""
        return model_lack(self.model)

    def identity(self) -> dict[str, Any]:
        """The digest of the model's files."""
        return {"model": model_identity(self.model)}

    def prepare(self) -> None:
        """Load the model and its tokenizer. Raises ModelError where they are not there or do not fit."""
        folder = model_folder(self.model)
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # what there is to fetch has been fetched
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model, report = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=getattr(torch, self.dtype), local_files_only=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{folder} cannot be loaded: {' '.join(str(error).split())[:300]}") from None
        if missing := sorted(report["missing_keys"]):
            # transformers would fill a head that is not there with random numbers, and so judge at random.
            raise ModelError(
                f"{folder} is no trained sequence-classification model: it has no weights for {missing[0]}"
            )
        outputs = model.config.num_labels
        if not -outputs <= self.label < outputs:
            raise ModelError(f"{folder} has {outputs} outputs, and so no output {self.label}; set label")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        if tokenizer.pad_token_id is None:
            raise ModelError(f"{folder}: its tokenizer has neither a padding nor an end token; batches need one")
        model.config.pad_token_id = tokenizer.pad_token_id  # by it the model finds each row's last token
        tokenizer.padding_side = "right"
        # The tokenizer's says less where positions begin with an offset, and something huge where it does not know.
        positions = getattr(model.config, "max_position_embeddings", None) or self.max_length
        self._longest = min(self.max_length, int(positions), int(tokenizer.model_max_length))
        self._loaded = model.to(torch_device(self.device)).eval(), tokenizer

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """Score one completion."""
        return self.verify_batch([problem], [completion])[0]

    def verify_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[Judgement]:
        """Score completions together; a completion's score does not depend on the others'."""
        judgements: list[Judgement | None] = [None] * len(completions)
        rows: list[_Row] = []
        for i, (problem, completion) in enumerate(zip(problems, completions, strict=True)):
            if completion.strip():
                rows.append((i, *self._tokens(problem, completion)))
            else:
                judgements[i] = Judgement(Outcome.NO_ANSWER, 0.0, None, "the completion is empty")
        rows.sort(key=lambda row: len(row[1]))  # rows of like length waste the least on padding
        least = SPARE_SHARE * (seconds_left() or 0.0)
        for batch in self._batches(rows):
            if (left := seconds_left()) is not None and left < least:
                judgements = [j or Judgement(Outcome.ERROR, 0.0, None, LATE) for j in judgements]
                break
            for (i, _, note), raw in zip(batch, self._forward([ids for _, ids, _ in batch]), strict=True):
                judgements[i] = self._judgement(raw, note)
        return [j for j in judgements if j is not None]

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """Rows in their order, as many at once as `batch_size` and `LARGEST_FORWARD` allow, and at least one."""
        batch: list[_Row] = []
        for row in rows:
            if batch and (len(batch) == self.batch_size or (len(batch) + 1) * len(row[1]) > LARGEST_FORWARD):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _tokens(self, problem: Problem, completion: str) -> tuple[list[int], str]:
        """The token ids of a conversation, and what to say of them."""
        _, tokenizer = self._ready()
        text = completion.encode("utf-8", "replace").decode("utf-8")
        asked: list[Message] = list(problem.messages or [{"role": "user", "content": problem.prompt}])
        if tokenizer.chat_template:
            said = [*asked, {"role": "assistant", "content": text}]
            ids = list(tokenizer.apply_chat_template(said, tokenize=True, return_dict=True)["input_ids"])
        else:
            ids = list(tokenizer("\n\n".join([*(m["content"] for m in asked), text]))["input_ids"])
        if len(ids) <= self._longest:
            return ids, ""
        return ids[-self._longest :], f" · cut to its last {self._longest} of {len(ids)} tokens"

    def _forward(self, rows: Sequence[list[int]]) -> list[list[float]]:
        """The head's outputs for each row of token ids."""
        import torch

        model, tokenizer = self._ready()
        width = max(map(len, rows))
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows], device=model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device)
        with torch.inference_mode():
            outputs: list[list[float]] = model(input_ids=ids, attention_mask=mask).logits.float().tolist()
        return outputs

    def _judgement(self, raw: Sequence[float], note: str) -> Judgement:
        shown = ", ".join(f"{value:.4g}" for value in raw)
        if not all(map(math.isfinite, raw)):
            return Judgement(Outcome.ERROR, 0.0, None, f"the model's output is {shown}")
        if len(raw) == 1:
            score = _sigmoid((raw[0] - self.centre) / self.spread)
        else:
            highest = max(raw)
            score = math.exp(raw[self.label] - highest) / sum(math.exp(value - highest) for value in raw)
        right = score >= self.threshold
        return Judgement(Outcome.CORRECT if right else Outcome.WRONG, score, None, f"raw {shown}{note}")

    def _ready(self) -> tuple[Any, Any]:
        if self._loaded is None:
            self.prepare()
        assert self._loaded is not None
        return self._loaded


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
