"""Reasoning paths: when two right answers say the same thing, and how far apart two others are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from flywheel.types import Outcome, Sample, Verdict

_WORDS = r"(?:[^\s\d.+*/^()=%-]|\.(?!\d))"
_TOKEN = re.compile(
    r"(?P<number>\d[\d,]*(?:\.\d+)?|\.\d+)|(?P<sign>[-+*/^()=%])|(?P<space>[^\S\n]+)"
    # Whatever stands between two arithmetic runs is one token: a long text has few of those.
    rf"|(?P<other>{_WORDS}(?:{_WORDS}|\s)*+|.|\n)",
    re.DOTALL,
)
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "$": " "})
_WORDED = (
    (re.compile(r"\\(?:times|cdot)\b"), "*"),
    (re.compile(r"\\div\b"), "/"),
    (re.compile(r"(?<=\d) ?x ?(?=\d)"), "*"),
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
    for pattern, sign in _WORDED:
        text = pattern.sub(sign, text)
    found: list[str] = []
    for run in _arithmetic_runs(text):
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


def reasoning_path(text: str) -> str:
    """What two completions share when they reason alike: their equations, else their normalised text."""
    found = equations(text)
    return " ; ".join(found) if found else normalised_text(text)


def distinct_paths(samples: Iterable[Sample], verdicts: Mapping[str, Verdict]) -> int:
    """How many different reasoning paths the right answers took, summed over problems."""
    return len(
        {(s.problem_id, reasoning_path(s.completion)) for s in samples if verdicts[s.id].outcome == Outcome.CORRECT}
    )
