"""The tree of an expression, as `math_parse` makes it.

A node is a tuple: ("num", Fraction), ("sym", name), ("add", a, b, ...), ("mul", a, b, ...), ("inverse", a),
("div", a, b), ("pow", a, b), ("neg", a), ("deg", a) for degrees, ("fn", name, arguments...), ("mat", rows), and
("sum", name, first, last, body) or ("prod", ...).
"""

from __future__ import annotations

from typing import Any

Node = tuple[Any, ...]


class Unreadable(ValueError):
    """The text is no expression that this reader knows; the message says at what it stopped."""


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
