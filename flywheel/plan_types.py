"""What `plan.json` holds: which problems are asked, how often, how hot, in which words, and by whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flywheel.prompts import Shot
from flywheel.recipe import FilterSection
from flywheel.types import Origin


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
