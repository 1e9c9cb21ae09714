"""Numbers without an algebra system: from an answer's text to an exact fraction with its unit, or None.

Reads integers, decimals, thousands separators, fractions, mixed numbers, repeating decimals, percent, money
and common units, in plain text and in LaTeX. What it cannot read for certain it leaves to the algebra system.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

MOST_DIGITS = 1_000

_WRAPPED = re.compile(r"\\(?:text|textbf|textnormal|textrm|mbox|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")
_PLAIN = (
    ("\u2212", "-"), ("\u2013", "-"), ("\\left", ""), ("\\right", ""), ("\\displaystyle", ""), ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"), ("\\cfrac", "\\frac"), ("{,}", ","), ("\\!", ""), ("\\,", " "), ("\\;", " "), ("\\:", " "),
    ("\\ ", " "), ("~", " "), ("\\qquad", " "), ("\\quad", " "), ("\\$", "$"), ("\\%", "%"), ("^{\\circ}", "°"),
    ("^\\circ", "°"), ("\\degree", "°"), ("\\lt", "<"), ("\\gt", ">"), ("²", "^2"), ("³", "^3"),
)  # fmt: skip
# A command's name ends where its letters end: `\\left` is not the beginning of `\\leftarrow`.
_SPELLINGS = [
    (old, re.compile(re.escape(old) + (r"(?![A-Za-z])" if old[-1].isalpha() else "")), new.replace("\\", r"\\"))
    for old, new in _PLAIN
]
_SUBSCRIPT = re.compile(r"_\{([^{}]+)\}")

_INTEGER = re.compile(r"-?\d{1,400}")
_NAME = re.compile(r"[A-Za-z](?:_\w)?")
_TOKEN = re.compile(
    r"\s*([1-9]\d{0,2}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)?(?!,\d)|\\times|\\cdot|\\div|[-+*/()×·÷])"
)
_OPERATORS = {"\\times": "*", "\\cdot": "*", "\\div": "/", "×": "*", "·": "*", "÷": "/"}
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
_DECIMAL = re.compile(
    rf"({_DIGITS})?(?:\.(\d*))?(?:\\overline\{{(\d+)\}})?"
    r"(?:(?:[eE]|\s*(?:\\times|×|\*)\s*10\^)\{?([-+]?\d{1,3})\}?)?"
)
_COMMA_DECIMAL = re.compile(r"(?:(0),(\d+)|(\d+),(\d{2}|\d{4,}))(?![\d,])")
_LATEX_FRACTION = re.compile(r"(\d+)?\s*\\frac\s*(?:\{\s*([-+]?\d+)\s*\}|(\d))\s*(?:\{\s*([-+]?\d+)\s*\}|(\d))")
_FRACTION = re.compile(r"(?:(\d+)\s+)?(\d+)\s*/\s*(\d+)|\((\d+)\)\s*/\s*\((\d+)\)")

_LENGTH, _MASS, _TIME, _VOLUME, _MONEY = "length", "mass", "time", "volume", "money"
_UNITS: dict[str, tuple[str, Fraction]] = {
    name: (dimension, Fraction(factor))
    for dimension, table in {
        _LENGTH: {
            "mm": "1/1000", "millimeter": "1/1000", "millimetre": "1/1000", "cm": "1/100", "centimeter": "1/100",
            "centimetre": "1/100", "m": "1", "meter": "1", "metre": "1", "km": "1000", "kilometer": "1000",
            "kilometre": "1000", "in": "0.0254", "inch": "0.0254", "inche": "0.0254", "ft": "0.3048", "foot": "0.3048",
            "feet": "0.3048", "yd": "0.9144", "yard": "0.9144", "mi": "1609.344", "mile": "1609.344",
        },
        _MASS: {
            "mg": "1/1000000", "milligram": "1/1000000", "g": "1/1000", "gram": "1/1000", "kg": "1", "kilogram": "1",
            "kilo": "1", "ton": "1000", "tonne": "1000", "lb": "0.45359237", "pound": "0.45359237",
            "oz": "0.028349523125", "ounce": "0.028349523125",
        },
        _TIME: {
            "s": "1", "sec": "1", "second": "1", "min": "60", "minute": "60", "h": "3600", "hr": "3600", "hour": "3600",
            "day": "86400", "week": "604800",
        },
        _VOLUME: {"ml": "1/1000", "milliliter": "1/1000", "millilitre": "1/1000", "l": "1", "liter": "1", "litre": "1"},
        _MONEY: {"$": "1", "dollar": "1", "buck": "1", "usd": "1", "cent": "1/100"},
    }.items()
    for name, factor in table.items()
}  # fmt: skip
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NOT_UNITS = frozenset(
    """and or squared cubed factorial choose mod modulo over plus minus times divided by is are to if where when but not
    maybe then pi sqrt sin cos tan log ln exp remainder base half third halves dozen hundred infinity than least
    most""".split()  # noqa: SIM905 - a list of forty would fill the screen
)
_UNIT_WORDS = re.compile(r"\s*([A-Za-z°$€£%]+(?:[ /-][A-Za-z]+){0,3}(?:\^\{?[23]\}?)?)\.?\s*")


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value in its own unit: `unit` is "" for none and "%" for percent (value 28 for 28 %)."""

    value: Fraction
    unit: str = ""


class NoValue(Exception):
    """The text is a number by its form and has no value; the message says why not."""


@lru_cache(maxsize=4096)
def tidy(text: str) -> str:
    """An answer in one spelling: no delimiters, spacing commands, `\\left`, `\\text`, or final full stop."""
    tidied = text
    for old, pattern, new in _SPELLINGS:
        if old in tidied:
            tidied = pattern.sub(new, tidied)
    tidied = _WRAPPED.sub(lambda m: f" {m.group(1).strip()} ", tidied)
    tidied = _SUBSCRIPT.sub(lambda m: f"_{m.group(1)}" if len(m.group(1)) < 3 else m.group(), tidied)
    return " ".join(tidied.split()).strip().rstrip(".,;:").strip()


def compact(tidied: str) -> str:
    """A tidied answer without spaces and braces around single characters, for comparing texts."""
    return re.sub(r"\{(\w)\}", r"\1", tidied).replace(" ", "")


def assigned(tidied: str) -> str | None:
    """The name in `x = 5`, or None."""
    found = re.fullmatch(r"([A-Za-z](?:_\w)?)=[^=<>]*", tidied.replace(" ", ""))
    return found.group(1) if found else None


def read_number(tidied: str) -> Number | None:
    """The number that a tidied text is, with its unit, or None.

    Raises NoValue for a division by zero and for a chain such as `5 + 2 = 8` whose sides differ.
    """
    if _INTEGER.fullmatch(tidied):
        return Number(Fraction(int(tidied)))
    text = tidied
    if len(text) > MOST_DIGITS:
        return None
    worked_out = _chain(text)
    if worked_out is not None:
        return Number(worked_out)
    if "=" in text:
        if assigned(text) is None:
            return None
        text = text.partition("=")[2].strip()
    sign = 1
    while text[:1] in ("-", "+"):
        sign, text = (-sign if text[0] == "-" else sign), text[1:].lstrip()
    money = text[:1] in ("$", "€", "£")
    if money:
        text = text[1:].lstrip()
        if text[:1] == "-":
            sign, text = -sign, text[1:].lstrip()
    read = _leading(text)
    if read is None:
        return None
    value_of, rest = read
    unit = _unit(rest) if rest.strip() else ("$" if money else "")
    if unit is None:
        return None
    scale, unit = _scaled(unit)
    return Number(sign * value_of * scale, "$" if money and not unit else unit)


def _chain(text: str) -> Fraction | None:
    """The value of `5 + 2` or `x = 5 + 2 = 7`, or None where a side is not plain arithmetic."""
    sides = text.split("=")
    if len(sides) > 1 and _NAME.fullmatch(sides[0].strip()):
        del sides[0]
    values = [arithmetic(side) for side in sides]
    if None in values:
        return None
    if len(set(values)) > 1:
        raise NoValue("says that unequal values are equal")
    return values[0]


def arithmetic(text: str) -> Fraction | None:
    """The value of plain arithmetic: numbers, + - * /, brackets; None for anything else. Raises NoValue.

    There are no powers, so nothing that fits into an answer takes long.
    """
    tokens: list[str] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            return None
        tokens.append(_OPERATORS.get(found.group(1), found.group(1)))
        position = found.end()
    tokens.append("")
    try:
        value, rest = _sum(tokens, 0)
    except SyntaxError:
        return None
    return value if tokens[rest] == "" else None


def _sum(tokens: list[str], at: int) -> tuple[Fraction, int]:
    value, at = _product(tokens, at)
    while tokens[at] in ("+", "-"):
        operator = tokens[at]
        other, at = _product(tokens, at + 1)
        value = value + other if operator == "+" else value - other
    return value, at


def _product(tokens: list[str], at: int) -> tuple[Fraction, int]:
    value, at = _atom(tokens, at)
    while tokens[at] in ("*", "/"):
        operator = tokens[at]
        other, at = _atom(tokens, at + 1)
        if operator == "/" and other == 0:
            raise NoValue("divides by zero")
        value = value * other if operator == "*" else value / other
    return value, at


def _atom(tokens: list[str], at: int) -> tuple[Fraction, int]:
    sign = 1
    while tokens[at] in ("-", "+"):
        sign, at = (-sign if tokens[at] == "-" else sign), at + 1
    if tokens[at] == "(":
        value, at = _sum(tokens, at + 1)
        if tokens[at] != ")":
            raise SyntaxError
        return sign * value, at + 1
    if not tokens[at][:1].isdigit():
        raise SyntaxError
    return sign * Fraction(tokens[at].replace(",", "")), at + 1


def _leading(text: str) -> tuple[Fraction, str] | None:
    """The unsigned number that a text begins with, and what follows it."""
    found = _LATEX_FRACTION.match(text)
    if found:
        whole, top, short_top, bottom, short_bottom = found.groups()
        return _mixed(whole, top or short_top, bottom or short_bottom), text[found.end() :]
    found = _FRACTION.match(text)
    if found:
        whole, top, bottom, top_2, bottom_2 = found.groups()
        return _mixed(whole, top or top_2, bottom or bottom_2), text[found.end() :]
    found = _COMMA_DECIMAL.match(text)
    if found:  # a comma before three digits separates thousands, before two or more than three decimals
        whole, part = found.group(1) or found.group(3), found.group(2) or found.group(4)
        return Fraction(f"{whole}.{part}"), text[found.end() :]
    found = _DECIMAL.match(text)
    if not found or not (found.group(1) or found.group(2) or found.group(3)):
        return None
    whole, part, repeating, exponent = found.groups()
    digits = (whole or "0").replace(",", "").replace(" ", "")
    value = Fraction(f"{digits}.{part or '0'}")
    if repeating:
        value += Fraction(int(repeating), (10 ** len(repeating) - 1) * 10 ** len(part or ""))
    return value * Fraction(10) ** int(exponent or 0), text[found.end() :]


def _mixed(whole: str | None, top: str, bottom: str) -> Fraction:
    if int(bottom) == 0:
        raise NoValue("divides by zero")
    return int(whole or 0) + Fraction(int(top), int(bottom))


def _unit(rest: str) -> str | None:
    """The unit that follows a number: its words without plural, or None where they are no unit."""
    if not (rest[0] in " °%$€£" or len(rest.strip()) > 1):
        return None  # `5x` is a product, not five of something
    found = _UNIT_WORDS.fullmatch(rest)
    if not found:
        return None
    words = re.split(r"[ /-]", re.sub(r"\^\{?([23])\}?", "", found.group(1)))
    if any(w.lower() in _NOT_UNITS for w in words) or (
        len(words[0]) == 1 and words[0] not in _UNITS and words[0].isalpha()
    ):
        return None
    unit = found.group(1).lower().replace("{", "").replace("}", "")
    if unit in ("percent", "pct", "percentage", "percentage points"):
        return "%"
    if unit in ("degree", "degrees"):
        return "°"
    return " ".join(w.rstrip("s") if len(w) > 2 and not w.endswith("ss") else w for w in unit.split())


def _scaled(unit: str) -> tuple[int, str]:
    first, _, others = unit.partition(" ")
    return (_SCALES[first], others) if first in _SCALES else (1, unit)


def same_number(gold: Number, answer: Number, *, tolerance: Fraction = Fraction(0)) -> bool:
    """Whether an answer is the reference's number.

    A unit may be left out where the reference has one (the question asked for it), and added where the
    reference has none; two units must agree, or convert exactly. Percent is a factor of 1/100; only where the
    reference is in percent may the answer leave the sign out.
    """
    if "%" in (gold.unit, answer.unit):
        if gold.unit == "%" and answer.unit in ("", "%"):
            bare = _close(gold.value, answer.value, tolerance)
            return bare or (answer.unit == "" and _close(gold.value / 100, answer.value, tolerance))
        return gold.unit == "" and _close(gold.value, answer.value / 100, tolerance)
    if gold.unit and answer.unit and gold.unit != answer.unit:
        ours, theirs = _UNITS.get(gold.unit), _UNITS.get(answer.unit)
        if ours is None or theirs is None or ours[0] != theirs[0]:
            return False
        return _close(gold.value * ours[1], answer.value * theirs[1], tolerance)
    return _close(gold.value, answer.value, tolerance)


def _close(gold: Fraction, answer: Fraction, tolerance: Fraction) -> bool:
    return gold == answer or abs(gold - answer) <= tolerance * abs(gold)
