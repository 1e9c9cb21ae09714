"""The layout of a text: what kinds of lines follow one another, and how the answer is marked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_NUMBERED = re.compile(r"(?:\d+|[a-z])[.)]\s", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")
_MARKED_ANSWER = (
    ("boxed", re.compile(r"\\boxed\b")),
    ("hashes", re.compile(r"^#### ", re.MULTILINE)),
    ("tag", re.compile(r"</?answer>")),
    ("said", re.compile(r"\banswer is\b|\banswer:", re.IGNORECASE)),
)


def layout(text: str) -> str:
    """The shape of a text: `heading > list > prose, boxed`.

    Runs of lines of a kind count once and blank lines not at all, so that length and wording do not matter.
    """
    kinds: list[str] = []
    in_code = False
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith(("```", "~~~")):
            in_code = not in_code
            kind = "code"
        elif in_code:
            kind = "code"
        elif bare:
            kind = _line_kind(bare)
        else:
            continue
        if not kinds or kinds[-1] != kind:
            kinds.append(kind)
    marked = [name for name, pattern in _MARKED_ANSWER if pattern.search(text)]
    return ", ".join([" > ".join(kinds) or "empty", *marked])


def _line_kind(bare: str) -> str:
    if bare.startswith("#"):
        return "heading"
    if bare.startswith("|"):
        return "table"
    if bare.startswith(("- ", "* ", "+ ", "• ")) or _NUMBERED.match(bare):
        return "list"
    if bare.startswith(("$$", "\\[", "\\begin")):
        return "display"
    if "=" in bare and len(_LETTER.findall(bare)) <= len(bare) // 4:
        return "equation"
    return "prose"


def layout_measures(texts: Iterable[str]) -> dict[str, float | int | None]:
    """`formats`, the number of distinct layouts, and `format_share`, the share of the commonest; None without texts."""
    seen = Counter(map(layout, texts))
    return {
        "formats": len(seen) or None,
        "format_share": max(seen.values()) / seen.total() if seen else None,
    }
