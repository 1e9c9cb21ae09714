"""`proof`: whether a completion proves the problem's statement, by the word of a proof assistant's kernel.

The statement is the problem's, a template with exactly one hole; the completion fills the hole and nothing else. A
proof is right when the kernel accepts it *and* what it rests on is allowed: assumptions are read, an exit code is
not enough. docs/proofs.md says how problems are written and what each kernel is trusted with.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

from flywheel import DEADLINE_SECONDS, Judgement, Outcome, Problem
from flywheel.verifiers import sandbox
from flywheel.verifiers.coq import Coq
from flywheel.verifiers.lean import Lean
from flywheel.verifiers.metamath import NotProved, TooMuchWork, check
from flywheel.verifiers.metamath_database import Database, Goal, MetamathError, read, read_goal
from flywheel.verifiers.metamath_problems import make_problems
from flywheel.verifiers.proof_assistant import Assistant, Unavailable, short_enough, wrong
from flywheel.verifiers.proof_text import HOLE, Refused, TemplateError, find_proof, split

_CANNOT_JUDGE = (TemplateError, MetamathError, Unavailable, sandbox.SandboxError, OSError)


@dataclass(frozen=True)
class Proof:
    """Judges proofs in Metamath (built in), Coq or Lean (the user's installation, in the sandbox)."""

    name: ClassVar[str] = "proof"
    version: ClassVar[str] = "1"
    path_kind: ClassVar[str] = "text"
    answer_is_question: ClassVar[bool] = True

    kernel: Literal["metamath", "coq", "lean"] = "metamath"
    """Whose language the problems are in, and who decides."""
    database: str = ""
    """Metamath: the file of the database that templates go on from, where a problem has no `meta["database"]`."""
    command: str = ""
    """Coq and Lean: the program's path; where empty, `coqc` or `lean` is searched on PATH."""
    libraries: tuple[str, ...] = ()
    """Coq and Lean: folders with compiled libraries, as they would stand in COQPATH or LEAN_PATH."""
    readable: tuple[str, ...] = ()
    """Coq and Lean: more folders that the program needs to read, for an installation in several places."""
    axioms: tuple[str, ...] | None = None
    """Coq and Lean: full names of the axioms that a proof may rest on; a problem's `meta["axioms"]` comes first. None
    means none for Coq, and propext, Classical.choice and Quot.sound for Lean."""
    seconds: float = 10.0
    """Coq and Lean: for each of the two runs that a completion costs. Where `verify.deadline_seconds` is set, it leaves
    room for both, and for the problem's own statement, which is compiled when it is first met."""
    memory_gib: float | None = None
    """Coq and Lean: address space of a run. None means 2 for Coq, and 16 for Lean, which maps its libraries into it."""
    min_level: Literal["namespaces", "landlock", "unsafe"] = "landlock"
    """Coq and Lean: the weakest isolation to put up with (docs/sandbox.md)."""
    _assistant: Assistant | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.seconds <= 0 or (self.memory_gib is not None and self.memory_gib <= 0):
            raise ValueError("seconds and memory_gib are greater than 0")
        if self.kernel == "metamath":
            return
        assistant = Assistant(
            Coq() if self.kernel == "coq" else Lean(),
            command=self.command,
            libraries=tuple(map(Path, self.libraries)),
            readable=tuple(map(Path, self.readable)),
            axioms=self.axioms,
            seconds=self.seconds,
            memory_gib=self.memory_gib,
            min_level=self.min_level,
        )
        object.__setattr__(self, "_assistant", assistant)

    @property
    def isolation(self) -> str:
        """What stands between a completion and the machine: `kernel` where nothing of it is executed."""
        return str(self._assistant.level) if self._assistant else "kernel"

    @property
    def deadline_seconds(self) -> float:
        """For Coq and Lean as long as six runs: the statement is compiled in up to four when it is first met."""
        return DEADLINE_SECONDS if self._assistant is None else 6 * self.seconds

    def example(self, problem: Problem) -> str:
        """The problem's own proof, for `flywheel check`."""
        return problem.solution or ""

    def problems(self) -> list[Problem]:
        """Small theorems with their proofs to check the verifier on."""
        if self.kernel == "metamath":
            return make_problems(8, 0)
        coq = ("Theorem goal : {}.\nProof.\n" + HOLE + "\nQed.\n", "exact (eq_refl : {}).")
        template, proof = coq if self.kernel == "coq" else ("theorem goal : {} := " + HOLE, "(rfl : {})")
        return [
            Problem(
                id=f"sum-{n}",
                prompt=f"Prove {n} + {n} = {2 * n}.",
                answer=template.replace("{}", f"{n} + {n} = {2 * n}", 1),
                solution=proof.replace("{}", f"{n} + {n} = {2 * n}", 1),
            )
            for n in (1, 2, 3)
        ]

    def lacks(self) -> str | None:
        """Why no proof can be judged here: no such program, no sandbox, or no such database."""
        try:
            if self._assistant is not None:
                self._assistant.prepare()
                _ = self._assistant.level
            elif self.database:
                _database_file(self.database)
        except _CANNOT_JUDGE as error:
            return str(error)
        return None

    def unfit(self, problem: Problem) -> str | None:
        """Why a problem's answer is no statement with a hole in the kernel's language. No proof assistant is run, and
        a database that is not there is not the problem's fault (`lacks`)."""
        try:
            template = split(problem.answer)
            if self._assistant is not None:
                self._assistant.language.theorem(template)
            else:
                _goal(problem.answer, problem.meta.get("database") or "", self.database)
        except (TemplateError, MetamathError) as error:
            return f"{error} (kernel = {self.kernel!r})"
        except OSError:
            return None
        return None

    def prepare(self) -> None:
        """Read the database, or find the proof assistant. Where that fails, each verdict will say so."""
        with contextlib.suppress(*_CANNOT_JUDGE):
            if self._assistant is not None:
                self._assistant.prepare()
            elif self.database:
                _database_file(self.database)

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """CORRECT where the kernel accepts the proof and its assumptions are allowed; ERROR for a broken problem."""
        try:
            self.prepare()
            if self._assistant is not None:
                return self._assistant.judge(problem, completion)
            return self._metamath(problem, completion)
        except _CANNOT_JUDGE as error:
            return Judgement(Outcome.ERROR, 0.0, None, str(error))

    def _metamath(self, problem: Problem, completion: str) -> Judgement:
        split(problem.answer)
        goal = _goal(problem.answer, problem.meta.get("database") or "", self.database)
        proof = find_proof(completion, ("metamath", "mm"))
        if proof is None:
            return Judgement(Outcome.NO_ANSWER, 0.0, None, "the completion puts no proof forward")
        try:
            # A completion that says the whole statement again is taken at its proof alone.
            proof = short_enough(proof.rpartition("$=")[2].partition("$.")[0].strip())
            check(goal, proof.split())
        except (NotProved, Refused) as error:
            return wrong(proof, str(error))
        except TooMuchWork as error:
            return Judgement(Outcome.TIMEOUT, 0.0, proof, str(error))
        return Judgement(Outcome.CORRECT, 1.0, proof)


@lru_cache(maxsize=256)
def _goal(template: str, text: str, file: str) -> Goal:
    database = _database_text(text) if text else _database_file(file) if file else Database()
    return read_goal(template, HOLE, database)


@lru_cache(maxsize=8)
def _database_text(text: str) -> Database:
    return read(text)


@lru_cache(maxsize=2)
def _database_file(file: str) -> Database:
    return read(Path(file).read_text(encoding="ascii", errors="replace"))
