"""Training: examples or pairs in, a candidate model out. Trainers run in guarded children; torch stays out of here."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from flywheel import guard
from flywheel.errors import TrainingError
from flywheel.fingerprint import digest
from flywheel.policy.toy import train_toy
from flywheel.recipe import AverageOptions, ModelSection, TrainingStage, TrainSection
from flywheel.training.average import average
from flywheel.types import Example, Lesson, Origin, Pair, Problem

_POLL_SECONDS = 0.2
_MODULES: dict[type, str] = {Example: "sft", Pair: "dpo", Lesson: "privileged"}
_NAMES = {"sft": "example", "dpo": "pair", "privileged": "lesson"}

Rows = Sequence[Example] | Sequence[Pair] | Sequence[Lesson] | Sequence[Problem]
"""What one stage of a training learns from; an online one (`flywheel.online`) asks problems by itself."""


def train(
    examples: Sequence[Example],
    *,
    pairs: Sequence[Pair] = (),
    lessons: Sequence[Lesson] = (),
    model_path: Path,
    output: Path,
    work: Path,
    section: TrainSection,
    model: ModelSection,
    seed: int,
    log: Path,
    pid_dir: Path,
    averaged: Sequence[Path] = (),
    on_progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Train from the weights in `model_path` and let the finished model folder appear at `output` at once.

    SFT learns `examples`, DPO `pairs`, privileged distillation `lessons`, as `section.objective` says; DPO that has no
    pairs after SFT is left out.
    `work` keeps checkpoints: called again after a kill, the training goes on from the newest complete one, provided
    that it is the same training. The result is averaged with the models `averaged`, and over its stages, as
    `section.average` says. `on_progress(step, steps)` is called while a stage runs.

    Returns metrics: steps, tokens and completion_tokens (over all epochs and stages); of the first stage loss_first
    and loss_last (means over the first and last tenth of the steps; of SFT in nats a token), examples and
    skipped_too_long; under `dpo` those of DPO, with margin_* (of the rewards, beta times nats) and accuracy_*. Raises
    TrainingError with the last lines of `log` if a trainer fails, and where there is no pair or lesson to begin with.
    """
    rows: dict[TrainingStage, Rows] = {"sft": examples, "dpo": pairs, "privileged": lessons}
    stages = _stages(section, rows)
    part = output.parent / f".{output.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    found: dict[str, dict[str, Any]] = {}
    for stage in stages:
        last = stage == stages[-1]
        found[stage] = _train_stage(
            rows[stage],
            model_path=made[-1] if made else model_path,
            target=part if last else work / f"{stage}-model",
            work=work if len(stages) == 1 else work / stage,
            section=section.of_stage(stage),
            model=model,
            seed=seed,
            log=log if stage == stages[0] else log.with_stem(f"{log.stem}-{stage}"),
            pid_dir=pid_dir,
            on_progress=on_progress,
        )
        made.append(part if last else work / f"{stage}-model")
    if section.average is not None:
        _average(made, averaged, section.average, work)
    shutil.rmtree(output, ignore_errors=True)  # of a run that ended between here and its manifest
    os.replace(part, output)
    for folder in (work, *(work / stage for stage in stages)):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return _metrics(found)


def _stages(section: TrainSection, rows: Mapping[TrainingStage, Rows]) -> list[TrainingStage]:
    """The stages of a training: the first, and of the others those that have rows. Raises TrainingError for none."""
    first, *others = section.stages
    if first != "sft" and not rows[first]:
        hint = ", or set train.objective = 'sft_then_dpo'" * (first == "dpo")
        raise TrainingError(f"there is no {_NAMES[first]} to train on: sample more{hint}")
    return [first, *(stage for stage in others if rows[stage])]


def _metrics(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One table of the stages' metrics: what adds up is added up, the rest is the first stage's; DPO's under `dpo`."""
    first = next(iter(found.values()))
    counted = [name for name in ("steps", "tokens", "completion_tokens") if name in first]
    summed = {name: sum(m[name] for m in found.values()) for name in counted}
    whole: dict[str, Any] = first | summed
    if "dpo" in found:
        whole["dpo"] = {name: value for name, value in found["dpo"].items() if name not in summed or len(found) > 1}
    return whole


def _average(made: Sequence[Path], averaged: Sequence[Path], options: AverageOptions, work: Path) -> None:
    """Put the mean of the last stage's model with the stages before it and with earlier generations in its place."""
    stages = made if options.stages else made[-1:]
    generations = 1 + len(averaged)
    models = {path: 1 / (generations * len(stages)) for path in reversed(stages)}
    models |= dict.fromkeys(averaged, 1 / generations)
    if len(models) == 1:
        return
    mean = work / "mean"
    average(list(models.items()), mean)
    shutil.rmtree(made[-1])
    os.replace(mean, made[-1])


def _train_stage(
    rows: Rows,
    *,
    model_path: Path,
    target: Path,
    work: Path,
    section: TrainSection,
    model: ModelSection,
    seed: int,
    log: Path,
    pid_dir: Path,
    on_progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """One training from `model_path` into the folder `target`, unless the same one stands there already."""
    work.mkdir(parents=True, exist_ok=True)
    if section.backend == "toy":
        shutil.rmtree(target, ignore_errors=True)
        metrics = train_toy(model_path, [_as_example(row) for row in rows], target)
        on_progress(metrics["steps"], metrics["steps"])
        return metrics
    same = write_job(rows, model_path=model_path, target=target, work=work, section=section, model=model, seed=seed)
    finished = work / "finished.json"
    if finished.is_file() and target.is_dir():
        known: dict[str, Any] = json.loads(finished.read_text(encoding="utf-8"))
        if known["training"] == json.loads(same.read_text(encoding="utf-8"))["training"]:
            return dict(known["metrics"])
    finished.unlink(missing_ok=True)
    module = "flywheel.training." + _MODULES[type(rows[0]) if rows else Example]
    metrics = run_trainer(same, section, module, log=log, pid_dir=pid_dir, on_progress=on_progress)
    training = json.loads(same.read_text(encoding="utf-8"))["training"]
    part = work / "finished.part"
    part.write_text(json.dumps({"training": training, "metrics": metrics}), encoding="utf-8")
    os.replace(part, finished)
    return metrics


def _as_example(row: Example | Pair | Lesson | Problem) -> Example:
    """What the toy learns from a row: the example itself, or the preferred completion of a pair."""
    if isinstance(row, Example):
        return row
    if isinstance(row, (Lesson, Problem)):
        raise ValueError("the toy has no distribution to learn from; the recipe refuses it")
    return Example(row.chosen_id, row.problem_id, row.round, row.messages, row.chosen, Origin.POLICY)


def write_job(
    rows: Rows,
    *,
    model_path: Path,
    target: Path,
    work: Path,
    section: TrainSection,
    model: ModelSection,
    seed: int,
) -> Path:
    """Write `job.json` and `rows.jsonl` into `work` and return the former.

    Checkpoints of another training (other rows, start, seed, or settings that change rows) are deleted first.
    """
    written = [asdict(row) for row in rows]
    same = digest([written, str(model_path.resolve()), section.key(), model.key(), seed])
    job = work / "job.json"
    if not job.is_file() or json.loads(job.read_text(encoding="utf-8"))["training"] != same:
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
        (work / "finished.json").unlink(missing_ok=True)
    for left in ("progress", "metrics.json"):
        (work / left).unlink(missing_ok=True)
    (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
    content = {
        "training": same,
        "model_path": str(model_path.resolve()),
        "target": str(target.resolve()),
        "section": section.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
        "seed": seed,
    }
    part = work / "job.part"
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(part, job)
    return job


def launch_command(
    job: Path, *, processes: int, fsdp: bool, cpu: bool, module: str = "flywheel.training.sft"
) -> list[str]:
    """The command that runs a job with a trainer's module: one Python process, or `accelerate launch` with several."""
    command = ["-m", module, str(job)]
    if processes == 1 and not fsdp:
        return [sys.executable, *command]
    # Port 0 takes a free one, so that two trainings fit on a machine.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
    launch += ["--num_machines", "1", "--num_processes", str(processes), "--dynamo_backend", "no"]
    launch += ["--mixed_precision", "no"]  # the trainer sets its own from the recipe
    if cpu:
        launch += ["--cpu"]
    elif fsdp:
        launch += ["--config_file", str(resources.files("flywheel.training") / "fsdp.yaml"), "--use_fsdp"]
    else:
        launch += ["--multi_gpu"]
    return [*launch, *command]


def environment(log: Path) -> dict[str, str]:
    """What is set for the trainer's process beside the caller's own environment.

    Trackers (`train.report_to`) write beside the log, since the working folder is deleted with the finished stage, and
    W&B keeps its own logs and staged files there too instead of in the home folder.
    """
    return {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TENSORBOARD_LOGGING_DIR": os.environ.get(
            "TENSORBOARD_LOGGING_DIR", str(log.parent / "tensorboard" / log.stem)
        ),
        "WANDB_DIR": os.environ.get("WANDB_DIR", str(log.parent)),
        "WANDB_CACHE_DIR": os.environ.get("WANDB_CACHE_DIR", str(log.parent / "wandb" / "cache")),
        "WANDB_DATA_DIR": os.environ.get("WANDB_DATA_DIR", str(log.parent / "wandb" / "data")),
    }


def has_gpu() -> bool:
    """Whether a GPU driver is there (NVIDIA or ROCm) and not hidden, told without importing torch."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and (Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists())


def run_trainer(
    job: Path, section: TrainSection, module: str, *, log: Path, pid_dir: Path, on_progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Run a trainer's module on a job file in a guarded child and return its metrics.

    `on_progress(step, steps)` is called while it runs. Raises TrainingError with the last lines of `log` if it fails.
    """
    cpu = not has_gpu()
    command = launch_command(job, processes=section.processes, fsdp=section.fsdp, cpu=cpu, module=module)
    child = guard.spawn(command, name="train", log=log, pid_dir=pid_dir, env=environment(log))
    try:
        code = follow(child, job.parent / "progress", on_progress)
    finally:
        child.terminate()
    result = job.parent / "metrics.json"
    if code != 0 or not result.is_file():
        lines = guard.last_lines(log, 4)
        raise TrainingError(f"the trainer ended with exit code {code} (all of it is in {log}):\n{lines}")
    metrics: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return metrics


def follow(child: guard.Guarded, progress: Path, on_progress: Callable[[int, int], None]) -> int:
    """Wait for a child and return its exit code; pass on each new line `done total` of its progress file."""
    shown = ""
    while True:
        try:
            code: int | None = child.wait(_POLL_SECONDS)
        except TimeoutError:
            code = None
        lines = progress.read_text(encoding="ascii").splitlines(keepends=True) if progress.is_file() else []
        newest = next((line for line in reversed(lines) if line.endswith("\n")), "")
        if newest and newest != shown:
            shown = newest
            step, steps = map(int, newest.split())
            on_progress(step, steps)
        if code is not None:
            return code
