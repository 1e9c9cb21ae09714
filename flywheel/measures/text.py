"""How much texts repeat themselves and one another: distinct-n, self-BLEU, repeated 4-grams.

All of it is by problem, then averaged over problems: what one prompt gets is the variety that a round can use, and a
mean over problems stays what it is when there are more of them. Everything runs on arrays of n-grams, in time that
grows with the words alone (n log n for the sorting).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

ORDERS = (1, 2, 3, 4)
"""The lengths of n-grams, in words."""

SMOOTHING = 0.1
"""What stands for no match at all in BLEU's precisions (Chen and Cherry 2014, smoothing 1)."""

_WORD = r"\w+|[^\w\s]"
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Corpus:
    """Texts as arrays: `codes` has a 64-bit code of each word, `text` the index of the text that it stands in, in
    order; `group` has the number of each text's problem. Equal words have equal codes."""

    codes: np.ndarray
    text: np.ndarray
    group: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Words of each text."""
        return np.bincount(self.text, minlength=len(self.group))


@dataclass(frozen=True)
class Grams:
    """The n-grams of one length: `times` says how often `gram` occurs in `text`; sorted by gram, and by text in it.

    Grams are numbered apart for each problem: the same words under two problems are two grams.
    """

    text: np.ndarray
    gram: np.ndarray
    times: np.ndarray


def split_words(texts: pl.Series) -> pl.Series:
    """The words of each text as lists; each visible character that is no part of a word is one of its own."""
    return texts.str.extract_all(_WORD)


def corpus(words: pl.Series, problems: pl.Series) -> Corpus:
    """Texts, given as lists of words, with the problem that each answers."""
    lengths = words.list.len().to_numpy()
    codes = words.filter(words.list.len() > 0).explode().hash().to_numpy()
    group = problems.rank("dense").to_numpy().astype(np.int64) - 1 if len(problems) else np.zeros(0, np.int64)
    return Corpus(codes, np.repeat(np.arange(len(lengths)), lengths), group)


def ngrams(texts: Corpus, n: int) -> Grams:
    """All n-grams of a corpus."""
    places = len(texts.codes) - n + 1
    if places <= 0:
        empty = np.zeros(0, np.int64)
        return Grams(empty, empty, empty)
    inside = texts.text[:places] == texts.text[n - 1 :]
    # A polynomial of the words' codes, modulo 2**64: of a million n-grams, two collide with probability under 1e-7.
    keys = texts.group[texts.text[:places]].astype(np.uint64)
    for i in range(n):
        keys = keys * _MULTIPLIER + texts.codes[i : i + places]
    _, gram = np.unique(keys[inside], return_inverse=True)
    pairs, times = np.unique(gram * len(texts.group) + texts.text[:places][inside], return_counts=True)
    return Grams(pairs % len(texts.group), pairs // len(texts.group), times)


def distinct_n(texts: Corpus, grams: Grams) -> np.ndarray:
    """Distinct n-grams over all n-grams, of each problem that has any, in (0, 1] (Li et al. 2016, arXiv:1510.03055,
    section 5.2). 1 means that no n-gram comes twice, be it in one of its texts or in two."""
    first = np.diff(grams.gram, prepend=-1) > 0
    distinct = np.bincount(texts.group[grams.text[first]])
    total = np.bincount(texts.group[grams.text], weights=grams.times)
    return np.asarray(distinct[total > 0] / total[total > 0])


def repetition(texts: Corpus, grams: Grams) -> np.ndarray:
    """The share of a text's n-grams that it had before, of each text that has any, in [0, 1): 0 for none, near 1 for a
    loop (seq-rep-n of Welleck et al. 2020, arXiv:1908.04319, section 6)."""
    total = np.bincount(grams.text, weights=grams.times, minlength=len(texts.group))
    distinct = np.bincount(grams.text, minlength=len(texts.group))
    return np.asarray(1.0 - distinct[total > 0] / total[total > 0])


def self_bleu(texts: Corpus, grams: list[Grams]) -> np.ndarray:
    """BLEU-4 of each text against all others of its problem, averaged by problem; problems with one text are left out.

    `grams` are those of `ORDERS`. In [0, 1]; 1 means that the texts are alike (Zhu et al. 2018, arXiv:1802.01886,
    section 3; nltk's smoothing method 1). Exact, and yet no text is compared to each other one: a count is clipped at
    the largest among the *other* texts, which is the largest of all, or the second largest for the text that has it.
    """
    among = np.bincount(texts.group)
    logs = np.zeros(len(texts.group))
    in_common = np.bincount(grams[0].text, weights=_clipped(grams[0]), minlength=len(texts.group))
    for order in grams:
        matches = np.bincount(order.text, weights=_clipped(order), minlength=len(texts.group))
        total = np.bincount(order.text, weights=order.times, minlength=len(texts.group))
        logs += np.log(np.where(matches > 0, matches, SMOOTHING) / np.maximum(total, 1)) / len(grams)
    length = texts.lengths
    shortness = 1.0 - _closest_other(length, texts.group) / np.maximum(length, 1)
    scores = np.where(in_common == 0, 0.0, np.exp(logs + np.minimum(shortness, 0.0)))
    sums = np.bincount(texts.group, weights=scores)
    return np.asarray(sums[among > 1] / among[among > 1])


def _clipped(grams: Grams) -> np.ndarray:
    """How often each n-gram of a text counts as a match: at most as often as one other text of the problem has it."""
    if not len(grams.gram):
        return np.zeros(0)
    starts = np.flatnonzero(np.diff(grams.gram, prepend=-1))
    most = np.maximum.reduceat(grams.times, starts)[grams.gram]
    is_most = grams.times == most
    alone = np.add.reduceat(is_most.astype(np.int64), starts)[grams.gram] == 1
    second = np.maximum.reduceat(np.where(is_most, 0, grams.times), starts)[grams.gram]
    return np.minimum(grams.times, np.where(is_most & alone, second, most))


def _closest_other(length: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The length nearest to each text's own among its problem's other texts; the shorter one of two, own if alone."""
    order = np.lexsort((length, group))
    ordered, groups = length[order].astype(float), group[order]
    same = groups[1:] == groups[:-1]
    step = np.where(same, np.diff(ordered), np.inf)
    to_shorter, to_longer = np.concatenate([[np.inf], step]), np.concatenate([step, [np.inf]])
    nearest = np.where(to_shorter <= to_longer, ordered - to_shorter, ordered + to_longer)
    closest = np.empty(len(length))
    closest[order] = np.where(np.isfinite(nearest), nearest, ordered)
    return closest


def text_measures(completions: pl.Series, problems: pl.Series) -> dict[str, object]:
    """`distinct_n`, `self_bleu` and `repetition` of completions and the problems that they answer; None where there is
    nothing to take them of."""
    texts = corpus(split_words(completions), problems)
    grams = [ngrams(texts, n) for n in ORDERS]
    return {
        "distinct_n": {str(n): _mean(distinct_n(texts, of_order)) for n, of_order in zip(ORDERS, grams, strict=True)},
        "self_bleu": _mean(self_bleu(texts, grams)),
        "repetition": _mean(repetition(texts, grams[-1])),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
