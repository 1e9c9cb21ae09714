"""Plan a round: which problems are asked, how often, how hot, in which words, and by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flywheel.adjust import adjust, applied
from flywheel.fingerprint import rng
from flywheel.plan_types import Budget, Correction, Hints, Plan, Source
from flywheel.prompts import PLAIN, Shot, conversation, few_shot_blocks
from flywheel.recipe import Recipe, SamplerSection
from flywheel.standing import MASTERED, UNSOLVED
from flywheel.stopping import RoundRecord
from flywheel.types import Origin, Problem

__all__ = ["budget_of", "conversation", "plan_evaluation", "plan_round", "plan_sweep"]


def plan_round(
    recipe: Recipe,
    round_index: int,
    generation: int,
    problems: Sequence[Problem],
    *,
    lineage: Sequence[int] = (),
    standing: Mapping[str, str] | None = None,
    sweep: Sequence[Mapping[str, float]] = (),
    paraphrases: Mapping[str, list[str]] | None = None,
    examples: Sequence[Shot] = (),
    rejected: Sequence[RoundRecord] = (),
    base_rows: bool = True,
) -> Plan:
    """The plan of a round that samples from `generation`, changed where the rounds before it were `rejected`.

    Train problems come in an order drawn from the run's seed and the round, so that a round with fewer
    than all of them sees others than the last one did. `lineage` are the base and the accepted generations
    so far, the current one last; `standing` is that of `flywheel.standing`, `sweep` the table of `flywheel.sweep`,
    `examples` what few-shot blocks are drawn from.
    """
    changes = adjust(recipe, rejected, base_rows=base_rows)
    recipe = applied(recipe, changes)
    sampling = recipe.sampling
    standing = standing or {}
    ids = [p.id for p in problems]
    rng(recipe.seed, "plan", round_index).shuffle(ids)
    ids = ids[: sampling.problems]
    chosen = set(ids)
    temperature, min_score, why = _swept(recipe, round_index, sweep)
    sources, left_out = _sources(recipe, generation, lineage)
    budget = budget_of(recipe)
    return Plan(
        phase="round",
        round=round_index,
        generation=generation,
        problems=ids,
        k=sampling.k,
        temperature=temperature,
        top_p=_of_round(sampling.top_p, round_index),
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop),
        variants=list(sampling.variants),
        changes=changes,
        temperatures=_spread(temperature, sampling.spread),
        paraphrases={p: texts for p, texts in (paraphrases or {}).items() if p in chosen},
        shots=_shots(recipe, round_index, examples),
        shots_shown=sampling.few_shot.count,
        sources=sources,
        budget=budget,
        correction=Correction(recipe.correction.k, recipe.correction.template) if recipe.correction.k else None,
        hints=_hints(recipe, [p for p in problems if p.id in chosen], standing),
        standing={p: standing[p] for p in ids if p in standing},
        sweep=[dict(row) for row in sweep],
        min_score=min_score,
        reasons=[why, *left_out, *_probed(budget, ids, standing)],
    )


def plan_evaluation(recipe: Recipe, phase: str, generation: int, problems: Sequence[Problem]) -> Plan:
    """The plan that measures a generation on held-out problems, always with the plain prompt.

    `phase` is "dev" (out-of-distribution sets go with it) or "test".
    """
    section = recipe.evaluate
    return Plan(
        phase=phase,
        round=generation,
        generation=generation,
        problems=[p.id for p in problems],
        k=section.samples,
        temperature=section.temperature,
        top_p=section.top_p,
        top_k=0,
        max_tokens=recipe.sampling.max_tokens,
        stop=list(recipe.sampling.stop),
        variants=[PLAIN],
    )


def plan_sweep(recipe: Recipe, round_index: int, generation: int, problems: Sequence[Problem]) -> Plan:
    """The plan that tries the temperatures of `sampling.sweep` on a few of `problems`, with the plain prompt."""
    sampling, sweep = recipe.sampling, recipe.sampling.sweep
    chosen = rng(recipe.seed, "sweep", round_index).sample([p.id for p in problems], min(sweep.problems, len(problems)))
    return Plan(
        phase="sweep",
        round=round_index,
        generation=generation,
        problems=chosen,
        k=sweep.samples * len(sweep.temperatures),
        temperature=sweep.temperatures[0],
        top_p=_of_round(sampling.top_p, round_index),
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop),
        variants=[PLAIN],
        temperatures=list(sweep.temperatures),
    )


def _of_round(values: float | Sequence[float], round_index: int) -> float:
    """The entry of a schedule that a round has; the last one holds for all further rounds."""
    return values[min(round_index, len(values) - 1)] if isinstance(values, Sequence) else values


def _swept(recipe: Recipe, round_index: int, sweep: Sequence[Mapping[str, float]]) -> tuple[float, float | None, str]:
    """The round's temperature, the threshold that the sweep chose for it if it tried any, and why."""
    best = max(sweep, key=lambda row: row["balance"], default=None)  # the first of equals: the grid's order decides
    if best is None or best["balance"] == 0.0:
        temperature = _of_round(recipe.sampling.temperatures, round_index)
        why = "nothing right at any temperature of the sweep, so " if sweep else ""
        return temperature, None, f"temperature {temperature:g}: {why}sampling.temperatures for round {round_index}"
    temperature, min_score = best["temperature"], None
    chosen = f"temperature {temperature:g}"
    if recipe.sampling.sweep.min_scores:
        min_score = best["min_score"]
        chosen += f" and scores from {min_score:g}"
    return temperature, min_score, f"{chosen}: balance score {best['balance']:.3f}, the highest of {len(sweep)} tried"


def _shots(recipe: Recipe, round_index: int, examples: Sequence[Shot]) -> list[list[Shot]]:
    section = recipe.sampling.few_shot
    if not section.count:
        return []
    position = (recipe.seed, "shots", round_index)
    return few_shot_blocks(examples, count=section.count, orders=section.orders, position=position)


def _probed(budget: Budget | None, ids: Sequence[str], standing: Mapping[str, str]) -> list[str]:
    """That a budget begins with less where earlier rounds have left nothing to learn, if it does."""
    mastered = sum(standing.get(p) == MASTERED for p in ids)
    if budget is None or budget.probe is None or not mastered:
        return []
    return [f"{mastered} problems were always right when last asked: they begin with {budget.probe}"]


def _spread(temperature: float, spread: float) -> list[float]:
    return [temperature, temperature + spread, max(0.0, temperature - spread)] if spread else [temperature]


def _sources(recipe: Recipe, generation: int, lineage: Sequence[int]) -> tuple[list[Source], list[str]]:
    """The policy first, then the extra samplers that this round has; and why others are left out."""
    sampling = recipe.sampling
    others, reasons = [], []
    for number, extra in enumerate(sampling.extra):
        k = sampling.share_of(extra)
        if extra.model is not None:
            others.append(Source(k, Origin.TEACHER, extra=number, model=extra.model))
            continue
        older = _older(extra, [g for g in lineage if g != generation])
        if older is None:
            reasons.append(
                f"extra sampler generation {extra.generation} is left out: there is no such older generation"
            )
        else:
            others.append(Source(k, Origin.OLDER_GENERATION, generation=older))
    own = sampling.k - sum(s.k for s in others)
    return [Source(own, generation=generation), *others], reasons


def _older(extra: SamplerSection, older: Sequence[int]) -> int | None:
    wanted = extra.generation
    if wanted is None or wanted >= 0:
        return wanted if wanted in older else None
    return older[wanted] if -wanted <= len(older) else None


def budget_of(recipe: Recipe) -> Budget | None:
    """The recipe's adaptive budget with its defaults worked out, None where it is fixed."""
    section = recipe.sampling.budget
    if section.mode == "fixed":
        return None
    most = section.most or recipe.sampling.k
    return Budget(
        first=min(section.first, most),
        step=section.step,
        count=section.count,
        enough=section.enough or recipe.filter.cap,
        target=section.target,
        most=most,
        most_unsolved=section.most_unsolved or (most + 1) // 2,
        probe=section.probe,
    )


def _hints(recipe: Recipe, problems: Sequence[Problem], standing: Mapping[str, str]) -> Hints | None:
    section = recipe.hints
    if not section.k:
        return None
    needs_solution = "{solution}" in section.template
    candidates = [
        p.id
        for p in problems
        if (p.solution or not needs_solution)
        and (section.problems == "wrong" or standing.get(p.id, UNSOLVED) == UNSOLVED)
    ]
    return Hints(section.k, section.template, candidates)
