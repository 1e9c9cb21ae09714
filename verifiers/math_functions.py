"""The arithmetic behind `math_value`: each kind of node, each function, and the bounds that keep hostile ones cheap."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from flywheel.verifiers.math_exact import NoValue
from flywheel.verifiers.math_parse import Node

MOST_BITS = 20_000
"""Of a fraction's numerator or denominator; beyond it only the leading digits are kept."""
MOST_STEPS = 50_000
"""Operations of one evaluation."""
MOST_TERMS = 2_000
"""Terms of a sum or product that is worked out."""
_MOST_EXPONENT = 10**12
_LARGEST_ARGUMENT = 60
"""Binary magnitude of what may go into exp, sin and the like."""


class Evaluator:
    """Works out one tree in an mpmath context; `env` gives the symbols their values. Raises NoValue."""

    def __init__(self, mp: Any, env: dict[str, Any]) -> None:
        self.mp = mp
        self.env = env
        self.steps = 0

    def value(self, node: Node) -> Any:
        """A Fraction, an mpmath number, or a matrix as a tuple of rows."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise NoValue("takes too many steps to work out")
        kind = node[0]
        if kind == "num":
            return node[1]
        if kind == "sym":
            return self.symbol(node[1])
        if kind in ("sum", "prod"):
            return self.series(node)
        if kind == "mat":
            return tuple(tuple(self.scalar(entry) for entry in row) for row in node[1])
        if kind == "fn":
            return self.function(node[1], node[2:])
        if kind == "neg":
            return self.times(Fraction(-1), self.value(node[1]))
        if kind == "inverse":
            return self.over(Fraction(1), self.value(node[1]))
        if kind == "deg":
            return self.times(self.value(node[1]), self.mp.pi / 180)
        values = [self.value(child) for child in node[1:]]
        result = values[0]
        for value in values[1:]:
            result = getattr(self, {"add": "plus", "mul": "times", "div": "over", "pow": "power"}[kind])(result, value)
        return result

    def scalar(self, node: Node) -> Any:
        value = self.value(node)
        if isinstance(value, tuple):
            raise NoValue("is a matrix of matrices")
        return value

    def symbol(self, name: str) -> Any:
        if name in self.env:
            return self.env[name]
        constants = {"π": self.mp.pi, "e": self.mp.e, "i": self.mp.mpc(0, 1), "∞": self.mp.inf}
        if name not in constants:
            raise NoValue(f"has the free symbol {name}")
        return +constants[name]

    def number(self, value: Any) -> Any:
        """A value as an mpmath number."""
        if isinstance(value, tuple):
            raise NoValue("has a matrix where a number belongs")
        return self.mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value

    def kept(self, value: Any) -> Any:
        """A fraction that has grown beyond bounds becomes its leading digits."""
        if isinstance(value, Fraction) and max(value.numerator.bit_length(), value.denominator.bit_length()) > MOST_BITS:
            return self.number(value)
        return value

    # -- operators ----------------------------------------------------------------------------------

    def plus(self, a: Any, b: Any) -> Any:
        if isinstance(a, tuple) or isinstance(b, tuple):
            if not (isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b) and len(a[0]) == len(b[0])):
                raise NoValue("adds unlike matrices")
            return tuple(tuple(map(self.plus, x, y)) for x, y in zip(a, b, strict=True))
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return self.kept(a + b)
        return self.number(a) + self.number(b)

    def times(self, a: Any, b: Any) -> Any:
        if isinstance(a, tuple) and isinstance(b, tuple):
            if len(a[0]) != len(b):
                raise NoValue("multiplies matrices that do not fit")
            return tuple(tuple(self.dot(row, column) for column in zip(*b, strict=True)) for row in a)
        if isinstance(a, tuple):
            return tuple(tuple(self.times(x, b) for x in row) for row in a)
        if isinstance(b, tuple):
            return self.times(b, a)
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return self.kept(a * b)
        return self.number(a) * self.number(b)

    def dot(self, row: Any, column: Any) -> Any:
        total: Any = Fraction(0)
        for a, b in zip(row, column, strict=True):
            total = self.plus(total, self.times(a, b))
        return total

    def over(self, a: Any, b: Any) -> Any:
        if isinstance(b, tuple):
            raise NoValue("divides by a matrix")
        if b == 0:
            raise NoValue("divides by zero")
        inverse = 1 / b if isinstance(b, Fraction) else self.mp.mpf(1) / b
        return self.times(a, inverse)

    def power(self, a: Any, b: Any) -> Any:
        if isinstance(a, tuple):
            return self.matrix_power(a, b)
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
            exact = self.exact_root(a, b)
            if exact is not None:
                return exact
        if isinstance(b, Fraction) and b.denominator % 2 and self.is_negative(a):
            size = self.exponential(self.number(b) * self.mp.log(-self.number(a)))
            return -size if b.numerator % 2 else size  # the real root
        if a == 0:
            if self.mp.re(self.number(b)) <= 0:
                raise NoValue("divides by zero")
            return Fraction(0)
        return self.exponential(self.number(b) * self.mp.log(self.number(a)))

    def is_negative(self, a: Any) -> bool:
        if isinstance(a, Fraction):
            return a < 0
        return not self.mp.im(a) and self.mp.re(a) < 0

    def exact_root(self, a: Fraction, b: Fraction) -> Any:
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
        self.small(exponent)
        return self.mp.exp(exponent)

    def small(self, argument: Any) -> Any:
        if not self.mp.isinf(argument) and argument != 0 and self.mp.mag(argument) > _LARGEST_ARGUMENT:
            raise NoValue("is too large to work out")
        return argument

    def bounded(self, value: Any) -> Any:
        if value != 0 and not self.mp.isinf(value) and abs(self.mp.mag(value)) > 2**50:
            raise NoValue("is too large to work out")
        return value

    def matrix_power(self, a: Any, b: Any) -> Any:
        if not (isinstance(b, Fraction) and b.denominator == 1 and -1 <= b <= 64 and len(a) == len(a[0]) <= 8):
            raise NoValue("raises a matrix to a power that is not worked out")
        if b == -1:
            return self.inverse(a)
        size = range(len(a))
        result: Any = tuple(tuple(Fraction(int(i == j)) for j in size) for i in size)
        for _ in range(int(b)):
            result = self.times(result, a)
        return result

    def inverse(self, a: Any) -> Any:
        whole = self.determinant(a)
        if whole == 0:
            raise NoValue("inverts a singular matrix")
        size = range(len(a))
        return tuple(tuple(self.over(self.cofactor(a, j, i), whole) for j in size) for i in size)

    def cofactor(self, a: Any, i: int, j: int) -> Any:
        minor = tuple(row[:j] + row[j + 1 :] for k, row in enumerate(a) if k != i)
        value = self.determinant(minor) if minor else Fraction(1)
        return self.times(Fraction(-1 if (i + j) % 2 else 1), value)

    def determinant(self, a: Any) -> Any:
        if not isinstance(a, tuple) or len(a) != len(a[0]) or len(a) > 6:
            raise NoValue("is no determinant that is worked out")
        if len(a) == 1:
            return a[0][0]
        total: Any = Fraction(0)
        for j, entry in enumerate(a[0]):
            total = self.plus(total, self.times(entry, self.cofactor(a, 0, j)))
        return total

    # -- functions ----------------------------------------------------------------------------------

    def series(self, node: Node) -> Any:
        kind, name, first_node, last_node, body = node
        first, last = self.value(first_node), self.value(last_node)
        if not (isinstance(first, Fraction) and isinstance(last, Fraction) and first.denominator == last.denominator == 1):
            raise NoValue("has a sum or product that is not worked out")
        if last - first > MOST_TERMS:
            raise NoValue("has too many terms")
        total: Any = Fraction(int(kind == "prod"))
        outer = self.env
        for index in range(int(first), int(last) + 1):
            self.env = {**outer, name: Fraction(index)}
            term = self.value(body)
            total = self.plus(total, term) if kind == "sum" else self.times(total, term)
        self.env = outer
        return total

    def function(self, name: str, arguments: tuple[Node, ...]) -> Any:
        values = [self.value(a) for a in arguments]
        special = getattr(self, "fn_" + name, None)
        if special is not None:
            return special(*values)
        x = self.small(self.number(values[0]))
        mp = self.mp
        known = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec", "arccsc": "acsc"}
        if name in ("tan", "sec", "cot", "csc"):
            below = mp.cos(x) if name in ("tan", "sec") else mp.sin(x)
            if abs(below) < mp.mpf(10) ** (15 - mp.dps):
                raise NoValue("divides by zero")
        return getattr(mp, known.get(name, name))(x)

    def fn_transpose(self, a: Any) -> Any:
        return tuple(zip(*a, strict=True))

    def fn_det(self, a: Any) -> Any:
        return self.determinant(a)

    def fn_abs(self, x: Any) -> Any:
        if isinstance(x, tuple):
            return self.determinant(x)
        return abs(x)

    def fn_root(self, x: Any, degree: Any) -> Any:
        if degree == 0:
            raise NoValue("divides by zero")
        return self.power(x, self.over(Fraction(1), degree))

    def fn_exp(self, x: Any) -> Any:
        return self.exponential(self.number(x))

    def fn_ln(self, x: Any) -> Any:
        return self.fn_log(x)

    def fn_lg(self, x: Any) -> Any:
        return self.fn_log(x, Fraction(10))

    def fn_log(self, x: Any, base: Any = None) -> Any:
        if x == 0 or base in (0, 1):
            raise NoValue("takes the logarithm of zero")
        above = self.mp.log(self.number(x))
        if base is None:
            return above
        result = above / self.mp.log(self.number(base))
        nearest = self.mp.nint(result) if self.mp.isfinite(result) and not self.mp.im(result) else None
        if nearest is not None and isinstance(x, Fraction) and isinstance(base, Fraction) and abs(nearest) < 10_000:
            exact = self.power(base, Fraction(int(nearest)))
            if exact == x:
                return Fraction(int(nearest))
        return result

    def fn_factorial(self, x: Any) -> Any:
        if isinstance(x, Fraction) and x.denominator == 1:
            if x < 0:
                raise NoValue("takes the factorial of a negative number")
            if x <= 1500:
                return self.kept(Fraction(math.factorial(int(x))))
        elif isinstance(x, tuple):
            raise NoValue("takes the factorial of a matrix")
        number = self.number(x)
        if number != 0 and self.mp.mag(number) > 40:
            raise NoValue("has too large a factorial")
        return self.bounded(self.mp.gamma(number + 1))

    def fn_binomial(self, n: Any, k: Any) -> Any:
        if all(isinstance(v, Fraction) and v.denominator == 1 and 0 <= v <= 5_000 for v in (n, k)):
            return self.kept(Fraction(math.comb(int(n), int(k))))
        n, k = self.number(n), self.number(k)
        for value in (n, k):
            if value != 0 and self.mp.mag(value) > 40:
                raise NoValue("has too large a binomial")
        return self.mp.binomial(n, k)

    def fn_floor(self, x: Any) -> Any:
        return Fraction(math.floor(x)) if isinstance(x, Fraction) else self.whole(self.mp.floor(self.real(x)))

    def fn_ceil(self, x: Any) -> Any:
        return Fraction(math.ceil(x)) if isinstance(x, Fraction) else self.whole(self.mp.ceil(self.real(x)))

    def fn_sgn(self, x: Any) -> Any:
        x = self.real(self.number(x))
        return Fraction((x > 0) - (x < 0))

    def fn_cbrt(self, x: Any) -> Any:
        return self.power(x, Fraction(1, 3))

    def fn_max(self, *values: Any) -> Any:
        return max(values, key=lambda v: self.real(self.number(v)))

    def fn_min(self, *values: Any) -> Any:
        return min(values, key=lambda v: self.real(self.number(v)))

    def fn_gcd(self, *values: Any) -> Any:
        return Fraction(math.gcd(*self.integers(values)))

    def fn_lcm(self, *values: Any) -> Any:
        return self.kept(Fraction(math.lcm(*self.integers(values))))

    def integers(self, values: tuple[Any, ...]) -> list[int]:
        if not all(isinstance(v, Fraction) and v.denominator == 1 for v in values):
            raise NoValue("takes a divisor of what is no whole number")
        return [int(v) for v in values]

    def real(self, x: Any) -> Any:
        if isinstance(x, tuple) or (not isinstance(x, Fraction) and self.mp.im(x)):
            raise NoValue("compares what is not real")
        return x

    def whole(self, x: Any) -> Any:
        self.small(x)
        if self.mp.isinf(x):
            raise NoValue("rounds infinity")
        return Fraction(int(x))


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
