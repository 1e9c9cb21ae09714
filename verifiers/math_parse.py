"""A reader of mathematical expressions in LaTeX and plain text: from text to a tree, by recursive descent.

A node is a tuple: ("num", Fraction), ("sym", name), ("add", a, b, ...), ("mul", a, b, ...), ("inverse", a),
("div", a, b), ("pow", a, b), ("neg", a), ("deg", a) for degrees, ("fn", name, arguments...), ("mat", rows), and
("sum", name, first, last, body) or ("prod", ...).
There is no code in a tree and none is run to make one. What is not understood for certain raises Unreadable, so
that nothing is judged by a half of itself.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

from flywheel.verifiers.math_tokens import (
    CONSTANTS,
    ENVIRONMENTS,
    FUNCTIONS,
    GREEK,
    OF_MANY,
    OTHER_NAMES,
    WRAPPERS,
    tokens_of,
)

Node = tuple[Any, ...]

LONGEST = 1_000
"""Characters that are read."""
MOST_TOKENS = 600
DEEPEST = 40
"""Levels of nesting."""

_MOST_POSTFIXES = 6
_STARTS = frozenset("({[|√π∞⟨")


class Unreadable(ValueError):
    """The text is no expression that this reader knows; the message says at what it stopped."""


@lru_cache(maxsize=8192)
def parse(text: str) -> Node:
    """The tree of a tidied text (`math_text.tidy`). Raises Unreadable."""
    if len(text) > LONGEST:
        raise Unreadable(f"{len(text)} characters")
    tokens = tokens_of(text)
    if len(tokens) > MOST_TOKENS:
        raise Unreadable(f"{len(tokens)} tokens")
    reader = _Reader(tokens)
    tree = reader.expression()
    if reader.at < len(reader.tokens) - 1:
        raise Unreadable(f"{reader.peek()!r}")
    return tree


def symbols(node: Node) -> frozenset[str]:
    """The free symbols of a tree; `e`, `i` and the running names of sums are not free."""
    if node[0] == "num":
        return frozenset()
    if node[0] == "sym":
        return frozenset() if node[1] in ("e", "i", "π", "∞") else frozenset((node[1],))
    if node[0] in ("sum", "prod"):
        return symbols(node[2]) | symbols(node[3]) | (symbols(node[4]) - {node[1]})
    if node[0] == "mat":
        return frozenset[str]().union(*(symbols(entry) for row in node[1] for entry in row))
    return frozenset[str]().union(*(symbols(child) for child in node[1:] if isinstance(child, tuple)))


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0
        self.bars = 0
        self.depth = 0

    def peek(self) -> str:
        return self.tokens[self.at]

    def take(self, expected: str | None = None) -> str:
        token = self.tokens[self.at]
        if token == "" or (expected is not None and token != expected):
            raise Unreadable(f"{token!r} in place of {expected!r}" if expected else "the end")
        self.at += 1
        return token

    # -- sums and products --------------------------------------------------------------------------

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise Unreadable("too deep a nesting")

    def expression(self) -> Node:
        terms = [self.signed(self.product)]
        while self.peek() in ("+", "-"):
            negative = self.take() == "-"
            term = self.signed(self.product)
            terms.append(("neg", term) if negative else term)
        return terms[0] if len(terms) == 1 else ("add", *terms)

    def signed(self, read: Any) -> Node:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take() == "-"
        node: Node = read()
        return ("neg", node) if negative else node

    def product(self) -> Node:
        factors = [self.factor()]
        while True:
            token = self.peek()
            if token in ("*", "·", "×"):
                self.take()
                factors.append(self.signed(self.factor))
            elif token in ("/", "÷"):
                self.take()
                factors.append(("inverse", self.signed(self.factor)))
            elif self.starts_factor(token) and not (token[0] in "0123456789." and self.after_digit()):
                factors.append(self.factor())
            else:
                return factors[0] if len(factors) == 1 else ("mul", *factors)

    def after_digit(self) -> bool:
        """Whether the last token was a number, so that another one is no factor of it (`12 12`)."""
        return self.tokens[self.at - 1][:1].isdigit()

    def starts_factor(self, token: str) -> bool:
        if token == "|":
            return self.bars == 0
        if token.startswith("\\"):
            return not (token.startswith("\\end") or token in ("\\\\", "\\}", "\\|"))
        return token[:1].isalnum() or token in _STARTS

    def factor(self) -> Node:
        node = self.atom()
        for _ in range(_MOST_POSTFIXES):
            token = self.peek()
            if token == "^":
                self.take()
                if self.peek() in ("T", "\\top") and node[0] == "mat":
                    self.take()
                    node = ("fn", "transpose", node)
                else:
                    node = ("pow", node, self.script())
            elif token == "!" and self.tokens[self.at + 1] != "!":
                self.take()
                node = ("fn", "factorial", node)
            elif token == "%":
                self.take()
                node = ("mul", node, ("num", Fraction(1, 100)))
            elif token == "°":
                self.take()
                node = ("deg", node)
            else:
                return node
        raise Unreadable(f"{self.peek()!r}")

    def script(self) -> Node:
        self.deeper()
        if self.peek() in ("-", "+"):
            node = self.signed(self.script)
        else:
            node = self.group("{", "}") if self.peek() == "{" else self.power_of_atom(self.atom())
        self.depth -= 1
        return node

    def power_of_atom(self, node: Node) -> Node:
        if self.peek() == "^":
            self.take()
            return ("pow", node, self.script())
        return node

    # -- atoms --------------------------------------------------------------------------------------

    def atom(self) -> Node:
        self.deeper()
        node = self.plain_atom()
        self.depth -= 1
        return node

    def plain_atom(self) -> Node:
        token = self.take()
        if token[0] in "0123456789.":
            return self.number(token)
        if token in ("(", "[", "{"):
            self.at -= 1
            return self.group(token, {"(": ")", "[": "]", "{": "}"}[token])
        if token == "|":
            self.bars += 1
            inside = self.expression()
            self.take("|")
            self.bars -= 1
            return ("fn", "abs", inside)
        name = token.removeprefix("\\")
        if token == "√" or name in ("sqrt", "cbrt"):
            return self.root(cube=name == "cbrt")
        if name in CONSTANTS:
            return ("sym", CONSTANTS[name])
        if name in FUNCTIONS or name in OTHER_NAMES:
            return self.function(OTHER_NAMES.get(name, name))
        if name in OF_MANY:
            return self.many(name)
        if token.startswith("\\"):
            return self.command(token, name)
        if token.isalpha() and len(token) == 1:
            return self.symbol(token)
        raise Unreadable(f"{token!r}")

    def number(self, token: str) -> Node:
        value = Fraction(token)
        if self.peek() == "\\overline" and "." in token:
            self.take()
            self.take("{")
            repeating = self.take()
            self.take("}")
            if not repeating.isdigit():
                raise Unreadable("'\\overline'")
            places = len(token.partition(".")[2])
            value += Fraction(int(repeating), (10 ** len(repeating) - 1) * 10**places)
        if self.peek() == "\\frac" and token.isdigit():
            start, kept = self.at, self.tokens[self.at :]
            part = self.command(self.take(), "frac")
            if _proper(part):
                return ("num", value + part[1][1] / part[2][1])  # a mixed number
            self.at, self.tokens[start:] = start, kept
        return ("num", value)

    def group(self, opening: str, closing: str) -> Node:
        self.take(opening)
        bars, self.bars = self.bars, 0
        node = self.expression()
        self.bars = bars
        self.take(closing)
        return node

    def symbol(self, name: str) -> Node:
        if self.peek() == "_":
            self.take()
            name += "_" + self.subscript()
        while self.peek() == "'":
            name += self.take()
        return ("sym", name)

    def subscript(self) -> str:
        if self.peek() != "{":
            return self.take()
        self.take("{")
        inside, level = [], 1
        while level:
            inside.append(self.take())
            level += (inside[-1] == "{") - (inside[-1] == "}")
        return "".join(inside[:-1])

    def root(self, *, cube: bool) -> Node:
        degree: Node = ("num", Fraction(3 if cube else 2))
        if self.peek() == "[":
            degree = self.group("[", "]")
        return ("fn", "root", self.argument(whole_number=True), degree)

    def argument(self, *, whole_number: bool = False) -> Node:
        """The argument of a command: a group, or one digit, letter or command."""
        token = self.peek()
        if token == "{":
            return self.group("{", "}")
        if token[:1].isdigit() and len(token) > 1 and not whole_number:
            self.tokens[self.at] = token[1:]
            return ("num", Fraction(token[0]))
        return self.atom()

    def function(self, name: str) -> Node:
        base: Node | None = None
        power: Node | None = None
        while self.peek() in ("_", "^"):
            if self.take() == "^":
                power = self.script()
            elif name == "log":
                base = self.log_base()
            else:
                raise Unreadable(f"'_' after {name}")
        argument = self.function_argument()
        if name == "log":
            node: Node = ("fn", "log", argument, base) if base else ("fn", "log", argument)
        else:
            node = ("fn", name, argument)
        if power == ("neg", ("num", Fraction(1))) and name in ("sin", "cos", "tan", "cot", "sec", "csc"):
            return ("fn", "arc" + name, argument)
        return ("pow", node, power) if power is not None else node

    def log_base(self) -> Node:
        token, after = self.peek(), self.tokens[self.at + 1]
        if token == "{":
            return self.group("{", "}")
        if token.isdigit() and len(token) > 1 and not self.starts_factor(after):
            return self.argument()  # `\log_28` is the logarithm of 8
        return self.atom()

    def function_argument(self) -> Node:
        if self.peek() in ("(", "{", "[", "|"):
            return self.atom()
        parts = [self.signed(self.factor)]
        while self.starts_factor(self.peek()) and not self.is_function(self.peek()):
            if self.peek()[:1].isdigit() and parts[-1][0] == "num":
                break
            parts.append(self.factor())
        return parts[0] if len(parts) == 1 else ("mul", *parts)

    def is_function(self, token: str) -> bool:
        name = token.removeprefix("\\")
        return name in FUNCTIONS or name in OTHER_NAMES or name in OF_MANY

    def many(self, name: str) -> Node:
        opening = self.take()
        closing = {"(": ")", "{": "}", "[": "]", "\\{": "\\}"}.get(opening)
        if closing is None:
            raise Unreadable(f"{opening!r} after {name}")
        arguments = [self.expression()]
        while self.peek() == ",":
            self.take()
            arguments.append(self.expression())
        self.take(closing)
        return ("fn", name, *arguments)

    def command(self, token: str, name: str) -> Node:
        if name == "frac":
            return ("div", self.argument(), self.argument())
        if name == "binom":
            return ("fn", "binomial", self.argument(), self.argument())
        if name in GREEK:
            return self.symbol("\\" + name)
        if name in WRAPPERS:
            self.take("{")
            inner = self.take()
            self.take("}")
            return self.symbol(f"\\{name}{{{inner}}}")
        if name in ("lfloor", "lceil"):
            inside = self.expression()
            self.take("\\rfloor" if name == "lfloor" else "\\rceil")
            return ("fn", "floor" if name == "lfloor" else "ceil", inside)
        if name in ("sum", "prod"):
            return self.series(name)
        if token.startswith("\\begin"):
            return self.matrix(token)
        if name == "det":
            return ("fn", "det", self.factor())
        raise Unreadable(f"{token!r}")

    def series(self, kind: str) -> Node:
        self.take("_")
        self.take("{")
        name = self.take()
        self.take("=")
        first = self.expression()
        self.take("}")
        self.take("^")
        last = self.script()
        body = self.product()
        if symbols(first) or symbols(last) or any(name in s.partition("_")[2] for s in symbols(body)):
            raise Unreadable(f"{kind} without an end")  # no number of terms, or terms with the index as subscript
        return (kind, name, first, last, body)

    def matrix(self, token: str) -> Node:
        kind = token[token.index("{") + 1 : token.index("}")].rstrip("*")
        if kind not in ENVIRONMENTS:
            raise Unreadable(f"{token!r}")
        bars, self.bars = self.bars, 0
        rows: list[list[Node]] = [[]]
        while not self.peek().startswith("\\end"):
            rows[-1].append(self.expression())
            if self.peek() == "&":
                self.take()
            elif self.peek() == "\\\\":
                self.take()
                rows.append([])
            elif not self.peek().startswith("\\end"):
                raise Unreadable(f"{self.peek()!r} in a matrix")
        self.take()
        self.bars = bars
        rows = [row for row in rows if row]
        if not rows or len({len(row) for row in rows}) > 1:
            raise Unreadable("rows of different lengths")
        made: Node = ("mat", tuple(tuple(row) for row in rows))
        return ("fn", "det", made) if kind == "vmatrix" else made


def _proper(node: Node) -> bool:
    """Whether a fraction is one of plain whole numbers below 1, as in `4\\frac{2}{3}`."""
    if node[0] != "div" or node[1][0] != "num" or node[2][0] != "num":
        return False
    return bool(node[1][1].denominator == node[2][1].denominator == 1 and 0 < node[1][1] < node[2][1])
