"""Propose: the problems that a round adds to a run, and which of those on offer it may not have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flywheel.errors import RecipeError
from flywheel.fingerprint import derive_seed
from flywheel.measures.contamination import HeldOut
from flywheel.near_copies import near_copies_of, words
from flywheel.problems import generated_problems
from flywheel.recipe import ProblemSource, ProposeSection, Recipe
from flywheel.types import Outcome, Problem, Split, Verdict

SPARE = 50
"""Problems that a generator is asked for beyond twice as many as are wanted: some are known already."""
SHOWN = 20
"""Refusals that `propose.json` shows."""

HELD_OUT = "held_out"
KNOWN = "known"
REASONS = {
    HELD_OUT: "a near-copy of a dev, test or out-of-distribution problem, or carries the text of one",
    KNOWN: "asked before, or proposed twice",
}
"""Why a problem on offer is refused."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The problems a round gets, and those refused on the way with the reason of each (one of `REASONS`)."""

    problems: list[Problem]
    refused: list[tuple[str, Problem]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Counts, and the first `SHOWN` refusals."""
        counts: dict[str, int] = defaultdict(int)
        for reason, _ in self.refused:
            counts[reason] += 1
        shown = [{"reason": reason, "prompt": p.prompt} for reason, p in self.refused[:SHOWN]]
        return {"proposed": len(self.problems), "refused": dict(sorted(counts.items())), "refusals": shown}


# -- the schedule ----------------------------------------------------------------------------------


def scheduled_value(section: ProposeSection, round_index: int, accuracy: Mapping[int, float] | None = None) -> int:
    """The value that the rising parameter has in a round.

    `accuracy` is the policy's on dev problems, by their value. Under `mastered` the value is a step past the largest
    one up to which each is mastered, and `start` where the smallest is not (after the faster schedule of Lee et al.
    2025, arXiv:2502.01612, which goes on to the lengths that the model answers with at least 99 % accuracy).
    """
    if section.advance == "step":
        return section.start + section.step * round_index
    value = section.start
    for at in sorted(accuracy or {}):
        if (accuracy or {})[at] < section.mastered:
            break
        value = max(value, at + section.step)
    return value


def accuracy_by_value(parameter: str, problems: Mapping[str, Problem], verdicts: Iterable[Verdict]) -> dict[int, float]:
    """The share of right completions by the value of `parameter` in their problem's `meta`.

    Problems without the value, those of out-of-distribution sets and verdicts that are errors count nowhere.
    """
    right: dict[int, list[bool]] = defaultdict(list)
    for verdict in verdicts:
        problem = problems[verdict.problem_id]
        value = _value(problem, parameter)
        if value is not None and not problem.ood and verdict.outcome != Outcome.ERROR:
            right[value].append(verdict.outcome == Outcome.CORRECT)
    return {value: sum(r) / len(r) for value, r in sorted(right.items())}


def scheduled_problems(recipe: Recipe, round_index: int, value: int) -> list[Problem]:
    """What the generator of `[problems]` offers for a round in which the rising parameter has `value`.

    Drawn by the run's seed and the round. Raises ProblemError where the generator does not take the parameters.
    """
    section = recipe.propose
    assert section.parameter is not None
    given = {name: getattr(recipe.problems, name) for name in ProblemSource.model_fields}
    given["parameters"] = {**recipe.problems.parameters, **section.parameters, section.parameter: value}
    given["seed"] = derive_seed(recipe.seed, "propose", round_index) % 2**31  # some generators take no larger one
    given["shuffle"], given["count"] = False, 2 * section.count + SPARE
    offered = generated_problems(ProblemSource.model_validate(given))
    return [replace(p, meta={**p.meta, section.parameter: value}) for p in offered]


def check_schedule(recipe: Recipe, problems: Sequence[Problem]) -> None:
    """Raise where the schedule of a recipe could not begin: before anything costly, and not in the middle.

    ProblemError where the generator does not take the first value; RecipeError where `mastered` has no dev problem to
    go by.
    """
    section = recipe.propose
    if section.kind != "schedule" or section.parameter is None:
        return
    scheduled_problems(recipe, 0, section.start)
    dev = [p for p in problems if p.split == Split.DEV and not p.ood]
    if section.advance == "mastered" and all(_value(p, section.parameter) is None for p in dev):
        raise RecipeError(
            f"propose.advance = 'mastered' goes by dev problems that carry {section.parameter!r} in meta as an "
            "integer, and none does; take a source that gives it, or set propose.advance = 'step'"
        )


def _value(problem: Problem, parameter: str) -> int | None:
    value = problem.meta.get(parameter)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


# -- what a round may have -------------------------------------------------------------------------


def select(
    offered: Sequence[Problem], recipe: Recipe, round_index: int, *, frozen: Sequence[Problem], asked: Sequence[Problem]
) -> Selection:
    """The first `propose.count` problems on offer that are new and give nothing away.

    `frozen` are the problems that the run began with, `asked` all train problems so far. Held-out problems are
    protected as they are at the split (near-copies) and in the filter (carried text). Ids name the round, and
    `verify.verifier` judges them all.
    """
    section = recipe.problems
    held_out = HeldOut(frozen, share=recipe.filter.contamination_share, template_share=section.template_share)
    copies = near_copies_of(
        [asked_text(p) for p in offered],
        [asked_text(p) for p in frozen if p.split != Split.TRAIN or p.ood],
        share=section.near_copy,
        n=section.near_copy_ngram,
        template_share=section.template_share,
    )
    known = {_same(p) for p in asked}
    kept: list[Problem] = []
    refused: list[tuple[str, Problem]] = []
    for problem, copied in zip(offered, copies, strict=True):
        if len(kept) == recipe.propose.count:
            break
        if copied or held_out.carried(problem, ""):
            refused.append((HELD_OUT, problem))
        elif _same(problem) in known:
            refused.append((KNOWN, problem))
        else:
            known.add(_same(problem))
            meta = {**problem.meta, "proposed": round_index}
            named = f"proposed-{round_index:03d}-{len(kept):05d}"
            kept.append(replace(problem, id=named, verifier="", split=Split.TRAIN.value, meta=meta))
    return Selection(kept, refused)


def asked_text(problem: Problem) -> str:
    """The words that ask a problem, all turns of its conversation included."""
    if problem.messages is None:
        return problem.prompt
    return "\n".join(m["content"] for m in problem.messages)


def _same(problem: Problem) -> tuple[str, ...]:
    """What two problems have in common that ask the same, but for case and punctuation."""
    text = asked_text(problem)
    return tuple(words(text)) or (text,)
