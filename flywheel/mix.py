"""Mix: the training set of a round, from this round's examples, earlier ones, and rows that drift cannot touch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from flywheel.diversity import reasoning_path
from flywheel.errors import RecipeError
from flywheel.fingerprint import rng
from flywheel.plan import conversation
from flywheel.recipe import Recipe
from flywheel.types import Example, Origin, Problem


def rounds_kept(recipe: Recipe, round_index: int) -> range:
    """The rounds whose examples round `round_index` trains on, by `data.keep`."""
    data = recipe.data
    first = {"replace": round_index, "accumulate": 0, "window": max(0, round_index - data.window + 1)}[data.keep]
    return range(first, round_index + 1)


def training_set(
    recipe: Recipe, round_index: int, by_round: Mapping[int, Sequence[Example]], problems: Sequence[Problem]
) -> list[Example]:
    """The rows a round trains on, in an order drawn from the run's seed.

    `by_round` has the examples of the rounds in `rounds_kept`, and of round 0 where `mix.base` asks for
    them. A path that several rounds found is taken once, from the latest. Human and base rows are added
    until they make up their share of the whole; with fewer of them at hand, all are taken.

    Raises RecipeError where `mix.human` is set and no problem has a solution.
    """
    draw = rng(recipe.seed, "mix", round_index)
    rows: dict[tuple[str, str], Example] = {}
    for index in reversed(rounds_kept(recipe, round_index)):
        for example in by_round.get(index, ()):
            rows.setdefault((example.problem_id, reasoning_path(example.completion)), example)
    own = list(rows.values())
    mix = recipe.mix
    room = len(own) / (1.0 - mix.human - mix.base)
    added: list[Example] = []
    if mix.human:
        human = [_human(p, round_index, recipe.model.system) for p in problems if p.solution]
        if not human:
            raise RecipeError("mix.human is set but no problem has a solution; map one with problems.columns.solution")
        added += draw.sample(human, min(len(human), round(room * mix.human)))
    if mix.base:
        first = {(e.problem_id, reasoning_path(e.completion)): e for e in by_round.get(0, ())}
        base = [replace(e, origin=Origin.BASE) for path, e in first.items() if path not in rows]
        added += draw.sample(base, min(len(base), round(room * mix.base)))
    whole = own + added
    draw.shuffle(whole)
    return whole


def _human(problem: Problem, round_index: int, system: str | None) -> Example:
    return Example(
        sample_id=f"human/{problem.id}",
        problem_id=problem.id,
        round=round_index,
        messages=conversation(problem, system),
        completion=str(problem.solution),
        origin=Origin.HUMAN,
    )
