"""What an expression is worth, and whether two are worth the same: exact fractions where it can be, else 50 digits.

Expressions with free symbols are compared at fixed rational points (polynomial identity testing: Schwartz 1980, Zippel
1979), which decides what an algebra system would have to simplify, in a fraction of the time. Every step is bounded, so
that no text takes long or much memory: what is too large to work out raises NoValue, as does what has no value.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

from flywheel.verifiers.math_exact import NoValue
from flywheel.verifiers.math_functions import Evaluator
from flywheel.verifiers.math_parse import parse
from flywheel.verifiers.math_tree import Node, symbols

DIGITS = 50
"""Digits that values are worked out to first."""
MOST_WHOLE_DIGITS = 5_000
"""Digits before the point of numbers that are compared to the last one."""
POINTS = 5
"""At which expressions with free symbols are compared."""

_LOCK = threading.RLock()
_P = ParamSpec("_P")
_R = TypeVar("_R")


@lru_cache(maxsize=1)
def _context() -> Any:
    """An mpmath context of our own: precision is a setting of the context, and the caller's is not ours to change."""
    import mpmath

    return mpmath.MPContext()


def load() -> None:
    """Import mpmath."""
    _context()


def _one_at_a_time(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Threads share the context and so take turns; each turn is short, and sets the precision that it needs."""

    @wraps(function)
    def locked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _LOCK:
            return function(*args, **kwargs)

    return locked


@_one_at_a_time
def same_value(gold: str, answer: str, *, tolerance: float = 0.0) -> bool:
    """Whether two tidied expressions are worth the same wherever both are real (or anywhere, with `i`).

    `tolerance` is the share of the reference that numbers may differ by. Raises Unreadable, and NoValue where
    one has no value at all.
    """
    ours, theirs = parse(gold), parse(answer)
    if ours == theirs:
        _value(gold, 0, DIGITS)  # `1/0` is not right for being the same
        return True
    if not symbols(ours) and not symbols(theirs):
        return _agree(gold, answer, 0, tolerance)
    decided, undefined = 0, None
    may_skip = not (_has_i(ours) or _has_i(theirs))
    for point in range(POINTS):
        try:
            if may_skip and not (_real(_value(gold, point, DIGITS)) and _real(_value(answer, point, DIGITS))):
                continue
            if not _agree(gold, answer, point, tolerance):
                return False
        except NoValue as error:
            undefined = error
            continue
        decided += 1
    if decided:
        return True
    if undefined is not None:
        raise undefined
    return _agree(gold, answer, 0, tolerance)


@_one_at_a_time
def constant(text: str) -> Any:
    """The value of an expression without free symbols: a Fraction, mpmath number or tuple of rows; None for others.

    Raises Unreadable and NoValue.
    """
    return None if symbols(parse(text)) else _value(text, 0, DIGITS)


@_one_at_a_time
def proportional(gold: tuple[str, str], answer: tuple[str, str]) -> int:
    """1 or -1 where left minus right of two relations are multiples of one another, with that sign; else 0.

    Raises Unreadable and NoValue.
    """
    signs = set()
    first: Any = None
    mp = _context()
    for point in range(POINTS):
        try:
            ours, theirs = (_minus(_value(a, point, DIGITS), _value(b, point, DIGITS)) for a, b in (gold, answer))
        except NoValue:
            continue
        if ours == 0 or theirs == 0:
            if ours != theirs:
                return 0
            continue
        mp.dps = DIGITS
        exact = isinstance(ours, Fraction) and isinstance(theirs, Fraction)
        ratio = theirs / ours if exact else _mp(theirs) / _mp(ours)
        first = ratio if first is None else first
        if ratio != first and not (abs(_mp(ratio) - _mp(first)) <= abs(_mp(first)) * mp.mpf(10) ** -35):
            return 0
        if not _real(ratio):
            return 0
        signs.add(1 if _mp(ratio).real > 0 else -1)
    return signs.pop() if len(signs) == 1 else 0


@_one_at_a_time
def value_with(text: str, name: str, value: Any) -> Any:
    """The value of an expression whose one free symbol has a value. Raises Unreadable and NoValue."""
    return _evaluate(parse(text), {name: value}, DIGITS)


@_one_at_a_time
def compare(ours: Any, theirs: Any) -> int:
    """-1, 0 or 1 as a real value is less than, equal to or greater than another. Raises NoValue for complex ones."""
    if isinstance(ours, Fraction) and isinstance(theirs, Fraction):
        return (ours > theirs) - (ours < theirs)
    if not (_real(ours) and _real(theirs)):
        raise NoValue("is not real")
    mp = _context()
    mp.dps = DIGITS
    a, b = _mp(ours).real, _mp(theirs).real
    if a == b or (not mp.isinf(a) and not mp.isinf(b) and abs(a - b) <= mp.mpf(10) ** -30 * max(1, abs(a), abs(b))):
        return 0
    return 1 if a > b else -1


# -- agreement --------------------------------------------------------------------------------------


def _agree(gold: str, answer: str, point: int, tolerance: float) -> bool:
    ours, theirs = _value(gold, point, DIGITS), _value(answer, point, DIGITS)
    if isinstance(ours, tuple) or isinstance(theirs, tuple):
        return _same_rows(ours, theirs, tolerance)
    verdict = _close(ours, theirs, tolerance)
    if verdict is not None:
        return verdict
    digits = 2 * DIGITS + 10 + _whole_digits(ours)
    exact, other = _mp(_value(gold, point, digits)), _mp(_value(answer, point, digits))
    mp = _context()
    mp.dps = digits
    if abs(exact - other) <= max(abs(exact), abs(other)) * mp.mpf(10) ** (15 - digits):
        return True
    return _vanishes(gold, exact, point, digits) and _vanishes(answer, other, point, digits)


def _close(ours: Any, theirs: Any, tolerance: float) -> bool | None:
    """Whether two values agree; None where more digits must tell."""
    if isinstance(ours, Fraction) and isinstance(theirs, Fraction):
        return ours == theirs or abs(ours - theirs) <= Fraction(tolerance) * abs(ours)
    mp = _context()
    mp.dps = DIGITS
    a, b = _mp(ours), _mp(theirs)
    if mp.isinf(a) or mp.isinf(b):
        return bool(a == b)
    difference, size = abs(a - b), max(abs(a), abs(b))
    if tolerance and difference <= mp.mpf(tolerance) * abs(a):
        return True
    if size <= mp.mpf(10) ** -15:
        return None
    if difference > size * mp.mpf(10) ** -12:
        return False
    # A decimal with as many digits of a surd as are looked at first is still not that surd.
    alike = isinstance(ours, Fraction) == isinstance(theirs, Fraction)
    return True if alike and difference <= size * mp.mpf(10) ** -40 and size < mp.mpf(10) ** 9 else None


def _vanishes(text: str, value: Any, point: int, digits: int) -> bool:
    """Whether a value is zero: what cancellation leaves shrinks as the digits grow, what is merely small does not."""
    mp = _context()
    if value == 0:
        return True
    if abs(value) > mp.mpf(10) ** (20 - digits):
        return False
    closer = _mp(_value(text, point, digits + DIGITS))
    return bool(abs(closer) < abs(value) * mp.mpf(10) ** -20)


def _whole_digits(value: Any) -> int:
    """Decimal digits before the point; NoValue where there are too many to compare."""
    mp = _context()
    number = _mp(value)
    if number == 0 or mp.isinf(number):
        return 0
    digits = int(max(0, mp.mag(number)) * 0.302)
    if digits > MOST_WHOLE_DIGITS:
        raise NoValue("is too large to compare")
    return digits


def _same_rows(ours: Any, theirs: Any, tolerance: float) -> bool:
    if not (isinstance(ours, tuple) and isinstance(theirs, tuple)):
        return False
    if len(ours) != len(theirs) or len(ours[0]) != len(theirs[0]):
        return False
    pairs = [(a, b) for row, other in zip(ours, theirs, strict=True) for a, b in zip(row, other, strict=True)]
    for a, b in pairs:
        verdict = _close(a, b, tolerance)
        if verdict is None:
            mp = _context()
            verdict = abs(_mp(a) - _mp(b)) <= mp.mpf(10) ** -40 * max(1, abs(_mp(a)))
        if not verdict:
            return False
    return True


def _real(value: Any) -> bool:
    if isinstance(value, (Fraction, tuple)):
        return True
    mp = _context()
    return not mp.im(value) or bool(abs(mp.im(value)) <= abs(value) * mp.mpf(10) ** -25)


def _has_i(node: Node) -> bool:
    return node == ("sym", "i") or any(_has_i(child) for child in node[1:] if isinstance(child, tuple))


def _minus(a: Any, b: Any) -> Any:
    if isinstance(a, tuple) or isinstance(b, tuple):
        raise NoValue("is a matrix")
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a - b
    _context().dps = DIGITS
    a, b = _mp(a), _mp(b)
    difference = a - b
    return Fraction(0) if abs(difference) <= (abs(a) + abs(b)) * _context().mpf(10) ** -40 else difference


# -- evaluation -------------------------------------------------------------------------------------


@lru_cache(maxsize=16384)
def _value(text: str, point: int, digits: int) -> Any:
    tree = parse(text)
    return _evaluate(tree, {name: coordinate(name, point) for name in symbols(tree)}, digits)


def coordinate(name: str, point: int) -> Fraction:
    """A symbol's value at a point: positive, in (0, 1), large, in (-1, 0), negative; denominators are odd."""
    chosen = zlib.crc32(f"{name}/{point}".encode("utf-8", "replace")) % 83
    table = (
        Fraction(9 + chosen, 7), Fraction(5 + chosen, 97), Fraction(500 + chosen, 11),
        Fraction(-5 - chosen, 97), Fraction(-11 - chosen, 9),
    )  # fmt: skip
    return table[point]


def _evaluate(tree: Node, env: dict[str, Any], digits: int) -> Any:
    mp = _context()
    mp.dps = digits
    try:
        value = Evaluator(mp, env).value(tree)
    except (ZeroDivisionError, OverflowError, ValueError) as error:
        if isinstance(error, NoValue):
            raise
        raise NoValue("divides by zero" if isinstance(error, ZeroDivisionError) else "has no value") from None
    if not isinstance(value, (Fraction, tuple)) and mp.isnan(value):
        raise NoValue("has no value")
    return value


def _mp(value: Any) -> Any:
    if isinstance(value, tuple):
        raise NoValue("is a matrix")
    mp = _context()
    return mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value
