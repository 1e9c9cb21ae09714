"""What a problem's tests are: read from its meta columns, by shape."""

from __future__ import annotations

import ast
import json
import keyword
import re
from dataclasses import dataclass
from typing import Any

from flywheel import Problem

_DEFINED = re.compile(r"^(?:async\s+)?(?:def|class)\s+(\w+)", re.MULTILINE)


class BadProblem(Exception):
    """The problem's own fault: it has no tests, or none that can be read."""


@dataclass(frozen=True, slots=True)
class FunctionTests:
    """`pieces` are run in order; then, where `check`, the function `check` that they define gets the candidate."""

    entry: str
    pieces: list[str]
    check: bool


@dataclass(frozen=True, slots=True)
class ProgramTests:
    """Inputs and the whole outputs that a program must print for them."""

    cases: list[tuple[str, str]]


def read_tests(problem: Problem, *, challenge: bool) -> FunctionTests | ProgramTests:
    """The tests of a problem. Raises BadProblem.

    Looked at in `problem.meta`, in this order: `test_list` (with `test_setup_code`, `challenge_test_list` and
    `test_imports`), `test` (text), and for whole programs `tests`, `test_cases` or `input_output`.
    """
    meta = problem.meta
    if texts := _texts(meta.get("test_list")):
        setup = [str(t) for t in (*_texts(meta.get("test_imports")), meta.get("test_setup_code") or "") if t]
        more = _texts(meta.get("challenge_test_list")) if challenge else []
        pieces = [t.replace("\r\n", "\n") for t in (*setup, *texts, *more)]
        return FunctionTests(_entry(problem, pieces), pieces, check=False)
    if isinstance(meta.get("test"), str) and meta["test"].strip():
        text = meta["test"].replace("\r\n", "\n")
        calls_itself = re.search(r"^check\(", text, re.MULTILINE) is not None
        check = re.search(r"^def\s+check\s*\(", text, re.MULTILINE) is not None and not calls_itself
        return FunctionTests(_entry(problem, [text]), [text], check=check)
    for key in ("tests", "test_cases", "input_output", "test"):
        if cases := _cases(meta.get(key)):
            return ProgramTests(cases)
    raise BadProblem("the problem has no tests: its meta needs test, test_list, or tests of {input, output}")


def _texts(value: Any) -> list[str]:
    if isinstance(value, str) and value.startswith("["):
        value = _json(value)
    return [v for v in value if isinstance(v, str) and v.strip()] if isinstance(value, list) else []


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _cases(value: Any) -> list[tuple[str, str]]:
    value = _json(value) if isinstance(value, str) else value
    if isinstance(value, dict):  # {inputs: [...], outputs: [...]}, as APPS and its like have it
        inputs = value.get("inputs", value.get("input"))
        outputs = value.get("outputs", value.get("output"))
        if not (isinstance(inputs, list) and isinstance(outputs, list) and len(inputs) == len(outputs)):
            return []
        return [(_lines(i), _lines(o)) for i, o in zip(inputs, outputs, strict=True)]
    if isinstance(value, list) and all(isinstance(c, dict) and {"input", "output"} <= c.keys() for c in value):
        return [(_lines(c["input"]), _lines(c["output"])) for c in value]
    return []


def _lines(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _entry(problem: Problem, pieces: list[str]) -> str:
    """The function that tests call: as the problem names it, else the one call that all asserts share."""
    named = problem.meta.get("entry_point")
    if isinstance(named, str) and named.strip():
        if not named.strip().isidentifier() or keyword.iskeyword(named.strip()):
            raise BadProblem(f"entry_point {named!r} is no name")
        return named.strip()
    try:
        trees = [ast.parse(p) for p in pieces]
    except SyntaxError as error:
        raise BadProblem(f"the tests are no Python: {error}") from None
    asserts = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Assert)]
    called = [
        {c.func.id for c in ast.walk(a) if isinstance(c, ast.Call) and isinstance(c.func, ast.Name)} for a in asserts
    ]
    shared = set.intersection(*called) if called else set()
    solution = _DEFINED.findall(problem.solution or problem.answer or "")
    known = [name for name in solution if name in shared] or sorted(shared - set(dir(__builtins__)))
    if len(known) != 1:
        raise BadProblem("the problem names no entry_point, and its tests do not show which function they are about")
    return known[0]
