"""What Coq and Lean share: statement, candidate and the question whether they fit are files of separate processes.

1. The problem's definitions and its statement are compiled alone, and once.
2. The candidate, the template with the proof in its hole, is compiled beside the definitions. Only the compiled
   file leaves that process; its exit code, what it prints and what it writes count for nothing.
3. A file of ours loads both and has the kernel check that the candidate's theorem has the statement's type, and say
   what it rests on. The candidate's text is not in it, so nothing that it opens, closes, redefines or prints can
   change the question or forge the reply.

Each runs in the sandbox, without a network, with the installation to read and an empty folder to write.
"""

from __future__ import annotations

import math
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from flywheel import Judgement, Outcome, Problem
from flywheel.verifiers import sandbox
from flywheel.verifiers.proof_text import LONGEST_PROOF, Refused, Template, TemplateError, find_proof, split

DEFINITIONS, STATEMENT, CANDIDATE, VERDICT = "Problem", "Statement", "Candidate", "Verdict"
"""The modules: a problem may call its definitions `Problem.…`, the others nobody needs to name."""
LARGEST_COMPILED = 32 * 2**20
"""Bytes of a compiled file."""
KEPT_PROBLEMS = 64
"""Problems whose compiled statements a worker keeps."""


class Unavailable(Exception):
    """The proof assistant cannot be run here; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Theorem:
    """A template read: what its language needs of the text before the hole, and the theorem's name."""

    template: Template
    preamble: str
    header: str
    name: str

    @classmethod
    def found(cls, template: Template, at: re.Match[str], declares: re.Pattern[str]) -> Theorem:
        """The theorem at a match whose group 1 is its name. Raises TemplateError if `declares` is found before it."""
        text = template.before
        preamble = text[: at.start()]
        if declared := declares.search(preamble):
            raise TemplateError(f"{declared[1]} stands before the theorem; declarations belong in meta['definitions']")
        return cls(template, preamble, text[at.start() :], at[1])


class Language(Protocol):
    """What differs between the assistants: how files are written, compiled and read."""

    command: str
    fences: tuple[str, ...]
    source: str
    compiled: str
    axioms: tuple[str, ...]
    """Those a proof may rest on where nobody says otherwise."""
    memory_gib: float
    """Address space that a run is given where nobody says otherwise."""
    shortens: bool
    """Whether names are printed as short as they are unambiguous, or in full."""

    def theorem(self, template: Template) -> Theorem:
        """The template's theorem. Raises TemplateError."""

    def clean(self, theorem: Theorem, proof: str) -> str:
        """The proof as it goes into the hole. Raises Refused."""

    def definitions(self, text: str) -> str:
        """The file of the problem's definitions."""

    def statement(self, theorem: Theorem, imports: Sequence[str]) -> str:
        """The file that states the theorem without proof."""

    def candidate(self, theorem: Theorem, proof: str, imports: Sequence[str]) -> str:
        """The file with the proof in it."""

    def verdict(self, theorem: Theorem, imports: Sequence[str]) -> str:
        """The file that asks whether the candidate's theorem is the statement's, and what it rests on."""

    def arguments(self, module: str) -> list[str]:
        """The command line, behind the command, that compiles a module."""

    def environment(self, libraries: Sequence[Path]) -> dict[str, str]:
        """The variables a run needs."""

    def installation(self, command: Path) -> tuple[Path, list[Path]]:
        """The program to run, and the folders it reads."""

    def assumptions(self, printed: str) -> list[str] | None:
        """The names of what the theorem rests on, from what step 3 printed; None where that is not to be read."""

    def objected(self, finished: sandbox.Finished) -> bool:
        """Whether a compilation that ended well printed an error all the same."""

    def complaint(self, finished: sandbox.Finished) -> str:
        """The first error a compilation printed, for people."""


@dataclass
class Assistant:
    """Judges proofs in one language with the user's installation of it."""

    language: Language
    command: str = ""
    libraries: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    axioms: tuple[str, ...] | None = None
    seconds: float = 10.0
    memory_gib: float | None = None
    min_level: str = "landlock"
    _ours: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict, init=False)
    _installed: tuple[Path, list[Path]] | None = field(default=None, init=False)

    @property
    def level(self) -> sandbox.Level:
        """The isolation that the assistant runs behind. Raises sandbox.SandboxError where none suffices."""
        return sandbox.choose(sandbox.Level(self.min_level))

    def prepare(self) -> None:
        """Find the installation. Raises Unavailable."""
        if self._installed is None:
            named = self.command or self.language.command
            found = shutil.which(named)
            if found is None:
                raise Unavailable(f"there is no program {named!r}; install it, or say where it is (option `command`)")
            self._installed = self.language.installation(Path(found).resolve())

    def judge(self, problem: Problem, completion: str) -> Judgement:
        """The judgement on a completion. Raises TemplateError, Unavailable, sandbox.SandboxError."""
        theorem = self.language.theorem(split(problem.answer))
        proof = find_proof(completion, self.language.fences)
        if proof is None:
            return Judgement(Outcome.NO_ANSWER, 0.0, None, "the completion puts no proof forward")
        try:
            proof = self.language.clean(theorem, short_enough(proof))
        except Refused as refusal:
            return wrong(proof, str(refusal))
        ours = self._compiled_statement(problem, theorem)
        return self._judge(theorem, proof, ours, self._allowed(problem))

    def _judge(self, theorem: Theorem, proof: str, ours: Mapping[str, bytes], allowed: Sequence[str]) -> Judgement:
        definitions = {m: c for m, c in ours.items() if m == DEFINITIONS}
        candidate = self.language.candidate(theorem, proof, list(definitions))
        finished, compiled = self._compile(CANDIDATE, candidate, definitions)
        if exhausted(finished):
            return Judgement(Outcome.TIMEOUT, 0.0, proof, f"not compiled within {self.seconds:g} s and its memory")
        if not compiled:
            return wrong(proof, self.language.complaint(finished))
        finished = self._run(
            self.language.arguments(VERDICT),
            {VERDICT + self.language.source: self.language.verdict(theorem, [*ours, CANDIDATE]).encode()},
            {**ours, CANDIDATE: compiled},
        )
        if exhausted(finished):
            return Judgement(Outcome.TIMEOUT, 0.0, proof, f"not checked within {self.seconds:g} s and its memory")
        if finished.exit_code != 0:
            return wrong(proof, f"it does not prove the statement: {self.language.complaint(finished)}")
        printed = finished.stdout.decode(errors="replace")
        resting = self.language.assumptions(printed)
        if resting is None or finished.truncated:
            return wrong(proof, f"what it rests on is not only axioms: {' '.join(printed[:1000].split())}")
        foreign = [name for name in resting if not is_allowed(name, allowed, shortened=self.language.shortens)]
        if foreign:
            return wrong(proof, f"it rests on {', '.join(foreign[:5])}")
        return Judgement(Outcome.CORRECT, 1.0, proof, f"rests on {', '.join(resting)}" if resting else "")

    def _allowed(self, problem: Problem) -> tuple[str, ...]:
        own = problem.meta.get("axioms")
        if own is not None:
            if not isinstance(own, list) or not all(isinstance(name, str) for name in own):
                raise TemplateError(f"meta['axioms'] is a list of names, not {own!r}")
            return tuple(own)
        return self.language.axioms if self.axioms is None else self.axioms

    def _compiled_statement(self, problem: Problem, theorem: Theorem) -> dict[str, bytes]:
        """The compiled definitions, where the problem has some, and the compiled statement."""
        definitions = problem.meta.get("definitions") or ""
        key = (problem.answer, definitions)
        if key not in self._ours:
            modules: dict[str, bytes] = {}
            if definitions:
                self._add(modules, DEFINITIONS, self.language.definitions(definitions))
            self._add(modules, STATEMENT, self.language.statement(theorem, list(modules)))
            while len(self._ours) >= KEPT_PROBLEMS:
                self._ours.pop(next(iter(self._ours)))
            self._ours[key] = modules
        return self._ours[key]

    def _add(self, modules: dict[str, bytes], module: str, text: str) -> None:
        finished, compiled = self._compile(module, text, modules)
        if not compiled:
            said = f"not within {self.seconds:g} s" if exhausted(finished) else self.language.complaint(finished)
            what = "meta['definitions']" if module == DEFINITIONS else "the template's statement"
            raise TemplateError(f"{what} does not compile: {said}")
        modules[module] = compiled

    def _compile(self, module: str, text: str, libraries: Mapping[str, bytes]) -> tuple[sandbox.Finished, bytes]:
        """Compile in a process of its own; what it left as `module`'s compiled file, b"" where it failed."""
        compiled = module + self.language.compiled
        # All the program prints goes to standard error: standard output is the compiled file and nothing else.
        script = ["/bin/sh", "-c", f'"$@" 1>&2 && exec cat {compiled}', "sh"]
        files = {module + self.language.source: text.encode("utf-8", "replace")}
        finished = self._run(self.language.arguments(module), files, libraries, script)
        good = finished.exit_code == 0 and not finished.truncated and not self.language.objected(finished)
        return finished, finished.stdout if good else b""

    def _run(
        self,
        arguments: Sequence[str],
        files: Mapping[str, bytes],
        libraries: Mapping[str, bytes],
        script: Sequence[str] = (),
    ) -> sandbox.Finished:
        self.prepare()
        assert self._installed is not None  # prepare() raises where there is none
        program, folders = self._installed
        return sandbox.run(
            [*script, str(program), *arguments],
            level=self.level,
            files={**files, **{m + self.language.compiled: c for m, c in libraries.items()}},
            readable=[*folders, *self.libraries, *self.readable],
            limits=sandbox.Limits(
                wall_seconds=self.seconds,
                cpu_seconds=math.ceil(self.seconds),
                memory_bytes=int((self.memory_gib or self.language.memory_gib) * 2**30),
                file_bytes=LARGEST_COMPILED,
                output_bytes=LARGEST_COMPILED,
                scratch_bytes=4 * LARGEST_COMPILED,
            ),
            environment=self.language.environment(self.libraries),
        )


def exhausted(finished: sandbox.Finished) -> bool:
    """Whether a run ended because its time or memory did; a shell reports a child's signal as 128 more."""
    ended = finished.signal or (finished.exit_code or 0) - 128
    return finished.timed_out or ended in (signal.SIGKILL, signal.SIGXCPU) or b"ut of memory" in finished.stderr


def short_enough(proof: str) -> str:
    """`proof` itself. Raises Refused where it is too long to be looked at."""
    if len(proof) > LONGEST_PROOF:
        raise Refused(f"{len(proof)} characters (at most {LONGEST_PROOF})")
    return proof


def wrong(proof: str, detail: str) -> Judgement:
    """A WRONG judgement on a proof that was put forward."""
    return Judgement(Outcome.WRONG, 0.0, proof, detail)


def is_allowed(name: str, allowed: Sequence[str], *, shortened: bool) -> bool:
    """Whether an assumption is one of `allowed`, `shortened` from the left or not; a candidate's own never is."""
    if not shortened:
        return name in allowed
    parts = name.split(".")
    return CANDIDATE not in parts and any(full.split(".")[-len(parts) :] == parts for full in allowed)
