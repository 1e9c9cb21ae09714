"""Supervised fine-tuning on a model's own right answers, by TRL's SFTTrainer: a job file in, a model folder out.

Run in a process of its own, `python -m flywheel.training.sft job.json`, or in several by `accelerate launch`.
The job's folder holds the checkpoints, from the newest complete one of which a killed training goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from flywheel.policy.render import load_tokenizer
from flywheel.recipe import ModelSection, TrainSection
from flywheel.training import merge
from flywheel.training.collate import Collator, Encoded, attention_cost_of
from flywheel.training.contract import encode, end_of_turn, stop_tokens
from flywheel.training.optimiser import MasterAdamW
from flywheel.training.order import micro_batches, plan_steps
from flywheel.types import Example

MARKER = "complete.json"
"""Written last into a checkpoint: the sizes of its files. A checkpoint without it was cut off."""


@dataclass(frozen=True, slots=True)
class Job:
    """What `job.json` says. `work` is its folder, `target` the model folder to write."""

    model_path: Path
    target: Path
    work: Path
    section: TrainSection
    model: ModelSection
    seed: int

    @staticmethod
    def read(path: Path) -> Job:
        """The job in a file that `flywheel.training.train` wrote."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        section, model = TrainSection.model_validate(raw["section"]), ModelSection.model_validate(raw["model"])
        return Job(Path(raw["model_path"]), Path(raw["target"]), path.parent, section, model, raw["seed"])

    def examples(self) -> list[Example]:
        """The examples beside the job file."""
        with open(self.work / "examples.jsonl", encoding="utf-8") as lines:
            return [Example(**json.loads(line)) for line in lines]


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


class Trainer(SFTTrainer):
    """SFTTrainer with a weight an example, and on a CPU with the vocabulary projected only where there is a target."""

    loss_is_scaled_for_ga = True  # the loss below is divided by the targets of the whole step

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Weighted negative log-likelihood of the targets, divided by their number in the whole step."""
        if return_outputs:
            raise NotImplementedError("this trainer only trains; flywheel evaluates by sampling")
        weights, labels = inputs["loss_weights"], inputs["shift_labels"]
        passed = {name: inputs[name] for name in ("input_ids", "position_ids", "attention_mask")}
        if self.accelerator.device.type == "cpu" and self.accelerator.num_processes == 1:
            total = self._loss_on_cpu(passed, labels, weights)
        else:
            scores = model(**passed, shift_labels=labels, use_cache=False, fused_lm_head=True).log_probs
            total = -(scores.float() * weights).sum()
        count = (labels != -100).sum() if num_items_in_batch is None else num_items_in_batch
        # Gradients are averaged over processes, and `count` is that of all of them.
        return total / torch.as_tensor(count).clamp(min=1) * self.accelerator.num_processes

    def _loss_on_cpu(self, passed: dict[str, Any], labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        # TRL's fused head scores every position on a CPU; two thirds of ours are prompt.
        network = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        hidden = network.base_model(**passed, use_cache=False).last_hidden_state
        scored = labels != -100
        logits = network.get_output_embeddings()(hidden[scored]).float()
        losses = torch.nn.functional.cross_entropy(logits, labels[scored], reduction="none")
        return (losses * weights[scored]).sum()


class Watch(TrainerCallback):
    """Reports steps to the parent, ends a training whose loss is no number, and closes checkpoints."""

    def __init__(self, work: Path) -> None:
        self._progress = work / "progress"

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Append `step total` to the progress file, and write no checkpoint at the last step: the model follows."""
        if state.global_step >= state.max_steps:
            control.should_save = False
        if state.is_world_process_zero:
            with open(self._progress, "a", encoding="ascii") as file:
                file.write(f"{state.global_step} {state.max_steps}\n")

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Raise FloatingPointError where the loss or the gradient is no finite number."""
        for name in ("loss", "grad_norm"):
            value = more["logs"].get(name)
            if value is not None and not math.isfinite(value):
                raise FloatingPointError(
                    f"{name} is {value} at step {state.global_step}; lower train.learning_rate or train.max_grad_norm"
                )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Mark the checkpoint just written as complete, then delete the older ones."""
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir))
        newest = folder / f"checkpoint-{state.global_step}"
        sizes = {p.name: p.stat().st_size for p in newest.iterdir() if p.is_file()}
        (newest / MARKER).write_text(json.dumps(sizes))
        for other in folder.glob("checkpoint-*"):
            if other != newest:
                shutil.rmtree(other)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; None if there is none."""
    found = [path for path in folder.glob("checkpoint-*") if _is_complete(path)]
    return max(found, key=lambda path: int(path.name.partition("-")[2]), default=None)


def _is_complete(checkpoint: Path) -> bool:
    marker = checkpoint / MARKER
    try:
        sizes = json.loads(marker.read_text())
    except (FileNotFoundError, ValueError):
        return False
    return all((checkpoint / name).is_file() and (checkpoint / name).stat().st_size == n for name, n in sizes.items())


# ---- one training --------------------------------------------------------------------------------


def arguments(job: Job, *, steps: int, accumulation: int, autocast: bool, cpu: bool) -> SFTConfig:
    """The trainer's settings for a job."""
    section = job.section
    return SFTConfig(
        output_dir=str(job.work / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=1,  # an item of the data set is a whole micro-batch
        gradient_accumulation_steps=accumulation,
        train_sampling_strategy="sequential",  # the plan is shuffled already
        learning_rate=section.learning_rate,
        lr_scheduler_type=section.schedule,
        warmup_steps=math.ceil(section.warmup * steps),
        weight_decay=section.weight_decay,
        max_grad_norm=section.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=autocast,
        fp16=False,
        use_cpu=cpu,
        gradient_checkpointing=section.gradient_checkpointing,
        seed=job.seed % 2**32,
        save_strategy="steps",
        save_steps=section.save_steps,
        save_total_limit=None,  # `Watch` deletes the old checkpoint, after the new one is complete
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=section.report_to or "none",
        run_name=f"{job.work.parents[2].name}-{job.work.parent.name}",  # runs/demo/rounds/001/train.parts
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=not cpu,
        disable_tqdm=True,
        average_tokens_across_devices=True,
        max_length=None,
    )


def run(job: Job) -> dict[str, Any]:
    """Train, write the finished model to `job.target`, and return the metrics."""
    tokenizer = load_tokenizer(job.model_path, job.model.chat_template)
    examples = job.examples()
    rows = encode_all(tokenizer, job.model_path, examples, job.section.max_length)
    if not rows:
        limit = job.section.max_length
        raise ValueError(f"all {len(examples)} examples are longer than train.max_length = {limit} tokens")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    slots = micro_batches(job.section.batch_size, job.section.micro_batch, processes)
    plan = plan_steps(
        [row.problem for row in rows],
        epochs=job.section.epochs,
        batch_size=job.section.batch_size,
        slots=slots,
        seed=job.seed,
    )
    trainer = make_trainer(job, rows, plan, tokenizer, accumulation=slots // processes)
    checkpoint = newest_checkpoint(job.work / "checkpoints")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    write_model(trainer, job)
    seen = [place for step in plan for members in step for place in members]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "steps": trainer.state.global_step,
        "examples": len(rows),
        "skipped_too_long": len(examples) - len(rows),
        "tokens": sum(len(rows[i].prompt) + len(rows[i].completion) for i in seen),
        "completion_tokens": sum(len(rows[i].completion) for i in seen),
        **loss_ends(losses),
    }


def make_trainer(
    job: Job, rows: Sequence[Encoded], plan: Sequence[Any], tokenizer: Any, *, accumulation: int
) -> Trainer:
    """The trainer for a plan over encoded examples, with the model loaded."""
    section = job.section
    cpu = not torch.cuda.is_available()
    half = section.precision == "bfloat16"
    # One process on a CPU: bfloat16 weights are faster than autocast, and MasterAdamW keeps the float32 ones.
    direct = cpu and half and int(os.environ.get("WORLD_SIZE", "1")) == 1
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        job.model_path, dtype=torch.bfloat16 if direct else torch.float32
    )
    longest = max(len(row.prompt) + len(row.completion) for row in rows)
    share = section.share_prompts and can_share(model.config, longest)
    if share:
        model.set_attn_implementation("sdpa")  # takes a mask of any shape
    text = model.config.get_text_config()
    pad = next((t for t in (tokenizer.pad_token_id, tokenizer.eos_token_id) if t is not None), 0)
    masters = direct and section.lora is None
    return Trainer(
        model=model,
        args=arguments(job, steps=len(plan), accumulation=accumulation, autocast=half and not direct, cpu=cpu),
        train_dataset=Dataset.from_dict({"members": [members for step in plan for members in step]}),
        data_collator=Collator(rows, pad, share, attention_cost_of(text.hidden_size)),
        processing_class=tokenizer,
        peft_config=_lora(section),
        callbacks=[Watch(job.work)],
        optimizer_cls_and_kwargs=(MasterAdamW, {"lr": section.learning_rate}) if masters else None,
    )


def _lora(section: TrainSection) -> Any:
    if section.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=section.lora.rank,
        lora_alpha=section.lora.alpha,
        lora_dropout=section.lora.dropout,
        target_modules=section.lora.target_modules,
        task_type="CAUSAL_LM",
    )


def write_model(trainer: Trainer, job: Job) -> None:
    """Write the trained model as an ordinary folder to `job.target`. Every process takes part in gathering weights."""
    shutil.rmtree(job.target, ignore_errors=True)
    if job.section.lora is not None:
        adapter = job.work / "adapter"
        trainer.save_model(str(adapter))
        if trainer.is_world_process_zero():
            merge.merge_adapter(job.model_path, adapter, job.target, job.model.dtype)
        return
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        merge.write_full(job.model_path, weights, job.target, job.model.dtype)


def loss_ends(losses: Sequence[float]) -> dict[str, float]:
    """The mean loss over the first and the last tenth of the steps."""
    tenth = max(1, len(losses) // 10)
    first, last = losses[:tenth], losses[-tenth:]
    return {"loss_first": sum(first) / len(first), "loss_last": sum(last) / len(last)}


def main() -> None:
    """Run one job; `flywheel.training.train` calls this."""
    parser = argparse.ArgumentParser(prog="python -m flywheel.training.sft", description="Train one model.")
    parser.add_argument("job", type=Path)
    job = Job.read(parser.parse_args().job)
    metrics = run(job)
    if int(os.environ.get("RANK", "0")) == 0:
        part = job.work / "metrics.part"
        part.write_text(json.dumps(metrics))
        os.replace(part, job.work / "metrics.json")


if __name__ == "__main__":
    main()
