"""The settings of a run that differ from the recipe it was started from."""

from __future__ import annotations

from typing import Any

from flywheel.recipe import Recipe, differences, load_recipe, shipped_recipes
from flywheel.view import RunView


def settings(run: RunView) -> dict[str, Any]:
    """Field, value there, value here: against the shipped recipe of that name, or against the defaults."""
    name = run.recipe.name
    shipped = name in shipped_recipes()
    reference = load_recipe(name) if shipped else Recipe()
    changed = differences(reference.model_dump(mode="json"), run.recipe.model_dump(mode="json"))
    return {
        "against": f"the shipped recipe {name}" if shipped else "the defaults",
        "changed": [{"field": field, "there": there, "here": here} for field, there, here in changed],
    }
