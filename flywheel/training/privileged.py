"""Distillation from the same model that has seen the solution: token by token, on the student's own samples.

The teacher is the start itself, frozen, behind a prompt with the solution in it; the student sees the plain prompt. At
each token of a completion that the student sampled, the student's distribution is drawn towards the teacher's, over the
whole vocabulary (on-policy distillation: Agarwal et al. 2024, arXiv:2306.13649; the privileged teacher as in OPSD:
Zhao et al. 2026, arXiv:2601.18734). TRL's trainers for this (`trl.experimental.sdft`, `sdpo`) sample by themselves;
ours takes what the round has drawn and judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from flywheel.policy.render import load_tokenizer
from flywheel.training.collate import IGNORED, Encoded, to_tensors, tree_row
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
from flywheel.types import Example, Lesson

Both = tuple[Encoded, Encoded]
"""A lesson in tokens: behind the plain prompt, and behind the one with the solution."""


def encode_lessons(tokenizer: Any, model_path: Path, lessons: Sequence[Lesson], max_length: int) -> list[Both]:
    """The lessons of which both texts have at most `max_length` tokens, in tokens."""
    end = end_of_turn(tokenizer, lessons[0].messages, stop_tokens(model_path, tokenizer))
    rows = []
    for lesson in lessons:
        plain, told = (
            encode(tokenizer, Example("", lesson.problem_id, lesson.round, messages, lesson.completion, ""), end)
            for messages in (lesson.messages, lesson.told)
        )
        if max(len(row.prompt) + len(row.completion) for row in (plain, told)) <= max_length:
            rows.append((plain, told))
    return rows


def divergence(student: torch.Tensor, teacher: torch.Tensor, kind: str) -> torch.Tensor:
    """The divergence (N,), in nats, of two tables of logits (N, V): `forward` is KL(teacher‖student), `reverse`
    KL(student‖teacher), `js` the Jensen-Shannon divergence, half of each against their mean."""
    ours, theirs = student.float().log_softmax(-1), teacher.float().log_softmax(-1)

    def kl(of: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
        return (of.exp() * (of - to)).sum(-1)

    if kind == "forward":
        return kl(theirs, ours)
    if kind == "reverse":
        return kl(ours, theirs)
    mean = torch.logaddexp(ours, theirs) - torch.log(torch.tensor(2.0, device=ours.device))
    return (kl(ours, mean) + kl(theirs, mean)) / 2


@dataclass(frozen=True)
class Collator:
    """The tensors of a micro-batch, which the data set names by the positions of its lessons; the teacher's begin with
    `told_`. Row by row, the same completion is scored in both."""

    rows: Sequence[Both]
    pad_id: int

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """The tensors of `to_tensors`, twice."""
        members = [place for item in items for place in item["members"]]
        plain, told = (to_tensors([tree_row([self.rows[i][side]]) for i in members], self.pad_id) for side in (0, 1))
        return {**plain, **{f"told_{name}": value for name, value in told.items()}}


class Trainer(StepLoss, SFTTrainer):
    """SFTTrainer with another loss. `teacher` is frozen: a teacher that follows the student amplifies collapse."""

    teacher: Any
    kind: str

    def step_loss(self, model: Any, inputs: dict[str, Any], count: torch.Tensor | int | None) -> torch.Tensor:
        """The divergence at the completions' tokens, the stop token included, a mean over those of the whole step."""
        student = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        ours = _scored_logits(student, inputs, "")
        with torch.no_grad():
            theirs = _scored_logits(self.teacher, inputs, "told_")
        targets = torch.as_tensor(len(ours) if count is None else count)
        return divergence(ours, theirs, self.kind).sum() / targets.clamp(min=1)


def _scored_logits(network: Any, inputs: dict[str, Any], side: str) -> torch.Tensor:
    """The logits (N, V) at the places that predict a completion's token; two thirds of a row are prompt."""
    passed = {name: inputs[f"{side}{name}"] for name in ("input_ids", "position_ids", "attention_mask")}
    hidden = network.base_model(**passed, use_cache=False).last_hidden_state
    logits: torch.Tensor = network.get_output_embeddings()(hidden[inputs[f"{side}shift_labels"] != IGNORED])
    return logits


def make_trainer(job: Job, rows: Sequence[Both], plan: Sequence[Step], tokenizer: Any, *, accumulation: int) -> Trainer:
    """The trainer for a plan over encoded lessons, with student and teacher loaded."""
    section, start = job.section, Start.load(job)
    trainer = Trainer(
        model=start.network,
        args=SFTConfig(
            **arguments(job, steps=len(plan), accumulation=accumulation, direct=start.direct),
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=Dataset.from_dict({"members": [members for step in plan for members in step]}),
        data_collator=Collator(rows, pad_token(tokenizer)),
        processing_class=tokenizer,
        peft_config=lora_config(section),
        callbacks=[Watch(job.work)],
        optimizer_cls_and_kwargs=start.optimizer,
    )
    teacher = AutoModelForCausalLM.from_pretrained(job.model_path, dtype=start.network.dtype)
    trainer.teacher = teacher.to(trainer.accelerator.device).eval().requires_grad_(False)
    trainer.kind = section.privileged.divergence
    return trainer


def run(job: Job) -> dict[str, Any]:
    """Train, write the finished model to `job.target`, and return the metrics."""
    tokenizer = load_tokenizer(job.model_path, job.model.chat_template)
    section, lessons = job.section, job.rows(Lesson)
    rows = encode_lessons(tokenizer, job.model_path, lessons, section.max_length)
    if not rows:
        raise ValueError(f"all {len(lessons)} lessons are longer than train.max_length = {section.max_length} tokens")
    plan, accumulation = plan_of(job, [plain.problem for plain, _ in rows])
    trainer = make_trainer(job, rows, plan, tokenizer, accumulation=accumulation)
    fit(trainer, job)
    seen = [rows[place] for step in plan for members in step for place in members]
    return {
        "steps": trainer.state.global_step,
        "lessons": len(rows),
        "skipped_too_long": len(lessons) - len(rows),
        "tokens": sum(len(row.prompt) + len(row.completion) for both in seen for row in both),
        "completion_tokens": sum(len(plain.completion) for plain, _ in seen),
        **ends([entry["loss"] for entry in trainer.state.log_history if "loss" in entry]),
    }


if __name__ == "__main__":
    run_job(run, "flywheel.training.privileged")
