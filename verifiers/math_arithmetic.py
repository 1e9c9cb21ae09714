"""Bounded arithmetic for `math_functions`: what grows beyond bounds keeps its leading digits or raises NoValue."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from flywheel.verifiers.math_exact import NoValue

MOST_BITS = 20_000
"""Of a fraction's numerator or denominator; beyond it only the leading digits are kept."""
_MOST_EXPONENT = 10**12
_LARGEST_ARGUMENT = 60
"""Binary magnitude of what may go into exp, sin and the like."""


class Arithmetic:
    """Sums, products, powers and matrices of fractions and mpmath numbers, in an mpmath context. Raises NoValue."""

    def __init__(self, mp: Any) -> None:
        self.mp = mp

    def number(self, value: Any) -> Any:
        """A value as an mpmath number."""
        if isinstance(value, tuple):
            raise NoValue("has a matrix where a number belongs")
        return self.mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value

    def kept(self, value: Any) -> Any:
        """A fraction that has grown beyond bounds becomes its leading digits."""
        if (
            isinstance(value, Fraction)
            and max(value.numerator.bit_length(), value.denominator.bit_length()) > MOST_BITS
        ):
            return self.number(value)
        return value

    # -- operators ----------------------------------------------------------------------------------

    def plus(self, a: Any, b: Any) -> Any:
        """The sum; matrices of one shape add entry by entry."""
        if isinstance(a, tuple) or isinstance(b, tuple):
            if not (isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b) and len(a[0]) == len(b[0])):
                raise NoValue("adds unlike matrices")
            return tuple(tuple(map(self.plus, x, y)) for x, y in zip(a, b, strict=True))
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return self.kept(a + b)
        return self.number(a) + self.number(b)

    def times(self, a: Any, b: Any) -> Any:
        """The product of numbers, of a matrix and a number, or of two matrices."""
        if isinstance(a, tuple) and isinstance(b, tuple):
            if len(a[0]) != len(b):
                raise NoValue("multiplies matrices that do not fit")
            return tuple(tuple(self._dot(row, column) for column in zip(*b, strict=True)) for row in a)
        if isinstance(a, tuple):
            return tuple(tuple(self.times(x, b) for x in row) for row in a)
        if isinstance(b, tuple):
            return self.times(b, a)
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return self.kept(a * b)
        return self.number(a) * self.number(b)

    def _dot(self, row: Any, column: Any) -> Any:
        total: Any = Fraction(0)
        for a, b in zip(row, column, strict=True):
            total = self.plus(total, self.times(a, b))
        return total

    def over(self, a: Any, b: Any) -> Any:
        """The quotient of two values."""
        if isinstance(b, tuple):
            raise NoValue("divides by a matrix")
        if b == 0:
            raise NoValue("divides by zero")
        inverse = 1 / b if isinstance(b, Fraction) else self.mp.mpf(1) / b
        return self.times(a, inverse)

    def power(self, a: Any, b: Any) -> Any:
        """A power: exact where it can be, and the real one of a negative number where the exponent's denominator is odd."""
        if isinstance(a, tuple):
            return self._matrix_power(a, b)
        whole = int(b) if isinstance(b, Fraction) and b.denominator == 1 else None
        if whole is not None:
            if a == 0:
                if whole < 0:
                    raise NoValue("divides by zero")
                return Fraction(int(whole == 0))
            if isinstance(a, Fraction):
                bits = max(a.numerator.bit_length(), a.denominator.bit_length())
                if bits * abs(whole) <= MOST_BITS or a in (1, -1):
                    return a**whole if a not in (1, -1) else Fraction(1 if whole % 2 == 0 else a)
            if abs(whole) > _MOST_EXPONENT:
                raise NoValue("has too large a power")
            return self.bounded(self.number(a) ** whole)
        if isinstance(b, Fraction) and isinstance(a, Fraction):
            exact = self._exact_root(a, b)
            if exact is not None:
                return exact
        if isinstance(b, Fraction) and b.denominator % 2 and self._is_negative(a):
            size = self.exponential(self.number(b) * self.mp.log(-self.number(a)))
            return -size if b.numerator % 2 else size  # the real root
        if a == 0:
            if self.mp.re(self.number(b)) <= 0:
                raise NoValue("divides by zero")
            return Fraction(0)
        return self.exponential(self.number(b) * self.mp.log(self.number(a)))

    def _is_negative(self, a: Any) -> bool:
        if isinstance(a, Fraction):
            return a < 0
        return not self.mp.im(a) and self.mp.re(a) < 0

    def _exact_root(self, a: Fraction, b: Fraction) -> Any:
        """`a**b` where that is a fraction, as 8**(2/3) is; None for others."""
        degree, times = b.denominator, b.numerator
        if degree > 64 or abs(times) > 64 or (a < 0 and degree % 2 == 0):
            return None
        roots = [_whole_root(abs(part), degree) for part in (a.numerator, a.denominator)]
        if None in roots:
            return None
        root = Fraction(roots[0] or 0, roots[1] or 1)
        return self.power(-root if a < 0 else root, Fraction(times))

    def exponential(self, exponent: Any) -> Any:
        """e to the power of a number of bounded size."""
        self.small(exponent)
        return self.mp.exp(exponent)

    def small(self, argument: Any) -> Any:
        """The argument itself, if it is small enough for exp, sin and the like."""
        if not self.mp.isinf(argument) and argument != 0 and self.mp.mag(argument) > _LARGEST_ARGUMENT:
            raise NoValue("is too large to work out")
        return argument

    def bounded(self, value: Any) -> Any:
        """The value itself, if its exponent is within bounds."""
        if value != 0 and not self.mp.isinf(value) and abs(self.mp.mag(value)) > 2**50:
            raise NoValue("is too large to work out")
        return value

    def _matrix_power(self, a: Any, b: Any) -> Any:
        if not (isinstance(b, Fraction) and b.denominator == 1 and -1 <= b <= 64 and len(a) == len(a[0]) <= 8):
            raise NoValue("raises a matrix to a power that is not worked out")
        if b == -1:
            return self._inverse(a)
        size = range(len(a))
        result: Any = tuple(tuple(Fraction(int(i == j)) for j in size) for i in size)
        for _ in range(int(b)):
            result = self.times(result, a)
        return result

    def _inverse(self, a: Any) -> Any:
        whole = self.determinant(a)
        if whole == 0:
            raise NoValue("inverts a singular matrix")
        size = range(len(a))
        return tuple(tuple(self.over(self._cofactor(a, j, i), whole) for j in size) for i in size)

    def _cofactor(self, a: Any, i: int, j: int) -> Any:
        minor = tuple(row[:j] + row[j + 1 :] for k, row in enumerate(a) if k != i)
        value = self.determinant(minor) if minor else Fraction(1)
        return self.times(Fraction(-1 if (i + j) % 2 else 1), value)

    def determinant(self, a: Any) -> Any:
        """The determinant of a matrix of at most six rows."""
        if not isinstance(a, tuple) or len(a) != len(a[0]) or len(a) > 6:
            raise NoValue("is no determinant that is worked out")
        if len(a) == 1:
            return a[0][0]
        total: Any = Fraction(0)
        for j, entry in enumerate(a[0]):
            total = self.plus(total, self.times(entry, self._cofactor(a, 0, j)))
        return total


def _whole_root(value: int, degree: int) -> int | None:
    """The exact root of a whole number, or None."""
    if value.bit_length() > 4_000:
        return None
    if degree == 2:
        root = math.isqrt(value)
        return root if root * root == value else None
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high) // 2
        if middle**degree < value:
            low = middle + 1
        else:
            high = middle
    return low if low**degree == value else None
