import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from flywheel.training import merge


def weights_of(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()


def test_a_merged_model_says_what_base_and_adapter_said_together(tiny_model, tmp_path):
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    ids = torch.arange(3, 30)[None]
    together = model(input_ids=ids).logits
    model.save_pretrained(tmp_path / "adapter")
    merge.merge_adapter(tiny_model, tmp_path / "adapter", tmp_path / "merged", "float32")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(merged(input_ids=ids).logits, together, rtol=1e-4, atol=1e-4)
    assert not list((tmp_path / "merged").glob("adapter*"))


def test_a_full_model_carries_weights_dtype_and_every_other_file(tiny_model, tmp_path):
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "notes.txt").write_text("kept")
    (base / "old.gguf").write_text("left behind")
    doubled = {name: tensor * 2 for name, tensor in weights_of(base).items()}
    merge.write_full(base, doubled, tmp_path / "new", "bfloat16")
    assert all(torch.equal(t, doubled[n].bfloat16().float()) for n, t in weights_of(tmp_path / "new").items())
    for name in (
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "notes.txt",
    ):
        assert (tmp_path / "new" / name).read_bytes() == (base / name).read_bytes(), name
    assert not (tmp_path / "new" / "old.gguf").exists()
    assert '"dtype": "bfloat16"' in (tmp_path / "new" / "config.json").read_text()


def test_a_missing_weight_is_named(tiny_model, tmp_path):
    weights = weights_of(tiny_model)
    del weights["model.layers.0.mlp.up_proj.weight"]
    with pytest.raises(RuntimeError, match=r"model\.layers\.0\.mlp\.up_proj\.weight"):
        merge.write_full(tiny_model, weights, tmp_path / "new", "bfloat16")
