"""How long completions are, in tokens."""

from __future__ import annotations

import polars as pl


def lengths(table: pl.DataFrame) -> dict[str, float | None]:
    """`mean`, `median`, `p90` and `p99` of all samples, and the mean of the right and of the wrong ones.

    Verifier errors are neither right nor wrong. None where there is nothing to take it of.
    """
    tokens = pl.col("tokens")
    row = table.select(
        mean=tokens.mean(),
        median=tokens.median(),
        p90=tokens.quantile(0.9, "linear"),
        p99=tokens.quantile(0.99, "linear"),
        right=tokens.filter(pl.col("correct")).mean(),
        wrong=tokens.filter(pl.col("counted") & ~pl.col("correct")).mean(),
    )
    return dict(row.row(0, named=True))
