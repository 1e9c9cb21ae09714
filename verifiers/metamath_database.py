"""Metamath databases: from a text to its assertions, and to a goal with what its proof may use.

The language is the one of N. Megill and D. Wheeler, "Metamath: A Computer Language for Mathematical Proofs"
(2nd ed. 2019), section 4.2. Axioms, definitions and earlier theorems are the author's word: they are read, not
judged; `read` hands each proof to whom it may concern. File inclusion (`$[`) is refused.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

Symbols = tuple[str, ...]

OnProof = Callable[["Goal", list[str]], None]

_FOREIGN = re.compile(r"[^\x20-\x7e\t\r\n\f]")
_LABEL = re.compile(r"[A-Za-z0-9_.-]+")
_KEYWORDS = frozenset({"$f", "$e", "$a", "$p"})


class MetamathError(Exception):
    """The database or the statement breaks the language's rules; the text says where."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A `$f` (floating: a typecode and a variable) or an `$e`."""

    label: str
    symbols: Symbols
    floating: bool


@dataclass(frozen=True, slots=True)
class Assertion:
    """An `$a` or `$p` with its mandatory hypotheses, in order, and its mandatory disjoint pairs."""

    label: str
    symbols: Symbols
    hypotheses: tuple[Hypothesis, ...]
    disjoint: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Goal:
    """A statement to prove, and all that its proof may use: what is active at its place, and what stands before it.

    `disjoint` holds each pair in both orders, those of variables that occur only in the proof included.
    """

    assertion: Assertion
    active: Mapping[str, Hypothesis]
    disjoint: frozenset[tuple[str, str]]
    variables: frozenset[str]
    known: Mapping[str, Assertion]


@dataclass(slots=True)
class _Scope:
    """What is active between `${` and `$}`; `within` copies, so that leaving a block is forgetting the copy."""

    variables: set[str] = field(default_factory=set)
    hypotheses: dict[str, Hypothesis] = field(default_factory=dict)
    typed: set[str] = field(default_factory=set)
    disjoint: set[tuple[str, str]] = field(default_factory=set)

    def within(self) -> _Scope:
        return _Scope(set(self.variables), dict(self.hypotheses), set(self.typed), set(self.disjoint))


@dataclass(frozen=True, slots=True)
class Database:
    """What a text declares: its constants, its assertions by label, and what is active at its end."""

    constants: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()
    assertions: dict[str, Assertion] = field(default_factory=dict)
    labels: frozenset[str] = frozenset()
    scope: _Scope = field(default_factory=_Scope)


def read(text: str, on_proof: OnProof | None = None) -> Database:
    """A database from its text; `on_proof` gets every `$p` with its proof's tokens. Raises MetamathError."""
    reader = _Reader(text, Database(), on_proof=on_proof)
    reader.read()
    return reader.database()


def read_goal(template: str, hole: str, database: Database) -> Goal:
    """The `$p` statement of `template` whose proof is `hole`, in the context that `database` and template give it.

    Reading ends there: nothing behind it can be used. Raises MetamathError where no statement has that proof.
    """
    goal = _Reader(template, database, hole=hole).read()
    if goal is None:
        raise MetamathError(f"no $p statement of the template has {hole} as its proof")
    return goal


class _Reader:
    """One pass over a text's tokens, on top of what another database declares."""

    def __init__(self, text: str, base: Database, *, hole: str = "", on_proof: OnProof | None = None) -> None:
        if foreign := _FOREIGN.search(text):
            raise MetamathError(f"{foreign.group()!r} is no character of the language (printable ASCII)")
        self.tokens = _without_comments(iter(text.split()))
        self.hole = hole
        self.on_proof = on_proof
        self.constants = set(base.constants)
        self.all_variables = set(base.variables)
        self.labels = set(base.labels)
        self.added: dict[str, Assertion] = {}
        self.known: Mapping[str, Assertion] = ChainMap(self.added, base.assertions)
        self.scope = base.scope.within()
        self.outer: list[_Scope] = []

    def database(self) -> Database:
        """All that was read."""
        known = dict(self.known)
        return Database(
            frozenset(self.constants), frozenset(self.all_variables), known, frozenset(self.labels), self.scope
        )

    def read(self) -> Goal | None:
        """Read on to the hole, or to the end; the goal where there was a hole."""
        for token in self.tokens:
            if token == "${":
                self.outer.append(self.scope)
                self.scope = self.scope.within()
            elif token == "$}":
                if not self.outer:
                    raise MetamathError("$} without ${")
                self.scope = self.outer.pop()
            elif token == "$c":
                self._constants(self._until("$."))
            elif token == "$v":
                self._variables(self._until("$."))
            elif token == "$d":
                self._disjoint(self._until("$."))
            elif token.startswith("$"):
                raise MetamathError(f"{token} is not understood here" + " (no inclusion)" * (token == "$["))
            elif (goal := self._labelled(token)) is not None:
                return goal
        if self.outer:
            raise MetamathError("${ without $}")
        return None

    def _until(self, end: str) -> list[str]:
        found = []
        for token in self.tokens:
            if token == end:
                return found
            if token.startswith("$"):
                raise MetamathError(f"{token} where {end} was expected")
            found.append(token)
        raise MetamathError(f"the text ends before {end}")

    def _constants(self, symbols: list[str]) -> None:
        if self.outer:
            raise MetamathError("$c inside a block")
        for symbol in symbols:
            if symbol in self.constants or symbol in self.all_variables or symbol in self.labels:
                raise MetamathError(f"constant {symbol} is declared twice")
            self.constants.add(symbol)

    def _variables(self, symbols: list[str]) -> None:
        for symbol in symbols:
            if symbol in self.constants or symbol in self.scope.variables or symbol in self.labels:
                raise MetamathError(f"variable {symbol} is declared twice")
            self.scope.variables.add(symbol)
            self.all_variables.add(symbol)

    def _disjoint(self, symbols: list[str]) -> None:
        if len(symbols) < 2 or len(set(symbols)) < len(symbols) or not self.scope.variables.issuperset(symbols):
            raise MetamathError(f"$d {' '.join(symbols)}: not two or more different active variables")
        self.scope.disjoint.update((x, y) for x in symbols for y in symbols if x != y)

    def _labelled(self, label: str) -> Goal | None:
        keyword = next(self.tokens, "the end of the text")
        if keyword not in _KEYWORDS:
            raise MetamathError(f"{keyword} after the label {label}")
        if not _LABEL.fullmatch(label):
            raise MetamathError(f"{label} is no label")
        if label in self.labels or label in self.constants or label in self.all_variables:
            raise MetamathError(f"the label {label} is used twice")
        self.labels.add(label)
        symbols = tuple(self._until("$=" if keyword == "$p" else "$."))
        if keyword == "$f":
            self._floating(label, symbols)
            return None
        self._check_symbols(label, symbols)
        if keyword == "$e":
            self.scope.hypotheses[label] = Hypothesis(label, symbols, floating=False)
            return None
        assertion = self._framed(label, symbols)
        if keyword == "$p":
            proof = self._until("$.")
            if proof == [self.hole]:
                return self._goal(assertion)
            if self.on_proof is not None:
                self.on_proof(self._goal(assertion), proof)
        self.added[label] = assertion
        return None

    def _floating(self, label: str, symbols: Symbols) -> None:
        match symbols:
            case (typecode, variable) if typecode in self.constants and variable in self.scope.variables:
                if variable in self.scope.typed:
                    raise MetamathError(f"{label}: {variable} has a type already")
                self.scope.typed.add(variable)
                self.scope.hypotheses[label] = Hypothesis(label, symbols, floating=True)
            case _:
                raise MetamathError(f"{label}: $f takes a constant and an active variable")

    def _check_symbols(self, label: str, symbols: Symbols) -> None:
        if not symbols or symbols[0] not in self.constants:
            raise MetamathError(f"{label} does not begin with a constant")
        for symbol in symbols:
            if symbol not in self.constants and symbol not in self.scope.typed:
                raise MetamathError(f"{label}: {symbol} is neither a constant nor a variable with a type")

    def _framed(self, label: str, symbols: Symbols) -> Assertion:
        """The assertion with what is mandatory: all `$e`, and `$f` and `$d` of the variables that occur."""
        essential = [h for h in self.scope.hypotheses.values() if not h.floating]
        used = {s for h in essential for s in h.symbols}.union(symbols) & self.scope.variables
        hypotheses = tuple(h for h in self.scope.hypotheses.values() if not h.floating or h.symbols[1] in used)
        disjoint = tuple(sorted((x, y) for x, y in self.scope.disjoint if x < y and x in used and y in used))
        return Assertion(label, symbols, hypotheses, disjoint)

    def _goal(self, assertion: Assertion) -> Goal:
        scope = self.scope
        disjoint, variables = frozenset(scope.disjoint), frozenset(scope.variables)
        return Goal(assertion, scope.hypotheses, disjoint, variables, self.known)


def _without_comments(tokens: Iterator[str]) -> Iterator[str]:
    for token in tokens:
        if token != "$(":
            yield token
            continue
        for inner in tokens:
            if inner == "$)":
                break
            if "$(" in inner or "$)" in inner:
                raise MetamathError("a comment inside a comment")
        else:
            raise MetamathError("$( without $)")
