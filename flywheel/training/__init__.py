"""Training: examples in, a candidate model out. The trainer runs in a guarded child; torch stays out of here."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from flywheel import guard
from flywheel.errors import TrainingError
from flywheel.fingerprint import digest
from flywheel.policy.toy import train_toy
from flywheel.recipe import ModelSection, TrainSection
from flywheel.types import Example

_POLL_SECONDS = 0.2


def train(
    examples: Sequence[Example],
    *,
    model_path: Path,
    output: Path,
    work: Path,
    section: TrainSection,
    model: ModelSection,
    seed: int,
    log: Path,
    pid_dir: Path,
    on_progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Train `examples` from the weights in `model_path` and let the finished model folder appear at `output` at once.

    `work` keeps checkpoints: called again after a kill, the training goes on from the newest complete one, provided
    that it is the same training. `on_progress(step, steps)` is called while it runs. Returns metrics: steps, examples,
    skipped_too_long, tokens and completion_tokens (over all epochs), loss_first and loss_last (nats a token, means over
    the first and last tenth of the steps). Raises TrainingError with the last lines of `log` if the trainer fails.
    """
    part = output.parent / f".{output.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    if section.backend == "toy":
        metrics = train_toy(model_path, examples, part)
        on_progress(metrics["steps"], metrics["steps"])
    else:
        job = write_job(
            examples, model_path=model_path, target=part, work=work, section=section, model=model, seed=seed
        )
        metrics = _run_trainer(job, section, log=log, pid_dir=pid_dir, on_progress=on_progress)
    shutil.rmtree(output, ignore_errors=True)  # of a run that ended between here and its manifest
    os.replace(part, output)
    shutil.rmtree(work / "checkpoints", ignore_errors=True)
    return metrics


def write_job(
    examples: Sequence[Example],
    *,
    model_path: Path,
    target: Path,
    work: Path,
    section: TrainSection,
    model: ModelSection,
    seed: int,
) -> Path:
    """Write `job.json` and `examples.jsonl` into `work` and return the former.

    Checkpoints of another training (other examples, start, seed, or settings that change rows) are deleted first.
    """
    rows = [asdict(example) for example in examples]
    same = digest([rows, str(model_path.resolve()), section.key(), model.key(), seed])
    job = work / "job.json"
    if not job.is_file() or json.loads(job.read_text(encoding="utf-8"))["training"] != same:
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
    for left in ("progress", "metrics.json"):
        (work / left).unlink(missing_ok=True)
    (work / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    content = {
        "training": same,
        "model_path": str(model_path.resolve()),
        "target": str(target.resolve()),
        "section": section.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
        "seed": seed,
    }
    written = work / "job.part"
    written.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(written, job)
    return job


def launch_command(job: Path, *, processes: int, fsdp: bool, cpu: bool) -> list[str]:
    """The command that runs a job: one Python process, or `accelerate launch` with several."""
    module = ["-m", "flywheel.training.sft", str(job)]
    if processes == 1 and not fsdp:
        return [sys.executable, *module]
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
    return [*launch, *module]


def environment(log: Path) -> dict[str, str]:
    """What is set for the trainer's process beside the caller's own environment.

    Trackers (`train.report_to`) write beside the log, since the working folder is deleted with the finished stage.
    """
    return {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TENSORBOARD_LOGGING_DIR": os.environ.get(
            "TENSORBOARD_LOGGING_DIR", str(log.parent / "tensorboard" / log.stem)
        ),
        "WANDB_DIR": os.environ.get("WANDB_DIR", str(log.parent)),
    }


def has_gpu() -> bool:
    """Whether a GPU driver is there (NVIDIA or ROCm) and not hidden, told without importing torch."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and (Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists())


def _run_trainer(
    job: Path, section: TrainSection, *, log: Path, pid_dir: Path, on_progress: Callable[[int, int], None]
) -> dict[str, Any]:
    cpu = not has_gpu()
    command = launch_command(job, processes=section.processes, fsdp=section.fsdp, cpu=cpu)
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
