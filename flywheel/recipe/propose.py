"""Problems that come up as a run goes on: by a schedule, or written by the policy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from flywheel.recipe.sampling import Nucleus, Temperature
from flywheel.recipe.section import Count, Section, Share


class WriterOptions(Section):
    """How the policy is asked for problems, and which of them are of no use whatever they ask."""

    instruction: str = "Write a new problem."
    """The user turn that asks for one problem: say here what it is to be about."""
    shots: Annotated[int, Field(ge=0, le=64)] = 4
    """Train problems that the run began with, shown as earlier answers to the instruction, others each time."""
    completions: Count | None = None
    """How many it writes for a round; None takes twice `propose.count`."""
    temperature: Temperature = 1.0
    """The temperature at which it writes."""
    top_p: Nucleus = 1.0
    """Nucleus sampling, as for `sampling`."""
    max_tokens: Count = 128
    """Longest completion; one that is cut off is refused."""
    longest: Count = 100
    """Words that a problem may have."""
    similar: Share = 0.7
    """A problem is refused whose ROUGE-L with an earlier train problem, or with another of the round, is above this;
    words that most of them have do not count. 1.0 refuses equal ones alone."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> WriterOptions:
        if not self.instruction.strip():
            raise ValueError("instruction is empty; say what is to be written")
        return self


class ProposeSection(Section):
    """New train problems before each round, beside those that the run began with."""

    kind: Literal["schedule", "model"] | None = None
    """`schedule` asks the generator of `[problems]` for problems that get harder by round. With `model` the policy
    writes them; they have no reference answer. None proposes nothing."""
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
    writer: WriterOptions = WriterOptions()
    """For `model`: how the policy writes."""
