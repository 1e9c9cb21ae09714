"""What `math_parse` knows of commands and functions: roots, logarithms, sums, matrices and the like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction

from flywheel.verifiers.math_tokens import ENVIRONMENTS, FUNCTIONS, GREEK, OF_MANY, OTHER_NAMES, WRAPPERS
from flywheel.verifiers.math_tree import Node, Unreadable, symbols


class Commands(ABC):
    """Reads numbers, commands and functions from tokens; a subclass reads what stands between them."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0
        self.bars: int = 0
        """How many `|` are open."""

    def peek(self) -> str:
        """The next token; "" at the end."""
        return self.tokens[self.at]

    def take(self, expected: str | None = None) -> str:
        """Pass the next token. Raises Unreadable at the end, and where another one is expected."""
        token = self.tokens[self.at]
        if token == "" or (expected is not None and token != expected):
            raise Unreadable(f"{token!r} in place of {expected!r}" if expected else "the end")
        self.at += 1
        return token

    @abstractmethod
    def expression(self) -> Node:
        """A sum."""

    @abstractmethod
    def product(self) -> Node:
        """A product, with signs of multiplication or without."""

    @abstractmethod
    def factor(self) -> Node:
        """An atom with its powers and the like."""

    @abstractmethod
    def atom(self) -> Node:
        """A number, a symbol, a command with its arguments, or something in brackets."""

    @abstractmethod
    def script(self) -> Node:
        """What stands behind `^`."""

    @abstractmethod
    def group(self, opening: str, closing: str) -> Node:
        """An expression in brackets."""

    @abstractmethod
    def symbol(self, name: str) -> Node:
        """A symbol with its subscript."""

    @abstractmethod
    def signed(self, read: Callable[[], Node]) -> Node:
        """What `read` reads, with the signs before it."""

    @abstractmethod
    def starts_factor(self, token: str) -> bool:
        """Whether a token can begin a factor."""

    def root(self, *, cube: bool) -> Node:
        """The argument of a root, and its degree."""
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
        """A function of one argument, with a power or base between its name and it."""
        base: Node | None = None
        power: Node | None = None
        while self.peek() in ("_", "^"):
            if self.take() == "^":
                power = self.script()
            elif name == "log":
                base = self._log_base()
            else:
                raise Unreadable(f"'_' after {name}")
        argument = self._function_argument()
        if name == "log":
            node: Node = ("fn", "log", argument, base) if base else ("fn", "log", argument)
        else:
            node = ("fn", name, argument)
        if power == ("neg", ("num", Fraction(1))) and name in ("sin", "cos", "tan", "cot", "sec", "csc"):
            return ("fn", "arc" + name, argument)
        return ("pow", node, power) if power is not None else node

    def _log_base(self) -> Node:
        token, after = self.take(), self.peek()
        self.at -= 1
        if token == "{":
            return self.group("{", "}")
        if token.isdigit() and len(token) > 1 and not self.starts_factor(after):
            return self.argument()  # `\log_28` is the logarithm of 8
        return self.atom()

    def _function_argument(self) -> Node:
        if self.peek() in ("(", "{", "[", "|"):
            return self.atom()
        parts = [self.signed(self.factor)]
        while self.starts_factor(self.peek()) and not self._is_function(self.peek()):
            if self.peek()[:1].isdigit() and parts[-1][0] == "num":
                break
            parts.append(self.factor())
        return parts[0] if len(parts) == 1 else ("mul", *parts)

    def _is_function(self, token: str) -> bool:
        name = token.removeprefix("\\")
        return name in FUNCTIONS or name in OTHER_NAMES or name in OF_MANY

    def many(self, name: str) -> Node:
        """A function of several arguments: gcd and the like."""
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
        """A LaTeX command by its name."""
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
            return self._series(name)
        if token.startswith("\\begin"):
            return self._matrix(token)
        if name == "det":
            return ("fn", "det", self.factor())
        raise Unreadable(f"{token!r}")

    def _series(self, kind: str) -> Node:
        """A sum or product with an index."""
        self.take("_")
        self.take("{")
        name = self.take()
        self.take("=")
        first = self.expression()
        self.take("}")
        self.take("^")
        last = self.script()
        body = self.product()
        # No number of terms, or terms that have the index as subscript: not for us.
        open_ended = symbols(first) or symbols(last) or ("sym", "∞") in (first, last)
        if open_ended or any(name in s.partition("_")[2] for s in symbols(body)):
            raise Unreadable(f"{kind} without an end")
        return (kind, name, first, last, body)

    def _matrix(self, token: str) -> Node:
        """The rows of a matrix up to its `\\end`."""
        kind = token.partition("{")[2].partition("}")[0].rstrip("*")
        if kind not in ENVIRONMENTS:
            raise Unreadable(f"{token!r}")
        bars = self.bars
        self.bars = 0
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

    def number(self, token: str) -> Node:
        """A number, with what may follow its digits: a repeating part, or the fraction of a mixed number."""
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


def _proper(node: Node) -> bool:
    """Whether a fraction is one of plain whole numbers below 1, as in `4\\frac{2}{3}`."""
    if node[0] != "div" or node[1][0] != "num" or node[2][0] != "num":
        return False
    return bool(node[1][1].denominator == node[2][1].denominator == 1 and 0 < node[1][1] < node[2][1])
