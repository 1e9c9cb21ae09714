"""Where `flywheel check` tries a verifier: in a run's own workers, watched, with a home that ought to stay empty."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from flywheel import protocols
from flywheel.check_inputs import Job
from flywheel.recipe import VerifySection
from flywheel.types import Sample, Verdict
from flywheel.verify import VerifierPool

Progress = Callable[[str, int, int], None]
"""Told what is being tried, how many inputs of it are judged, and how many there are."""

LOOK_SECONDS = 0.2
"""How often the progress is told of while verdicts are waited for."""

KEPT = {
    "HF_HOME": ".cache/huggingface",
    "TORCH_HOME": ".cache/torch",
    "MPLCONFIGDIR": ".cache/matplotlib",
    "ELAN_HOME": ".elan",
    "OPAMROOT": ".opam",
}
"""What a verifier may need of the real home folder, by the variable that leads there; the rest of it is hidden."""
BY_LIBRARIES = ("subprocess.Popen fc-list", ".cache/matplotlib")
"""What installed libraries do as they are imported, whoever imports them: matplotlib makes a list of fonts."""


@dataclass
class Bench:
    """A pool behind `flywheel.observe`, with a home and a temporary folder of its own that ought to stay empty."""

    section: VerifySection
    traits: protocols.Traits
    progress: Progress | None = None
    _count: int = 0
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Bench:
        self._root = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="flywheel-check-")))
        self._folders = {"the home folder": self._root / "home", "the temporary folder": self._root / "tmp"}
        for folder in self._folders.values():
            folder.mkdir()
        self._log = self._root / "effects.jsonl"
        self._before = _names(Path.cwd())
        options = {
            "verifier": self.section.verifier,
            "options": self.section.options,
            "log": str(self._log),
            "traits": asdict(self.traits),
        }
        observed = self.section.model_copy(update={"verifier": "flywheel.observe:Observed", "options": options})
        with self._environment():
            self._pool = self._stack.enter_context(VerifierPool(observed))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def judge(self, what: str, jobs: Sequence[Job], seconds: float | None = None) -> list[Verdict | None]:
        """The verdicts of all jobs, in their order; None where `seconds` were not enough.

        Jobs of one problem that a verifier judges together are judged together here. Raises StageError.
        """
        problems = {problem.id: problem for problem, _ in jobs}
        samples = []
        for problem, text in jobs:
            self._count += 1
            samples.append(Sample(f"s{self._count}", problem.id, 0, 0, 0, text, "stop", 0, 1.0, "", "policy"))
        plain = [p if not p.verifier else replace(p, verifier="") for p in problems.values()]
        judged: dict[str, Verdict] = {}

        def heard(verdicts: Sequence[Verdict], _: float) -> None:
            judged.update((verdict.sample_id, verdict) for verdict in verdicts)

        future = self._pool.submit(plain, samples, heard)
        ends = None if seconds is None else time.monotonic() + seconds
        while not future.done() and (ends is None or time.monotonic() < ends):
            self._tell(what, len(judged), len(samples))
            wait([future], LOOK_SECONDS)
        self._tell(what, len(judged), len(samples))
        if not future.cancel():
            future.result()  # raises what broke the pool
        return [judged.get(sample.id) for sample in samples]

    def _tell(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)

    def effects(self) -> tuple[dict[str, list[str]], list[str]]:
        """End the workers; what Python code was seen to do, by kind, and what lies where nothing lay before."""
        self._pool.close()
        seen: dict[str, list[str]] = {}
        lines = self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []
        for kind, text in dict.fromkeys(tuple(json.loads(line)) for line in lines):
            if not any(mark in text for mark in (str(self._root / "matplotlib"), *BY_LIBRARIES)):
                seen.setdefault(kind, []).append(text)
        left = [f"{p.name} was left in {name}" for name, folder in self._folders.items() for p in folder.iterdir()]
        left += [f"{name} was left in the working folder" for name in sorted(_names(Path.cwd()) - self._before)]
        return seen, left

    @contextlib.contextmanager
    def _environment(self) -> Iterator[None]:
        """The pool's processes take their environment from this one's as they start."""
        before = dict(os.environ)
        home = Path.home()
        kept = {name: str(home / place) for name, place in KEPT.items() if (home / place).is_dir()}
        # Models are converted, and engines compiled, once for the machine and not once a check.
        kept |= {"FLYWHEEL_CACHE": str(home / ".cache/flywheel"), "VLLM_CACHE_ROOT": str(home / ".cache/vllm")}
        own = {"HOME": str(self._root / "home"), "TMPDIR": str(self._root / "tmp")}
        # Made by torch and matplotlib as they are imported.
        own["TORCHINDUCTOR_CACHE_DIR"] = str(self._root / "torch")
        kept.setdefault("MPLCONFIGDIR", str(self._root / "matplotlib"))
        os.environ.update({**kept, **before, **own})
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}
