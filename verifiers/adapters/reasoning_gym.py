"""`reasoning_gym`: a task's own `score_answer(answer, entry)`, kept from executing what a model wrote.

Nine tasks of reasoning-gym 0.1.25 hand the answer to `eval` or to sympy's `parse_expr`, which executes it. They run in
the sandbox or not at all, and only on answers that are plain literals or expressions: code that runs in a scorer's own
process could make up its score there, however well the process is locked up. One task gives full marks to anything.
"""

from __future__ import annotations

import ast
import inspect
import json
import math
import re
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from flywheel import DEADLINE_SECONDS, FlywheelError, Judgement, Outcome, PluginError, Problem
from flywheel.verifiers.adapters.base import as_number, error

LITERALS = {"string_insertion", "spiral_matrix", "binary_matrix", "n_queens"}
"""Tasks that `eval` the answer, expecting a Python list."""
EXPRESSIONS = {
    "simple_integration",
    "intermediate_integration",
    "polynomial_multiplication",
    "puzzle24",
    "countdown",
}
"""Tasks that hand the answer to sympy's `parse_expr`, expecting an expression."""
BROKEN = {"game_of_life_halting": "it gives full marks to any answer at all"}
"""Tasks whose scorer is worth nothing, and why."""

PROBLEMS = 8
"""How many problems of its own a task offers for a check."""
LONGEST = 2000
"""Characters of an answer that is handed to a scorer which evaluates it."""
_EXPRESSION = re.compile(r"(?:[\s+\-*/^(),=]|\d+(?:\.\d+)?|[a-zA-Z]+\d*)*")
_NAMES = {"sqrt", "exp", "log", "ln", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "pi", "Abs"}
_TAGS = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def answer_text(entry: dict[str, Any]) -> str:
    """The reference answer of an entry as a problem holds it."""
    made = entry["answer"]
    return made if isinstance(made, str) else "" if made is None else json.dumps(made, default=str)


def same_problem(entry: dict[str, Any], prompt: str, answer: str) -> bool:
    """Whether an entry that a task makes is the one a problem was made from: a template may stand around it."""
    return answer_text(entry).strip() == answer.strip() and entry["question"].strip() in prompt


# Runs in the sandbox: nothing of flywheel is imported, so that it needs no more than reasoning-gym itself.
PROGRAM = """
import json, sys
from typing import Any
sys.path[:] = json.loads(sys.argv[1])
request = json.load(sys.stdin)
import reasoning_gym
tasks = reasoning_gym.create_dataset(request["task"], **request["settings"])
entry = request["entry"] or tasks[request["index"]]
SAME
if not same_problem(entry, *request["same"]):
    print(json.dumps("another problem"))
else:
    print(json.dumps(float(tasks.score_answer(request["answer"], entry))))
""".replace("SAME", f"{inspect.getsource(answer_text)}\n{inspect.getsource(same_problem)}")


@dataclass(frozen=True)
class ReasoningGym:
    """Judges by the scorer of a reasoning-gym task. A score below 1 is WRONG, with its partial credit as score.

    The task's entry is made again from the problem's index, which `problems.source = "reasoning_gym"` keeps, or taken
    from a column `metadata` where rows come from elsewhere. One that does not match the problem is ERROR.
    """

    name: ClassVar[str] = "reasoning_gym"
    version: ClassVar[str] = "1"

    task: str = ""
    """The task's name; without it the problem's column `task`."""
    seed: int = 0
    """The seed that the problems were made with (`problems.seed`)."""
    size: int = 10_000
    """How many problems the generator was told it would be asked for, where a task depends on it."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """The task's own parameters (`problems.parameters`)."""
    threshold: float = 1.0
    """The score from which an answer is correct."""
    pattern: str = ""
    """A regular expression whose group 1 is the answer (its last match); without it the last `<answer>` tag's text,
    else the whole completion, after any `</think>`."""
    sandbox_seconds: float = 20.0
    """Wall time for a scorer in the sandbox, which starts an interpreter and imports reasoning-gym each time. Keep
    `verify.deadline_seconds`, where it is set, above it."""

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ValueError(f"threshold = {self.threshold!r} must be above 0 and at most 1")
        if self.pattern and re.compile(self.pattern).groups < 1:
            raise ValueError(f"pattern {self.pattern!r} has no group; put the answer's part in parentheses")
        if self.task in BROKEN:
            raise PluginError(f"reasoning_gym task {self.task!r} cannot be used: {BROKEN[self.task]}")
        if self.task in LITERALS | EXPRESSIONS:
            _sandbox_level(self.task)

    @property
    def isolation(self) -> str:
        """The sandbox's level where the task needs one; else, and where problems name their tasks, `worker`."""
        return str(_sandbox_level(self.task)) if self.task in LITERALS | EXPRESSIONS else "worker"

    @property
    def deadline_seconds(self) -> float:
        """Room for the sandbox where a task can need it."""
        executed = not self.task or self.task in LITERALS | EXPRESSIONS
        return self.sandbox_seconds + 10.0 if executed else DEADLINE_SECONDS

    def identity(self) -> dict[str, Any]:
        """The installed version of reasoning-gym, whose scorers these are."""
        from importlib.metadata import version

        return {"function_package": f"reasoning-gym {version('reasoning-gym')}"}

    def prepare(self) -> None:
        """Import reasoning-gym (about two seconds)."""
        import reasoning_gym  # noqa: F401

    def problems(self) -> list[Problem]:
        """The first of the task's own problems, for `flywheel check`; of leg_counting where no task is named."""
        task = self.task or "leg_counting"
        tasks = _tasks(task, json.dumps(self._settings(0), sort_keys=True))
        entries = [(index, tasks[index]) for index in range(PROBLEMS)]
        return [
            Problem(
                id=f"{task}-{index}",
                prompt=entry["question"],
                answer=answer_text(entry),
                meta={"task": task, "index": index},
            )
            for index, entry in entries
        ]

    def example(self, problem: Problem) -> str:
        """A completion with the reference answer, for `flywheel check`."""
        return problem.answer if self.pattern else f"<answer>{problem.answer}</answer>"

    def verify(self, problem: Problem, completion: str) -> Judgement:
        """Judge by the task's scorer; ERROR where the task or its entry is not known."""
        task = self.task or str(problem.meta.get("task", ""))
        if not task:
            return error("no task is named: set the option task, or give problems a column 'task'")
        if task in BROKEN:
            return error(f"reasoning_gym task {task!r} cannot be used: {BROKEN[task]}")
        answer = self._answer(completion)
        if not answer:
            return Judgement(Outcome.NO_ANSWER, 0.0, None, "the completion has no answer")
        if task in LITERALS | EXPRESSIONS:
            if (reason := harmful(task, answer)) is not None:
                return Judgement(Outcome.WRONG, 0.0, answer, reason)
            score = self._in_sandbox(task, problem, answer)
        else:
            score = self._here(task, problem, answer)
        if isinstance(score, Judgement):
            return score
        value = as_number(score)
        if value is None or not 0.0 <= value <= 1.0:
            return error(f"the scorer of {task} returned {value}, which is no score from 0 to 1")
        right = value >= self.threshold - 1e-9
        return Judgement(Outcome.CORRECT if right else Outcome.WRONG, value, answer)

    def _answer(self, completion: str) -> str:
        text = completion.rpartition("</think>")[2]
        found = re.findall(self.pattern or _TAGS, text)
        if found:
            last = found[-1][0] if isinstance(found[-1], tuple) else found[-1]
            return str(last).strip()
        return "" if self.pattern else text.strip()

    # -- the entry ----------------------------------------------------------------------------------

    def _settings(self, index: int) -> dict[str, Any]:
        return {**self.parameters, "seed": self.seed, "size": max(self.size, index + 1)}

    def _index(self, problem: Problem) -> int:
        index = problem.meta.get("index", problem.meta.get("source_index"))
        if not isinstance(index, int) or index < 0:
            raise PluginError(f"problem {problem.id!r} has neither a column 'metadata' nor an 'index' of its task")
        return index

    def _entry_given(self, problem: Problem) -> dict[str, Any] | None:
        metadata = problem.meta.get("metadata")
        if not isinstance(metadata, dict):
            return None
        return {"question": problem.prompt, "answer": problem.answer, "metadata": metadata}

    def _here(self, task: str, problem: Problem, answer: str) -> Any:
        self.prepare()
        given = self._entry_given(problem)
        index = 0 if given else self._index(problem)
        tasks = _tasks(task, json.dumps(self._settings(index), sort_keys=True))
        entry = given or tasks[index]
        if not same_problem(entry, problem.prompt, problem.answer):
            return _mismatch(problem)
        return tasks.score_answer(answer, entry)

    def _in_sandbox(self, task: str, problem: Problem, answer: str) -> Any:
        level = _sandbox_level(task)
        from flywheel.verifiers import sandbox

        given = self._entry_given(problem)
        index = 0 if given else self._index(problem)
        request = {"task": task, "settings": self._settings(index), "index": index, "entry": given, "answer": answer}
        request["same"] = [problem.prompt, problem.answer]
        # Installed packages and the standard library; not the working folder, which is nobody's business in there.
        roots = [Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
        packages = [Path(p).resolve() for p in sys.path if p and Path(p).is_dir() and "site-packages" in Path(p).parts]
        standard = [
            Path(p).resolve() for p in sys.path if p and any(Path(p).resolve().is_relative_to(r) for r in roots)
        ]
        finished = sandbox.run(
            [sys.executable, "-I", "-c", PROGRAM, json.dumps([str(p) for p in dict.fromkeys([*standard, *packages])])],
            level=level,
            stdin=json.dumps(request).encode(),
            readable=list(dict.fromkeys([*roots, *packages])),
            limits=sandbox.Limits(
                wall_seconds=self.sandbox_seconds, cpu_seconds=math.ceil(self.sandbox_seconds), memory_bytes=2 << 30
            ),
            environment={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        if finished.timed_out:
            return Judgement(Outcome.TIMEOUT, 0.0, answer, f"not scored within {self.sandbox_seconds:g} s")
        if finished.signal is not None:
            return Judgement(
                Outcome.TIMEOUT, 0.0, answer, f"the scorer was ended by its limits (signal {finished.signal})"
            )
        if finished.exit_code != 0:
            words = finished.stderr.decode("utf-8", "replace").strip().splitlines()
            return error(
                f"the scorer of {task} failed in the sandbox: {words[-1][:200] if words else 'it said nothing'}"
            )
        score = json.loads(finished.stdout.splitlines()[-1])
        return _mismatch(problem) if score == "another problem" else score


def harmful(task: str, answer: str) -> str | None:
    """Why an answer is not handed to a scorer that evaluates it, or None.

    For `eval`, an answer is harmless that is a Python literal, a single name, or no Python at all; for `parse_expr`,
    one that is made of numbers, operators, brackets, single letters and names of functions.
    """
    if len(answer) > LONGEST:
        return f"the answer has {len(answer)} characters; at most {LONGEST} are handed to a scorer that evaluates them"
    if task in LITERALS:
        return None if _only_a_literal(answer) else "the answer is Python code and no literal"
    if not _EXPRESSION.fullmatch(answer):
        return "the answer is no plain expression"
    odd = sorted(n for n in set(re.findall(r"[a-zA-Z]+\d*", answer)) if len(n) > 1 and n not in _NAMES)
    return f"the answer has the name {odd[0]!r}, and its scorer evaluates what it reads" if odd else None


def _only_a_literal(answer: str) -> bool:
    """Whether evaluating a text can do nothing but build a value, look up one name, or fail to parse."""
    try:
        body = ast.parse(answer.lstrip(" \t"), mode="eval").body
        if not isinstance(body, ast.Name):
            ast.literal_eval(body)
    except SyntaxError:
        return True
    except (ValueError, TypeError, MemoryError, RecursionError):
        return False
    return True


def _mismatch(problem: Problem) -> Judgement:
    return error(
        f"problem {problem.id!r} is not the one that its task makes now: set seed, parameters and size to what the "
        "problems were made with"
    )


@lru_cache(maxsize=32)
def _tasks(task: str, settings: str) -> Any:
    import reasoning_gym

    try:
        return reasoning_gym.create_dataset(task, **json.loads(settings))
    except (TypeError, ValueError, AssertionError) as problem:
        raise PluginError(f"reasoning_gym {task!r} does not take {settings}: {problem}") from None


@lru_cache(maxsize=1)
def _level() -> Any:
    from flywheel.verifiers import sandbox

    return sandbox.choose(sandbox.Level.LANDLOCK)


def _sandbox_level(task: str) -> Any:
    """The isolation level that works here, landlock or better. Raises PluginError where none does."""
    refused = f"reasoning_gym task {task!r} executes what the model wrote and is refused without a sandbox"
    try:
        return _level()
    except ImportError:
        raise PluginError(f"{refused}: flywheel.verifiers.sandbox is not installed") from None
    except FlywheelError as problem:
        raise PluginError(f"{refused}: {problem}") from None
