"""The samples that the page carries: some of each round and verdict, the same problems everywhere, within a size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.fingerprint import derive_seed
from flywheel.scope import Scope
from flywheel.types import Problem
from flywheel.view import RunView

MAX_BYTES = 2_200_000
"""Of rows in a page, as JSON; with the chart library's 2 MB and all else a page stays under 5 MB."""
MAX_ROWS = 4_000
MAX_CHARACTERS = 4_000
"""Of a completion; longer texts are cut, and say so."""
MAX_PROMPT, MAX_ANSWER, MAX_DETAIL = 4_000, 400, 300
"""Characters of the other texts."""
TOGETHER = 2
"""Samples of one problem that are taken before the next problem's turn."""
OVERHEAD = 200
"""Bytes of a row beside its texts, and of what says that they were cut."""

COLUMNS = ("id", "scope", "problem", "outcome", "fate", "answer", "detail", "tokens", "cut_off", "origin", "completion")
"""What a row of the page says, in order."""


def browse(run: RunView) -> dict[str, Any]:
    """Rows for the page's browser, with how many there are in all: `shown` of `total`.

    Held-out dev samples and the rounds' own ones. Test samples stay out: what people read, they tune to.
    """
    sets = list(_sets(run))
    frames = [_judged(scope, name, i) for i, (scope, name, _) in enumerate(sets)]
    if not frames:
        return {"columns": COLUMNS, "rows": [], "problems": {}, "scopes": [], "shown": 0, "total": 0}
    everything = pl.concat(frames).join(_problem_sizes(run), on="problem_id", how="left")
    chosen = choose(everything, max_rows=MAX_ROWS, max_bytes=MAX_BYTES)
    texts = pl.concat(
        [_texts(scope.folder / f"{name}samples.parquet", chosen, i) for i, (scope, name, _) in enumerate(sets)]
    )
    rows = chosen.join(texts, on=["file", "id"], how="inner").sort("file", "position")
    return {
        "columns": COLUMNS,
        "scopes": [label for _, _, label in sets],
        "rows": [_row(row) for row in rows.iter_rows(named=True)],
        "problems": _problems(run.problem_by_id, rows["problem_id"].unique().to_list()),
        "shown": rows.height,
        "total": everything.height,
    }


def _sets(run: RunView) -> Iterator[tuple[Scope, str, str]]:
    """The sets of samples that are finished: their scope, the prefix of their files, and what the page calls them."""
    evaluated = {g.index: run.evaluation_of(g) for g in run.generations()}
    if "evaluate" in evaluated[0].manifest.entries():
        yield evaluated[0], "dev_", "base · dev"
    for scope in run.rounds():
        if "verify" in scope.manifest.entries():
            yield scope, "", f"round {scope.round} · train"
        of_candidate = evaluated.get(scope.generation)
        if of_candidate is not None and "evaluate" in of_candidate.manifest.entries():
            yield of_candidate, "dev_", f"generation {scope.generation} · dev"


def _size(column: str, limit: int) -> pl.Expr:
    """The bytes that a column's texts take in the page's JSON when cut, escapes included."""
    text = pl.col(column).fill_null("").str.slice(0, limit)
    return (
        text.str.len_bytes()
        + 5 * text.str.count_matches(r"[<>&\x00-\x1f\u2028\u2029]")
        + text.str.count_matches(r'["\\]')
    )


def _problem_sizes(run: RunView) -> pl.DataFrame:
    """The bytes that each problem's prompt and reference answer take when a sample of it is shown."""
    told = [(p.id, _prompt(p), p.answer) for p in run.problems]
    frame = pl.DataFrame(told, schema={"problem_id": pl.String, "prompt": pl.String, "answer": pl.String}, orient="row")
    size = _size("prompt", MAX_PROMPT) + _size("answer", MAX_ANSWER) + OVERHEAD
    return frame.select("problem_id", size.alias("prompt_bytes"))


def _judged(scope: Scope, name: str, file: int) -> pl.DataFrame:
    """All samples of a file without their texts: who they are, how they were judged, and how long they are."""
    samples = pl.scan_parquet(scope.folder / f"{name}samples.parquet").select(
        "id", "problem_id", "tokens", "finish_reason", "origin", _size("completion", MAX_CHARACTERS).alias("bytes")
    )
    verdicts = pl.scan_parquet(scope.folder / f"{name}verdicts.parquet").select(
        pl.col("sample_id").alias("id"), "outcome", "answer", "detail"
    )
    frame = samples.with_row_index("position").join(verdicts, on="id", how="left").collect()
    dropped = scope.folder / "dropped.parquet"
    if name == "" and "filter" in scope.manifest.entries():
        reasons = pl.read_parquet(dropped, columns=["sample_id", "reason"]).rename(
            {"sample_id": "id", "reason": "fate"}
        )
        frame = frame.join(reasons, on="id", how="left").with_columns(pl.col("fate").fill_null("kept"))
    else:
        frame = frame.with_columns(pl.lit("").alias("fate"))
    return frame.with_columns(
        pl.lit(file, pl.Int32).alias("file"),
        pl.col("outcome").fill_null("unjudged"),
        bytes=pl.col("bytes") + _size("answer", MAX_ANSWER) + _size("detail", MAX_DETAIL) + OVERHEAD,
    ).sort("position")


def choose(samples: pl.DataFrame, *, max_rows: int, max_bytes: int) -> pl.DataFrame:
    """As many samples as fit, dealt out in turn to every file, verdict and fate, so that what is rare is there too.

    In each of these the first ones belong to the same few problems, so that a problem can be followed from
    round to round. No chance is involved: the order follows from the ids.
    """
    stratum = ["file", "outcome", "fate"]
    ids = samples["problem_id"].unique().to_list()
    turns = pl.DataFrame({"problem_id": ids, "turn": [derive_seed("browse", i) for i in ids]})
    ranked = (
        samples.join(turns, on="problem_id")
        .with_columns((pl.int_range(pl.len()).over([*stratum, "problem_id"]) // TOGETHER).alias("batch"))
        .sort("batch", "turn", "position")
        .with_columns(pl.int_range(pl.len()).over(stratum).alias("rank"))
        .sort("rank", *stratum)
        .with_columns(
            # A problem's prompt is carried once.
            prompt=pl.when(pl.col("problem_id").is_first_distinct())
            .then(pl.col("prompt_bytes").fill_null(0))
            .otherwise(0)
        )
        .with_columns(size=(pl.col("bytes") + pl.col("prompt")).cum_sum())
    )
    fitting = ranked.filter(pl.col("size") <= max_bytes).head(max_rows)
    return fitting.drop("turn", "batch", "rank", "size", "bytes", "prompt", "prompt_bytes")


def _texts(path: Path, chosen: pl.DataFrame, file: int) -> pl.DataFrame:
    """The completions of the chosen samples of one file."""
    ids = chosen.filter(pl.col("file") == file).select("file", "id").lazy()
    rows = pl.scan_parquet(path).select("id", "completion")
    return rows.join(ids, on="id").select("file", "id", "completion").collect()


def _row(row: Mapping[str, Any]) -> list[Any]:
    return [
        row["id"],
        row["file"],
        row["problem_id"],
        row["outcome"],
        row["fate"],
        cut(row["answer"], MAX_ANSWER),
        cut(row["detail"], MAX_DETAIL),
        row["tokens"],
        row["finish_reason"] == "length",
        row["origin"],
        cut(row["completion"], MAX_CHARACTERS),
    ]


def _problems(known: Mapping[str, Problem], wanted: list[str]) -> dict[str, list[str]]:
    found = {}
    for problem_id in sorted(wanted):
        problem = known.get(problem_id)
        if problem is not None:
            found[problem_id] = [cut(_prompt(problem), MAX_PROMPT), cut(problem.answer, MAX_ANSWER), problem.ood]
    return found


def _prompt(problem: Problem) -> str:
    """What the last turn before the completion says."""
    return problem.messages[-1]["content"] if problem.messages else problem.prompt


def cut(text: str | None, limit: int) -> str:
    """A text of at most `limit` characters, and how many are missing."""
    if text is None:
        return ""
    rest = len(text) - limit
    return f"{text[:limit]} … ({rest:,} more characters)" if rest > 0 else text
