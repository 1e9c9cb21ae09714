"""Means of models: exact numbers, any dtype, refusals."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from flywheel.errors import ModelError
from flywheel.policy import toy
from flywheel.training.average import average


def write(folder: Path, tensors, dtype=None) -> Path:
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    (folder / "config.json").write_text(folder.name)
    held = {name: torch.as_tensor(values) for name, values in tensors.items()}
    stored = {name: t.to(dtype) if dtype and t.is_floating_point() else t for name, t in held.items()}
    save_file(stored, folder / "model.safetensors")
    return folder


def read(folder: Path):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_the_mean_of_three_is_rounded_once(tmp_path):
    import torch

    chance = torch.Generator().manual_seed(0)
    values = [torch.randn(300, 7, generator=chance) for _ in range(3)]
    folders = [write(tmp_path / f"m{i}", {"w": v}, torch.bfloat16) for i, v in enumerate(values)]
    weights = (0.5, 0.25, 0.25)
    average(list(zip(folders, weights, strict=True)), tmp_path / "mean")
    exact = sum(w * v.to(torch.bfloat16).float() for w, v in zip(weights, values, strict=True))
    assert torch.equal(read(tmp_path / "mean")["w"], exact.to(torch.bfloat16))
    assert (tmp_path / "mean" / "config.json").read_text() == "m0"


def test_tensors_larger_than_a_chunk_and_integers_pass_through(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(sys.modules["flywheel.training.average"], "CHUNK", 64)  # the function has that name, too
    a, b = torch.arange(1000.0), torch.ones(1000)
    folders = [write(tmp_path / n, {"w": t, "steps": torch.arange(500)}) for n, t in (("a", a), ("b", b))]
    average([(folder, 0.5) for folder in folders], tmp_path / "mean")
    mean = read(tmp_path / "mean")
    np.testing.assert_array_equal(mean["w"].numpy(), ((a + b) / 2).numpy())
    assert torch.equal(mean["steps"], torch.arange(500))


def test_models_of_another_shape_are_refused_and_leave_nothing(tmp_path):
    import torch

    a, b = write(tmp_path / "a", {"w": torch.ones(3)}), write(tmp_path / "b", {"w": torch.ones(4)})
    with pytest.raises(ModelError, match="only models of one shape can be mixed"):
        average([(a, 0.5), (b, 0.5)], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
    c, d = (write(tmp_path / n, {"w": torch.ones(3), "steps": torch.tensor([i])}) for i, n in enumerate("cd"))
    with pytest.raises(ModelError, match="can be mixed"):
        average([(c, 0.5), (d, 0.5)], tmp_path / "mean")


def test_toy_models_are_averaged_with_their_styles(tmp_path):
    models = [toy.ToyModel(0.2, 0.5, {"in order": 1.0}), toy.ToyModel(0.8, 0.5, {"at once": 1.0})]
    folders = [toy.write_model(tmp_path / str(i), m) for i, m in enumerate(models)]
    average([(folders[0], 0.75), (folders[1], 0.25)], tmp_path / "mean")
    mean = toy.read_model(tmp_path / "mean")
    assert mean.skill == pytest.approx(0.35)
    assert mean.styles == pytest.approx({"in order": 0.75, "at once": 0.25})
