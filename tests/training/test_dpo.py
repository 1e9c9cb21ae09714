"""DPO in its real process: margins grow, a kill costs nothing, the text is the one that is sampled."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flywheel import training
from flywheel.errors import TrainingError
from flywheel.fingerprint import folder_digest
from flywheel.recipe import ModelSection, TrainSection
from flywheel.types import Pair
from tests.training.conftest import sums

PAIRS = [
    Pair(e.problem_id, 0, e.messages, e.completion, "it is not known", e.sample_id, f"{e.sample_id}x", 1.0, 0.0, 5, 7)
    for e in sums(8, 2)
]
DPO = {"learning_rate": 3e-3, "batch_size": 4, "micro_batch": 2, "epochs": 3.0}


def run(model: Path, folder: Path, pairs: list[Pair] = PAIRS, on_progress: Any = None, **changes: Any) -> dict:
    settings = {"objective": "dpo", "learning_rate": 3e-3, "batch_size": 4, "epochs": 1.0, "save_steps": 3, **changes}
    return training.train(
        sums(8, 2),
        pairs=pairs,
        model_path=model,
        output=folder / "model",
        work=folder / "train.parts",
        section=TrainSection(**{**settings, "dpo": {**DPO, **settings.pop("dpo", {})}}),
        model=ModelSection(),
        seed=7,
        log=folder / "train.log",
        pid_dir=folder / "pids",
        on_progress=on_progress or (lambda step, total: None),
    )


@pytest.mark.slow
def test_the_margin_grows_after_a_killed_sft_then_dpo_has_been_gone_on_with(tiny_model, tmp_path, monkeypatch):
    """The kill comes in the second stage: the first is not trained again, and the weights are the same in the end."""
    monkeypatch.setattr("flywheel.training._POLL_SECONDS", 0.01)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    long = replace(PAIRS[0], rejected="x" * 200)
    settings = {"objective": "sft_then_dpo", "average": {"stages": True}, "max_length": 120}
    expected = run(tiny_model, whole, [*PAIRS, long], **settings)
    dpo = expected["dpo"]
    assert (dpo["pairs"], dpo["pairs_too_long"], dpo["steps"]) == (16, 1, 12)
    assert expected["steps"] == 12 + 4 and expected["examples"] == 16
    assert dpo["margin_last"] > dpo["margin_first"] + 0.5 and dpo["loss_last"] < dpo["loss_first"] < 0.75
    assert dpo["accuracy_last"] == 1.0

    def kill(step: int, total: int) -> None:
        work = broken / "train.parts" / "dpo"
        if total == 12 and step >= 7 and (work / "checkpoints" / "checkpoint-6" / "complete.json").is_file():
            entry = json.loads(next((broken / "pids").glob("train-*.json")).read_text())
            os.kill(entry["guard"]["pid"], signal.SIGKILL)

    with pytest.raises(TrainingError, match="exit code"):
        run(tiny_model, broken, [*PAIRS, long], kill, **settings)
    sft = broken / "train.parts" / "sft-model"
    before = sft.stat().st_mtime_ns
    seen: list[tuple[int, int]] = []
    metrics = run(tiny_model, broken, [*PAIRS, long], lambda *at: seen.append(at), **settings)
    assert sft.stat().st_mtime_ns == before and {total for _, total in seen} == {12} and seen[0][0] > 6
    assert metrics == expected
    assert folder_digest(broken / "model") == folder_digest(whole / "model")
    assert (broken / "model" / "tokenizer.json").read_bytes() == (tiny_model / "tokenizer.json").read_bytes()


@pytest.mark.slow
def test_lora_and_a_likelihood_term_with_one_model_in_memory(tiny_model, tmp_path):
    metrics = run(tiny_model, tmp_path, lora={"rank": 8}, precision="float32", dpo={"learning_rate": 2e-2, "nll": 0.2})
    assert metrics["dpo"]["margin_last"] > metrics["dpo"]["margin_first"]
    assert (tmp_path / "model" / "model.safetensors").is_file()


@pytest.fixture(scope="module")
def trainers(tiny_model, tmp_path_factory):
    """Trainers of one step over six pairs, in micro-batches of 6 and of 4 + 2 (and an empty one)."""
    return make_trainers(tiny_model, tmp_path_factory, PAIRS[:6])


def make_trainers(tiny_model, tmp_path_factory, pairs: list[Pair], **options: Any) -> dict[str, Any]:
    from flywheel.training import dpo, job

    made = {}
    for name, step in (("whole", [[0, 1, 2, 3, 4, 5]]), ("parts", [[0, 1, 2, 3], [4, 5], []])):
        work = tmp_path_factory.mktemp(name)
        section = TrainSection(objective="dpo", precision="float32", micro_batch=4, dpo=options)
        path = training.write_job(
            pairs,
            model_path=tiny_model,
            target=work / "t",
            work=work,
            section=section,
            model=ModelSection(),
            seed=1,
        )
        tokenizer = dpo.load_tokenizer(tiny_model)
        rows = dpo.encode_pairs(tokenizer, tiny_model, pairs)
        made[name] = dpo.make_trainer(job.Job.read(path), rows, [step], tokenizer, accumulation=len(step))
    return made


def test_each_pair_counts_alike_however_a_step_is_laid_out(trainers):
    same_gradients(trainers)


def test_each_token_counts_alike_in_the_likelihood_term(tiny_model, tmp_path_factory):
    """Completions of one length would hide it: a mean of means is no mean."""
    pairs = [replace(pair, chosen=pair.chosen + ", so it is" * i) for i, pair in enumerate(PAIRS[:6])]
    made = make_trainers(tiny_model, tmp_path_factory, pairs, nll=10.0)
    same_gradients(made)
    batch = made["whole"].data_collator([made["whole"].train_dataset[0]])
    chosen = batch["completion_mask"][:6, 1:].sum()
    expected = math.log(2) - 10.0 * (batch["ref_chosen_logps"].sum() / chosen).item()
    assert made["whole"].compute_loss(made["whole"].model, batch).item() == pytest.approx(expected, rel=1e-4)


def same_gradients(trainers: dict[str, Any]) -> None:
    import torch

    gradients = {}
    for name, trainer in trainers.items():
        trainer.model.zero_grad()
        for item in trainer.train_dataset:
            trainer.compute_loss(trainer.model, trainer.data_collator([item])).backward()
        gradients[name] = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    assert gradients["whole"].abs().sum() > 0
    torch.testing.assert_close(gradients["parts"], gradients["whole"], rtol=1e-3, atol=1e-6)


def test_the_loss_is_the_papers_and_starts_at_log_2(trainers):
    """Equation 7 of Rafailov et al. 2023 worked out by hand; at the start policy and reference are one."""
    import torch

    trainer = trainers["whole"]
    batch = trainer.data_collator([trainer.train_dataset[0]])
    assert trainer.compute_loss(trainer.model, dict(batch)).item() == pytest.approx(math.log(2), abs=1e-5)
    logits = trainer.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.log_softmax(-1)
    mask = batch["completion_mask"][:, 1:]
    own = (logits[:, :-1].gather(2, batch["input_ids"][:, 1:, None])[..., 0] * mask).sum(1)
    torch.testing.assert_close(own[:6], batch["ref_chosen_logps"], rtol=1e-4, atol=1e-4)
    moved = {**batch, "ref_chosen_logps": batch["ref_chosen_logps"] - 3}
    expected = math.log1p(math.exp(-trainer.beta * 3))
    assert trainer.compute_loss(trainer.model, moved).item() == pytest.approx(expected, abs=1e-4)


def test_both_texts_are_encoded_as_they_are_sampled(trainers, tiny_model):
    from flywheel.policy.render import load_tokenizer, prompt_ids

    tokenizer = load_tokenizer(tiny_model)
    for pair, row in zip(PAIRS, trainers["whole"].data_collator.rows, strict=False):
        assert row["prompt_ids"] == list(prompt_ids(tokenizer, pair.messages))
        for text, ids in ((pair.chosen, row["chosen_ids"]), (pair.rejected, row["rejected_ids"])):
            assert tokenizer.decode(ids[:-1]) == text and ids[-1] == 2
