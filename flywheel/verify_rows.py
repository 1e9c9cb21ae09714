"""The rows of `flywheel verify`: JSON lines, checked one by one, and read as problems."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

from flywheel.errors import ProblemError
from flywheel.types import Message, Problem
from flywheel.verify_places import opened

ADDED = ("outcome", "score", "extracted", "detail", "isolation", "seconds")
"""The columns that the output has beside the input's own."""


def read_rows(lines: IO[bytes], shown: str, needs: Sequence[str] = ("completion",)) -> Iterator[dict[str, Any]]:
    """The rows of JSONL; blank lines are passed over. Raises ProblemError naming the line that is no row.

    Each has a text in the columns that it `needs`, and no other kind of value where a problem has a text.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _object(line, f"{shown} line {number}")
            _check_columns(row, needs, f"{shown} line {number}")
            yield row


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ProblemError(f"{where} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ProblemError(f"{where} is not JSON: {error.msg} at column {error.colno}") from None
    except (RecursionError, ValueError) as error:  # nested too deep, or an integer too long to convert
        raise ProblemError(f"{where} is not JSON that can be read: {error}") from None
    if not isinstance(row, dict):
        raise ProblemError(f"{where} holds {_kind(row)}; every row must be a JSON object")
    return row


def _check_columns(row: dict[str, Any], needs: Sequence[str], where: str) -> None:
    for name in needs:
        if name not in row:
            raise ProblemError(f"{where} lacks the column {name!r}; it has {', '.join(list(row)[:8]) or 'nothing'}")
        if not isinstance(row[name], str):
            raise ProblemError(f"{where}: {name!r} is {_kind(row[name])}; it must be a text")
    for name in ("prompt", "solution"):
        if not isinstance(row.get(name), (str, type(None))):
            raise ProblemError(f"{where}: {name!r} is {_kind(row[name])}; it must be a text")
    _messages(row, where)


def _kind(value: Any) -> str:
    """What a JSON value is, in words."""
    if isinstance(value, bool):
        return str(value).lower()
    words = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return words.get(type(value), "null")


def _messages(row: dict[str, Any], where: str) -> list[Message] | None:
    given = row.get("messages")
    if given is None:
        return None
    texts = isinstance(given, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in given
    )
    if not texts:
        raise ProblemError(f"{where}: 'messages' must be a list of objects with a role and a content, both text")
    return [{"role": m["role"], "content": m["content"]} for m in given]


def problem_key(row: dict[str, Any]) -> str:
    """What rows of one problem have in common."""
    given = row.get("problem_id")
    return json.dumps(given if given is not None else [row.get(n) for n in ("prompt", "messages", "answer")])


def standing_together(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows as they come. Raises ProblemError where a problem's rows are scattered: a group is judged at once."""
    seen: set[bytes] = set()
    last = ""
    for row in rows:
        key = problem_key(row)
        if key != last:
            mark = hashlib.blake2b(key.encode(), digest_size=12).digest()
            if mark in seen:
                raise ProblemError(f"rows of the problem {key[:60]} do not stand together; sort the file by problem")
            seen.add(mark)
            last = key
        yield row


def to_problem(row: dict[str, Any], id: str) -> Problem:
    """A row as the problem that its completion answers: what is no field of a problem goes to `meta`."""
    fields = ("completion", "prompt", "answer", "solution", "messages", *ADDED)
    answer = row.get("answer")
    return Problem(
        id=id,
        prompt=row.get("prompt") or "",
        answer=answer if isinstance(answer, str) else "" if answer is None else json.dumps(answer),
        solution=row.get("solution"),
        messages=_messages(row, id),
        meta={name: value for name, value in row.items() if name not in fields},
    )


def read_problems(path: str) -> list[Problem]:
    """The problems of a JSONL file, whose rows need no completion. Raises ProblemError."""
    with opened(path) as lines:
        rows = list(read_rows(lines, path, needs=()))
    return [to_problem(row, str(row.get("id") or row.get("task_id") or f"row-{i}")) for i, row in enumerate(rows, 1)]
