"""How likely a model finds completions, with their prompts and without: two forward passes, in a process of its own.

From them comes the instruction-following difficulty (IFD) of a completion y to a prompt x: the perplexity of y behind
x over that of y without it (Li et al. 2024, "Selective Reflection-Tuning", arXiv:2402.10110; first as a ratio of losses
in Li et al. 2023, arXiv:2308.12032). Under 1 the prompt helps; at 1 and above it does not.

"Without" means here: behind the chat template's frame around an empty turn. A bare completion would have no token
before its first one, and how well a chat model likes text without a frame is not the question.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from flywheel import guard
from flywheel.errors import StageError
from flywheel.recipe import ModelSection
from flywheel.training import environment, follow
from flywheel.types import Example

if TYPE_CHECKING:
    import torch

Ids = tuple[tuple[int, ...], tuple[int, ...]]
"""The token ids of a context and of what follows it."""


def instruction_following_difficulty(
    examples: Sequence[Example],
    *,
    model_path: Path,
    model: ModelSection,
    max_length: int,
    batch_tokens: int,
    log: Path,
    pid_dir: Path,
    on_progress: Callable[[int, int], None],
) -> list[float | None]:
    """The IFD of each example for the model in `model_path`; None for one of more than `max_length` tokens.

    Runs in a guarded child, so that the model's memory comes back. `on_progress(done, of)` counts forward passes.
    Raises StageError with the end of `log` if the child fails.
    """
    if not examples:
        return []
    with TemporaryDirectory(prefix="flywheel-likelihood-") as folder:
        work = Path(folder)
        (work / "examples.jsonl").write_text("".join(json.dumps(asdict(e)) + "\n" for e in examples), encoding="utf-8")
        job = {"model_path": str(model_path.resolve()), "model": model.model_dump(mode="json")}
        (work / "job.json").write_text(json.dumps({**job, "max_length": max_length, "batch_tokens": batch_tokens}))
        command = [sys.executable, "-m", "flywheel.training.likelihood", str(work)]
        child = guard.spawn(command, name="likelihood", log=log, pid_dir=pid_dir, env=environment(work))
        try:
            code = follow(child, work / "progress", on_progress)
        finally:
            child.terminate()
        if code != 0 or not (work / "scores.json").is_file():
            raise StageError(
                f"the likelihoods for filter.fit ended with exit code {code} (all of it is in {log}):\n"
                f"{guard.last_lines(log, 4)}"
            )
        scores: list[float | None] = json.loads((work / "scores.json").read_text())
    return scores


# ---- in the child --------------------------------------------------------------------------------


def perplexity_ratios(
    examples: Sequence[Example],
    *,
    model_path: Path,
    model: ModelSection,
    max_length: int,
    batch_tokens: int,
    on_progress: Callable[[int, int], None],
) -> list[float | None]:
    """What `instruction_following_difficulty` returns, computed in this process (it imports torch)."""
    import torch
    from transformers import AutoModelForCausalLM

    from flywheel.policy.render import load_tokenizer, prompt_ids
    from flywheel.training.contract import encode, end_of_turn, stop_tokens

    tokenizer = load_tokenizer(model_path, model.chat_template)
    end = end_of_turn(tokenizer, examples[0].messages, stop_tokens(model_path, tokenizer))
    rows = [encode(tokenizer, example, end) for example in examples]
    short = [i for i, row in enumerate(rows) if len(row.prompt) + len(row.completion) <= max_length]
    frame = tuple(prompt_ids(tokenizer, [{"role": "user", "content": ""}]))
    asked: list[Ids] = [(rows[i].prompt, rows[i].completion) for i in short]
    asked += [(frame, rows[i].completion) for i in short]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = AutoModelForCausalLM.from_pretrained(model_path, dtype=getattr(torch, model.dtype)).to(device).eval()
    losses = mean_losses(network, asked, batch_tokens=batch_tokens, on_progress=on_progress)
    scores: list[float | None] = [None] * len(rows)
    for i, behind, without in zip(short, losses[: len(short)], losses[len(short) :], strict=True):
        scores[i] = math.exp(min(behind - without, 700.0))
    return scores


def mean_losses(
    network: Any, asked: Sequence[Ids], *, batch_tokens: int, on_progress: Callable[[int, int], None]
) -> list[float]:
    """The mean negative log-likelihood (nats a token) of what follows each context.

    Texts of like length share a batch of at most `batch_tokens` tokens, padding included.
    """
    import torch

    losses = [0.0] * len(asked)
    batches = list(_batches([len(context) + len(rest) for context, rest in asked], batch_tokens))
    with torch.inference_mode():
        for done, members in enumerate(batches, 1):
            for place, loss in zip(members, _losses(network, [asked[i] for i in members]), strict=True):
                losses[place] = loss
            on_progress(done, len(batches))
    return losses


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Positions in groups of like lengths, longest first, so that what is too large fails at once."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _losses(network: Any, batch: Sequence[Ids]) -> list[float]:
    """Padding stands on the left, so that the last columns hold all that is scored."""
    import torch

    width = max(len(context) + len(rest) for context, rest in batch)
    scored = max(len(rest) for _, rest in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    mask = torch.zeros((len(batch), width), dtype=torch.long)
    for i, (context, rest) in enumerate(batch):
        text = torch.tensor([*context, *rest])
        ids[i, width - len(text) :] = text
        mask[i, width - len(text) :] = 1
    device = network.device
    passed: dict[str, torch.Tensor | int | bool] = {
        "input_ids": ids.to(device),
        "attention_mask": mask.to(device),
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0).to(device),
        "use_cache": False,
    }
    if "logits_to_keep" in inspect.signature(network.forward).parameters:
        passed["logits_to_keep"] = scored + 1  # a vocabulary wide, so only where something is scored
    logits = network(**passed).logits[:, -scored - 1 : -1]
    found = []
    for i, (_, rest) in enumerate(batch):
        scores = logits[i, scored - len(rest) :].float().log_softmax(-1)
        targets = torch.tensor(rest, device=device)
        found.append(-scores.gather(1, targets[:, None]).mean().item())
    return found


def main() -> None:
    """Score one job; `instruction_following_difficulty` calls this."""
    parser = argparse.ArgumentParser(prog="python -m flywheel.training.likelihood")
    parser.add_argument("work", type=Path)
    work = parser.parse_args().work
    job = json.loads((work / "job.json").read_text())
    with open(work / "examples.jsonl", encoding="utf-8") as lines:
        examples = [Example(**json.loads(line)) for line in lines]

    def tell(done: int, of: int) -> None:
        with open(work / "progress", "a", encoding="ascii") as file:
            file.write(f"{done} {of}\n")

    scores = perplexity_ratios(
        examples,
        model_path=Path(job["model_path"]),
        model=ModelSection.model_validate(job["model"]),
        max_length=job["max_length"],
        batch_tokens=job["batch_tokens"],
        on_progress=tell,
    )
    part = work / "scores.part"
    part.write_text(json.dumps(scores))
    os.replace(part, work / "scores.json")


if __name__ == "__main__":
    main()
