"""How a candidate is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flywheel.recipe.section import Count, Section, Share, knob


class LoraOptions(Section):
    """Low-rank adapters, merged into the weights after training (Hu et al. 2021, arXiv:2106.09685)."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """The rank of the update."""
    alpha: Annotated[float, Field(gt=0.0)] = 32.0
    """The update is scaled by alpha / rank."""
    dropout: Share = 0.0
    """Dropout on the adapter's input."""
    target_modules: str | list[str] = "all-linear"
    """Which layers get an adapter."""


class TrainSection(Section):
    """How a candidate is trained from examples."""

    backend: Literal["sft", "toy"] = "sft"
    """`sft` is TRL's SFTTrainer; `toy` goes with the toy policy."""
    start_from: Literal["base", "previous", "champion"] = "champion"
    """Which weights training starts from: the base, the last candidate, or the best accepted generation."""
    epochs: Annotated[float, Field(gt=0.0, le=100.0)] = 2.0
    """Passes over the training set."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 2e-5
    """The peak learning rate."""
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    """How the learning rate falls."""
    warmup: Share = 0.03
    """Share of the steps in which the rate rises."""
    batch_size: Count = 16
    """Examples an optimiser step, over all devices."""
    micro_batch: Count = knob(16)
    """Examples a forward pass and device; the rest is gradient accumulation."""
    max_length: Count = 1024
    """Longest prompt plus completion, in tokens; longer examples are left out and counted."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Arithmetic of forward and backward; master weights stay in float32."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """AdamW's decay."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    """Gradients are scaled down to this norm."""
    lora: LoraOptions | None = None
    """Train adapters instead of all weights."""
    share_prompts: bool = knob(True)
    """Lay the completions of one prompt side by side behind a single copy of it: same loss, fewer tokens."""
    gradient_checkpointing: bool = knob(False)
    """Recompute activations to save memory."""
    save_steps: Count = knob(50)
    """A checkpoint every so many steps, from which a killed training goes on."""
    processes: Count = knob(1)
    """Processes, one a GPU, through `accelerate launch`."""
    fsdp: bool = knob(False)
    """Shard weights, gradients and optimiser over the processes (the shipped FSDP configuration)."""
    report_to: list[str] = knob([])
    """Trackers passed to the trainer: tensorboard, wandb, mlflow. They write below the run's `logs`: see them all with
    `tensorboard --logdir RUN/logs/tensorboard`."""
    min_examples: Count = 1
    """With fewer examples a round ends with "nothing to train on"."""
