"""ROUGE-L: how much of two texts' words stands in both in the same order; and an index that finds what is too alike."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

from flywheel.near_copies import FEWEST_FOR_TEMPLATE

COMMON_SHARE = 0.5
"""A word that more than this share of all compared texts has belongs to the form of the task."""
_WORD = re.compile(r"\w+")


def spoken(text: str) -> list[str]:
    """A text's words and numbers in lower case, as ROUGE counts them: without operators and other punctuation."""
    return _WORD.findall(text.casefold())


def common_length(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """The length of the longest common subsequence.

    Bit-parallel: one addition of whole numbers for each item of `other` (Hyyrö 2004, "Bit-parallel LCS-length
    computation revisited").
    """
    places: dict[Hashable, int] = defaultdict(int)
    for place, item in enumerate(one):
        places[item] |= 1 << place
    everywhere = (1 << len(one)) - 1
    row = everywhere
    for item in other:
        matched = row & places.get(item, 0)
        row = ((row + matched) | (row - matched)) & everywhere
    return len(one) - row.bit_count()


def rouge_l(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """The F-measure of ROUGE-L (Lin 2004), precision and recall weighing the same; 0 where either is empty."""
    return 2 * common_length(one, other) / (len(one) + len(other)) if one and other else 0.0


class Alike:
    """Finds, among the texts added so far, one whose ROUGE-L with a new text is above `share`.

    New instructions above .7 are refused by Self-Instruct (Wang et al. 2022, arXiv:2212.10560, section 2.2). What
    differs: words that more than half of `texts` have (all that will be compared) are left out, or two sums in one form
    of words would always be too alike; where no other words are left, the whole text is compared. The texts that share
    enough words come from an inverted index, so the time does not grow with the square of what has nothing in common.
    """

    def __init__(self, texts: Sequence[str], *, share: float) -> None:
        self._share = share
        counts = Counter(word for text in texts for word in set(spoken(text)))
        least = max(FEWEST_FOR_TEMPLATE, COMMON_SHARE * len(texts))
        self._form = {word for word, times in counts.items() if times > least}
        self._texts: list[list[str]] = []
        self._holders: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def add(self, text: str) -> None:
        """Compare later texts with this one as well."""
        own = self._own(text)
        for word, times in Counter(own).items():
            self._holders[word].append((len(self._texts), times))
        self._texts.append(own)

    def has_one_like(self, text: str) -> bool:
        """Whether a text that was added is too alike."""
        own = self._own(text)
        shared: Counter[int] = Counter()
        for word, times in Counter(own).items():
            for index, theirs in self._holders.get(word, ()):
                shared[index] += min(times, theirs)
        return any(
            2 * most > self._share * (len(own) + len(self._texts[index]))
            and rouge_l(own, self._texts[index]) > self._share
            for index, most in shared.items()
        )

    def _own(self, text: str) -> list[str]:
        words = spoken(text)
        return [word for word in words if word not in self._form] or words
