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
from flywheel.verifiers.math_items import (
    FUNCTION,
    IN_SETS,
    INEQUALITY,
    Item,
    agreeing,
    is_relation,
    items,
    kind,
    opened,
    records_of,
    renamed_alike,
    same_label,
    sides_of,
    spread,
    unnamed,
)
from flywheel.verifiers.math_parse import parse
from flywheel.verifiers.math_sets import real_set, same_set
from flywheel.verifiers.math_text import bracketed, compact
from flywheel.verifiers.math_tree import Unreadable
from flywheel.verifiers.math_units import split_unit, units_agree
from flywheel.verifiers.math_value import constant, proportional, same_value

_MOST_ITEMS = 40
_DEEPEST = 8
_ONE_DECIMAL = re.compile(r"[-+]?\d+,\d")
_SAID_TWICE = re.compile(r"(.+?)\s*\(([a-z -]{3,40})\)")


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
        for decide in (math_forms.by_words, math_forms.same_form, self._numbers) if plain else ():
            decided = decide(gold, answer)
            if decided:
                return True
            if decided is not None and not _may_be_two(gold, answer):
                return False
        return self._structures(gold, answer, level)

    def _numbers(self, gold: str, answer: str) -> bool | None:
        """Both as plain numbers with units, or None where one is no such thing."""
        ours = read_number(gold)
        if ours is None:
            return None
        if "," not in gold and _ONE_DECIMAL.fullmatch(answer):
            answer = answer.replace(",", ".")  # `2,5` may be a list, but not where one number is asked for
        theirs = read_number(answer)
        if theirs is None and (twice := _SAID_TWICE.fullmatch(answer)):
            theirs, in_words = read_number(twice.group(1)), read_number(twice.group(2))
            if theirs is None or in_words is None or theirs.value != in_words.value:
                return None
        if theirs is None:
            return None
        tolerance = Fraction(self.rules.tolerance)
        return same_number(ours, theirs, tolerance=tolerance, units=self.rules.units, percent=self.rules.percent)

    # -- structures ---------------------------------------------------------------------------------

    def _structures(self, gold: str, answer: str, level: int) -> bool:
        ours, theirs = items(gold, trusted=True), items(answer)
        if len(ours) > _MOST_ITEMS or len(theirs) > _MOST_ITEMS:
            return False
        if IN_SETS.search(gold) or IN_SETS.search(answer):
            decided = self._sets(gold, answer)
            if decided is not None:
                return decided
        if len(ours) == len(theirs) == 1:
            return self._single(gold, answer, ours[0], theirs[0], level)
        if any(INEQUALITY.search(i.text) for i in (*ours, *theirs)):
            return self._unordered([Item("", i.text) for i in ours], [Item("", i.text) for i in theirs], level)
        return self._several(ours, theirs, level)

    def _single(self, gold: str, answer: str, ours: Item, theirs: Item, level: int) -> bool:
        pair = bracketed(ours.text), bracketed(theirs.text)
        kinds = kind(pair[0]), kind(pair[1])
        if kinds == ("leaf", "leaf"):
            return self._leaves(gold, answer, ours, theirs, level)
        if not same_label(ours, theirs):
            return False
        if "leaf" in kinds:
            return self._container_and_leaf(ours, theirs, level)
        return self._containers(ours.text, theirs.text, kinds, level)

    def _containers(self, gold: str, answer: str, kinds: tuple[str, str], level: int) -> bool:
        mine, yours = bracketed(gold), bracketed(answer)
        assert mine is not None and yours is not None  # `kind` found brackets
        ours, theirs = items(mine[1]), items(yours[1])
        if "tuple" not in kinds:
            return self._unordered(ours, theirs, level)
        if self.rules.containers == "strict" and (kinds[0] != kinds[1] or _round(mine) != _round(yours)):
            return False
        if kinds[0] != kinds[1]:
            return self._unordered(ours, theirs, level)
        if len(ours) != len(theirs):
            return False
        return all(self.same(a.text, b.text, level + 1) for a, b in zip(ours, theirs, strict=True))

    def _container_and_leaf(self, ours: Item, theirs: Item, level: int) -> bool:
        """A set of one element is that element; a column of a matrix may be written as a tuple."""
        mine, yours = _only_element(ours.text), _only_element(theirs.text)
        if mine is not None or yours is not None:
            return self.same(mine or ours.text, yours or theirs.text, level + 1)
        entries, others = _entries(ours.text), _entries(theirs.text)
        if entries is not None and others is not None:
            pairs = zip(entries, others, strict=False)
            return len(entries) == len(others) and all(self.same(a, b, level + 1) for a, b in pairs)
        if "±" in ours.text or "±" in theirs.text:
            return self._unordered(opened([ours]), opened([theirs]), level)
        return False

    def _several(self, ours: list[Item], theirs: list[Item], level: int) -> bool:
        ours, theirs = (records_of(side) for side in (ours, theirs))
        mine, yours = (opened(side) for side in (ours, theirs))
        if len({i.label for i in mine if i.label}) > 1 or len({i.label for i in yours if i.label}) > 1:
            return self._records(mine, yours, level)
        lone = [side[0].text for side in (ours, theirs) if len(side) == 1]
        if self.rules.containers == "strict" and any(kind(bracketed(text)) == "tuple" for text in lone):
            return False
        return self._unordered(mine, yours, level)

    def _records(self, ours: list[Item], theirs: list[Item], level: int) -> bool:
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

    def _unordered(self, ours: list[Item], theirs: list[Item], level: int) -> bool:
        ours, theirs = [s for i in ours for s in spread(i)], [s for i in theirs for s in spread(i)]
        labels = {i.label for i in ours if i.label}, {i.label for i in theirs if i.label}
        if labels[0] and labels[1] and not agreeing(labels[0], labels[1]):
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

    def _sets(self, gold: str, answer: str) -> bool | None:
        """Both as sets of real numbers, or None where one is no such set."""
        try:
            ours, theirs = real_set(unnamed(gold)), real_set(unnamed(answer))
        except Unreadable:
            return None
        if ours is None or theirs is None:
            other = answer if theirs is None else gold
            return False if (ours or theirs) and _is_expression(other) else None
        try:
            return same_set(ours, theirs)
        except NoValue:
            return None

    # -- leaves -------------------------------------------------------------------------------------

    def _leaves(self, gold: str, answer: str, ours: Item, theirs: Item, level: int) -> bool:
        if "±" in gold + answer or "∓" in gold + answer:
            mine, yours = spread(ours), spread(theirs)
            return len(mine) == len(yours) and self._unordered(mine, yours, level)
        if is_relation(ours.text) or is_relation(theirs.text):
            return self._relations(gold, answer, level)
        renamed = ours.label != theirs.label and FUNCTION.fullmatch(ours.label) and FUNCTION.fullmatch(theirs.label)
        if ours.label and theirs.label and (renamed or not same_label(ours, theirs)):
            return self._relations(gold, answer, level)
        if (gold, answer) != (ours.text, theirs.text):
            return self.same(ours.text, theirs.text, level + 1)
        (mine, our_unit), (yours, their_unit) = split_unit(gold), split_unit(answer)
        if not units_agree(our_unit, their_unit, self.rules.units):
            return False
        return self._values(mine, yours)

    def _values(self, gold: str, answer: str) -> bool:
        if not gold or not answer:
            return False
        try:
            return same_value(gold, answer, tolerance=self.rules.tolerance)
        except Unreadable:
            return self._by_algebra(gold, answer)

    def _by_algebra(self, gold: str, answer: str) -> bool:
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

    def _relations(self, gold: str, answer: str, level: int) -> bool:
        mine, yours = sides_of(gold), sides_of(answer)
        if mine is None or yours is None or len(mine[0]) != len(yours[0]):
            return False
        (our_sides, our_relations), (their_sides, their_relations) = mine, yours
        if len(our_sides) == 2:
            return self._two_sided(our_sides, our_relations[0], their_sides, their_relations[0], level)
        for sides, relations in (
            (their_sides, their_relations),
            (their_sides[::-1], [_TURNED[r] for r in their_relations[::-1]]),
        ):
            if our_relations == relations and all(
                self._same_side(a, b, level) for a, b in zip(our_sides, sides, strict=True)
            ):
                return True
        return False

    def _same_side(self, a: str, b: str, level: int) -> bool:
        return compact(a) == compact(b) or self.same(a, b, level + 1)

    def _two_sided(self, ours: list[str], relation: str, theirs: list[str], other: str, level: int) -> bool:
        if "=" in (relation, other):
            ours, theirs = renamed_alike(ours, theirs)
        if relation == other and all(self._same_side(a, b, level) for a, b in zip(ours, theirs, strict=True)):
            return True
        try:
            sign = proportional((ours[0], ours[1]), (theirs[0], theirs[1]))
        except Unreadable:
            return relation == other and self._by_algebra("=".join(ours), "=".join(theirs))
        return bool(sign) and (other if sign > 0 else _TURNED[other]) == relation


_TURNED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤", "=": "=", "≠": "≠"}


def _unread(text: str) -> bool:
    try:
        parse(text)
    except Unreadable:
        return True
    return False


def _is_expression(text: str) -> bool:
    return not _unread(text) and not is_relation(text)


def _may_be_two(gold: str, answer: str) -> bool:
    """Whether a comma or a word may separate two answers: `3,12` is two numbers as well as a decimal one."""
    return ("," in gold and "," in answer) or " and " in gold or " or " in gold


def _round(found: tuple[str, str, str]) -> str:
    return (found[0] + found[2]).replace("⟨", "(").replace("⟩", ")")


def _only_element(text: str) -> str | None:
    """The element of a set that has but one."""
    found = bracketed(text)
    if found is None or kind(found) != "set":
        return None
    parts = items(found[1])
    return parts[0].text if len(parts) == 1 and parts[0].text else None


def _entries(text: str) -> list[str] | None:
    """The entries of a tuple, or of a matrix of one column."""
    found = bracketed(text)
    if found is not None and kind(found) == "tuple":
        return [i.text for i in items(found[1])] if _round(found) == "()" else None
    return _column(text)


def _column(text: str) -> list[str] | None:
    found = re.fullmatch(r"\(?\s*\\begin\s*\{[pb]?matrix\}(.*)\\end\s*\{[pb]?matrix\}\s*\)?", text, re.DOTALL)
    if found is None or "&" in found.group(1):
        return None
    rows = [r.strip() for r in found.group(1).split("\\\\") if r.strip()]
    return rows if len(rows) > 1 else None
