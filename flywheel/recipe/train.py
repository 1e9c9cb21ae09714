"""How a candidate is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from flywheel.recipe.section import Count, Section, Share, knob, sent_as_it_stands


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


class DpoOptions(Section):
    """Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290) on pairs of completions of one problem:
    `chosen` is an example of the round, `rejected` another sample of the same problem that was judged lower."""

    pairs: Literal["verdict", "score"] = "verdict"
    """`verdict` sets right against wrong. `score` sets a higher verdict's score against a lower one, right or not: for
    reward models and judges."""
    min_gap: Share = 0.0
    """The two verdicts' scores must be at least this far apart; with `pairs = "score"` they always differ."""
    length_ratio: Annotated[float, Field(ge=1.0)] | None = None
    """The longer completion may have at most so many times the tokens of the shorter one: without a limit a model can
    learn that longer, or shorter, is better. None sets no limit."""
    cap: Count = 2
    """Pairs a problem and round, at most. A completion stands in one pair of its problem only."""
    beta: Annotated[float, Field(gt=0.0)] = 0.1
    """How strongly the model is held to where it started: the temperature of the loss."""
    nll: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the chosen completions' mean negative log-likelihood a token, added to the loss; Llama 3 takes 0.2
    (arXiv:2407.21783, section 4.1.4). It keeps the chosen ones from becoming less likely along with the others."""
    epochs: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0
    """Passes over the pairs."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 2e-6
    """The peak learning rate; about a tenth of that of SFT."""
    batch_size: Count = 16
    """Pairs an optimiser step, over all devices."""
    micro_batch: Count = knob(4)
    """Pairs a forward pass and device, which are twice as many rows."""


class PrivilegedOptions(Section):
    """Distillation from the model that training starts from, frozen and told the solution, token by token on samples of
    the policy's own. It is one model with one tokenizer; another teacher is a sampler (`sampling.extra`)."""

    template: str = "{prompt}\n\nThe correct answer is {answer}. Answer as if you had not been told."
    """The user turn that the teacher sees: `{prompt}`, and `{answer}` or `{solution}` (the human one)."""
    samples: Literal["all", "right", "wrong"] = "all"
    """Which of the round's samples are lessons."""
    cap: Count = 4
    """Lessons a problem and round, at most."""
    divergence: Literal["forward", "reverse", "js"] = "js"
    """What is made small: `forward` KL(teacher‖student), `reverse` KL(student‖teacher), or `js`, Jensen-Shannon."""
    epochs: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0
    """Passes over the lessons; under 1 stops early."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 5e-6
    """The peak learning rate."""
    batch_size: Count = 16
    """Lessons an optimiser step."""
    micro_batch: Count = knob(4)
    """Lessons a forward pass; each has a vocabulary of logits for every token, twice."""

    @model_validator(mode="after")
    def _tells_something(self) -> PrivilegedOptions:
        if "{prompt}" not in self.template:
            raise ValueError(f"template {self.template!r} has no {{prompt}}; put it where the problem goes")
        if "{answer}" not in self.template and "{solution}" not in self.template:
            raise ValueError(f"template {self.template!r} tells nothing; put {{answer}} or {{solution}} into it")
        if wrong := sent_as_it_stands(self.template, ("prompt", "answer", "solution")):
            raise ValueError(f"template {wrong}")
        return self


class GrpoOptions(Section):
    """Group-relative policy optimisation (Shao et al. 2024, arXiv:2402.03300, section 4.1), by TRL's trainer, as a
    control. It samples by itself from the weights it is changing: `sampling.k` completions of each of the plan's
    problems, each problem once a round. Their rewards are the verifier's scores, and they are the round's samples."""

    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-6
    """The peak learning rate."""
    batch_size: Count = 64
    """Completions an optimiser step, a multiple of `sampling.k`; problems that do not fill a last step are not
    asked."""
    micro_batch: Count = knob(16)
    """Completions a forward pass and device; it divides `batch_size`. Only with `loss = "bnpo"` does it change what is
    learnt."""
    iterations: Count = 1
    """Optimiser steps on the same completions."""
    beta: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the divergence from the start; above 0 the start is kept beside the model."""
    epsilon: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """How far a token's likelihood ratio may move before it is clipped."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Advantages are divided by the deviation of a problem's rewards, of the step's, or not at all."""
    loss: Literal["grpo", "dapo", "dr_grpo", "bnpo"] = "dapo"
    """How the loss is averaged over tokens (TRL's `loss_type`): `grpo` by completion, `bnpo` over a forward pass, the
    others over the step."""


TrainingStage = Literal["sft", "dpo", "privileged", "grpo"]
"""What a training can learn: examples, pairs, lessons, its own completions."""


class AverageOptions(Section):
    """The candidate's weights as a mean: of several generations, of its training's stages, or of both."""

    generations: Count = 1
    """The candidate and the last accepted generations, so many together at most; fewer while there are fewer. The base
    is not among them."""
    stages: bool = False
    """With `objective = "sft_then_dpo"`: the mean of the weights after SFT and after DPO."""

    @model_validator(mode="after")
    def _averages_something(self) -> AverageOptions:
        if self.generations == 1 and not self.stages:
            raise ValueError("generations is 1 and stages false, which averages nothing; set one of them")
        return self


class TrainSection(Section):
    """How a candidate is trained from examples."""

    objective: Literal["sft", "dpo", "sft_then_dpo", "privileged", "grpo"] = "sft"
    """`sft` learns to say the examples, `dpo` to prefer right completions to wrong ones, `sft_then_dpo` first the one,
    then the other. `privileged` learns from itself with the solution in sight. `grpo`, a control, learns while it
    samples."""

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
    dpo: DpoOptions = DpoOptions()
    """Which pairs DPO learns from, and how; schedule, warm-up, precision and the like are those of `train`."""
    privileged: PrivilegedOptions = PrivilegedOptions()
    """What `objective = "privileged"` tells the teacher, and how the student learns."""
    grpo: GrpoOptions = GrpoOptions()
    """How `objective = "grpo"` learns."""
    average: AverageOptions | None = None
    """Average weights before the candidate is measured."""
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
    min_examples: Annotated[int, Field(ge=0)] = 1
    """With fewer examples a round ends with "nothing to train on". 0 goes on without any, where `mix.general_least` has
    something to train on."""

    @property
    def stages(self) -> tuple[TrainingStage, ...]:
        """The trainings that `objective` names, in order."""
        if self.objective == "sft_then_dpo":
            return ("sft", "dpo")
        return (self.objective,)

    def of_stage(self, stage: TrainingStage) -> TrainSection:
        """The settings of one training: all but SFT have epochs, rate and batches of their own."""
        if stage == "sft":
            return self
        options: Section = getattr(self, stage)
        names = ("epochs", "learning_rate", "batch_size", "micro_batch")
        return self.model_copy(update={name: getattr(options, name) for name in names if hasattr(options, name)})

    @model_validator(mode="after")
    def _fits_together(self) -> TrainSection:
        if self.fsdp and "dpo" in self.stages:
            raise ValueError(
                f"fsdp with objective = {self.objective!r}: the reference's likelihoods are worked out before weights "
                "are sharded; set fsdp = false, with lora where memory is short"
            )
        alone = self.objective in ("privileged", "grpo")
        if alone and (self.fsdp or self.processes > 1 or self.backend == "toy"):
            raise ValueError(
                f"objective = {self.objective!r} trains in one process and on real weights; set processes = 1 and fsdp "
                "= false (lora, where memory is short), and leave backend at 'sft'"
            )
        if self.objective == "grpo" and self.grpo.batch_size % self.grpo.micro_batch:
            raise ValueError(
                f"grpo.batch_size = {self.grpo.batch_size} is no multiple of grpo.micro_batch = "
                f"{self.grpo.micro_batch}; make it one"
            )
        if self.average is not None and self.average.stages and len(self.stages) == 1:
            raise ValueError(f"average.stages with objective = {self.objective!r}, which has one stage; leave it out")
        return self
