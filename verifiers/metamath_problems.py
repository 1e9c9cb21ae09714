"""Problems for `proof` that cost nothing: theorems of propositional logic, each with a proof, as many as one asks for.

Condensed detachment finds them (C. A. Meredith; J. A. Kalman, "Condensed detachment as a rule of inference", Studia
Logica 42, 1983): two theorems are unified so that modus ponens applies, and what follows is the most general result.
The axioms are Łukasiewicz's three, which with modus ponens are complete for implication and negation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from flywheel import Problem
from flywheel.verifiers.proof_text import HOLE

Formula = int | tuple["Formula", ...]
"""A variable by its number, a negation (A,) or an implication (A, B)."""

DATABASE = """
$( Propositional logic from three axioms and modus ponens. $)
$c ( ) -> -. wff |- $.
$v ph ps ch th ta et $.
wph $f wff ph $.  wps $f wff ps $.  wch $f wff ch $.
wth $f wff th $.  wta $f wff ta $.  wet $f wff et $.
wn $a wff -. ph $.
wi $a wff ( ph -> ps ) $.
${
  min $e |- ph $.
  maj $e |- ( ph -> ps ) $.
  ax-mp $a |- ps $.
$}
ax-1 $a |- ( ph -> ( ps -> ph ) ) $.
ax-2 $a |- ( ( ph -> ( ps -> ch ) ) -> ( ( ph -> ps ) -> ( ph -> ch ) ) ) $.
ax-3 $a |- ( ( -. ph -> -. ps ) -> ( ps -> ph ) ) $.
"""

NAMES = ("ph", "ps", "ch", "th", "ta", "et")
AXIOMS: dict[str, Formula] = {
    "ax-1": (0, (1, 0)),
    "ax-2": ((0, (1, 2)), ((0, 1), (0, 2))),
    "ax-3": (((0,), (1,)), (1, 0)),
}

PROMPT = """Prove this in Metamath, from the axioms ax-1, ax-2, ax-3 and the rule ax-mp of propositional logic:

{statement}

Answer with the proof's labels in one ```metamath block."""


@dataclass(frozen=True, slots=True)
class Theorem:
    """A statement, and why it holds: an axiom by its name, or modus ponens on `minor` and `major`.

    `premise` is what `minor` has to prove for it, in this theorem's variables; `major` has to prove that the premise
    implies the statement. Variables are numbered from 0, those of the statement first.
    """

    statement: Formula
    axiom: str = ""
    premise: Formula = 0
    minor: Theorem | None = None
    major: Theorem | None = None


def make_problems(number: int, seed: int, *, longest_statement: int = 41, longest_proof: int = 1000) -> list[Problem]:
    """`number` different theorems, lengths in symbols and labels; the same ones for the same arguments.

    Raises ValueError where so many are not found within the lengths.
    """
    random = Random(seed)
    pool = [Theorem(statement, axiom) for axiom, statement in AXIOMS.items()]
    seen = {theorem.statement for theorem in pool}
    problems: list[Problem] = []
    for _ in range(1000 * number + 1000):
        if len(problems) == number:
            return problems
        minor, major = random.choice(pool), random.choice(pool)
        theorem = detached(minor, major)
        if theorem is None or theorem.statement in seen or _length(theorem.statement) > longest_statement:
            continue
        seen.add(theorem.statement)
        proof = proof_of(theorem, list(range(len(NAMES))), longest_proof)
        if proof is None:
            continue
        pool.append(theorem)
        problems.append(_problem(f"metamath-{seed}-{len(problems)}", " ".join(symbols_of(theorem.statement)), proof))
    raise ValueError(f"only {len(problems)} of {number} theorems were found; allow longer ones")


def _problem(name: str, statement: str, proof: list[str]) -> Problem:
    return Problem(
        id=name,
        prompt=PROMPT.format(statement=statement),
        answer=f"theorem $p |- {statement} $= {HOLE} $.",
        verifier="proof",
        solution=" ".join(proof),
        meta={"database": DATABASE},
    )


def detached(minor: Theorem, major: Theorem) -> Theorem | None:
    """The most general theorem by modus ponens; None where there is none, or it has more variables than names."""
    if isinstance(major.statement, int) or len(major.statement) != 2:
        return None
    premise, conclusion = (_shifted(part, len(NAMES)) for part in major.statement)
    bindings: dict[int, Formula] = {}
    if not _unify(minor.statement, premise, bindings):
        return None
    order: dict[int, int] = {}
    for part in (conclusion, premise):
        for variable in _variables(part, bindings):
            order.setdefault(variable, len(order))
    if len(order) > len(NAMES):
        return None
    statement, premise = (_resolved(part, bindings, order) for part in (conclusion, premise))
    return Theorem(statement, "", premise, minor, major)


def proof_of(theorem: Theorem, values: list[Formula], longest: int) -> list[str] | None:
    """The labels that prove `theorem` with its variables standing for `values`; None for more than `longest`."""
    if theorem.minor is None or theorem.major is None:
        used = values[: len({*_variables(theorem.statement, {})})]
        labels = [label for value in used for label in labels_of(value)] + [theorem.axiom]
        return labels if len(labels) <= longest else None
    premise, statement = filled(theorem.premise, values), filled(theorem.statement, values)
    labels = [*labels_of(premise), *labels_of(statement)]
    for part, instance in ((theorem.minor, premise), (theorem.major, (premise, statement))):
        found: dict[int, Formula] = {}
        _match(part.statement, instance, found)
        below = proof_of(part, [found.get(i, 0) for i in range(len(NAMES))], longest - len(labels) - 1)
        if below is None:
            return None
        labels += below
    return [*labels, "ax-mp"]


# -- formulas -----------------------------------------------------------------------------------------


def _shifted(formula: Formula, by: int) -> Formula:
    return formula + by if isinstance(formula, int) else tuple(_shifted(part, by) for part in formula)


def filled(formula: Formula, values: list[Formula]) -> Formula:
    """`formula` with its variables standing for `values`."""
    return values[formula] if isinstance(formula, int) else tuple(filled(part, values) for part in formula)


def _unify(left: Formula, right: Formula, bindings: dict[int, Formula]) -> bool:
    while isinstance(left, int) and left in bindings:
        left = bindings[left]
    while isinstance(right, int) and right in bindings:
        right = bindings[right]
    if left == right:
        return True
    if isinstance(left, int):
        return _bind(left, right, bindings)
    if isinstance(right, int):
        return _bind(right, left, bindings)
    return len(left) == len(right) and all(_unify(a, b, bindings) for a, b in zip(left, right, strict=True))


def _bind(variable: int, formula: Formula, bindings: dict[int, Formula]) -> bool:
    if variable in _variables(formula, bindings):
        return False
    bindings[variable] = formula
    return True


def _variables(formula: Formula, bindings: dict[int, Formula]) -> Iterator[int]:
    if not isinstance(formula, int):
        for part in formula:
            yield from _variables(part, bindings)
    elif formula in bindings:
        yield from _variables(bindings[formula], bindings)
    else:
        yield formula


def _match(general: Formula, instance: Formula, found: dict[int, Formula]) -> None:
    """What the variables of `general` stand for in an `instance` of it."""
    if isinstance(general, int):
        found[general] = instance
    else:
        assert isinstance(instance, tuple)  # it is an instance
        for ours, theirs in zip(general, instance, strict=True):
            _match(ours, theirs, found)


def _length(formula: Formula) -> int:
    return len(symbols_of(formula))


def _resolved(formula: Formula, bindings: dict[int, Formula], order: dict[int, int]) -> Formula:
    """`formula` with all bindings filled in and its variables numbered by `order`."""
    if not isinstance(formula, int):
        return tuple(_resolved(part, bindings, order) for part in formula)
    if formula in bindings:
        return _resolved(bindings[formula], bindings, order)
    return order[formula]


def symbols_of(formula: Formula) -> list[str]:
    """A formula in Metamath's symbols."""
    if isinstance(formula, int):
        return [NAMES[formula]]
    if len(formula) == 1:
        return ["-.", *symbols_of(formula[0])]
    return ["(", *symbols_of(formula[0]), "->", *symbols_of(formula[1]), ")"]


def labels_of(formula: Formula) -> list[str]:
    """The proof that a formula is a wff."""
    if isinstance(formula, int):
        return ["w" + NAMES[formula]]
    return [label for part in formula for label in labels_of(part)] + ["wn" if len(formula) == 1 else "wi"]
