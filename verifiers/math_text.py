"""Mathematical text before it is mathematics: one spelling for what is written in many, and cutting at commas.

Works on LaTeX and plain text alike. Nothing here knows values; what is cut is only cut outside brackets.
"""

from __future__ import annotations

import re
from functools import lru_cache

_WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|textnormal|textrm|textsf|mbox|hbox|mathrm|mathbf|mathit|mathsf|boldsymbol|bm|operatorname"
    r"|emph|underline|vec|displaylimits)\s*\*?\s*\{([^{}]*)\}"
)
# A LaTeX or Unicode spelling, and the one that the rest of this package reads.
_PLAIN = (
    ("\u2212", "-"), ("\u2013", "-"), ("\uff0c", ","), ("\u00a0", " "), ("\u202f", " "), ("\u2009", " "),
    ("\\left", ""), ("\\right", ""), ("\\middle", ""), ("\\bigl", ""), ("\\bigr", ""), ("\\big", ""), ("\\Big", ""),
    ("\\Bigl", ""), ("\\Bigr", ""), ("\\displaystyle", ""), ("\\textstyle", ""), ("\\limits", ""),
    ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\cfrac", "\\frac"), ("\\dbinom", "\\binom"),
    ("\\tbinom", "\\binom"), ("\\!", ""), ("\\,", " "), ("\\;", " "), ("\\:", " "), ("\\>", " "), ("\\ ", " "),
    ("~", " "), ("\\hfill", " "), ("&=", "="), ("\\$", "$"), ("\\%", "%"), ("\\#", "#"), ("^{\\circ}", "°"),
    ("^\\circ", "°"), ("^{°}", "°"), ("^°", "°"), ("\\degree", "°"), ("\\lt", "<"), ("\\gt", ">"),
    ("\\leqslant", "≤"), ("\\geqslant", "≥"), ("\\leq", "≤"), ("\\geq", "≥"), ("\\le", "≤"), ("\\ge", "≥"),
    ("<=", "≤"), (">=", "≥"), ("=<", "≤"), ("\\neq", "≠"), ("\\ne", "≠"), ("!=", "≠"), ("\\not=", "≠"),
    ("\\approx", "≈"), ("\\simeq", "≈"), ("\\equiv", "≡"), ("\\in", "∈"), ("\\cup", "∪"), ("\\cap", "∩"),
    ("\\setminus", "∖"), ("\\backslash", "∖"), ("\\infty", "∞"), ("\\pm", "±"), ("\\mp", "∓"), ("+/-", "±"),
    ("\\emptyset", "∅"), ("\\varnothing", "∅"), ("\\lbrace", "\\{"), ("\\rbrace", "\\}"), ("\\lbrack", "["),
    ("\\rbrack", "]"), ("\\langle", "⟨"), ("\\rangle", "⟩"), ("\\lvert", "|"), ("\\rvert", "|"), ("\\vert", "|"),
    ("\\cdot", "·"), ("\\times", "×"), ("\\ast", "*"), ("\\div", "÷"), ("\\colon", ":"), ("\\ratio", ":"),
    ("\\mid", "|"), ("\\pi", "π"), ("**", "^"), ("²", "^2"), ("³", "^3"), ("½", " 1/2"), ("⅓", " 1/3"), ("⅔", " 2/3"),
    ("¼", " 1/4"), ("¾", " 3/4"), ("⅕", " 1/5"), ("⅛", " 1/8"), ("∗", "*"), ("⋅", "·"), ("•", "·"), ("∙", "·"),
    ("\\mathbb{R}", "ℝ"), ("\\mathbb R", "ℝ"), ("\\Bbb{R}", "ℝ"), ("\\R", "ℝ"), ("\\land", " and "),
    ("\\wedge", " and "), ("\\lor", " or "), ("\\vee", " or "), ("∧", " and "), ("∨", " or "), ("\\dots", "…"),
    ("\\ldots", "…"), ("\\cdots", "…"), ("...", "…"), ("\\operatorname", ""), ("⩽", "≤"), ("⩾", "≥"), ("\\quad", " "),
    ("\\qquad", " "),
)  # fmt: skip


def _spelling(old: str) -> str:
    """A spelling's pattern: a command's name ends where its letters end (`\\left` is not the beginning of `\\leftarrow`),
    and a row of a matrix ends in two backslashes (`\\\\ ` is no space)."""
    if old[0] != "\\":
        return re.escape(old)
    return re.escape(old) + r"(?![A-Za-z])" if old[-1].isalpha() else r"(?<!\\)" + re.escape(old)


_SPELLINGS = [(old, re.compile(_spelling(old)), new) for old, new in sorted(_PLAIN, key=lambda pair: -len(pair[0]))]
_GLUED = re.compile(r"\\q?quad(?=[A-Za-z])")
_SUPERSCRIPTS = re.compile(r"[⁻⁺]?[⁰¹⁴-⁹]+|⁻[²³¹]")
_SUPERSCRIPT_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUBSCRIPT_DIGITS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUBSCRIPTS = re.compile(r"[₀-₉]+")
_SUBSCRIPT = re.compile(r"_\{([^{}]+)\}")
_DIGIT_GROUPS = re.compile(r"(?<![\d.,])([1-9]\d{0,2})((?:(?:\{,\}|,\\!|,\\ )\s*\d{3})+)(?!\d)")
_DECIMAL_BRACES = re.compile(r"(?<=\d)\{[,.]\}(?=\d)")
_THIN_GROUPS = re.compile(r"(?<![\d.,])([1-9]\d{0,2})((?:\s*\\[,;: !]\s*\d{3})+)(?!\d)")
_SPACE_BEFORE_DIGITS = re.compile(r"\\[,;:!]\s*(?=\d)")
_ENDS = re.compile(r"(?:\s|\\\\|[.,;:](?!\d))+$")


@lru_cache(maxsize=8192)
def tidy(text: str) -> str:
    """An answer in one spelling: no delimiters, spacing commands, `\\left`, `\\text`, or final full stop."""
    if text.isalnum() and text.isascii():
        return text
    tidied = _GLUED.sub(" ", text)
    if "\\" in tidied or "{" in tidied:
        tidied = _DIGIT_GROUPS.sub(lambda m: m.group(1) + re.sub(r"\D", "", m.group(2)), tidied)
        tidied = _THIN_GROUPS.sub(lambda m: m.group(1) + re.sub(r"\D", "", m.group(2)), tidied)
        tidied = _DECIMAL_BRACES.sub(".", tidied)
    for old, pattern, new in _SPELLINGS:
        if old in tidied:
            tidied = pattern.sub(lambda _, new=new: new, tidied)  # type: ignore[misc]
    if not tidied.isascii():
        tidied = _SUPERSCRIPTS.sub(lambda m: "^{" + m.group().translate(_SUPERSCRIPT_DIGITS) + "}", tidied)
        tidied = _SUBSCRIPTS.sub(lambda m: "_{" + m.group().translate(_SUBSCRIPT_DIGITS) + "}", tidied)
    for _ in range(3):  # `\textbf{\text{x}}`
        if "\\" not in tidied:
            break
        tidied = _WRAPPED.sub(lambda m: f" {m.group(1).strip()} ", tidied)
    tidied = tidied.replace(" ^", "^")
    tidied = _SUBSCRIPT.sub(lambda m: f"_{m.group(1)}" if len(m.group(1)) < 2 else m.group(), tidied)
    return _ENDS.sub("", " ".join(tidied.split())).strip().lstrip(",;:").strip()


def compact(tidied: str) -> str:
    """A tidied answer without spaces and braces around single characters, for comparing texts."""
    return re.sub(r"\{(\w)\}", r"\1", tidied).replace(" ", "")


# -- cutting ----------------------------------------------------------------------------------------

_OPENING = frozenset("([{⟨")
_CLOSING = frozenset(")]}⟩")
_WORD_CUT = re.compile(r"\s*,?\s*(?:(?<![A-Za-z])(?:and|or)(?![a-z])|(?<=[\d)\]}])(?:and|or)(?=[A-Z\d(\\]))\s*")


def depths(text: str) -> list[int]:
    """How deep in brackets each character stands; a bracket itself counts as inside."""
    result = []
    level = 0
    for character in text:
        if character in _OPENING:
            level += 1
            result.append(level)
        elif character in _CLOSING:
            result.append(level)
            level -= 1
        else:
            result.append(level)
    return result


def cut(text: str, separators: str, *, words: bool = False) -> list[str]:
    """The parts of a text between single-character separators (and the words "and", "or") that stand in no bracket."""
    if not words and not any(s in text for s in separators):
        return [text]
    levels = depths(text)
    word_cuts = (
        {m.start(): m.end() for m in _WORD_CUT.finditer(text)} if words and ("or" in text or "and" in text) else {}
    )
    parts, start, position = [], 0, 0
    while position < len(text):
        if levels[position] == 0:
            end = word_cuts.get(position)
            if end is None and text[position] in separators and not text.startswith("\\", position - 1):
                end = position + 1
            if end is not None and end > position:
                parts.append(text[start:position])
                start = position = end
                continue
        position += 1
    parts.append(text[start:])
    return [p.strip() for p in parts]


def closing(text: str) -> int:
    """Where the bracket that a text begins with closes, or -1."""
    level = 0
    for position, character in enumerate(text):
        level += (character in _OPENING) - (character in _CLOSING)
        if level == 0:
            return position
    return -1


def bracketed(text: str) -> tuple[str, str, str] | None:
    """(opening, inside, closing) where one pair of brackets holds the whole text, else None. `\\{` is an opening."""
    opening = "\\{" if text.startswith("\\{") else text[:1]
    if opening[-1:] not in _OPENING or not opening:
        return None
    end = closing(text[len(opening) - 1 :])
    if end < 0 or end + len(opening) - 1 != len(text) - 1:
        return None
    last = text[-1]
    inside = text[len(opening) : -1]
    if last == "}" and inside.endswith("\\"):
        return opening, inside[:-1].strip(), "\\}"
    return opening, inside.strip(), last
