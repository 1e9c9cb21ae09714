"""Which samples a page carries: some of everything, the same problems everywhere, within a size."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.report.browse import _size, choose, cut
from flywheel.report.embed import json_for_html


def table(
    files: int, problems: int, per_problem: int, outcomes: list[str], size: int = 50, prompt: int = 0
) -> pl.DataFrame:
    rows = [
        {
            "position": p * per_problem + i,
            "id": f"r{f:03d}/p{p}/{i:03d}",
            "problem_id": f"p{p}",
            "file": f,
            "outcome": outcomes[(p + i) % len(outcomes)],
            "fate": "",
            "bytes": size,
            "prompt_bytes": prompt,
        }
        for f in range(files)
        for p in range(problems)
        for i in range(per_problem)
    ]
    return pl.DataFrame(rows)


def test_everything_is_shown_where_it_fits() -> None:
    samples = table(2, 5, 4, ["correct", "wrong"])
    assert sorted(choose(samples, max_rows=100, max_bytes=10**6)["id"]) == sorted(samples["id"])


def test_what_is_rare_is_there_too() -> None:
    many = table(1, 500, 8, ["wrong"])
    rare = table(1, 3, 1, ["timeout"]).with_columns(pl.col("id") + "/rare", pl.col("problem_id") + "rare")
    chosen = choose(pl.concat([many, rare]), max_rows=40, max_bytes=10**6)
    assert chosen.height == 40
    assert (chosen["outcome"] == "timeout").sum() == 3


def test_the_same_problems_in_every_round() -> None:
    chosen = choose(table(4, 300, 8, ["correct", "wrong"]), max_rows=64, max_bytes=10**6)
    by_file = [set(rows["problem_id"]) for _, rows in chosen.group_by("file")]
    assert len(by_file) == 4
    assert all(problems == by_file[0] for problems in by_file)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 6), st.integers(0, 9_000), st.integers(0, 60_000))
def test_it_stays_within_its_size(files: int, problems: int, per_problem: int, size: int, room: int) -> None:
    samples = table(files, problems, per_problem, ["correct", "wrong", "error"], size, prompt=700)
    chosen = choose(samples, max_rows=50, max_bytes=room)
    assert chosen.height <= 50
    assert chosen.height * size + chosen["problem_id"].n_unique() * 700 <= room
    assert chosen["id"].is_unique().all()


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from('ab<>&"\\\n\x00\x1b\u2028é界😀'), max_size=90), st.integers(1, 100))
def test_sizes_are_those_of_the_page(text: str, limit: int) -> None:
    size = pl.DataFrame({"text": [text]}).select(_size("text", limit)).item()
    written = len(json_for_html(text[:limit]).encode()) - 2
    assert written <= size <= written + 4 * text.count("\n") + 2 * text.count("\u2028")


def test_long_texts_are_cut_and_say_so() -> None:
    assert cut("x" * 2000, 2000) == "x" * 2000
    assert cut("x" * 3234, 2000).endswith("x … (1,234 more characters)")
    assert cut(None, 5) == ""
