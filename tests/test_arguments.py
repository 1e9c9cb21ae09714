"""Values on the command line are read or refused in words."""

from __future__ import annotations

import argparse

import pytest

from flywheel.arguments import count, rate


def test_values_in_range_are_read():
    assert [count("1"), count("20")] == [1, 20]
    assert [rate("0"), rate("0.5"), rate("1")] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "many", "²"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="no whole number from 1 up"):
        count(text)


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan", "half", ""])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="no share from 0 to 1"):
        rate(text)
