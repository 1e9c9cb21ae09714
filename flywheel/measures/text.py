"""How much texts repeat themselves and one another: distinct-n, self-BLEU, repeated 4-grams, layouts.

All of it is by problem, then averaged over problems: what one prompt gets is the variety that a round can use, and a
mean over problems stays what it is when there are more of them.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

ORDERS = (1, 2, 3, 4)
"""The lengths of n-grams, in words."""

SMOOTHING = 0.1
"""What stands for no match at all in BLEU's precisions (Chen and Cherry 2014, smoothing 1)."""

_WORDS = re.compile(r"\w+|[^\w\s]")
_NUMBERED = re.compile(r"(?:\d+|[a-z])[.)]\s", re.IGNORECASE)
_MARKED_ANSWER = (
    ("boxed", re.compile(r"\\boxed\b")),
    ("hashes", re.compile(r"^#### ", re.MULTILINE)),
    ("tag", re.compile(r"</?answer>")),
    ("said", re.compile(r"\banswer is\b|\banswer:", re.IGNORECASE)),
)

Words = Sequence[str]
Grams = tuple[Counter[tuple[str, ...]], ...]


def words(text: str) -> list[str]:
    """A text's words, each other visible character a word of its own."""
    return _WORDS.findall(text)


def ngrams(tokens: Words) -> Grams:
    """How often each n-gram occurs, for every order of `ORDERS`."""
    return tuple(Counter(zip(*(tokens[i:] for i in range(n)), strict=False)) for n in ORDERS)


def distinct_n(texts: Sequence[Grams]) -> dict[str, float | None]:
    """Distinct n-grams over all n-grams of some texts, by order as text; None where there are none (Li et al. 2016,
    arXiv:1510.03055, section 5.2). 1 means that no n-gram comes twice, in one text or in two."""
    found: dict[str, float | None] = {}
    for place, n in enumerate(ORDERS):
        total = sum(sum(grams[place].values()) for grams in texts)
        found[str(n)] = len(set().union(*(grams[place] for grams in texts))) / total if total else None
    return found


def repetition(grams: Grams) -> float | None:
    """The share of a text's 4-grams that were there before: 0 for none, near 1 for a loop; None under four words
    (seq-rep-4 of Welleck et al. 2020, arXiv:1908.04319, section 6)."""
    total = sum(grams[-1].values())
    return 1.0 - len(grams[-1]) / total if total else None


def self_bleu(texts: Sequence[Grams]) -> float | None:
    """The mean BLEU-4 of each text against all others, in [0, 1]; 1 means that they are alike; None for fewer than two.

    Zhu et al. 2018 (arXiv:1802.01886, section 3), with nltk's smoothing method 1. Exact, in time linear in the
    n-grams: a count is clipped at the largest one among the *other* texts, which the two largest of all tell.
    """
    if len(texts) < 2:
        return None
    lengths = sorted(sum(grams[0].values()) for grams in texts)
    highest = [_two_highest([grams[place] for grams in texts]) for place in range(len(ORDERS))]
    return sum(_bleu(index, grams, highest, lengths) for index, grams in enumerate(texts)) / len(texts)


def _two_highest(counters: Sequence[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """Of each n-gram: its largest count, in which text that is, and the largest count elsewhere."""
    highest: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for index, counter in enumerate(counters):
        for gram, times in counter.items():
            first, where, second = highest.get(gram, (0, -1, 0))
            if times > first:
                highest[gram] = (times, index, first)
            elif times > second:
                highest[gram] = (first, where, times)
    return highest


def _bleu(
    index: int, grams: Grams, highest: list[dict[tuple[str, ...], tuple[int, int, int]]], lengths: list[int]
) -> float:
    length = sum(grams[0].values())
    logs = 0.0
    for counter, most in zip(grams, highest, strict=True):
        matches = 0
        for gram, times in counter.items():
            first, where, second = most[gram]
            matches += min(times, second if where == index else first)
        if matches == 0 and counter is grams[0]:
            return 0.0  # not one word in common
        logs += math.log((matches or SMOOTHING) / max(1, sum(counter.values()))) / len(ORDERS)
    closest = _closest_other(lengths, length)
    penalty = 1.0 if length > closest else math.exp(1.0 - closest / length)
    return penalty * math.exp(logs)


def _closest_other(lengths: list[int], own: int) -> int:
    """The length nearest to `own` among sorted lengths, one `own` left out; the shorter one of two."""
    place = bisect_left(lengths, own)
    around = [lengths[i] for i in (place - 1, place + 1) if 0 <= i < len(lengths)]
    return min(around, key=lambda length: (abs(length - own), length))


def layout(text: str) -> str:
    """The shape of a text: what kinds of lines follow one another, and how the answer is marked.

    `prose > list > prose, boxed`: runs of lines of a kind count once, so length and wording do not matter.
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
        elif not bare:
            continue
        else:
            kind = _line_kind(bare)
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
    if "=" in bare and sum(c.isalpha() for c in bare) <= len(bare) // 4:
        return "equation"
    return "prose"


def text_measures(by_problem: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """`distinct_n`, `self_bleu`, `repetition`, `formats` and `format_share` of the completions of each problem."""
    distinct: dict[str, list[float]] = defaultdict(list)
    bleu: list[float] = []
    repeated: list[float] = []
    layouts: Counter[str] = Counter()
    for problem in sorted(by_problem):
        texts = [ngrams(words(text)) for text in by_problem[problem]]
        for n, value in distinct_n(texts).items():
            if value is not None:
                distinct[n].append(value)
        if (value := self_bleu(texts)) is not None:
            bleu.append(value)
        repeated += [value for grams in texts if (value := repetition(grams)) is not None]
        layouts.update(map(layout, by_problem[problem]))
    return {
        "distinct_n": {str(n): _mean(distinct[str(n)]) for n in ORDERS},
        "self_bleu": _mean(bleu),
        "repetition": _mean(repeated),
        "formats": len(layouts) or None,
        "format_share": max(layouts.values()) / layouts.total() if layouts else None,
    }


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
