"""The page in a real browser: charts drawn, filters that filter, hostile completions as text, no word to a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flywheel.report import write_report
from flywheel.run import Run
from tests.report.chromium import Chromium, Page
from tests.report.conftest import NASTY, write_run

DRAWN = "document.documentElement.dataset.charts !== undefined"
HOSTILE = (
    "<img src=x onerror=\"window.ran = 'image'\"><svg onload=\"window.ran = 'svg'\"></script>"
    "<script>window.ran = 1</script>"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's report whose completions, prompts and answers try to become part of the page."""
    from flywheel import store
    from flywheel.types import Sample

    run = write_run(tmp_path_factory.mktemp("hostile") / "run", rounds=2, finale=True)
    path = run.directory / "rounds/000/samples.parquet"
    rows = store.read_rows(path, Sample)
    rows[1] = Sample(**{**{f: getattr(rows[1], f) for f in rows[1].__slots__}, "completion": HOSTILE})
    store.write_rows(path, Sample, rows)
    return write_report(Run.load(run.directory))


@pytest.fixture(scope="module")
def page(browser: Chromium, report: Path) -> Iterator[Page]:
    opened = browser.open(report)
    opened.wait(DRAWN)
    yield opened
    opened.close()


def shown(page: Page) -> int:
    return int(page.evaluate("document.querySelectorAll('#list .sample').length"))


def choose(page: Page, field: str, value: str) -> None:
    """Set a field of the filter as a user's change does, and wait for the list to follow."""
    page.evaluate(
        f"(() => {{ const f = document.getElementById('filters').elements; f['{field}'].value = {value!r};"
        f"f['{field}'].dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
    )
    page.evaluate("new Promise((resume) => setTimeout(resume, 200))")


def test_all_charts_are_drawn(page: Page) -> None:
    assert page.evaluate("document.documentElement.dataset.charts") == "drawn"
    places = page.evaluate("document.querySelectorAll('.plot').length")
    assert places == 22
    assert page.evaluate("document.querySelectorAll('.plot.drawn > .plot-container').length") == places
    # Each has a mark for each value: a chart that is empty is a chart that is missing.
    assert page.evaluate(
        "[...document.querySelectorAll('.plot')].every((p) => p.querySelector('.point, .points path'))"
    )
    assert page.evaluate("document.querySelectorAll('[data-chart=pass-by-generation] .errorbar').length") == 6


def test_nothing_is_asked_of_a_network_and_the_console_is_silent(page: Page, report: Path) -> None:
    assert page.requests() == [report.as_uri()]
    assert page.errors() == []


def test_hostile_completions_are_text(page: Page) -> None:
    choose(page, "text", "onerror")
    assert shown(page) == 1
    assert page.evaluate("document.querySelector('#list pre.completion').textContent") == HOSTILE
    assert page.evaluate("document.querySelectorAll('#list img, #list svg, #list script').length") == 0
    assert page.evaluate("typeof window.ran") == "undefined"
    choose(page, "text", "")


def test_the_policy_refuses_a_script_that_got_in(browser: Chromium, report: Path) -> None:
    """Were there a hole after all, the policy is the second wall: no inline script and no request gets through."""
    holed = report.with_name("holed.html")
    text = report.read_text(encoding="utf-8")
    holed.write_text(text.replace("<main", "<script>window.ran = 1</script><img src='http://127.0.0.1:9/x'><main", 1))
    opened = browser.open(holed)
    assert opened.evaluate("typeof window.ran") == "undefined"
    assert any("Content Security Policy" in told for told in opened.errors())
    assert opened.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    opened.close()


def test_filters_filter(page: Page) -> None:
    assert page.evaluate("document.getElementById('count').textContent") == "48 of 48 samples in this page"
    assert shown(page) == 20
    choose(page, "outcome", "no_answer")
    assert shown(page) == 6
    assert page.evaluate(
        "[...document.querySelectorAll('#list .head b')].every((b) => b.textContent === '✗ no answer')"
    )
    choose(page, "problem", "p1")
    assert shown(page) == 0, "no sample of p1 is without an answer"
    choose(page, "outcome", "")
    choose(page, "scope", "0")
    assert shown(page) == 2
    choose(page, "fate", "kept")
    assert shown(page) == 0, "dev samples are never kept"
    page.evaluate("document.querySelector('#filters [type=reset]').click()")
    page.evaluate("new Promise((resume) => setTimeout(resume, 50))")
    assert shown(page) == 20


def test_pages_turn(page: Page) -> None:
    first = page.evaluate("document.querySelector('#list .id').textContent")
    page.evaluate("document.getElementById('next').click()")
    assert page.evaluate("document.getElementById('page').textContent") == "2 of 3"
    assert page.evaluate("document.querySelector('#list .id').textContent") != first
    page.evaluate("document.getElementById('next').click()")
    assert shown(page) == 8
    assert page.evaluate("document.getElementById('next').disabled") is True
    page.evaluate("document.getElementById('previous').click()")
    page.evaluate("document.getElementById('previous').click()")
    assert page.evaluate("document.querySelector('#list .id').textContent") == first


def test_it_works_by_keyboard(page: Page) -> None:
    page.evaluate("document.querySelector('#filters [name=text]').focus()")
    page.type("31mred")
    page.evaluate("new Promise((resume) => setTimeout(resume, 200))")
    assert 0 < shown(page) <= 20
    for _ in range(3):  # clear, the first prompt's box, its problem
        page.press("Tab", 9)
    assert page.evaluate("document.querySelector('#list').contains(document.activeElement)") is True
    page.evaluate("document.querySelector('#filters [type=reset]').focus()")
    page.press("Enter", 13)
    page.evaluate("new Promise((resume) => setTimeout(resume, 200))")
    page.evaluate("document.querySelector('#filters [type=reset]').click()")
    page.evaluate("new Promise((resume) => setTimeout(resume, 50))")
    assert page.evaluate("document.querySelector('#filters [name=text]').value") == ""


def test_it_fits_a_phone_and_turns_dark(page: Page) -> None:
    widest = (
        "Math.max(...[...document.querySelectorAll('.plot .main-svg')].map((s) => s.getBoundingClientRect().right))"
    )
    assert page.evaluate(widest) > 390
    page.window(390, 844)
    page.wait(f"{widest} <= 390")
    assert page.evaluate("document.documentElement.scrollWidth") == 390, "nothing sticks out at the side"
    ink = "getComputedStyle(document.body).color"
    tick = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    light = page.evaluate(ink), page.evaluate(tick)
    page.dark(True)
    page.wait(f"{tick} !== {light[1]!r}")
    assert page.evaluate(ink) != light[0]
    assert page.errors() == []
    page.dark(False)
    page.window(1280, 900)


def test_control_characters_become_visible(page: Page) -> None:
    choose(page, "text", "{{ 7")
    text = page.evaluate("document.querySelector('#list pre.completion').textContent")
    assert "\x1b" not in text and "\x00" not in text
    assert NASTY.replace("\x1b", "␛").replace("\x00", "␀") in text
    choose(page, "text", "")
