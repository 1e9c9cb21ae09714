"""The stages: one table that ties files to functions. `run_stage` runs one and keeps its work.

The functions that do the thinking (plan, sample, filter, mix, evaluate, gate) are pure and live in modules of those
names in `flywheel`. The module of a stage's name in here says what its result follows from, reads the rows from disk
and writes what those functions return.
"""

from __future__ import annotations

from flywheel.stages.check import check_stage
from flywheel.stages.evaluate import evaluate_inputs, evaluate_stage
from flywheel.stages.filter import filter_inputs, filter_stage
from flywheel.stages.finale import finale_files, finale_stage
from flywheel.stages.gate import gating
from flywheel.stages.keys import adjusted_sections, key_of, round_index, sampling_settings, sections, verifiers
from flywheel.stages.plan import plan_inputs, plan_settings, plan_stage
from flywheel.stages.propose import propose_files, propose_inputs, propose_settings, propose_stage
from flywheel.stages.sample import sample_inputs, sample_settings, sample_stage, sampled_files
from flywheel.stages.stage import Stage, run_stage
from flywheel.stages.sweep import sweep_inputs, sweep_settings, sweep_stage
from flywheel.stages.train import learnt_files, train_inputs, train_stage
from flywheel.stages.verify import verify_stage

CHECK = Stage(
    "check", 1, lambda _: ("contract.json",), sections("model"),
    lambda s: {"model": s.run.facts["base"]["digest"], "problems": s.run.facts["problems"]["sha256"]}, check_stage,
)  # fmt: skip
PROPOSE = Stage(
    "propose", 2, propose_files, propose_settings, propose_inputs, propose_stage,
)  # fmt: skip
SWEEP = Stage(
    "sweep", 1, lambda _: ("sweep_samples.parquet", "sweep_verdicts.parquet", "sweep.json"), sweep_settings,
    sweep_inputs, sweep_stage,
)  # fmt: skip
PLAN = Stage(
    "plan", 1, lambda _: ("plan.json",), plan_settings, plan_inputs, plan_stage,
)  # fmt: skip
SAMPLE = Stage(
    "sample", 2, sampled_files, sample_settings, sample_inputs, sample_stage,
)  # fmt: skip
VERIFY = Stage(
    "verify", 1, lambda _: ("verdicts.parquet",), sections("verify"),
    lambda s: {"samples": key_of(s, "sample"), "verifiers": verifiers(s)}, verify_stage,
)  # fmt: skip
FILTER = Stage(
    "filter", 4, lambda _: ("examples.parquet", "dropped.parquet"), sections("filter"),
    filter_inputs, filter_stage,
)  # fmt: skip
TRAIN = Stage(
    "train", 4, learnt_files, adjusted_sections("data", "mix", "train"), train_inputs, train_stage,
)  # fmt: skip
EVALUATE = Stage(
    "evaluate", 2, lambda _: ("dev_samples.parquet", "dev_verdicts.parquet", "metrics.json"), sampling_settings,
    evaluate_inputs, evaluate_stage,
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
    }, finale_stage,
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
