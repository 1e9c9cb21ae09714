"""docs/sampling.md says only what is so: its settings validate, and every lever it lists is a field."""

from __future__ import annotations

import itertools
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from flywheel.recipe import Recipe, load_recipe, validate

PAGE = (Path(__file__).parent.parent / "docs/sampling.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
def test_settings_validate(block: str) -> None:
    validate(tomllib.loads(block))


@pytest.mark.parametrize("command", re.findall(r"^flywheel run .*$", PAGE, re.MULTILINE))
def test_commands_differ_from_the_plain_run_in_one_lever(command: str) -> None:
    words = shlex.split(command)
    settings = [after for before, after in itertools.pairwise(words) if before == "--set"]
    changed, plain = load_recipe(words[2], settings), load_recipe(words[2])
    assert (changed != plain) == bool(settings)
    assert {name for name in Recipe.model_fields if getattr(changed, name) != getattr(plain, name)} <= {
        "sampling",
        "hints",
    }


def test_every_listed_lever_is_a_field() -> None:
    listed = re.findall(r"`((?:sampling|hints)[\w.]*)`", PAGE.partition("## On and off")[0])
    assert len(listed) >= 10
    for name in listed:
        section: object = Recipe()
        for part in name.split("."):
            assert hasattr(section, part), name
            section = getattr(section, part)
