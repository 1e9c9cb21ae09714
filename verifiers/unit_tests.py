"""`unit_tests`: whether the program in a completion passes the problem's tests, run in a sandbox.

Two processes: the candidate holds the completion's program, the judge runs the tests, and only calls and plain
values pass between them, so no exit code, patched `__eq__` or printed line can stand for a pass (docs/sandbox.md).
"""

from __future__ import annotations

import builtins
import json
import os
import time
from dataclasses import dataclass, field
from typing import ClassVar

from flywheel import Judgement, Outcome, Problem
from flywheel.verifiers import sandbox
from flywheel.verifiers.unit_tests_bench import Bench
from flywheel.verifiers.unit_tests_channel import memory_file
from flywheel.verifiers.unit_tests_code import LONGEST, Texts, program_texts, prompt_code
from flywheel.verifiers.unit_tests_packages import folders
from flywheel.verifiers.unit_tests_shapes import BadProblem, FunctionTests, ProgramTests, read_tests

SPARE_SECONDS = 0.5
"""What a completion gets beyond the time of its tests, for the sandbox."""


@dataclass
class UnitTests:
    """Judges Python functions by asserts or `check(candidate)`, and whole programs by what they print."""

    name: ClassVar[str] = "unit_tests"
    version: ClassVar[str] = "1"
    path_kind: ClassVar[str] = "code"

    min_level: sandbox.Level = sandbox.Level.LANDLOCK
    """The weakest isolation that will do: `namespaces`, `landlock`, or `unsafe` (resource limits alone). The best that
    works is taken; where none reaches this, nothing is judged."""
    seconds: float = 2.5
    """Wall time for a completion's tests, all together. Keep `verify.deadline_seconds`, where it is set, above it."""
    memory_mib: int = 1024
    """Address space of the program."""
    output_kib: int = 1024
    """How much a whole program may print."""
    packages: list[str] = field(default_factory=list)
    """Installed distributions that programs and tests may import, such as numpy; what they need comes along. All other
    installed packages stay out of sight, for they can hold data sets."""
    challenge_tests: bool = True
    """Require a problem's `challenge_test_list` too."""
    hidden_tests: bool = False
    """Require that a test makes a call that the prompt does not show. A problem whose tests all stand in its prompt can
    be passed by a table of them; with this it is ERROR, without it CORRECT with a remark."""

    _bench: Bench | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.min_level = sandbox.Level(self.min_level)
        if self.seconds <= 0 or self.memory_mib < 64 or self.output_kib < 1:
            raise ValueError("seconds and output_kib are above zero, memory_mib is at least 64")
        self._level = sandbox.choose(self.min_level)
        self.deadline_seconds = self.seconds + SPARE_SECONDS
        self._readable = folders(self.packages)
        self._limits = sandbox.Limits(
            wall_seconds=self.seconds,
            cpu_seconds=int(self.seconds) + 1,
            memory_bytes=self.memory_mib << 20,
            processes=1,
            output_bytes=self.output_kib << 10,
        )

    @property
    def isolation(self) -> str:
        """The level that programs run at here."""
        return str(self._level)

    def example(self, problem: Problem) -> str:
        """The problem's own solution as a chat answer, for `flywheel check`."""
        meta = problem.meta
        continued = f"{problem.prompt}{meta['canonical_solution']}" if "canonical_solution" in meta else ""
        return f"```python\n{problem.solution or continued}\n```"

    def unfit(self, problem: Problem) -> str | None:
        """Why a problem has no tests that can be run."""
        try:
            read_tests(problem, challenge=self.challenge_tests)
        except BadProblem as error:
            return str(error)
        return None

    @classmethod
    def problems(cls) -> list[Problem]:
        """Three functions to check the verifier on."""
        return [
            Problem(
                id=name,
                prompt=f"def {name}(a, b):\n",
                answer="",
                solution=f"def {name}(a, b):\n    return a {sign} b\n",
                meta={"entry_point": name, "test": f"def check(candidate):\n    assert candidate(7, 3) == {value}\n"},
            )
            for name, sign, value in (("add", "+", 10), ("subtract", "-", 4), ("multiply", "*", 21))
        ]

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """CORRECT where every test holds; NO_ANSWER without a program; ERROR where the tests are at fault."""
        try:
            tests = read_tests(problem, challenge=self.challenge_tests)
        except BadProblem as error:
            return _ruled(Outcome.ERROR, str(error))
        if len(completion) > LONGEST:
            return _ruled(
                Outcome.WRONG, f"the completion has {len(completion)} characters (at most {LONGEST} are read)"
            )
        if isinstance(tests, ProgramTests):
            texts = program_texts(completion)
            if not texts.texts:
                return _ruled(Outcome.NO_ANSWER, "the completion has no program")
            return self._judge_program(tests, texts)
        prelude = prompt_code(str(problem.meta.get("prompt") or problem.prompt))
        texts = program_texts(completion, prelude, tests.entry)
        if not texts.texts or not completion.strip():
            outcome = Outcome.WRONG if texts.marked else Outcome.NO_ANSWER
            return _ruled(outcome, f"the completion does not define {tests.entry!r}")
        return self._judge_function(problem, tests, texts, prelude)

    # -- functions ----------------------------------------------------------------------------------

    def _judge_function(self, problem: Problem, tests: FunctionTests, texts: Texts, prelude: str) -> Judgement:
        deadline = time.monotonic() + self.seconds
        entries = [tests.entry]
        # The tests may wrap the function in a builtin that the data set mistook for it: then nothing can be asked for.
        asked = [] if hasattr(builtins, tests.entry) else entries
        program = [[list(text) for text in texts.texts], texts.before, asked, prelude]
        shown = problem.prompt + "".join(m["content"] for m in problem.messages or [])
        given = {"pieces": tests.pieces, "check": tests.check, "entries": entries, "prelude": prelude, "prompt": shown}
        said, ended = self._ready().try_functions(program, given, deadline)
        if said is None:
            return _ruled(Outcome.TIMEOUT, f"the tests did not end within {self.seconds:g} s")
        if not said:
            return _ruled(Outcome.TIMEOUT, "what the completion returned was more than the tests could bear")
        outcome, detail, calls, hidden, text = json.loads(said)
        if outcome == "unreadable":
            return _ruled(Outcome.WRONG if texts.marked else Outcome.NO_ANSWER, detail)
        if outcome == "wrong" and ended.cpu_seconds >= self._limits.cpu_seconds:
            return _ruled(Outcome.TIMEOUT, f"{self._limits.cpu_seconds} s of processor time were not enough", text)
        if outcome == "correct" and not hidden:
            remark = "every call of the tests stands in the prompt"
            if self.hidden_tests:
                return _ruled(Outcome.ERROR, f"{remark}; give the problem a hidden one", text)
            return _ruled(Outcome.CORRECT, f"{calls} calls, all as expected; {remark}", text)
        return _ruled(Outcome(outcome), detail or f"{calls} calls, all as expected", text)

    # -- whole programs -----------------------------------------------------------------------------

    def _judge_program(self, tests: ProgramTests, texts: Texts) -> Judgement:
        deadline = time.monotonic() + self.seconds
        program = memory_file({"texts": texts.texts, "before": texts.before})
        shown = texts.texts[0][0]
        try:
            for number, (fed, wanted) in enumerate(tests.cases, 1):
                why = self._run_case(program, fed, wanted, deadline)
                if why is not None:
                    outcome, detail = why
                    return _ruled(outcome, f"case {number} of {len(tests.cases)}: {detail}", shown)
        finally:
            os.close(program)
        return _ruled(Outcome.CORRECT, f"{len(tests.cases)} outputs, all as expected", shown)

    def _run_case(self, program: int, fed: str, wanted: str, deadline: float) -> tuple[Outcome, str] | None:
        """Why a case fails, or None where the program prints what it must."""
        printed, errors, ended = self._ready().run_program(program, fed.encode("utf-8", "replace"), deadline)
        limits = self._limits
        if printed is None or time.monotonic() >= deadline or ended.cpu_seconds >= limits.cpu_seconds:
            return Outcome.TIMEOUT, f"it did not end within {self.seconds:g} s"
        if len(printed) > limits.output_bytes:
            return Outcome.WRONG, f"it prints more than {self.output_kib} KiB"
        if ended.code != 0:
            words = errors.decode(errors="replace").strip()
            return Outcome.WRONG, f"it ends with {_code(ended.code)}{': ' + words if words else ''}"
        if not same_output(wanted, printed.decode(errors="replace")):
            return Outcome.WRONG, "it prints something else than expected"
        return None

    # -- the sandbox --------------------------------------------------------------------------------

    def _ready(self) -> Bench:
        """This process's sandbox. A fork of the process that made one makes its own."""
        if self._bench is None or not self._bench.usable:
            self.close()
            self._bench = Bench(self._level, self._limits, self._readable)
        return self._bench

    def close(self) -> None:
        """End the sandbox; the next completion starts it again."""
        if self._bench is not None:
            self._bench.close()
            self._bench = None


def same_output(wanted: str, printed: str) -> bool:
    """Whether two outputs are the same line by line, but for white space at the ends of lines and of the text."""
    return _trimmed(wanted) == _trimmed(printed)


def _trimmed(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _code(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def _ruled(outcome: Outcome, detail: str, answer: str | None = None) -> Judgement:
    return Judgement(outcome, float(outcome is Outcome.CORRECT), answer, detail)
