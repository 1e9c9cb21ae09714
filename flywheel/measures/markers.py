"""Epistemic markers: words with which a model doubts, checks and starts again."""

from __future__ import annotations

from typing import Any

import polars as pl

MARKERS = ("wait", "hmm", "perhaps", "maybe", "actually", "alternatively", "seems", "might", "likely", "check")
"""The ten words of Kim et al. 2026, arXiv:2603.24472."""


def markers(completions: pl.Series, tokens: int) -> dict[str, Any]:
    """How often texts hedge, counted in two ways; None where there is no text, or no token.

    `count_per_response` is the mean number of substrings, whatever surrounds them ("check" in "checkmate"), in lower
    case, as Kim et al. count. `density` is the number of whole words per 1,000 of `tokens`, which neither length nor
    compounds move; `by_word` has the density of each word.
    """
    if completions.is_empty():
        return {"count_per_response": None, "density": None, "by_word": dict.fromkeys(MARKERS)}
    lower = completions.str.to_lowercase()
    substrings = sum(int(lower.str.count_matches(word, literal=True).sum()) for word in MARKERS)
    words = {word: int(lower.str.count_matches(rf"\b{word}\b").sum()) for word in MARKERS}
    return {
        "count_per_response": substrings / len(completions),
        "density": _per_thousand(sum(words.values()), tokens),
        "by_word": {word: _per_thousand(times, tokens) for word, times in words.items()},
    }


def _per_thousand(times: int, tokens: int) -> float | None:
    return 1000.0 * times / tokens if tokens else None
