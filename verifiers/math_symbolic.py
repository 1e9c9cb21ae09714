"""Answers that need algebra: math-verify on sympy decides, and vetoes stand behind its "equal".

math-verify's own time limits are off (they are signals, which fail in threads and cannot stop C code): the
worker that this runs in is killed from outside. The text is read by the LaTeX grammar only; sympy's
`parse_expr` and `sympify`, which execute what they read, are never given any.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from flywheel.verifiers.math_text import tidy

CLOSE = 1e-30
"""Two values count as equal when they differ by less than this share of the reference, worked out to 40 digits."""

# What sympy would spend minutes and gigabytes on: long exponents, towers of powers, factorials of long numbers.
_TOO_LARGE = re.compile(
    r"\^\s*\{?\s*[-+]?\d{5,}|\*\*\s*\d{5,}|\^\s*\{[^{}]*\^\s*\{[^{}]*\^|\d{5,}\s*!|!\s*!|\)\s*!|\}\s*!"
    r"|[)}\]]\s*\^\s*\{?\s*\d{3,}|\d{1001,}"
)
_LONGEST = 400
_DEEPEST = 20
_BASE = re.compile(r"^[0-9A-Za-z]+_\{?\d+\}?$")
_RATIO = re.compile(r"\d\s*:\s*\d")
_TEXT = re.compile(r"\\(?:text|mbox|mathrm|textbf|textnormal)\s*\{\s*([^{}]*?)\s*\}")
_RELATIONS = re.compile(
    r"(<=|>=|!=|<|>|=|\\le(?:q|qslant)?(?![a-z])|\\ge(?:q|qslant)?(?![a-z])|\\[lg]t\b|\\neq?\b|\\in\b|\\approx|≤|≥|≠|∈)"
)
# What people write without LaTeX, and one spelling that the LaTeX grammar does not know.
_AS_LATEX = (
    (re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])|π"), r"\\pi "),
    (re.compile(r"(?<![A-Za-z\\])sqrt\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"(?<![A-Za-z\\])sqrt\s*(\d+)|√\s*(\d+)"), r"\\sqrt{\1\2}"),
    (re.compile(r"(?<![A-Za-z\\])(?:infinity|oo)(?![A-Za-z])|∞"), r"\\infty "),
    (re.compile(r"!=|≠"), r"\\neq "),
    (re.compile(r"<=|≤"), r"\\leq "),
    (re.compile(r">=|≥"), r"\\geq "),
    (re.compile(r"\{\s*\\mathrm\s*\{\s*([A-Za-z])\s*\}\s*\}"), r"{\1}"),
    (re.compile(r"\\mathrm\s*\{\s*([A-Za-z])\s*\}"), r" \1 "),
)
_LIST_WORD = re.compile(r"\b(?:and|or)\b|\\text\s*\{\s*(?:and|or)\s*\}|;")


@lru_cache(maxsize=1)
def load() -> SimpleNamespace:
    """Import math-verify and sympy (about a second), once."""
    import math_verify
    import sympy

    for name in ("math_verify", "math_verify.grader", "math_verify.parser"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # it warns of the time limits that are off on purpose
    reader = math_verify.LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)
    return SimpleNamespace(sympy=sympy, verify=math_verify.verify, parse=math_verify.parse, readers=[reader])


@dataclass(frozen=True, slots=True)
class Ruling:
    """`equal` is None where the reference itself cannot be read."""

    equal: bool | None
    why: str = ""


def rule(gold: str, answer: str, *, tolerance: float = 0.0) -> Ruling:
    """Whether an answer equals the reference, both as LaTeX or plain text without delimiters."""
    gold, answer = _bare(gold), _bare(answer)
    if (reason := too_large(gold)) is not None:
        return Ruling(None, f"the reference has {reason}")
    if (reason := too_large(answer)) is not None:
        return Ruling(False, f"the answer has {reason}")
    if (reason := _veto_by_text(gold, answer)) is not None:
        return Ruling(False, reason)
    wanted, found = _read(gold), _read(answer)
    if wanted is None:
        return Ruling(None, f"the reference {gold!r} cannot be read as maths")
    if found is None:
        return Ruling(False, "the answer cannot be read as maths")
    tools = load()
    if tolerance and _is_number(wanted) and _is_number(found):
        return Ruling(not _far(wanted, found, tolerance))
    options = {"float_rounding": 12, "allow_set_relation_comp": True, "timeout_seconds": None}
    if not tools.verify([wanted], [found], **options):
        return Ruling(False)
    reason = _veto(gold, answer, wanted, found, tolerance)
    return Ruling(reason is None, reason or "")


def _bare(text: str) -> str:
    """A text without the full stop after it and the "approximately" before it."""
    return re.sub(r"^(?:\\approx(?![a-z])|\\sim(?![a-z])|[≈~=])", "", text.strip()).strip().rstrip(".,;:").strip()


def too_large(text: str) -> str | None:
    """Why a text is not given to sympy, or None."""
    if len(text) > _LONGEST:
        return f"{len(text)} characters (at most {_LONGEST} are read as maths)"
    level = deepest = 0
    for character in text:
        level += (character in "{([") - (character in "})]")
        deepest = max(deepest, level)
    if deepest > _DEEPEST:
        return f"{deepest} levels of brackets (at most {_DEEPEST})"
    return "a power or factorial too large to work out" if _TOO_LARGE.search(text) else None


@lru_cache(maxsize=4096)
def _read(text: str) -> Any:
    """A text as a sympy object, or None. An object that prints as nothing but text counts as unread."""
    tools = load()
    for pattern, latex in _AS_LATEX:
        text = pattern.sub(latex, text)
    boxed = "\\boxed{" + text + "}"
    read = tools.parse(boxed, extraction_config=tools.readers, fallback_mode="no_fallback", parsing_timeout=None)
    found = next((item for item in read if not isinstance(item, str)), None)
    if found is None:
        return None
    unbounded = (tools.sympy.nan, tools.sympy.zoo)
    return None if any(found.has(value) for value in unbounded) else found


# -- vetoes -----------------------------------------------------------------------------------------


def _veto_by_text(gold: str, answer: str) -> str | None:
    ours, theirs = tidy(gold).replace(" ", ""), tidy(answer).replace(" ", "")
    if _BASE.match(ours.replace("{", "").replace("}", "")) or _BASE.match(theirs.replace("{", "").replace("}", "")):
        return "numbers in a stated base are equal only digit by digit"
    if _RATIO.search(ours) or _RATIO.search(theirs):
        return (
            None if ours.rpartition("=")[2] == theirs.rpartition("=")[2] else "ratios and times are compared as written"
        )
    if "%" in theirs and "%" not in ours:
        return "the answer is in percent and the reference is not"
    return _container_veto(ours, theirs)


def _container_veto(ours: str, theirs: str) -> str | None:
    """A tuple is no set and no list; an interval may be written as a relation; a list may be a set."""
    kinds = _container(ours), _container(theirs)
    if kinds[0] == kinds[1] or "relation" in kinds:
        return None
    if set(kinds) <= {"bare", "braces"}:
        return None
    return f"the reference is {kinds[0]}, the answer {kinds[1]}"


def _container(text: str) -> str:
    value = text.rpartition("=")[2] if re.fullmatch(r"[^=<>]*=[^=<>]*", text) else text
    if _RELATIONS.search(value):
        return "relation"
    pairs = {"(": ")", "[": "]", "\\{": "\\}", "{": "}"}
    opening = next((o for o in ("\\{", "(", "[", "{") if value.startswith(o)), None)
    if opening is None or ("," not in value and ";" not in value):
        return "bare"
    closes = _closing(value, len(opening))
    if closes != len(value) - 1:
        return "bare"  # `(1,2),(3,4)` is a list, `(1,2)\\cup(3,4)` a union
    if value[0] in "([":
        return "parentheses " + value[0] + value[-1]
    return "braces" if value.endswith(pairs[opening]) else "bare"


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens before `start` closes, or -1."""
    level = 1
    for position in range(start, len(text)):
        level += (text[position] in "{([") - (text[position] in "})]")
        if level == 0:
            return position
    return -1


def _veto(gold: str, answer: str, wanted: Any, found: Any, tolerance: float) -> str | None:
    return (
        _equation_veto(wanted, found)
        or _chain_veto(answer)
        or _count_veto(wanted, found)
        or _value_veto(_value(wanted), _value(found), tolerance)
        or _unit_veto(gold, answer)
    )


def _chain_veto(answer: str) -> str | None:
    """`41 = 42` is no answer, whatever it is compared with."""
    sides = re.split(r"(?<![<>!:\\])=", answer)
    if len(sides) < 2 or "," in answer or _LIST_WORD.search(answer):
        return None
    values = [v for v in (_read(s.strip()) for s in sides if s.strip()) if _is_number(v)]
    if any(_far(values[0], v, 0.0) for v in values[1:]):
        return "the answer says that unequal values are equal"
    return None


def _equation_veto(wanted: Any, found: Any) -> str | None:
    sympy = load().sympy
    if not (isinstance(wanted, sympy.Eq) and isinstance(found, sympy.Eq)):
        return None
    ours, theirs = wanted.lhs - wanted.rhs, found.lhs - found.rhs
    if wanted.lhs.is_Symbol and not found.lhs.is_Symbol and not wanted.rhs.free_symbols:
        return None  # an assignment: its value was compared
    try:
        ratio = sympy.simplify(ours / theirs)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if ratio.is_number and ratio.is_finite and not ratio.is_zero:
        return None
    return "the equations are not multiples of one another"


def _count_veto(wanted: Any, found: Any) -> str | None:
    sympy = load().sympy
    collections = (sympy.FiniteSet, sympy.Tuple)
    ours, theirs = isinstance(wanted, collections), isinstance(found, collections)
    if ours and theirs and len(wanted.args) != len(found.args):
        return f"the reference has {len(wanted.args)} elements, the answer {len(found.args)}"
    if ours != theirs and (_is_number(wanted) or _is_number(found)):
        return "one is a single value, the other a collection"
    return None


def _value(read: Any) -> Any:
    """The value of an assignment, else the object itself."""
    sympy = load().sympy
    return read.rhs if isinstance(read, sympy.Eq) and read.lhs.is_Symbol else read


def _value_veto(wanted: Any, found: Any, tolerance: float) -> str | None:
    if _is_number(wanted) and _is_number(found):
        return "the values differ" if _far(wanted, found, tolerance) else None
    children = getattr(wanted, "args", ()), getattr(found, "args", ())
    if type(wanted).__name__ in ("Tuple", "Interval", "ImmutableDenseMatrix", "MutableDenseMatrix"):
        for ours, theirs in zip(*children, strict=False):
            if _is_number(ours) and _is_number(theirs) and _far(ours, theirs, tolerance):
                return "the values differ"
    return None


def _is_number(read: Any) -> bool:
    sympy = load().sympy
    return isinstance(read, sympy.Expr) and bool(read.is_number)


def _far(wanted: Any, found: Any, tolerance: float) -> bool:
    """Whether two numbers differ, relative to the reference: 1/2004! and 1/2006! do, and so do pi and any decimal."""
    sympy = load().sympy
    try:
        ours, theirs = (sympy.N(_without_floats(value), 40) for value in (wanted, found))
        share = abs(ours - theirs) / abs(ours) if ours != 0 else abs(theirs)
        return bool(share > max(tolerance, CLOSE))
    except (TypeError, ValueError, ArithmeticError):
        return False  # not comparable as numbers (infinities): the algebra's word stands


def _without_floats(value: Any) -> Any:
    """A number with its decimals as the exact fractions they were written as."""
    sympy = load().sympy
    return value.xreplace({decimal: sympy.Rational(str(decimal)) for decimal in value.atoms(sympy.Float)})


def _unit_veto(gold: str, answer: str) -> str | None:
    ours, theirs = _unit_words(gold), _unit_words(answer)
    return (
        f"the reference is in {' '.join(ours)}, the answer in {' '.join(theirs)}"
        if ours and theirs and ours != theirs
        else None
    )


def _unit_words(text: str) -> list[str]:
    words = [w.lower() for w in _TEXT.findall(text)]
    return [w.rstrip("s") for w in words if w and w not in ("and", "or", "if", "e")]
