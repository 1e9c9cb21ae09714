"""Reasoning paths: equations and texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.diversity import (
    _SIGNS,
    _WORDED,
    _arithmetic_runs,
    _chains,
    equations,
    reasoning_path,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12 + 5 = 17, so 17 - 3 = 14.", ("12+5=17", "17-3=14")),
        ("First, 12+5=17=17.", ("12+5=17=17",)),
        (r"We get $3 \times 4 = 12$ and 12 \div 2 = 6", ("3*4=12", "12/2=6")),
        ("3 x 4 = 12; 5 × 2 = 10; 9 − 4 = 5", ("3*4=12", "5*2=10", "9-4=5")),
        ("1,200 + 30 = 1,230", ("1200+30=1230",)),
        ("(2 + 3) * 4 = 20", ("(2+3)*4=20",)),
        ("-4 + 6 = 2", ("-4+6=2",)),
        ("x = 3 is what 4 says", ()),
        ("the answer is 14", ()),
    ],
)
def test_equations_of_a_text(text, expected):
    assert equations(text) == expected


def test_wording_is_no_path_of_its_own_where_there_are_equations():
    assert reasoning_path("Add: 2 + 3 = 5.") == reasoning_path("Well, 2+3 = 5! So the answer is 5.")
    assert reasoning_path("2 + 3 = 5") != reasoning_path("3 + 2 = 5")


def test_without_equations_case_spaces_and_punctuation_do_not_count():
    assert reasoning_path("The answer  is Paris.") == reasoning_path("the answer is **paris**")


@given(st.text(alphabet="0123456789.,+-*/=()%^ x\n\tab$×", max_size=60))
def test_looking_only_at_stretches_with_an_equals_sign_misses_nothing(text):
    plain = text.translate(_SIGNS)
    for _, pattern, sign in _WORDED:
        plain = pattern.sub(sign, plain)
    assert equations(text) == tuple(chain for run in _arithmetic_runs(plain) for chain in _chains(run))


@given(st.text(max_size=200))
def test_any_text_has_a_path(text):
    assert isinstance(reasoning_path(text), str)


def test_a_long_hostile_text_takes_linear_time():
    for text in ("1+" * 50_000, "((((" * 20_000, "1 " * 50_000, "a. " * 50_000, "." * 50_000):
        assert equations(text + "=") == ()
