"""Where problems come from, and how they are split."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from flywheel.recipe.section import Count, Section, Share


class ProblemSource(Section):
    """Where problems come from: a generator, local files, or a data set."""

    source: Literal["reasoning_gym", "generator", "file", "datasets"] = "reasoning_gym"
    """`reasoning_gym` and `generator` generate; `file` reads JSONL or Parquet; `datasets` reads a hub id or a
    folder."""
    name: str = "chain_sum"
    """For `reasoning_gym` the task's name; for `generator` a registered name (`metamath`, `passages`, `sums`),
    `pkg.mod:Name` or `file.py:Name`; for `datasets` the hub id or the folder."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """For `reasoning_gym` and `generator`: the task's own parameters, for example `min_terms = 2`."""
    seed: int = 0
    """For `reasoning_gym` and `generator`: the generator's seed."""
    path: str | list[str] | None = None
    """For `file`: one path or several, `.jsonl`, `.jsonl.gz`, `.json` or `.parquet`."""
    config: str | None = None
    """For `datasets`: the configuration's name."""
    hub_split: str = "train"
    """For `datasets`: the split to read."""
    count: Count | None = None
    """How many problems to take; None takes all (what generates needs a number)."""
    shuffle: bool = False
    """Take the `count` problems at random (by the recipe's seed) and not from the top."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Maps our field to your column: keys among id, prompt, answer, solution, messages, verifier."""
    answer_pattern: str | None = None
    """A regular expression whose group 1 is the answer inside the answer column, e.g. `#### (.+)`."""
    template: str = "{prompt}"
    """The user turn, with `{prompt}` and any column's name in braces; `{{` and `}}` are braces."""

    @field_validator("template")
    @classmethod
    def _asks_the_problem(cls, template: str) -> str:
        if not re.search(r"\{\w+\}", template.replace("{{", "").replace("}}", "")):
            raise ValueError(f"{template!r} asks the same of every problem; put {{prompt}} where the problem goes")
        return template


class OodSet(ProblemSource):
    """An out-of-distribution set: evaluated each round beside dev, never trained on."""

    label: str
    """What the set is called in tables and metrics."""


class ProblemsSection(ProblemSource):
    """The problems of the run and how they are split."""

    dev: Annotated[int, Field(ge=1)] = 100
    """How many problems drive the gate and stopping."""
    test: Annotated[int, Field(ge=0)] = 150
    """How many problems are kept untouched for the base and the final champion."""
    near_copy: Share = 0.8
    """Two prompts are near-copies when this share of their n-grams is common; they share a split. 1.0 joins only
    equal ones."""
    near_copy_ngram: Annotated[int, Field(ge=1, le=64)] = 8
    """How many words an n-gram has (numbers are words); shorter prompts are compared whole."""
    template_share: Share = 0.05
    """An n-gram that more than this share of all problems has is their template and is left out of the comparison."""
