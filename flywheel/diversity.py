"""Reasoning paths: when two right answers say the same thing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from flywheel.programs import normal_form
from flywheel.types import Outcome, PathKind, Sample, Verdict

_TOKEN = re.compile(
    r"(?P<number>\d[\d,]*(?:\.\d+)?|\.\d+)|(?P<sign>[-+*/^()=%])|(?P<space>[^\S\n]+)|(?P<other>.|\n)", re.DOTALL
)
_STRETCH = re.compile(r"[-+*/^()=%\d.,]+(?:[^\S\n]+[-+*/^()=%\d.,]+)*")
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "$": " "})
_WORDED = (
    ("\\", re.compile(r"\\(?:times|cdot)\b"), "*"),
    ("\\", re.compile(r"\\div\b"), "/"),
    ("x", re.compile(r"(?<=\d) ?x ?(?=\d)"), "*"),
)


def equations(text: str) -> tuple[str, ...]:
    """The arithmetic equations of a text in order, without spaces: `("12+5=17", "17-3=14")`.

    The reasoning path of rejection-sampling fine-tuning (Yuan et al. 2023, arXiv:2308.01825, section 3.3).
    `×`, `\\times`, `x` between digits and typographic minus signs count as the plain operators, and
    thousands separators are left out. Time is linear in the text's length.
    """
    if "=" not in text:
        return ()
    text = text.translate(_SIGNS)
    for hint, pattern, sign in _WORDED:
        if hint in text:
            text = pattern.sub(sign, text)
    found: list[str] = []
    # An equation never leaves a stretch of numbers and signs, and few stretches have an equals sign to look at.
    for stretch in _STRETCH.findall(text):
        if "=" in stretch:
            for run in _arithmetic_runs(stretch):
                found += _chains(run)
    return tuple(found)


def _arithmetic_runs(text: str) -> Iterator[list[str]]:
    """Stretches of numbers and signs; a new one begins at any other character and between two operands."""
    run: list[str] = []
    for match in _TOKEN.finditer(text):
        token, kind = match.group(), match.lastgroup
        if kind == "space":
            if run == ["-"]:  # the dash of a list, not of a number
                run = []
            continue
        after_operand = bool(run) and (run[-1][-1].isdigit() or run[-1] in ")%")
        if kind == "other" or (after_operand and (kind == "number" or token == "(")):
            yield run
            run = []
        if kind == "number":
            run.append(token.replace(",", ""))
        elif kind == "sign":
            run.append(token)
    yield run


def _chains(run: list[str]) -> list[str]:
    """`a=b=c` chains of at least two sides that each hold a number."""
    sides: list[list[str]] = [[]]
    for token in run:
        if token == "=":
            sides.append([])
        else:
            sides[-1].append(token)
    chains, chain = [], []
    for side in [*("".join(_trimmed(s)) for s in sides), ""]:
        if side:
            chain.append(side)
            continue
        if len(chain) > 1:
            chains.append("=".join(chain))
        chain = []
    return chains


def _trimmed(side: list[str]) -> list[str]:
    """A side without operators that lead nowhere; empty where it has no number."""
    start, end = 0, len(side)
    while start < end and side[start] in "+*/^)%=":
        start += 1
    while end > start and side[end - 1] in "-+*/^(":
        end -= 1
    return side[start:end] if any(t[-1].isdigit() for t in side[start:end]) else []


def normalised_text(text: str) -> str:
    """Lower case, one space between words, no punctuation at the ends of words."""
    words = (word.strip(".,;:!?*_`\"'") for word in text.lower().split())
    return " ".join(word for word in words if word)


def reasoning_path(text: str, kind: PathKind = PathKind.EQUATIONS) -> str:
    """What two completions share when they reason alike: their equations or their program, else their words.

    `kind` is what the problem's verifier reads (`path_kind` of `flywheel.protocols.Verifier`). A completion without an
    equation, or without a program that parses, is its normalised text.
    """
    if kind == PathKind.EQUATIONS and (found := equations(text)):
        return " ; ".join(found)
    if kind == PathKind.CODE and (program := normal_form(text)):
        return program
    return normalised_text(text)


def distinct_paths(
    samples: Iterable[Sample], verdicts: Mapping[str, Verdict], kinds: Mapping[str, PathKind] | None = None
) -> int:
    """How many different reasoning paths the right answers took, summed over problems.

    `verdicts` is keyed by sample id, `kinds` by problem id; a problem that is not in it has equations.
    """
    kinds = kinds or {}
    right = (s for s in samples if verdicts[s.id].outcome == Outcome.CORRECT)
    return len(
        {(s.problem_id, reasoning_path(s.completion, kinds.get(s.problem_id, PathKind.EQUATIONS))) for s in right}
    )
