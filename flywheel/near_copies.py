"""Which texts are near-copies of one another: shared word n-grams, without those of a common template.

Found through an inverted index with a prefix filter (Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma, Srikant 2007),
which is exact: of two texts that share enough, the shorter one shares one of its rarest n-grams with the other.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

FEWEST_FOR_TEMPLATE = 4
"""An n-gram in so few texts is no template, however few texts there are."""

_TOKENS = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+|[-+*/=<>^%×÷]")


def words(text: str) -> list[str]:
    """A text's words in lower case; numbers and operators are words, other punctuation is nothing."""
    return _TOKENS.findall(text.casefold())


def near_copy_groups(texts: Sequence[str], *, share: float, n: int, template_share: float) -> list[list[int]]:
    """The texts' indices in groups: two texts stand in one group when a chain of near-copies joins them.

    Two texts are near-copies when at least `share` of the shorter one's n-grams (of `n` words; numbers and
    operators are words) are in the other. N-grams that more than `template_share` of all texts have are left
    out, and a text with no more than `n` words outside of them is compared whole. Groups are in the order
    of their first member. Time grows about linearly with the words, as long as most n-grams are rare.
    """
    spoken = [words(text) for text in texts]
    joined = _Joined(len(texts))
    first: dict[tuple[str, ...], int] = {}
    for index, own in enumerate(spoken):
        # Nothing but symbols: only the text itself can tell.
        joined.join(first.setdefault(tuple(own) or (texts[index],), index), index)
    if share < 1.0:
        _join_overlapping(_own_ngrams(spoken, n, template_share, spoken), share, joined)
    return joined.groups()


def near_copies_of(
    texts: Sequence[str],
    references: Sequence[str],
    *,
    share: float,
    n: int,
    template_share: float,
    known: Sequence[str] | None = None,
) -> list[bool]:
    """Which of `texts` are near-copies of one of `references`, by the rule of `near_copy_groups`, without its chains.

    The template is what more than `template_share` of the texts in `known` have in common: all texts and references,
    unless others are given. Where `texts` are not to be trusted, one that comes often enough would else be a template.
    """
    spoken = [words(text) for text in (*references, *texts)]
    forms = spoken if known is None else [words(text) for text in known]
    own = _own_ngrams(spoken, n, template_share, forms) if share < 1.0 else [frozenset[int]()] * len(spoken)
    count = len(references)
    equal = {tuple(s) or (text,) for s, text in zip(spoken[:count], references, strict=True)}
    holders: dict[int, list[int]] = defaultdict(list)
    for index, ngrams in enumerate(own[:count]):
        for ngram in ngrams:
            holders[ngram].append(index)

    def near(ngrams: frozenset[int]) -> bool:
        shared = Counter(index for ngram in ngrams for index in holders.get(ngram, ()))
        return any(times >= share * min(len(ngrams), len(own[index])) for index, times in shared.items())

    found = zip(texts, spoken[count:], own[count:], strict=True)
    return [(tuple(s) or (text,)) in equal or near(ngrams) for text, s, ngrams in found]


def _own_ngrams(words: list[list[str]], n: int, template_share: float, forms: list[list[str]]) -> list[frozenset[int]]:
    """Each text's n-grams outside the template, as hashes; none for a text that is compared whole. The template is what
    `forms` have in common."""
    hashed = [_hashed(spoken, n) for spoken in words]
    told = hashed if forms is words else [_hashed(spoken, n) for spoken in forms]
    spread = Counter(ngram for ngrams in told for ngram in set(ngrams))
    most = max(FEWEST_FOR_TEMPLATE, template_share * len(forms))
    own = []
    for spoken, ngrams in zip(words, hashed, strict=True):
        template = {i + j for i, ngram in enumerate(ngrams) if spread[ngram] > most for j in range(n)}
        whole = len(spoken) - len(template) <= n
        clear = (i for i in range(len(ngrams)) if not any(i + j in template for j in range(n))) if template else None
        kept = ngrams if clear is None else [ngrams[i] for i in clear]
        own.append(frozenset() if whole else frozenset(kept))
    return own


def _hashed(spoken: list[str], n: int) -> list[int]:
    return [hash(tuple(spoken[i : i + n])) for i in range(len(spoken) - n + 1)]


def _join_overlapping(own: list[frozenset[int]], share: float, joined: _Joined) -> None:
    holders: dict[int, list[int]] = defaultdict(list)
    for index, ngrams in enumerate(own):
        for ngram in ngrams:
            holders[ngram].append(index)
    for index, ngrams in enumerate(own):
        rarest = sorted(ngrams, key=lambda ngram: len(holders[ngram]))
        tried = {index}
        for ngram in rarest[: len(ngrams) - math.ceil(share * len(ngrams)) + 1]:
            for other in holders[ngram]:
                if other in tried or len(own[other]) < len(ngrams):
                    continue
                tried.add(other)
                if joined.root(other) != joined.root(index) and len(ngrams & own[other]) >= share * len(ngrams):
                    joined.join(other, index)


class _Joined:
    """Union-find over indices."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def join(self, a: int, b: int) -> None:
        low, high = sorted((self.root(a), self.root(b)))
        self._parent[high] = low

    def groups(self) -> list[list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for index in range(len(self._parent)):
            found[self.root(index)].append(index)
        return list(found.values())
