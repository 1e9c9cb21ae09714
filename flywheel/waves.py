"""Waves: what is asked next, as a pure function of how the completions before were judged.

A round is sampled in legs: the round's policy, each extra sampler, then second attempts or hints. A leg is sampled in
waves.
Under a fixed budget each leg is one wave. Under an adaptive one the policy goes on in waves, and a problem
leaves when it has enough. A problem's next completions follow from its own earlier ones alone, and only once
all of those are judged, so that neither the order in which verdicts arrive nor a kill can change the rows.

Large rounds are cut into two cohorts that take turns: while one is sampled, the other is judged.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flywheel.diversity import reasoning_path
from flywheel.guided import is_guided
from flywheel.plan_types import Budget, Plan, Source
from flywheel.standing import MASTERED
from flywheel.types import Origin, Outcome, PathKind, Sample, Verdict

COHORT = 512
"""Problems that a cohort has at least: a smaller wave would leave an engine's batch half empty."""


@dataclass(frozen=True, slots=True)
class Leg:
    """A part of a round in which one source answers: the plain prompt, one with a hint, or its own wrong attempt."""

    source: Source
    hinted: bool = False
    second: bool = False


@dataclass(frozen=True, slots=True)
class Wave:
    """Completions that are asked for at once: of each problem those from `first` up to, but without, `end`.

    `follows`, by problem: the indices of the first attempts that second ones follow, in their order.
    """

    leg: Leg
    asked: list[tuple[str, int, int]]
    follows: dict[str, list[int]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many completions it asks for."""
        return sum(end - first for _, first, end in self.asked)


@dataclass(slots=True)
class Tally:
    """What the completions of one problem came to. `judged` leaves out what could not be judged."""

    asked: int = 0
    judged: int = 0
    right: int = 0
    usable: int = 0
    paths: set[str] = field(default_factory=set)
    wrong: set[int] = field(default_factory=set)
    """Indices of the policy's own wrong completions that ended by themselves."""

    def found(self, count: str) -> int:
        """Distinct right paths, or right completions; neither counts those that did not end by themselves."""
        return len(self.paths) if count == "paths" else self.usable


class Ledger:
    """The tallies of a round while it is sampled. `kind_of` tells of a problem's id what its paths are."""

    def __init__(self, kind_of: Callable[[str], PathKind] = lambda problem_id: PathKind.EQUATIONS) -> None:
        self._tallies: dict[str, Tally] = defaultdict(Tally)
        self._kind_of = kind_of

    def of(self, problem_id: str) -> Tally:
        """A problem's tally so far."""
        return self._tallies[problem_id]

    def ask(self, wave: Wave) -> None:
        """Enter what a wave asks for."""
        for problem_id, first, end in wave.asked:
            self._tallies[problem_id].asked += end - first

    def enter(self, samples: Iterable[Sample], verdicts: Mapping[str, Verdict]) -> None:
        """Enter how completions were judged, each once."""
        for sample in samples:
            outcome = verdicts[sample.id].outcome
            if outcome == Outcome.ERROR:
                continue
            tally = self._tallies[sample.problem_id]
            tally.judged += 1
            own = sample.origin == Origin.POLICY and sample.finish_reason == "stop"
            if own and outcome in (Outcome.WRONG, Outcome.NO_ANSWER):
                tally.wrong.add(sample.index)
            if outcome == Outcome.CORRECT:
                tally.right += 1
                if sample.finish_reason == "stop":
                    tally.usable += 1
                    tally.paths.add(reasoning_path(sample.completion, self._kind_of(sample.problem_id)))


def legs(plan: Plan) -> list[Leg]:
    """The legs of a plan in the order in which they are sampled."""
    sources = plan.sources or [Source(plan.k, generation=plan.generation)]
    found = [Leg(source) for source in sources]
    if plan.correction:
        found.append(Leg(sources[0], second=True))
    return [*found, Leg(sources[0], hinted=True)] if plan.hints else found


def cohorts(plan: Plan) -> list[list[str]]:
    """The problems of a plan in the groups that go through its waves together: one, or two that take turns."""
    several = plan.decided_by_verdicts and len(plan.problems) >= 2 * COHORT
    return [plan.problems[0::2], plan.problems[1::2]] if several else [plan.problems]


def needs_verdicts(plan: Plan, leg: Leg, *, begun: bool) -> bool:
    """Whether a leg's next wave follows from verdicts; `begun` says that the leg has had a wave."""
    if leg.hinted or leg.second:
        return True
    return plan.budget is not None and (begun or leg.source.origin != Origin.POLICY)


def next_wave(plan: Plan, leg: Leg, problems: Sequence[str], ledger: Ledger, *, begun: bool) -> Wave | None:
    """The next wave of a leg for a cohort's `problems`, or None where the leg has nothing more to ask."""
    if begun and (plan.budget is None or leg.hinted or leg.second or leg.source.origin != Origin.POLICY):
        return None  # only an adaptive budget comes back to a problem
    asked, follows = [], {}
    for problem_id, count in _wanted(plan, leg, problems, ledger):
        if count > 0:
            tally = ledger.of(problem_id)
            asked.append((problem_id, tally.asked, tally.asked + count))
            if leg.second:
                follows[problem_id] = sorted(tally.wrong)[:count]
    return Wave(leg, asked, follows) if asked else None


def _wanted(plan: Plan, leg: Leg, problems: Sequence[str], ledger: Ledger) -> Iterator[tuple[str, int]]:
    candidates = set(plan.hints.problems) if plan.hints and leg.hinted else set()
    for problem_id in problems:
        tally = ledger.of(problem_id)
        mastered = plan.standing.get(problem_id) == MASTERED
        if leg.hinted:
            wrong = problem_id in candidates and tally.judged and not tally.right
            yield problem_id, plan.hints.k if plan.hints and wrong else 0
        elif leg.second:
            yield problem_id, min(plan.correction.k, len(tally.wrong)) if plan.correction else 0
        elif plan.budget is None:
            yield problem_id, leg.source.k
        elif leg.source.origin == Origin.POLICY:
            yield problem_id, more(plan.budget, tally, mastered=mastered)
        else:
            yield problem_id, 0 if satisfied(plan.budget, tally, mastered=mastered) else leg.source.k


def more(budget: Budget, tally: Tally, *, mastered: bool) -> int:
    """How many further completions of the policy a problem gets in the next wave; 0 ends it."""
    if not tally.asked:
        probing = mastered and budget.probe is not None
        return min(budget.probe if probing and budget.probe else budget.first, budget.most)
    if satisfied(budget, tally, mastered=mastered):
        return 0
    most = budget.most if tally.right else min(budget.most, budget.most_unsolved)
    return max(0, min(budget.step, most - tally.asked))


def satisfied(budget: Budget, tally: Tally, *, mastered: bool) -> bool:
    """Whether a problem has enough: its share of `enough`, or, mastered before, nothing wrong again."""
    if mastered and budget.probe is not None and tally.judged and tally.right == tally.judged:
        return True
    return tally.found(budget.count) >= wanted(budget, tally)


def wanted(budget: Budget, tally: Tally) -> int:
    """How much of what `budget.count` counts a problem is to have, by its share of wrong completions where asked so.

    The two strategies of difficulty-aware rejection tuning, uniform and proportional to difficulty (Tong et
    al. 2024, arXiv:2407.13690, section 3); difficulty is the share of wrong completions so far.
    """
    if budget.target == "uniform" or not tally.judged:
        return budget.enough
    return max(1, math.ceil(budget.enough * (tally.judged - tally.right) / tally.judged))


def saving(plan: Plan, samples: Sequence[Sample]) -> dict[str, int]:
    """Tokens that an adaptive budget saved against asking every problem `plan.k` times; {} under a fixed one.

    What fixed sampling would have cost is estimated problem by problem, from the mean length of the
    problem's own first attempts at the plain prompt. A negative saving is a cost.
    """
    if plan.budget is None:
        return {}
    counted: dict[str, list[int]] = defaultdict(list)
    for sample in samples:
        if not is_guided(sample):
            counted[sample.problem_id].append(sample.tokens)
    fixed = round(sum(plan.k * sum(tokens) / len(tokens) for tokens in counted.values()))
    spent = sum(sum(tokens) for tokens in counted.values())
    return {"fixed_k_tokens": fixed, "tokens_saved": fixed - spent}
