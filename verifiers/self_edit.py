"""`self_edit`: an edit is worth what a model learns from it (Zweiger et al. 2025, SEAL, arXiv:2506.10943, section 3).

A problem is a passage with questions, a completion an edit of it: training text. The verifier trains a copy of a model
on the edit's lines, with low-rank adapters and for a few epochs, and asks it the questions without the passage. The
score is the share that it answers, and an edit is CORRECT that raises it above that of the untouched model.

Training text is data: nothing of a completion is executed, and what is learnt is thrown away after the questions.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from flywheel import (
    Judgement,
    ModelError,
    Outcome,
    Problem,
    model_folder,
    model_identity,
    model_lack,
    torch_device,
)
from flywheel.verifiers.passages import Passages

ASKED = "Question: {question}\nAnswer:"
LONGEST_LINE = 128
"""Tokens of a line that are learnt; what goes on is cut off."""
_WORD = re.compile(r"\w+")


class BadQuestions(Exception):
    """A problem's questions cannot be read; the text says why."""


@dataclass
class SelfEdit:
    """Judges training text by a short inner fine-tune on it. Where several edits raise the score, `filter.select =
    "best"` with `filter.cap = 1` keeps the one that raises it most."""

    name: ClassVar[str] = "self_edit"
    version: ClassVar[str] = "2"
    exclusive: ClassVar[bool] = True
    deadline_outcome: ClassVar[str] = "error"
    deadline_seconds: ClassVar[float] = 300.0
    path_kind: ClassVar[str] = "text"

    model: str = "smollm2-135m-instruct"
    """What is trained and asked: a hub id, a folder or a `.gguf` file. It stays the same over all rounds, so that
    scores of different rounds can be compared."""
    rank: int = 32
    """The adapters' rank; they are scaled by 2."""
    learning_rate: float = 1e-3
    """AdamW's, constant."""
    epochs: int = 10
    """Passes over an edit's lines."""
    batch_size: int = 4
    """Lines an optimiser step."""
    lines: int = 24
    """Lines of an edit that are learnt; further ones are left out, so that an edit cannot win by length alone."""
    margin: float = 0.0
    """An edit is CORRECT that raises the share of answered questions by more than this."""
    answer_tokens: int = 12
    """Longest answer."""
    seed: int = 0
    """Of the adapters' first values and the order of lines."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""

    def __post_init__(self) -> None:
        for option in ("rank", "epochs", "batch_size", "lines", "answer_tokens"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} = {getattr(self, option)!r}; it is at least 1")
        if self.learning_rate <= 0.0 or not 0.0 <= self.margin < 1.0:
            raise ValueError("learning_rate is greater than 0, and margin from 0 to under 1")
        self._loaded: tuple[Any, Any, dict[str, Any]] | None = None
        self._before: dict[str, float] = {}

    def lacks(self) -> str | None:
        """Why its model is not to be had, where it is not."""
        return model_lack(self.model)

    def unfit(self, problem: Problem) -> str | None:
        """Why a problem has no questions."""
        try:
            questions_of(problem)
        except BadQuestions as error:
            return str(error)
        return None

    def identity(self) -> dict[str, Any]:
        """The digest of the model's files."""
        return {"model": model_identity(self.model)}

    def problems(self) -> list[Problem]:
        """Passages to check the verifier on."""
        rows = Passages().rows(0)
        return [Problem(row["id"], row["prompt"], row["answer"], meta={"passage": row["passage"]}) for row, _ in
                zip(rows, range(2), strict=False)]  # fmt: skip

    def example(self, problem: Problem) -> str:
        """Questions and answers themselves: what an edit at its best comes to, for `flywheel check`."""
        return "\n".join(f"{ASKED.format(question=q)} {a}.".replace("\n", " ") for q, a in questions_of(problem))

    def prepare(self) -> None:
        """Load the model and put fresh adapters on it. Raises ModelError where it is not there."""
        folder = model_folder(self.model)
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # what there is to fetch has been fetched
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{folder} cannot be loaded: {' '.join(str(error).split())[:300]}") from None
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        if tokenizer.pad_token_id is None:
            raise ModelError(f"{folder}: its tokenizer has neither a padding nor an end token; batches need one")
        torch.manual_seed(self.seed)
        lora = LoraConfig(r=self.rank, lora_alpha=2 * self.rank, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(network.to(torch_device(self.device)), lora)
        fresh = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        self._loaded = model, tokenizer, fresh

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """Train on the edit's lines, ask the questions; the score is the share answered."""
        try:
            asked = questions_of(problem)
        except BadQuestions as error:
            return Judgement(Outcome.ERROR, 0.0, None, str(error))
        lines = lines_of(completion)[: self.lines]
        if not lines:
            return Judgement(Outcome.NO_ANSWER, 0.0, None, "the edit has no line of text")
        before = self.answered_before(problem)
        self._learn(lines)
        after = self._answered(asked)
        # The margin is of shares of a few questions: a hundredth of one is rounding, not progress.
        right = after > before + self.margin + 1e-9
        detail = f"questions answered: {before:.2f} before, {after:.2f} after {len(lines)} lines"
        return Judgement(Outcome.CORRECT if right else Outcome.WRONG, after, None, detail)

    def answered_before(self, problem: Problem) -> float:
        """The share of a problem's questions that the untouched model answers."""
        if problem.id not in self._before:
            model, _, _ = self._ready()
            with model.disable_adapter():
                self._before[problem.id] = self._answered(questions_of(problem))
        return self._before[problem.id]

    def _learn(self, lines: Sequence[str]) -> None:
        """Fresh adapters, trained on the lines."""
        import torch

        model, tokenizer, fresh = self._ready()
        trained = [p for p in model.parameters() if p.requires_grad]
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in fresh:
                    parameter.copy_(fresh[name])
        optimiser = torch.optim.AdamW(trained, lr=self.learning_rate, weight_decay=0.0)
        rows = [_ids(tokenizer, line) for line in lines]
        random = Random(self.seed)
        model.train()
        for _ in range(self.epochs):
            order = random.sample(rows, len(rows))
            for begin in range(0, len(order), self.batch_size):
                batch = order[begin : begin + self.batch_size]
                width = max(map(len, batch))
                ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in batch])
                mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
                labels = ids.masked_fill(mask == 0, -100)
                given = {"input_ids": ids, "attention_mask": mask, "labels": labels}
                loss = model(**{name: value.to(model.device) for name, value in given.items()}).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimiser.step()
                optimiser.zero_grad()

    def _answered(self, asked: Sequence[tuple[str, str]]) -> float:
        """The share of the questions that the model, as it is now, answers without the passage."""
        import torch

        model, tokenizer, _ = self._ready()
        model.eval()
        rows = [tokenizer(ASKED.format(question=question))["input_ids"] for question, _ in asked]
        width = max(map(len, rows))
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in rows], device=model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=False,
                temperature=None,
                top_p=None,
                max_new_tokens=self.answer_tokens,
                pad_token_id=tokenizer.pad_token_id,
            )
        said = tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
        return sum(says(text, answer) for text, (_, answer) in zip(said, asked, strict=True)) / len(asked)

    def _ready(self) -> tuple[Any, Any, dict[str, Any]]:
        if self._loaded is None:
            self.prepare()
        assert self._loaded is not None
        return self._loaded


def _ids(tokenizer: Any, line: str) -> list[int]:
    # Without an end token: a model that has learnt to end after every line answers each question with the end.
    text = line.encode("utf-8", "replace").decode("utf-8")
    ids: list[int] = tokenizer(text)["input_ids"][:LONGEST_LINE]
    return ids


def lines_of(edit: str) -> list[str]:
    """The lines of an edit that say something, without the marks of a list."""
    stripped = (re.sub(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+", "", line).strip() for line in edit.splitlines())
    return [line for line in stripped if _WORD.search(line)]


def says(text: str, answer: str) -> bool:
    """Whether the first line of what a model said holds the words of the answer, in their order and side by side."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    words, wanted = _WORD.findall(first.lower()), _WORD.findall(answer.lower())
    return any(words[i : i + len(wanted)] == wanted for i in range(len(words) - len(wanted) + 1))


def questions_of(problem: Problem) -> list[tuple[str, str]]:
    """The questions of a problem with their answers, from the JSON in its reference. Raises BadQuestions."""
    try:
        read = json.loads(problem.answer)
        asked = [(row["question"], row["answer"]) for row in read]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        shown = f"{type(error).__name__}: {error}"
        raise BadQuestions(
            f"the reference is no JSON list of objects with question and answer ({shown[:120]})"
        ) from None
    if not asked or any(not isinstance(t, str) or not _WORD.search(t) for pair in asked for t in pair):
        raise BadQuestions("the reference has no questions, or one without words")
    return asked
