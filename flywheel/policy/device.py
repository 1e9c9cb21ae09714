"""Where a model in torch is put."""

from __future__ import annotations


def torch_device(wanted: str) -> str:
    """`wanted`, or where that is `auto` the first of CUDA, Apple's GPU and the processor that is there."""
    import torch

    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
