"""Privileged distillation: divergences by hand, the same tokens on both sides, a student that comes nearer."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from flywheel import training
from flywheel.errors import TrainingError
from flywheel.fingerprint import folder_digest
from flywheel.recipe import ModelSection, TrainSection
from flywheel.training.privileged import divergence
from flywheel.types import Lesson
from tests.training.conftest import sums

LESSONS = [
    Lesson(
        e.sample_id,
        e.problem_id,
        0,
        e.messages,
        [{"role": "user", "content": f"{e.messages[0]['content']} It is {e.completion}."}],
        e.completion,
    )
    for e in sums(6, 2)
]


def run(model: Path, folder: Path, lessons: list[Lesson] = LESSONS, on_progress: Any = None, **changes: Any) -> dict:
    own = {"learning_rate": 3e-3, "batch_size": 4, "micro_batch": 4, "epochs": 4.0, **changes.pop("privileged", {})}
    return training.train(
        [],
        lessons=lessons,
        model_path=model,
        output=folder / "model",
        work=folder / "train.parts",
        section=TrainSection(**{"objective": "privileged", "save_steps": 3, "privileged": own, **changes}),
        model=ModelSection(),
        seed=7,
        log=folder / "train.log",
        pid_dir=folder / "pids",
        on_progress=on_progress or (lambda step, total: None),
    )


@pytest.mark.slow
def test_the_student_comes_nearer_to_who_has_seen_the_solution_and_a_kill_costs_nothing(
    tiny_model, tmp_path, monkeypatch
):
    monkeypatch.setattr("flywheel.training._POLL_SECONDS", 0.01)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = run(tiny_model, whole)
    assert (expected["lessons"], expected["steps"]) == (12, 12)
    assert expected["loss_last"] < expected["loss_first"] / 2

    def kill(step: int, total: int) -> None:
        if step >= 4 and (broken / "train.parts" / "checkpoints" / "checkpoint-3" / "complete.json").is_file():
            entry = json.loads(next((broken / "pids").glob("train-*.json")).read_text())
            os.kill(entry["guard"]["pid"], signal.SIGKILL)

    with pytest.raises(TrainingError, match="exit code"):
        run(tiny_model, broken, on_progress=kill)
    seen: list[int] = []
    assert run(tiny_model, broken, on_progress=lambda step, total: seen.append(step)) == expected
    assert seen[0] > 3
    assert folder_digest(broken / "model") == folder_digest(whole / "model")


def test_divergences_are_zero_for_equals_and_as_worked_out_by_hand():
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.log(torch.tensor([[0.75, 0.25]]))
    for kind in ("forward", "reverse", "js"):
        assert divergence(teacher, teacher, kind).item() == pytest.approx(0.0, abs=1e-7)
    forward = 0.75 * torch.log(torch.tensor(1.5)) + 0.25 * torch.log(torch.tensor(0.5))
    assert divergence(student, teacher, "forward").item() == pytest.approx(forward.item(), abs=1e-6)
    reverse = 0.5 * torch.log(torch.tensor(0.5 / 0.75)) + 0.5 * torch.log(torch.tensor(0.5 / 0.25))
    assert divergence(student, teacher, "reverse").item() == pytest.approx(reverse.item(), abs=1e-6)
    one_way, other_way = divergence(student, teacher, "js"), divergence(teacher, student, "js")
    assert one_way.item() == pytest.approx(other_way.item()) and 0 < one_way.item() < 0.6931


@pytest.fixture(scope="module")
def trainer(tiny_model, tmp_path_factory):
    from flywheel.training import job, privileged

    work = tmp_path_factory.mktemp("work")
    section = TrainSection(objective="privileged", precision="float32", privileged={"divergence": "forward"})
    path = training.write_job(
        LESSONS,
        model_path=tiny_model,
        target=work / "t",
        work=work,
        section=section.of_stage("privileged"),
        model=ModelSection(),
        seed=1,
    )
    tokenizer = privileged.load_tokenizer(tiny_model)
    rows = privileged.encode_lessons(tokenizer, tiny_model, LESSONS, 200)
    return privileged.make_trainer(job.Job.read(path), rows, [[[0, 5]]], tokenizer, accumulation=1)


def test_teacher_and_student_are_compared_at_the_same_tokens_behind_their_own_prompts(trainer):
    batch = trainer.data_collator([{"members": [0, 5]}])
    ours, theirs = (batch[f"{side}shift_labels"] for side in ("", "told_"))
    assert ours[ours != -100].tolist() == theirs[theirs != -100].tolist()
    assert batch["told_input_ids"].shape[1] > batch["input_ids"].shape[1]
    loss = trainer.compute_loss(trainer.model, dict(batch))
    total, count = 0.0, 0
    for place in (0, 5):
        logits = []
        for side in trainer.data_collator.rows[place]:
            ids = torch.tensor([[*side.prompt, *side.completion]])
            logits.append(trainer.teacher(ids).logits[0, len(side.prompt) - 1 : -1])
        total += divergence(logits[0], logits[1], "forward").sum().item()
        count += len(logits[0])
    assert loss.item() == pytest.approx(total / count, rel=1e-4)


def test_the_teacher_is_frozen(trainer):
    trainer.model.zero_grad()
    trainer.compute_loss(trainer.model, trainer.data_collator([{"members": [0, 5]}])).backward()
    assert not any(p.requires_grad or p.grad is not None for p in trainer.teacher.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trainer.model.parameters())
    assert trainer.teacher is not trainer.model
