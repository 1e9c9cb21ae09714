"""Interpolation: the mixture is what torch would have made, whatever the files look like, in little memory."""

from __future__ import annotations

import json
import shutil
import sys
import tracemalloc

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from flywheel.errors import ModelError
from flywheel.policy import toy
from flywheel.training.average import interpolate
from flywheel.training.weights import tensors


def folder(path, weights, config=None, shards=1):
    """A model folder with these tensors, over so many files."""
    path.mkdir()
    names, index = sorted(weights), {}
    for i in range(shards):
        file = "model.safetensors" if shards == 1 else f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: weights[name].contiguous() for name in names[i::shards]}
        save_file(part, path / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    if shards > 1:
        (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (path / "config.json").write_text(json.dumps(config or {"of": path.name}))
    return path


def random_weights(dtype, seed):
    torch.manual_seed(seed)
    shapes = {"a.weight": (33, 7), "b.weight": (5,), "c.weight": (2, 3, 4), "scalar": ()}
    return {name: torch.randn(shape).to(dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shards", [(1, 1), (1, 3), (3, 2)])
def test_a_mixture_is_what_torch_makes(tmp_path, monkeypatch, dtype, shards):
    monkeypatch.setattr(
        sys.modules["flywheel.training.average"], "CHUNK", 10
    )  # so that tensors are mixed in several pieces
    old, new = random_weights(dtype, 0), random_weights(dtype, 1)
    champion, candidate = (
        folder(tmp_path / "old", old, shards=shards[0]),
        folder(tmp_path / "new", new, shards=shards[1]),
    )
    interpolate(champion, candidate, 0.25, tmp_path / "mixed")
    files = sorted((tmp_path / "mixed").glob("*.safetensors"))
    mixed = {name: tensor for file in files for name, tensor in load_file(file).items()}
    work = torch.float64 if dtype == torch.float64 else torch.float32
    share = torch.tensor(0.25, dtype=work)
    for name in old:
        expected = ((1 - share) * old[name].to(work) + share * new[name].to(work)).to(dtype)
        assert torch.equal(mixed[name], expected), name
    assert json.loads((tmp_path / "mixed/config.json").read_text()) == {"of": "new"}
    assert {p.name for p in (tmp_path / "mixed").iterdir()} == {p.name for p in candidate.iterdir()}


def test_bfloat16_is_rounded_as_torch_does(tmp_path):
    torch.manual_seed(0)
    bits = torch.randint(-(2**15), 2**15, (2, 20_000), dtype=torch.int16)
    old, new = bits.view(torch.bfloat16)
    finite = torch.isfinite(old) & torch.isfinite(new)
    old, new = old[finite], new[finite]
    champion, candidate = folder(tmp_path / "old", {"w": old}), folder(tmp_path / "new", {"w": new})
    interpolate(champion, candidate, 0.5, tmp_path / "mixed")
    expected = (0.5 * old.float() + 0.5 * new.float()).bfloat16()
    assert torch.equal(load_file(tmp_path / "mixed/model.safetensors")["w"], expected)


def test_precisions_may_differ_and_the_candidates_stays(tmp_path):
    old, new = random_weights(torch.float32, 0), random_weights(torch.bfloat16, 1)
    interpolate(folder(tmp_path / "old", old), folder(tmp_path / "new", new), 0.5, tmp_path / "mixed")
    mixed = load_file(tmp_path / "mixed/model.safetensors")
    assert all(torch.equal(mixed[n], (0.5 * old[n] + 0.5 * new[n].float()).bfloat16()) for n in old)


def test_tied_weights_may_stand_once_or_twice(tmp_path):
    table, other = torch.randn(6, 4), torch.randn(6, 4)
    once = folder(tmp_path / "once", {"embed": table, "norm": torch.ones(4)})
    twice = folder(tmp_path / "twice", {"embed": other, "head": other.clone(), "norm": torch.ones(4)})
    interpolate(once, twice, 0.5, tmp_path / "to-twice")
    mixed = load_file(tmp_path / "to-twice/model.safetensors")
    assert torch.equal(mixed["head"], mixed["embed"]) and torch.equal(mixed["embed"], 0.5 * table + 0.5 * other)
    interpolate(twice, once, 0.5, tmp_path / "to-once")
    assert set(load_file(tmp_path / "to-once/model.safetensors")) == {"embed", "norm"}


def test_whole_numbers_are_carried_over_and_must_agree(tmp_path):
    old = folder(tmp_path / "old", {"w": torch.zeros(3), "positions": torch.arange(5)})
    same = folder(tmp_path / "same", {"w": torch.ones(3), "positions": torch.arange(5)})
    interpolate(old, same, 0.5, tmp_path / "mixed")
    assert torch.equal(load_file(tmp_path / "mixed/model.safetensors")["positions"], torch.arange(5))
    other = folder(tmp_path / "other", {"w": torch.ones(3), "positions": torch.arange(1, 6)})
    with pytest.raises(ModelError, match=r"positions holds I64 in .* and they differ"):
        interpolate(old, other, 0.5, tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("weights", "words"),
    [({"w": torch.zeros(4)}, "shape \\[3\\]"), ({"v": torch.zeros(3)}, "w has shape \\[3\\] in .* and nothing")],
)
def test_another_shape_is_refused(tmp_path, weights, words):
    champion, candidate = folder(tmp_path / "old", weights), folder(tmp_path / "new", {"w": torch.ones(3)})
    with pytest.raises(ModelError, match=words):
        interpolate(champion, candidate, 0.5, tmp_path / "mixed")


def test_weights_of_another_kind_are_refused(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"no \.safetensors weights"):
        tensors(tmp_path / "old")
    (tmp_path / "old/model.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0no")
    with pytest.raises(ModelError, match="is no safetensors file"):
        tensors(tmp_path / "old")


def test_memory_does_not_grow_with_the_model(tmp_path):
    big = {"w": torch.zeros(16 << 20, dtype=torch.bfloat16)}  # 32 MB
    champion, candidate = folder(tmp_path / "old", big), folder(tmp_path / "new", big)
    tracemalloc.start()
    try:
        interpolate(champion, candidate, 0.5, tmp_path / "mixed")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 << 20, "a few chunks in float32, not the tensor of 32 MB"


def test_a_real_model_loads_and_lies_between(tiny_model, tmp_path):
    candidate = shutil.copytree(tiny_model, tmp_path / "candidate")
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    model.save_pretrained(candidate)
    interpolate(tiny_model, candidate, 0.5, tmp_path / "mixed")
    mixed = AutoModelForCausalLM.from_pretrained(tmp_path / "mixed", dtype=torch.bfloat16)
    before = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).state_dict()
    assert all(torch.equal(t, (before[n].float() * 1.5).bfloat16()) for n, t in mixed.state_dict().items())
    assert mixed.get_input_embeddings().weight is mixed.get_output_embeddings().weight


def test_toy_models_mix_skill_and_styles(tmp_path):
    old = toy.write_model(tmp_path / "old", toy.ToyModel(0.2, 0.5, {"in order": 1.0}))
    new = toy.write_model(tmp_path / "new", toy.ToyModel(0.6, 0.5, {"in order": 0.5, "at once": 0.5}))
    interpolate(old, new, 0.25, tmp_path / "mixed")
    mixed = toy.read_model(tmp_path / "mixed")
    assert (mixed.skill, mixed.styles) == (pytest.approx(0.3), {"in order": 0.875, "at once": 0.125})
