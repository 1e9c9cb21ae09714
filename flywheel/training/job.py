"""What the trainers share: the job file, the start's weights, steps and checkpoints, and the model folder at the end.

A trainer is a module of its own process, `python -m flywheel.training.sft job.json`, or of several by `accelerate
launch`. The job's folder holds the checkpoints, from the newest complete one of which a killed training goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from flywheel.recipe import ModelSection, TrainSection
from flywheel.training import merge
from flywheel.training.optimiser import MasterAdamW
from flywheel.training.order import Step, micro_batches, plan_steps

Row = TypeVar("Row")

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
        """The job in a file that `flywheel.training` wrote."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        section, model = TrainSection.model_validate(raw["section"]), ModelSection.model_validate(raw["model"])
        return Job(Path(raw["model_path"]), Path(raw["target"]), path.parent, section, model, raw["seed"])

    def rows(self, row_type: type[Row]) -> list[Row]:
        """The rows beside the job file: examples or pairs."""
        with open(self.work / "rows.jsonl", encoding="utf-8") as lines:
            return [row_type(**json.loads(line)) for line in lines]

    @property
    def run_name(self) -> str:
        """`demo-001` for the work in runs/demo/rounds/001/train.parts, or in a folder of a stage's name below it."""
        parts = self.work if self.work.suffix == ".parts" else self.work.parent
        names = [p.name for p in parts.parents]
        return f"{names[2]}-{names[0]}" if len(names) > 2 else parts.name


@dataclass(frozen=True, slots=True)
class Start:
    """The weights that a training starts from, and how it computes: `direct` trains 16-bit weights as they are."""

    network: PreTrainedModel
    direct: bool
    optimizer: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None

    @staticmethod
    def load(job: Job) -> Start:
        """Load the job's start."""
        section = job.section
        half = section.precision == "bfloat16"
        # One process on a CPU: bfloat16 weights are faster than autocast, and MasterAdamW keeps the float32 ones.
        direct = not torch.cuda.is_available() and half and processes() == 1
        network = AutoModelForCausalLM.from_pretrained(
            job.model_path, dtype=torch.bfloat16 if direct else torch.float32
        )
        masters = direct and section.lora is None
        return Start(network, direct, (MasterAdamW, {"lr": section.learning_rate}) if masters else None)


class StepLoss:
    """What our trainers override of TRL's: the loss is divided by what counts in the whole optimiser step, not by the
    micro-batch's part of it, and nothing is evaluated."""

    loss_is_scaled_for_ga = True

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """`step_loss`, as `transformers.Trainer` asks for it."""
        if return_outputs:
            raise NotImplementedError("this trainer only trains; flywheel evaluates by sampling")
        return self.step_loss(model, inputs, num_items_in_batch)

    def step_loss(self, model: Any, inputs: dict[str, Any], count: torch.Tensor | int | None) -> torch.Tensor:
        """A micro-batch's part of its step's loss; `count` is the targets of the whole step, where they are known."""
        raise NotImplementedError


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
                    f"{name} is {value} at step {state.global_step}; lower train.learning_rate "
                    "(of DPO: train.dpo.learning_rate) or train.max_grad_norm"
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


def processes() -> int:
    """How many processes train side by side."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def plan_of(job: Job, problems: Sequence[str]) -> tuple[list[Step], int]:
    """The steps of a training over rows of these problems, and how many micro-batches of each fall to one process."""
    section = job.section
    slots = micro_batches(section.batch_size, section.micro_batch, processes())
    plan = plan_steps(problems, epochs=section.epochs, batch_size=section.batch_size, slots=slots, seed=job.seed)
    return plan, slots // processes()


def pad_token(tokenizer: Any) -> int:
    """What a batch's shorter rows are filled up with; it is masked, so any token will do."""
    return next((t for t in (tokenizer.pad_token_id, tokenizer.eos_token_id) if t is not None), 0)


def fit(trainer: Any, job: Job) -> None:
    """Train, from the newest complete checkpoint where there is one, and write the model to `job.target`."""
    checkpoint = newest_checkpoint(job.work / "checkpoints")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    write_model(trainer, job)


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


def arguments(job: Job, *, steps: int, accumulation: int, direct: bool) -> dict[str, Any]:
    """The settings that every trainer takes for a job of `steps` optimiser steps."""
    section = job.section
    cpu = not torch.cuda.is_available()
    return {
        "output_dir": str(job.work / "checkpoints"),
        "max_steps": steps,
        "per_device_train_batch_size": 1,  # an item of the data set is a whole micro-batch
        "gradient_accumulation_steps": accumulation,
        "train_sampling_strategy": "sequential",  # the plan is shuffled already
        "learning_rate": section.learning_rate,
        "lr_scheduler_type": section.schedule,
        "warmup_steps": math.ceil(section.warmup * steps),
        "weight_decay": section.weight_decay,
        "max_grad_norm": section.max_grad_norm,
        "optim": "adamw_torch_fused",
        "bf16": section.precision == "bfloat16" and not direct,
        "fp16": False,
        "use_cpu": cpu,
        "gradient_checkpointing": section.gradient_checkpointing,
        "seed": job.seed % 2**32,
        "save_strategy": "steps",
        "save_steps": section.save_steps,
        "save_total_limit": None,  # `Watch` deletes the old checkpoint, after the new one is complete
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": section.report_to or "none",
        "run_name": job.run_name,
        "remove_unused_columns": False,
        "dataloader_pin_memory": not cpu,
        "disable_tqdm": True,
        "max_length": None,
    }


def lora_config(section: TrainSection) -> Any:
    """PEFT's configuration of `train.lora`; None where all weights are trained."""
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


def write_model(trainer: Any, job: Job) -> None:
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


def ends(values: Sequence[float], name: str = "loss") -> dict[str, float]:
    """The mean over the first and over the last tenth of the steps, as `loss_first` and `loss_last`."""
    tenth = max(1, len(values) // 10)
    first, last = values[:tenth], values[-tenth:]
    return {f"{name}_first": sum(first) / len(first), f"{name}_last": sum(last) / len(last)}


def run_job(run: Callable[[Job], dict[str, Any]], program: str) -> None:
    """What a trainer's process does: read the job that the command line names, run it, and write its metrics."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description="Train one model.")
    parser.add_argument("job", type=Path)
    job = Job.read(parser.parse_args().job)
    metrics = run(job)
    if int(os.environ.get("RANK", "0")) == 0:
        part = job.work / "metrics.part"
        part.write_text(json.dumps(metrics))
        os.replace(part, job.work / "metrics.json")
