"""How undecided a model is: over the answers to a problem, and over the next token."""

from __future__ import annotations

import polars as pl


def answer_entropy(table: pl.DataFrame) -> float | None:
    """The entropy in nats of a problem's answers, as the verifier read them, averaged over problems.

    0 where all samples agree, ln n where n samples give n answers. Samples without an answer and verifier errors are
    left out; None where no answer was read at all.
    """
    answers = table.filter("counted", pl.col("answer").is_not_null()).group_by("problem_id", "answer").agg(n=pl.len())
    share = pl.col("n") / pl.col("n").sum()
    by_problem = answers.sort("problem_id", "n").group_by("problem_id", maintain_order=True)
    value = by_problem.agg(entropy=-(share * share.log()).sum()).select(pl.col("entropy").mean()).item()
    return None if value is None else abs(float(value))  # no -0.0 where all agree


def mean_logprob(table: pl.DataFrame) -> float | None:
    """The mean over samples of their mean log-probability a token, in nats; None where the policy gave none."""
    value = table.select(pl.col("logprob").mean()).item()
    return None if value is None else float(value)


def token_entropy(table: pl.DataFrame) -> float | None:
    """The entropy of the next token in nats, averaged over all positions; None without log-probabilities.

    Estimated by the surprisal -log p of the tokens drawn: its expectation under the distribution that is drawn from
    is that distribution's entropy, so no other token's probability is needed.
    """
    known = table.filter(pl.col("logprob").is_not_null())
    tokens = int(known["tokens"].sum())
    return -float((known["logprob"] * known["tokens"]).sum()) / tokens if tokens else None
