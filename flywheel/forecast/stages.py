"""What a round trains on, stage by stage: rows, optimiser steps and tokens.

It follows `flywheel.mix` (a training set), `flywheel.pairs`, `flywheel.lessons` and the trainers, with numbers in place
of rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flywheel.forecast.amounts import ZERO, Amount, Assumptions
from flywheel.mix import rounds_kept
from flywheel.models import CHARACTERS
from flywheel.recipe import MixSection, Recipe, TrainingStage, TrainSection
from flywheel.sums import Style, write
from flywheel.training.order import steps_in


@dataclass(frozen=True, slots=True)
class Stage:
    """One training of a round.

    `rows` are what it learns from: examples (`sft`), pairs (`dpo`), lessons (`privileged`), its own completions
    (`grpo`), sums (`scratch`, the base of characters). `trained` are the tokens of all passes that gradients are worked
    out for, `read` those that are read without any: by DPO's and GRPO's reference, or by the teacher of `privileged`.
    """

    name: str
    rows: Amount
    steps: Amount
    trained: Amount
    read: Amount = ZERO


@dataclass(frozen=True, slots=True)
class Found:
    """What one round's completions give to learn from.

    `examples` are what the filter keeps, `unguided` those of them that answer the plain prompt, `solutions` the train
    problems by then, which may each have a human solution.
    """

    examples: Amount
    unguided: Amount
    pairs: Amount
    lessons: Amount
    solutions: int


def stages_of(recipe: Recipe, found: Sequence[Found], given: Assumptions) -> list[Stage]:
    """The trainings of the round that stands last in `found`, no earlier one having been rejected.

    A round with fewer examples than `train.min_examples` is not trained.
    """
    least, last = recipe.train.min_examples, found[-1]
    rows = {
        "sft": training_set(recipe, found),
        "dpo": sum((found[i].pairs for i in rounds_kept(recipe, len(found) - 1)), ZERO),
        "privileged": last.lessons,  # of the round's own samples, whatever data.keep says
    }
    learns = Amount(int(last.examples.most >= least), int(last.examples.expected >= least))
    return [_stage(recipe, name, rows[name].times(learns.most, learns.expected), given) for name in recipe.train.stages]


def _stage(recipe: Recipe, name: TrainingStage, rows: Amount, given: Assumptions) -> Stage:
    section = recipe.train.of_stage(name)
    steps, seen = rows.each(lambda n: steps_of(n, section)), rows.each(lambda n: rows_seen(n, section))
    longest, usual = sequence(recipe, given)
    longest, usual = min(longest, section.max_length), min(usual, section.max_length)
    if name == "dpo":  # two texts a pair; the reference reads each pair once, before the first step
        return Stage(name, rows, steps, seen.times(2 * longest, 2 * usual), rows.times(2 * longest, 2 * usual))
    tokens = seen.times(longest, usual)
    return Stage(name, rows, steps, tokens, tokens if name == "privileged" else ZERO)


def online_stage(recipe: Recipe, completions: Amount, given: Assumptions) -> Stage:
    """GRPO's training on the completions that it draws itself, whole steps of them."""
    options, tokens = recipe.train.grpo, completions.times(*sequence(recipe, given))
    # With several steps on the same completions, TRL reads them once more for their likelihoods before the first one.
    read = tokens.times((options.iterations > 1) + (options.beta > 0.0))
    steps = completions.each(lambda n: n // options.batch_size * options.iterations)
    return Stage("grpo", completions, steps, tokens.times(options.iterations), read)


def steps_of(rows: int, section: TrainSection) -> int:
    """Optimiser steps; the toy takes one a row."""
    if section.backend == "toy":
        return rows
    return steps_in(rows, epochs=section.epochs, batch_size=section.batch_size)


def rows_seen(rows: int, section: TrainSection) -> int:
    """How many rows all steps together have: each epoch's last step may be short."""
    if section.backend == "toy" or not rows:
        return rows
    passes, left = divmod(steps_of(rows, section), math.ceil(rows / section.batch_size))
    return passes * rows + min(rows, left * section.batch_size)


def sequence(recipe: Recipe, given: Assumptions) -> tuple[float, float]:
    """Tokens of the longest and of a usual row: prompt and completion, and the first attempt of a corrected one. The
    longest prompt is taken to have twice the tokens of the mean."""
    limit = recipe.sampling.max_tokens
    longest = limit * (2 if recipe.correction.k else 1) + 2 * given.prompt_tokens
    return longest, given.prompt_tokens + given.length * limit


# -- the training set ------------------------------------------------------------------------------


def training_set(recipe: Recipe, found: Sequence[Found]) -> Amount:
    """The rows of `flywheel.mix.training_set`, no two rounds having found the same."""
    kept, solutions = rounds_kept(recipe, len(found) - 1), found[-1].solutions
    own = sum((found[i].examples for i in kept), ZERO)
    # In round 0, and as long as its examples are learnt anyway, what the base answered is among the policy's own rows.
    first = found[0].examples if 0 in kept else ZERO
    base = ZERO if 0 in kept else found[0].unguided
    return Amount(
        mixed(recipe.mix, own.most, first.most, solutions, base.most),
        mixed(recipe.mix, own.expected, first.expected, solutions, base.expected),
    )


def mixed(mix: MixSection, own: int, first: int, solutions: int, base: int) -> int:
    """All rows beside `own` ones, of which round 0 found `first`; `solutions` human and `base` rows are at hand."""
    room = own / (1.0 - mix.added)
    added = min(round(room * mix.human), solutions) + min(round(room * mix.base), base)
    steady = first if mix.base else 0
    floor = math.ceil(mix.floor * (own - steady) / (1.0 - mix.floor) - 1e-9) - steady
    source = mix.general_source
    general = max(round(room * mix.general), mix.general_least)
    if source is not None and source.count is not None:
        general = min(general, source.count)
    return own + max(added, floor) + (general if mix.general else 0)


# -- the base of characters ------------------------------------------------------------------------


def base_stage(recipe: Recipe) -> Stage | None:
    """The training from scratch that makes `model.base = "characters"`; None for a base that is there.

    At most, no longer sums are shown than the first; expected are those of all lengths from the first step on.
    """
    made = recipe.model.characters
    if recipe.model.base != CHARACTERS:
        return None
    begun = min(2, made.digits) if made.settled else made.digits
    shown = Amount(made.batch_size * made.digits // begun, made.batch_size).times(made.steps)
    style = Style(made.layout, made.hints)

    def tokens(digits: int, left: int) -> int:
        one = write(left, left, digits, style)
        return len(one.prompt) + len(one.answer) + 1

    # Of two lengths drawn alike the longer one is shown; one sum in two has a digit more than its numbers.
    lengths = range(1, made.digits + 1)
    usual = sum((2 * n - 1) * (tokens(n, 10 ** (n - 1)) + tokens(n, 10**n - 1)) / 2 for n in lengths) / made.digits**2
    longest = tokens(made.digits, 10**made.digits - 1)
    most = made.steps * max(
        made.batch_size * longest, made.batch_size * made.digits // begun * tokens(begun, 10**begun - 1)
    )
    trained = Amount(most, round(shown.expected * usual))
    return Stage("scratch", shown, Amount(made.steps, made.steps), trained)
