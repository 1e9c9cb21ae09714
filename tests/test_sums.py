"""Sums are right, are written as they say, and are the same again for the same seed."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import PluginError
from flywheel.plugins import make_generator
from flywheel.problems import load_problems
from flywheel.recipe import Recipe
from flywheel.sums import ALPHABET, CHARACTERS, Style, Sums, write


def read(prompt: str, layout: str) -> tuple[int, int]:
    """The two numbers of a prompt, by another road than the one it was written by."""
    digits = re.sub(r"[^\d+]", "", prompt)
    left, right = digits.split("+") if layout == "rows" else (digits[0::2], digits[1::2])
    return int(left[::-1]), int(right[::-1])


@pytest.mark.parametrize(
    ("style", "prompt", "answer"),
    [
        (Style("rows", 0), "53+12=", "65"),
        (Style("columns", 0), "5132=", "65"),
        (Style("rows", 26), "5y3z+1y2z=y", "6z5"),
        (Style("columns", 26), "51y32z=y", "6z5"),
    ],
)
def test_35_and_21_in_every_style(style: Style, prompt: str, answer: str) -> None:
    written = write(35, 21, 2, style, first=24)
    assert (written.digits, written.prompt, written.answer) == (2, prompt, answer)


def test_the_first_letter_comes_after_the_last() -> None:
    assert write(99, 1 + 10, 2, Style("columns", 3), first=2).answer == "0a1b1"


@given(
    st.integers(1, 40),
    st.sampled_from(["rows", "columns"]),
    st.sampled_from([0, 41, len(ALPHABET)]),
    st.integers(0, 99),
)
def test_every_row_is_a_right_sum_of_numbers_of_its_length(digits: int, layout: str, hints: int, seed: int) -> None:
    for row in itertools.islice(Sums(digits, layout, hints, labelled=20).rows(seed), 3):  # type: ignore[arg-type]
        left, right = read(row["prompt"], layout)
        assert len(str(left)) == len(str(right)) == digits == row["digits"]
        assert int(re.sub(r"\D", "", row["answer"])[::-1]) == left + right
        assert row["solution"] == (row["answer"] if digits <= 20 else None)
        assert set(row["prompt"] + row["answer"]) <= set(CHARACTERS)
        letters = re.findall(r"[^\d+=]", row["answer"])
        assert len(set(letters)) == len(letters) == (hints and len(str(left + right)) - 1)


def test_a_seed_gives_the_same_rows_and_another_one_others() -> None:
    def first(seed: int) -> list[str]:
        return [row["prompt"] for row in itertools.islice(Sums((3, 8)).rows(seed), 12)]

    assert first(1) == first(1) != first(2)


def test_there_are_only_so_many_sums_of_one_digit() -> None:
    assert len({row["prompt"] for row in Sums(1, hints=0).rows(0)}) == 81


def test_a_run_gets_all_lengths_and_each_problem_says_its_own() -> None:
    recipe = Recipe.model_validate(
        {
            "problems": {
                **{"source": "generator", "name": "sums", "count": 60, "dev": 20, "test": 20},
                "parameters": {"digits": [4, 9], "labelled": 5},
            }
        }
    )
    problems = load_problems(recipe).problems
    assert sorted({p.meta["digits"] for p in problems}) == [4, 5, 6, 7, 8, 9]
    assert {p.meta["digits"] for p in problems if p.solution} == {4, 5}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"digits": 0}, "digits = 0; lengths are from 1 to 100"),
        ({"digits": [9, 3]}, "the shortest first"),
        ({"digits": [1, 40]}, "hints = 32 for sums of 40 digits"),
        ({"hints": 111}, "hints = 111 .* up to 110"),
        ({"labelled": -1}, "labelled = -1"),
        ({"layout": "spiral"}, "layout = 'spiral'"),
        ({"digit": 3}, "did you mean 'digits'"),
    ],
)
def test_options_that_make_no_sums(options: dict[str, object], says: str) -> None:
    with pytest.raises(PluginError, match=says):
        make_generator("sums", options)
