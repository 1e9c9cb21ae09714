"""Propose: the problems that a round adds to a run, and which of those on offer it may not have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flywheel.arithmetic import stated_expression
from flywheel.errors import PluginError, ProblemError, RecipeError
from flywheel.fingerprint import derive_seed
from flywheel.measures.contamination import HeldOut
from flywheel.measures.rouge import Alike
from flywheel.near_copies import near_copies_of, words
from flywheel.problems import generated_problems
from flywheel.recipe import ProblemSource, ProposeSection, Recipe
from flywheel.types import Outcome, Problem, Split, Verdict
from flywheel.writing import EMPTY, TOO_LONG

SPARE = 50
"""Problems that a generator is asked for beyond twice as many as are wanted: some are known already."""
SHOWN = 20
"""Refusals that `propose.json` shows."""

HELD_OUT, KNOWN, SIMILAR = "held_out", "known", "similar"
REASONS = {
    EMPTY: "no words",
    TOO_LONG: "cut off, or of more words than propose.writer.longest",
    HELD_OUT: "a near-copy of a dev, test or out-of-distribution problem, or carries the text of one",
    KNOWN: "asked before, or proposed twice",
    SIMILAR: "too alike to one that was asked or proposed (propose.writer.similar)",
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


def scheduled_problems(recipe: Recipe, round_index: int, value: int, *, wanted: int | None = None) -> list[Problem]:
    """What the generator of `[problems]` offers for a round in which the rising parameter has `value`.

    Drawn by the run's seed and the round, `wanted` at most: twice `propose.count` and some where it is None. Raises
    ProblemError, or PluginError, where the generator does not take the parameters.
    """
    section = recipe.propose
    assert section.parameter is not None
    given = {name: getattr(recipe.problems, name) for name in ProblemSource.model_fields}
    given["parameters"] = {**recipe.problems.parameters, **section.parameters, section.parameter: value}
    given["seed"] = derive_seed(recipe.seed, "propose", round_index) % 2**31  # some generators take no larger one
    given["shuffle"], given["count"] = False, wanted or 2 * section.count + SPARE
    offered = generated_problems(ProblemSource.model_validate(given))
    return [replace(p, meta={**p.meta, section.parameter: value}) for p in offered]


def check_schedule(recipe: Recipe, problems: Sequence[Problem]) -> None:
    """Raise where the schedule of a recipe could not begin, or not end: before anything costly, not in the middle.

    ProblemError where the generator does not take the first value, or that of the last round, which `mastered` need not
    come to; RecipeError where `mastered` has no dev problem to go by.
    """
    section = recipe.propose
    if section.kind != "schedule" or section.parameter is None:
        return
    scheduled_problems(recipe, 0, section.start, wanted=1)
    last = recipe.stop.max_rounds - 1
    if section.advance == "step" and (value := scheduled_value(section, last)) != section.start:
        try:
            scheduled_problems(recipe, last, value, wanted=1)
        except (ProblemError, PluginError) as error:
            raise type(error)(
                f"propose.start = {section.start} with propose.step = {section.step} comes to {section.parameter} = "
                f"{value} by the last round, and stop.max_rounds = {last + 1}; lower one of them: {error}"
            ) from None
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
    protected as they are at the split (near-copies) and in the filter (carried text). What a policy wrote is compared
    more closely: the same sum in other words is no new problem, nor is one whose words are too alike. Ids name the
    round, and `verify.verifier` judges them all.
    """
    held_out = _HeldOut(offered, frozen, recipe)
    known = _Known(offered, asked, recipe)
    kept: list[Problem] = []
    refused: list[tuple[str, Problem]] = []
    for place, problem in enumerate(offered):
        if len(kept) == recipe.propose.count:
            break
        if reason := HELD_OUT if held_out.has(place, problem) else known.reason(problem):
            refused.append((reason, problem))
            continue
        known.add(problem)
        meta = {**problem.meta, "proposed": round_index}
        named = f"proposed-{round_index:03d}-{len(kept):05d}"
        kept.append(replace(problem, id=named, verifier="", split=Split.TRAIN.value, meta=meta))
    return Selection(kept, refused)


class _HeldOut:
    """What is held out, and which problems on offer come too near to it."""

    def __init__(self, offered: Sequence[Problem], frozen: Sequence[Problem], recipe: Recipe) -> None:
        section, written = recipe.problems, recipe.propose.kind == "model"
        kept_back = [p for p in frozen if p.split != Split.TRAIN or p.ood]
        self._carried = HeldOut(
            frozen, share=recipe.filter.contamination_share, template_share=section.template_share
        ).carried
        self._sums = {s for p in kept_back if written and (s := stated_expression(p.prompt))}
        self._copies = near_copies_of(
            [asked_text(p) for p in offered],
            [asked_text(p) for p in kept_back],
            share=section.near_copy,
            n=section.near_copy_ngram,
            template_share=section.template_share,
            # A policy that writes the same again and again must not make a template of what it has copied.
            known=[asked_text(p) for p in frozen] if written else None,
        )

    def has(self, place: int, problem: Problem) -> bool:
        """Whether the problem at a place of what is on offer is one that is held out, or carries its text."""
        carried = self._copies[place] or self._carried(problem, "") is not None
        return carried or bool(self._sums and stated_expression(problem.prompt) in self._sums)


class _Known:
    """What was asked before, and what of this round's offer is taken already."""

    def __init__(self, offered: Sequence[Problem], asked: Sequence[Problem], recipe: Recipe) -> None:
        self._words: set[tuple[str, ...]] = set()
        self._sums: set[str] | None = None
        self._alike: Alike | None = None
        if recipe.propose.kind == "model":
            self._sums = set()
            texts = [asked_text(p) for p in (*asked, *offered)]
            self._alike = Alike(texts, share=recipe.propose.writer.similar)
        for problem in asked:
            self.add(problem)

    def reason(self, problem: Problem) -> str | None:
        """`KNOWN`, `SIMILAR`, or None for a new problem."""
        if _words(problem) in self._words or (self._sums and stated_expression(problem.prompt) in self._sums):
            return KNOWN
        return SIMILAR if self._alike and self._alike.has_one_like(asked_text(problem)) else None

    def add(self, problem: Problem) -> None:
        """Know this one from now on."""
        self._words.add(_words(problem))
        if self._alike is not None and self._sums is not None:
            self._alike.add(asked_text(problem))
            self._sums |= {s for s in [stated_expression(problem.prompt)] if s}


def asked_text(problem: Problem) -> str:
    """The words that ask a problem, all turns of its conversation included."""
    if problem.messages is None:
        return problem.prompt
    return "\n".join(m["content"] for m in problem.messages)


def _words(problem: Problem) -> tuple[str, ...]:
    """What two problems have in common that ask the same, but for case and punctuation."""
    text = asked_text(problem)
    return tuple(words(text)) or (text,)
