"""How a round samples."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from flywheel.recipe.section import Count, Section, knob


class SamplingSection(Section):
    """How many completions a round draws, and how."""

    k: Annotated[int, Field(ge=1, le=4096)] = 8
    """Completions a problem and round."""
    problems: Count | None = None
    """Train problems a round; None samples all of them."""
    temperatures: list[Annotated[float, Field(ge=0.0, le=5.0)]] = Field([1.0], min_length=1)
    """The temperature of round 0, 1, …; the last one holds for all further rounds."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Nucleus sampling: the smallest set of tokens with this much probability."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Only the k likeliest tokens; 0 takes all."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Longest completion, in tokens."""
    stop: list[str] = Field(default_factory=list)
    """Strings that end a completion, beside the model's own end token."""
    variants: list[str] = Field(["{prompt}"], min_length=1)
    """Prompt templates with `{prompt}` in them. Sample j of a problem is asked with variant j mod n; the training row
    has the plain prompt."""
    chunk_problems: Count = knob(16)
    """Problems in a chunk: what a kill can cost at most, and what verification gets at once."""

    @model_validator(mode="after")
    def _templates(self) -> SamplingSection:
        for variant in self.variants:
            if "{prompt}" not in variant:
                raise ValueError(f"variants: {variant!r} has no {{prompt}}; put it where the problem goes")
        return self
