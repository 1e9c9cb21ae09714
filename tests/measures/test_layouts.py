"""Layouts of texts."""

from __future__ import annotations

import pytest

from flywheel.measures.layouts import layout, layout_measures


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 + 3 = 5", "equation"),
        ("We add two and three. The answer is 5.", "prose, said"),
        ("# Plan\n1. add\n2. check\n\nSo $\\boxed{5}$", "heading > list > prose, boxed"),
        ("```python\nx = 1\n\ny = 2\n```", "code"),
        ("Natalia sold 24.\n#### 72", "prose > heading, hashes"),
        ("", "empty"),
    ],
)
def test_layouts(text, expected):
    assert layout(text) == expected


def test_wording_and_length_are_no_layout():
    assert layout("I think so.\n- one\n- two") == layout("Well.\nIndeed.\n- a\n- b\n- c\n- d")


def test_layouts_are_counted():
    assert layout_measures(["1. x", "plain words", "other words", ""]) == {"formats": 3, "format_share": 0.5}
    assert layout_measures([]) == {"formats": None, "format_share": None}
