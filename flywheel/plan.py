"""Plan a round: which problems are asked, how often, how hot, and in which words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from flywheel.adjust import adjust, applied
from flywheel.fingerprint import rng
from flywheel.recipe import Recipe
from flywheel.stopping import RoundRecord
from flywheel.types import Message, Problem


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sampled; a round's `plan.json` is this. `variants` are prompt templates with `{prompt}`.

    `phase` is "round", "dev" or "test". A held-out plan measures a generation, and its `round` is that
    generation's index.
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

    def sample_id(self, problem_id: str, index: int) -> str:
        """Position, not chance: round 3, problem p1, fifth sample is `r003/p1/004`; held-out ones begin with d or t."""
        return f"{self.phase[0]}{self.round:03d}/{problem_id}/{index:03d}"

    def as_json(self) -> dict[str, Any]:
        """The plan as JSON-shaped data."""
        return asdict(self)


def plan_round(
    recipe: Recipe,
    round_index: int,
    generation: int,
    problems: Sequence[Problem],
    rejected: Sequence[RoundRecord] = (),
) -> Plan:
    """The plan of a round that samples from `generation`, changed where the rounds before it were rejected.

    Train problems come in an order drawn from the run's seed and the round, so that a round with fewer
    than all of them sees others than the last one did.
    """
    changes = adjust(recipe, rejected)
    sampling = applied(recipe, changes).sampling
    ids = [p.id for p in problems]
    rng(recipe.seed, "plan", round_index).shuffle(ids)
    temperatures = sampling.temperatures
    return Plan(
        phase="round",
        round=round_index,
        generation=generation,
        problems=ids[: sampling.problems],
        k=sampling.k,
        temperature=temperatures[min(round_index, len(temperatures) - 1)],
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop),
        variants=list(sampling.variants),
        changes=changes,
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
        variants=["{prompt}"],
    )


def conversation(problem: Problem, system: str | None, variant: str = "{prompt}") -> list[Message]:
    """The messages that ask a problem: its own ones, or a user turn, behind the recipe's system turn.

    `variant` rewords the last user turn. A problem that brings a system turn of its own keeps it.
    """
    messages: list[Message] = [{"role": m["role"], "content": m["content"]} for m in problem.messages or ()]
    if not messages:
        messages = [{"role": "user", "content": problem.prompt}]
    last = messages[-1]
    messages[-1] = {"role": last["role"], "content": variant.replace("{prompt}", last["content"])}
    if system is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return messages
