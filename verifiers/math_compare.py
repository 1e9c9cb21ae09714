"""Whether two answers are equal: what kind of thing each is, its parts by kind, and values in the end.

A list (`1, 2` or `x = 1 or x = 2`) is compared in any order, a set likewise and a tuple in its own; an interval is
the set that a chain of inequalities may describe as well; equations are equal when one is a multiple of the other; and
`x = 5` is an answer of 5 to whoever asked for x. Texts are tidied ones (`math_text.tidy`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from flywheel.verifiers import math_forms, math_symbolic
from flywheel.verifiers.math_exact import NoValue, read_number, same_number
from flywheel.verifiers.math_parse import Unreadable, parse, symbols
from flywheel.verifiers.math_sets import real_set, same_set
from flywheel.verifiers.math_text import bracketed, compact, cut, depths
from flywheel.verifiers.math_units import split_unit, units_agree
from flywheel.verifiers.math_value import constant, proportional, same_value

_INEQUALITY = re.compile(r"[<>≤≥≠]")
_SET = re.compile(r"[<>≤≥≠∪∩∖∈ℝ∅]")
_MOST_ITEMS = 40
_DEEPEST = 8
_SIGNS = {"±": ("+", "-"), "∓": ("-", "+")}
# Possessive, so that no text is read in more than one way.
_NAME = r"(?:[A-Za-z]|\\(?!frac|sqrt)[a-z]++)(?:_\w++|_\{[^{}]*+\})?'*+"
_LABEL = re.compile(
    rf"{_NAME}|{_NAME}\^?(?:\{{?-1\}}?)?\([^()]*\)|[A-Z]{{2,}}|[a-z]{{4,}}(?: [a-z]+)*|[A-Z][a-z]+(?: [A-Za-z]+)*"
    r"|\|?(?:\\overline|\\overrightarrow|\\vec|\\widehat|\\vert)?\{?[A-Z]{1,3}\}?\|?|m?(?:\\angle|∠|\\triangle|\\measuredangle)\s*[A-Z]{1,3}"
    r"|P\([^()]*\)|[A-Z]+(?:_\{\w+\})?:[A-Z]+(?:_\{\w+\})?|[A-Z](?:_\{?\w+\}?)?:[A-Z](?:_\{?\w+\}?)?"
    r"|\\frac\{[A-Z]{1,3}\}\{[A-Z]{1,3}\}|[A-Z]{2,3}/[A-Z]{2,3}"
    r"|\\(?:sin|cos|tan|cot|sec|csc)\s*(?:\\?[A-Za-z]+|\\angle\s*[A-Z]+|\([^()]*\))"
    rf"|\((?:{_NAME},?\s*)+\)|\|[a-z]\|"
)
_FUNCTION = re.compile(rf"({_NAME})\(([A-Za-z])\)")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the options of `math` mean for a comparison; `math.Math` documents them."""

    units: str = "optional"
    percent: str = "value"
    containers: str = "strict"
    tolerance: float = 0.0
    algebra: bool = True


class Unjudged(Exception):
    """The reference cannot be compared with; the text says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """An answer without its name: `x = 5` has the label `x`."""

    label: str
    text: str


class Comparison:
    """Compares a reference with an answer under given rules. Raises NoValue where either has none."""

    def __init__(self, rules: Rules, prepare: Callable[[], None] = math_symbolic.load) -> None:
        self.rules = rules
        self.prepare = prepare

    def check(self, gold: str) -> None:
        """Raises NoValue where a reference, or a part of it, can be read and has no value."""
        read_number(gold)
        math_forms.read_form(gold)
        for item in items(gold, trusted=True):
            try:
                constant(split_unit(item.text)[0])
            except Unreadable:
                continue

    def same(self, gold: str, answer: str, level: int = 0) -> bool:
        """Whether two tidied answers are equal."""
        if level > _DEEPEST:
            return False
        if compact(gold) == compact(answer):
            return True
        plain = "=" not in gold and "=" not in answer
        for decide in (math_forms.by_words, math_forms.same_form, self.numbers) if plain else ():
            decided = decide(gold, answer)
            if decided:
                return True
            if decided is not None and not _has_comma(gold, answer):
                return False
        return self.structures(gold, answer, level)

    def numbers(self, gold: str, answer: str) -> bool | None:
        """Both as plain numbers with units, or None where one is no such thing."""
        ours = read_number(gold)
        if ours is None:
            return None
        theirs = read_number(answer)
        if theirs is None:
            return None
        return same_number(ours, theirs, tolerance=Fraction(self.rules.tolerance), units=self.rules.units, percent=self.rules.percent)

    # -- structures ---------------------------------------------------------------------------------

    def structures(self, gold: str, answer: str, level: int) -> bool:
        ours, theirs = items(gold, trusted=True), items(answer)
        if len(ours) > _MOST_ITEMS or len(theirs) > _MOST_ITEMS:
            return False
        if _SET.search(gold) or _SET.search(answer):
            decided = self.sets(gold, answer)
            if decided is not None:
                return decided
        if len(ours) == len(theirs) == 1:
            return self.single(gold, answer, ours[0], theirs[0], level)
        if any(_INEQUALITY.search(i.text) for i in (*ours, *theirs)):
            return self.unordered([Item("", i.text) for i in ours], [Item("", i.text) for i in theirs], level)
        return self.several(ours, theirs, level)

    def single(self, gold: str, answer: str, ours: Item, theirs: Item, level: int) -> bool:
        pair = bracketed(ours.text), bracketed(theirs.text)
        kinds = _kind(pair[0]), _kind(pair[1])
        if kinds == ("leaf", "leaf"):
            return self.leaves(gold, answer, ours, theirs, level)
        if not _same_label(ours, theirs):
            return False
        if "leaf" in kinds:
            return self.container_and_leaf(ours, theirs, level)
        return self.containers(ours.text, theirs.text, kinds, level)

    def containers(self, gold: str, answer: str, kinds: tuple[str, str], level: int) -> bool:
        mine, yours = bracketed(gold), bracketed(answer)
        assert mine is not None and yours is not None  # `_kind` found brackets
        ours, theirs = items(mine[1]), items(yours[1])
        if "tuple" not in kinds:
            return self.unordered(ours, theirs, level)
        if self.rules.containers == "strict" and (kinds[0] != kinds[1] or _round(mine) != _round(yours)):
            return False
        if kinds[0] != kinds[1]:
            return self.unordered(ours, theirs, level)
        if len(ours) != len(theirs):
            return False
        return all(self.same(a.text, b.text, level + 1) for a, b in zip(ours, theirs, strict=True))

    def container_and_leaf(self, ours: Item, theirs: Item, level: int) -> bool:
        """A set of one element is that element; a column of a matrix may be written as a tuple."""
        for mine, yours in ((ours.text, theirs.text), (theirs.text, ours.text)):
            found = bracketed(mine)
            if found is None:
                continue
            parts = items(found[1])
            if _kind(found) == "set" and len(parts) == 1:
                return self.same(ours.text if mine is theirs.text else parts[0].text,
                                 theirs.text if mine is ours.text else parts[0].text, level + 1)  # fmt: skip
            if _round(found) == "()" and (column := _column(yours)) is not None:
                return len(column) == len(parts) and all(
                    self.same(a.text, b, level + 1) for a, b in zip(parts, column, strict=True)
                )
        if "±" in ours.text or "±" in theirs.text:
            return self.unordered(_opened([ours]), _opened([theirs]), level)
        return False

    def several(self, ours: list[Item], theirs: list[Item], level: int) -> bool:
        ours, theirs = (_records(side) for side in (ours, theirs))
        mine, yours = (_opened(side) for side in (ours, theirs))
        if len({i.label for i in mine if i.label}) > 1 or len({i.label for i in yours if i.label}) > 1:
            return self.records(mine, yours, level)
        if (mine is not ours or yours is not theirs) and self.rules.containers == "strict":
            if any(_kind(bracketed(side[0].text)) == "tuple" for side in (ours, theirs) if len(side) == 1):
                return False
        return self.unordered(mine, yours, level)

    def records(self, ours: list[Item], theirs: list[Item], level: int) -> bool:
        """`a = 1, b = 2`: by name where both have names, else in order."""
        if len(ours) != len(theirs):
            return False
        names = {i.label for i in ours}, {i.label for i in theirs}
        if names[0] == names[1] and len(names[0]) == len(ours):
            by_name = {i.label: i for i in theirs}
            return all(self.same(i.text, by_name[i.label].text, level + 1) for i in ours)
        if all(names[0]) and all(names[1]) and names[0] != names[1]:
            return False
        return all(self.same(a.text, b.text, level + 1) for a, b in zip(ours, theirs, strict=True))

    def unordered(self, ours: list[Item], theirs: list[Item], level: int) -> bool:
        ours, theirs = [s for i in ours for s in _spread(i)], [s for i in theirs for s in _spread(i)]
        labels = {i.label for i in ours if i.label}, {i.label for i in theirs if i.label}
        if labels[0] and labels[1] and not _agreeing(labels[0], labels[1]):
            return False
        if max(len(ours), len(theirs)) > _MOST_ITEMS:
            return False
        left = list(theirs)
        repeated = len({compact(i.text) for i in ours}) < len(ours)
        for item in ours:
            match = next((o for o in left if self._same_item(item, o, level)), None)
            if match is not None:
                left.remove(match)
            elif repeated or not any(self._same_item(item, o, level) for o in theirs):
                return False
        return not left or (not repeated and all(any(self._same_item(i, o, level) for i in ours) for o in left))

    def _same_item(self, gold: Item, answer: Item, level: int) -> bool:
        return self.same(gold.text, answer.text, level + 1)

    def sets(self, gold: str, answer: str) -> bool | None:
        """Both as sets of real numbers, or None where one is no such set."""
        try:
            ours, theirs = real_set(_unnamed(gold)), real_set(_unnamed(answer))
        except Unreadable:
            return None
        if ours is None or theirs is None:
            return None
        try:
            return same_set(ours, theirs)
        except NoValue:
            return None

    # -- leaves -------------------------------------------------------------------------------------

    def leaves(self, gold: str, answer: str, ours: Item, theirs: Item, level: int) -> bool:
        if "±" in gold + answer or "∓" in gold + answer:
            mine, yours = _spread(ours), _spread(theirs)
            return len(mine) == len(yours) and self.unordered(mine, yours, level)
        if _relation(ours.text) or _relation(theirs.text):
            return self.relations(gold, answer, level)
        renamed = ours.label != theirs.label and _FUNCTION.fullmatch(ours.label) and _FUNCTION.fullmatch(theirs.label)
        if ours.label and theirs.label and (renamed or not _same_label(ours, theirs)):
            return self.relations(gold, answer, level)
        if (gold, answer) != (ours.text, theirs.text):
            return self.same(ours.text, theirs.text, level + 1)
        (mine, our_unit), (yours, their_unit) = split_unit(gold), split_unit(answer)
        if not units_agree(our_unit, their_unit, self.rules.units):
            return False
        return self.values(mine, yours)

    def values(self, gold: str, answer: str) -> bool:
        if not gold or not answer:
            return False
        try:
            return same_value(gold, answer, tolerance=self.rules.tolerance)
        except Unreadable:
            return self.by_algebra(gold, answer)

    def by_algebra(self, gold: str, answer: str) -> bool:
        """What our own reader does not know goes to the algebra system, where it may."""
        if not self.rules.algebra:
            if _unread(gold):
                raise Unjudged(f"the reference {gold!r} needs an algebra system (option algebra)")
            raise NoValue("is not read without an algebra system (option algebra)")
        self.prepare()
        ruling = math_symbolic.rule(gold, answer, tolerance=self.rules.tolerance)
        if ruling.equal is None:
            raise Unjudged(ruling.why)
        return ruling.equal

    def relations(self, gold: str, answer: str, level: int) -> bool:
        mine, yours = _sides(gold), _sides(answer)
        if mine is None or yours is None or len(mine[0]) != len(yours[0]):
            return False
        (our_sides, our_relations), (their_sides, their_relations) = mine, yours
        if len(our_sides) == 2:
            return self.two_sided(our_sides, our_relations[0], their_sides, their_relations[0], level)
        for sides, relations in ((their_sides, their_relations), (their_sides[::-1], [_TURNED[r] for r in their_relations[::-1]])):
            if our_relations == relations and all(
                self._same_side(a, b, level) for a, b in zip(our_sides, sides, strict=True)
            ):
                return True
        return False

    def _same_side(self, a: str, b: str, level: int) -> bool:
        return compact(a) == compact(b) or self.same(a, b, level + 1)

    def two_sided(self, ours: list[str], relation: str, theirs: list[str], other: str, level: int) -> bool:
        if "=" in (relation, other):
            ours, theirs = _renamed(ours, theirs)
        if relation == other and all(self._same_side(a, b, level) for a, b in zip(ours, theirs, strict=True)):
            return True
        try:
            sign = proportional((ours[0], ours[1]), (theirs[0], theirs[1]))
        except Unreadable:
            return relation == other and self.by_algebra("=".join(ours), "=".join(theirs))
        return bool(sign) and (other if sign > 0 else _TURNED[other]) == relation


_TURNED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤", "=": "=", "≠": "≠"}


def items(text: str, *, trusted: bool = False) -> list[Item]:
    """The parts of a list, each with its label; the parts after `x = 1` in `x = 1, 2` are x's as well.

    A reference is `trusted` to mean the last side of a chain of equations, whatever its others are.
    """
    parts = [p for p in cut(text, ",;", words=True) if p]
    result: list[Item] = []
    for part in parts or [""]:
        item = unlabelled(part, trusted=trusted)
        if not item.label and result and result[-1].label and len(parts) > 1 and "=" not in part:
            item = Item(result[-1].label, item.text)
        result.append(item)
    return result


def unlabelled(text: str, *, trusted: bool = False) -> Item:
    """`x = 5` and `x ∈ {5}` as 5 with the label x; a chain of equal values as its last one. Raises NoValue for a false chain."""
    head, found, tail = text.partition("∈")
    if found and _LABEL.fullmatch(head.strip()):
        return Item(compact(head), tail.strip())
    head, about, tail = (part.strip() for part in text.partition("≈"))
    text = tail.partition("≈")[0].strip() if about and (not head or _LABEL.fullmatch(head)) else head
    sides = [s.strip() for s in cut(text, "=")]
    if len(sides) == 1 or not all(sides) or _INEQUALITY.search(text):
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


def _unread(text: str) -> bool:
    try:
        parse(text)
    except Unreadable:
        return True
    return False


def _has_comma(gold: str, answer: str) -> bool:
    """Whether a comma between digits may separate two numbers as well as thousands or decimals."""
    return "," in gold and "," in answer


def _kind(found: tuple[str, str, str] | None) -> str:
    if found is None:
        return "leaf"
    opening, inside, _ = found
    if opening in ("\\{", "{"):
        return "set"
    return "tuple" if len(cut(inside, ",;")) > 1 else "leaf"


def _round(found: tuple[str, str, str]) -> str:
    return (found[0] + found[2]).replace("⟨", "(").replace("⟩", ")")


def _opened(side: list[Item]) -> list[Item]:
    """The elements of a lone container, so that a list and a set can be compared."""
    found = bracketed(side[0].text) if len(side) == 1 else None
    if found is None or _kind(found) == "leaf":
        return side
    parts = items(found[1])
    names = [n.strip() for n in side[0].label.strip("()").split(",")]
    if len(names) == len(parts) > 1:  # `(x, y) = (1, 2)`
        return [Item(name, i.text) for name, i in zip(names, parts, strict=True)]
    return [Item(i.label or side[0].label, i.text) for i in parts]


def _records(side: list[Item]) -> list[Item]:
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


def _spread(item: Item) -> list[Item]:
    if "±" not in item.text and "∓" not in item.text:
        return [item]
    both = []
    for index in (0, 1):
        text = item.text
        for sign, choices in _SIGNS.items():
            text = text.replace(sign, choices[index])
        both.append(Item(item.label, text))
    return both


def _same_label(ours: Item, theirs: Item) -> bool:
    return not ours.label or not theirs.label or _agreeing({ours.label}, {theirs.label})


def _agreeing(ours: set[str], theirs: set[str]) -> bool:
    if ours == theirs:
        return True
    plain = [{re.sub(r"\([A-Za-z]\)$|[{}]", "", label) for label in side} for side in (ours, theirs)]
    roots = [{re.sub(r"_\d$", "", label) for label in side} for side in plain]
    return plain[0] == plain[1] or roots[0] == roots[1]


def _relation(text: str) -> bool:
    return len(cut(text, "=<>≤≥≠")) > 1


def _sides(text: str) -> tuple[list[str], list[str]] | None:
    relations = [c for c, level in zip(text, depths(text), strict=True) if c in "<>≤≥≠=" and level == 0]
    sides = cut(text, "<>≤≥≠=")
    return (sides, relations) if relations and all(sides) else None


def _renamed(ours: list[str], theirs: list[str]) -> tuple[list[str], list[str]]:
    """`f(x) = x^2`, `f(t) = t^2` and `y = x^2` are one function: the name and its argument are put alike."""
    mine, yours = _FUNCTION.fullmatch(ours[0]), _FUNCTION.fullmatch(theirs[0])
    if mine and yours and mine.group(1) == yours.group(1) and mine.group(2) != yours.group(2):
        name = re.compile(rf"(?<![A-Za-z\\]){yours.group(2)}(?![A-Za-z])")
        return ours, [ours[0], name.sub(mine.group(2), theirs[1])]
    if mine and theirs[0] == "y":
        return ["y", ours[1]], theirs
    if yours and ours[0] == "y":
        return ours, ["y", theirs[1]]
    return ours, theirs


def _unnamed(text: str) -> str:
    """`D = (0, 1)` as the set alone."""
    head, found, tail = text.partition("=")
    return tail.strip() if found and _LABEL.fullmatch(head.strip()) and "=" not in tail and _SET.search(tail) else text


def _column(text: str) -> list[str] | None:
    found = re.fullmatch(r"\(?\s*\\begin\s*\{[pb]?matrix\}(.*)\\end\s*\{[pb]?matrix\}\s*\)?", text, re.DOTALL)
    if found is None or "&" in found.group(1):
        return None
    rows = [r.strip() for r in found.group(1).split("\\\\") if r.strip()]
    return rows if len(rows) > 1 else None
