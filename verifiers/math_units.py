"""Units of measurement, money and percent: what a unit is worth in its dimension, and when two units agree."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

Dimensions = frozenset[tuple[str, int]]

_TABLE = {
    "length": {
        "mm": "1/1000", "millimeter": "1/1000", "millimetre": "1/1000", "cm": "1/100", "centimeter": "1/100",
        "centimetre": "1/100", "m": "1", "meter": "1", "metre": "1", "km": "1000", "kilometer": "1000",
        "kilometre": "1000", "in": "0.0254", "inch": "0.0254", "inche": "0.0254", "ft": "0.3048", "foot": "0.3048",
        "feet": "0.3048", "yd": "0.9144", "yard": "0.9144", "mi": "1609.344", "mile": "1609.344",
    },
    "mass": {
        "mg": "1/1000000", "milligram": "1/1000000", "g": "1/1000", "gram": "1/1000", "kg": "1", "kilogram": "1",
        "kilo": "1", "tonne": "1000", "lb": "0.45359237", "pound": "0.45359237", "oz": "0.028349523125",
        "ounce": "0.028349523125",
    },
    "time": {
        "s": "1", "sec": "1", "second": "1", "min": "60", "minute": "60", "h": "3600", "hr": "3600", "hour": "3600",
        "day": "86400", "week": "604800", "ms": "1/1000",
    },
    "volume": {
        "ml": "1/1000", "milliliter": "1/1000", "millilitre": "1/1000", "l": "1", "liter": "1", "litre": "1",
    },
    "dollar": {"$": "1", "dollar": "1", "buck": "1", "usd": "1", "cent": "1/100", "¢": "1/100"},
    "euro": {"€": "1", "euro": "1", "eur": "1"},
    "sterling": {"£": "1", "gbp": "1"},
    "degree": {"°": "1", "degree": "1", "deg": "1"},
    "radian": {"rad": "1", "radian": "1"},
    "number": {"unit": "1"},
    "force": {"N": "1"}, "energy": {"J": "1"}, "power": {"W": "1"}, "charge": {"C": "1"}, "temperature": {"K": "1"},
    "voltage": {"V": "1"}, "pressure": {"Pa": "1"}, "frequency": {"Hz": "1"},
    "speed": {"mph": "1", "kph": "1"},
}  # fmt: skip
UNITS = {name: (dimension, Fraction(factor)) for dimension, table in _TABLE.items() for name, factor in table.items()}
_COMPOUND = {"mph": "mile/hour", "kph": "km/hour", "kmh": "km/hour", "cc": "cm^3", "bpm": "beat/minute"}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_SUFFIXES = {"squared": 2, "cubed": 3}
NOT_UNITS = frozenset(
    """and or factorial choose mod modulo over plus minus times divided by is are to if where when but not
    maybe then pi sqrt sin cos tan log ln exp remainder base half third halves infinity than least
    most e i x y z n k""".split()  # noqa: SIM905 - a list of forty would fill the screen
)
_WORD = re.compile(r"([A-Za-z°$€£¢]+)(?:\^?\{?([-1-9]+)\}?)?")
_TRAILING = re.compile(  # a value, and up to five words behind it
    r"(.*?[\d)}\]π°|])\s*((?:(?:[A-Za-z]+\.?(?:\^\{?[23]\}?)?)(?:\s*[/·-]\s*|\s+)){0,4}[A-Za-z]+\.?(?:\^\{?-?[123]\}?)?)",
    re.DOTALL,
)


def singular(word: str) -> str:
    """A word without its plural's s."""
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word


@lru_cache(maxsize=2048)
def measure(unit: str) -> tuple[Fraction, Dimensions]:
    """What one of a unit is worth, and its dimensions: "km/h" is 5/18 of length 1, time -1. A word that is no known
    unit is a dimension of its own."""
    factor, powers = Fraction(1), dict[str, int]()
    unit = re.sub(r"\s+of\s.*", "", unit.strip()).replace(" per ", "/").replace(" an ", " ")
    for position, part in enumerate(unit.split("/")[:3]):
        ahead = 1
        for word, exponent in _WORD.findall(part):
            name = singular(word.lower()) if word not in UNITS else word
            if name in _POWERS:
                ahead = _POWERS[name]
                continue
            if name in _SUFFIXES and powers:
                last = next(reversed(powers))
                factor, powers[last] = factor ** _SUFFIXES[name], powers[last] * _SUFFIXES[name]
                continue
            power = ahead * _whole(exponent) * (-1 if position else 1)
            inner, dimensions = measure(_COMPOUND[name]) if name in _COMPOUND else _single(name)
            factor *= inner**power
            for dimension, times in dimensions:
                powers[dimension] = powers.get(dimension, 0) + times * power
            ahead = 1
    return factor, frozenset((d, p) for d, p in powers.items() if p and d != "number")


def _single(name: str) -> tuple[Fraction, Dimensions]:
    dimension, factor = UNITS.get(name, (name, Fraction(1)))
    if dimension == "volume":
        return factor / 1000, frozenset({("length", 3)})
    return factor, frozenset({(dimension, 1)})


def _whole(exponent: str) -> int:
    return int(exponent) if re.fullmatch(r"-?[1-9]", exponent) else 1


def units_agree(gold: str, answer: str, rule: str) -> bool:
    """Whether two units, "" for none, may stand behind equal values. `rule` is the option `units` of `math`."""
    if rule == "ignored" or gold == answer:
        return True
    if not gold or not answer:
        return rule == "optional" or not gold
    return measure(gold)[0] == measure(answer)[0] and same_dimensions(gold, answer)


def same_dimensions(gold: str, answer: str) -> bool:
    """Whether two units measure the same; "brown eggs" and "eggs" do, "cm" and "cm^2" do not."""
    ours, theirs = measure(gold)[1], measure(answer)[1]
    if ours == theirs:
        return True
    known = {dimension for dimension, _ in UNITS.values()}
    if any(d in known for d, _ in ours ^ theirs) or not ours or not theirs:
        return False
    return ours < theirs or theirs < ours


def unit_words(text: str) -> bool:
    """Whether words behind a value can be a unit."""
    words = re.findall(r"[A-Za-z]+", text)
    return bool(words) and all(
        w in UNITS
        or singular(w.lower()) in UNITS
        or w.lower() in _COMPOUND
        or (len(w) > 2 and w.lower() not in NOT_UNITS)
        for w in words
        if w.lower() not in ("per", "of", "a", "an", "the")
    )


@lru_cache(maxsize=4096)
def split_unit(text: str) -> tuple[str, str]:
    """A tidied expression and the unit behind it, "" for none: `3\\sqrt{2} cm` is (`3\\sqrt{2}`, `cm`)."""
    if not text[-1:].isalpha() and text[-1:] not in "}.123456789":
        return text, ""
    found = _TRAILING.fullmatch(text)
    if found is None or not unit_words(found.group(2)) or "\\" in found.group(2):
        return text, ""
    body, unit = found.group(1), found.group(2)
    if body.count("{") != body.count("}") or body.count("(") != body.count(")"):
        return text, ""
    if text[len(body)] != " " and unit not in UNITS and len(unit) < 3:
        return text, ""
    if len(unit) == 1 and not text[len(body)].isspace():
        return text, ""
    return body, unit
