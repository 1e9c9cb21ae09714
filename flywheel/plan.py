"""Plan a round: which problems are asked, how often, how hot, in which words, and by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from flywheel.adjust import adjust, applied
from flywheel.fingerprint import rng
from flywheel.prompts import PLAIN, Shot, conversation, few_shot_blocks
from flywheel.recipe import FilterSection, Recipe, SamplerSection
from flywheel.standing import MASTERED, UNSOLVED
from flywheel.stopping import RoundRecord
from flywheel.types import Origin, Problem

__all__ = [
    "Budget",
    "Correction",
    "Hints",
    "Plan",
    "Source",
    "budget_of",
    "conversation",
    "plan_evaluation",
    "plan_round",
    "plan_sweep",
]


@dataclass(frozen=True, slots=True)
class Source:
    """Who answers: a generation of the run, or the other model of `sampling.extra[extra]`.

    `k` is how many completions of a problem it gives under a fixed budget.
    """

    k: int
    origin: str = Origin.POLICY
    generation: int = -1
    extra: int = -1
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """`sampling.budget` with its defaults worked out; see there."""

    first: int
    step: int
    count: str
    enough: int
    target: str
    most: int
    most_unsolved: int
    probe: int | None


@dataclass(frozen=True, slots=True)
class Hints:
    """`hints` with the problems that may get one."""

    k: int
    template: str
    problems: list[str]


@dataclass(frozen=True, slots=True)
class Correction:
    """`correction`: how many wrong first attempts of a problem are asked again, and in which words."""

    k: int
    template: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sampled; a round's `plan.json` is this. `variants` are prompt templates with `{prompt}`.

    `phase` is "round", "sweep", "dev" or "test". A held-out plan measures a generation, and its `round` is
    that generation's index. `temperature` is the round's, `temperatures` what its samples take by turns.
    `budget` None asks each source of `sources` for its `k`; `standing` tells what earlier rounds came to,
    `sweep` the table a temperature was chosen from, and `reasons` why the plan is what it is, in words.
    """

    phase: str
    round: int
    generation: int
    problems: list[str]
    k: int
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    stop: list[str]
    variants: list[str]
    changes: list[dict[str, Any]] = field(default_factory=list)
    """What `flywheel.adjust` changed in the recipe for this round, and why."""
    temperatures: list[float] = field(default_factory=list)
    paraphrases: dict[str, list[str]] = field(default_factory=dict)
    shots: list[list[Shot]] = field(default_factory=list)
    shots_shown: int = 0
    sources: list[Source] = field(default_factory=list)
    budget: Budget | None = None
    hints: Hints | None = None
    correction: Correction | None = None
    standing: dict[str, str] = field(default_factory=dict)
    sweep: list[dict[str, float]] = field(default_factory=list)
    min_score: float | None = None
    """What FILTER asks of a score in this round, where the sweep decided that; None leaves it to `filter.min_score`."""
    reasons: list[str] = field(default_factory=list)

    def sample_id(self, problem_id: str, index: int) -> str:
        """Position, not chance: round 3, problem p1, fifth sample is `r003/p1/004`; others begin with d, t or s."""
        return f"{self.phase[0]}{self.round:03d}/{problem_id}/{index:03d}"

    @property
    def decided_by_verdicts(self) -> bool:
        """Whether what is asked depends on how earlier completions of the same round were judged."""
        return any(part is not None for part in (self.budget, self.hints, self.correction))

    def filtering(self, section: FilterSection) -> FilterSection:
        """What FILTER holds this round's samples to: the recipe's section, with the threshold that the sweep found."""
        return section if self.min_score is None else section.model_copy(update={"min_score": self.min_score})

    def as_json(self) -> dict[str, Any]:
        """The plan as JSON-shaped data."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Plan:
        """The plan that `as_json` gave."""
        known = dict(content)
        known["sources"] = [Source(**s) for s in known.get("sources", ())]
        for name, kind in (("budget", Budget), ("hints", Hints), ("correction", Correction)):
            known[name] = kind(**known[name]) if known.get(name) else None
        return cls(**known)


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
    few_shot = sampling.few_shot
    mastered = sum(standing.get(p) == MASTERED for p in ids)
    reasons = [why, *left_out]
    if budget and budget.probe is not None and mastered:
        reasons.append(f"{mastered} problems were always right when last asked: they begin with {budget.probe}")
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
        shots=few_shot_blocks(
            examples, count=few_shot.count, orders=few_shot.orders, position=(recipe.seed, "shots", round_index)
        )
        if few_shot.count
        else [],
        shots_shown=few_shot.count,
        sources=sources,
        budget=budget,
        correction=Correction(recipe.correction.k, recipe.correction.template) if recipe.correction.k else None,
        hints=_hints(recipe, [p for p in problems if p.id in chosen], standing),
        standing={p: standing[p] for p in ids if p in standing},
        sweep=[dict(row) for row in sweep],
        min_score=min_score,
        reasons=reasons,
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
