"""Problems that come up as a run goes on: by a schedule, or written by the policy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from flywheel.recipe.section import Count, Section, Share


class ProposeSection(Section):
    """New train problems before each round, beside those that the run began with."""

    kind: Literal["schedule"] | None = None
    """`schedule` asks the generator of `[problems]` for problems that get harder by round; None proposes nothing."""
    ask: Literal["new", "all"] = "all"
    """`new`: a round asks only the problems that were proposed for it; `all`: the run's own and all proposed so far."""
    count: Count = 100
    """Problems a round; fewer where not so many are new and no copies of held-out ones."""
    parameter: str | None = None
    """For `schedule`: which of the generator's parameters rises; proposed problems carry it in `meta`."""
    start: int = 1
    """For `schedule`: its value in round 0."""
    step: Annotated[int, Field(ge=0)] = 1
    """For `schedule`: by how much it rises."""
    advance: Literal["step", "mastered"] = "step"
    """For `schedule`: `step` rises every round; `mastered` goes to one step past the largest value such that the policy
    is right on dev problems of that value and of all smaller ones, and waits below it. Dev problems carry the value in
    `meta`."""
    mastered: Share = 0.99
    """For `mastered`: the share of right completions on dev problems of a value that counts."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """For `schedule`: further parameters of the generator, over those of `[problems]`."""
