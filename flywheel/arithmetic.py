"""Arithmetic in a completion: whether what it says of numbers is so.

The keep rule of rejection-sampling fine-tuning beside the right answer (Yuan et al. 2023, arXiv:2308.01825, section
3.3): every calculation of the text must come out. Nothing is executed: expressions are read by operator precedence,
in time linear in their length, and what cannot be worked out is no mistake.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

from flywheel.diversity import equations

_TOKEN = re.compile(r"\d+(?:\.\d*)?|\.\d+|[-+*/^()%]")
_RANK = {"+": 1, "-": 1, "*": 2, "/": 2, "~": 3, "^": 4}
_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "^": math.pow,
}

_SIGNS = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/"})
_TIMES = re.compile(r"(?<=[\d)])\s*x\s*(?=[\d(])", re.IGNORECASE)
_OPERAND = r"(?:\([ ]*)*-?\d+(?:\.\d+)?(?:[ ]*\))*"
_EXPRESSION = re.compile(rf"(?<![\w.]){_OPERAND}(?:[ ]*[-+*/][ ]*{_OPERAND})+(?!\.?\w|[ ]*[-+*/^%][ ]*[\w(])")
_LONGEST, _LONGEST_PROBLEM = 100, 4000


def wrong_equation(text: str, tolerance: float) -> str | None:
    """The first equation of a text whose sides differ by more than `tolerance`, such as `2+2=5`; None without one.

    Equations are those of `flywheel.diversity.equations`; of `a=b=c` each side is held against the next. A percent
    sign may be a hundredth or a unit: a side with one holds in either reading. A side that cannot be worked out
    (division by zero, a broken expression, a number out of range) is held against nothing.
    """
    for chain in equations(text):
        sides = chain.split("=")
        for left, right in pairwise(sides):
            if not _agree(left, right, tolerance):
                return f"{left}={right}"
    return None


def _agree(left: str, right: str, tolerance: float) -> bool:
    lefts, rights = _readings(left), _readings(right)
    if not lefts or not rights:
        return True
    return any(abs(a - b) <= tolerance for a in lefts for b in rights)


def _readings(side: str) -> list[float]:
    """What a side may come to: one value, or two where it has a percent sign; none where it cannot be worked out."""
    values = [value_of(side)] if "%" not in side else [value_of(side.replace("%", "")), value_of(side)]
    return [v for v in values if v is not None]


def value_of(expression: str) -> float | None:
    """The value of an expression of numbers, `+ - * / ^`, brackets and postfix `%`; None where it has none."""
    value: float | None = _worked_out(expression, float)
    return value if value is not None and math.isfinite(value) else None


def stated_expression(text: str) -> str | None:
    """The one expression of `+ - * /` and brackets that a problem's text asks for, without spaces; None where it has
    none, several, or one that cannot be worked out. `×`, `÷`, `−` and an `x` between numbers are read as signs."""
    plain = _TIMES.sub("*", text.translate(_SIGNS))
    matches = list(_EXPRESSION.finditer(plain[:_LONGEST_PROBLEM]))
    found = {"".join(match.group().split()) for match in matches}
    if len(found) != 1 or any(plain[: match.start()].rstrip()[-1:] in tuple("+-*/^%=") for match in matches):
        return None
    (expression,) = found
    return expression if len(expression) <= _LONGEST and exact_value(expression) is not None else None


def exact_value(expression: str) -> Fraction | None:
    """The value of what `stated_expression` found, without rounding; None where there is none (division by zero)."""
    value: Fraction | None = _worked_out(expression, Fraction)
    return value


def _worked_out(expression: str, number: Callable[[str], Any]) -> Any:
    """Operator precedence with two stacks (Dijkstra 1961, Mathematisch Centrum report MR 34/61)."""
    values: list[Any] = []
    pending: list[str] = []
    operand_next = True
    try:
        for token in _TOKEN.findall(expression):
            if token[-1].isdigit() or token[-1] == ".":
                if not operand_next:
                    return None
                values.append(number(token))
                operand_next = False
            elif token == "(":
                if not operand_next:
                    return None
                pending.append(token)
            elif operand_next:
                if token not in "+-":
                    return None
                if token == "-":
                    pending.append("~")
            elif token == "%":
                values[-1] /= 100.0
            elif token == ")":
                while pending[-1] != "(":  # IndexError where no bracket was opened
                    _apply(pending.pop(), values)
                pending.pop()
            else:
                while pending and pending[-1] != "(" and _goes_first(pending[-1], token):
                    _apply(pending.pop(), values)
                pending.append(token)
                operand_next = True
        if operand_next or "(" in pending:
            return None
        while pending:
            _apply(pending.pop(), values)
    except (ArithmeticError, ValueError, IndexError):
        return None
    return values[0] if len(values) == 1 else None


def _goes_first(waiting: str, token: str) -> bool:
    """Whether an operation that waits is done before the next one; powers go from right to left."""
    return _RANK[waiting] > _RANK[token] or (_RANK[waiting] == _RANK[token] and token != "^")


def _apply(operation: str, values: list[Any]) -> None:
    if operation == "~":
        values[-1] = -values[-1]
        return
    right = values.pop()
    values[-1] = _OPERATIONS[operation](values[-1], right)
