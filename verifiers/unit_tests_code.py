"""From a completion to the texts that may be its program. Text only: nothing that a model wrote is parsed here.

A parser can be crashed by what it reads, so whether a text is a program is found out in the candidate's process.
"""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass
from functools import lru_cache

LONGEST = 200_000
"""Characters of a completion's code that are read."""
_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+#.-]*)[^\n]*$", re.MULTILINE)
_PYTHON = {"", "python", "py", "python3", "python3.11", "py3", "pycon", "ipython", "code"}
_CODE_LINE = re.compile(
    r"^(?:from\s+\S+\s+import\b|import\s+\w|(?:async\s+)?def\s+\w|class\s+\w|@\w|\w+\s*(?::[^\n=]+)?=[^=])",
    re.MULTILINE,
)

_DEFINED = re.compile(r"^(?:(?:async\s+)?def|class)\s+([^\W\d]\w*)|^([^\W\d]\w*)\s*(?::[^=\n]+)?=[^=]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Texts:
    """`texts` may be the program, best guess first; `before` are earlier blocks that it may need definitions from.

    Each text comes with how many of its lines must be kept: what follows them may be prose, or cut off. `marked` says
    that the completion shows some code: a fenced block, or a definition of the function.
    """

    texts: list[tuple[str, int]]
    before: list[str]
    marked: bool


def program_texts(completion: str, prelude: str = "", entry: str | None = None) -> Texts:
    """What may be a completion's program, in this order:

    the last fenced Python block that defines `entry`; bare code that defines it, from its first line of code on; a
    continuation of `prelude`, the prompt's own code, as it stands or indented. Without `entry` (a whole program is
    asked for): the last block, else the bare text. A builtin's name as `entry` stands for any name, for data sets
    give it where a test wraps the function in one. What stands before `</think>` is not looked at, and a thought that
    does not end has no answer.
    """
    if "</think>" not in completion and "<think>" in completion:
        return Texts([], [], marked=False)
    text = completion.rpartition("</think>")[2].replace("\r\n", "\n").replace("\x00", "")
    blocks, closed = _blocks(text)
    if entry is None:
        guesses = [_whole(b) for b in blocks[::-1]] if blocks else [(text, 1), *_from_first_code(text)]
        return Texts([g for g in guesses if g[0].strip()], [], marked=bool(blocks))
    defining = [i for i, block in enumerate(blocks) if _defines(block, entry)]
    texts = [_whole(blocks[i]) if closed or i + 1 < len(blocks) else (blocks[i], 1) for i in reversed(defining)]
    before = blocks[: defining[-1]] if defining else []
    bare = not blocks and _defines(text, entry)
    if bare:
        texts += [(text, 1), *_from_first_code(text)]
    if prelude:
        for part in blocks[::-1] or [text]:
            texts += [_continued(prelude, part), _continued(prelude, _indented(part))]
    return Texts([t for t in texts if t[0].strip()], before, marked=bool(blocks) or bare)


def _defines(text: str, entry: str) -> bool:
    if hasattr(builtins, entry):
        return _DEFINED.search(text) is not None
    return any(entry in found.groups() for found in _DEFINED.finditer(text))


def _blocks(text: str) -> tuple[list[str], bool]:
    """The fenced blocks that are Python or say nothing, in order; and whether the last of them has an end."""
    blocks: list[str] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence.group(1)[0] == opened.group(1)[0] and not fence.group(2):
            blocks += _block(opened, text[opened.end() : fence.start()])
            opened = None
    if opened is not None:
        blocks += _block(opened, text[opened.end() :])
    return blocks, opened is None


def _block(opened: re.Match[str], inner: str) -> list[str]:
    if opened.group(2).lower() not in _PYTHON:
        return []
    margin = re.match(r"[ \t]*", opened.group())
    lines = inner.removeprefix("\n").split("\n")
    indent = margin.group() if margin else ""
    return ["\n".join(line.removeprefix(indent) for line in lines)]


def _whole(text: str) -> tuple[str, int]:
    return text, text.count("\n") + 1


def _from_first_code(text: str) -> list[tuple[str, int]]:
    found = _CODE_LINE.search(text)
    return [(text[found.start() :], 1)] if found and found.start() > 0 else []


def _continued(prelude: str, part: str) -> tuple[str, int]:
    """The prompt's code with what a completion model was asked for, of which the first line at least must be kept."""
    head = prelude if prelude.endswith("\n") or part.startswith("\n") else prelude + "\n"
    blank = len(part) - len(part.lstrip())
    return head + part, head.count("\n") + part[:blank].count("\n") + 1


def _indented(part: str) -> str:
    return "\n".join("    " + line if line.strip() else line for line in part.split("\n"))


@lru_cache(maxsize=1024)
def prompt_code(prompt: str) -> str:
    """The prompt, where it is Python itself, or the fenced block in it that is; "" without one. Trusted text."""
    for text in (prompt, *_blocks(prompt)[0][::-1]):
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            continue
        if any(isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) for n in tree.body):
            return text
    return ""
