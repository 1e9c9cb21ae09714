"""Evaluate: all that is measured of a generation on a set of problems, and of a round's own samples.

docs/metrics.md says of every figure how it is computed, where it comes from, and how to read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from flywheel.fingerprint import derive_seed
from flywheel.guided import GUIDED
from flywheel.measures import markers as marking
from flywheel.measures import paths as reasoning
from flywheel.measures.balance import balance
from flywheel.measures.layouts import layout_measures
from flywheel.measures.lengths import lengths
from flywheel.measures.passk import Counts, paired_differences, pass_rates
from flywheel.measures.table import counts as counts_of
from flywheel.measures.table import judged
from flywheel.measures.text import text_measures
from flywheel.measures.uncertainty import answer_entropy, mean_logprob, token_entropy
from flywheel.recipe import EvaluateSection
from flywheel.types import Origin, PathKind, Sample, Verdict

Kinds = Mapping[str, PathKind]
"""Problem id → what a reasoning path is there; a problem that is absent has equations."""


def measure(
    samples: Sequence[Sample],
    verdicts: Mapping[str, Verdict],
    section: EvaluateSection,
    *,
    seed: int,
    kinds: Kinds | None = None,
    base: Counts | None = None,
    champion: Counts | None = None,
) -> dict[str, Any]:
    """The metrics of one generation on one set of problems, as JSON-shaped data; see `measure_table`."""
    table = judged(samples, verdicts)
    return measure_table(table, section, seed=seed, kinds=kinds, base=base, champion=champion)


def measure_table(
    table: pl.DataFrame,
    section: EvaluateSection,
    *,
    seed: int,
    kinds: Kinds | None = None,
    base: Counts | None = None,
    champion: Counts | None = None,
) -> dict[str, Any]:
    """The metrics of a table of judged samples (`flywheel.measures.table`), as JSON-shaped data.

    `base` and `champion` are the counts of these two on the same problems; without them, as for the base itself,
    the comparisons are None. A figure that does not apply is None, never 0.
    """
    counts = counts_of(table)
    pass_at, intervals = pass_rates(counts, section, seed=seed)
    variety = _variety(table, counts, section, kinds or {})

    def against(other: Counts | None) -> dict[str, Any] | None:
        return None if other is None else paired_differences(counts, other, section, seed=seed)

    return {
        "n_problems": table["problem_id"].n_unique(),
        "solved": sum(c > 0 for _, c in counts.values()),
        "counts": {problem: list(pair) for problem, pair in counts.items()},
        "pass_at": pass_at,
        "intervals": intervals,
        "against_base": against(base),
        "against_champion": against(champion),
        "token_entropy": token_entropy(table),
        "mean_logprob": mean_logprob(table),
        **variety,
        **_common(table),
        **_text(table, section, seed=seed),
    }


def measure_round(
    samples: Sequence[Sample],
    verdicts: Mapping[str, Verdict],
    section: EvaluateSection,
    *,
    seed: int,
    kinds: Kinds | None = None,
) -> dict[str, Any]:
    """The metrics of the samples that a round drew for training, as JSON-shaped data.

    Samples that were asked for with a hint, or behind a wrong first attempt, say little about what the policy does
    alone: they stand apart, under `guided` and `hinted_markers`, and under `corrected`, and every other figure leaves
    them out.
    """
    whole = judged(samples, verdicts)
    origin = pl.col("origin")
    table = whole.filter(~origin.is_in([str(o) for o in GUIDED]))
    guided, corrected = (whole.filter(origin == o.value) for o in (Origin.HINTED, Origin.CORRECTED))
    return {
        **_variety(table, counts_of(table), section, kinds or {}),
        **_common(table),
        **_text(table, section, seed=seed),
        "hinted_share": guided.height / whole.height if whole.height else None,
        "hinted_markers": _markers(guided) if guided.height else None,
        "guided": _common(guided) if guided.height else None,
        **({"corrected": _common(corrected)} if corrected.height else {}),
    }


def _common(table: pl.DataFrame) -> dict[str, Any]:
    """What any table of samples has: sizes, endings, lengths, hedging."""
    n = table.height

    def share(flags: pl.Expr) -> float | None:
        return float(table.select(flags.mean()).item()) if n else None

    tokens, errors = int(table["tokens"].sum()), int((~table["counted"]).sum())
    return {
        "n_samples": n,
        "correct": int(table["correct"].sum()),
        "errors": errors,
        "error_share": errors / n if n else None,
        "tokens": tokens,
        "mean_tokens": tokens / n if n else 0.0,
        "length": lengths(table),
        "cut_off_share": share(pl.col("finish_reason") == "length"),
        "missing_end_share": share(pl.col("finish_reason") != "stop"),
        "markers": _markers(table),
    }


def _variety(table: pl.DataFrame, counts: Counts, section: EvaluateSection, kinds: Kinds) -> dict[str, Any]:
    """In how many ways problems were solved, and how far their answers lie apart."""
    counted = reasoning.path_counts(table, kinds)
    distinct = reasoning.distinct(counted)
    rarefied = reasoning.rarefied(counted, section.rarefied_at)
    asked = sorted(counts)
    scores = balance(
        np.array([distinct.get(p, 0) for p in asked]),
        np.array([counts[p][1] for p in asked]),
        target=section.balance_target,
    )
    return {
        "paths": distinct,
        "distinct_paths": sum(distinct.values()),
        "paths_per_solved": _mean(list(distinct.values())),
        "rarefied": rarefied,
        "paths_rarefied": _mean(list(rarefied.values())),
        "rarefied_at": section.rarefied_at,
        "answer_entropy": answer_entropy(table),
        "balance": _mean(list(scores)),
    }


def _markers(table: pl.DataFrame) -> dict[str, Any]:
    return marking.markers(table["completion"], int(table["tokens"].sum()))


def _text(table: pl.DataFrame, section: EvaluateSection, *, seed: int) -> dict[str, Any]:
    """How texts repeat themselves and one another, from at most `text_samples` completions of whole problems."""
    sizes = dict(table.group_by("problem_id").len().iter_rows())
    chosen: list[str] = []
    room = section.text_samples
    for problem in sorted(sizes, key=lambda p: (derive_seed(seed, "text", p), p)):
        if chosen and sizes[problem] > room:
            break
        chosen.append(problem)
        room -= sizes[problem]
    kept = table if len(chosen) == len(sizes) else table.filter(pl.col("problem_id").is_in(chosen))
    return {
        "text_samples": kept.height,
        **text_measures(kept["completion"], kept["problem_id"]),
        **layout_measures(kept["completion"]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
