"""A reader of mathematical expressions in LaTeX and plain text: from text to a tree, by recursive descent.

There is no code in a tree and none is run to make one. What is not understood for certain raises Unreadable, so
that nothing is judged by a half of itself.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from flywheel.verifiers.math_commands import Commands
from flywheel.verifiers.math_tokens import CONSTANTS, FUNCTIONS, OF_MANY, OTHER_NAMES, tokens_of
from flywheel.verifiers.math_tree import Node, Unreadable

LONGEST = 1_000
"""Characters that are read."""
MOST_TOKENS = 600
DEEPEST = 40
"""Levels of nesting."""

_MOST_POSTFIXES = 6
_ENDS = frozenset(("\\\\", "\\}", "\\|", "\\rfloor", "\\rceil"))
_STARTS = frozenset("({[|√π∞⟨")


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


class _Reader(Commands):
    def __init__(self, tokens: list[str]) -> None:
        super().__init__(tokens)
        self.bars: int = 0
        self.depth = 0

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

    def signed(self, read: Callable[[], Node]) -> Node:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take() == "-"
        node = read()
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
            return not (token.startswith("\\end") or token in _ENDS)
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
        if token[:1].isdecimal() or (token[0] == "." and len(token) > 1):
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

    def group(self, opening: str, closing: str) -> Node:
        self.take(opening)
        bars = self.bars
        self.bars = 0
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
