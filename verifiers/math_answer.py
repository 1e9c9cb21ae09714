"""From a completion to its answer: a strict order, and caps on what is looked at. Text only, nothing is evaluated.

1. What follows the last `</think>`. 2. The last `\\boxed{}`, with the boxes joined to it by "," or "and", unless a
"final answer is x" comes after it. 3. `#### x`. 4. "The answer is x" or "Answer: x"; where x is a sentence, its only number.
5. A completion that is nothing but an answer. 6. The only formula of a sentence without another number.
And only where a recipe asks for it: 7. the last `$x$`, 8. the last number.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, replace

LONGEST_ANSWER = 1_000
"""Characters; what is longer is no answer."""
LONGEST_TAIL = 200_000
"""Only so much of a completion's end is searched."""
DEEPEST = 40
"""Levels of braces inside an answer."""

_MARKER = re.compile(r"<\|[a-z_]{1,30}\|>")
_EMPHASIS = re.compile(r"(?<![\w)*])\*\*(?=\S)([^*\n]{1,300}?)(?<=\S)\*\*(?![\w(*])")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_HASHES = re.compile(r"^\s*####[ \t]*(\S.*)$", re.MULTILINE)
_SAYS = re.compile(
    r"(\bfinal\s+)?\banswers?\b(?:[ \t]+(?:is|are|was|equals|would be|should be|must be)\b[ \t]*:?|[ \t]*[:=]"
    r"|(?=[ \t]*(?:\$|\\[(\[])))\s*",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(?:not|no|never|cannot|neither|nor|wrong|incorrect)\b|n't\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n|,?\s(?:because|since)\b")
_BARE_BOX = re.compile(r"\\(boxed|fbox)\s+(-?\d[\d.,]*\d|\d|[A-Za-z])(?![\w{])")
_MATHS = re.compile(
    r"\$\$(.{1,1000}?)\$\$|\$([^$\n]{1,1000}?)\$|\\\[(.{1,1000}?)\\\]|\\\(([^\n]{1,1000}?)\\\)", re.DOTALL
)
_NUMBER = re.compile(
    r"(?<![\w.,/^])[-+\u2212]?[$€£]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,400})(?:\.\d{1,400}|,\d\d(?![\d,]))?(?:/\d{1,400})?%?"
    r"|(?<![\w.,/^])[-+\u2212]?\.\d{1,400}"
)
_WORD = re.compile(r"[A-Za-z]{2,}")
_COMMAND = re.compile(r"\\(?:begin|end)\s*\{\w*\*?\}|\\(?:text|mbox|mathrm|textbf|textnormal)\s*\{[^{}]*\}|\\[A-Za-z]+")
_COMMAND_WORDS = re.compile(r"\\(?:text|mbox|mathrm|textbf|textnormal)\s*\{([^{}]*)\}")
_FENCE = re.compile(r"^\s*```\w*\s*$", re.MULTILINE)
_PERCENT_AFTER = re.compile(r"[\s$)\\]*(?:%|percent\b|pct\b)")
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z])")
_PROSE = frozenset(
    """the is are we so of that thus hence therefore find have answer solution it then first next now but
    because do know cannot can""".split()  # noqa: SIM905 - a list would fill the screen
)
_OPENING_WORD = re.compile(
    r"(?!(?:sin|cos|tan|sec|csc|cot|log|exp|sqrt|lim|max|min|gcd|lcm)\b)[A-Za-z]{3,}\b.*\d", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Found:
    """An answer's text and where it stood: box, hashes, says, whole, maths or number.

    `end` is where in the completion it ends, `percent` whether "%" or "percent" follows a box.
    """

    text: str
    place: str
    end: int = 0
    percent: bool = False


def find_answer(completion: str, *, last_maths: bool = False, last_number: bool = False) -> Found | None:
    """The completion's answer by the order above, or None where it gives none."""
    text = _final_part(completion)
    found = _boxed(text)
    if found is not None:
        found = _said_after(text, found) or found
    found = found or _hashes(text) or _says(text) or _whole(text) or _only_formula(text)
    if last_number and found is not None and found.place != "box" and _is_prose(found.text):
        found = _last_number(found.text) or found  # "the answer is that Jane has 3 apples"
    if found is None:
        found = _last_unmarked(text, maths=last_maths, number=last_number)
    if found is not None and found.place == "box" and "nswer" in found.text:
        found = _says(_COMMAND_WORDS.sub(r" \1 ", found.text)) or found  # `\\boxed{\\text{The answer is } 42}`
    if found is None or len(found.text) > LONGEST_ANSWER or depth(found.text) > DEEPEST:
        return None
    return replace(found, text=_plain_commands(found.text))


def reference_text(answer: str) -> str:
    """The answer inside a reference: its last boxes where there are any, else all of it without `$`."""
    found = _boxed(answer)
    if found is None and (opening := _last(_BOX, _plain_commands(answer))):
        return _plain_commands(answer)[opening.end() :]  # cut off inside its box
    if found is None and (_is_prose(answer) or len(answer) > LONGEST_ANSWER):
        found = _says(answer)
    return _plain_commands(found.text if found is not None else strip_dollars(answer))


def _plain_commands(text: str) -> str:
    """A text whose backslashes were doubled on their way through JSON, put right; in a matrix two begin a row."""
    return text if "\\begin" in text else _DOUBLED.sub(r"\\", text)


def depth(text: str) -> int:
    """How deep the braces and brackets of a text nest."""
    deepest = level = 0
    for character in text:
        if character in "{([":
            level += 1
            deepest = max(deepest, level)
        elif character in "})]":
            level -= 1
    return deepest


def strip_dollars(text: str) -> str:
    """A text without the maths delimiters around all of it, or around parts of it."""
    stripped = text.strip()
    whole = _MATHS.fullmatch(stripped)
    if whole:
        return next(g for g in whole.groups() if g is not None).strip()
    return _MATHS.sub(lambda m: next(g for g in m.groups() if g is not None), stripped)


def _final_part(completion: str) -> str:
    text = completion[-LONGEST_TAIL:]
    if "</think>" in text:
        text = text.rpartition("</think>")[2]
    elif completion.lstrip()[:7] == "<think>":
        return ""  # cut off while thinking: nothing was answered
    if "```" in text:
        text = _FENCE.sub("", text)
    text = _BARE_BOX.sub(r"\\\1{\2}", text) if "\\boxed " in text or "\\fbox " in text else text
    marker = _MARKER.search(text)
    return _EMPHASIS.sub(r"\1", text[: marker.start()] if marker else text)


def _boxed(text: str) -> Found | None:
    boxes = _balanced_boxes(text)
    if not boxes:
        return None
    group = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        if not _joined(text[box[2] : group[0][0]]):
            break
        group.insert(0, box)
    percent = bool(_PERCENT_AFTER.match(text, group[-1][2])) and "%" not in group[-1][1]
    return Found(", ".join(inner.strip() for _, inner, _ in group), "box", group[-1][2], percent)


def _balanced_boxes(text: str) -> list[tuple[int, str, int]]:
    """(start, content, end) of the outermost balanced boxes, in one pass; at most the last hundred openings."""
    boxes: list[tuple[int, str, int]] = []
    for opening in list(_BOX.finditer(text))[-100:]:
        if boxes and opening.start() < boxes[-1][2]:
            continue
        level = 1
        for position in range(opening.end(), min(len(text), opening.end() + LONGEST_ANSWER + 1)):
            character = text[position]
            if character in "{}" and text[position - 1] != "\\":
                level += 1 if character == "{" else -1
            if level == 0:
                boxes.append((opening.start(), text[opening.end() : position], position + 1))
                break
    return boxes


def _joined(between: str) -> bool:
    """Whether two boxes are one answer: only punctuation between them, or a few words that end in "and" or "or"."""
    if len(between) > 60 or "\n\n" in between.strip():
        return False
    words = _WORD.findall(re.sub(r"\\(?:text|mbox|mathrm)\b|\\[A-Za-z]+", " ", between))
    return not words or words[-1].lower() in ("and", "or", "maybe")


def _hashes(text: str) -> Found | None:
    lines = _HASHES.findall(text)
    return Found(strip_dollars(lines[-1]), "hashes") if lines else None


def _says(text: str, start: int = 0) -> Found | None:
    said = _last(_SAYS, text, start)
    if said is None:
        return None
    rest = text[said.end() : said.end() + LONGEST_ANSWER]
    maths = _MATHS.match(rest)
    end = _SENTENCE_END.search(rest, maths.end() if maths else 0)
    answer = (rest[: end.start()] if end else rest).replace('\\"', "").strip(' "“”')
    if not answer:
        return None
    bare = strip_dollars(answer)
    return Found(_only_number(answer) or bare if _is_prose(bare) else bare, "says", said.end())


def _said_after(text: str, box: Found) -> Found | None:
    """A "final answer is x" that comes after the last box and says something that can be one."""
    said = _last(_SAYS, text, box.end)
    if said is None or said.group(1) is None:
        return None
    found = _says(text, box.end)
    return found if found is not None and re.search(r"\d", found.text) and not _is_prose(found.text) else None


def _only_number(sentence: str) -> str | None:
    """The one number, or formula with a number, of a sentence that denies nothing."""
    if _NEGATION.search(sentence):
        return None
    formulas = [strip_dollars(m.group()) for m in _MATHS.finditer(sentence)]
    found = [f for f in formulas if re.search(r"\d", f)]
    found += [m.group() for m in _NUMBER.finditer(_MATHS.sub(" ", sentence))]
    return found[0] if len(found) == 1 else None


def _only_formula(text: str) -> Found | None:
    if len(text) > 400 or "\n\n" in text.strip() or _NEGATION.search(text):
        return None
    formulas = list(_MATHS.finditer(text))
    if len(formulas) != 1 or re.search(r"[\d$]", _MATHS.sub(" ", text)):
        return None
    inside = strip_dollars(formulas[0].group())
    return Found(inside, "whole") if len(inside) > 1 or inside.isdigit() else None


def _whole(text: str) -> Found | None:
    answer = text.strip()
    if not answer or len(answer) > 300:
        return None
    bare = strip_dollars(answer)
    if "\n" in bare or "\\boxed" in bare or _is_prose(bare) or (answer[0].isalpha() and _MATHS.search(answer)):
        return None
    return Found(bare, "whole")


def _last_unmarked(text: str, *, maths: bool, number: bool) -> Found | None:
    """The last maths or number of a text that marks no answer, whichever ends later."""
    formula = _last(_MATHS, text) if maths else None
    figure = _last_number(text) if number else None
    if formula and (figure is None or formula.end() > text.rfind(figure.text)):
        return Found(strip_dollars(formula.group()), "maths")
    return figure


def _last_number(text: str) -> Found | None:
    last = _last(_NUMBER, text)
    return Found(last.group(), "number") if last else None


def _last(pattern: re.Pattern[str], text: str, start: int = 0) -> re.Match[str] | None:
    """The last match of a pattern from `start` on."""
    matches = deque(pattern.finditer(text, start), maxlen=1)
    return matches[0] if matches else None


def _is_prose(text: str) -> bool:
    """Whether a text is a sentence about an answer and not one itself."""
    spoken = _COMMAND.sub(" ", text).strip()
    words = [w.lower() for w in _WORD.findall(spoken)]
    return len(words) > 3 or any(w in _PROSE for w in words) or _OPENING_WORD.match(spoken) is not None
