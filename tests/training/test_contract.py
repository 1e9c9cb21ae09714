import json
import shutil
import subprocess
import sys

import pytest

from flywheel.errors import ModelError
from flywheel.policy.render import load_tokenizer, prompt_ids
from flywheel.recipe import ModelSection
from flywheel.training.contract import check_contract, encode, end_of_turn, inspect, stop_tokens
from flywheel.types import Example
from tests.training.conftest import TEMPLATE, sums

ASKED = [{"role": "user", "content": "2 + 2 = ?"}]


@pytest.fixture
def model_copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def test_a_sound_model_passes_and_is_described(tiny_model):
    found = inspect(tiny_model, ModelSection(), ASKED)
    assert found["stop_token"] == "<|im_end|>"
    assert found["template_agrees"]
    assert found["generation_config"]


def test_an_example_is_the_sampled_prompt_the_completion_and_the_stop_token(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    example = sums(1, 1)[0]
    row = encode(tokenizer, example, 2)
    assert list(row.prompt) == prompt_ids(tokenizer, example.messages)
    assert tokenizer.decode(row.completion) == example.completion + "<|im_end|>"


def test_the_end_is_what_the_template_ends_an_answer_with_not_just_any_stop_token(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    assert end_of_turn(tokenizer, ASKED, [0, 2]) == 2
    assert end_of_turn(tokenizer, ASKED, [0]) == 0


def test_stop_tokens_come_from_the_generation_config_first(model_copy):
    tokenizer = load_tokenizer(model_copy)
    assert stop_tokens(model_copy, tokenizer) == [2, 0]
    (model_copy / "generation_config.json").unlink()
    assert stop_tokens(model_copy, tokenizer) == [2]


def test_a_model_that_names_no_stop_token_is_refused(model_copy):
    for name in ("generation_config.json", "config.json"):
        content = json.loads((model_copy / name).read_text())
        content["eos_token_id"] = None
        (model_copy / name).write_text(json.dumps(content))
    settings = json.loads((model_copy / "tokenizer_config.json").read_text())
    settings["eos_token"] = None
    (model_copy / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="no stop token"):
        inspect(model_copy, ModelSection(), ASKED)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ bos_token }}" + TEMPLATE, "two BOS"),
        (
            "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}",
            "leaves out the assistant's answer",
        ),
        ("", "renders a prompt to nothing"),
    ],
)
def test_a_template_that_breaks_the_contract_is_refused_by_name(tiny_model, template, reason):
    with pytest.raises(ModelError, match=reason):
        inspect(tiny_model, ModelSection(chat_template=template), ASKED)


def test_a_toy_model_has_no_text_to_check(tmp_path):
    (tmp_path / "toy.json").write_text("{}")
    assert check_contract(tmp_path, ModelSection(), ASKED, log=tmp_path / "log", pid_dir=tmp_path) == {"model": "toy"}


@pytest.mark.slow
def test_the_check_runs_in_a_child_and_its_refusal_is_one_line(tiny_model, tmp_path):
    where = {"log": tmp_path / "check.log", "pid_dir": tmp_path / "pids"}
    assert check_contract(tiny_model, ModelSection(), ASKED, **where)["stop_token_id"] == 2
    with pytest.raises(ModelError, match="two BOS") as caught:
        check_contract(tiny_model, ModelSection(chat_template="{{ bos_token }}" + TEMPLATE), ASKED, **where)
    assert "\n" not in str(caught.value)


def test_importing_the_training_package_brings_neither_torch_nor_transformers():
    heavy = "{'torch', 'transformers'}"
    code = f"import sys, flywheel.training, flywheel.training.contract; print({heavy} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )


def test_an_example_with_several_turns_keeps_them(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    turns = [{"role": "system", "content": "s"}, *ASKED, {"role": "assistant", "content": "4"}, *ASKED]
    row = encode(tokenizer, Example("i", "p", 0, turns, "4", "policy"), 2)
    assert tokenizer.decode(row.prompt).count("<|im_start|>") == 5
