"""What the commands' parsers share: how one is added, and the values that several of them take."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

Add = Callable[[str, object, str], argparse.ArgumentParser]
"""Adds a command by its name, what runs it, and a line of help; returns its parser."""

RECIPE_HELP = "a shipped recipe's name, a TOML file, or a run's folder"


def count(text: str) -> int:
    """A whole number from 1 up. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
    return int(text)


def rate(text: str) -> float:
    """A share from 0 to 1. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to 1")
    return value
