"""What stands on disk: rounds, generations, champion and history of a run follow from the files in its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flywheel import models, store
from flywheel.errors import ModelError
from flywheel.recipe import Recipe
from flywheel.scope import Scope
from flywheel.stopping import RoundRecord, rejected_in_a_row, stop_reason
from flywheel.types import Generation, Problem, Split

if TYPE_CHECKING:
    from flywheel.run import Run


class RunView:
    """A run as its files tell it. There is no other state, so none that a kill could leave behind."""

    def __init__(self, directory: Path, recipe: Recipe) -> None:
        self.directory, self.recipe = directory, recipe

    @cached_property
    def facts(self) -> dict[str, Any]:
        """`run.json`: when it started, versions, digests."""
        return store.read_json(self.directory / "run.json")

    @cached_property
    def frozen_problems(self) -> list[Problem]:
        """The problems that the run began with, all splits and OOD sets."""
        return store.read_rows(self.directory / "problems.parquet", Problem)

    @cached_property
    def proposed_problems(self) -> dict[int, list[Problem]]:
        """What was proposed for each round, by round."""
        done = {s.round: s for s in self.rounds() if s.round is not None and s.manifest.get("propose")}
        return {index: store.read_rows(s.folder / "problems.parquet", Problem) for index, s in done.items()}

    @cached_property
    def problems(self) -> list[Problem]:
        """All problems so far: those that the run began with, then those proposed for its rounds."""
        return [*self.frozen_problems, *chain.from_iterable(self.proposed_problems.values())]

    @cached_property
    def problem_by_id(self) -> Mapping[str, Problem]:
        """All problems so far by id."""
        return {p.id: p for p in self.problems}

    def look_at_problems_again(self) -> None:
        """Forget which problems there are: more have been proposed."""
        for name in ("proposed_problems", "problems", "problem_by_id"):
            self.__dict__.pop(name, None)

    def split(self, split: Split, *, with_ood: bool = False) -> list[Problem]:
        """The problems of a split; `with_ood` adds the out-of-distribution sets."""
        return [p for p in self.problems if (p.split == split and not p.ood) or (with_ood and p.ood)]

    def has_test(self) -> bool:
        """Whether a test split was kept."""
        return bool(self.split(Split.TEST))

    def _scope(self, phase: str, index: int | None = None, alpha: float | None = None) -> Scope:
        return Scope(cast("Run", self), phase, index, alpha)  # only Run inherits from this class

    def round(self, index: int) -> Scope:
        """The scope of a round."""
        return self._scope("round", index)

    def mixture(self, index: int, alpha: float) -> Scope:
        """The scope in which a round's candidate is tried, mixed with the champion."""
        return self._scope("round", index, alpha)

    def evaluation_of(self, generation: Generation) -> Scope:
        """The scope in which a generation was evaluated."""
        if generation.index == 0:
            return self.baseline()
        return self._scope("round", generation.index - 1, generation.alpha)

    def baseline(self) -> Scope:
        """The scope in which the base is checked and evaluated."""
        return self._scope("base")

    def finale(self) -> Scope:
        """The scope in which base and champion meet the test split."""
        return self._scope("final")

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
            measured = store.read_json(self._taken(scope).folder / "metrics.json") if "evaluate" in entries else None
            verified, kept = entries["verify"].info, entries.get("filter")
            records.append(
                RoundRecord(
                    index=scope.round or 0,
                    sampled=verified["samples"],
                    correct=verified["correct"],
                    examples=kept.info["examples"] if kept else None,
                    accepted=gate["accepted"] if gate else None,
                    pass_1=measured["dev"]["pass_at"].get("1") if measured else None,
                    failed=_failed(gate) if gate else (),
                )
            )
        return records

    def stop_reason(self) -> str | None:
        """Why the run should not go on, in words, or None; the cap on rounds is not among the reasons."""
        measured = _metrics(self.baseline())
        base = measured["dev"]["pass_at"].get("1") if measured else None
        train = self.recipe.train
        least = 0 if train.objective == "grpo" else train.min_examples  # it has learnt by then, and from no examples
        return stop_reason(self.recipe.stop, least, self.history(), base)

    def rejected_before(self, round_index: int) -> list[RoundRecord]:
        """The rejected rounds in a row that a round follows, oldest first."""
        return rejected_in_a_row([r for r in self.history() if r.index < round_index])

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
            gate = store.read_json(scope.folder / "gate.json") if "gate" in scope.manifest.entries() else None
            status = "candidate" if gate is None else "accepted" if gate["accepted"] else "rejected"
            taken = self._taken(scope)
            path = (taken.folder / "model").relative_to(self.directory).as_posix()
            lineage.append(
                Generation(scope.generation, path, entry.info["parent"], status, _metrics(taken), taken.alpha)
            )
        return lineage

    def _taken(self, scope: Scope) -> Scope:
        """Where a round's candidate lies: in the round's own folder, or in that of the mixture that took its place."""
        if "gate" not in scope.manifest.entries():
            return scope
        repair = store.read_json(scope.folder / "gate.json").get("repair") or {}
        alpha = repair.get("taken")
        return scope if alpha is None else self.mixture(scope.generation - 1, alpha)

    def generation(self, index: int) -> Generation:
        """A generation by its index."""
        return next(g for g in self.generations() if g.index == index)

    def champion(self) -> Generation:
        """The last generation that the gate accepted, or the base."""
        return [g for g in self.generations() if g.status in ("base", "accepted")][-1]

    def starting_generation(self, round_index: int) -> Generation:
        """The generation that a round trains from, by `train.start_from`."""
        lineage = [g for g in self.generations() if g.index <= round_index]
        match self.round(round_index).recipe.train.start_from:
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
            path = models.resolve_base(self.recipe.model, toy_options=self.recipe.policy.toy)
            if models.model_digest(path) != self.facts["base"]["digest"]:
                raise ModelError(
                    f"model.base = {self.recipe.model.base!r} is no longer the model that {self.directory} was started "
                    f"with ({self.facts['base']['digest'][:12]}…); put that one back or start a new run"
                )
        return path

    def model_digest(self, generation: Generation) -> str:
        """The digest of a generation's weights, as it was recorded when they were made."""
        if generation.index == 0:
            return str(self.facts["base"]["digest"])
        entries = self.evaluation_of(generation).manifest.entries()
        return str(entries["train" if generation.alpha is None else "interpolate"].info["digest"])

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


def _metrics(scope: Scope) -> dict[str, Any]:
    return store.read_json(scope.folder / "metrics.json") if "evaluate" in scope.manifest.entries() else {}


def _of(infos: Mapping[str, Mapping[str, Any]], stage: str, field: str) -> Any:
    return infos[stage][field] if stage in infos else None


def _failed(gate: Mapping[str, Any]) -> tuple[str, ...]:
    """The lines of a gate that a candidate failed, each once."""
    return tuple(dict.fromkeys(c["line"] for c in gate["checks"] if c["passed"] is False and "line" in c))
