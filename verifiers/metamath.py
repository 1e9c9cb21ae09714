"""A small Metamath kernel: whether a proof proves its statement. It only compares symbols; nothing is executed.

A proof is a list of labels worked off on a stack: a hypothesis pushes itself; an assertion takes its hypotheses off
the stack, which determines what its variables stand for, and pushes its conclusion. That, and that no two
expressions share a variable where `$d` keeps theirs apart, is all there is. Source: N. Megill and D. Wheeler,
"Metamath: A Computer Language for Mathematical Proofs" (2nd ed. 2019), sections 4.1 to 4.3, and appendix B for
compressed proofs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flywheel.verifiers.metamath_database import Assertion, Goal, Hypothesis, Symbols

LARGEST_WORK = 10_000_000
"""Symbols that one proof may write, all steps together: substitution can double an expression at every step."""
LARGEST_EXPRESSION = 100_000
"""Symbols of one expression on the stack."""
LARGEST_STACK = 10_000
"""Expressions on the stack at once, and expressions a compressed proof may mark for later use."""


class NotProved(Exception):
    """The proof does not prove the statement; the text says at which step it fails."""


class TooMuchWork(Exception):
    """The proof's expressions outgrow the bounds above."""


Step = Hypothesis | Assertion | int
"""What a proof names: a hypothesis, an assertion, or an expression that it marked before, by its number."""
MARK = -1
"""The step that marks the expression on top of the stack."""


def check(goal: Goal, proof: Sequence[str]) -> None:
    """Nothing where `proof`, the tokens between `$=` and `$.`, proves the goal; else NotProved or TooMuchWork."""
    if not proof:
        raise NotProved("the proof is empty")
    stack = _Stack(goal)
    steps = _compressed(goal, proof) if proof[0] == "(" else _normal(goal, proof)
    for number, step in enumerate(steps, 1):
        try:
            stack.take(step)
        except NotProved as error:
            raise NotProved(f"step {number}: {error}") from None
    if len(stack.expressions) != 1:
        raise NotProved(f"{len(stack.expressions)} expressions are left where one should be")
    if stack.expressions[0] != goal.assertion.symbols:
        raise NotProved(f"it proves {shown(stack.expressions[0])}, not {shown(goal.assertion.symbols)}")


class _Stack:
    """The expressions proved so far, under the goal's hypotheses."""

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self.expressions: list[Symbols] = []
        self.marked: list[Symbols] = []
        self.work = 0

    def take(self, step: Step) -> None:
        """Work off one step. Raises NotProved, TooMuchWork."""
        if isinstance(step, Assertion):
            self._apply(step)
        elif isinstance(step, Hypothesis):
            self._push(step.symbols)
        elif step == MARK:
            self.marked.append(self.expressions[-1])
        elif step < len(self.marked):
            self._push(self.marked[step])
        else:
            raise NotProved("it points to an expression that is not marked yet")
        if len(self.expressions) > LARGEST_STACK or len(self.marked) > LARGEST_STACK:
            raise TooMuchWork(f"more than {LARGEST_STACK} expressions at once")

    def _push(self, expression: Symbols) -> None:
        self.work += len(expression)
        if len(expression) > LARGEST_EXPRESSION or self.work > LARGEST_WORK:
            raise TooMuchWork(
                f"an expression of {len(expression)} symbols, {self.work} in all"
                f" (at most {LARGEST_EXPRESSION} and {LARGEST_WORK})"
            )
        self.expressions.append(expression)

    def _apply(self, assertion: Assertion) -> None:
        bottom = len(self.expressions) - len(assertion.hypotheses)
        if bottom < 0:
            raise NotProved(
                f"{assertion.label} needs {len(assertion.hypotheses)} expressions, there are {len(self.expressions)}"
            )
        values: dict[str, Symbols] = {}
        for hypothesis, given in zip(assertion.hypotheses, self.expressions[bottom:], strict=True):
            if hypothesis.floating:
                typecode, variable = hypothesis.symbols
                if given[0] != typecode:
                    raise NotProved(f"{assertion.label}: {variable} is a {typecode}, and {shown(given)} is none")
                values[variable] = given[1:]
            elif given != (wanted := self._substituted(hypothesis.symbols, values)):
                raise NotProved(f"{assertion.label} needs {shown(wanted)}, there is {shown(given)}")
        self._keep_apart(assertion, values)
        del self.expressions[bottom:]
        self._push(self._substituted(assertion.symbols, values))

    def _substituted(self, symbols: Symbols, values: dict[str, Symbols]) -> Symbols:
        written: list[str] = []
        for symbol in symbols:
            value = values.get(symbol)
            if value is None:
                written.append(symbol)
            else:
                written.extend(value)
        self.work += len(written)
        return tuple(written)

    def _keep_apart(self, assertion: Assertion, values: dict[str, Symbols]) -> None:
        variables = self.goal.variables
        for x, y in assertion.disjoint:
            others = variables.intersection(values[y])
            for ours in variables.intersection(values[x]):
                for theirs in others:
                    if (ours, theirs) not in self.goal.disjoint:
                        raise NotProved(f"{assertion.label} wants {x} and {y} disjoint; no $d {ours} {theirs}")


# -- from tokens to steps -----------------------------------------------------------------------------


def _normal(goal: Goal, proof: Sequence[str]) -> Iterator[Step]:
    return (_named(goal, label) for label in proof)


def _named(goal: Goal, label: str) -> Hypothesis | Assertion:
    found = goal.active.get(label) or goal.known.get(label)
    if found is None:
        raise NotProved(f"{shown((label,))} is no hypothesis here and no earlier statement")
    return found


def _compressed(goal: Goal, proof: Sequence[str]) -> Iterator[Step]:
    """The steps of `( LABELS ) LETTERS`: a number means a mandatory hypothesis, a label, or a marked expression."""
    if ")" not in proof:
        raise NotProved("the list of labels is not closed")
    closing = list(proof).index(")")
    mandatory = goal.assertion.hypotheses
    named = [_named(goal, label) for label in proof[1:closing]]
    if any(found in mandatory for found in named):
        raise NotProved("the list of labels names a mandatory hypothesis")
    steps: list[Hypothesis | Assertion] = [*mandatory, *named]
    for number in _numbers("".join(proof[closing + 1 :])):
        if number == MARK or number < len(steps):
            yield MARK if number == MARK else steps[number]
        else:
            yield number - len(steps)


def _numbers(letters: str) -> Iterator[int]:
    """What the letters spell: numbers from 0, `U` to `Y` their high digits (base 5), `A` to `T` the last; MARK for Z."""
    high, markable = 0, False
    for letter in letters:
        if "A" <= letter <= "T":
            yield high * 20 + ord(letter) - ord("A")
            high, markable = 0, True
        elif "U" <= letter <= "Y" and high < LARGEST_WORK:
            high = high * 5 + ord(letter) - ord("U") + 1
        elif letter == "Z" and markable and not high:
            yield MARK
            markable = False
        else:
            raise NotProved(f"{letter!r} has no meaning there in a compressed proof")
    if high:
        raise NotProved("the compressed proof breaks off within a number")


def shown(symbols: Symbols) -> str:
    """An expression for people, cut where it is long."""
    text = " ".join(symbols[:40])
    return f"[{text[:160]}{' …' if len(symbols) > 40 or len(text) > 160 else ''}]"
