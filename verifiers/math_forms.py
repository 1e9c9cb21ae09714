"""Answers that are no algebra: words, choices, dates, times, ratios, residues, numbers in a stated base."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from flywheel.verifiers.math_exact import NoValue, read_number

_WORDS = re.compile(r"[A-Za-z][A-Za-z,.' -]*[A-Za-z.!]")
_CHOICE = re.compile(
    r"(?i:(?:option|choice|answer)\s+)?(?:\(([A-Ja-j])\)|\[([A-J])\]|([A-J]))[.:)]?(?:[\s:.)]+(.*))?", re.DOTALL
)
_LONE_CHOICE = re.compile(r"\(?([A-J])\)?[.:)]?|\(([a-j])\)")
_SAME_WORDS = [
    frozenset(("∅", "empty set", "the empty set", "no solution", "no solutions", "no real solution", "no real solutions",
               "no solution exists", "there is no solution", "there are no solutions")),
    frozenset(("dne", "does not exist", "the limit does not exist", "doesn't exist")),
    frozenset(("∞", "+∞", "infinity", "positive infinity")),
    frozenset(("-∞", "negative infinity", "minus infinity", "-infinity")),
    frozenset(("infinitely many", "infinitely many solutions", "infinite", "infinite solutions")),
    frozenset(("ℝ", "all real numbers", "all reals", "the set of all real numbers", "(-∞,∞)", "(-∞,+∞)", "real numbers")),
]  # fmt: skip
_SYNONYM = {word: number for number, group in enumerate(_SAME_WORDS) for word in group}

_MONTHS = "january february march april may june july august september october november december".split()  # noqa: SIM905
_MONTH = r"(" + "|".join(f"{m[:3]}(?:{m[3:]})?" if len(m) > 3 else m for m in _MONTHS) + r")\.?"
_DATES = [
    re.compile(
        rf"(?:\w+day,?\s+)?{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s*(?P<year>\d{{4}}))?", re.IGNORECASE
    ),
    re.compile(
        rf"(?:\w+day,?\s+)?(?:the\s+)?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}(?:,?\s*(?P<year>\d{{4}}))?",
        re.IGNORECASE,
    ),
]
_TIME = re.compile(r"(\d{1,2})(?::([0-5]\d))?(?::([0-5]\d))?\s*(?:([ap])\s*\.?\s*m\b\.?)?", re.IGNORECASE)
_RATIO = re.compile(r"\d[\d.]*(?:\s*:\s*\d[\d.]*)+")
_BASE = re.compile(
    r"([0-9A-Za-z.]+)_\{?\s*\(?(\d{1,2}|[a-z]+)\)?\s*\}?|([0-9A-Z.]+)\s*\(?\s*(?:in )?base[ -]*(\d{1,2}|[a-z]+)\)?"
)
_BASES = {
    w: i
    for i, w in enumerate(
        "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split(),
        2,  # noqa: SIM905
    )
}
_RESIDUE = re.compile(
    r"(?:[A-Za-z]\s*(?:≡|=)\s*)?(-?\d{1,60})\s*\(?\s*(?:\\pmod|\\bmod|\\mod|mod(?:ulo)?)\s*\{?\s*(\d{1,60})\s*\}?\s*\)?"
)


class Form(NamedTuple):
    """What an answer is, by its form: two answers of one kind are equal when their values are."""

    kind: str
    value: object


def by_words(gold: str, answer: str) -> bool | None:
    """Whether two tidied texts agree where the reference is a choice, words, a date or a time; None for other references."""
    choice = _LONE_CHOICE.fullmatch(gold)
    if choice:
        return _same_choice(choice, gold, answer)
    lettered = re.fullmatch(r"\(?([A-J])\)\s*(.+)|([A-J])[.:]\s+(.+)", gold)
    if lettered:
        letter, text = lettered.group(1) or lettered.group(3), lettered.group(2) or lettered.group(4)
        said = _CHOICE.fullmatch(answer)
        return (said is not None and _letter(said) == letter) or _plain(answer) == _plain(text)
    ours, theirs = _synonym(gold), _synonym(answer)
    if ours is not None and theirs is not None:
        return ours == theirs
    if (date := read_date(gold)) is not None:
        return read_date(answer) == date
    if len(gold) > 2 and _WORDS.fullmatch(gold) and not _formula(gold):
        if len(gold) < 5 and not _WORDS.fullmatch(answer):
            return None  # `xyz` may be a product
        return _plain(gold) == _plain(answer) or (
            _plain(gold) in _MAYBE and _plain(answer).startswith(_plain(gold) + ",")
        )
    return None


_MAYBE = ("yes", "no", "true", "false")


def _formula(text: str) -> bool:
    return (
        read_number(text) is not None
        or re.fullmatch(r"(?:[a-z]{1,2}|pi|sqrt|sin|cos|tan|log|ln)(?:\s.*)?", text) is not None
    )


def _plain(text: str) -> str:
    return re.sub(r"^(?:the|an?) ", "", " ".join(re.sub(r"[.!,'\"]", " ", text).casefold().split()))


def _synonym(text: str) -> int | None:
    return _SYNONYM.get(re.sub(r"\s*([,∞])\s*", r"\1", text.casefold()))


def _same_choice(choice: re.Match[str], gold: str, answer: str) -> bool | None:
    letter = (choice.group(1) or choice.group(2)).upper()
    said = _CHOICE.fullmatch(answer.upper() if len(answer) == 1 else answer)
    if said is None:
        return False if _LONE_CHOICE.fullmatch(answer) is None and choice.group(1) and len(answer) > 3 else None
    return _letter(said) == letter


def _letter(said: re.Match[str]) -> str:
    return str(said.group(1) or said.group(2) or said.group(3)).upper()


def read_date(text: str) -> tuple[int, int, int | None] | None:
    """(month, day, year) of a date with its month in letters, or None."""
    for pattern in _DATES:
        if found := pattern.fullmatch(text.strip()):
            month = next(g for g in found.groups() if g and g[0].isalpha())
            year = found.group("year")
            number = next(i for i, m in enumerate(_MONTHS, 1) if m.startswith(month.lower()[:3]))
            return number, int(found.group("day")), int(year) if year else None
    return None


def read_form(text: str) -> Form | None:
    """A time, ratio, residue or number in a base, else None. Raises NoValue for a ratio to zero alone."""
    if (":" in text or text[-1:] in "mM.") and (time := _time(text)) is not None:
        return time
    if ":" in text and (ratio := _RATIO.fullmatch(text)):
        return Form("ratio", _ratio(ratio.group()))
    if "mod" in text and (residue := _RESIDUE.fullmatch(text)):
        modulus = int(residue.group(2))
        if modulus == 0:
            raise NoValue("is taken modulo zero")
        return Form("residue", (int(residue.group(1)) % modulus, modulus))
    if ("_" in text or "base" in text) and (based := _BASE.fullmatch(text)):
        digits, base = based.group(1) or based.group(3), based.group(2) or based.group(4)
        number = int(base) if base.isdigit() else _BASES.get(base)
        if (
            number is not None
            and re.match(r"[0-9A-F]*\d[0-9A-F]*|[A-F]+$", digits.upper())
            and (digits[0].isdigit() or number > 10)
        ):
            return Form("base", (digits.upper().lstrip("0"), number))
    return None


def _time(text: str) -> Form | None:
    found = _TIME.fullmatch(text)
    if found is None or (found.group(2) is None and found.group(4) is None):
        return None
    hour, minute, second, half = int(found.group(1)), int(found.group(2) or 0), int(found.group(3) or 0), found.group(4)
    if hour > 24 or (half and not 1 <= hour <= 12):
        return None
    if half:
        hour = hour % 12 + (12 if half.lower() == "p" else 0)
    return Form("time", (hour * 3600 + minute * 60 + second, bool(half)))


def _ratio(text: str) -> tuple[Fraction, ...]:
    parts = [Fraction(p.strip().rstrip(".")) for p in text.split(":")]
    largest = max(parts)
    if largest == 0:
        raise NoValue("is a ratio of nothing")
    return tuple(p / largest for p in parts)


def same_form(gold: str, answer: str) -> bool | None:
    """Whether two texts are the same time, ratio, residue or number in a base; None where neither is one."""
    ours, theirs = read_form(gold), read_form(answer)
    if ours is None and theirs is None:
        return None
    if ours is not None and theirs is not None and {ours.kind, theirs.kind} == {"time", "ratio"}:
        ours, theirs = _as_ratio(gold) or ours, _as_ratio(answer) or theirs
    if ours is None or theirs is None:
        return _one_sided(gold, ours, answer, theirs)
    if ours.kind != theirs.kind:
        return False
    if ours.kind == "time":
        return _same_time(ours, theirs)
    return ours.value == theirs.value


def _as_ratio(text: str) -> Form | None:
    return Form("ratio", _ratio(text)) if _RATIO.fullmatch(text) else None


def _same_time(ours: Form, theirs: Form) -> bool:
    (gold, gold_half), (answer, answer_half) = ours.value, theirs.value  # type: ignore[misc]
    if gold == answer:
        return True
    # A reference without a.m. or p.m. leaves it to the reader of the question.
    return not gold_half and answer_half and gold % 43200 == answer % 43200 and gold < 13 * 3600


def _one_sided(gold: str, ours: Form | None, answer: str, theirs: Form | None) -> bool | None:
    """A ratio against a fraction; a residue may leave out its modulus where the reference has one."""
    for form, text, other in ((ours, gold, answer), (theirs, answer, gold)):
        if form is None:
            continue
        if form.kind in ("time", "ratio") and (ratio := _RATIO.fullmatch(text)) and text.count(":") == 1:
            number = read_number(other)
            parts = [Fraction(p) for p in ratio.group().replace(" ", "").split(":")]
            if number is None or number.unit or parts[1] == 0:
                return False
            literal = "".join(re.findall(r"\d+", other)) == "".join(re.findall(r"\d+", text))
            return number.value == parts[0] / parts[1] and (form.kind == "ratio" or literal)
        if form.kind == "residue" and form is ours:
            number = read_number(other)
            return number is not None and not number.unit and number.value == form.value[0]  # type: ignore[index]
    return False
