"""Controls: run a recipe and its arms, and compare what they come to on the test split, problem by problem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel import store
from flywheel.arms import Arm, Reference
from flywheel.errors import RunError
from flywheel.loop import spin
from flywheel.measures.passk import counts_in, paired_differences
from flywheel.progress import Reporter
from flywheel.recipe import Recipe
from flywheel.run import Run
from flywheel.share import shared_stages, sharing

RECIPE = "recipe"
"""What the recipe's own run is called in the table."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the runs lie: the recipe's own, and a folder for the arms'."""

    own: Path
    arms: Path


def compare(
    recipe: Recipe, places: Places, arms: Callable[[Recipe, Reference], list[Arm]], reporter: Reporter
) -> dict[str, Any]:
    """Run the recipe and the arms that `arms` makes of it to their ends, and return the comparison.

    Everything goes on from where it stands on disk: runs that have ended are only read. Arms take each stage's
    result from the recipe's own run, or from an earlier arm, where its key is the same. The comparison is
    JSON-shaped; `table` has one dict a run (see `compared`), `notes` says what was shared and what was not.

    Raises RunError where the recipe has no test split or its own run trained nothing, and what the loop raises.
    """
    if not recipe.problems.test:
        raise RunError("arms are compared on the test split, and problems.test is 0; set it")
    own = _finished(recipe, places.own, [], RECIPE, "the recipe itself", reporter)
    chosen = arms(own.recipe, reference_of(own))
    runs = [own]
    for arm in chosen:
        runs.append(_finished(arm.recipe, places.arms / arm.name, runs, arm.name, arm.what, reporter))
    rows = [compared(RECIPE, "the recipe itself", own, own)]
    rows += [compared(arm.name, arm.what, run, own) for arm, run in zip(chosen, runs[1:], strict=True)]
    return {
        "recipe": recipe.name,
        "k": recipe.evaluate.samples,
        "n_problems": _on_test(own)["base"]["n_problems"],
        "confidence": recipe.evaluate.confidence,
        "settings": {arm.name: arm.settings for arm in chosen},
        "table": rows,
        "notes": [sharing_in_words(row) for row in rows[1:]],
    }


def reference_of(run: Run) -> Reference:
    """The rounds that a run decided and the examples it kept in each. Raises RunError if it decided none."""
    decided = [r for r in run.history() if r.accepted is not None]
    if not decided:
        raise RunError(
            f"there is nothing to compare arms with: {run.directory} ended with no candidate ({run.ended()})"
        )
    return Reference(rounds=len(decided), examples=[r.examples or 0 for r in decided])


def _finished(recipe: Recipe, directory: Path, donors: Sequence[Run], name: str, what: str, reporter: Reporter) -> Run:
    """A run brought to its end, taking what it can from `donors`."""
    reporter.message(f"{name}: {what}")
    with Run.open(recipe, directory, reporter=reporter) as run:
        spin(run, do=sharing(donors))
    return Run.load(directory)


def compared(name: str, what: str, run: Run, own: Run) -> dict[str, Any]:
    """What a run came to, beside the base and the champion of the recipe's own run, on the same test problems.

    `pass_at`, `against_base` and `against_recipe` are keyed by k as text; a difference has value, low, high and
    n_problems, from a bootstrap paired by problem. `rows` are those trained on over all rounds, `tokens` those
    sampled in rounds, `seconds` the time of the rounds' stages, whoever did the work; base evaluation and
    finale, alike for all, are left out.
    """
    entries = [scope.manifest.entries() for scope in run.rounds()]
    test = _on_test(run)
    mine, theirs = counts_in(test["champion"]), counts_in(_on_test(own)["champion"])
    return {
        "name": name,
        "what": what,
        "directory": str(run.directory),
        "rounds": sum("gate" in e for e in entries),
        "accepted": sum(g.status == "accepted" for g in run.generations()),
        "champion": run.champion().index,
        "rows": sum(e["train"].info["rows"] for e in entries if "train" in e),
        "tokens": sum(e["sample"].info["tokens"] for e in entries if "sample" in e),
        "seconds": round(sum(entry.seconds for e in entries for entry in e.values()), 1),
        "pass_at": test["champion"]["pass_at"],
        "against_base": test["difference"],
        "against_recipe": paired_differences(mine, theirs, run.recipe.evaluate, seed=run.recipe.seed),
        "shared": shared_stages(run),
    }


def _on_test(run: Run) -> dict[str, Any]:
    """Base, champion and their difference on the test split."""
    test: dict[str, Any] = store.read_json(run.finale().folder / "metrics.json")["test"]
    return test


def sharing_in_words(row: dict[str, Any]) -> str:
    """One line on what an arm took from the other runs, and where it began to work by itself."""
    shared = row["shared"]
    if not shared:
        return f"{row['name']}: shares nothing; its base evaluation and samples are its own (their keys differ)"
    if "round 0 sample" in shared:
        return f"{row['name']}: shares {', '.join(shared)}"
    return f"{row['name']}: shares {', '.join(shared)}; its round-0 samples are its own (their key differs)"
