"""Sets of real numbers as a question each number answers: intervals, unions, finite sets, inequalities.

Two sets are equal when every end point of either, every gap between them and what lies beyond them belongs to both or
to neither. For sets written with end points that is a decision; an inequality whose solutions are not written out
(`x^2 < 4`) is asked at a grid of numbers besides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any

from flywheel.verifiers.math_exact import NoValue
from flywheel.verifiers.math_parse import parse
from flywheel.verifiers.math_text import bracketed, cut
from flywheel.verifiers.math_tree import symbols
from flywheel.verifiers.math_value import compare, constant, value_with

RELATIONS = "<>≤≥≠="
_RELATION = re.compile(r"[<>≤≥≠=]")
_HOLDS: dict[str, Callable[[int], bool]] = {
    "<": lambda c: c < 0, ">": lambda c: c > 0, "≤": lambda c: c <= 0, "≥": lambda c: c >= 0,
    "≠": lambda c: c != 0, "=": lambda c: c == 0,
}  # fmt: skip
_GRID = [Fraction(n, 2) for n in range(-41, 42)] + [Fraction(n) for n in (-1000, -100, -60, -30, 30, 60, 100, 1000)]
_REALS = re.compile(
    r"ℝ|(?:all|any|the) real (?:number|value)s?|all reals?|reals|(?:the set of )?all real numbers", re.IGNORECASE
)
_NAME = re.compile(r"(?:[A-Za-z]|\\[a-z]+)(?:_\w|_\{\w+\})?(?:\([A-Za-z]\))?")
_MOST_PARTS = 40


@dataclass(frozen=True)
class RealSet:
    """`holds` says whether a number belongs, `ends` are the numbers at which that may change, `name` the variable."""

    holds: Callable[[Any], bool]
    ends: tuple[Any, ...]
    name: str = ""
    written_out: bool = True


def same_set(gold: RealSet, answer: RealSet) -> bool:
    """Whether two sets of reals are equal. Raises NoValue where a membership cannot be worked out."""
    if gold.name and answer.name and gold.name != answer.name:
        return False
    ends = [e for e in (*gold.ends, *answer.ends) if compare(e, _INFINITE) and compare(e, _MINUS_INFINITE)]
    ordered: list[Any] = []
    for end in sorted(ends, key=_by_size):
        if not ordered or compare(ordered[-1], end):
            ordered.append(end)
    points = list(ordered)
    points += [_middle(a, b) for a, b in pairwise(ordered)]
    points += [_middle(ordered[0], None), _middle(None, ordered[-1])] if ordered else [Fraction(0)]
    if not (gold.written_out and answer.written_out):
        points += _GRID
        points += [_shifted(end, sign) for end in ordered for sign in (-1, 1)]
    return all(_member(gold, p) == _member(answer, p) for p in points)


def _member(numbers: RealSet, point: Any) -> bool:
    """A number for which a condition has no real value does not satisfy it."""
    try:
        return numbers.holds(point)
    except NoValue:
        return False


@lru_cache(maxsize=4096)
def real_set(text: str) -> RealSet | None:
    """The set of reals that a tidied text describes, or None where it describes none for certain.

    Raises Unreadable and NoValue where an end point has no value.
    """
    if len(text) > 600:
        return None
    if _REALS.fullmatch(text):
        return RealSet(lambda _: True, ())
    if text == "∅" or re.fullmatch(r"\\\{\s*\\?\}", text):
        return RealSet(lambda _: False, ())
    if bracketed(text) is not None:
        return _brackets(text)
    head, found, tail = text.partition("∈")
    if found:
        if not _NAME.fullmatch(head.strip()) or "∈" in tail:
            return None
        inner = real_set(tail.strip())
        return replace(inner, name=_variable(head)) if inner and not inner.name else inner
    for symbol, combine in (("∖", _without), ("∪", _union), ("∩", _both)):
        parts = cut(text, symbol)
        if len(parts) > 1:
            return _combined(parts, combine)
    if len(parts := cut(text, "", words=True)) > 1 and all(_RELATION.search(p) or "∈" in p for p in parts):
        return _combined(parts, _both if re.search(r"\band\b", text) else _union)
    if len(parts := cut(text, ",;")) > 1:
        return _listed(parts)
    return _condition(text) if _RELATION.search(text) else None


def _combined(parts: list[str], combine: Callable[[RealSet, RealSet], RealSet]) -> RealSet | None:
    sets = [real_set(p) for p in parts[:_MOST_PARTS]]
    result = sets[0]
    for other in sets[1:]:
        if result is None or other is None or (result.name and other.name and result.name != other.name):
            return None
        result = combine(result, other)
    return result


def _listed(parts: list[str]) -> RealSet | None:
    """Inequalities with commas between: all of them, unless they contradict one another; `x ≠ 1, 2` excludes both."""
    relation = re.match(r"([^<>≤≥≠=]+≠)", parts[0])
    if relation:
        parts = [p if _RELATION.search(p) else relation.group(1) + p for p in parts]
    if not all(_RELATION.search(p) and "=" not in p for p in parts):
        return None
    both = _combined(parts, _both)
    if both is None:
        return None
    if any(_member(both, p) for p in (*both.ends, *_GRID)):
        return both
    return _combined(parts, _union)


def _union(a: RealSet, b: RealSet) -> RealSet:
    return _made_of(a, b, lambda x: _member(a, x) or _member(b, x))


def _both(a: RealSet, b: RealSet) -> RealSet:
    return _made_of(a, b, lambda x: _member(a, x) and _member(b, x))


def _without(a: RealSet, b: RealSet) -> RealSet:
    return _made_of(a, b, lambda x: _member(a, x) and not _member(b, x))


def _made_of(a: RealSet, b: RealSet, holds: Callable[[Any], bool]) -> RealSet:
    return RealSet(holds, a.ends + b.ends, a.name or b.name, a.written_out and b.written_out)


def _brackets(text: str) -> RealSet | None:
    found = bracketed(text)
    if found is None:
        return None
    opening, inside, closing = found
    if opening in ("\\{", "{"):
        return _braces(inside)
    parts = cut(inside, ",;")
    if len(parts) == 1 and opening == "(":
        return real_set(inside) if re.search(r"[∪∩<>≤≥≠]", inside) else None
    if len(parts) != 2 or opening not in "([" or closing not in ")]":
        return None
    low, high = (_end_point(p) for p in parts)
    if low is None or high is None or compare(low, high) > 0:
        return None
    least = 0 if opening == "[" else 1
    most = 0 if closing == "]" else -1
    return RealSet(lambda x: compare(x, low) >= least and compare(x, high) <= most, (low, high))


def _braces(inside: str) -> RealSet | None:
    """`{1, 2}`, or `{x : x > 3}` and its like."""
    head, separator, conditions = re.sub(r"(?<![|:])\|(?![|])", ":", inside, count=1).partition(":")
    name = head.partition("∈")[0].strip()
    if separator and _NAME.fullmatch(name):
        return real_set(conditions.strip())
    values = [_end_point(part) for part in cut(inside, ",;", words=True)[:_MOST_PARTS]]
    if any(v is None for v in values):
        return None
    return RealSet(lambda x: any(compare(x, v) == 0 for v in values), tuple(values))


def _end_point(text: str) -> Any:
    """The real value of an end point, or None where it has free symbols or is not real."""
    value = constant(text.lstrip("+"))
    if value is None or isinstance(value, tuple):
        return None
    try:
        compare(value, Fraction(0))
    except NoValue:
        return None
    return value


def _condition(text: str) -> RealSet | None:
    """A chain such as `1 < x ≤ 2` or `x^2 ≠ 4` in one variable."""
    sides, relations = _RELATION.split(text), _RELATION.findall(text)
    sides = [s.strip() for s in sides]
    if len(sides) > 5 or not all(sides):
        return None
    named = [s for s in sides if _NAME.fullmatch(s) and "(" in s]
    if len(set(named)) == 1:  # `0 < f(x) < 1` bounds the value of f
        sides, name = ["t" if s == named[0] else s for s in sides], named[0]
    else:
        name = ""
    free = frozenset[str]().union(*(symbols(parse(s)) for s in sides))
    if len(free) != 1:
        return None
    (variable,) = free
    constants = [_end_point(s) for s in sides if not symbols(parse(s))]
    if any(c is None for c in constants):
        return None
    plain = all(s.strip("-+ ") == variable or not symbols(parse(s)) for s in sides)
    ends = tuple(constants) + (tuple(-c for c in constants) if any("-" in s for s in sides) or not plain else ())

    def holds(x: Any) -> bool:
        values = [value_with(s, variable, x) for s in sides]
        return all(
            _HOLDS[r](compare(a, b)) for a, r, b in zip(values, relations, values[1:], strict=False)
        )  # fmt: skip

    return RealSet(holds, ends, name or variable, plain)


def _variable(head: str) -> str:
    return head.strip().replace("{", "").replace("}", "")


# -- order on fractions and mpmath numbers ----------------------------------------------------------

_INFINITE, _MINUS_INFINITE = float("inf"), float("-inf")


def _by_size(value: Any) -> Any:
    return _Ordered(value)


@dataclass(frozen=True)
class _Ordered:
    value: Any

    def __lt__(self, other: _Ordered) -> bool:
        return compare(self.value, other.value) < 0


def _middle(low: Any, high: Any) -> Any:
    if low is None:
        return high + 1
    if high is None:
        return low - 1
    return (low + high) / 2 if type(low) is type(high) else (_float(low) + _float(high)) / 2


def _shifted(end: Any, sign: int) -> Any:
    return end + Fraction(sign, 1000) if isinstance(end, Fraction) else end + sign / 1000


def _float(value: Any) -> Fraction:
    return value if isinstance(value, Fraction) else Fraction(str(value.real if hasattr(value, "real") else value))
