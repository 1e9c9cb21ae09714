"""The parts of an answer: items with their labels, records, containers, and the sides of a relation.

Texts are tidied ones (`math_text.tidy`); they are cut here, and compared in `math_compare`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from flywheel.verifiers.math_exact import NoValue
from flywheel.verifiers.math_parse import parse
from flywheel.verifiers.math_text import bracketed, compact, cut, depths
from flywheel.verifiers.math_tree import Unreadable, symbols
from flywheel.verifiers.math_value import same_value

_SPACED = re.compile(r",\s|;|\b(?:and|or)\b")
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
INEQUALITY = re.compile(r"[<>≤≥≠]")
IN_SETS = re.compile(r"[<>≤≥≠∪∩∖∈ℝ∅]")
_SIGNS = {"±": ("+", "-"), "∓": ("-", "+")}
# Possessive, so that no text is read in more than one way.
_NAME = r"(?:[A-Za-z]|\\(?!frac|sqrt)[a-z]++)(?:_\w++|_\{[^{}]*+\})?'*+"
_LABEL = re.compile(
    rf"{_NAME}|{_NAME}\^?(?:\{{?-1\}}?)?\([^()]*\)|[A-Z]{{2,}}|[a-z]{{4,}}(?: [a-z]+)*|[A-Z][a-z]+(?: [A-Za-z]+)*"
    r"|\|?(?:\\overline|\\overrightarrow|\\vec|\\widehat|\\vert)?\{?[A-Z]{1,3}\}?\|?|m?(?:\\angle|∠|\\triangle|\\measuredangle)\s*[A-Z]{1,3}"
    r"|P\([^()]*\)|[A-Z]+(?:_\{\w+\})?:[A-Z]+(?:_\{\w+\})?|[A-Z](?:_\{?\w+\}?)?:[A-Z](?:_\{?\w+\}?)?"
    r"|\\frac\{[A-Z]{1,3}\}\{[A-Z]{1,3}\}|\\frac\{d\^?\d?[a-z]?\}\{d[a-z](?:\^\d)?\}|[A-Z]{2,3}/[A-Z]{2,3}"
    r"|\\(?:sin|cos|tan|cot|sec|csc)\s*(?:\\?[A-Za-z]+|\\angle\s*[A-Z]+|\([^()]*\))"
    rf"|\((?:{_NAME},?\s*)+\)|\|[a-z]\|"
)
FUNCTION = re.compile(rf"({_NAME})\(([A-Za-z])\)")


@dataclass(frozen=True, slots=True)
class Item:
    """An answer without its name: `x = 5` has the label `x`."""

    label: str
    text: str


def items(text: str, *, trusted: bool = False) -> list[Item]:
    """The parts of a list, each with its label; the parts after `x = 1` in `x = 1, 2` are x's as well.

    A reference is `trusted` to mean the last side of a chain of equations, whatever its others are.
    """
    if _SPACED.search(text) and not any(bracket in text for bracket in "([{"):
        text = _THOUSANDS.sub(lambda m: m.group().replace(",", ""), text)  # `1,000 and 2,000` are two numbers
    parts = [p for p in cut(text, ",;", words=True) if p]
    result: list[Item] = []
    for part in parts or [""]:
        item = unlabelled(part, trusted=trusted)
        if not item.label and result and result[-1].label and len(parts) > 1 and "=" not in part:
            item = Item(result[-1].label, item.text)
        result.append(item)
    return result


def unlabelled(text: str, *, trusted: bool = False) -> Item:
    """`x = 5` and `x ∈ {5}` as 5 with the label x, and a chain of equal values as its last one.

    Raises NoValue for a chain of values that are not equal.
    """
    head, found, tail = text.partition("∈")
    if found and _LABEL.fullmatch(head.strip()):
        return Item(compact(head), tail.strip())
    head, about, tail = (part.strip() for part in text.partition("≈"))
    text = tail.partition("≈")[0].strip() if about and (not head or _LABEL.fullmatch(head)) else head
    sides = [s.strip() for s in cut(text, "=")]
    if len(sides) == 1 or not all(sides) or INEQUALITY.search(text):
        return Item("", text)
    label = ""
    if _LABEL.fullmatch(sides[0]):
        label = compact(sides.pop(0))
        if len(sides) == 1:
            return Item(label, sides[0])
    if len(sides) == 2 and not label and not _constant(sides[0]) and not _constant(sides[1]):
        return Item("", text)
    values = [s for s in sides if _constant(s)]
    if trusted and (label or len(sides) > 2):
        return Item(label, sides[-1])
    for value in values[1:]:
        if not same_value(values[0], value):
            raise NoValue("says that unequal values are equal")
    if not label and len(values) < len(sides):
        return Item("", text)
    if label and len(sides) > 1 and len(values) < len(sides) and not _chained(sides):
        raise NoValue("says that unequal values are equal")
    return Item(label, sides[-1])


def _chained(sides: list[str]) -> bool:
    """Whether the sides that speak of the same symbols are equal; what cannot be read is believed."""
    try:
        wanted = symbols(parse(sides[-1]))
        return all(same_value(sides[-1], s) for s in sides if symbols(parse(s)) == wanted)
    except Unreadable:
        return True


def _constant(text: str) -> bool:
    try:
        return not symbols(parse(text))
    except Unreadable:
        return False


def kind(found: tuple[str, str, str] | None) -> str:
    """set, tuple (intervals are pairs) or leaf: what brackets around a whole text make it."""
    if found is None:
        return "leaf"
    opening, inside, _ = found
    if opening in ("\\{", "{"):
        return "set"
    return "tuple" if len(cut(inside, ",;")) > 1 else "leaf"


def opened(side: list[Item]) -> list[Item]:
    """The elements of a lone container, so that a list and a set can be compared."""
    found = bracketed(side[0].text) if len(side) == 1 else None
    if found is None or kind(found) == "leaf":
        return side
    parts = items(found[1])
    names = [n.strip() for n in side[0].label.strip("()").split(",")]
    if len(names) == len(parts) > 1:  # `(x, y) = (1, 2)`
        return [Item(name, i.text) for name, i in zip(names, parts, strict=True)]
    return [Item(i.label or side[0].label, i.text) for i in parts]


def records_of(side: list[Item]) -> list[Item]:
    """`p = 5, q = 2, p = 7, q = 2` as two tuples."""
    labels = [i.label for i in side]
    distinct = list(dict.fromkeys(labels))
    if not all(labels) or len(distinct) < 2 or len(labels) == len(distinct) or len(labels) % len(distinct):
        return side
    size = len(distinct)
    if any(labels[i] != distinct[i % size] for i in range(len(labels))):
        return side
    groups = [side[i : i + size] for i in range(0, len(side), size)]
    return [Item("", "(" + ",".join(i.text for i in group) + ")") for group in groups]


def spread(item: Item) -> list[Item]:
    """`1 ± x` as its two values, the upper signs first; anything else as itself."""
    if "±" not in item.text and "∓" not in item.text:
        return [item]
    both = []
    for index in (0, 1):
        text = item.text
        for sign, choices in _SIGNS.items():
            text = text.replace(sign, choices[index])
        both.append(Item(item.label, text))
    return both


def same_label(ours: Item, theirs: Item) -> bool:
    """Whether two items are values of the same name, or one of them has none."""
    return not ours.label or not theirs.label or agreeing({ours.label}, {theirs.label})


def agreeing(ours: set[str], theirs: set[str]) -> bool:
    """Whether two sets of names are the same but for arguments and the numbers of roots: `W(n)`, `W(x)`; `x_1`, `x`."""
    if ours == theirs:
        return True
    plain = [{re.sub(r"\([A-Za-z]\)$|[{}]", "", label) for label in side} for side in (ours, theirs)]
    roots = [{re.sub(r"_\d$", "", label) for label in side} for side in plain]
    return plain[0] == plain[1] or roots[0] == roots[1]


def is_relation(text: str) -> bool:
    """Whether a relation sign stands outside brackets."""
    return len(cut(text, "=<>≤≥≠")) > 1


def sides_of(text: str) -> tuple[list[str], list[str]] | None:
    """The sides of a chain of relations, and the signs between them; None where a side is missing."""
    relations = [c for c, level in zip(text, depths(text), strict=True) if c in "<>≤≥≠=" and level == 0]
    sides = cut(text, "<>≤≥≠=")
    return (sides, relations) if relations and all(sides) else None


def renamed_alike(ours: list[str], theirs: list[str]) -> tuple[list[str], list[str]]:
    """`f(x) = x^2`, `f(t) = t^2` and `y = x^2` are one function: the name and its argument are put alike."""
    mine, yours = FUNCTION.fullmatch(ours[0]), FUNCTION.fullmatch(theirs[0])
    if mine and yours and mine.group(1) == yours.group(1) and mine.group(2) != yours.group(2):
        name = re.compile(rf"(?<![A-Za-z\\]){yours.group(2)}(?![A-Za-z])")
        return ours, [ours[0], name.sub(mine.group(2), theirs[1])]
    if mine and theirs[0] == "y":
        return ["y", ours[1]], theirs
    if yours and ours[0] == "y":
        return ours, ["y", theirs[1]]
    return ours, theirs


def unnamed(text: str) -> str:
    """`D = (0, 1)` as the set alone."""
    head, found, tail = text.partition("=")
    return (
        tail.strip() if found and _LABEL.fullmatch(head.strip()) and "=" not in tail and IN_SETS.search(tail) else text
    )
