"""The stages: one table that ties files to functions. `run_stage` runs one and keeps its work.

The functions that do the thinking (plan, sample, filter, mix, evaluate, gate) are pure and live in
modules of those names; `work` reads their rows from disk and writes what they return, `keys` says what a
stage's result follows from.
"""

from __future__ import annotations

from flywheel.stages import work
from flywheel.stages.decide import gating
from flywheel.stages.keys import (
    adjusted_sections,
    evaluate_inputs,
    filter_inputs,
    finale_files,
    key_of,
    plan_inputs,
    plan_settings,
    propose_files,
    propose_inputs,
    propose_settings,
    round_index,
    sample_inputs,
    sample_settings,
    sampling_settings,
    sections,
    sweep_inputs,
    sweep_settings,
    train_inputs,
    verifiers,
)
from flywheel.stages.learn import learnt_files, sampled_files
from flywheel.stages.propose import propose_stage
from flywheel.stages.stage import Stage, run_stage

CHECK = Stage(
    "check", 1, lambda _: ("contract.json",), sections("model"),
    lambda s: {"model": s.run.facts["base"]["digest"], "problems": s.run.facts["problems"]["sha256"]}, work.check_stage,
)  # fmt: skip
PROPOSE = Stage(
    "propose", 2, propose_files, propose_settings, propose_inputs, propose_stage,
)  # fmt: skip
SWEEP = Stage(
    "sweep", 1, lambda _: ("sweep_samples.parquet", "sweep_verdicts.parquet", "sweep.json"), sweep_settings,
    sweep_inputs, work.sweep_stage,
)  # fmt: skip
PLAN = Stage(
    "plan", 1, lambda _: ("plan.json",), plan_settings, plan_inputs, work.plan_stage,
)  # fmt: skip
SAMPLE = Stage(
    "sample", 2, sampled_files, sample_settings, sample_inputs, work.sample_stage,
)  # fmt: skip
VERIFY = Stage(
    "verify", 1, lambda _: ("verdicts.parquet",), sections("verify"),
    lambda s: {"samples": key_of(s, "sample"), "verifiers": verifiers(s)}, work.verify_stage,
)  # fmt: skip
FILTER = Stage(
    "filter", 4, lambda _: ("examples.parquet", "dropped.parquet"), sections("filter"),
    filter_inputs, work.filter_stage,
)  # fmt: skip
TRAIN = Stage(
    "train", 4, learnt_files, adjusted_sections("data", "mix", "train"), train_inputs, work.train_stage,
)  # fmt: skip
EVALUATE = Stage(
    "evaluate", 2, lambda _: ("dev_samples.parquet", "dev_verdicts.parquet", "metrics.json"), sampling_settings,
    evaluate_inputs, work.evaluate_stage,
)  # fmt: skip
GATE = Stage(
    "gate", 2, lambda _: ("gate.json",), sections("gate", "evaluate"),
    lambda s: {
        "candidate": key_of(s, "evaluate"),
        "champion": key_of(s.run.evaluation_of(s.run.policy_generation(round_index(s))), "evaluate"),
        "base": key_of(s.run.baseline(), "evaluate"),
    }, gating(EVALUATE),
)  # fmt: skip
FINALE = Stage(
    "finale", 2, finale_files, sampling_settings,
    lambda s: {
        "problems": s.run.facts["problems"]["sha256"],
        "champion": s.run.model_digest(s.run.champion()),
        "verifiers": verifiers(s),
    }, work.finale_stage,
)  # fmt: skip

ROUND: tuple[Stage, ...] = (PROPOSE, SWEEP, PLAN, SAMPLE, VERIFY, FILTER, TRAIN, EVALUATE, GATE)
"""The stages of a round, in order; PROPOSE and SWEEP only where the recipe asks for them."""
STAGES: dict[str, Stage] = {s.name: s for s in (CHECK, *ROUND, FINALE)}
"""All stages by name."""

__all__ = [
    "CHECK",
    "EVALUATE",
    "FILTER",
    "FINALE",
    "GATE",
    "PLAN",
    "PROPOSE",
    "ROUND",
    "SAMPLE",
    "STAGES",
    "SWEEP",
    "TRAIN",
    "VERIFY",
    "Stage",
    "run_stage",
]
