"""The recipes in docs/judges.md are recipes: they validate, and their verifiers take their options."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from flywheel.plugins import known_verifiers, make_verifier
from flywheel.recipe import validate

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "judges.md").read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_recipe_of_the_page_is_one(block: str) -> None:
    recipe = validate(tomllib.loads(block))
    made = make_verifier(recipe.verify.verifier, recipe.verify.options)
    parts = getattr(made, "_verifiers", [made])
    lowest = min(getattr(part, "threshold", 1.0) for part in parts)
    assert recipe.filter.min_score <= lowest, "its own filter would drop what it lets pass"


def test_the_page_shows_every_verifier_it_is_about() -> None:
    assert len(BLOCKS) == 4
    assert {"judge", "reward_model", "majority", "all_of", "any_of", "weighted"} <= set(known_verifiers())
