"""Mix: the training set of a round, from this round's examples, earlier ones, and rows that drift cannot touch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random

from flywheel.diversity import normalised_text, reasoning_path
from flywheel.errors import RecipeError
from flywheel.fingerprint import rng
from flywheel.guided import is_corrected, is_hinted, within_share
from flywheel.plan import conversation
from flywheel.recipe import MixSection, Recipe
from flywheel.types import Example, Origin, PathKind, Problem


def rounds_kept(recipe: Recipe, round_index: int) -> range:
    """The rounds whose examples round `round_index` trains on, by `data.keep`."""
    data = recipe.data
    first = {"replace": round_index, "accumulate": 0, "window": max(0, round_index - data.window + 1)}[data.keep]
    return range(first, round_index + 1)


def check_mix(mix: MixSection, problems: Sequence[Problem]) -> None:
    """Raise RecipeError where `mix.human` is set and no problem has a solution."""
    if mix.human and not any(p.solution for p in problems):
        raise RecipeError("mix.human is set but no problem has a solution; map one with problems.columns.solution")


def training_set(
    recipe: Recipe,
    round_index: int,
    by_round: Mapping[int, Sequence[Example]],
    problems: Sequence[Problem],
    *,
    kinds: Mapping[str, PathKind] | None = None,
    general: Sequence[Example] = (),
) -> list[Example]:
    """The rows a round trains on, in an order drawn from the run's seed.

    `by_round` has the examples of the rounds in `rounds_kept`, and of round 0 where `mix.base` asks for
    them; `kinds` says by problem id what a reasoning path is (equations where it does not say). What
    several rounds found, the same by `filter.dedup`, is taken from the latest, and rather unguided than hinted; hinted
    rows keep to
    `filter.hinted_share` of the policy's own, second attempts to `filter.corrected_share`. Human and base rows are
    added until they make up their share of the whole; with fewer of them at hand, all are taken, and repeated where
    `mix.floor` asks for more. `general` rows are drawn up to their share, or to `mix.general_least`, another draw each
    round. The weights of the policy's own rows average to 1, so that a learning rate means the same with and without.

    Raises RecipeError where `mix.human` is set and no problem has a solution, and where the floor cannot be
    met.
    """
    mix = recipe.mix
    check_mix(mix, problems)
    draw = rng(recipe.seed, "mix", round_index)
    same = _same(recipe, kinds or {})
    own = _own(recipe, round_index, by_round, same)
    room = len(own) / (1.0 - mix.added)
    added: list[Example] = []
    spare: list[Example] = []
    for rows, share in (
        (_human_rows(recipe, round_index, problems), mix.human),
        (_base_rows(own, by_round, same), mix.base),
    ):
        if share:
            drawn = draw.sample(rows, len(rows))
            count = round(room * share)
            added += drawn[:count]
            spare += drawn[count:]
    whole = own + added
    whole += _for_the_floor(own, added, spare, mix, draw)
    if mix.general:
        wanted = max(round(room * mix.general), mix.general_least)
        whole += draw.sample(general, min(len(general), wanted))
    draw.shuffle(whole)
    return whole


Same = tuple[str, str]
"""A problem's id and what makes two examples of it the same one: a reasoning path, a text, or the sample itself."""


def _same(recipe: Recipe, kinds: Mapping[str, PathKind]) -> Callable[[Example], Same]:
    """What `filter.dedup` calls the same, for examples of different rounds."""
    dedup = "none" if recipe.filter.by == "random" else recipe.filter.dedup

    def same(example: Example) -> Same:
        if dedup == "none":
            return example.problem_id, example.sample_id
        # A second attempt is behind another prompt: what it teaches is not what a first one of the same path teaches.
        turn = "second attempt: " * is_corrected(example)
        if dedup == "text":
            return example.problem_id, turn + normalised_text(example.completion)
        kind = kinds.get(example.problem_id, PathKind.EQUATIONS)
        return example.problem_id, turn + reasoning_path(example.completion, kind)

    return same


def _own(
    recipe: Recipe, round_index: int, by_round: Mapping[int, Sequence[Example]], same: Callable[[Example], Same]
) -> list[Example]:
    """The policy's rows of all rounds that are kept, latest first. What several rounds found is taken from one of them;
    what one round has twice, its filter left there."""
    rows: dict[Same, list[Example]] = {}
    for index in reversed(rounds_kept(recipe, round_index)):
        found: dict[Same, list[Example]] = {}
        for example in by_round.get(index, ()):
            found.setdefault(same(example), []).append(example)
        for which, examples in found.items():
            if all(is_hinted(e) for e in rows.get(which, ())):
                rows[which] = [e for e in examples if not is_hinted(e)] or rows.get(which) or examples
    own = within_share([e for examples in rows.values() for e in examples], recipe.filter.hinted_share)
    own = within_share(own, recipe.filter.corrected_share, is_corrected)
    mean = sum(e.weight for e in own) / len(own) if own else 1.0
    return own if mean in (0.0, 1.0) else [replace(e, weight=e.weight / mean) for e in own]


def _for_the_floor(
    own: Sequence[Example], added: Sequence[Example], spare: Sequence[Example], mix: MixSection, draw: Random
) -> list[Example]:
    """As many more human and base rows as `mix.floor` needs: spare ones, then copies, whose ids end with #2, #3, …"""
    # What the base gave in round 0 counts as base rows wherever it comes from.
    steady = [*added, *(e for e in own if mix.base and e.round == 0 and e.origin == Origin.POLICY)]
    drifting = len(own) + len(added) - len(steady)
    needed = math.ceil(mix.floor * drifting / (1.0 - mix.floor) - 1e-9) - len(steady)
    more = list(spare[: max(0, needed)])
    distinct = [*steady, *more]
    if needed + len(steady) > len(distinct) * mix.repeats:
        possible = len(distinct) * mix.repeats
        raise RecipeError(
            f"mix.floor = {mix.floor:g} asks for {len(steady) + needed} human and base rows beside {drifting} others, "
            f"and there are {len(distinct)}, so {possible} with mix.repeats = {mix.repeats}; lower mix.floor to "
            f"{math.floor(100 * possible / (possible + drifting)) / 100:g}, lower filter.cap, or give more solutions: "
            "`flywheel redo filter RUN --round N --set …`"
        )
    for times in range(2, mix.repeats + 1):
        again = draw.sample(distinct, max(0, min(len(distinct), needed - len(more))))
        more += [replace(e, sample_id=f"{e.sample_id}#{times}") for e in again]
    return more


def _human_rows(recipe: Recipe, round_index: int, problems: Sequence[Problem]) -> list[Example]:
    return [
        Example(
            sample_id=f"human/{problem.id}",
            problem_id=problem.id,
            round=round_index,
            messages=conversation(problem, recipe.model.system),
            completion=problem.solution,
            origin=Origin.HUMAN,
        )
        for problem in problems
        if problem.solution
    ]


def _base_rows(
    own: Sequence[Example], by_round: Mapping[int, Sequence[Example]], same: Callable[[Example], Same]
) -> list[Example]:
    """What the base answered rightly in round 0 and is not among the policy's rows; a teacher's answers are not it."""
    taken = {same(e) for e in own}
    first = {same(e): e for e in by_round.get(0, ()) if e.origin == Origin.POLICY}
    return [replace(e, origin=Origin.BASE, weight=1.0) for which, e in first.items() if which not in taken]
