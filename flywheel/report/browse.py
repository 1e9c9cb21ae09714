"""The samples that the page carries: some of each round and verdict, the same problems everywhere, within a size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.fingerprint import derive_seed
from flywheel.types import Problem
from flywheel.view import RunView, Scope

MAX_BYTES = 1_600_000
"""Of completions and prompts in a page; with the chart library's 2 MB and all else a page stays under 5 MB."""
MAX_ROWS = 4_000
MAX_CHARACTERS = 4_000
"""Longer texts are cut, and say so."""
TOGETHER = 2
"""Samples of one problem that are taken before the next problem's turn."""
OVERHEAD = 160
"""Bytes of a row beside its texts."""

COLUMNS = ("id", "scope", "problem", "outcome", "fate", "answer", "detail", "tokens", "cut_off", "origin", "completion")
"""What a row of the page says, in order."""


def browse(run: RunView) -> dict[str, Any]:
    """Rows for the page's browser, with how many there are in all: `shown` of `total`.

    Held-out dev samples and the rounds' own ones. Test samples stay out: what people read, they tune to.
    """
    scopes = {
        scope.label if scope.phase != "base" else "base · dev": scope for scope in (run.baseline(), *run.rounds())
    }
    frames: list[pl.DataFrame] = []
    files: list[tuple[Path, str]] = []
    for scope in scopes.values():
        for name, label in _sets(scope):
            stem = scope.folder / f"{name}samples.parquet"
            frames.append(_judged(scope, name, len(files)))
            files.append((stem, label))
    if not frames:
        return {"columns": COLUMNS, "rows": [], "problems": {}, "scopes": [], "shown": 0, "total": 0}
    everything = pl.concat(frames)
    chosen = choose(everything, max_rows=MAX_ROWS, max_bytes=MAX_BYTES)
    texts = pl.concat([_texts(path, chosen.filter(pl.col("file") == i)) for i, (path, _) in enumerate(files)])
    rows = chosen.join(texts, on=["file", "id"], how="inner").sort("file", "position")
    names = [label for _, label in files]
    return {
        "columns": COLUMNS,
        "scopes": names,
        "rows": [_row(row) for row in rows.iter_rows(named=True)],
        "problems": _problems(run.problem_by_id, rows["problem_id"].unique().to_list()),
        "shown": rows.height,
        "total": everything.height,
    }


def _sets(scope: Scope) -> list[tuple[str, str]]:
    """The sets of samples that a scope has finished: the prefix of their files and what the page calls them."""
    done = scope.manifest.entries()
    found = [("", f"round {scope.round} · train")] if "verify" in done else []
    if "evaluate" in done:
        name = "base" if scope.round is None else f"generation {scope.generation}"
        found.append(("dev_", f"{name} · dev"))
    return found


def _judged(scope: Scope, name: str, file: int) -> pl.DataFrame:
    """All samples of a file without their texts: who they are, how they were judged, and how long they are."""
    samples = pl.scan_parquet(scope.folder / f"{name}samples.parquet").select(
        "id", "problem_id", "tokens", "finish_reason", "origin", pl.col("completion").str.len_bytes().alias("bytes")
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
    return frame.with_columns(pl.lit(file, pl.Int32).alias("file"), pl.col("outcome").fill_null("unjudged")).sort(
        "position"
    )


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
        .with_columns((pl.min_horizontal("bytes", MAX_CHARACTERS) + OVERHEAD).cum_sum().alias("size"))
    )
    return ranked.filter(pl.col("size") <= max_bytes).head(max_rows).drop("turn", "batch", "rank", "size", "bytes")


def _texts(path: Path, chosen: pl.DataFrame) -> pl.DataFrame:
    ids = chosen.select("file", "id").lazy()
    return (
        pl.scan_parquet(path).select("id", "completion").join(ids, on="id").select("file", "id", "completion").collect()
    )


def _row(row: Mapping[str, Any]) -> list[Any]:
    return [
        row["id"],
        row["file"],
        row["problem_id"],
        row["outcome"],
        row["fate"],
        cut(row["answer"], 200),
        cut(row["detail"], 300),
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
            prompt = problem.messages[-1]["content"] if problem.messages else problem.prompt
            found[problem_id] = [cut(prompt, 2 * MAX_CHARACTERS), cut(problem.answer, 400), problem.ood]
    return found


def cut(text: str | None, limit: int) -> str:
    """A text of at most `limit` characters, and how many are missing."""
    if text is None:
        return ""
    rest = len(text) - limit
    return f"{text[:limit]} … ({rest:,} more characters)" if rest > 0 else text
