"""`flywheel plan`: counts follow the recipe, memory and time the model's shape; nothing is loaded."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from flywheel import models
from flywheel.cli import main
from flywheel.devices import DEVICES, known_as, named_device, this_device
from flywheel.errors import ModelError, RecipeError
from flywheel.forecast import Amount, Assumptions, Problems, forecast, memory, seconds
from flywheel.forecast_commands import lines
from flywheel.model_shape import known_shape, shape_of
from flywheel.recipe import LoraOptions, ModelSection, load_recipe, shipped_recipes

SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
LLAMA_7B = {
    **SMOLLM2,
    **{"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    **{"num_key_value_heads": 32, "vocab_size": 32000, "tie_word_embeddings": False},
}
PROBLEMS = Problems(train=100, dev=20, test=30)
GIVEN = Assumptions(right=0.25, length=0.5, prompt_tokens=40)


def foreseen(*overrides: str):
    return forecast(load_recipe("demo", ["sampling.k=8", "sampling.max_tokens=40", *overrides]), PROBLEMS, GIVEN)


def test_a_fixed_budget_is_known_exactly():
    found = foreseen("filter.cap=1", "train.batch_size=16", "train.epochs=2", "stop.max_rounds=3")
    first = found.rounds[0]
    assert first.completions == Amount(800, 800)
    assert first.tokens == Amount(800 * 40, 800 * 20)
    assert first.rows == Amount(100, 100)  # 8 completions, a quarter right: 2, of which one is kept
    assert first.steps == Amount(14, 14)
    assert first.trained == Amount(100 * 2 * 120, 100 * 2 * 60)
    assert found.total("completions").most == 2400
    assert found.held_out == 20 * 8 * 4 + 2 * 30 * 8
    assert found.sampled.most == (2400 + found.held_out) * 40


def test_what_changes_a_round_changes_its_forecast():
    assert foreseen("sampling.problems=10").rounds[0].completions.most == 80
    hinted = foreseen("hints.k=2").rounds[0].hinted
    assert hinted == Amount(200, round(200 * 0.75**8))
    sweep = foreseen("sampling.sweep.temperatures=[0.5, 1.0]", "sampling.sweep.problems=50").rounds[0]
    assert sweep.swept == 20 * 8 * 2  # no more problems than dev has
    kept = [r.rows.most for r in foreseen("data.keep=accumulate", "filter.cap=2").rounds]
    assert kept == [200, 400, 600]
    assert [r.rows.most for r in foreseen("data.keep=window", "filter.cap=2").rounds] == [200, 400, 400]
    assert foreseen("mix.human=0.5", "filter.cap=1").rounds[0].rows.most == 200
    assert foreseen("mix.human=0.5", "filter.cap=2").rounds[0].rows.most == 300  # 100 problems, so many solutions
    assert foreseen("mix.human=0.5", "mix.floor=0.5", "filter.cap=2").rounds[0].rows.most == 400  # repeated
    based = foreseen("mix.base=0.2", "filter.cap=2", "data.keep=replace").rounds
    assert [r.rows.most for r in based] == [200, 250, 250]  # in round 0 the base's rows are the policy's own


def test_an_adaptive_budget_lies_between_its_first_wave_and_its_limit():
    adaptive = ["sampling.budget.mode=adaptive", "sampling.budget.count=right", "sampling.budget.first=4"]
    more = [*adaptive, "sampling.budget.step=4", "sampling.budget.most=64", "sampling.budget.enough=4"]
    assert foreseen(*more).rounds[0].completions == Amount(6400, 1600)  # four right ones take sixteen
    hard = foreseen(*more, "sampling.budget.target=difficulty").rounds[0].completions
    assert hard == Amount(6400, 1200)  # three of them, as three quarters are wrong
    never = forecast(load_recipe("demo", more), PROBLEMS, Assumptions(right=0.0))
    assert never.rounds[0].completions.expected == 100 * 32  # most_unsolved


def test_the_shape_of_known_models():
    small, large = shape_of(SMOLLM2), shape_of(LLAMA_7B)
    assert small.parameters == 134_515_008  # as its weights are
    assert large.parameters == 6_738_415_616
    assert large.kv_bytes("bfloat16") == 524_288
    assert large.adapters(LoraOptions(rank=16)) == 39_976_960
    with pytest.raises(ModelError, match="'mamba' model is not known"):
        shape_of({"model_type": "mamba"})
    with pytest.raises(ModelError, match="does not say the model's shape"):
        shape_of({"model_type": "llama"})


def test_a_shape_is_read_from_config_json_alone(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM2))
    assert known_shape(ModelSection(base=str(tmp_path))).layers == 30
    with pytest.raises(ModelError, match=r"no config.json of 'owner/name'"):
        known_shape(ModelSection(base="owner/name"))
    monkeypatch.setattr(models, "cache_folder", lambda: tmp_path)
    with pytest.raises(ModelError, match="has not been converted"):
        known_shape(ModelSection())
    (tmp_path / "models/smollm2-135m-instruct.q4_1-bfloat16-0").mkdir(parents=True)
    (tmp_path / "models/smollm2-135m-instruct.q4_1-bfloat16-0/config.json").write_text(json.dumps(SMOLLM2))
    assert known_shape(ModelSection()).hidden == 576


def test_memory_by_precision_lora_and_checkpointing():
    shape = shape_of(LLAMA_7B)
    full, lora, light = (
        memory(load_recipe("demo", list(o)), shape, GIVEN)
        for o in ([], ["train.lora.rank=16"], ["train.gradient_checkpointing=true", "model.dtype=float32"])
    )
    n = shape.parameters
    assert full["weights"] == 2 * n and light["weights"] == 4 * n
    assert full["trained_weights"] + full["optimiser"] == 16 * n
    assert lora["trained_weights"] + lora["optimiser"] == 4 * n + 16 * 39_976_960
    assert light["activations"] < full["activations"] / 4


def test_memory_of_a_second_model_and_of_the_largest_stage():
    shape = shape_of(LLAMA_7B)
    n = shape.parameters

    def of(name: str, *overrides: str, cpu: bool = False) -> dict[str, float]:
        return memory(load_recipe(name, list(overrides)), shape, GIVEN, cpu=cpu)

    assert of("demo")["second_model"] == 0
    assert of("privileged")["second_model"] == 4 * n  # the frozen teacher
    assert of("privileged", cpu=True)["second_model"] == 2 * n  # in bfloat16, as the student is
    assert of("privileged", "train.precision=float32", cpu=True)["second_model"] == 4 * n
    assert of("llama3")["second_model"] == 0  # its likelihoods are worked out before the first step
    assert of("grpo")["second_model"] == 0
    assert of("grpo", "train.grpo.beta=0.04")["second_model"] == 4 * n
    assert of("grpo", "train.grpo.beta=0.04", "train.lora.rank=16")["second_model"] == 0  # adapters are switched off
    assert of("llama3")["activations"] == of("demo")["activations"]  # 16 examples are more than 4 pairs
    assert of("llama3", "train.dpo.micro_batch=16")["activations"] == 2 * of("demo")["activations"]
    teaching, plain = of("privileged"), of("demo", "train.micro_batch=4")
    assert teaching["activations"] - plain["activations"] == 4 * (48 + 40) * 8 * 32000


def test_what_a_teacher_reads_takes_time_as_well():
    recipe, shape, a100 = load_recipe("privileged"), shape_of(LLAMA_7B), named_device("a100-80gb")
    found = forecast(recipe, PROBLEMS, GIVEN)
    tokens = found.total("trained").expected
    assert found.total("read").expected == tokens > 0
    spent = seconds(recipe, shape, a100, found, GIVEN)["training_seconds"]
    assert spent == pytest.approx((6 + 2) * tokens * shape.parameters / (312e12 * 0.4))


def test_time_and_what_fits():
    recipe, shape = load_recipe("demo"), shape_of(LLAMA_7B)
    found = forecast(recipe, PROBLEMS, GIVEN)
    a100, h100, t4 = (seconds(recipe, shape, named_device(d), found, GIVEN) for d in ("a100-80gb", "h100", "t4"))
    assert h100["sampling_seconds"] < a100["sampling_seconds"]
    assert h100["training_seconds"] == pytest.approx(a100["training_seconds"] * 312 / 989.4)
    assert not a100["training_fits"] and a100["sampling_fits"]  # 16 bytes a parameter are 108 GB
    assert not t4["training_fits"]
    sharded = load_recipe("demo", ["train.fsdp=true", "train.processes=8"])
    assert seconds(sharded, shape, named_device("a100-80gb"), found, GIVEN)["training_fits"]


def test_devices_by_name_and_by_what_the_driver_says():
    assert known_as("NVIDIA A100-SXM4-80GB, 81920") is DEVICES["a100-80gb"]
    assert known_as("NVIDIA A100-PCIE-40GB, 40960") is DEVICES["a100-40gb"]
    assert known_as("NVIDIA GeForce RTX 4090, 24564") is DEVICES["rtx4090"]
    assert known_as("NVIDIA L4, 23034") is DEVICES["l4"]
    assert known_as("NVIDIA Unheard Of, 1024") is None
    here = this_device()
    assert here.tflops > 0 and here.bandwidth > 0 and here.source
    with pytest.raises(RecipeError, match="did you mean 'a100-80gb'"):
        named_device("a100-80g")


def test_the_command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM2))
    small = ["--set", f"model.base={tmp_path}", "--set", "problems.count=60", "--set", "problems.dev=10"]
    assert main(["plan", "demo", *small, "--set", "problems.test=10", "--device", "l4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["problems"] == {"train": 40, "dev": 10, "test": 10, "ood": 0}
    assert told["forecast"]["rounds"][0]["completions"] == {"most": 320, "expected": 320}
    assert told["time"]["device"]["name"] == "l4" and told["unknown"] == []
    assert main(["plan", "demo", *small, "--set", "problems.test=10", "--device", "l4"]) == 0
    shown = capsys.readouterr().out
    assert "problems 40 train, 10 dev, 10 test; rounds 3 at most" in shown
    assert "trained in all rounds: " in shown and "reference" not in shown
    assert "model: 135M parameters" in shown and "on l4 (121 TFLOP/s" in shown
    assert not list(tmp_path.glob("runs"))

    assert main(["plan", "gsm8k"]) == 0  # nothing of it is on this disk
    shown = capsys.readouterr().out
    assert "give --problems N" in shown and "no config.json of 'Qwen/Qwen2.5-1.5B-Instruct'" in shown
    assert main(["plan", "gsm8k", "--problems", "7473"]) == 0
    assert "6,173 train" in capsys.readouterr().out
    assert main(["plan", "gsm8k", "--problems", "9"]) == 2
    assert main(["plan", "demo", "--device", "abacus"]) == 2


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_has_a_forecast(name):
    found = forecast(load_recipe(name), PROBLEMS, GIVEN)
    assert found.rounds and found.sampled.most >= found.sampled.expected > 0


@pytest.mark.parametrize("name", shipped_recipes())
def test_the_table_fits_into_a_hundred_columns(name):
    sizes, given = Problems(train=98_700, dev=300, test=1000), Assumptions()
    found = forecast(load_recipe(name), sizes, given)
    told = {"recipe": name, "assumptions": asdict(given), "problems": asdict(sizes)}
    shown = list(lines({**told, "memory": None, "time": None, "unknown": []}, found))
    assert max(map(len, shown)) <= 100
    stages = [stage.name for r in found.rounds for stage in r.stages]
    assert sum(" dpo " in line for line in shown) == stages.count("dpo")
