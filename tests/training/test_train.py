"""`train` as the loop calls it: child process, checkpoints, the finished folder."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from flywheel import training
from flywheel.errors import TrainingError
from flywheel.fingerprint import folder_digest
from flywheel.policy import toy
from flywheel.recipe import LoraOptions, ModelSection, ToyOptions, TrainSection
from tests.training.conftest import sums

EXAMPLES = sums(8, 4)
SETTINGS = {"learning_rate": 3e-3, "batch_size": 4, "epochs": 3.0, "save_steps": 3}


def run(model, folder, examples=EXAMPLES, seen=None, on_progress=None, **changes):
    """Train in `folder`; steps are appended to `seen`."""
    steps = [] if seen is None else seen
    return training.train(
        examples,
        model_path=model,
        output=folder / "model",
        work=folder / "train.parts",
        section=TrainSection(**{**SETTINGS, **changes}),
        model=ModelSection(),
        seed=7,
        log=folder / "train.log",
        pid_dir=folder / "pids",
        on_progress=on_progress or (lambda step, total: steps.append((step, total))),
    )


def test_the_toy_backend_makes_the_folder_appear_whole(tmp_path):
    base = toy.write_base(tmp_path / "base", ToyOptions())
    metrics = run(base, tmp_path, backend="toy")
    assert toy.read_model(tmp_path / "model").skill > toy.read_model(base).skill
    assert metrics["steps"] == len(EXAMPLES)
    assert not (tmp_path / ".model.part").exists()


def test_checkpoints_of_another_training_are_never_gone_on_from(tmp_path):
    def write(seed=1, **changes):
        return training.write_job(
            EXAMPLES,
            model_path=tmp_path,
            target=tmp_path / "t",
            work=tmp_path,
            section=TrainSection(**changes),
            model=ModelSection(),
            seed=seed,
        )

    write()
    checkpoint = tmp_path / "checkpoints" / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    write(share_prompts=False, save_steps=9)  # knobs change no row
    assert checkpoint.exists()
    write(learning_rate=1e-3)
    assert not checkpoint.exists()
    checkpoint.mkdir(parents=True)
    write(learning_rate=1e-3, seed=2)
    assert not checkpoint.exists()


def test_only_a_checkpoint_written_to_its_end_counts(tmp_path):
    from flywheel.training.job import MARKER, newest_checkpoint

    assert newest_checkpoint(tmp_path) is None
    for step, marker in ((9, {"a": 3}), (10, {"a": 3}), (11, {"a": 4}), (12, None), (13, {"a": 3, "gone": 1})):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "a").write_text("abc")
        if marker is not None:
            (folder / MARKER).write_text(json.dumps(marker))
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_one_process_needs_no_launcher_and_several_go_through_accelerate():
    job = Path("work/job.json")
    one = training.launch_command(job, processes=1, fsdp=False, cpu=False)
    assert one == [sys.executable, "-m", "flywheel.training.sft", "work/job.json"]
    four = training.launch_command(job, processes=4, fsdp=False, cpu=False)
    assert four[1:3] == ["-m", "accelerate.commands.launch"]
    assert "--multi_gpu" in four
    assert four[four.index("--num_processes") + 1] == "4"
    assert four[-3:] == one[1:]
    sharded = training.launch_command(job, processes=2, fsdp=True, cpu=False)
    assert "--use_fsdp" in sharded
    assert Path(sharded[sharded.index("--config_file") + 1]).read_text().count("fsdp_version: 2") == 1
    assert "--cpu" in training.launch_command(job, processes=2, fsdp=False, cpu=True)


def test_trackers_write_beside_the_log_unless_told_otherwise(tmp_path, monkeypatch):
    folders = ("TENSORBOARD_LOGGING_DIR", "WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")
    for name in folders:
        monkeypatch.delenv(name, raising=False)
    logs = tmp_path / "logs"
    found = training.environment(logs / "train-000.log")
    assert all(Path(found[name]).is_relative_to(logs) for name in folders)
    monkeypatch.setenv("WANDB_CACHE_DIR", "/elsewhere")
    assert training.environment(logs / "train-000.log")["WANDB_CACHE_DIR"] == "/elsewhere"


@pytest.mark.slow
def test_training_learns_and_the_model_folder_is_complete(tiny_model, tmp_path):
    seen = []
    long = sums(1, 1)[0]
    long = type(long)(**{f: getattr(long, f) for f in long.__slots__} | {"completion": "x" * 90})
    metrics = run(tiny_model, tmp_path, [*EXAMPLES, long], seen, max_length=100, report_to=["tensorboard"])
    assert metrics["skipped_too_long"] == 1
    assert metrics["examples"] == 32
    assert metrics["steps"] == 24
    assert metrics["loss_last"] < metrics["loss_first"] / 2
    assert seen[-1] == (24, 24)
    assert (tmp_path / "model" / "model.safetensors").is_file()
    for name in ("generation_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / "model" / name).read_bytes() == (tiny_model / name).read_bytes()
    assert not (tmp_path / "train.parts" / "checkpoints").exists()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # Beside the log, where the stage's end, which deletes train.parts, leaves it.
    events = EventAccumulator(str(tmp_path / "tensorboard" / "train")).Reload()
    losses = [event.value for event in events.Scalars("train/loss")]
    assert len(losses) == 24 and losses[-1] < losses[0]
    assert not list((tmp_path / "pids").iterdir())


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_weights(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("flywheel.training._POLL_SECONDS", 0.01)  # so that the kill comes before the end
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = run(tiny_model, whole)

    def kill(step, total):
        if step >= 10 and (broken / "train.parts" / "checkpoints" / "checkpoint-9" / "complete.json").is_file():
            entry = json.loads(next((broken / "pids").glob("train-*.json")).read_text())
            os.kill(entry["guard"]["pid"], signal.SIGKILL)

    with pytest.raises(TrainingError, match="exit code"):
        run(tiny_model, broken, on_progress=kill)
    kept = max(int(p.name.partition("-")[2]) for p in (broken / "train.parts" / "checkpoints").glob("checkpoint-*"))
    assert not (broken / "model").exists()
    seen = []
    metrics = run(tiny_model, broken, seen=seen)
    assert seen[0][0] > 9 <= kept
    assert metrics == expected
    assert folder_digest(broken / "model") == folder_digest(whole / "model")


@pytest.mark.slow
def test_lora_ends_in_an_ordinary_model(tiny_model, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    metrics = run(tiny_model, tmp_path, lora=LoraOptions(rank=8), learning_rate=2e-2)
    assert metrics["loss_last"] < metrics["loss_first"]
    base, new = (AutoModelForCausalLM.from_pretrained(p).state_dict() for p in (tiny_model, tmp_path / "model"))
    assert base.keys() == new.keys()
    assert torch.equal(base["model.embed_tokens.weight"], new["model.embed_tokens.weight"])
    assert not torch.equal(base["model.layers.0.mlp.up_proj.weight"], new["model.layers.0.mlp.up_proj.weight"])


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_an_error_with_the_way_out(tiny_model, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(tiny_model, tmp_path / "base")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] *= float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match=r"is nan at step 1; lower train\.learning_rate"):
        run(broken, tmp_path)
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_two_processes_train_as_one_does(tiny_model, tmp_path):
    one = run(tiny_model, tmp_path / "one", precision="float32", epochs=1.0)
    two = run(tiny_model, tmp_path / "two", precision="float32", epochs=1.0, processes=2)
    assert two["steps"] == one["steps"]
    assert two["loss_first"] == pytest.approx(one["loss_first"], rel=1e-3)
    assert two["loss_last"] == pytest.approx(one["loss_last"], rel=1e-2)
