"""Programs in one way of writing: what is the same program, what is not, and hostile texts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.diversity import reasoning_path
from flywheel.programs import normal_form
from flywheel.types import PathKind

LOOP = """
def total(xs):
    s = 0
    for x in xs:
        s += x
    return s
"""


def test_names_comments_layout_and_prose_do_not_matter():
    same = '''Here is my answer:
```python
def add_up(numbers: list[int]) -> int:
    """Add them up."""
    # one after another
    result: int = 0
    for n in numbers: result += n
    return result
```
It loops over the numbers.'''
    assert normal_form(same) == normal_form(LOOP) == normal_form(f"```\n{LOOP}```")


@pytest.mark.parametrize(
    "other",
    [
        "def total(xs):\n    return sum(xs)",
        LOOP.replace("s = 0", "s = 1"),
        LOOP.replace("return s", "return x"),
        LOOP.replace("s += x", "s = s + x"),
    ],
)
def test_another_way_of_working_is_another_program(other):
    assert normal_form(other) not in (None, normal_form(LOOP))


def test_names_of_others_stay():
    assert normal_form("len(a)") != normal_form("sum(a)")
    assert normal_form("a.upper()") != normal_form("a.lower()")


def test_the_indented_body_of_a_function_is_a_program():
    assert normal_form("    y = x + 1\n    return y") == normal_form("    z = x + 1\n    return z")


@pytest.mark.parametrize("text", ["", "   ", "The answer is 17.", "def f(:\n", "x = '\0'"])
def test_no_program(text):
    assert normal_form(text) is None


def test_without_a_program_words_are_the_path():
    assert reasoning_path("The answer is 17.", PathKind.CODE) == reasoning_path("the answer is 17", PathKind.CODE)
    assert reasoning_path(LOOP, PathKind.CODE) == normal_form(LOOP)
    assert reasoning_path("n + 0 = n; 1 + 1 = 2", PathKind.TEXT) != reasoning_path("1 + 1 = 2", PathKind.TEXT)


@pytest.mark.parametrize(
    "deep", ["(" * 5_000, "-" * 50_000 + "1", "[" * 90 + "]" * 90, "a" + ".b" * 20_000, "1" * 9_000]
)
def test_hostile_nesting_is_no_crash(deep):
    assert isinstance(reasoning_path(deep, PathKind.CODE), str)


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=200))
def test_any_text_has_a_path(text):
    assert isinstance(reasoning_path(text, PathKind.CODE), str)
