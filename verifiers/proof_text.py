"""From a completion to its proof, and from a problem to its template. Text only; what is a proof the kernels decide."""

from __future__ import annotations

import re
from dataclasses import dataclass

HOLE = "{{proof}}"
LONGEST_PROOF = 100_000
"""Characters; what is longer is refused unread."""
LONGEST_TAIL = 400_000
"""Only so much of a completion's end is searched for a proof."""

_FENCE = re.compile(r"[ \t]{0,3}(`{3,}|~{3,})[ \t]*([\w+.-]*)[^\n`]*")
_MARKER = re.compile(r"<\|[a-z_]{1,30}\|>")


class TemplateError(Exception):
    """A problem's template or definitions cannot be used; the text says why."""


class Refused(Exception):
    """A proof that no kernel is asked about; the text says why."""


@dataclass(frozen=True, slots=True)
class Template:
    """What stands before and behind the hole."""

    before: str
    after: str


def split(template: str) -> Template:
    """The two parts of a template. Raises TemplateError where it has not exactly one hole."""
    before, *rest = template.split(HOLE)
    if len(rest) != 1:
        raise TemplateError(f"the template (the problem's answer) has {len(rest)} holes {HOLE}; it must have one")
    return Template(before, rest[0])


def find_proof(completion: str, languages: tuple[str, ...]) -> str | None:
    """The text that is put forward as the proof, or None where there is none.

    It is what follows the last `</think>`, and of that the last fenced block in one of `languages`, else the last
    fenced block, else everything.
    """
    text = completion[-LONGEST_TAIL:]
    if "</think>" in text:
        text = text.rpartition("</think>")[2]
    elif completion.lstrip()[:7] == "<think>":
        return None  # cut off while thinking: nothing was put forward
    if marker := _MARKER.search(text):
        text = text[: marker.start()]
    blocks = _fenced_blocks(text)
    named = [body for language, body in blocks if language.lower() in languages]
    proof = named[-1] if named else blocks[-1][1] if blocks else text
    return proof if proof.strip() else None


def _fenced_blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of the fenced blocks; one that is not closed goes on to the end."""
    blocks: list[tuple[str, str]] = []
    fence, language, body = "", "", []
    for line in text.split("\n"):
        match = _FENCE.fullmatch(line.rstrip())
        if not fence and match:
            fence, language, body = match[1], match[2], []
        elif fence and match and match[1].startswith(fence) and not match[2]:
            blocks.append((language, "\n".join(body)))
            fence = ""
        elif fence:
            body.append(line)
    if fence:
        blocks.append((language, "\n".join(body)))
    return blocks


def restated_until(proof: str, header: str) -> int | None:
    """Where the last place ends at which `proof` says the words of `header` again, whatever white space is between."""
    said = re.compile(r"\s+".join(re.escape(word) for word in header.split()))
    last = None
    for last in said.finditer(proof):
        pass
    return None if last is None else last.end()


def without_comments(text: str, opening: str, closing: str, line: str = "") -> str:
    """`text` with a space in place of each comment, nested ones and those to the end of a line (`line`) included.

    Strings are not looked at. That is safe because it is the result that goes to the kernel: what was taken for a
    comment is gone, and no comment is left that could hide a part of our own text. Raises Refused where one is open.
    """
    markers = re.compile("|".join(re.escape(m) for m in (opening, closing, line, "\n") if m))
    kept: list[str] = []
    level, in_line, start = 0, False, 0
    for match in markers.finditer(text):
        marker = match.group()
        if in_line:
            if marker == "\n":
                in_line, start = False, match.start()
        elif marker == opening:
            if level == 0:
                kept.append(text[start : match.start()])
            level += 1
        elif marker == closing and level:
            level -= 1
            if level == 0:
                kept.append(" ")
                start = match.end()
        elif line and marker == line and level == 0:
            kept.append(text[start : match.start()] + " ")
            in_line = True
    if level:
        raise Refused("a comment is not closed")
    if not in_line:
        kept.append(text[start:])
    result = "".join(kept)
    if opening in result or (line and line in result):  # `-/-`: read as a closing here, as an opening by the kernel
        raise Refused("a comment is not well formed")
    return result
