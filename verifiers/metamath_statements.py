"""The generator `metamath`: statements of propositional logic, easy ones to hard ones, each with a proof.

Where `make_problems` has the most general theorems, whose proofs are hundreds of labels long, these are instances of
short theorems, weakened by further antecedents. A proof has from three labels on, which a small model can write.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from flywheel.verifiers.metamath_problems import (
    AXIOMS,
    DATABASE,
    NAMES,
    Formula,
    Theorem,
    detached,
    filled,
    labels_of,
    proof_of,
    symbols_of,
)
from flywheel.verifiers.proof_text import HOLE

WEAKENING = """
${
  a1i.1 $e |- ph $.
  a1i $p |- ( ps -> ph ) $= wph wps wph wi a1i.1 wph wps ax-1 ax-mp $.
$}
"""
PROMPT = "Prove this in Metamath. Answer with the labels of the proof alone.\n{statement}"


@dataclass(frozen=True)
class MetamathStatements:
    """Instances of the axioms, and of what follows from them by a few steps; see the fields."""

    name: ClassVar[str] = "metamath"

    detachments: int = 0
    """Uses of modus ponens (`ax-mp`) in the theorem that a statement is an instance of, at most."""
    weakenings: int = 2
    """Antecedents that are put before it by the rule `a1i`, at most."""
    symbols: int = 25
    """Longest statement."""
    labels: int = 24
    """Longest of the proofs that the statements come with; the shortest of `ax-1` has 3."""
    variables: int = 4
    """How many of ph, ps, ch, th, ta, et the statements are about."""

    def __post_init__(self) -> None:
        if not 0 <= self.detachments <= 3:
            raise ValueError("detachments is from 0 to 3: their number grows by its square")
        if self.weakenings < 0 or not 2 <= self.variables <= len(NAMES):
            raise ValueError(f"weakenings is at least 0, and variables from 2 to {len(NAMES)}")
        if self.symbols < 9 or self.labels < 3:
            raise ValueError("the shortest axiom has 9 symbols and a proof of 3 labels; allow them")

    def rows(self, seed: int) -> Iterator[dict[str, Any]]:
        """Different statements without end, as far as the lengths have any; the same ones for the same seed.

        A row's `steps` are its detachments and weakenings, `labels` the length of its proof.
        """
        random = Random(seed)
        theorems = theorems_within(self.detachments)
        seen: set[Formula] = set()
        fruitless = 0
        while fruitless < 10_000:  # the lengths allow no further statement, or hardly any
            fruitless += 1
            statement, proof, steps = self._drawn(theorems, random)
            if proof is None or statement in seen or len(symbols_of(statement)) > self.symbols:
                continue
            seen.add(statement)
            fruitless = 0
            yield _row(f"metamath-{seed}-{len(seen):05d}", " ".join(symbols_of(statement)), proof, steps)

    def _drawn(self, theorems: list[tuple[Theorem, int]], random: Random) -> tuple[Formula, list[str] | None, int]:
        theorem, steps = random.choice(theorems)
        values = [_formula(random, self.variables) for _ in NAMES]
        statement, proof = filled(theorem.statement, values), proof_of(theorem, values, self.labels)
        for _ in range(random.randint(0, self.weakenings)):
            antecedent = _formula(random, self.variables)
            if proof is not None:
                proof = [*labels_of(statement), *labels_of(antecedent), *proof, "a1i"]
            statement, steps = (antecedent, statement), steps + 1
        return statement, proof if proof is not None and len(proof) <= self.labels else None, steps


def theorems_within(detachments: int) -> list[tuple[Theorem, int]]:
    """The axioms and all theorems by at most so many detachments, each with the fewest that lead to it."""
    found: dict[Formula, tuple[Theorem, int]] = {s: (Theorem(s, axiom), 0) for axiom, s in AXIOMS.items()}
    for depth in range(1, detachments + 1):
        before = list(found.values())
        for minor, a in before:
            for major, b in before:
                if a + b + 1 == depth and (theorem := detached(minor, major)) is not None:
                    found.setdefault(theorem.statement, (theorem, depth))
    return list(found.values())


def _formula(random: Random, variables: int, depth: int = 2) -> Formula:
    """A variable three times in five, else a negation or an implication."""
    kind = random.random()
    if depth == 0 or kind < 0.6:
        return random.randrange(variables)
    if kind < 0.8:
        return (_formula(random, variables, depth - 1),)
    return (_formula(random, variables, depth - 1), _formula(random, variables, depth - 1))


def _row(name: str, statement: str, proof: list[str], steps: int) -> dict[str, Any]:
    return {
        "id": name,
        "prompt": PROMPT.format(statement=statement),
        "answer": f"theorem $p |- {statement} $= {HOLE} $.",
        "solution": " ".join(proof),
        "verifier": "proof",
        "database": DATABASE + WEAKENING,
        "steps": steps,
        "labels": len(proof),
    }
