"""Samples with their verdicts as one columnar table, from rows or from a run's Parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from flywheel.types import Outcome, Sample, Verdict

_OF_SAMPLE = ("problem_id", "completion", "finish_reason", "tokens", "origin", "logprob")
_OF_VERDICT = ("outcome", "answer")
_TYPES = {"tokens": pl.Int64, "logprob": pl.Float64}


def judged(samples: Sequence[Sample], verdicts: Mapping[str, Verdict]) -> pl.DataFrame:
    """One row a sample, in their order: problem_id, completion, finish_reason, tokens, origin, logprob (nats a token,
    None where the policy gave none), outcome, answer, and the flags `counted` (not a verifier error) and `correct`.

    `verdicts` is keyed by sample id; raises KeyError for a sample without one.
    """
    columns: dict[str, pl.Series] = {}
    for name in _OF_SAMPLE:
        columns[name] = pl.Series(name, [getattr(s, name) for s in samples], _TYPES.get(name, pl.String), strict=False)
    own = [verdicts[s.id] for s in samples]
    for name in _OF_VERDICT:
        columns[name] = pl.Series(name, [getattr(v, name) for v in own], pl.String, strict=False)
    return _with_flags(pl.DataFrame(columns))


def read_judged(samples: Path, verdicts: Path, *, texts: bool = True) -> pl.DataFrame:
    """The same table from two Parquet files of a run; without `texts` the completions are not read.

    A sample that has no verdict is left out.
    """
    of_sample = [name for name in _OF_SAMPLE if texts or name != "completion"]
    rows = pl.scan_parquet(samples).select("id", *of_sample)
    found = pl.scan_parquet(verdicts).select("sample_id", *_OF_VERDICT)
    joined = rows.join(found, left_on="id", right_on="sample_id", how="inner", maintain_order="left").drop("id")
    return _with_flags(joined.collect())


def _with_flags(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(
        counted=pl.col("outcome") != Outcome.ERROR.value, correct=pl.col("outcome") == Outcome.CORRECT.value
    )


def counts(table: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Problem id → (completions judged, of which correct), sorted by id; verifier errors are in neither."""
    by_problem = (
        table.filter("counted").group_by("problem_id").agg(pl.len(), pl.col("correct").sum()).sort("problem_id")
    )
    return {problem: (n, c) for problem, n, c in by_problem.iter_rows()}
