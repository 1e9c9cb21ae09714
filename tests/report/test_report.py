"""The report: right figures, whole at any point of a run, closed to the network and to what completions contain."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from flywheel.errors import RunError
from flywheel.report import write_report
from flywheel.report.charts import Series, by_generation
from flywheel.report.gather import SHOWN_CHARACTERS, check_in_words, visible
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
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += f"{data} "


def page(run: Run) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_finished_run(run_folder: Callable[..., Run]) -> None:
    run = run_folder(rounds=2, finale=True)
    text = words(page(run).text)
    assert "Generation 1 is the champion." in text
    assert "On 30 test problems" in text
    assert "pass@1 .110 .210 +10.0 [+6.0, +14.0]" in text
    assert "pass@4 .410 .460 +5.0 [-2.0, +12.0]" in text
    assert "0 base" in text and "1 accepted ★" in text and "2 rejected" in text
    assert "dev pass@1 against the champion: +10.0 points [+5.0, +15.0], where no fall is allowed: passed" in text
    assert "failed, worse beyond its interval" in text
    assert "plan 2s · sample 2s · verify 2s · filter 2s · train 2s · evaluate 2s · gate 2s" in text
    assert "sampled 240 100 %" in text and "kept as examples 60 25 %" in text
    assert "duplicate 30 another sample of its problem takes the same path" in text
    assert "longer pass@1" in text
    assert "stop.max_rounds (3 → 2)" in text


@pytest.mark.parametrize(
    ("rounds", "words_of"), [(0, "The base is the champion so far"), (1, "The test split has not been touched")]
)
def test_a_run_under_way(run_folder: Callable[..., Run], rounds: int, words_of: str) -> None:
    assert words_of in words(page(run_folder(rounds=rounds, finale=False)).text)


def test_a_run_that_has_only_begun(run_folder: Callable[..., Run]) -> None:
    run = run_folder(rounds=0, finale=False)
    for name in ("manifest.json", "metrics.json", "dev_samples.parquet", "dev_verdicts.parquet"):
        (run.directory / "base" / name).unlink()
    text = page(run).text
    assert "Settings" in text
    assert "Generations" not in text


def test_a_damaged_file_is_named(run_folder: Callable[..., Run]) -> None:
    run = run_folder(rounds=1, finale=False)
    (run.directory / "rounds/000/gate.json").write_text("{")
    with pytest.raises(RunError, match=r"000/gate\.json"):
        write_report(run)


def test_completions_cannot_become_markup(run_folder: Callable[..., Run]) -> None:
    run = run_folder(rounds=2, finale=True)
    found = page(run)
    assert "script" not in found.tags
    assert "<script>alert('x')</script> & ␛[31mred␀ } {{ 7 * 7 }} </pre>" in found.text
    assert "read <b>4</b>" in found.text
    assert "a <fixture> & more" in found.text


def test_the_file_is_self_contained_and_reads_on_phones_and_in_the_dark(run_folder: Callable[..., Run]) -> None:
    run = run_folder(rounds=2, finale=True)
    found = page(run)
    assert not {name for name, _ in found.attributes} & {"src", "href", "srcset", "onclick", "onload"}
    html = (run.directory / "report.html").read_text(encoding="utf-8")
    assert "@import" not in html and "url(" not in html
    assert "prefers-color-scheme: dark" in html
    assert ("name", "viewport") in found.attributes
    assert len(html) < 100_000


def test_long_texts_are_cut_and_say_so() -> None:
    assert visible("x" * SHOWN_CHARACTERS) == "x" * SHOWN_CHARACTERS
    assert visible("x" * (SHOWN_CHARACTERS + 1234)).endswith("x … (1,234 more characters)")
    assert visible(None) == "–"


def test_gate_checks_in_words() -> None:
    check = {"what": "dev pass@8", "against": "base", "value": -0.03, "low": -0.05, "high": -0.025, "margin": 0.02}
    assert check_in_words({**check, "passed": False}) == (
        "dev pass@8 against the base: -3.0 points [-5.0, -2.5], where a fall of 2 points is allowed: "
        "failed, worse beyond its interval"
    )


def test_the_chart_is_well_formed_and_marks_the_rejected() -> None:
    series = [
        Series("pass@1 <&>", [0.1, 0.3, 0.2], [(0.05, 0.2), (None, None), (0.1, 0.31)]),
        Series("pass@8", [0.4, 0.6, 0.5], None),
    ]
    svg = str(by_generation([0, 1, 2], series, [True, True, False]))
    root = ElementTree.fromstring(svg)
    assert root.attrib["viewBox"] == "0 0 640 280"
    assert len(re.findall(r'class="point rejected"', svg)) == 2
    assert len(re.findall(r'class="whisker"', svg)) == 2
    for line in root.iter("polyline"):
        assert len(line.attrib["points"].split()) == 2
    heights = [float(circle.attrib["cy"]) for circle in root.iter("circle")][:3]
    assert heights[1] < heights[2] < heights[0], "a higher rate stands higher on the page"


def test_one_generation_makes_a_chart() -> None:
    ElementTree.fromstring(str(by_generation([0], [Series("pass@1", [0.0], [(0.0, 0.0)])], [True])))
