"""Devices: what a GPU can do at its best by its maker's data sheet, and what this machine has."""

from __future__ import annotations

import difflib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from flywheel.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Device:
    """Peak dense 16-bit TFLOP/s (accumulated in 32 bits), memory bandwidth in GB/s, memory in GB (10^9 bytes), and
    where the figures are from."""

    name: str
    tflops: float
    bandwidth: float
    memory: float
    source: str
    cpu: bool = False


# Sparsity doubles the figures on most data sheets; these are the dense halves.
DEVICES: dict[str, Device] = {
    d.name: d
    for d in (
        Device("t4", 65.0, 320.0, 16.0, "NVIDIA T4 data sheet (FP16: it has no bfloat16)"),
        Device("l4", 121.0, 300.0, 24.0, "NVIDIA L4 data sheet"),
        Device("l40s", 362.0, 864.0, 48.0, "NVIDIA L40S data sheet"),
        Device("rtx4090", 165.2, 1008.0, 24.0, "NVIDIA Ada GPU architecture white paper, appendix A"),
        Device("a100-40gb", 312.0, 1555.0, 40.0, "NVIDIA A100 data sheet"),
        Device("a100-80gb", 312.0, 2039.0, 80.0, "NVIDIA A100 80GB SXM data sheet"),
        Device("h100", 989.4, 3350.0, 80.0, "NVIDIA H100 SXM data sheet"),
        Device("h200", 989.4, 4800.0, 141.0, "NVIDIA H200 SXM data sheet"),
    )
}
"""Known devices by name."""


def named_device(name: str) -> Device:
    """The device of that name. Raises RecipeError for an unknown one."""
    key = name.lower().replace("_", "-")
    if key not in DEVICES:
        near = difflib.get_close_matches(key, DEVICES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise RecipeError(f"unknown device {name!r}; known: {', '.join(DEVICES)}{hint}")
    return DEVICES[key]


def this_device() -> Device:
    """What is here: the first NVIDIA GPU where it is known by name, else the processor, measured."""
    return _gpu() or _processor()


def _gpu() -> Device | None:
    try:
        query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return known_as(lines[0]) if lines else None


def known_as(line: str) -> Device | None:
    """The known device of a line of nvidia-smi, `NVIDIA A100-SXM4-80GB, 81920` (MiB); None where it is not known."""
    shown, _, mebibytes = line.rpartition(",")
    words = shown.lower().replace("geforce ", "").replace("rtx ", "rtx").replace("-", " ").split()
    fitting = [d for d in DEVICES.values() if d.name.split("-")[0] in words]
    if not fitting:
        return None
    gigabytes = float(mebibytes) * 2**20 / 1e9
    return min(fitting, key=lambda d: abs(d.memory - gigabytes))


def _processor() -> Device:
    """The processor: the rate of a 16-bit matrix product, as sampling and training use it, and of a copy."""
    import numpy
    import torch

    a = torch.ones((1024, 1024), dtype=torch.bfloat16)
    product = _best(lambda: a @ a)
    block = numpy.ones(2**24, numpy.float32)
    target = numpy.empty_like(block)
    copy = _best(lambda: numpy.copyto(target, block))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device(
        "this processor",
        round(2 * 1024**3 / product / 1e12, 3),
        round(2 * block.nbytes / copy / 1e9, 1),
        round(memory / 1e9, 1),
        "measured now: a bfloat16 matrix product and a copy",
        cpu=True,
    )


def _best(work: Callable[[], object], times: int = 5) -> float:
    """Seconds of the fastest of a few turns."""
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return max(min(seconds), 1e-9)
