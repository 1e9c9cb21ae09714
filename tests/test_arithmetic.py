"""Arithmetic in a text: what does not come out is found, and what cannot be worked out accuses nobody."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.arithmetic import exact_value, stated_expression, value_of, wrong_equation

TOLERANCE = 1e-3  # RFT's


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2+3*4", 14),
        ("(2+3)*4", 20),
        ("8-3-2", 3),
        ("8/4/2", 1),
        ("2^3^2", 512),
        ("-2^2", -4),
        ("2*-3", -6),
        ("2^-1", 0.5),
        ("-(4-6)", 2),
        ("50%*8", 4),
        ("1.5+.5", 2),
        ("1/0", None),
        ("0^-1", None),
        ("9^9^9^9", None),
        ("2+", None),
        ("(2", None),
        ("2)", None),
        ("2(3)", None),
        ("", None),
    ],
)
def test_the_value_of_an_expression(expression, value):
    assert value_of(expression) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("He has 5 + 7 = 12 apples.", None),
        ("He has 5 + 7 = 13 apples.", "5+7=13"),
        ("10 / 3 = 3.333", None),
        ("10 / 3 = 3.3", "10/3=3.3"),
        ("4 + 4 = 8 = 16 / 2, so 8 * 2 = 17", "8*2=17"),
        ("20 + 30 = 50%, and 50% * 8 = 4", None),
        ("200 × 3 = 600 and 1,000 - 1 = 999", None),
        ("5 / 0 = 7", None),
        ("no sum at all", None),
    ],
)
def test_every_equation_of_a_text_must_come_out(text, wrong):
    assert wrong_equation(text, TOLERANCE) == wrong


@given(st.integers(-999, 999), st.integers(-999, 999), st.integers(1, 99), st.integers(-3, 3))
def test_sums_are_wrong_exactly_where_they_are(a, b, c, off):
    text = f"({a}+{b})*{c}-{b}={(a + b) * c - b + off}".replace("+-", "-").replace("--", "+")
    assert (wrong_equation(text, TOLERANCE) is None) == (off == 0)


@given(st.text("0123456789.+-*/^()=% ,x", max_size=200))
def test_hostile_arithmetic_is_read_without_harm(text):
    found = wrong_equation(text, TOLERANCE)
    assert found is None or "=" in found


def test_deep_brackets_and_long_sums_cost_no_stack():
    assert value_of("(" * 50_000 + "1" + ")" * 50_000) == 1
    assert value_of("1+" * 50_000 + "1") == 50_001


@pytest.mark.parametrize(
    ("text", "expression", "value"),
    [
        ("State the answer to: 12 + 34 =", "12+34", Fraction(46)),
        ("What is 8 x 1?", "8*1", Fraction(8)),
        ("What is (3+4) × 5 − 2 ÷ 3?", "(3+4)*5-2/3", Fraction(103, 3)),
        ("0.1 + 0.2", "0.1+0.2", Fraction(3, 10)),
        ("7 + 7, I mean 7+7", "7+7", Fraction(14)),
        ("99999999999999999999 + 1", "99999999999999999999+1", Fraction(10**20)),
    ],
)
def test_a_problem_states_one_sum(text, expression, value):
    assert stated_expression(text) == expression
    assert exact_value(expression) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "91 =",
        "1 / 0",
        "2 + 3 or 4 + 5?",
        "a + 2 + 3",
        "1 + 2 + 3a",
        "x2 + 3",
        "((1 + 2)",
        "3 ^ 4 + 1",
    ],
)
def test_what_states_none_several_or_another_is_not_read(text):
    assert stated_expression(text) is None


@given(st.text(alphabet="0123456789+-*/(). x=^", max_size=400))
def test_reading_a_sum_never_fails_and_agrees_with_python(text):
    expression = stated_expression(text)
    if expression is not None and "(" not in expression and not re.search(r"\b0\d|\.", expression):
        assert exact_value(expression) == eval(re.sub(r"(\d+)", r"Fraction(\1)", expression), {"Fraction": Fraction})
