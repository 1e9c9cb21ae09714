"""Numbers without an algebra system: from an answer's text to an exact fraction with its unit, or None.

Reads integers, decimals, thousands separators, fractions, mixed numbers, repeating decimals, percent, money
and common units, in plain text and in LaTeX. What it cannot read for certain it leaves to the algebra system.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from flywheel.verifiers.math_units import NOT_UNITS, UNITS, measure, same_dimensions

MOST_DIGITS = 1_000

_INTEGER = re.compile(r"-?\d{1,400}")
_HAS_DIGIT = re.compile(r"\d")
_TOKEN = re.compile(
    r"\s*([1-9]\d{0,2}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)?(?!,\d)|\\times|\\cdot|\\div|[-+*/()×·÷])"
)
_OPERATORS = {"\\times": "*", "\\cdot": "*", "\\div": "/", "×": "*", "·": "*", "÷": "/"}
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
_DECIMAL = re.compile(
    rf"({_DIGITS})?(?:\.(\d*))?"
    r"(?:(?:[eE](?=[-+]?\d)|\s*[×·*xX]\s*10\s*\^\s*)[({]?([-+]?\d{1,3})[)}]?)?"
)
_COMMA_DECIMAL = re.compile(r"(?:(0),(\d+)|(\d+),(\d{2}|\d{4,}))(?![\d,])")
_LATEX_FRACTION = re.compile(r"(\d+)?\s*\\frac\s*(?:\{\s*([-+]?\d+)\s*\}|(\d))\s*(?:\{\s*([-+]?\d+)\s*\}|(\d))")
_FRACTION = re.compile(r"(?:(\d+)\s+)?(\d+)\s*/\s*(\d+)|\((\d+)\)\s*/\s*\((\d+)\)")

_SCALES = {"dozen": 12, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UNIT_WORDS = re.compile(r"\s*([A-Za-z°$€£¢%]+(?:[ /·-]+[A-Za-z]+(?:\^\{?-?[1-3]\}?)?){0,4}(?:\^\{?-?[1-3]\}?)?)\.?\s*")
_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen""".split()  # noqa: SIM905 - a list would fill the screen
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_IN_WORDS = {w: n for n, w in enumerate(_SMALL)} | {
    f"{tens}{'-' + _SMALL[n] if n else ''}": 10 * t + n for t, tens in enumerate(_TENS, 2) for n in range(10)
}
_EUROPEAN = re.compile(
    r"(\d{1,3}(?:[. ']\d{3})+),(\d{1,2}|\d{4,})(?!\d)|(\d{1,3}(?:\.\d{3}){2,})(?![\d.,])|(\d{1,3}(?:'\d{3})+)(?![\d'])"
)
_DOTS = re.compile(r"(-?\d*\.\d*?)(\d{1,6}?)\2{2,}(?:\.\.\.|…)")
_REPEATING = re.compile(
    r"(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*\{(\d{1,400})\}|\((\d{1,400})\)|\\(?:overline|bar|dot)\s*(\d))(?![\d(])"
)


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value in its own unit: `unit` is "" for none and "%" for percent (value 28 for 28 %)."""

    value: Fraction
    unit: str = ""


class NoValue(Exception):
    """The text is a number by its form and has no value; the message says why not."""


def read_number(tidied: str) -> Number | None:
    """The number that a tidied text is, with its unit, or None.

    Raises NoValue for a division by zero.
    """
    if _INTEGER.fullmatch(tidied):
        return Number(Fraction(int(tidied)))
    text = tidied.lstrip("≈ ")
    if len(text) > MOST_DIGITS or not _HAS_DIGIT.search(text):
        word = _IN_WORDS.get(text.lower().replace(" ", "-"))
        return None if word is None else Number(Fraction(word))
    if "=" in text:
        return None
    worked_out = arithmetic(text)
    if worked_out is not None:
        return Number(worked_out)
    sign = 1
    if text.endswith(("...", "…")) and (repeats := _DOTS.fullmatch(text)):
        text = f"{repeats.group(1)}\\overline{{{repeats.group(2)}}}"
    while text[:1] in ("-", "+"):
        sign, text = (-sign if text[0] == "-" else sign), text[1:].lstrip()
    money = text[0] if text[:1] in ("$", "€", "£", "¥") else ""
    if text[:3].lower() in ("usd", "eur", "gbp"):
        money, text = text[:3].lower(), text[2:]
    if money:
        text = text[1:].lstrip()
        if text[:1] == "-":
            sign, text = -sign, text[1:].lstrip()
    read = _leading(text)
    if read is None:
        return None
    value_of, rest = read
    unit = _unit(rest) if rest.strip() else money
    if unit is None:
        return None
    scale, unit = _scaled(unit)
    if money and unit and not same_dimensions(money, unit):
        return None
    return Number(sign * value_of * scale, unit or money)


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
    found = _REPEATING.match(text)
    if found:
        whole, part, *turns = found.groups()
        repeating = next(t for t in turns if t)
        value = Fraction(f"{whole or 0}.{part or 0}")
        value += Fraction(int(repeating), (10 ** len(repeating) - 1) * 10 ** len(part))
        return value, text[found.end() :]
    found = _EUROPEAN.match(text)
    if found:
        whole = re.sub(r"\D", "", found.group(1) or found.group(3) or found.group(4))
        return Fraction(f"{whole}.{found.group(2) or 0}"), text[found.end() :]
    found = _COMMA_DECIMAL.match(text)
    if found:  # a comma before three digits separates thousands, before two or more than three decimals
        whole, part = found.group(1) or found.group(3), found.group(2) or found.group(4)
        return Fraction(f"{whole}.{part}"), text[found.end() :]
    found = _DECIMAL.match(text)
    if not found or not (found.group(1) or found.group(2)):
        return None
    whole, part, exponent = found.groups()
    digits = (whole or "0").replace(",", "").replace(" ", "")
    value = Fraction(f"{digits}.{part or '0'}")
    return value * Fraction(10) ** int(exponent or 0), text[found.end() :]


def _mixed(whole: str | None, top: str, bottom: str) -> Fraction:
    if int(bottom) == 0:
        raise NoValue("divides by zero")
    return int(whole or 0) + Fraction(int(top), int(bottom))


def _unit(rest: str) -> str | None:
    """The unit that follows a number: its words without plural, or None where they are no unit."""
    if not (rest[0] in " °%$€£¢-" or len(rest.strip()) > 1):
        return None  # `5x` is a product, not five of something
    found = _UNIT_WORDS.fullmatch(rest.lstrip("-"))
    if not found:
        return None
    unit = found.group(1)
    words = re.findall(r"[A-Za-z]+", unit)
    if any(w.lower() in NOT_UNITS and w not in UNITS for w in words):
        return None
    if words and len(words[0]) == 1 and words[0] not in UNITS and unit[0].isalpha():
        return None
    if unit.lower() in ("percent", "pct", "percentage", "percentage points", "per cent", "%"):
        return "%"
    return unit


def _scaled(unit: str) -> tuple[int, str]:
    first, _, others = unit.partition(" ")
    return (_SCALES[first.lower()], others) if first.lower() in _SCALES else (1, unit)


def same_number(
    gold: Number,
    answer: Number,
    *,
    tolerance: Fraction = Fraction(0),
    units: str = "optional",
    percent: str = "value",
) -> bool:
    """Whether an answer is the reference's number, under the options `units` and `percent` of `math`."""
    if "%" in (gold.unit, answer.unit):
        return _same_percent(gold, answer, tolerance, percent)
    if units == "ignored" or gold.unit == answer.unit:
        return _close(gold.value, answer.value, tolerance)
    if not (gold.unit and answer.unit):
        return (units == "optional" or not gold.unit) and _close(gold.value, answer.value, tolerance)
    if not same_dimensions(gold.unit, answer.unit):
        return False
    ours, theirs = measure(gold.unit)[0], measure(answer.unit)[0]
    return _close(gold.value * ours, answer.value * theirs, tolerance)


def _same_percent(gold: Number, answer: Number, tolerance: Fraction, percent: str) -> bool:
    """Percent is a factor of 1/100; a reference in percent may be met without the sign, unless `percent` is "sign"."""
    if gold.unit == answer.unit or percent == "ignored":
        return _close(gold.value, answer.value, tolerance)
    if percent == "sign":
        return False
    if gold.unit == "%":
        bare = _close(gold.value, answer.value, tolerance) or _close(gold.value / 100, answer.value, tolerance)
        return bare and answer.unit == ""
    return gold.unit == "" and _close(gold.value, answer.value / 100, tolerance)


def _close(gold: Fraction, answer: Fraction, tolerance: Fraction) -> bool:
    return gold == answer or abs(gold - answer) <= tolerance * abs(gold)
