"""Supervised fine-tuning on a model's own right answers, by TRL's SFTTrainer: a job file in, a model folder out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from flywheel.policy.render import load_tokenizer
from flywheel.training.collate import Collator, Encoded, attention_cost_of
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
from flywheel.types import Example

# ---- data ----------------------------------------------------------------------------------------


def encode_all(tokenizer: Any, model_path: Path, examples: Sequence[Example], max_length: int) -> list[Encoded]:
    """All examples of at most `max_length` tokens, in tokens."""
    stops = stop_tokens(model_path, tokenizer)
    end = end_of_turn(tokenizer, examples[0].messages, stops) if examples else stops[0]
    encoded = (encode(tokenizer, example, end) for example in examples)
    return [row for row in encoded if len(row.prompt) + len(row.completion) <= max_length]


def can_share(config: Any, width: int) -> bool:
    """Whether trees are exact for a model: all its layers attend to everything before a token.

    Not so for state-space and convolution layers, which read neighbours, and for attention windows narrower than a row.
    """
    text = config.get_text_config()
    if any(kind != "full_attention" for kind in getattr(text, "layer_types", None) or []):
        return False
    window = getattr(text, "sliding_window", None)
    recurrent = any(hasattr(text, name) for name in ("ssm_cfg", "state_size", "mamba_d_state", "conv_L_cache"))
    return not recurrent and (window is None or window >= width)


# ---- the trainer ---------------------------------------------------------------------------------


class Trainer(StepLoss, SFTTrainer):
    """SFTTrainer with a weight an example, and on a CPU with the vocabulary projected only where there is a target."""

    def step_loss(self, model: Any, inputs: dict[str, Any], count: torch.Tensor | int | None) -> torch.Tensor:
        """Weighted negative log-likelihood of the targets, divided by their number in the whole step."""
        weights, labels = inputs["loss_weights"], inputs["shift_labels"]
        passed = {name: inputs[name] for name in ("input_ids", "position_ids", "attention_mask")}
        if self.accelerator.device.type == "cpu" and self.accelerator.num_processes == 1:
            total = self._loss_on_cpu(passed, labels, weights)
        else:
            scores = model(**passed, shift_labels=labels, use_cache=False, fused_lm_head=True).log_probs
            total = -(scores.float() * weights).sum()
        targets = torch.as_tensor((labels != -100).sum() if count is None else count)
        return total / targets.clamp(min=1) * self.accelerator.num_processes  # gradients are averaged over processes

    def _loss_on_cpu(self, passed: dict[str, Any], labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        # TRL's fused head scores every position on a CPU; two thirds of ours are prompt.
        network = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        hidden = network.base_model(**passed, use_cache=False).last_hidden_state
        scored = labels != -100
        logits = network.get_output_embeddings()(hidden[scored]).float()
        losses = torch.nn.functional.cross_entropy(logits, labels[scored], reduction="none")
        return (losses * weights[scored]).sum()


# ---- one training --------------------------------------------------------------------------------


def run(job: Job) -> dict[str, Any]:
    """Train, write the finished model to `job.target`, and return the metrics."""
    tokenizer = load_tokenizer(job.model_path, job.model.chat_template)
    examples = job.rows(Example)
    rows = encode_all(tokenizer, job.model_path, examples, job.section.max_length)
    if not rows:
        limit = job.section.max_length
        raise ValueError(f"all {len(examples)} examples are longer than train.max_length = {limit} tokens")
    plan, accumulation = plan_of(job, [row.problem for row in rows])
    trainer = make_trainer(job, rows, plan, tokenizer, accumulation=accumulation)
    fit(trainer, job)
    seen = [place for step in plan for members in step for place in members]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "steps": trainer.state.global_step,
        "examples": len(rows),
        "skipped_too_long": len(examples) - len(rows),
        "tokens": sum(len(rows[i].prompt) + len(rows[i].completion) for i in seen),
        "completion_tokens": sum(len(rows[i].completion) for i in seen),
        **ends(losses),
    }


def make_trainer(
    job: Job, rows: Sequence[Encoded], plan: Sequence[Step], tokenizer: Any, *, accumulation: int
) -> Trainer:
    """The trainer for a plan over encoded examples, with the model loaded."""
    section, start = job.section, Start.load(job)
    model = start.network
    longest = max(len(row.prompt) + len(row.completion) for row in rows)
    share = section.share_prompts and can_share(model.config, longest)
    if share:
        model.set_attn_implementation("sdpa")  # takes a mask of any shape
    text = model.config.get_text_config()
    settings = arguments(job, steps=len(plan), accumulation=accumulation, direct=start.direct)
    return Trainer(
        model=model,
        args=SFTConfig(**settings, dataset_kwargs={"skip_prepare_dataset": True}, average_tokens_across_devices=True),
        train_dataset=Dataset.from_dict({"members": [members for step in plan for members in step]}),
        data_collator=Collator(rows, pad_token(tokenizer), share, attention_cost_of(text.hidden_size)),
        processing_class=tokenizer,
        peft_config=lora_config(section),
        callbacks=[Watch(job.work)],
        optimizer_cls_and_kwargs=start.optimizer,
    )


if __name__ == "__main__":
    run_job(run, "flywheel.training.sft")
