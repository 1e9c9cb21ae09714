"""The report: right figures, whole at any point of a run and for older runs, closed to what completions hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest

from flywheel.errors import RunError
from flywheel.report import as_json, write_report
from flywheel.report.rounds import check_in_words
from flywheel.run import Run

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and insists that every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.text += f"{data} "

    def data(self, columns: bool) -> Any:
        """The JSON of the charts, or that of the samples."""
        found = [json.loads(script) for script in self.scripts if script.startswith("{")]
        return next(value for value in found if ("columns" in value) == columns)


def page(run: Run) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_finished_run(run_folder: Callable[..., Run]) -> None:
    found = page(run_folder(rounds=2, finale=True))
    text = words(found.text)
    assert "Generation 1 is the champion." in text
    assert "On 30 test problems" in text
    assert "test pass@1 11.0 % → 21.0 % +10.0 points [+6.0, +14.0]" in text
    assert "pass@4 41.0 % 46.0 % +5.0 [-2.0, +12.0]" in text
    assert "Round 0 → generation 1 accepted" in text and "Round 1 → generation 2 rejected" in text
    assert "dev pass@1 against the champion: +0.100" in text
    assert "sampling.temperature 0.8 → 1.0: the last candidate was <narrower>" in text
    assert "sampled 240 100 %" in text and "kept 60 25 %" in text
    assert "duplicate 30 17 %" in text and "another sample of its problem takes the same path" in text
    assert "plan 2s · sample 2s · verify 2s · filter 2s · train 2s · evaluate 2s · gate 2s" in text
    assert "refused as too near to held-out problems 3" in text
    assert "stop.max_rounds 3 2" in text
    assert "Not measured in this run" not in text


def test_the_charts_hold_the_metrics(run_folder: Callable[..., Run]) -> None:
    charts = page(run_folder(rounds=2, finale=True)).data(columns=False)
    rates = charts["pass-by-generation"]
    assert rates["x"] == [0, 1, 2] and rates["rejected"] == [False, False, True]
    assert [s["name"] for s in rates["series"]] == ["pass@1", "pass@4"]
    assert rates["series"][0]["values"] == [0.1, 0.2, 0.1]
    assert rates["series"][0]["low"] == pytest.approx([0.06, 0.16, 0.06])
    assert [limit["value"] for limit in rates["limits"]] == pytest.approx([0.38]), "the base's .4, less two points"
    assert [limit["value"] for limit in charts["paths-rarefied"]["limits"]] == pytest.approx([1.42])
    assert [limit["value"] for limit in charts["ends"]["limits"]] == [0.05]
    assert charts["markers"]["limits"] == [], "what could not be judged has no line"
    assert charts["markers"]["series"][0]["values"] == pytest.approx([8.0, 6.8, 5.6])
    assert [s["name"] for s in charts["entropy"]["series"]] == ["answers"], "what was not measured has no line"
    assert [s["values"][0] for s in charts["migration"]["series"]] == [0.25, 0.75, 0.0]
    assert charts["ood"]["series"][0]["name"] == "longer"
    assert {"width", "text"}.isdisjoint(charts) and len(charts) == 22


def test_each_chart_has_its_table_and_its_sentence(run_folder: Callable[..., Run]) -> None:
    found = page(run_folder(rounds=2, finale=True))
    charts = found.data(columns=False)
    places = [value for name, value in found.attributes if name == "data-chart"]
    assert sorted(map(str, places)) == sorted(charts)
    labels = [str(value) for name, value in found.attributes if name == "aria-label" and value]
    assert "pass@1 from 10.0 % (generation 0) to 10.0 % (generation 2)" in " ".join(labels)
    assert "2 (rejected) 10.0 % [6.0 %, 15.0 %]" in words(found.text)


def test_a_run_of_the_first_version(run_folder: Callable[..., Run]) -> None:
    found = page(run_folder(rounds=2, finale=True, full=False))
    text = words(found.text)
    assert "dev pass@1 against the champion: +10.0 points [+5.0, +15.0], where no fall is allowed: passed" in text
    assert "failed, worse beyond its interval" in text
    assert "Not measured in this run: " in text and "answer entropy" in text
    charts = found.data(columns=False)
    assert "entropy" not in charts
    assert "migration" in charts, "counted from the rows"


@pytest.mark.parametrize(
    ("rounds", "words_of"), [(0, "The base is the champion so far"), (1, "The test split has not been touched")]
)
def test_a_run_under_way(run_folder: Callable[..., Run], rounds: int, words_of: str) -> None:
    assert words_of in words(page(run_folder(rounds=rounds, finale=False)).text)


def test_a_run_that_has_only_begun(run_folder: Callable[..., Run]) -> None:
    run = run_folder(rounds=0, finale=False)
    for name in ("manifest.json", "metrics.json", "dev_samples.parquet", "dev_verdicts.parquet"):
        (run.directory / "base" / name).unlink()
    found = page(run)
    assert "Settings" in found.text
    assert "Accuracy" not in found.text and "Samples" not in found.text
    assert found.scripts == [], "no chart, no sample: no script"


def test_a_damaged_file_is_named(run_folder: Callable[..., Run]) -> None:
    run = run_folder(rounds=1, finale=False)
    (run.directory / "rounds/000/gate.json").write_text("{")
    with pytest.raises(RunError, match=r"000/gate\.json"):
        write_report(run)


def test_completions_cannot_become_markup(run_folder: Callable[..., Run]) -> None:
    run = run_folder(rounds=2, finale=True)
    found = page(run)
    html = (run.directory / "report.html").read_text(encoding="utf-8")
    assert "alert('x')" in html
    assert "<script>alert" not in html and "<narrower>" not in html
    assert found.tags.count("script") == 5, "charts, library, their script, rows, their script"
    rows = found.data(columns=True)
    completions = [row[rows["columns"].index("completion")] for row in rows["rows"]]
    assert any("<script>alert('x')</script> & \x1b[31mred\x00 } {{ 7 * 7 }} </pre>" in text for text in completions)
    assert "a <fixture> & more" in found.text


def test_the_file_is_self_contained_and_reads_on_phones_and_in_the_dark(run_folder: Callable[..., Run]) -> None:
    run = run_folder(rounds=2, finale=True)
    found = page(run)
    assert not {name for name, _ in found.attributes} & {"src", "srcset", "onclick", "onload"}
    assert all(str(value).startswith("#") for name, value in found.attributes if name == "href")
    html = (run.directory / "report.html").read_text(encoding="utf-8")
    assert "@import" not in html and "url(" not in html
    assert "prefers-color-scheme: dark" in html
    assert ("name", "viewport") in found.attributes
    policy = next(str(value) for name, value in found.attributes if name == "content" and "default-src" in str(value))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert len(html) < 2_300_000


def test_links_lead_somewhere(run_folder: Callable[..., Run]) -> None:
    found = page(run_folder(rounds=2, finale=True))
    ids = [value for name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {str(value)[1:] for name, value in found.attributes if name in ("href", "aria-labelledby") and value}
    assert {t.removeprefix("#") for t in targets} - {str(i) for i in ids} - {str(i)[1:] for i in ids} == set()


def test_the_same_run_gives_the_same_page(run_folder: Callable[..., Run]) -> None:
    run = run_folder(rounds=2, finale=True)
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_the_figures_as_json(run_folder: Callable[..., Run]) -> None:
    told = as_json(run_folder(rounds=2, finale=True))
    json.dumps(told, allow_nan=False)
    assert told["champion"] == 1
    assert told["test"]["lines"][0] == {
        "k": "1",
        "base": 0.11,
        "champion": 0.21,
        "value": 0.1,
        "low": 0.06,
        "high": 0.14,
    }
    assert [g["generation"] for g in told["metrics"]] == [0, 1, 2]
    assert told["metrics"][1]["dev"]["markers"]["density"] == pytest.approx(6.8)
    assert "counts" not in told["metrics"][0]["dev"]
    assert told["rounds"][1]["gate"]["accepted"] is False
    assert told["cost"]["sampled_tokens"] == 18000 and told["cost"]["tokens_per_example"] == 150
    assert {"field": "stop.max_rounds", "there": 3, "here": 2} in told["settings"]["changed"]


def test_gate_checks_in_words() -> None:
    check = {"what": "dev pass@8", "against": "base", "value": -0.03, "low": -0.05, "high": -0.025, "margin": 0.02}
    assert check_in_words({**check, "passed": False}) == {
        "passed": False,
        "text": "dev pass@8 against the base: -3.0 points [-5.0, -2.5], where a fall of 2 points is allowed: "
        "failed, worse beyond its interval",
    }


def test_a_hundred_thousand_samples_fit_into_five_megabytes(run_folder: Callable[..., Run]) -> None:
    run = run_folder(rounds=1, finale=False)
    folder, n = run.directory / "rounds/000", 100_000
    outcomes = ["wrong"] * 15 + ["correct"] * 4 + ["timeout"]
    samples = pl.DataFrame({"number": range(n)}).with_columns(
        pl.format("r000/p{}/{}", pl.col("number") // 25, pl.col("number")).alias("id"),
        pl.format("p{}", pl.col("number") // 25).alias("problem_id"),
        pl.format("{} = <b>{}</b>. ", "number", "number").repeat_by(40).list.join("").alias("completion"),
        tokens=pl.lit(200, pl.Int64),
        finish_reason=pl.lit("stop"),
        origin=pl.lit("policy"),
        outcome=pl.Series(outcomes * (n // 20)),
        answer=pl.lit("7"),
        detail=pl.lit(""),
    )
    samples.write_parquet(folder / "samples.parquet")
    samples.rename({"id": "sample_id"}).write_parquet(folder / "verdicts.parquet")
    dropped = samples.filter(pl.col("outcome") != "correct").rename({"id": "sample_id", "outcome": "reason"})
    dropped.write_parquet(folder / "dropped.parquet")
    found = page(run)
    assert (run.directory / "report.html").stat().st_size < 5_000_000
    rows = found.data(columns=True)
    assert rows["total"] == n + 16
    assert 1_000 < rows["shown"] < 10_000
    fates = {row[rows["columns"].index("fate")] for row in rows["rows"]}
    assert fates == {"", "kept", "wrong", "timeout"}
    assert f"The page carries {rows['shown']:,} of 100,016 samples" in words(found.text)


def test_the_page_says_when_it_shows_only_some_samples(
    run_folder: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_folder(rounds=1, finale=False)
    assert "The page carries" not in page(run).text
    monkeypatch.setattr("flywheel.report.browse.MAX_ROWS", 9)
    assert re.search(r"The page carries 9 of 28 samples", words(page(run).text))
