"""The settings in docs/propose.md are settings, and its reasons are the ones there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from flywheel.plugins import make_verifier
from flywheel.propose import REASONS
from flywheel.recipe import validate

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "propose.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
def test_settings_validate(block: str) -> None:
    recipe = validate(tomllib.loads(block))
    assert recipe.propose.kind and make_verifier(recipe.verify.verifier, recipe.verify.options)


def test_every_reason_is_told() -> None:
    table = PAGE.partition("## What is refused")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)))) == set(REASONS)
