"""From a trainer's weights to an ordinary model folder, which any engine can serve."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.gguf")
_REWRITTEN = ("config.json",)


def write_full(base: Path, weights: Mapping[str, torch.Tensor], target: Path, dtype: str) -> None:
    """Write the folder `target`: the model of `base` with all its weights replaced.

    Raises RuntimeError if a weight is missing or has another shape.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    # On "meta" nothing is allocated; loading with assign=True puts the given tensors in place.
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    model.load_state_dict({name: tensor.detach().cpu() for name, tensor in weights.items()}, assign=True, strict=False)
    model.tie_weights()
    left = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    if left:
        raise RuntimeError(f"the trainer gave no weights for {', '.join(left[:5])}")
    save(base, model, target, dtype)


def merge_adapter(base: Path, adapter: Path, target: Path, dtype: str) -> None:
    """Write the folder `target`: the model of `base` with a LoRA adapter added into its weights, in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    save(base, merged, target, dtype)


def save(base: Path, model: PreTrainedModel, target: Path, dtype: str) -> None:
    """Write weights in `dtype` as safetensors, and carry everything else (tokenizer, chat template, generation
    config) over from `base` byte for byte."""
    import torch

    model.config.dtype = getattr(torch, dtype)
    model.to(getattr(torch, dtype)).save_pretrained(target)
    left_out = shutil.ignore_patterns(*_WEIGHTS, *_REWRITTEN, "toy.json", ".*")
    skipped = left_out(str(base), [p.name for p in base.iterdir()])
    for file in base.iterdir():
        if file.is_file() and file.name not in skipped:
            shutil.copyfile(file, target / file.name)
