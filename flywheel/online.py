"""Online rounds: a trainer that samples from the weights it is changing (`train.objective = "grpo"`).

In such a round SAMPLE is the training: its completions are the round's samples, in the ledger like any others, so that
verdicts, metrics and tokens mean what they mean elsewhere. TRAIN then takes the weights that it left in `trained`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flywheel import store, training
from flywheel.errors import TrainingError
from flywheel.fingerprint import derive_seed
from flywheel.plan_types import Plan
from flywheel.recipe import VerifySection
from flywheel.scope import Scope
from flywheel.types import Origin, Problem, Sample

ASKED = "asked.json"
ROLLOUTS = "rollouts.jsonl"
TRAINED = "trained"
"""The folder of the weights that an online round's sampling comes to."""
MODULE = "flywheel.online_trainer"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a plan asks of the trainer, and who rewards."""

    k: int
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    verify: VerifySection

    @staticmethod
    def read(path: Path) -> Asked:
        """What stands in the file that `sample_online` wrote."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Asked(**{**raw, "verify": VerifySection.model_validate(raw["verify"])})

    def write(self, path: Path) -> None:
        """Write it for `read`."""
        store.write_json(path, {**asdict(self), "verify": self.verify.model_dump(mode="json")})


@dataclass(frozen=True, slots=True)
class Rollout:
    """A completion that was learnt from: drawn after `step` optimiser steps, for the plan's problem number `place`.

    `reward` is None where it could not be judged.
    """

    step: int
    place: int
    completion: str
    tokens: int
    ended: bool
    reward: float | None


def read_rollouts(path: Path) -> list[Rollout]:
    """The rollouts in a file; a last line that a kill tore is left out, and a file that is not there has none."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last end of line is torn
    return [Rollout(**json.loads(line)) for line in lines]


def sample_online(scope: Scope, plan: Plan, *, key: str) -> tuple[list[Sample], dict[str, Any]]:
    """Run the trainer on a plan: its completions as the round's samples, and its metrics; weights go to `trained`.

    Checkpoints and completions lie in `samples.parts` until the stage is done, and a killed training goes on from
    them; those of another key are deleted. Raises TrainingError where the trainer fails.
    """
    run = scope.run
    start = run.starting_generation(plan.round)
    problems = [run.problem_by_id[problem_id] for problem_id in plan.problems]
    work = scope.folder / "samples.parts"
    store.Parts(work, Sample, key)
    work.mkdir(parents=True, exist_ok=True)
    run.release_policy()
    section, label = scope.recipe.train.of_stage("grpo"), f"{scope.label} · sample and train"
    Asked(
        plan.k, plan.temperature, plan.top_p, plan.top_k, plan.max_tokens, run.recipe.verify
    ).write(work / ASKED)  # fmt: skip
    job = training.write_job(
        problems,
        model_path=run.model_path(start),
        target=scope.folder / TRAINED,
        work=work,
        section=section,
        model=run.recipe.model,
        seed=derive_seed(run.recipe.seed, "train", plan.round),
    )
    metrics = training.run_trainer(
        job,
        section,
        MODULE,
        log=run.directory / "logs" / f"train-{plan.round:03d}.log",
        pid_dir=run.directory / "pids",
        on_progress=lambda done, total: run.reporter.progress(label, done, total, "steps"),
    )
    samples = rollout_samples(read_rollouts(work / ROLLOUTS), plan, problems, generation=start.index)
    if len(samples) != metrics["completions"]:
        raise TrainingError(f"{work / ROLLOUTS} has {len(samples)} completions, not {metrics['completions']}")
    store.write_rows(scope.folder / "samples.parquet", Sample, samples)
    return samples, metrics


def rollout_samples(
    rollouts: Sequence[Rollout], plan: Plan, problems: Sequence[Problem], *, generation: int
) -> list[Sample]:
    """Rollouts as the samples of a round, problem by problem in the plan's order.

    `generation` is the one that the trainer started from: the weights that drew them lie between it and the candidate.
    """
    seen: Counter[int] = Counter()
    samples = []
    for rollout in sorted(rollouts, key=lambda r: r.place):
        index, problem = seen[rollout.place], problems[rollout.place]
        seen[rollout.place] += 1
        samples.append(
            Sample(
                id=plan.sample_id(problem.id, index),
                problem_id=problem.id,
                round=plan.round,
                generation=generation,
                index=index,
                completion=rollout.completion,
                finish_reason="stop" if rollout.ended else "length",
                tokens=rollout.tokens,
                temperature=plan.temperature,
                variant=plan.variants[0],
                origin=Origin.POLICY,
            )
        )
    return samples
