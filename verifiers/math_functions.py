"""What each kind of node and each function of a tree is worth (`math_parse` has the trees)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from flywheel.verifiers.math_arithmetic import Arithmetic
from flywheel.verifiers.math_exact import NoValue
from flywheel.verifiers.math_tree import Node

MOST_STEPS = 50_000
"""Operations of one evaluation."""
MOST_TERMS = 2_000
"""Terms of a sum or product that is worked out."""


class Evaluator(Arithmetic):
    """Works out one tree; `env` gives the symbols their values. Raises NoValue."""

    def __init__(self, mp: Any, env: dict[str, Any]) -> None:
        super().__init__(mp)
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
            return self._symbol(node[1])
        if kind in ("sum", "prod"):
            return self._series(node)
        if kind == "mat":
            return tuple(tuple(self._scalar(entry) for entry in row) for row in node[1])
        if kind == "fn":
            return self._function(node[1], node[2:])
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

    def _scalar(self, node: Node) -> Any:
        value = self.value(node)
        if isinstance(value, tuple):
            raise NoValue("is a matrix of matrices")
        return value

    def _symbol(self, name: str) -> Any:
        if name in self.env:
            return self.env[name]
        constants = {"π": self.mp.pi, "e": self.mp.e, "i": self.mp.mpc(0, 1), "∞": self.mp.inf}
        if name not in constants:
            raise NoValue(f"has the free symbol {name}")
        return +constants[name]

    # -- functions ----------------------------------------------------------------------------------

    def _series(self, node: Node) -> Any:
        kind, name, first_node, last_node, body = node
        first, last = self.value(first_node), self.value(last_node)
        if not (
            isinstance(first, Fraction) and isinstance(last, Fraction) and first.denominator == last.denominator == 1
        ):
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

    def _function(self, name: str, arguments: tuple[Node, ...]) -> Any:
        values = [self.value(a) for a in arguments]
        special = getattr(self, "_fn_" + name, None)
        if special is not None:
            return special(*values)
        x = self.small(self.number(values[0]))
        mp = self.mp
        known = {
            "arcsin": "asin",
            "arccos": "acos",
            "arctan": "atan",
            "arccot": "acot",
            "arcsec": "asec",
            "arccsc": "acsc",
        }
        if name in ("tan", "sec", "cot", "csc"):
            below = mp.cos(x) if name in ("tan", "sec") else mp.sin(x)
            if abs(below) < mp.mpf(10) ** (15 - mp.dps):
                raise NoValue("divides by zero")
        return getattr(mp, known.get(name, name))(x)

    def _fn_transpose(self, a: Any) -> Any:
        return tuple(zip(*a, strict=True))

    def _fn_det(self, a: Any) -> Any:
        return self.determinant(a)

    def _fn_abs(self, x: Any) -> Any:
        if isinstance(x, tuple):
            return self.determinant(x)
        return abs(x)

    def _fn_root(self, x: Any, degree: Any) -> Any:
        if degree == 0:
            raise NoValue("divides by zero")
        return self.power(x, self.over(Fraction(1), degree))

    def _fn_exp(self, x: Any) -> Any:
        return self.exponential(self.number(x))

    def _fn_ln(self, x: Any) -> Any:
        return self._fn_log(x)

    def _fn_lg(self, x: Any) -> Any:
        return self._fn_log(x, Fraction(10))

    def _fn_log(self, x: Any, base: Any = None) -> Any:
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

    def _fn_factorial(self, x: Any) -> Any:
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

    def _fn_binomial(self, n: Any, k: Any) -> Any:
        if all(isinstance(v, Fraction) and v.denominator == 1 and 0 <= v <= 5_000 for v in (n, k)):
            return self.kept(Fraction(math.comb(int(n), int(k))))
        n, k = self.number(n), self.number(k)
        for value in (n, k):
            if value != 0 and self.mp.mag(value) > 40:
                raise NoValue("has too large a binomial")
        return self.mp.binomial(n, k)

    def _fn_floor(self, x: Any) -> Any:
        return Fraction(math.floor(x)) if isinstance(x, Fraction) else self._whole(self.mp.floor(self._real(x)))

    def _fn_ceil(self, x: Any) -> Any:
        return Fraction(math.ceil(x)) if isinstance(x, Fraction) else self._whole(self.mp.ceil(self._real(x)))

    def _fn_sgn(self, x: Any) -> Any:
        x = self._real(self.number(x))
        return Fraction((x > 0) - (x < 0))

    def _fn_cbrt(self, x: Any) -> Any:
        return self.power(x, Fraction(1, 3))

    def _fn_max(self, *values: Any) -> Any:
        return max(values, key=lambda v: self._real(self.number(v)))

    def _fn_min(self, *values: Any) -> Any:
        return min(values, key=lambda v: self._real(self.number(v)))

    def _fn_gcd(self, *values: Any) -> Any:
        return Fraction(math.gcd(*self._integers(values)))

    def _fn_lcm(self, *values: Any) -> Any:
        return self.kept(Fraction(math.lcm(*self._integers(values))))

    def _integers(self, values: tuple[Any, ...]) -> list[int]:
        if not all(isinstance(v, Fraction) and v.denominator == 1 for v in values):
            raise NoValue("takes a divisor of what is no whole number")
        return [int(v) for v in values]

    def _real(self, x: Any) -> Any:
        if isinstance(x, tuple) or (not isinstance(x, Fraction) and self.mp.im(x)):
            raise NoValue("compares what is not real")
        return x

    def _whole(self, x: Any) -> Any:
        self.small(x)
        if self.mp.isinf(x):
            raise NoValue("rounds infinity")
        return Fraction(int(x))
