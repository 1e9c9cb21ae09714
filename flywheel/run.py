"""A run: its folder, its frozen problems, its generations, and the engine that is warm at the moment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flywheel import models, plugins, protocols, provenance, samplers, store
from flywheel.demands import (
    check_evaluation,
    check_fit,
    check_label_free,
    check_levers,
    check_observer,
    check_votes,
)
from flywheel.errors import RunError
from flywheel.fingerprint import file_digest
from flywheel.identity import verifier_identity
from flywheel.lock import Lock
from flywheel.mix import check_mix
from flywheel.problems import load_general, load_problems
from flywheel.progress import Reporter, Silent
from flywheel.propose import check_schedule
from flywheel.recipe import Recipe, differing_fields, validate
from flywheel.scope import Scope
from flywheel.types import PathKind, Problem, Split
from flywheel.warm import Warm


class Run(Warm, AbstractContextManager["Run"]):
    """One run on disk. `Run.open` works on it and holds its lock; `Run.load` only looks.

    It adds to what is warm what changes a run: the lock, the files that all of it rests on, the lineage.
    """

    def __init__(self, directory: Path, recipe: Recipe, reporter: Reporter) -> None:
        super().__init__(directory, recipe)
        self.reporter = reporter
        self._lock = Lock(directory)
        self._traits: dict[str, protocols.Traits] = {}
        self.backlog: dict[Path, Any] = {}
        """What sampling left to be verified, by the verdicts' file (see `flywheel.collect`)."""

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
                    f"{run.directory} is not empty and holds no run (there is {sorted(strange)[0]!r}); "
                    "give another --run-dir"
                )
        made = [folder for folder in (run.directory, *run.directory.parents) if not folder.exists()]
        try:
            with store.disk_errors(run.directory):
                run.directory.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:
            raise RunError(f"cannot make {run.directory}: {error.strerror}; give another --run-dir") from None
        run._lock.acquire()
        try:
            run._reap()
            if (run.directory / "run.json").exists():
                run._continue()
            else:
                run._begin()
        except BaseException:
            if not any(p.name != "lock" for p in run.directory.iterdir()):  # refused: as if it had never been asked for
                run._lock.discard(made)
            run.close()
            raise
        return run

    @classmethod
    def load(cls, directory: Path | str) -> Run:
        """Look at a run without working on it; it may be running elsewhere. Raises RunError if it is none."""
        directory = Path(directory)
        if not (directory / "run.json").exists():
            raise RunError(
                f"{directory} is not a run: it has no run.json. Runs lie in runs/ unless --run-dir says otherwise"
            )
        recipe = validate(store.read_json(directory / "recipe.json"), where=str(directory / "recipe.json"))
        return cls(directory.resolve(), recipe, Silent())

    def _begin(self) -> None:
        """Freeze what a run rests on: recipe, problems, base, verifiers. run.json is written last."""
        found = load_problems(self.recipe)
        general = load_general(self.recipe)
        self._check_levers(found.problems)
        for extra in self.recipe.sampling.extra:
            samplers.check_here(self.recipe, extra)
        # From here on models may be fetched or converted, which takes minutes: what costs nothing has been looked at.
        verifiers = self._verifiers(found.problems)
        base = models.resolve_base(self.recipe.model, toy_options=self.recipe.policy.toy, say=self.reporter.message)
        self._check_extra_models()
        store.write_rows(self.directory / "problems.parquet", Problem, found.problems)
        if general:
            store.write_rows(self.directory / "general.parquet", Problem, general)
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
                **({"general": file_digest(self.directory / "general.parquet")} if general else {}),
                "base": {"path": str(base), "digest": models.model_digest(base)},
                "verifiers": verifiers,
                "versions": provenance.versions(),
                "machine": provenance.machine(),
                "git_commit": provenance.git_commit(),
            },
        )

    def _continue(self) -> None:
        """Check that the recipe is the one that the run was started with; only `stop` and knobs may differ."""
        before = validate(store.read_json(self.directory / "recipe.json"), where=str(self.directory / "recipe.json"))
        if differences := differing_fields(_binding(before), _binding(self.recipe)):
            raise RunError(
                f"{self.directory} was started with another recipe; it differs in {', '.join(differences)}. "
                "Give another --run-dir, or change a setting from one stage on with "
                "`flywheel redo STAGE RUN --round N --set …`"
            )
        self._check_levers(self.problems)
        self._check_extra_models()
        store.write_json(self.directory / "recipe.json", self.recipe.model_dump(mode="json"))
        self._verifiers(self.problems)

    def _check_levers(self, problems: list[Problem]) -> None:
        """Raise where the recipe's levers lack something (see `flywheel.demands`)."""
        train = [p for p in problems if p.split == Split.TRAIN and not p.ood]
        samplers.check_policies(self.recipe)
        check_fit(self.recipe, problems)
        check_levers(self.recipe, train, self._traits_for)
        check_votes(self.recipe, problems, self._traits_for)
        check_label_free(self.recipe)
        check_observer(self.recipe)
        check_mix(self.recipe.mix, train)
        check_evaluation(self.recipe, problems)
        check_schedule(self.recipe, problems)

    def _check_extra_models(self) -> None:
        """Raise where an extra sampler's model cannot be had."""
        for extra in self.recipe.sampling.extra:
            if extra.model is not None:
                samplers.model_path(self.recipe, extra)

    def _verifiers(self, problems: list[Problem]) -> dict[str, Any]:
        """Identity of each verifier in use, by name; raises PluginError at the start, not in the middle."""
        names = {p.verifier or self.recipe.verify.verifier for p in problems}
        names |= {self.recipe.verify.verifier} if self.recipe.propose.kind else set()
        for name in sorted(names):
            plugins.make_able_verifier(name, self._verifier_options(name))
        return {name: self.verifier_identity(name) for name in sorted(names)}

    def verifier_identity(self, name: str) -> dict[str, Any]:
        """Name, version and source digest of a verifier with the options this run gives it."""
        return verifier_identity(name, self._verifier_options(name))

    def _verifier_options(self, name: str) -> dict[str, Any]:
        return self.recipe.verify.options_of(name)

    def traits(self, problem_id: str) -> protocols.Traits:
        """How the verifier of a problem wants to be called."""
        return self._traits_for(self.problem_by_id[problem_id])

    def _traits_for(self, problem: Problem) -> protocols.Traits:
        name = problem.verifier or self.recipe.verify.verifier
        if name not in self._traits:
            self._traits[name] = protocols.traits(plugins.make_verifier(name, self._verifier_options(name)))
        return self._traits[name]

    def path_kinds(self, problems: Iterable[Problem]) -> dict[str, PathKind]:
        """What a reasoning path is, by problem id: its verifier says so."""
        return {p.id: self.traits(p.id).path_kind for p in problems}

    def judged_afterwards(self, problem_id: str) -> bool:
        """Whether a problem's verifier waits until sampling has ended: for whole groups, or for the engine's memory."""
        traits = self.traits(problem_id)
        return traits.group or traits.exclusive

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
                self.release_verifiers()
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

    # -- going back --------------------------------------------------------------------------------

    def save_generations(self) -> None:
        """Write the lineage and the `champion` link for those who read the folder."""
        champion = self.champion()
        store.write_json(
            self.directory / "generations.json",
            {
                "champion": champion.index,
                "generations": [{**asdict(g), "metrics": _summary(g.metrics)} for g in self.generations()],
            },
        )
        link, temporary = self.directory / "champion", self.directory / ".champion.tmp"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(champion.path)
        os.replace(temporary, link)


_FIRST_FILES = {"recipe.json", "problems.parquet", "general.parquet", "lock", "pids", "logs"}


def _summary(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics without what they say of single problems, which `metrics.json` has."""

    def of_set(measured: dict[str, Any] | None) -> dict[str, Any] | None:
        return measured and {k: v for k, v in measured.items() if k not in ("counts", "paths", "rarefied")}

    if not metrics:
        return metrics  # trained, but not evaluated yet
    ood = {label: of_set(m) for label, m in metrics["ood"].items()}
    return {**metrics, "dev": of_set(metrics["dev"]), "ood": ood, "round": of_set(metrics.get("round"))}


def _binding(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe that a run is bound to: all that can change rows, but for when to stop."""
    return {name: value for name, value in recipe.key().items() if name not in ("stop", "description")}


__all__ = ["Run", "Scope"]
