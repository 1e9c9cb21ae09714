"""The rounds of a run in numbers: what each asks, what its completions give, and what it trains on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flywheel.forecast.amounts import ZERO, Amount, Assumptions, Problems
from flywheel.forecast.stages import Found, Stage, base_stage, online_stage, stages_of
from flywheel.plan import budget_of
from flywheel.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Round:
    """What a round asks, and the trainings that follow from it."""

    round: int
    problems: int
    completions: Amount
    hinted: Amount
    swept: int
    tokens: Amount
    stages: list[Stage]
    held_out: int
    held_out_tokens: Amount

    @property
    def rows(self) -> Amount:
        """What all its trainings learn from: examples, pairs, lessons or completions."""
        return sum((s.rows for s in self.stages), ZERO)

    @property
    def steps(self) -> Amount:
        """Optimiser steps."""
        return sum((s.steps for s in self.stages), ZERO)

    @property
    def trained(self) -> Amount:
        """Tokens that gradients are worked out for, over all passes."""
        return sum((s.trained for s in self.stages), ZERO)

    @property
    def read(self) -> Amount:
        """Tokens that a reference or a teacher reads."""
        return sum((s.read for s in self.stages), ZERO)


@dataclass(frozen=True, slots=True)
class Forecast:
    """All rounds, with what is sampled before the first (the base on dev) and after the last (the test split), and the
    training that makes the base where the recipe has it made."""

    rounds: list[Round]
    before: Amount
    after: Amount
    held_out: int
    base: Stage | None = None

    def total(self, name: str) -> Amount:
        """The sum of a round's field over all rounds."""
        return sum((getattr(r, name) for r in self.rounds), ZERO)

    @property
    def sampled(self) -> Amount:
        """Tokens generated in all, held-out problems included."""
        return self.total("tokens") + self.total("held_out_tokens") + self.before + self.after


def forecast(recipe: Recipe, problems: Problems, given: Assumptions) -> Forecast:
    """What a recipe would sample and train on `problems` over all its rounds, no candidate being rejected."""
    section, rounds = recipe.evaluate, list[Round]()
    found: list[Found] = []
    measured = (problems.dev + problems.ood) * section.samples
    for index in range(recipe.stop.max_rounds):
        rounds.append(_round(recipe, index, problems, given, found, measured))
    finale = 2 * problems.test * section.samples
    before, after = _tokens(recipe, given, measured), _tokens(recipe, given, finale)
    held_out = measured * (1 + len(rounds)) + finale
    return Forecast(rounds, before, after, held_out, base_stage(recipe))


def _round(
    recipe: Recipe, index: int, problems: Problems, given: Assumptions, found: list[Found], measured: int
) -> Round:
    """The round `index`, after those that `found` comes from; what it finds itself is appended."""
    sampling = recipe.sampling
    asked, known = _asked(recipe, index, problems)
    first = _first_attempts(recipe, asked, given)
    wrong = (1.0 - given.right) ** first.each
    tries = min(recipe.correction.k, first.each * (1.0 - given.right))
    second = Amount(asked * min(recipe.correction.k, first.limit), round(asked * tries))
    hinted = Amount(asked * recipe.hints.k, round(asked * recipe.hints.k * wrong))
    sweep = sampling.sweep
    splits = {"dev": problems.dev, "train": _pool(recipe, index, problems)}
    swept = min(sweep.problems, splits[sweep.split]) * sweep.samples * len(sweep.temperatures)
    tokens = _tokens(recipe, given, first.all + second + hinted + Amount(swept, swept)) + _written(recipe, given)
    found.append(
        Found(
            examples=_examples(recipe, index, asked, first, second, hinted, given),
            unguided=_unguided(recipe, asked, first, given),
            pairs=_pairs(recipe, asked, first, given),
            lessons=_lessons(recipe, asked, first, given),
            solutions=known,
        )
    )
    online = recipe.train.objective == "grpo"  # learns from all completions, whatever the filter keeps
    return Round(
        round=index,
        problems=asked,
        completions=first.all + second,
        hinted=hinted,
        swept=swept,
        tokens=tokens,
        stages=[online_stage(recipe, first.all, given)] if online else stages_of(recipe, found, given),
        held_out=measured,
        held_out_tokens=_tokens(recipe, given, measured),
    )


# -- what is asked ---------------------------------------------------------------------------------


def _asked(recipe: Recipe, index: int, problems: Problems) -> tuple[int, int]:
    """The problems that a round asks, and the train problems that are known by then."""
    pool, propose = _pool(recipe, index, problems), recipe.propose
    asked = min(pool, recipe.sampling.problems or pool)
    if recipe.train.objective == "grpo":  # those that do not fill a last step are not asked
        size = recipe.train.grpo.batch_size
        asked = asked * recipe.sampling.k // size * size // recipe.sampling.k
    return asked, problems.train + (propose.count * (index + 1) if propose.kind else 0)


def _pool(recipe: Recipe, index: int, problems: Problems) -> int:
    """The train problems that a round may ask, none being refused of those that are proposed."""
    propose = recipe.propose
    if propose.kind is None:
        return problems.train
    return propose.count if propose.ask == "new" else problems.train + propose.count * (index + 1)


def _written(recipe: Recipe, given: Assumptions) -> Amount:
    """Tokens of the problems that the policy writes for a round."""
    propose = recipe.propose
    if propose.kind != "model":
        return ZERO
    written = propose.writer.completions or 2 * propose.count
    return Amount(written, written).times(propose.writer.max_tokens, propose.writer.max_tokens * given.length)


@dataclass(frozen=True, slots=True)
class First:
    """First attempts without a hint: all of a round, and a problem's (`each` as expected, `limit` at most).

    Of a problem's the policy's own are `own` and `own_limit`; other models answer the rest.
    """

    all: Amount
    each: float
    limit: int
    own: float
    own_limit: int


def _first_attempts(recipe: Recipe, asked: int, given: Assumptions) -> First:
    sampling, budget = recipe.sampling, budget_of(recipe)
    others = sum(sampling.share_of(e) for e in sampling.extra)
    if budget is None:
        # An older generation's share stays the policy's own as long as there is none.
        own_limit = sampling.k - sum(sampling.share_of(e) for e in sampling.extra if e.model is not None)
        completions = Amount(asked * sampling.k, asked * sampling.k)
        return First(completions, float(sampling.k), sampling.k, float(sampling.k - others), own_limit)
    wanted = budget.enough
    if budget.target == "difficulty":
        wanted = max(1, math.ceil(budget.enough * (1.0 - given.right)))
    tries = math.inf if given.right == 0.0 else wanted / given.right
    limit = budget.most if given.right else min(budget.most, budget.most_unsolved)
    waves = math.inf if math.isinf(tries) else max(0, math.ceil((tries - budget.first) / budget.step))
    each = float(min(limit, budget.first + waves * budget.step))
    limit = budget.most + others
    return First(Amount(asked * limit, round(asked * each)), each, limit, each, budget.most)


def _tokens(recipe: Recipe, given: Assumptions, completions: Amount | int) -> Amount:
    amount = Amount(completions, completions) if isinstance(completions, int) else completions
    longest = recipe.sampling.max_tokens
    return amount.times(longest, longest * given.length)


# -- what it gives to learn from -------------------------------------------------------------------


def _unguided(recipe: Recipe, asked: int, first: First, given: Assumptions) -> Amount:
    """First attempts without a hint that the filter keeps: of its rules `cap` is counted, and that they are right."""
    cap = recipe.filter.cap
    return Amount(asked * min(cap, first.limit), round(asked * min(cap, first.each * given.right)))


def _examples(
    recipe: Recipe, index: int, asked: int, first: First, second: Amount, hinted: Amount, given: Assumptions
) -> Amount:
    """All that the filter keeps, hinted ones and second attempts within their shares; of a control as many as it is
    told."""
    section, unguided = recipe.filter, _unguided(recipe, asked, first, given)
    if section.by != "verdict" and section.rows:
        drawn = section.rows[min(index, len(section.rows) - 1)]
        return first.all.each(lambda n: min(n, drawn))

    def right(of: Amount, k: int) -> Amount:
        """Of completions that answer another prompt, up to `k` a problem, those that are right, `cap` a problem."""
        share = min(given.right, section.cap / max(1, k))
        return Amount(min(of.most, asked * section.cap), round(of.expected * share))

    # Hinted or not, a problem's examples keep to one cap; second attempts have one of their own.
    told = _within(section.hinted_share, right(hinted, recipe.hints.k).expected, unguided.expected)
    kept = Amount(
        min(asked * section.cap, first.all.most + hinted.most),
        min(asked * section.cap, unguided.expected + told),
    )
    again = right(second, recipe.correction.k)
    return kept + Amount(
        _within(section.corrected_share, again.most, kept.most),
        _within(section.corrected_share, again.expected, kept.expected),
    )


def _within(share: float, bounded: int, others: int) -> int:
    """How many rows of a kind may stay beside `others`, as `flywheel.guided.within_share` has it."""
    return bounded if share >= 1.0 else min(bounded, math.floor(others * share / (1.0 - share) + 1e-9))


def _pairs(recipe: Recipe, asked: int, first: First, given: Assumptions) -> Amount:
    """Pairs of an example and a completion that was judged lower, each in one pair (`flywheel.pairs`)."""
    options, cap = recipe.train.dpo, recipe.filter.cap
    kept = min(cap, first.each * given.right)
    # By score another right completion can be the lower one.
    lower = first.each * (1.0 - given.right) if options.pairs == "verdict" else first.each - kept
    return Amount(
        asked * min(options.cap, cap, first.limit // 2),
        round(asked * min(options.cap, kept, lower)),
    )


def _lessons(recipe: Recipe, asked: int, first: First, given: Assumptions) -> Amount:
    """The policy's own completions that `train.privileged.samples` asks for, none being cut off."""
    options = recipe.train.privileged
    share = {"all": 1.0, "right": given.right, "wrong": 1.0 - given.right}[options.samples]
    return Amount(asked * min(options.cap, first.own_limit), round(asked * min(options.cap, first.own * share)))
