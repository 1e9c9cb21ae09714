"""What memory and time a recipe takes, by arithmetic on a model's shape and a device's data sheet."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flywheel.devices import Device
from flywheel.forecast.amounts import Assumptions
from flywheel.forecast.rounds import Forecast
from flywheel.model_shape import BYTES, Shape
from flywheel.recipe import Recipe

MATHS_SHARE = 0.4
"""Share of a device's peak that training and reading prompts reach (model FLOP utilisation of well-set-up training is
.3 to .5: Chowdhery et al. 2022, arXiv:2204.02311, section 4.1)."""
BANDWIDTH_SHARE = 0.6
"""Share of its memory bandwidth that decoding reaches."""
MOST_SEQUENCES = 256
"""Sequences that decode side by side where memory allows: vLLM's own limit, near enough."""


def memory(recipe: Recipe, shape: Shape, given: Assumptions, *, cpu: bool = False) -> dict[str, float]:
    """Bytes while sampling and while training, over all devices; of a training in stages, those of the largest.

    A full fine-tune keeps 16 bytes a parameter: 32-bit weights, gradients and AdamW's two moments (Rajbhandari et al.
    2020, arXiv:1910.02054, section 3.1, with 32-bit gradients in place of a 16-bit copy). With LoRA only the adapters
    do, and the frozen weights take 4, or 2 in one process on a processor with bfloat16. So does a `second_model`: the
    teacher of `privileged`, or GRPO's reference with `beta` where no adapter can be switched off. DPO holds none, its
    reference's likelihoods being worked out by the start itself before the first step. A layer's activations are 34
    bytes a token and hidden entry, or 2 with checkpointing (Korthikanti et al. 2022, arXiv:2205.05198, section 4.1,
    without the attention matrices); the output takes the vocabulary's 32-bit entries twice, a second model's as often.
    """
    train, sampling = recipe.train, recipe.sampling
    one = sampling.max_tokens + given.prompt_tokens
    trained = shape.adapters(train.lora) if train.lora else shape.parameters
    number = 2.0 if cpu and train.precision == "bfloat16" and train.processes == 1 else 4.0
    frozen = number * shape.parameters if train.lora else 0.0
    second = train.objective == "privileged" or (
        train.objective == "grpo" and train.grpo.beta > 0.0 and train.lora is None
    )
    each = 2 if train.gradient_checkpointing else 34
    outputs = 16 if train.objective == "privileged" else 8  # GRPO's reference leaves likelihoods, no tables of logits
    token = each * shape.hidden * shape.layers + outputs * shape.vocabulary
    return {
        "weights": float(shape.parameters * BYTES[recipe.model.dtype]),
        "kv_sequence": float(one * shape.kv_bytes(recipe.model.dtype)),
        "optimiser": 8.0 * trained,
        "trained_weights": 8.0 * trained + frozen,
        "second_model": number * shape.parameters if second else 0.0,
        "activations": float(_rows_at_once(recipe) * min(train.max_length, one) * token),
    }


def _rows_at_once(recipe: Recipe) -> int:
    """Rows of a forward pass and device, in the stage that has most; a pair is two."""
    train = recipe.train
    return max(train.of_stage(name).micro_batch * (2 if name == "dpo" else 1) for name in train.stages)


def seconds(recipe: Recipe, shape: Shape, device: Device, found: Forecast, given: Assumptions) -> dict[str, Any]:
    """Seconds of sampling and training on devices of one kind, and whether each fits into their memory.

    A step of decoding reads the weights once and each sequence's keys and values, or computes 2 operations a
    parameter and sequence, whichever takes longer; training takes 6 operations a parameter and token (4 with frozen
    weights), and what is only read takes 2 (Kaplan et al. 2020, arXiv:2001.08361, section 2.1).
    """
    vllm, needs = recipe.policy.vllm, memory(recipe, shape, given, cpu=device.cpu)
    samplers = 1 if device.cpu else vllm.data_parallel * vllm.tensor_parallel
    trainers = 1 if device.cpu else recipe.train.processes
    room = vllm.kv_cache_gib * 2**30 if device.cpu else samplers * vllm.memory_share * device.memory * 1e9
    room -= 0.0 if device.cpu else needs["weights"] * vllm.data_parallel
    sequences = int(min(MOST_SEQUENCES * vllm.data_parallel, room // needs["kv_sequence"])) if room > 0 else 0
    sharded = trainers if recipe.train.fsdp else 1
    training = needs["activations"] + needs["second_model"] + (needs["optimiser"] + needs["trained_weights"]) / sharded
    result: dict[str, Any] = {
        "device": asdict(device),
        "sampling_devices": samplers,
        "training_devices": trainers,
        "sequences": sequences,
        "sampling_fits": sequences > 0,
        "training_bytes": training,
        "training_fits": training <= device.memory * 1e9,
        "sampling_seconds": None,
        "training_seconds": None,
    }
    rate = samplers * device.tflops * 1e12 * MATHS_SHARE
    if sequences:
        reading = needs["weights"] * vllm.data_parallel + sequences * needs["kv_sequence"] / 2
        step = max(
            reading / (samplers * device.bandwidth * 1e9 * BANDWIDTH_SHARE), 2.0 * shape.parameters * sequences / rate
        )
        result["sampling_seconds"] = found.sampled.expected / sequences * step
    work = (4.0 if recipe.train.lora else 6.0) * found.total("trained").expected + 2.0 * found.total("read").expected
    if found.base is not None:
        work += 6.0 * found.base.trained.expected
    result["training_seconds"] = shape.parameters * work / (trainers * device.tflops * 1e12 * MATHS_SHARE)
    return result
