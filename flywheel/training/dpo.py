"""Direct preference optimisation on a model's own right and wrong answers, by TRL's DPOTrainer.

Both texts of a pair are encoded as SFT encodes examples: the prompt as sampling renders it, the completion, the stop
token. The reference is the start itself, so its likelihoods are worked out once, before the first step, and no second
model is held (Rafailov et al. 2023, arXiv:2305.18290, equation 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from flywheel.policy.render import load_tokenizer
from flywheel.training.contract import encode, end_of_turn, stop_tokens
from flywheel.training.job import (
    Job,
    Start,
    StepLoss,
    Watch,
    arguments,
    ends,
    fit,
    lora_config,
    pad_token,
    plan_of,
    run_job,
)
from flywheel.training.order import Step
from flywheel.types import Example, Pair

Encoded = dict[str, Any]
"""A pair in tokens: `prompt_ids`, `chosen_ids`, `rejected_ids`, and from the reference `ref_chosen_logps` and
`ref_rejected_logps`, sums over the completion in nats."""


def encode_pairs(tokenizer: Any, model_path: Path, pairs: Sequence[Pair]) -> list[Encoded]:
    """All pairs in tokens."""
    end = end_of_turn(tokenizer, pairs[0].messages, stop_tokens(model_path, tokenizer))
    rows = []
    for pair in pairs:
        prompt, texts = [], []
        for text in (pair.chosen, pair.rejected):
            row = encode(tokenizer, Example("", pair.problem_id, pair.round, pair.messages, text, ""), end)
            prompt = list(row.prompt)
            texts.append(list(row.completion))
        rows.append({"prompt_ids": prompt, "chosen_ids": texts[0], "rejected_ids": texts[1]})
    return rows


def width(row: Encoded) -> int:
    """Tokens of the longer of a pair's two texts."""
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def tokens(row: Encoded) -> int:
    """Tokens of both texts, the prompt twice."""
    return 2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])


class Collator:
    """The tensors of a micro-batch, which the data set names by the positions of its pairs.

    Beside what TRL's collator gives, `share` and `chosen_share` (1,) are the micro-batch's part of its optimiser step:
    of the pairs, and of the chosen completions' tokens.
    """

    def __init__(self, rows: Sequence[Encoded], pad_id: int) -> None:
        self.rows = rows
        self._tensors = DataCollatorForPreference(pad_token_id=pad_id)

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """An item without members, which keeps processes in step, stands as the first pair with a share of 0."""
        members = [place for item in items for place in item["members"]] or [0]
        parts = {name: torch.tensor([sum(item[name] for item in items)]) for name in ("share", "chosen_share")}
        return {**self.of(members), **parts}

    def of(self, members: Sequence[int]) -> dict[str, Any]:
        """The tensors of the pairs at these positions: chosen first, then rejected."""
        batch: dict[str, Any] = self._tensors([self.rows[place] for place in members])
        return batch


class Trainer(StepLoss, DPOTrainer):
    """DPOTrainer on pairs that are in tokens already, each counting alike in its step however it is laid out.

    In the likelihood term each token does; `nll` is its weight.
    """

    nll = 0.0

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Give every pair its reference likelihoods; the weights are those of the start until training begins."""
        collator = self.data_collator
        assert isinstance(collator, Collator)
        order = sorted(range(len(collator.rows)), key=lambda place: -width(collator.rows[place]))
        for first in range(0, len(order), batch_size):
            members = order[first : first + batch_size]
            batch = {key: value.to(self.accelerator.device) for key, value in collator.of(members).items()}
            chosen, rejected = self.compute_ref_log_probs(self.model, batch)
            for place, a, b in zip(members, chosen.tolist(), rejected.tolist(), strict=True):
                collator.rows[place].update(ref_chosen_logps=a, ref_rejected_logps=b)
        return dataset

    def step_loss(self, model: Any, inputs: dict[str, Any], count: torch.Tensor | int | None) -> torch.Tensor:
        """TRL's loss, each of its terms a mean over the micro-batch, times the micro-batch's part of the step."""
        share, chosen_share = (inputs.pop(name).sum() for name in ("share", "chosen_share"))
        if self.nll:  # a mean over tokens: its part of the step is not that of the pairs
            self.loss_weights = [1.0, self.nll * float(chosen_share / share) if share else 0.0]
        loss: torch.Tensor = DPOTrainer.compute_loss(self, model, inputs)
        return loss * share * self.accelerator.num_processes  # gradients are averaged over processes


def make_trainer(
    job: Job, rows: Sequence[Encoded], plan: Sequence[Step], tokenizer: Any, *, accumulation: int
) -> Trainer:
    """The trainer for a plan over encoded pairs, with the model loaded and the reference worked out."""
    section, start = job.section, Start.load(job)
    options = section.dpo
    items = [item for step in plan for item in _items(step, rows)]
    trainer = Trainer(
        model=start.network,
        args=DPOConfig(
            **arguments(job, steps=len(plan), accumulation=accumulation, direct=start.direct),
            beta=options.beta,
            loss_type=["sigmoid", "sft"] if options.nll else ["sigmoid"],
            loss_weights=[1.0, options.nll] if options.nll else None,
            precompute_ref_log_probs=True,
            precompute_ref_batch_size=section.micro_batch,
        ),
        train_dataset=Dataset.from_list(items),
        data_collator=Collator(rows, pad_token(tokenizer)),
        processing_class=tokenizer,
        peft_config=lora_config(section),
        callbacks=[Watch(job.work)],
    )
    trainer.optimizer_cls_and_kwargs = start.optimizer
    trainer.nll = options.nll
    return trainer


def _items(step: Step, rows: Sequence[Encoded]) -> list[dict[str, Any]]:
    """What the data set says of each micro-batch of a step."""
    chosen = [sum(len(rows[place]["chosen_ids"]) for place in members) for members in step]
    pairs = sum(map(len, step))
    return [
        {"members": members, "share": len(members) / pairs, "chosen_share": said / sum(chosen)}
        for members, said in zip(step, chosen, strict=True)
    ]


def run(job: Job) -> dict[str, Any]:
    """Train, write the finished model to `job.target`, and return the metrics."""
    tokenizer = load_tokenizer(job.model_path, job.model.chat_template)
    section, pairs = job.section, job.rows(Pair)
    encoded = [(p, row) for p, row in zip(pairs, encode_pairs(tokenizer, job.model_path, pairs), strict=True)]
    encoded = [(p, row) for p, row in encoded if width(row) <= section.max_length]
    if not encoded:
        raise ValueError(f"all {len(pairs)} pairs are longer than train.max_length = {section.max_length} tokens")
    rows = [row for _, row in encoded]
    plan, accumulation = plan_of(job, [p.problem_id for p, _ in encoded])
    trainer = make_trainer(job, rows, plan, tokenizer, accumulation=accumulation)
    fit(trainer, job)
    seen = [rows[place] for step in plan for members in step for place in members]
    logged = [entry for entry in trainer.state.log_history if "rewards/margins" in entry]
    margins, accuracies = ([entry[f"rewards/{name}"] for entry in logged] for name in ("margins", "accuracies"))
    return {
        "steps": trainer.state.global_step,
        "pairs": len(rows),
        "pairs_too_long": len(pairs) - len(rows),
        "tokens": sum(map(tokens, seen)),
        "completion_tokens": sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in seen),
        **ends([entry["loss"] for entry in logged]),
        **ends(margins, "margin"),
        **ends(accuracies, "accuracy"),
    }


if __name__ == "__main__":
    run_job(run, "flywheel.training.dpo")
