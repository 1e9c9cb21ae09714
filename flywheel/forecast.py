"""Forecast: what a recipe would sample and train, and roughly what memory and time that takes. Nothing is loaded.

Counts follow from the recipe: `most` is what it can come to at most, `expected` rests on `Assumptions`, which stand
beside it. Memory and time are arithmetic on a model's shape and a device's data sheet; real runs differ by a factor of
two or three.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from flywheel.devices import Device
from flywheel.model_shape import BYTES, Shape
from flywheel.plan import budget_of
from flywheel.recipe import Recipe

MATHS_SHARE = 0.4
"""Share of a device's peak that training and reading prompts reach (model FLOP utilisation of well-set-up training is
.3 to .5: Chowdhery et al. 2022, arXiv:2204.02311, section 4.1)."""
BANDWIDTH_SHARE = 0.6
"""Share of its memory bandwidth that decoding reaches."""
MOST_SEQUENCES = 256
"""Sequences that decode side by side where memory allows: vLLM's own limit, near enough."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What an expectation rests on: the share of completions that are right, their mean length as a share of
    `sampling.max_tokens`, and tokens a prompt."""

    right: float = 0.5
    length: float = 0.5
    prompt_tokens: int = 100


@dataclass(frozen=True, slots=True)
class Problems:
    """How many problems of each kind a run has."""

    train: int
    dev: int
    test: int
    ood: int = 0


@dataclass(frozen=True, slots=True)
class Amount:
    """A number as it can be at most, and as it is expected."""

    most: int
    expected: int

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.most + other.most, self.expected + other.expected)

    def times(self, most: float, expected: float | None = None) -> Amount:
        """Both numbers multiplied."""
        return Amount(math.ceil(self.most * most), round(self.expected * (most if expected is None else expected)))


ZERO = Amount(0, 0)


@dataclass(frozen=True, slots=True)
class Round:
    """What a round asks and trains on. `rows` is the training set, `steps` optimiser steps, `trained` tokens."""

    round: int
    problems: int
    completions: Amount
    hinted: Amount
    swept: int
    tokens: Amount
    rows: Amount
    steps: Amount
    trained: Amount
    held_out: int
    held_out_tokens: Amount


@dataclass(frozen=True, slots=True)
class Forecast:
    """All rounds, with what is sampled before the first (the base on dev) and after the last (the test split)."""

    rounds: list[Round]
    before: Amount
    after: Amount
    held_out: int

    def total(self, name: str) -> Amount:
        """The sum of a round's field over all rounds."""
        return sum((getattr(r, name) for r in self.rounds), ZERO)

    @property
    def sampled(self) -> Amount:
        """Tokens generated in all, held-out problems included."""
        return self.total("tokens") + self.total("held_out_tokens") + self.before + self.after


def forecast(recipe: Recipe, problems: Problems, given: Assumptions) -> Forecast:
    """What a recipe would sample and train on `problems` over all its rounds, no candidate being rejected."""
    section, rounds = recipe.evaluate, []
    kept: list[Amount] = []
    measured = (problems.dev + problems.ood) * section.samples
    for index in range(recipe.stop.max_rounds):
        rounds.append(_round(recipe, index, problems, given, kept, measured))
    finale = 2 * problems.test * section.samples
    before, after = _tokens(recipe, given, measured), _tokens(recipe, given, finale)
    return Forecast(rounds, before, after, held_out=measured * (1 + len(rounds)) + finale)


def _round(
    recipe: Recipe, index: int, problems: Problems, given: Assumptions, kept: list[Amount], measured: int
) -> Round:
    sampling, train = recipe.sampling, recipe.train
    pool = _pool(recipe, index, problems)
    asked = min(pool, sampling.problems or pool)
    completions, each = _completions(recipe, asked, given)
    wrong = (1.0 - given.right) ** each
    second = min(recipe.correction.k, each)
    completions += Amount(math.ceil(asked * second), round(asked * min(second, each * (1.0 - given.right))))
    hinted = Amount(asked * recipe.hints.k, round(asked * recipe.hints.k * wrong))
    sweep = sampling.sweep
    swept = (
        min(sweep.problems, problems.dev if sweep.split == "dev" else pool) * sweep.samples * len(sweep.temperatures)
    )
    tokens = _tokens(recipe, given, completions + hinted + Amount(swept, swept)) + _written(recipe, given)
    cap = recipe.filter.cap
    found = Amount(min(completions.most + hinted.most, cap * asked), round(asked * min(cap, each * given.right)))
    kept.append(found)
    epochs, rows = train.epochs, _rows(recipe, kept)
    steps = Amount(*(math.ceil(math.ceil(n / train.batch_size) * epochs) for n in (rows.most, rows.expected)))
    if train.objective == "grpo":  # learns from all completions, each problem being asked once
        epochs, rows = train.grpo.iterations, completions
        steps = Amount(*[completions.most // train.grpo.batch_size * train.grpo.iterations] * 2)
    longest = min(train.max_length, sampling.max_tokens + 2 * given.prompt_tokens)
    usual = given.prompt_tokens + given.length * sampling.max_tokens
    return Round(
        round=index,
        problems=asked,
        completions=completions,
        hinted=hinted,
        swept=swept,
        tokens=tokens,
        rows=rows,
        steps=steps,
        trained=rows.times(longest * epochs, usual * epochs),
        held_out=measured,
        held_out_tokens=_tokens(recipe, given, measured),
    )


def _pool(recipe: Recipe, index: int, problems: Problems) -> int:
    """The train problems that a round may ask, none being refused of those that are proposed."""
    propose = recipe.propose
    if propose.kind is None:
        return problems.train
    return propose.count if propose.ask == "new" else problems.train + propose.count * (index + 1)


def _written(recipe: Recipe, given: Assumptions) -> Amount:
    """Tokens of the problems that the policy writes for a round."""
    propose = recipe.propose
    if propose.kind != "model":
        return ZERO
    written = propose.writer.completions or 2 * propose.count
    return Amount(written, written).times(propose.writer.max_tokens, propose.writer.max_tokens * given.length)


def _completions(recipe: Recipe, asked: int, given: Assumptions) -> tuple[Amount, float]:
    """Completions of a round without hints, and how many a problem is expected to get."""
    sampling, budget = recipe.sampling, budget_of(recipe)
    if budget is None:
        return Amount(asked * sampling.k, asked * sampling.k), float(sampling.k)
    wanted = budget.enough
    if budget.target == "difficulty":
        wanted = max(1, math.ceil(budget.enough * (1.0 - given.right)))
    tries = math.inf if given.right == 0.0 else wanted / given.right
    limit = budget.most if given.right else budget.most_unsolved
    waves = math.inf if math.isinf(tries) else max(0, math.ceil((tries - budget.first) / budget.step))
    each = min(limit, budget.first + waves * budget.step)
    extra = sum(sampling.share_of(e) for e in sampling.extra)
    return Amount(asked * (budget.most + extra), round(asked * each)), float(each)


def _rows(recipe: Recipe, kept: list[Amount]) -> Amount:
    """The training set of the round whose examples stand last in `kept`."""
    keep = {"replace": 1, "window": recipe.data.window, "accumulate": len(kept)}[recipe.data.keep]
    own = sum(kept[-keep:], ZERO)
    return own.times(1.0 / (1.0 - recipe.mix.human - recipe.mix.base))


def _tokens(recipe: Recipe, given: Assumptions, completions: Amount | int) -> Amount:
    amount = Amount(completions, completions) if isinstance(completions, int) else completions
    longest = recipe.sampling.max_tokens
    return amount.times(longest, longest * given.length)


# -- memory and time -------------------------------------------------------------------------------


def memory(recipe: Recipe, shape: Shape, given: Assumptions) -> dict[str, float]:
    """Bytes while sampling and while training, over all devices.

    A full fine-tune keeps 16 bytes a parameter: 32-bit weights, gradients and AdamW's two moments (Rajbhandari et al.
    2020, arXiv:1910.02054, section 3.1, with 32-bit gradients in place of a 16-bit copy). With LoRA only the adapters
    do, and the frozen weights take 4. A layer's activations are 34 bytes a token and hidden entry, or 2 with
    checkpointing (Korthikanti et al. 2022, arXiv:2205.05198, section 4.1, without the attention matrices); the output
    takes the vocabulary's 32-bit entries twice.
    """
    train, sampling = recipe.train, recipe.sampling
    one = sampling.max_tokens + given.prompt_tokens
    trained = shape.adapters(train.lora) if train.lora else shape.parameters
    frozen = 4.0 * shape.parameters if train.lora else 0.0
    batch = train.micro_batch * min(train.max_length, one)
    each = 2 if train.gradient_checkpointing else 34
    return {
        "weights": float(shape.parameters * BYTES[recipe.model.dtype]),
        "kv_sequence": float(one * shape.kv_bytes(recipe.model.dtype)),
        "optimiser": 8.0 * trained,
        "trained_weights": 8.0 * trained + frozen,
        "activations": float(batch * (each * shape.hidden * shape.layers + 8 * shape.vocabulary)),
    }


def seconds(recipe: Recipe, shape: Shape, device: Device, found: Forecast, given: Assumptions) -> dict[str, Any]:
    """Seconds of sampling and training on devices of one kind, and whether each fits into their memory.

    A step of decoding reads the weights once and each sequence's keys and values, or computes 2 operations a
    parameter and sequence, whichever takes longer; training takes 6 operations a parameter and token (4 with frozen
    weights: Kaplan et al. 2020, arXiv:2001.08361, section 2.1).
    """
    vllm, needs = recipe.policy.vllm, memory(recipe, shape, given)
    samplers = 1 if device.cpu else vllm.data_parallel * vllm.tensor_parallel
    trainers = 1 if device.cpu else recipe.train.processes
    room = vllm.kv_cache_gib * 2**30 if device.cpu else samplers * vllm.memory_share * device.memory * 1e9
    room -= 0.0 if device.cpu else needs["weights"] * vllm.data_parallel
    sequences = int(min(MOST_SEQUENCES * vllm.data_parallel, room // needs["kv_sequence"])) if room > 0 else 0
    sharded = trainers if recipe.train.fsdp else 1
    training = needs["activations"] + (needs["optimiser"] + needs["trained_weights"]) / sharded
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
    work = (4.0 if recipe.train.lora else 6.0) * shape.parameters * found.total("trained").expected
    result["training_seconds"] = work / (trainers * device.tflops * 1e12 * MATHS_SHARE)
    return result
