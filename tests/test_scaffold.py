"""`flywheel init` writes what `Recipe` says, so that the two cannot part."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest

from flywheel.problems import load_problems
from flywheel.recipe import Recipe, Section, validate
from flywheel.scaffold import WIDTH, _section_type, recipe_template, toml_value
from flywheel.types import Split


def uncommented(text: str) -> str:
    """The template as a user leaves it who removes every single #."""
    return re.sub(r"^#(?!#)", "", text, flags=re.MULTILINE)


def words(text: str) -> str:
    """The template's text without its line breaks and comment signs."""
    return " ".join(" ".join(line.removeprefix("## ") for line in text.splitlines()).split())


def fields(section: type[Section]) -> Iterator[tuple[str, str]]:
    """Every field's name and documentation, at any depth."""
    for name, info in section.model_fields.items():
        yield name, str(info.description)
        if kind := _section_type(info.annotation):
            yield from fields(kind)


@pytest.mark.parametrize("change", [str, uncommented])
def test_the_template_is_the_defaults_and_what_a_run_needs_with_or_without_its_comments(change) -> None:
    assert validate(tomllib.loads(change(recipe_template()))) == validate({"problems": {"count": 500}})


def test_the_template_makes_a_run_as_it_is() -> None:
    problems = load_problems(validate(tomllib.loads(recipe_template()))).problems
    assert sum(p.split == Split.TRAIN for p in problems) >= 200


def test_uncommenting_brings_every_field_that_has_a_default() -> None:
    given = tomllib.loads(uncommented(recipe_template()))

    def check(section: Section, raw: dict) -> None:
        for name in type(section).model_fields:
            value = getattr(section, name)
            if isinstance(value, Section):
                check(value, raw[name])
            elif value is not None and value != []:
                assert raw[name] == value, name

    check(Recipe(), given)


def test_every_field_stands_there_with_its_documentation() -> None:
    text = words(recipe_template())
    for name, documentation in fields(Recipe):
        assert documentation != "None", f"{name} has no documentation"
        assert " ".join(documentation.split()) in text, name
        assert re.search(rf"\b{name}\b", text), name


def test_ranges_choices_and_knobs_are_told() -> None:
    text = words(recipe_template())
    assert "(one of bfloat16, float16, float32)" in text
    assert "(at least 1; at most 4,096)" in text
    assert "changes speed only" in text


def test_lines_are_readable() -> None:
    assert max(map(len, recipe_template().splitlines())) <= WIDTH + 10


def test_toml_values_read_back() -> None:
    value = {"a b": [1, 2.5, 1e-05, True, 'quote " and \\ and ü', ""], "c": {}}
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value
    with pytest.raises(TypeError):
        toml_value([None])
