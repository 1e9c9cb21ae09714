"""How fast proofs are judged: Metamath's kernel in this process, Coq's in the sandbox.

    python benchmarks/verify_proof.py [--count 1000] [--coq 20]

Metamath judges theorems of propositional logic that it makes itself, each with its proof and with the proof of its
neighbour, which must be WRONG. Coq, where it is installed, judges one statement again and again: with a fresh worker's
first proof, which also compiles the statement, apart.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time

from flywheel import Outcome, Problem
from flywheel.verifiers.metamath_problems import make_problems
from flywheel.verifiers.proof import Proof
from flywheel.verifiers.proof_text import HOLE


def main() -> None:
    """Print one line a kernel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="Metamath theorems")
    parser.add_argument("--coq", type=int, default=20, help="Coq proofs; 0 for none")
    arguments = parser.parse_args()
    metamath(arguments.count)
    if arguments.coq and shutil.which("coqc"):
        coq(arguments.coq)


def metamath(count: int) -> None:
    """Right and wrong proofs, judged one after another."""
    problems = make_problems(count, seed=0)
    proofs = [str(problem.solution) for problem in problems]
    verifier = Proof()
    verifier.verify(problems[0], proofs[0])  # the database is read once a worker
    for what, given, outcome in (
        ("right", proofs, Outcome.CORRECT),
        ("wrong", [*proofs[1:], proofs[0]], Outcome.WRONG),
    ):
        started = time.perf_counter()
        found = {verifier.verify(problem, proof).outcome for problem, proof in zip(problems, given, strict=True)}
        seconds = time.perf_counter() - started
        assert found == {outcome}, found
        steps = sum(len(proof.split()) for proof in given)
        print(f"metamath, {what}: {count / seconds:,.0f} proofs/s, {steps / seconds:,.0f} steps/s")


def coq(count: int) -> None:
    """One statement, one right proof, `count` times; without the standard library's modules, and with some to load."""
    for requires in ("", "Require Import Arith."):
        verifier = Proof(kernel="coq", seconds=60.0)
        answer = f"{requires}\nTheorem goal : forall n : nat, n + 0 = n.\nProof.\n{HOLE}\nQed.\n"
        problem = Problem(id="goal", prompt="", answer=answer)
        seconds = []
        for _ in range(count + 1):
            started = time.perf_counter()
            judgement = verifier.verify(problem, "intros n. symmetry. apply plus_n_O.")
            seconds.append(time.perf_counter() - started)
            assert judgement.outcome == Outcome.CORRECT, judgement
        median = statistics.median(seconds[1:])
        what = f"coq, {verifier.isolation}, {requires or 'nothing required'}"
        print(f"{what}: {1000 * median:.0f} ms a proof (median), {1000 * seconds[0]:.0f} ms the first")


if __name__ == "__main__":
    main()
